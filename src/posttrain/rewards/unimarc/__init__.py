"""UNIMARC bibliographic records: read, validate, grade, reward, corrupt.

`validate` and `grade` judge structure (L0 to L4), `fidelity` judges truth (L5), `UnimarcReward` joins them, `corrupt` makes faulty
partners. Records have three written forms (`record`); rules and tables are YAML (`profiles/`, `tables/`). Needs the standard library
and PyYAML. Leaves out ISO 2709, authorities and holdings.
"""

from posttrain.rewards.unimarc.corruption import NotApplicable, corrupt, pairs, wrong_fact
from posttrain.rewards.unimarc.difference import Difference, diff
from posttrain.rewards.unimarc.fidelity import Fact, Fidelity, facts_of, fidelity
from posttrain.rewards.unimarc.grading import Grade, Issue, grade, validate
from posttrain.rewards.unimarc.measure import measure
from posttrain.rewards.unimarc.profile import UnknownProfile, UnknownRule, known_profiles, load_profile
from posttrain.rewards.unimarc.record import (
    Field,
    Record,
    RecordError,
    control,
    data,
    dump,
    from_lines,
    from_marcxml,
    from_text,
    parse,
    read,
    to_lines,
    to_marcxml,
    to_text,
)
from posttrain.rewards.unimarc.reward import UnimarcReward

__all__ = [
    "Difference", "Fact", "Fidelity", "Field", "Grade", "Issue", "NotApplicable", "Record", "RecordError", "UnimarcReward",
    "UnknownProfile", "UnknownRule", "control", "corrupt", "data", "diff", "dump", "facts_of", "fidelity", "from_lines",
    "from_marcxml", "from_text", "grade", "known_profiles", "load_profile", "measure", "pairs", "parse", "read", "to_lines",
    "to_marcxml", "to_text", "validate", "wrong_fact",
]  # fmt: skip
