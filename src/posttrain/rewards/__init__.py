"""Rewards: groups in, one `Score` per response out, each with its parts and its reason.

    as_reward(lambda prompts, responses: [len(r) for r in responses])
    Criterion.of({"name": "gate", "condition": "think", "then": "math"})

Every module here registers its rewards in the family ``reward``, so a recipe names them: ``reward: math``.
"""

from posttrain.rewards.algebra import Ensemble, Gate, Sum, Term, Worst
from posttrain.rewards.answers import Choice, Exact, Math, Regex
from posttrain.rewards.code import Python
from posttrain.rewards.criterion import Criterion, Given, RewardExample, as_reward, each
from posttrain.rewards.forms import JsonSchema, Think, Xml
from posttrain.rewards.function import Function
from posttrain.rewards.lengths import Length, Overlong, Target
from posttrain.rewards.records import Unimarc

__all__ = [
    "Choice",
    "Criterion",
    "Ensemble",
    "Exact",
    "Function",
    "Gate",
    "Given",
    "JsonSchema",
    "Length",
    "Math",
    "Overlong",
    "Python",
    "Regex",
    "RewardExample",
    "Sum",
    "Target",
    "Term",
    "Think",
    "Unimarc",
    "Worst",
    "Xml",
    "as_reward",
    "each",
]
