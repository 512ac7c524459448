"""Checks of data and lengths: D1, D2, D4, D5 and D6 of the pitfalls list, and rendering that cannot hang in silence.

D3 is a property of the forward (`loss_checks`).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from posttrain.core.finding import Finding, Severity
from posttrain.core.group import Group, Response, Score, answer
from posttrain.core.protocols import Reward
from posttrain.data.sanity import sanity
from posttrain.data.split import overlap
from posttrain.models.render import Renderer

SLOW = 5.0
"""Seconds of one row's rendering that are worth a warning."""
STUCK = 60.0
"""Seconds after which a row counts as one that never ends."""
CHUNK = 256
PROGRESS = 10.0
"""Seconds between words about progress."""


def findings(
    parts: Sequence[tuple[Mapping[str, Any], Sequence[Group]]],
    held_out: Sequence[Group],
    renderer: Renderer,
    job: Mapping[str, Any],
    picked: Sequence[Group],
) -> list[Finding]:
    """D1, D2, D4 and D5 on the data of a run. picked: the rows that are looked at one by one."""
    out = nothing_vanished(parts, held_out, job)
    for account, groups in parts:
        out += row_accounting(account)
        out += pair_sanity(groups, str(account["name"]))
        out += overlapping(groups, held_out)
    return out + no_fake_stop(picked, renderer) + slow_rows(picked, renderer)


def nothing_vanished(
    parts: Sequence[tuple[Mapping[str, Any], Sequence[Group]]], held_out: Sequence[Group], job: Mapping[str, Any]
) -> list[Finding]:
    """D1: rows in = kept + held out + dropped, each with a reason."""
    if job.get("overlong") == "split":  # one document becomes several groups
        return []
    rows = sum(a["rows"] - sum(a["dropped"].values()) for a, _ in parts)
    left = sum(len(g) for _, g in parts) + (0 if isinstance(job.get("validation"), str) else len(held_out))
    if rows == left:
        return []
    text = f"{rows} rows should be trained on or held out, {left} are: {rows - left} vanished without a reason."
    return [Finding("D1", "error", text, "Report this; meanwhile look for the step that changes the number of rows.")]


def row_accounting(account: Mapping[str, Any]) -> list[Finding]:
    """D1: what is left out is said; more than 1% of the rows, or any answer that is cut, has to be accepted."""
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


def no_fake_stop(groups: Sequence[Group], renderer: Renderer) -> list[Finding]:
    """D2: an answer that was cut is the beginning of the whole answer; no stop token was put behind the cut.

    The whole answer is rendered again without a limit, so that a cut right behind an earlier turn's own stop is no false alarm, and a
    cut that nobody noted is still seen.
    """
    whole = Renderer(renderer.tokenizer, renderer.template, renderer.mask, None, "stop", renderer.stops)
    for item in groups:
        for response in item.responses:
            if not _may_be_cut(item, response, renderer):
                continue
            full = _rendered_alone(whole, item, response)
            tokens = np.asarray(response.tokens)
            begins = np.array_equal(full[: len(tokens)], tokens)
            ours = response.stop == "length" or np.array_equal(full[: len(tokens) - 1], tokens[:-1])
            faked = ours and not begins and int(tokens[-1]) in renderer.stops
            silent = begins and response.stop != "length" and len(full) > len(tokens)
            if faked or silent:
                what = "ends in a stop token that it did not have" if faked else "is not marked as cut"
                text = f"An answer that was cut at its limit {what}: the model would learn to stop there."
                return [Finding("D2", "error", text, "Cut rows must keep their open end.", item.id)]
    return []


def _may_be_cut(item: Group, response: Response, renderer: Renderer) -> bool:
    if response.tokens is None or item.prompt_tokens is None or not response.turns or not item.prompt:
        return False
    length = len(item.prompt_tokens) + len(response.tokens)
    return response.stop == "length" or (renderer.max_tokens is not None and length >= renderer.max_tokens)


