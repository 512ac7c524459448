"""A reward run as a Reward: answers of any model, read through the reward model's own tokenizer and template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import torch

from posttrain.core.group import Group, Score
from posttrain.core.needs import Needs
from posttrain.engine.local import LocalEngine
from posttrain.jobs import assembly
from posttrain.models import heads
from posttrain.models.load import load
from posttrain.models.render import Renderer
from posttrain.rewards import Criterion, RewardExample

PIECE = 64
"""Groups scored at a time."""


class ModelReward:
    """Scores of a reward model that `posttrain reward` wrote. path: the run or its model directory."""

    def __init__(self, path: str, dtype: str = "auto", device: str = "cpu") -> None:
        self.loaded = load(assembly.resolve(path), dtype=dtype, device=device)
        if not any(name.startswith("score.") for name in heads.read_heads(self.loaded.path)):
            raise ValueError(f"{path}: no score head beside the model; give a run of `posttrain reward`")
        self.votes = int(heads.read_heads(self.loaded.path)["score.weight"].shape[0])
        needs = Needs(score=self.votes)
        self.engine = LocalEngine(self.loaded.model, heads.for_needs(self.loaded, needs), needs=needs)
        self.loaded.model.eval()
        self.renderer = Renderer.of(self.loaded)
        self.needs = needs

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One Score per response of each group, in order: the mean of the model's heads."""
        return [[_score(sum(v) / len(v)) for v in row] for row in self.opinions(groups)]

    def opinions(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        """[group][response][head]. Raises ValueError naming a row that cannot be rendered."""
        out: list[list[list[float]]] = []
        for at in range(0, len(groups), PIECE):
            out += self._piece([unrendered(g) for g in groups[at : at + PIECE]])
        return out

    def features(self, groups: Sequence[Group]) -> list[list[float]]:
        """Mean hidden state of each answer's tokens, one row per response in order: what tells known answers from strange ones."""
        out: list[list[float]] = []
        for at in range(0, len(groups), PIECE):
            rendered = [g for g in self.renderer.render_many([unrendered(g) for g in groups[at : at + PIECE]]) if g]
            batch = self.engine.layout(rendered)
            with torch.no_grad():
                states = self.engine.score(batch, Needs(hidden=True)).hidden
            assert states is not None
            ends = batch.tokens_of.tolist()
            out += [states[a:b].float().mean(0).tolist() for a, b in pairwise(ends)]
        return out

    def swaps(self, groups: Sequence[Group], suffix: str, k: int, up: bool = True) -> list[str]:
        """Replacements of a suffix by the gradient of the score: what searches against a local model try first."""
        from posttrain.jobs.score_gradient import swaps

        return swaps(self, [unrendered(g) for g in groups], suffix, k, up)

    def _piece(self, groups: Sequence[Group]) -> list[list[list[float]]]:
        rendered = [g for g in self.renderer.render_many(groups) if g is not None]
        batch = self.engine.layout(rendered)
        with torch.no_grad():
            scores = self.engine.score(batch, self.needs).score
        assert scores is not None
        values = iter(scores.tolist())
        return [[next(values) for _ in g.responses] for g in rendered]


def _score(value: float) -> Score:
    return Score(value, {"model": value}, f"reward model: {value:.3g}")


def opened(path: str, dtype: str, device: str) -> ModelReward:
    """A reward model, loaded once however many rewards name it, and anew when its directory was written again."""
    files = Path(assembly.resolve(path)).glob("*")
    return _opened(path, dtype, device, max((f.stat().st_mtime_ns for f in files), default=0))


@lru_cache(maxsize=4)
def _opened(path: str, dtype: str, device: str, written: int) -> ModelReward:
    return ModelReward(path, dtype, device)


class Model(Criterion):
    """What a trained reward model thinks of an answer; the mean of its heads where it has several."""

    name: ClassVar[str] = "model"
    verifiable: ClassVar[bool] = False
    path: str
    """A run of `posttrain reward`, or its model directory."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where it computes."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of its weights."""

    @property
    def model(self) -> ModelReward:
        """The loaded model. Raises ValueError for a directory without a score head."""
        return opened(self.path, self.dtype, self.device)

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        return self.model(groups)

    def votes(self, groups: Sequence[Group]) -> list[list[list[Score]]]:
        """One opinion per head, for `ensemble` and `worst`."""
        return [[[_score(v) for v in votes] for votes in row] for row in self.model.opinions(groups)]

    @classmethod
    def example(cls) -> RewardExample:
        return RewardExample()


def unrendered(group: Group) -> Group:
    """The group as text alone: tokens of another tokenizer mean nothing here."""
    bare = tuple(replace(r, tokens=None, trained=None, logps=None, sampled_logps=None) for r in group.responses)
    return replace(group, prompt_tokens=None, responses=bare, preferences=(), ranking=None)
