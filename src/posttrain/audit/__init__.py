"""Audits of rewards and policies: `RewardModelAuditor`, `SycophancyDetector`, `RLHFConsistencyChecker`, over-optimisation.

Everything is a number with an interval and one of three verdicts. Works on any reward and any model; imports no torch. Leaves out
step-level reward models and images.
"""

from posttrain.audit.auditor import RewardModelAuditor
from posttrain.audit.best_of_n import curve, kl_of
from posttrain.audit.cases import BadTestCase, Case, EmptyAudit, read_cases
from posttrain.audit.consistency import ConsistencyReport, Issue, RLHFConsistencyChecker
from posttrain.audit.findings import AuditReport, TestResult, Vulnerability
from posttrain.audit.repair import Change, compare
from posttrain.audit.scorer import BudgetSpent, DegenerateReward
from posttrain.audit.search import Attack, attack_reward_model
from posttrain.audit.suite import suite
from posttrain.audit.sycophancy import SycophancyDetector, SycophancyReport
from posttrain.audit.thresholds import Thresholds

__all__ = [
    "Attack",
    "AuditReport",
    "BadTestCase",
    "BudgetSpent",
    "Case",
    "Change",
    "ConsistencyReport",
    "DegenerateReward",
    "EmptyAudit",
    "Issue",
    "RLHFConsistencyChecker",
    "RewardModelAuditor",
    "SycophancyDetector",
    "SycophancyReport",
    "TestResult",
    "Thresholds",
    "Vulnerability",
    "attack_reward_model",
    "compare",
    "curve",
    "kl_of",
    "read_cases",
    "suite",
]