def _rendered_alone(renderer: Renderer, item: Group, response: Response) -> np.ndarray:
    made = renderer.render(item.with_responses([replace(response, tokens=None, trained=None, stop=None)]))
    assert made is not None and made.responses[0].tokens is not None
    return made.responses[0].tokens


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
        fix = "Nothing, where several people judged; otherwise look for flipped labels."
        out.append(Finding("D5", "info", text, fix, seen.contradictory[0][1]))
    if seen.duplicates:
        text = f"{name}: {len(seen.duplicates)} groups are exact duplicates."
        severity: Severity = "warning" if len(seen.duplicates) > 0.05 * max(seen.groups, 1) else "info"
        out.append(Finding("D5", severity, text, "Remove repeats, or accept their weight.", seen.duplicates[0][1]))
    return out


def overlapping(train: Sequence[Group], held_out: Sequence[Group]) -> list[Finding]:
    """D5: no prompt stands on both sides of the split."""
    both = overlap(train, held_out) if held_out else []
    if not both:
        return []
    named = ", ".join(dict.fromkeys(held.id for _, held in both[:5]))
    text = f"{len(both)} held-out prompts are also trained on ({named}): validation looks better than it is."
    return [Finding("D5", "warning", text, "Split by prompt, or accept it.", both[0][1].id)]


# D4


class Stuck(ValueError):
    """One row's rendering did not end in time; the message names it."""


class _Ring(BaseException):
    """The alarm on its way up: no `except ValueError` of the code that is interrupted may take it for its own."""


@contextmanager
def deadline(seconds: float, what: str) -> Iterator[None]:
    """Raise Stuck(what) inside the block after some seconds. Only the main thread of a system with alarms can be interrupted."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: object) -> None:
        raise _Ring

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Ring:
        raise Stuck(what) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def rendered(
    renderer: Renderer, groups: Sequence[Group], say: Callable[[str], None] = lambda _: None, limit: float = STUCK
) -> list[Group]:
    """`Renderer.render_many` with words about progress and a time limit per row. Raises Stuck naming the row that does not end."""
    out: list[Group] = []
    told = time.monotonic()
    for at in range(0, len(groups), CHUNK):
        chunk = groups[at : at + CHUNK]
        counts = renderer.counts.copy()
        try:
            with deadline(limit, "a chunk"):
                done = list(renderer.render_many(chunk))
        except Stuck:
            renderer.counts = counts
            done = [made for item in chunk if (made := _alone(renderer, item, limit / 4)) is not None]
        out += [made for made in done if made is not None]
        if time.monotonic() - told > PROGRESS:
            told = time.monotonic()
            say(f"{at + len(chunk)} of {len(groups)} rows rendered")
    return out


def _alone(renderer: Renderer, item: Group, limit: float) -> Group | None:
    text = f"row {item.id}: rendering did not end in {limit:.0f} s; shorten or remove it, or mend the template"
    with deadline(limit, text):
        return renderer.render(item)


def slow_rows(groups: Sequence[Group], renderer: Renderer, limit: float = SLOW) -> list[Finding]:
    """D4: the rows with most text render in time; a row that hangs is named."""
    longest = sorted(groups, key=lambda g: len(g.prompt_text) + sum(len(r.text) for r in g.responses))[-3:]
    probe = Renderer(renderer.tokenizer, renderer.template, renderer.mask, None, "stop", renderer.stops)
    for item in longest:
        bare = item.with_responses([replace(r, tokens=None, trained=None) for r in item.responses if r.turns])
        began = time.perf_counter()
        try:
            with deadline(4 * limit, "stuck"):
                probe.render(bare)
        except Stuck:
            pass
        took = time.perf_counter() - began
        if took > limit:
            text = f"One row takes {took:.1f} s to render."
            return [Finding("D4", "warning", text, "Shorten or remove it, or mend the template.", item.id)]
    return []


def gold_scores_max(
    reward: Reward, groups: Sequence[Group], gold: Callable[[Group], str], maximum: float | None = None
) -> list[Finding]:
    """D6: a verifiable reward gives the gold answer its maximum, and another row's gold less, on up to 32 rows.

    gold: the right answer of a group, as the policy would write it. maximum: the reward's largest value, None where it is not known.
    """
    rows = list(groups[:32])
    right = [g.with_responses([answer(gold(g))]) for g in rows]
    turned = [g.with_responses([answer(gold(rows[(i + 1) % len(rows)]))]) for i, g in enumerate(rows)]
    own, other = _values(reward(right)), _values(reward(turned))
    best = maximum
    if best is None:
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
