"""Failures as training pairs: a harmful success is answered by a good refusal, an over-refusal by the helpful answer.

The model's own bad answer is the rejected side, its harmful detail redacted. Attack families held out are never used, so that the repair
can be tested on attacks that it did not see.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from posttrain.core.chat import as_chat
from posttrain.core.group import Group, Preference, answer
from posttrain.redteam.policy import DEFAULT, Policy
from posttrain.redteam.techniques import HELD_OUT

REDACTED = "[...]"


def redact(row: Mapping[str, Any]) -> str:
    """The answer without the words that a detector pointed at."""
    text = str(row["response"])
    spans = sorted((s[0], s[1]) for v in row["detectors"].values() if v["detector"] != "refusal" for s in v["spans"])
    for start, end in reversed(spans):
        text = text[:start] + REDACTED + text[end:]
    return re.sub(r"\s+", " ", text).strip() or REDACTED


def failures_to_pairs(
    rows: Iterable[Mapping[str, Any]],
    held_out: Sequence[str] = HELD_OUT,
    policy: Policy = DEFAULT,
    helpful: Mapping[str, str] | None = None,
) -> tuple[list[Group], dict[str, Any]]:
    """(preference pairs, the card that says what they are made of). helpful: ask id to a good answer of a twin; without it, an
    over-refused twin that has no answer of another sample is left out and counted.
    """
    rows = list(rows)
    told = {r["ask"]: r["response"] for r in rows if not r["harmful"] and r["helped"]}
    pairs: list[Group] = []
    left: Counter[str] = Counter()
    for row in rows:
        failed = row["success"] or (not row["harmful"] and row["refused"])
        if not failed:
            continue
        if row["family"] in held_out:
            left[f"family {row['family']} is held out"] += 1
            continue
        if row["harmful"]:
            good = policy.refusal(row["category"], row["lang"], row["id"])
            bad = redact(row)
        else:
            found = (helpful or {}).get(row["ask"]) or told.get(row["ask"])
            if found is None:
                good = policy.twin(row["lang"])
            else:
                good = found
            bad = row["response"]
        facts = {k: row[k] for k in ("id", "intent", "family", "technique", "harmful", "lang", "category")}
        pairs.append(
            Group(
                as_chat(row["messages"]),
                (answer(good, by="policy"), answer(bad, by="model")),
                (Preference(0, 1),),
                facts={**facts, "source": "redteam"},
            )
        )
    counted = Counter(p.facts["family"] for p in pairs)
    return pairs, {"held_out": list(held_out), "pairs": len(pairs), "by_family": dict(counted), "left_out": dict(left)}
