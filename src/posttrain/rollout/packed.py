"""Groups as plain values and arrays, whole: a checkpoint can hold answers that were not learned from yet.

`Group.to_json` is for people and leaves tokens and log-probabilities out. Facts go through JSON: what JSON has no form for comes back
as text, tuples as lists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from posttrain.core.group import Group

ARRAYS = ("tokens", "trained", "logps", "sampled_logps", "offsets", "tags")


def pack(group: Group) -> dict[str, Any]:
    """A group as JSON values and numpy arrays."""
    out: dict[str, Any] = {"row": json.loads(json.dumps(group.to_json(), default=str))}
    if group.prompt_tokens is not None:
        out["prompt_tokens"] = np.asarray(group.prompt_tokens)
    out["responses"] = [
        {"kind": r.kind} | {name: np.asarray(getattr(r, name)) for name in ARRAYS if getattr(r, name) is not None}
        for r in group.responses
    ]
    return out


def unpack(row: Mapping[str, Any]) -> Group:
    """Inverse of `pack`."""
    plain = Group.from_json(row["row"])
    responses = tuple(replace(r, **more) for r, more in zip(plain.responses, row["responses"], strict=True))
    return replace(plain, responses=responses, prompt_tokens=row.get("prompt_tokens"))
