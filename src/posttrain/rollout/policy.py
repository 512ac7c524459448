"""One model directory as people use it from Python: it answers, and it tells log-probabilities, scores and hidden states.

    policy = Policy.open("runs/dpo")
    policy.chat("Who wrote Les Misérables?")
    policy.logp([group("2 + 2?", "4", "5")])            # [[tensor [tokens], tensor [tokens]]]
    Policy.open("runs/reward").score([group("2 + 2?", "4", "5")])

A `core.protocols.Model`, so whatever works with any model (judges, guards, evaluations, the server) takes it. Prompts are rendered as in
training and log-probabilities come from the engine that trains, prompts computed once. Leaves out training: that is `Train`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from posttrain.core.chat import Chat, Message, as_chat
from posttrain.core.group import Group, Response
from posttrain.core.needs import Needs
from posttrain.core.protocols import Event, Request, Sampling
from posttrain.core.run import model_dir
from posttrain.engine.local import LocalEngine
from posttrain.models import heads
from posttrain.models.load import Loaded, load
from posttrain.models.render import Renderer
from posttrain.models.trunk import backbone
from posttrain.rollout.sampler import Sampler

PIECE = 64
"""Groups, or texts, computed at a time."""
Position = Literal["last", "mean"] | int


class Policy:
    """See the module docstring. `renderer` turns chats into tokens, `loaded` holds model, tokenizer and template."""

    def __init__(self, loaded: Loaded, slots: int = 32, token_budget: int = 8192) -> None:
        """loaded: from `models.load.load`. slots: answers decoded together. token_budget: stream tokens of one forward."""
        loaded.model.eval()
        self.loaded = loaded
        config: Any = loaded.model.config
        limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        self.renderer = Renderer.of(loaded, max_tokens=limit)
        self.engine = LocalEngine(loaded.model, token_budget=token_budget)
        self.slots = slots

    @classmethod
    def open(
        cls,
        path: str | Path,
        template: str | None = None,
        dtype: Literal["auto", "fp32", "bf16"] = "auto",
        device: Literal["auto", "cpu", "cuda"] = "auto",
        slots: int = 32,
        token_budget: int = 8192,
    ) -> Policy:
        """The model of a run, of a `transformers` directory or of a hub id.

        template: a built-in name or a .jinja file; None takes the one saved with the model. Raises ValueError in one line where there is
        no model.
        """
        place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        return cls(load(str(model_dir(path)), dtype=dtype, template=template, device=place), slots, token_budget)

    # Answers

    @cached_property
    def sampler(self) -> Sampler:
        """The decoder behind `generate`, `stream` and `chat`."""
        loaded = self.loaded
        return Sampler(loaded.model, loaded.tokenizer, loaded.stops, self.renderer.prompt, slots=self.slots)

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Events as tokens come, answers of several requests interleaved; see `Sampler.stream`."""
        return self.sampler.stream(requests)

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        """One Group per request with its n answers, which keep tokens and log-probabilities."""
        return self.sampler.generate(requests)

    def cancel(self, id: str) -> None:
        """End the answers of the streaming request with this id."""
        self.sampler.cancel(id)

    def chat(
        self,
        said: str | Message | Iterable[Message],
        temperature: float = 0.7,
        top_p: float = 0.95,
        max_tokens: int = 256,
        seed: int = 0,
    ) -> str:
        """One answer as text. said: a question, or a conversation whose last turn is the user's. The same seed gives the same answer."""
        sampling = Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens)
        return self.generate([Request(as_chat(said), sampling, seed=seed)])[0].responses[0].text

    # What the model thinks of given answers

    def logp(self, groups: Sequence[Group]) -> list[list[Tensor]]:
        """log p of each trained token (the assistant's words and the stop token), in nats: one fp32 CPU tensor [tokens] per response.

        A response that brings tokens of this model (sampled) keeps them; text is rendered as in training, stop token included. No
        gradient. Raises ValueError naming a row that cannot be rendered.
        """
        out: list[list[Tensor]] = []
        for rendered, batch_logp in self._outputs(groups, Needs(logp=True)):
            values = iter(batch_logp)
            out += [[next(values) for _ in g.responses] for g in rendered]
        return out

    def score(self, groups: Sequence[Group]) -> list[list[float]]:
        """Scores of a reward run: one float per response, read at its last trained token. Comparable within a prompt, without a unit.

        Answers are read as text, through this model's own template, whoever wrote them. Raises ValueError for a model without a score head.
        """
        self._needs_score_head()
        out: list[list[float]] = []
        for rendered, scores in self._outputs([_bare(g) for g in groups], Needs(score=1)):
            values = iter(scores)
            out += [[float(next(values)) for _ in g.responses] for g in rendered]
        return out

    def _outputs(self, groups: Sequence[Group], needs: Needs) -> Iterator[tuple[list[Group], list[Tensor]]]:
        """Rendered groups, some at a time, with one value tensor per response in order."""
        for at in range(0, len(groups), PIECE):
            piece = [g for g in self.renderer.render_many(groups[at : at + PIECE]) if g is not None]
            if not any(g.responses for g in piece):
                yield piece, []
                continue
            batch = self.engine.layout([g for g in piece if g.responses])
            out = self.engine.score(batch, needs)
            values = out.score if needs.score else out.logp
            assert values is not None
            values = values.float().cpu()
            sizes = [1] * batch.R if needs.score else (batch.tokens_of[1:] - batch.tokens_of[:-1]).tolist()
            yield piece, list(values.flatten().split(sizes))

    def _needs_score_head(self) -> None:
        if "score" in self.engine.heads:
            return
        path = self.loaded.path
        if not any(name.startswith("score.") for name in heads.read_heads(path)):
            raise ValueError(f"{path}: no score head beside the model; give a run of `posttrain reward`")
        self.engine.heads.update(heads.for_needs(self.loaded, Needs(score=1)))

    # What it holds inside

    def hidden(self, texts: Sequence[str | Chat], layer: int = -1, position: Position = "last") -> Tensor:
        """Hidden states of texts, fp32 on the CPU: [n, d] for n texts and a model of width d.

        texts: a string is a plain document (the start token where the tokenizer has one, then its tokens); a chat is the prompt as the
        model sees it before it answers, with the opening of its turn. layer: 0 = the embeddings, k = what block k gives, the highest
        after the final norm; negative counts from the end (-1 = the highest). position: ``last`` token; ``mean`` over all tokens but the
        start token, whose state is an outlier in many models; or an index into the tokens, start token included, negative from the end.
        Raises ValueError for a layer or a position that is not there. No gradient.
        """
        depth = int(self.loaded.model.config.get_text_config().num_hidden_layers)  # type: ignore[union-attr, operator]
        if not -depth - 1 <= layer <= depth:
            raise ValueError(
                f"layer {layer}: this model has 0 (embeddings) to {depth}, or -1 to {-depth - 1} from the end"
            )
        rows = [self._ids(text, number) for number, text in enumerate(texts)]
        places = [self._place(row, position, number) for number, row in enumerate(rows)]
        parts = [
            self._states(rows[at : at + PIECE], places[at : at + PIECE], layer) for at in range(0, len(rows), PIECE)
        ]
        width = heads.width_of(self.loaded.model)
        return torch.cat(parts) if parts else torch.zeros(0, width)

    def _ids(self, text: str | Chat, number: int) -> list[int]:
        if not isinstance(text, str):
            return self.renderer.prompt(as_chat(text))
        if not text:
            raise ValueError(f"text {number} is empty")
        start = self.loaded.tokenizer.bos_token_id
        ids = self.renderer.speller.ids([self.renderer.speller.guard(text, "user")])[0]
        return ids if start is None or ids[:1] == [start] else [start, *ids]

    def _place(self, row: list[int], position: Position, number: int) -> slice:
        """The tokens of a row that its state is the mean of."""
        size = len(row)
        if position == "last":
            return slice(size - 1, size)
        if position == "mean":
            return slice(1 if size > 1 and row[0] == self.loaded.tokenizer.bos_token_id else 0, size)
        if not isinstance(position, int):
            raise ValueError(f"position {position!r} is unknown; accepted: last, mean, or the index of a token")
        if not -size <= position < size:
            raise ValueError(f"text {number} has {size} tokens; there is none at position {position}")
        at = position % size
        return slice(at, at + 1)

    @torch.no_grad()
    def _states(self, rows: list[list[int]], places: list[slice], layer: int) -> Tensor:
        """Padded on the right, which causal attention does not see."""
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        real = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            real[i, : len(row)] = 1
        device = self.engine.device
        body: Any = backbone(self.loaded.model)
        made = body(
            input_ids=ids.to(device), attention_mask=real.to(device), use_cache=False, output_hidden_states=True
        )
        states = made.hidden_states[layer].float().cpu()
        return torch.stack([states[i, place].mean(0) for i, place in enumerate(places)])


def _bare(group: Group) -> Group:
    """The group as text alone: tokens of another tokenizer mean nothing here."""
    return group.with_responses([_as_text(r) for r in group.responses], prompt_tokens=None)


def _as_text(response: Response) -> Response:
    return replace(response, tokens=None, trained=None, logps=None, sampled_logps=None)
