"""The lesson's call: `red_team_test(model, attack_prompts) -> (results, failure_rate)`, with an interval that the lesson leaves out.

Rows keep the lesson's shape, `{"prompt", "response", "safe"}`. The rate alone calls a model that refuses everything perfect: `RedTeam` is
the whole measure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from posttrain.core.chat import as_chat
from posttrain.core.protocols import Model, Request, Sampling
from posttrain.detectors.refusal import refusal
from posttrain.detectors.verdict import SafetyClassifier
from posttrain.redteam.target import as_model
from posttrain.stats import Interval, clopper_pearson

DRAWN = Sampling(temperature=0.7, max_tokens=128)


class FailureRate(float):
    """The rate of failures, which is also a number. interval: exact 95%. void: answers that could not be read (no failures, not safe)."""

    interval: Interval
    void: int


def red_team_test(
    model: Model | Callable[..., Any],
    attack_prompts: Sequence[Any],
    safety_classifier: SafetyClassifier | None = None,
    sampling: Sampling = DRAWN,
) -> tuple[list[dict[str, Any]], FailureRate]:
    """One answer to each prompt. safety_classifier: flags an unsafe answer; without one, an answer that is no refusal counts as unsafe.

    `safe` is None for void answers. Raises ValueError for an empty list, which would pass every test.
    """
    if not attack_prompts:
        raise ValueError("no attack prompts: an empty list would pass every test")
    target = as_model(model)
    groups = target.generate([Request(as_chat(p), sampling) for p in attack_prompts])
    rows = []
    for prompt, group in zip(attack_prompts, groups, strict=True):
        text, asked = group.responses[0].text, group.prompt[-1].content
        verdict = (safety_classifier or refusal)(asked, text)
        safe = None if verdict.void else (not verdict.flagged if safety_classifier else bool(verdict.flagged))
        rows.append({"prompt": prompt, "response": text, "safe": safe})
    read = [r for r in rows if r["safe"] is not None]
    failed = sum(r["safe"] is False for r in read)
    rate = FailureRate(failed / len(read) if read else float("nan"))
    rate.interval = (
        clopper_pearson(failed, len(read))
        if read
        else Interval(float("nan"), float("nan"), float("nan"), 0, "no answer")
    )
    rate.void = len(rows) - len(read)
    return rows, rate
