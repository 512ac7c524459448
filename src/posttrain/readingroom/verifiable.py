"""Rows of the reading room for rewards that are rules: the facts that verifiers read, and reasoning written as a trace.

A cataloguing row gets `unimarc_gold`, its gold notice, which the reward `unimarc` compares with; a row of due dates and fines gets
`answer`, its result, which `exact` reads after the trace. Other tasks have no such fact and stay as they are. The sentence of the
result is the last one of an arithmetic answer; what stands before it are the steps. Leaves out rules for the prose tasks: their truth
is `GoldReward`.
"""

from __future__ import annotations

from dataclasses import replace

from posttrain.core.group import Group, answer
from posttrain.readingroom.tasks.fines import W

TASKS = ("catalogue", "fines")


def result_of(group: Group) -> str:
    """The sentence that ends the gold answer of an arithmetic row: `Fine: 1.20 EUR.`"""
    gold, words = group.facts["gold"], W[group.facts["lang"]]
    return words["fine"].format(gold["fine"]) if "fine" in gold else words["due"].format(gold["due"])


def verifiable(group: Group) -> Group:
    """The row with the fact that a verifier reads, where its task has one."""
    if group.facts["task"] == "catalogue":
        return replace(group, facts={**group.facts, "unimarc_gold": group.facts["gold"]["answer"]})
    if group.facts["task"] == "fines":
        return replace(group, facts={**group.facts, "answer": result_of(group)})
    return group


def thought(group: Group) -> Group:
    """The arithmetic demonstrations of a row as `<think>steps</think>result`; an answer without steps, or of another task, stays."""
    if group.facts["task"] != "fines":
        return group
    mark = W[group.facts["lang"]]["fine" if "fine" in group.facts["gold"] else "due"].partition("{}")[0]
    made = []
    for response in group.responses:
        steps, found, result = response.text.rpartition(mark)
        traced = found and steps.strip()
        made.append(answer(f"<think>{steps.strip()}</think>{mark}{result}", by=response.by) if traced else response)
    return group.with_responses(made)
