"""What a training job is made of: groups from files, tokens from groups, an engine from a model directory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.run import model_dir
from posttrain.data.read import Read, read
from posttrain.data.split import Split
from posttrain.jobs.job import Context, Data, Rows
from posttrain.models.render import Renderer
from posttrain.train.data_checks import rendered

SHIPPED = Path(__file__).parents[1] / "readingroom" / "base"
"""The tiny base model of the reading room, pretrained by recipes/base.yaml."""


@dataclass
class Part:
    """One data source on its way to tokens. `accounts`: rows in = kept + the sum of dropped, reason by reason."""

    name: str
    groups: list[Group]
    rows: int
    shape: str = "groups"
    hash: str = ""
    path: str = ""
    weight: float = 1.0
    dropped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    truncated: int = 0

    def account(self) -> dict[str, Any]:
        """The line of the report: what came in, what is trained on, what was left out and why."""
        return {
            "name": self.name,
            "path": self.path,
            "hash": self.hash,
            "shape": self.shape,
            "rows": self.rows,
            "kept": len(self.groups),
            "dropped": dict(self.dropped),
            "truncated": self.truncated,
            "notes": dict(self.notes),
            "weight": self.weight,
        }


def gather(data: tuple[Data, ...] | Rows, context: Context) -> list[Part]:
    """Read every source, and say what was recognised."""
    if isinstance(data, Rows):
        return [Part("groups given in Python", list(data.groups), len(data.groups))]
    parts = []
    for item in data:
        made = read(
            item.path,
            shape=item.shape,
            columns=item.columns,
            template=item.template,
            split=item.split,
            limit=item.limit,
            bad=item.bad,
        )
        context.say(made.describe())
        parts.append(_part(item, made))
    return parts


def _part(item: Data, made: Read) -> Part:
    counts = made.counts
    return Part(
        name=item.task or Path(item.path).name,
        groups=made.groups,
        rows=len(made.groups) + sum(counts.dropped.values()),
        shape=made.shape,
        hash=made.hash,
        path=item.path,
        weight=item.weight,
        dropped=Counter(counts.dropped),
        notes=Counter(counts.notes),
    )


def accept(part: Part, method: Method) -> None:
    """Leave out, counted by reason, the groups that the method cannot learn from. Raises ValueError when none is left."""
    kept = []
    for item in part.groups:
        reason = method.accepts(item)
        if reason is None:
            kept.append(item)
        else:
            part.dropped[reason] += 1
    if not kept:
        reasons = ", ".join(f"{n} x {r}" for r, n in part.dropped.most_common(3))
        raise ValueError(
            f"{part.path or part.name}: read as {part.shape}, but {method.name} needs {method.wants}; "
            f"none of {part.rows} rows fits ({reasons})"
        )
    part.groups = kept


def windows(groups: Iterable[Group], width: int) -> list[Group]:
    """Rendered documents cut into consecutive windows of at most `width` tokens with the prompt; nothing is lost."""
    out = []
    for item in groups:
        (response,) = item.responses
        assert response.tokens is not None and response.trained is not None and item.prompt_tokens is not None
        room = width - len(item.prompt_tokens)
        for at in range(0, len(response.tokens), room):
            piece = replace(response, tokens=response.tokens[at : at + room], trained=response.trained[at : at + room])
            out.append(replace(item, responses=(piece,)))
    return out


def render(part: Part, renderer: Renderer, split_at: int | None, say: Callable[[str], None] = lambda _: None) -> None:
    """Groups to tokens; what is too long is dropped or cut as the renderer was told, and counted. A row that hangs is named."""
    renderer.counts.clear()
    part.groups = rendered(renderer, part.groups, say)
    counts = renderer.counts
    for name, count in counts.items():
        if name.startswith("dropped: "):
            part.dropped[name.removeprefix("dropped: ")] += count
        elif name not in ("kept", "dropped", "truncated"):
            part.notes[name] += count
    part.truncated = counts["truncated"]
    if split_at is not None:
        part.groups = windows(part.groups, split_at)
    if not part.groups:
        raise ValueError(
            f"{part.path or part.name}: no row is left after rendering: {dict(part.dropped)}; raise max_tokens"
        )


def hold_out(parts: Sequence[Part], share: float, seed: int) -> list[Group]:
    """Move a share of the prompts of every part to validation; a prompt and all its rows stay on one side."""
    held: list[Group] = []
    for part in parts:
        if not isinstance(share, int) and len({g.prompt_hash for g in part.groups}) < 2 and part.groups[0].prompt:
            raise ValueError(f"validation: {part.name} has one prompt only; name a validation file instead")
        split = Split.of(part.groups, share, seed)
        part.groups, held = split.train, held + split.held_out
    return held


def token_counts(groups: Iterable[Group]) -> dict[int, int]:
    """How often each token is trained, over groups: the data's token distribution."""
    ids = [r.tokens[np.asarray(r.trained) > 0] for g in groups for r in g.responses if r.tokens is not None]
    if not ids:
        return {}
    values, counts = np.unique(np.concatenate(ids), return_counts=True)
    return {int(v): int(c) for v, c in zip(values, counts, strict=True)}


def resolve(model: str) -> str:
    """The model directory that a path means (a run's `model/`), the shipped model for `base`, or the hub id unchanged."""
    if model == "base" and not Path(model).exists():
        return str(SHIPPED)
    return str(model_dir(model))
