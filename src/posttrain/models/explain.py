"""Rendered rows for people: trained tokens coloured, ids beside. What `posttrain show` and the preflight print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.text import Text

from posttrain.core.group import Group

TRAINED, CONTEXT, ID = "bold green", "default", "dim"


def explain(group: Group, tokenizer: Any, ids: bool = True, limit: int | None = None) -> Text:
    """A rendered group as rich text: prompt, then each response, one token beside its id.

    Trained tokens are green (a weight other than 1 stands behind the id), context is plain. limit: tokens shown per part; what is
    left out is counted. Raises ValueError for a group that is not rendered.
    """
    if group.prompt_tokens is None:
        raise ValueError(f"row {group.id}: not rendered yet")
    out = Text()
    _part(out, "prompt", group.prompt_tokens, np.zeros(len(group.prompt_tokens)), tokenizer, ids, limit)
    for i, response in enumerate(group.responses):
        if response.tokens is None or response.trained is None:
            continue
        trained = np.asarray(response.trained, dtype=float)
        title = f"response {i}" if response.kind == "main" else f"response {i} ({response.kind})"
        _part(out, title, response.tokens, trained, tokenizer, ids, limit)
    return out


def _part(
    out: Text,
    title: str,
    tokens: Sequence[int] | np.ndarray,
    weights: np.ndarray,
    tokenizer: Any,
    ids: bool,
    limit: int | None,
) -> None:
    count = int((weights > 0).sum())
    out.append(f"{title}: {len(tokens)} tokens, {count} trained\n", style="bold")
    shown = len(tokens) if limit is None else min(limit, len(tokens))
    for token, weight in list(zip(tokens, weights, strict=True))[:shown]:
        piece = tokenizer.decode([int(token)], skip_special_tokens=False)
        visible = piece.replace("\n", "⏎\n") if piece.isprintable() or "\n" in piece else repr(piece)[1:-1]
        out.append(visible or tokenizer.convert_ids_to_tokens(int(token)), style=TRAINED if weight > 0 else CONTEXT)
        if ids:
            extra = f"×{weight:g}" if weight not in (0.0, 1.0) else ""
            out.append(f"[{int(token)}{extra}]", style=ID)
    if shown < len(tokens):
        out.append(f" … {len(tokens) - shown} more", style=ID)
    out.append("\n")
