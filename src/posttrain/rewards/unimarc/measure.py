"""What reports say of one answer, as numbers: averaging and intervals, clustered by source record, are the statistics room's.

Learning starts and ends are stated in `faithful`: no error at L0 to L2, nothing invented, F at least .9.
"""

from __future__ import annotations

from collections import Counter

from posttrain.rewards.unimarc.extract import extract
from posttrain.rewards.unimarc.fidelity import fidelity
from posttrain.rewards.unimarc.grading import LEVELS, grade
from posttrain.rewards.unimarc.record import Record, subfields
from posttrain.rewards.unimarc.reward import UnimarcReward


def measure(
    answer: str | Record, gold: Record | str, source: str | None = None, reward: UnimarcReward | None = None
) -> dict[str, float]:
    """Reward, validity per level, fidelity and exactness of one answer, each in [0, 1] but `invented`, a count.

    valid_Ln: no error at that level. valid: none at L0 to L2. faithful: valid, nothing invented, F >= .9. exact_subfield: share of the
    gold's subfields that stand in the answer character by character. exact_record: equal but for field order.
    """
    reward = reward or UnimarcReward()
    graded = grade(answer, reward.profile.path)
    truth = fidelity(answer, gold, source, reward.profile.path)
    errors = {issue.level for issue in graded.issues if issue.severity == "error"}
    record, want = extract(answer).record, extract(gold).record
    assert want is not None, "fidelity has read the gold"
    mine, wanted = Counter(subfields(record) if record else ()), Counter(subfields(want))
    out = {"reward": reward.of(answer, gold, source).value or 0.0}
    out |= {f"valid_{level}": float(level not in errors and "L0" not in errors) for level in LEVELS}
    out["valid"] = float(graded.valid)
    out |= {"precision": truth.precision or 0.0, "recall": truth.recall or 0.0, "f1": truth.f1 or 0.0}
    out["invented"] = float(len(truth.invented))
    out["faithful"] = float(graded.valid and not truth.invented and out["f1"] >= 0.9)
    out["exact_subfield"] = (mine & wanted).total() / wanted.total()
    same = record is not None and record.leader == want.leader and Counter(record.fields) == Counter(want.fields)
    out["exact_record"] = float(same)
    return out
