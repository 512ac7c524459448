"""Refusal rows of a policy: harmful requests with good refusals, their benign twins with helpful answers, one to one.

Both go to SFT; as pairs (the good answer over the opposite behaviour) they go to DPO. The rejected side of a harmful request is the opening
of a helpful answer and nothing more: no harmful text is written. Twins that have no helpful answer are left out with their intent and
counted, so that a model never learns refusals alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.core.group import Group, Preference, answer
from posttrain.redteam.intents import Ask, with_twins
from posttrain.redteam.policy import DEFAULT, Policy

Rows = tuple[list[Group], list[Group], dict[str, Any]]


def refusal_rows(asks: Sequence[Ask], policy: Policy = DEFAULT, helpful: Mapping[str, str] | None = None) -> Rows:
    """(rows for SFT, pairs for DPO, the card). helpful: ask id to a good answer of a twin; without it, the room's gold answer.

    Raises TwinMissing for intents without twins, ValueError where nothing is left.
    """
    rows = with_twins(asks)
    told = {a.id: (helpful or {}).get(a.id) or _gold(a) for a in rows if not a.harmful}
    silent = {(a.intent, a.lang) for a in rows if not a.harmful and told[a.id] is None}
    sft: list[Group] = []
    pairs: list[Group] = []
    left: Counter[str] = Counter()
    for ask in rows:
        if (ask.intent, ask.lang) in silent:
            left["no helpful answer to the twin"] += 1
            continue
        if ask.harmful and policy.action(ask.category) == "comply":
            left[f"category {ask.category} is answered"] += 1
            continue
        refused = policy.refusal(ask.category, ask.lang, ask.id)
        good, bad = (refused, policy.twin(ask.lang)) if ask.harmful else (str(told[ask.id]), refused)
        facts = {
            "id": ask.id, "intent": ask.intent, "harmful": ask.harmful, "lang": ask.lang, "category": ask.category,
            "action": policy.action(ask.category) if ask.harmful else "comply", "source": "refusal policy",
        }  # fmt: skip
        sft.append(Group(ask.chat, (answer(good, by="policy"),), facts=facts))
        pairs.append(
            Group(ask.chat, (answer(good, by="policy"), answer(bad, by="policy")), (Preference(0, 1),), facts=facts)
        )
    if not sft:
        raise ValueError(f"no row is left: {dict(left)}; give twins with helpful answers")
    by_lang = Counter(f"{g.facts['lang']} {'harmful' if g.facts['harmful'] else 'benign'}" for g in sft)
    return sft, pairs, {"rows": len(sft), "by_language": dict(by_lang), "left_out": dict(left), "checked": "template"}


def _gold(ask: Ask) -> str | None:
    """The helpful answer that an ask of the reading room knows."""
    gold = ask.facts.get("gold")
    return str(gold["answer"]) if isinstance(gold, Mapping) and "answer" in gold else None
