"""Reasoning traces in a teacher's answers: kept apart from the answer, left out, or left in the text; broken answers are never cut.

A trace stands before the answer, between ``<think>`` and ``</think>`` (or ``<thinking>``); templates that write the opening mark into the
prompt leave only the closing one. An answer that was still being written when its budget ended, or a trace that never closes, teaches
stopping in the middle, so `complete` leaves it out and counts it. DeepSeek-R1, arXiv:2501.12948. Leaves out judging what a trace says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from posttrain.core.chat import Message
from posttrain.core.group import Group, Response

Thinking = Literal["text", "keep", "strip"]
OPEN = re.compile(r"\s*<think(?:ing)?>")
CLOSE = re.compile(r"</think(?:ing)?>\s*")


def trace_and_answer(text: str) -> tuple[str | None, str]:
    """(trace or None, answer). Raises ValueError for a trace without an end.

    >>> trace_and_answer("<think>six sevens</think>42")
    ('six sevens', '42')
    """
    opened = OPEN.match(text)
    closed = CLOSE.search(text)
    if closed is None:
        if opened:
            raise ValueError("the trace has no end")
        return None, text
    start = opened.end() if opened else 0
    return text[start : closed.start()].strip(), text[closed.end() :]


def parted(response: Response, thinking: Thinking) -> Response:
    """The response with its assistant turns' traces apart (`keep`) or gone (`strip`). Its tokens, made of the old text, are dropped."""
    if thinking == "text":
        return response
    turns: list[Message] = []
    for turn in response.turns:
        if turn.role == "assistant":
            trace, answer = trace_and_answer(turn.content)
            turn = replace(turn, content=answer, thinking=trace if thinking == "keep" else None)
        turns.append(turn)
    return replace(response, turns=tuple(turns), tokens=None, trained=None, logps=None, sampled_logps=None)


def taught(groups: Sequence[Group], thinking: Thinking, complete: bool, gone: Counter[str]) -> list[Group]:
    """Groups with the answers that may be learned from; `gone` counts the others by reason, and prompts left without any answer."""
    out = []
    for group in groups:
        kept = []
        for response in group.responses:
            if complete and response.stop == "length":
                gone["answers longer than max_tokens"] += 1
                continue
            try:
                kept.append(parted(response, thinking))
            except ValueError:
                gone["traces without an end"] += 1
        if kept or not group.responses:
            out.append(group.with_responses(kept))
        else:
            gone["prompts without an answer left"] += 1
    return out
