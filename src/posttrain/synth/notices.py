"""Catalogue notices: a UNIMARC record from its source text, kept if it is true enough; with the same record made false as the rejected one.

The reward knows the gold facts of the row (`unimarc_gold`), so nothing is kept on the model's word. Leaves out rows without gold facts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from posttrain.core.group import Group, Preference, answer
from posttrain.rewards.unimarc import NotApplicable, UnimarcReward, read, to_lines, wrong_fact
from posttrain.rewards.unimarc.extract import extract
from posttrain.synth.ledger import Made, unseen
from posttrain.synth.teacher import Teacher, Wanted

LEAST = 0.6


def notices(rows: Sequence[Group], teacher: Teacher, wanted: Wanted, reward: UnimarcReward | None = None) -> Made:
    """n records per source; the truest one is kept if it scores above `least` (.6 where none is given), over a copy with a wrong fact."""
    made, tests, worth = Made(), {"duplicate": unseen()}, reward or UnimarcReward()
    least = wanted.least or LEAST
    bare = [g.id for g in rows if "unimarc_gold" not in g.facts]
    if bare:
        raise ValueError(
            f"notices: row {bare[0]} has no fact `unimarc_gold` to check a record against ({len(bare)} rows)"
        )
    asked = [(*g.prompt[:-1], g.prompt[-1]) for g in rows]
    for g, many in zip(rows, teacher.ask(asked, wanted.n), strict=True):
        (scores,) = worth([g.with_responses([answer(s.text) for s in many])])
        best = max(range(len(many)), key=lambda i: (scores[i].value or 0.0, -i))
        for i, s in enumerate(many):
            if i != best:
                made.drop("not the truest", s.text)
        value = scores[best].value or 0.0
        if many[best].failed or value <= least:
            made.drop("failed call" if many[best].failed else "below the threshold", many[best].text)
            continue
        responses = [answer(many[best].text)]
        false = _false(many[best].text, random.Random(f"{teacher.seed}:{g.id}").randrange(1 << 30))
        if false is not None:
            responses.append(answer(false, by="corruption:wrong fact"))
        facts = {k: v for k, v in g.facts.items() if k not in ("id", "where", "provenance")} | {"unimarc_score": value}
        pair = (Preference(0, 1),) if false is not None else ()
        made.offer(
            g.with_responses(responses, preferences=pair, facts=facts), tests, teacher.origin("notices", [g.id], *many)
        )
    return made


def _false(text: str, seed: int) -> str | None:
    found = extract(text).record
    if found is None:
        return None
    try:
        return to_lines(read(wrong_fact(found, seed)))
    except NotApplicable:
        return None
