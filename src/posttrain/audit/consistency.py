"""`RLHFConsistencyChecker`: do the preference data, the reward model and the policy still agree with each other?

    report = RLHFConsistencyChecker().analyze(data=pairs, reward_model=rm, policy=policy, reference=sft)
    report.issues          # ["Chosen answers are the longer ones: +0.21 above one half [...]. Remedy: ...", ...]

Every check whose inputs are there runs; the others stay in the output with what they lack. Fails are corrected over all checks of a
call. The checks live in `consistency_data` (preferences), `consistency_reward` (reward model against policy) and `consistency_policy`
(what training did). Leaves out gold labels collected during the check: gold is a Reward, or a logged figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posttrain.audit import consistency_data, consistency_policy, consistency_reward
from posttrain.audit.consistency_figures import CHECKS, absent_check
from posttrain.audit.findings import TestResult, rule_family
from posttrain.audit.probe import Measured
from posttrain.core.group import Group
from posttrain.core.protocols import Request, Sampling
from posttrain.stats import Verdict, overall

SAMPLED = 200
"""Prompts of the data that the policy answers where no samples are given."""


class Issue(str):
    """One failed check as a sentence; `.check` is its id, `.remedy` what to do, `.result` the numbers."""

    check: str
    remedy: str
    result: TestResult

    def __new__(cls, result: TestResult) -> Issue:
        low, high = result.ci95
        shown = f"{result.estimate:+.3f} {result.unit}"
        if low < high:
            shown += f" [{low:+.3f}, {high:+.3f}]"
        remedy = str(result.extra.get("remedy", ""))
        made = super().__new__(cls, f"{result.phrase}: {shown} ({result.arm}). Remedy: {remedy}.")
        made.check, made.remedy, made.result = result.id, remedy, result
        return made


@dataclass(frozen=True)
class ConsistencyReport:
    """issues: a sentence per failed check, with its remedy. results: every check and arm, those that did not run with the reason."""

    issues: tuple[Issue, ...]
    results: tuple[TestResult, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """fail if a check fails, pass if all that ran pass, else inconclusive; not_run when nothing ran."""
        return overall([r.verdict for r in self.results if r.verdict != "not_run"])

    def of(self, check: str) -> list[TestResult]:
        """Results of one check, by id."""
        return [r for r in self.results if r.id == check]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "consistency/1",
            "verdict": self.verdict,
            "issues": [{"sentence": str(i), "check": i.check, "remedy": i.remedy} for i in self.issues],
            "results": [r.to_json() for r in self.results],
            **dict(self.about),
        }


class RLHFConsistencyChecker:
    """How to check. See `analyze`."""

    def __init__(
        self,
        beta: float = 0.1,
        samples: int = SAMPLED,
        max_tokens: int = 128,
        margin: float = 0.02,
        seed: int = 0,
        reps: int = 2000,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """beta: of the implicit reward beta (log p - log p_ref). samples: prompts answered where none are given. max_tokens: longest such
        answer. margin: capability that may be lost. reps: bootstrap draws. progress: told what begins."""
        self.beta, self.samples, self.max_tokens, self.margin = beta, samples, max_tokens, margin
        self.seed, self.reps, self.progress = seed, reps, progress

    def analyze(
        self,
        data: Sequence[Group] | None = None,
        reward_model: Any = None,
        policy: Any = None,
        reference: Any = None,
        samples: Sequence[Group] | None = None,
        logs: Sequence[Mapping[str, Any]] | None = None,
        held_out: Sequence[Group] | None = None,
        gold: Any = None,
        capabilities: Mapping[str, tuple[Sequence[Group], Any]] | None = None,
    ) -> ConsistencyReport:
        """Run every check whose inputs are here.

        data, held_out: groups with preferences (training and test side). reward_model, gold: Rewards; gold shares no data with the reward
        model. policy, reference: models with `generate`, and `logp` where they can. samples: groups with fresh answers of the policy; None
        draws them. logs: rows of metrics.jsonl. capabilities: name -> (groups of prompts, Reward that scores their answers).
        Raises ValueError when nothing at all was given.
        """
        if all(x is None for x in (data, reward_model, policy, samples, logs, capabilities)):
            raise ValueError("nothing to check: give at least one of data, reward_model, policy, samples, logs")
        measured = list(consistency_data.checks(data, held_out, self.reps, self.seed))
        fresh = self._samples(samples, policy, data or held_out)
        before = self._answers(reference, fresh, "reference answers")
        measured += consistency_reward.checks(data, held_out, reward_model, policy, reference, fresh, self)
        measured += consistency_policy.checks(data, reward_model, gold, policy, reference, fresh, before, logs, self)
        measured += self._capabilities(capabilities, policy, reference)
        measured += self._absent(measured)
        results = tuple(sorted(rule_family(measured), key=lambda r: (r.id, r.arm)))
        issues = tuple(Issue(r) for r in results if r.verdict == "fail")
        about = {
            "seed": self.seed,
            "samples": 0 if fresh is None else sum(len(g.responses) for g in fresh),
            "pairs": 0 if data is None else sum(len(g.pairs()) for g in data),
            "log_rows": 0 if logs is None else len(logs),
        }
        return ConsistencyReport(issues, results, about)

    # Answers

    def _samples(
        self, samples: Sequence[Group] | None, policy: Any, prompts: Sequence[Group] | None
    ) -> list[Group] | None:
        if samples is not None:
            return [g for g in samples if g.responses]
        if policy is None or not prompts:
            return None
        one_each = list({g.prompt_hash: g for g in prompts}.values())[: self.samples]
        return self._answers(policy, one_each, "policy answers")

    def _answers(self, model: Any, prompts: Sequence[Group] | None, what: str) -> list[Group] | None:
        """One sampled answer to each prompt; facts stay. None where there is no model that generates."""
        if prompts is None or not hasattr(model, "generate"):
            return None
        self.progress(f"{what}: {len(prompts)} prompts")
        drawn = Sampling(temperature=1.0, max_tokens=self.max_tokens)
        made = model.generate([Request(g.prompt, drawn, 1, self.seed, facts=g.facts) for g in prompts])
        return [g.with_responses(m.responses) for g, m in zip(prompts, made, strict=True)]

    def _capabilities(
        self, tasks: Mapping[str, tuple[Sequence[Group], Any]] | None, policy: Any, reference: Any
    ) -> Iterator[Measured]:
        if tasks and hasattr(policy, "generate") and hasattr(reference, "generate"):
            for name, (prompts, reward) in tasks.items():
                self.progress(f"capability {name}: {len(prompts)} prompts")
                yield consistency_policy.tax(name, prompts, reward, policy, reference, self)

    def _absent(self, measured: Sequence[Measured]) -> Iterator[Measured]:
        there = {m.test for m in measured}
        for check, (_, needs) in CHECKS.items():
            if check not in there:
                yield absent_check(check, needs)
