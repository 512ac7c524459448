"""The model that a judge, a critic or a generator asks, as recipes name it: an endpoint by `url`, or a local one; its prices and limits."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import NonNegativeFloat, PositiveInt

from posttrain.client import Budget, Endpoint, Price, Recorded, Store
from posttrain.client.priced import Priced, unpriced
from posttrain.core.protocols import Model
from posttrain.core.recipe import Spec
from posttrain.core.run import fingerprint
from posttrain.jobs import assembly

WORDS = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"
"""The template of a base model: the words as they are."""


class Answerer(Spec):
    """A model that answers: an endpoint by `url`, or a local one."""

    model: str
    """Name at the endpoint; or a directory, a run, a hub id or `base`."""
    url: str | None = None
    """Address up to /v1; none loads the model here."""
    store: str | None = None
    """File that keeps answers, so that nothing is paid twice."""
    key_variable: str | None = "OPENAI_API_KEY"
    """Environment variable that holds the key of the endpoint; null sends none."""
    max_cost: NonNegativeFloat | None = None
    """Money never passed; needs prices."""
    max_spent_tokens: PositiveInt | None = None
    """Tokens, in and out, never passed."""
    price_in: NonNegativeFloat = 0.0
    """Money per million tokens in."""
    price_out: NonNegativeFloat = 0.0
    """Money per million tokens out."""
    prices: str | None = None
    """YAML file with the prices of models, `{qwen3-8b: {in: 0.1, out: 0.4}}`, for this and other jobs."""

    raw: bool = False
    """A local model sees the words alone, without a chat template: for base models (generator `transcript`)."""

    def price(self) -> Price:
        """Of a million tokens. Raises ValueError for a file without this model, prices in two places, and a limit without a price."""
        price = Price(self.price_in, self.price_out)
        if self.prices is not None:
            if price != Price():
                raise ValueError("prices: `price_in` and `price_out` are given as well; give one of them")
            price = listed(self.prices, self.model)
        if self.max_cost is not None and self.url is not None and price == Price():
            raise ValueError("max_cost: a limit in money needs prices; give price_in and price_out, or `prices`")
        return price

    def open(self, store: str | None = None) -> Model:
        """The model. store: where answers are kept when the recipe names no place."""
        place = self.store or store or ":memory:"
        if self.url is not None:
            if self.raw:
                raise ValueError(
                    "raw: an endpoint of chat completions has its own template; leave `raw` out, or load the model here"
                )
            return self._endpoint(place)
        from posttrain.rollout.policy import Policy

        at = assembly.resolve(self.model)
        name = fingerprint(at) if Path(at).exists() else at
        opened = Policy.open(at, template=WORDS) if self.raw else Policy.open(at)
        return Recorded(opened, f"{name} raw" if self.raw else name, Store(place))

    def priced(self, store: str | None = None) -> Priced:
        """The model for a dry run: nothing is sent, loaded or written; answers kept by an earlier run count as known."""
        if self.url is None:
            return Priced(unpriced)
        place = self.store or store or ":memory:"
        return Priced(self._endpoint(place if Path(place).is_file() else ":memory:").estimate)

    def _endpoint(self, place: str) -> Endpoint:
        assert self.url is not None
        budget = Budget(self.max_spent_tokens, self.max_cost)
        return Endpoint(self.url, self.model, place, budget, self.price(), self.key_variable, on_error="void")


def listed(path: str, model: str) -> Price:
    """The price of a model in a file. Raises ValueError that says what the file should hold."""
    try:
        rows = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"prices: cannot read {path} ({type(error).__name__})") from None
    found = rows.get(model) if isinstance(rows, dict) else None
    if not isinstance(found, dict) or set(found) - {"in", "out"}:
        known = ", ".join(map(str, rows)) if isinstance(rows, dict) else "none"
        raise ValueError(f"prices: {path} has no line such as `{model}: {{in: 0.1, out: 0.4}}`; models there: {known}")
    try:
        return Price(float(found.get("in", 0.0)), float(found.get("out", 0.0)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"prices: {path}: {model}: {error}") from None
