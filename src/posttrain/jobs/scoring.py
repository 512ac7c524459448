"""A reward run as a Reward: answers of any model, read through the reward model's own tokenizer and template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from posttrain.core.group import Group, Score
from posttrain.core.needs import Needs
from posttrain.engine.local import LocalEngine
from posttrain.jobs import assembly
from posttrain.models import heads
from posttrain.models.load import load
from posttrain.models.render import Renderer

PIECE = 64
"""Groups scored at a time."""


class ModelReward:
    """Scores of a reward model that `posttrain reward` wrote. path: the run or its model directory."""

    def __init__(self, path: str, dtype: str = "auto", device: str = "cpu") -> None:
        self.loaded = load(assembly.resolve(path), dtype=dtype, device=device)
        if not any(name.startswith("score.") for name in heads.read_heads(self.loaded.path)):
            raise ValueError(f"{path}: no score head beside the model; give a run of `posttrain reward`")
        needs = Needs(score=1)
        self.engine = LocalEngine(self.loaded.model, heads.for_needs(self.loaded, needs), needs=needs)
        self.loaded.model.eval()
        self.renderer = Renderer.of(self.loaded)
        self.needs = needs

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One Score per response of each group, in order."""
        out: list[list[Score]] = []
        for at in range(0, len(groups), PIECE):
            out += self._piece([unrendered(g) for g in groups[at : at + PIECE]])
        return out

    def _piece(self, groups: Sequence[Group]) -> list[list[Score]]:
        rendered = [g for g in self.renderer.render_many(groups) if g is not None]
        batch = self.engine.layout(rendered)
        with torch.no_grad():
            scores = self.engine.score(batch, self.needs).score
        assert scores is not None
        values = iter(scores[:, 0].tolist())
        return [[Score(next(values), why="reward model") for _ in g.responses] for g in rendered]


def unrendered(group: Group) -> Group:
    """The group as text alone: tokens of another tokenizer mean nothing here."""
    bare = tuple(replace(r, tokens=None, trained=None, logps=None, sampled_logps=None) for r in group.responses)
    return replace(group, prompt_tokens=None, responses=bare, preferences=(), ranking=None)
