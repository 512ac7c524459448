"""Checks of data and lengths, D1-D6 of the pitfalls list."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from posttrain.core.finding import Finding
from posttrain.core.group import Group, Score, answer
from posttrain.core.protocols import Reward
from posttrain.data.sanity import sanity
from posttrain.data.split import overlap
from posttrain.models.render import Renderer

SLOW = 5.0
"""Seconds after which one row counts as stuck."""


def findings(
    parts: Sequence[tuple[Mapping[str, Any], Sequence[Group]]], held_out: Sequence[Group], renderer: Renderer
) -> list[Finding]:
    """All of D1, D2, D4, D5 on the data of a run (D3 is a property of the forward, D6 of a reward)."""
    out: list[Finding] = []
    for account, groups in parts:
        out += row_accounting(account)
        out += no_fake_stop(groups, renderer.stops)
        out += pair_sanity(groups, str(account["name"]))
        out += slow_rows(groups, renderer)
        out += overlapping(groups, held_out)
    return out


def row_accounting(account: Mapping[str, Any]) -> list[Finding]:
    """D1: rows in = kept + dropped; more than 1% dropped or any truncated row has to be accepted."""
    dropped, rows = sum(account["dropped"].values()), account["rows"]
    reasons = ", ".join(f"{n} x {r}" for r, n in account["dropped"].items())
    out = []
    if dropped > 0.01 * rows:
        text = f"{account['name']}: {dropped} of {rows} rows are left out ({reasons})."
        out.append(Finding("D1", "warning", text, "Mend the rows, raise max_tokens, or accept it."))
    elif dropped:
        out.append(Finding("D1", "info", f"{account['name']}: {dropped} of {rows} rows are left out ({reasons}).", ""))
    if account["truncated"]:
        text = f"{account['name']}: {account['truncated']} answers are cut at max_tokens; they teach no stop."
        out.append(Finding("D1", "warning", text, "Raise max_tokens, drop such rows, or accept it."))
    return out


def no_fake_stop(groups: Sequence[Group], stops: Sequence[int]) -> list[Finding]:
    """D2: an answer that was cut does not end in a stop token."""
    for item in groups:
        for response in item.responses:
            if response.stop == "length" and response.tokens is not None and int(response.tokens[-1]) in stops:
                text = "An answer that was cut at its limit ends in a stop token."
                return [Finding("D2", "error", text, "Cut rows must keep their open end.", item.id)]
    return []


def pair_sanity(groups: Sequence[Group], name: str) -> list[Finding]:
    """D5: identical pairs are an error; empty answers, duplicates and contradictions are told."""
    seen = sanity(groups)
    out = []
    if seen.identical:
        text = f"{name}: {len(seen.identical)} pairs have the same text on both sides."
        out.append(Finding("D5", "error", text, "Remove these pairs: they teach nothing.", seen.identical[0]))
    if seen.empty:
        text = f"{name}: {len(seen.empty)} groups have an empty answer."
        out.append(Finding("D5", "warning", text, "Remove them, or accept that silence is taught.", seen.empty[0]))
    if seen.contradictory:
        text = f"{name}: {len(seen.contradictory)} judgements contradict an earlier one."
        out.append(Finding("D5", "info", text, "", seen.contradictory[0][1]))
    if seen.duplicates:
        text = f"{name}: {len(seen.duplicates)} groups are exact duplicates."
        severity = "warning" if len(seen.duplicates) > 0.05 * max(seen.groups, 1) else "info"
        out.append(Finding("D5", severity, text, "Remove repeats, or accept their weight.", seen.duplicates[0][1]))
    return out


def overlapping(train: Sequence[Group], held_out: Sequence[Group]) -> list[Finding]:
    """D5: no prompt stands on both sides of the split."""
    both = overlap(train, held_out) if held_out else []
    if not both:
        return []
    text = f"{len(both)} held-out prompts are also trained on: validation looks better than it is."
    return [Finding("D5", "warning", text, "Split by prompt, or accept it.", both[0][1].id)]


def slow_rows(groups: Sequence[Group], renderer: Renderer, limit: float = SLOW) -> list[Finding]:
    """D4: the longest rows render in time; a row that hangs is named."""
    longest = sorted(groups, key=lambda g: len(g.prompt_text) + sum(len(r.text) for r in g.responses))[-3:]
    for item in longest:
        began = time.perf_counter()
        renderer.prompt_text(item.prompt) if item.prompt else ""
        took = time.perf_counter() - began
        if took > limit:
            return [
                Finding("D4", "warning", f"One row takes {took:.0f} s to render.", "Shorten or remove it.", item.id)
            ]
    return []


def gold_scores_max(reward: Reward, groups: Sequence[Group], gold: Callable[[Group], str]) -> list[Finding]:
    """D6: a verifiable reward gives the gold answer its maximum, and another row's gold less, on up to 32 rows.

    gold: the right answer of a group, as the policy would write it.
    """
    rows = list(groups[:32])
    right = [g.with_responses([answer(gold(g))]) for g in rows]
    turned = [g.with_responses([answer(gold(rows[(i + 1) % len(rows)]))]) for i, g in enumerate(rows)]
    own, other = _values(reward(right)), _values(reward(turned))
    best = np.nanmax(own) if np.isfinite(own).any() else np.nan
    fix = "Mend the reward's parser, or the reference answers."
    for item, value in zip(rows, own):
        if not np.isfinite(value) or value < best:
            return [Finding("D6", "error", f"The gold answer scores {value}, not the maximum {best}.", fix, item.id)]
    if len(rows) > 1 and not np.nanmean(other) < np.nanmean(own):
        return [Finding("D6", "error", "Answers of other rows score as high as the gold ones.", fix, rows[0].id)]
    return []


def _values(scores: list[list[Score]]) -> np.ndarray:
    return np.asarray([np.nan if s[0].value is None else s[0].value for s in scores], dtype=float)
