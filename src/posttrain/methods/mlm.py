"""Masked language modelling: fill in what was hidden, looking both ways.

A share of each document's tokens is replaced by the mask token and only they are predicted (Devlin et al. 2018, arXiv:1810.04805; all
of them become masks, as Wettig et al. 2022, arXiv:2202.08005, found the mix with random and kept tokens unneeded). Which tokens are hidden
depends on the step, the document and nothing else, so a resumed run hides the same. This is how small encoders are pretrained here.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, NonNegativeInt, PrivateAttr

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Response
from posttrain.core.method import Anchor, Atom, Example, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.core.protocols import Engine
from posttrain.methods.lm import documents


class MaskedLM(Method):
    """Fill in hidden tokens of documents."""

    name: ClassVar[str] = "masked_lm"
    task: ClassVar[str] = "masked_lm"
    sums: ClassVar[dict[str, Unit]] = {"nll": "token"}
    atom: ClassVar[Atom] = "row"
    wants: ClassVar[str] = "documents (`text`), and an encoder"
    learning_rate: ClassVar[tuple[float, float]] = (5e-4, 1e-3)
    symmetric: ClassVar[bool] = True

    share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the tokens that are hidden; more asks more of each document and shows less of it."""
    mask_id: NonNegativeInt | None = None
    """Id of the mask token; the tokenizer's own when not given."""

    _step: int = PrivateAttr(0)

    def settled(self, groups: Sequence[Group], tokenizer: Any) -> Method:
        own = getattr(tokenizer, "mask_token_id", None)
        if self.mask_id is None and own is None:
            raise ValueError("method.mask_id: the tokenizer has no mask token; masked_lm needs an encoder")
        return self if self.mask_id is not None else self.changed(mask_id=own)

    def needs(self) -> Needs:
        return Needs(own=True, at_ids="hidden_id")

    def arrange(self, groups: Sequence[Group]) -> Sequence[Group]:
        return [replace(g, responses=tuple(self._hidden(r) for r in g.responses)) for g in groups]

    def _hidden(self, response: Response) -> Response:
        """The response with some trained tokens behind the mask; `tags` keep what they were."""
        if response.tags is not None:
            return response
        assert response.tokens is not None and response.trained is not None
        open_places = np.flatnonzero(response.trained)
        seen = response.tokens[open_places].astype(np.int64).tobytes()
        rng = np.random.default_rng([self._step, zlib.crc32(seen)])
        count = max(1, round(self.share * len(open_places)))
        gone = np.sort(rng.permutation(open_places)[:count])
        tokens, tags, trained = (
            response.tokens.copy(),
            np.full(len(response.tokens), -1),
            np.zeros(len(response.tokens)),
        )
        tags[gone], trained[gone] = tokens[gone], 1
        tokens[gone] = 0 if self.mask_id is None else self.mask_id
        return replace(response, tokens=tokens, tags=tags, trained=trained.astype(bool))

    def prepare(self, batch: Batch, engine: Engine) -> Batch:
        return batch.plus("token", hidden_id=batch.data["tag"][:, None])

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.at_logp is not None
        nll = -out.at_logp[:, 0]
        return Loss(
            sums={"nll": (batch.data["row_weight"][batch.row] * nll).sum()},
            metrics={"nll": (nll.detach().sum(), batch.N)},
        )

    def after(self, step: int, metrics: Mapping[str, float], engine: Engine) -> None:
        self._step = step

    def state(self) -> dict[str, Any]:
        return {"step": self._step}

    def load(self, state: Mapping[str, Any]) -> None:
        self._step = int(state["step"])

    @classmethod
    def example(cls) -> Example:
        return Example(
            groups=documents(),
            anchors={
                "uniform over 8": Anchor(
                    {"at_logp": [[-math.log(8)]] * 11}, {"nll": 11 * math.log(8)}, source="a uniform model: log V"
                ),
                "sure and right": Anchor({"at_logp": [[0.0]] * 11}, {"nll": 0.0}, source="probability 1"),
            },
            variants=[{"share": 0.6}],
        )
