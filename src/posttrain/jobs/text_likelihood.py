"""The likelihood of raw texts under a model, source by source: what `eval` measures of a domain and of what lies outside
it.

A text is read whole: one longer than the model's context is cut into consecutive windows, each begun anew, and
nothing is left out. Every source of the field is a part of its own, named by its `task` or its file. Leaves out
prompts: their answers' likelihood is `logp`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from posttrain.core.files import hash_json
from posttrain.core.group import Group
from posttrain.jobs import assembly
from posttrain.jobs.assembly import Part
from posttrain.models.render import Renderer
from posttrain.rollout.sampler import Sampler


def text_rows(parts: Sequence[Part], renderer: Renderer, sampler: Sampler, context: int | None) -> list[dict[str, Any]]:
    """One row per text: part, id, nats and tokens. context: the model's longest sequence.

    Raises ValueError for rows that are no documents, and for two sources of one name.
    """
    names = [p.name for p in parts]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise ValueError(f"texts: two sources are named {twice!r}; give each its `task`")
    return [_row(part.name, g, renderer, sampler, context) for part in parts for g in part.groups]


def _row(part: str, group: Group, renderer: Renderer, sampler: Sampler, context: int | None) -> dict[str, Any]:
    if group.prompt or len(group.responses) != 1 or any(m.role != "document" for m in group.responses[0].turns):
        raise ValueError(f"texts: {group.place} is no document; rows with a `text` column are needed here")
    rendered = renderer.render(group)
    assert rendered is not None, "the renderer of an evaluation drops nothing"
    pieces = [rendered] if context is None else assembly.windows([rendered], context)
    logps = [row for made in sampler.logp(pieces) for row in made]
    text = group.responses[0].text
    return {
        "part": part,
        "id": hash_json({"text": text})[:16],
        "nats": -float(sum(row.double().sum() for row in logps)),
        "tokens": sum(len(row) for row in logps),
    }
