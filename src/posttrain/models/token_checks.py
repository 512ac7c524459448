"""Checks of tokens and stopping before step 1: T1-T6 of the pitfalls list.

Each function looks for one failure in *rendered* groups and returns findings; an empty list means that it was not seen. The first row
at fault is named and the others are counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from posttrain.core.chat import Chat
from posttrain.core.finding import Finding, Severity
from posttrain.core.group import Group, Response
from posttrain.models.render import Renderer

Ids = Sequence[int] | np.ndarray


def runs(trained: np.ndarray) -> list[tuple[int, int]]:
    """[start, end) of each unbroken stretch of trained tokens."""
    flags = np.concatenate(([False], np.asarray(trained) > 0, [False]))
    edges = np.flatnonzero(flags[1:] != flags[:-1])
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def answers(groups: Iterable[Group]) -> Iterator[tuple[Group, Response, np.ndarray, np.ndarray]]:
    """(group, response, its tokens, its flags) of the main responses that are rendered."""
    for group in groups:
        for response in group.responses:
            if response.kind == "main" and response.tokens is not None and response.trained is not None:
                yield group, response, response.tokens, response.trained


def is_document(response: Response) -> bool:
    return any(m.role == "document" for m in response.turns)


def found_on(id: str, severity: Severity, rows: Sequence[str], message: str, fix: str) -> list[Finding]:
    """One finding for all rows at fault: the first named, the rest counted."""
    if not rows:
        return []
    more = f" ({len(rows)} rows in all.)" if len(rows) > 1 else ""
    return [Finding(id, severity, message + more, fix, rows[0])]


def stop_trained(renderer: Renderer, groups: Iterable[Group]) -> list[Finding]:
    """T1: each trained turn ends with a stop id (answers cut at a length limit excepted)."""
    bad = []
    for group, response, tokens, trained in answers(groups):
        if response.stop == "length":
            continue
        for _, end in runs(trained):
            following = tokens[end] if end < len(tokens) else None
            if tokens[end - 1] not in renderer.stops and following not in renderer.stops:
                bad.append(group.id)
                break
    names = [renderer.decode([i]) for i in renderer.stops]
    message = f"A trained answer ends without a stop token ({', '.join(names) or 'the stop set is empty'})."
    return found_on("T1", "error", bad, message, "End the assistant's turn with eos in the chat template.")


def pad_is_not_stop(renderer: Renderer, groups: Iterable[Group], reward_model: bool = False) -> list[Finding]:
    """T2: pad differs from eos; where it does not, masks must not depend on it, and a reward model is refused."""
    tokenizer = renderer.tokenizer
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id != tokenizer.eos_token_id:
        return []
    pad = tokenizer.pad_token_id
    lost = [
        g.id
        for g, _, tokens, trained in answers(groups)
        if any(b < len(tokens) and tokens[b] == pad for _, b in runs(trained)) or not np.any(trained)
    ]
    fix = "Set a pad token that is not eos (loading with posttrain chooses one)."
    if lost:
        return found_on("T2", "error", lost, "Pad is eos, and real stop tokens are masked as padding.", fix)
    if reward_model:
        return [Finding("T2", "error", "Pad is eos: an exported reward model would read the wrong token.", fix)]
    return [Finding("T2", "warning", "Pad is eos; masks come from lengths and are unchanged.", fix)]


def stop_round_trip(
    stops: Sequence[int], tokenizer: Any, generation: Any, ends: Iterable[int], rows: int
) -> list[Finding]:
    """T3: the stop set of a saved and re-read directory equals the one trained with, and is fit for generation.

    stops: trained with. tokenizer, generation: as re-read. ends: turn ends of its template. rows: embedding rows.
    """
    told = generation.eos_token_id
    listed = set() if told is None else {int(i) for i in (told if isinstance(told, (list, tuple)) else [told])}
    fix = "Save with posttrain, or set eos_token_id in generation_config.json to the stop tokens."
    if tokenizer.pad_token_id in listed:
        return [Finding("T3", "error", "The saved generation config stops at the pad token.", fix)]
    again = {i for i in (*listed, tokenizer.eos_token_id, *ends) if i is not None and i != tokenizer.pad_token_id}
    if again != set(stops) or not set(stops) <= listed:
        return [
            Finding("T3", "error", f"Trained stop ids {sorted(stops)}, saved {sorted(again)} ({sorted(listed)}).", fix)
        ]
    if any(not 0 <= i < rows for i in listed):
        return [Finding("T3", "error", f"Saved stop ids {sorted(listed)} lie outside the {rows} embedding rows.", fix)]
    return []


def bos_once(renderer: Renderer, groups: Iterable[Group]) -> list[Finding]:
    """T4: ids begin with as many BOS as the template writes (0 or 1), and a BOS that the vocabulary expects is not missing."""
    tokenizer = renderer.tokenizer
    bos = tokenizer.bos_token_id
    if bos is None:
        return []
    doubled, missing = [], []
    own = tokenizer("a")["input_ids"][:1] == [bos]
    for group in groups:
        if group.prompt_tokens is None or not group.prompt:
            continue
        ids = group.prompt_tokens
        count = 0
        while count < len(ids) and ids[count] == bos:
            count += 1
        if count > 1:
            doubled.append(group.id)
        elif count == 0 and own:
            missing.append(group.id)
    found = found_on(
        "T4", "error", doubled, "The prompt begins with two BOS.", "Take bos_token out of the template or the text."
    )
    fix = "Put {{ bos_token }} first in the template."
    return found + found_on("T4", "warning", missing, "The tokenizer puts a BOS, the template does not.", fix)


def ids_have_rows(
    renderer: Renderer, groups: Iterable[Group], rows: int, added: Sequence[str] = (), frozen_embedding: bool = False
) -> list[Finding]:
    """T5: every id has an embedding row; rows of tokens added for this run are trainable. rows: of the embedding."""
    bad = []
    for group in groups:
        arrays = [group.prompt_tokens, *(r.tokens for r in group.responses)]
        if any(a is not None and len(a) and int(a.max()) >= rows for a in arrays):
            bad.append(group.id)
    found = found_on("T5", "error", bad, f"A token id lies outside the {rows} embedding rows.", "Resize the embedding.")
    used = [name for name in added if name != renderer.tokenizer.pad_token]
    if used and frozen_embedding:
        message = f"New tokens {', '.join(used)} have rows that are not trained."
        found.append(Finding("T5", "error", message, "Train the embeddings, or use a template without new tokens."))
    elif used:
        message = f"New tokens with mean-initialised rows: {', '.join(used)}."
        found.append(Finding("T5", "info", message, "Nothing to do: their rows are trained."))
    return found


def content_is_data(renderer: Renderer, groups: Iterable[Group]) -> list[Finding]:
    """T6: as many special ids as the template writes around harmless text; content adds none."""
    added = renderer.tokenizer.added_tokens_decoder
    special = {i: t.content for i, t in added.items() if t.special and not t.content.isspace()}
    if not special:
        return []
    pattern = re.compile("|".join(re.escape(s) for s in sorted(special.values(), key=len, reverse=True)))

    def count(ids: Ids) -> int:
        return int(np.isin(np.asarray(ids), list(special)).sum())

    def harmless(chat: Chat) -> Chat:
        return tuple(replace(m, content=pattern.sub("x", m.content)) for m in chat)

    bad = []
    for group in groups:
        texts = [m.content for m in group.prompt] + [m.content for r in group.responses for m in r.turns]
        if group.prompt_tokens is None or not group.prompt or not any(map(pattern.search, texts)):
            continue
        expected = renderer.render(
            Group(
                prompt=harmless(group.prompt),
                responses=tuple(
                    Response(turns=harmless(r.turns)) for r in group.responses if r.turns and r.stop != "length"
                ),
                tools=group.tools,
            )
        )
        seen = [r for r in group.responses if r.turns and r.stop != "length" and r.tokens is not None]
        if expected is None:
            continue
        pairs: list[tuple[Any, Any]] = [(group.prompt_tokens, expected.prompt_tokens)]
        pairs += [(a.tokens, b.tokens) for a, b in zip(seen, expected.responses, strict=False)]
        if any(count(a) != count(b) for a, b in pairs if a is not None and b is not None):
            bad.append(group.id)
    return found_on(
        "T6", "error", bad, "Text spells a special token and became one.", "Render with posttrain's renderer."
    )
