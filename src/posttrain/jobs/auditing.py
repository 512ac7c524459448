"""`posttrain audit RUN`: may this reward model be optimised, does this policy bend to its user? Numbers, verdicts and one page.

A directory with a score head is audited as a reward (`audit.RewardModelAuditor`), any other model as a policy (`audit.SycophancyDetector`).
Exit code 0: everything that ran passes; 1: something fails; 3: more rows are needed to say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveInt

from posttrain.core.files import write_json, write_text
from posttrain.core.run import Run
from posttrain.jobs import assembly
from posttrain.jobs.consistent import consistency, section
from posttrain.jobs.job import Context, Job
from posttrain.jobs.stage import Stage
from posttrain.stats import Verdict, overall

if TYPE_CHECKING:
    from posttrain.audit import AuditReport
    from posttrain.report.page import Section

SMALL = 200
"""Scorings of a phase that need no line of their own."""
EXIT = {"pass": 0, "fail": 1, "inconclusive": 3, "not_run": 3}
NAMES = {
    "P0": "finite, independent of the batch",
    "T01": "orders pairs",
    "T02": "length",
    "T03": "style before correctness",
    "T04": "markup",
    "T05": "keywords",
    "T06": "hedges, non-answers",
    "T07": "agreement, praise",
    "T08": "position",
    "T09": "own family",
    "T10": "formats",
    "T11": "languages",
    "T12": "typos and spaces",
    "T13": "notices corruption",
    "T14": "harm and benign twins",
    "T15": "harm in safe words",
    "T16": "suffixes by search",
    "T17": "calibration",
    "T18": "circles",
    "T19": "best of n",
    "T20": "doubt finds errors",
}


@dataclass(frozen=True)
class Audited:
    """What an audit found. body: what audit.json holds. verdict: pass, fail, inconclusive or not_run."""

    body: dict[str, Any]
    verdict: Verdict

    @property
    def exit_code(self) -> int:
        return EXIT[self.verdict]


class Audit(Job):
    """Audit a reward model for what it can be fooled by, or a policy for sycophancy."""

    name: ClassVar[str] = "audit"
    produces: ClassVar[Literal["run", "file", "text"]] = "run"
    positional: ClassVar[tuple[str, ...]] = ("target",)

    target: str
    """A reward run or a policy: run, model directory, or hub id."""
    out: str | None = None
    """Directory for audit.json and report.html (and pairs.jsonl: counter-examples to train on); none is `audit` in the run's directory."""
    cases: str | None = None
    """JSONL of test cases (prompt, chosen, rejected) or, for a policy, of controversial prompts; none takes the built-in suite."""
    fast: bool = False
    """Fewer arms, English alone, one search."""
    langs: tuple[Literal["en", "fr", "ru", "zh"], ...] = ()
    """Languages of the suite; none: all four, English alone where fast."""
    n: PositiveInt = 300
    """Items per test and language; at most 100 where fast."""
    tests: tuple[str, ...] = ()
    """Only these tests of a reward (T01 ...)."""
    consistency: bool = True
    """Hold data, reward model and policy of a run against each other too, as far as the run has them."""
    reward: str | None = None
    """Reward run to hold a policy against; none takes the one that its recipe names."""
    seed: int = 0
    """Seeds suite, searches and intervals."""

    def run(self, context: Context | None = None) -> Audited:
        """Audit, write the files, return the verdict. Raises ValueError for unknown tests or cases that cannot be read."""
        from posttrain.models import heads

        context = context or Context()
        path = Path(assembly.resolve(self.target))
        stage = Stage(self, self.name, self.place(), [self.target, *([self.cases] if self.cases else [])], file=False)
        scored = any(name.startswith("score.") for name in heads.read_heads(path))
        agreed = (
            consistency(self.target, self.reward, scored, self.fast, self.seed, context) if self.consistency else None
        )
        more = () if agreed is None else (section(agreed),)
        found, page = self._reward(context, stage, more) if scored else self._policy(context, more)
        files = [stage.out / "audit.json", stage.out / "report.html"]
        write_json(files[0], found.body)
        if agreed is not None:
            files.append(stage.out / "consistency.json")
            write_json(files[-1], agreed.to_json())
            found = Audited(found.body, overall(v for v in (found.verdict, agreed.verdict) if v != "not_run"))
            for issue in agreed.issues:
                context.say(issue)
        write_text(files[1], page)
        stage.finish(files)
        context.say(f"{found.verdict}: {files[1]}")
        return found

    def place(self) -> str:
        """Where the files go. Raises ValueError for a target that is no run where none was named."""
        if self.out is not None:
            return self.out
        if not Run(self.target).model.is_dir():
            raise ValueError(f"out: {self.target} is no run directory to put the audit into; name one with --out DIR")
        return str(Path(self.target) / "audit")

    def _reward(self, context: Context, stage: Stage, more: Sequence[Section] = ()) -> tuple[Audited, str]:
        from posttrain.audit import RewardModelAuditor
        from posttrain.jobs.scoring import ModelReward

        auditor = RewardModelAuditor(
            langs=self.langs or None,
            fast=self.fast,
            n=min(self.n, 100) if self.fast else self.n,
            seed=self.seed,
            tests=self.tests or None,
            progress=progress(context.say),
        )
        report = auditor.analyze(ModelReward(self.target), self.cases, about={"target": self.target})
        pairs = [json.dumps(g.to_json(), ensure_ascii=False) + "\n" for g in report.training_pairs()]
        write_text(stage.out / "pairs.jsonl", "".join(pairs))
        for v in report.vulnerabilities:
            context.say(v.sentence)
        return Audited(report.to_json(), report.verdict), reward_page(report, self.target, more)

    def _policy(self, context: Context, more: Sequence[Section] = ()) -> tuple[Audited, str]:
        from posttrain.audit import SycophancyDetector
        from posttrain.core.files import read_lines
        from posttrain.rollout.policy import Policy

        langs = self.langs or (("en",) if self.fast else ("en", "fr", "ru", "zh"))
        asked = None if self.cases is None else list(read_lines(Path(self.cases)))
        detector = SycophancyDetector(langs=langs, n=min(self.n, 30) if self.fast else self.n, seed=self.seed)
        report = detector.analyze(Policy.open(assembly.resolve(self.target)), asked)
        context.say(f"sycophancy {report.sycophancy_score:.2f} of 1" + (", above the alarm" if report.alarm else ""))
        return Audited(report.to_json(), report.verdict), policy_page(report.to_json(), self.target, more)


def progress(say: Callable[[str], None], every: int = 2000) -> Callable[[str, int, int], None]:
    """A line at the start of each phase and every so many scorings."""
    last: list[Any] = ["", 0]

    def shown(phase: str, done: int, total: int) -> None:
        if total > SMALL and (phase != last[0] or done - last[1] >= every or done == total):
            last[:] = [phase, done]
            say(f"{phase}: {done:,} of {total:,} scorings")

    return shown


def reward_page(report: AuditReport, target: str, more: Sequence[Section] = ()) -> str:
    """The audit of a reward as one page: what fails first, every arm with its interval, the worst rows."""
    from posttrain.report.dots import dot_plot
    from posttrain.report.page import Section, card, figure, node, page, table, tiles
    from posttrain.stats import Interval

    body = report.to_json()
    ran = [r for r in report.results if r.verdict != "not_run"]
    failed = [r for r in ran if r.verdict == "fail"]
    top = tiles(
        [
            ("verdict", report.verdict, f"{len(ran)} arms ran"),
            ("failed", str(len(failed)), "corrected over the whole audit"),
            ("vulnerabilities", str(len(report.vulnerabilities)), ""),
        ]
    )
    shown = [
        (f"{r.id} {r.arm} {r.lang}", Interval(r.estimate, *r.ci95, r.clusters, "bootstrap"))
        for r in ran
        if r.unit == "s"
    ]
    sections = [
        Section(
            "found",
            "Vulnerabilities",
            "".join(_worst(card, node, v) for v in report.vulnerabilities) or node("p", "None was found by what ran."),
        ),
        Section(
            "arms",
            "Every arm",
            (
                figure("Shifts, in the reward's own spread (s)", dot_plot(shown, "Shifts by arm", "s", 0.0, 760.0))
                if shown
                else ""
            )
            + table(
                ["test", "arm", "language", "value", "95% interval", "limit", "verdict"],
                [_arm(r) for r in report.results],
                "All arms",
                (3, 4, 5),
            ),
        ),
    ]
    note = "Items of the built-in suite were made by templates; nobody validated them."
    return page(
        "Audit of a reward",
        f"{target}: {body['verdict']}. {note}",
        top,
        [*sections, *more],
        f"posttrain audit {target}",
    )


def _arm(r: Any) -> list[str]:
    """One row of the table of arms."""
    needed = f" (needs n = {r.n_needed})" if r.verdict == "inconclusive" and r.n_needed else ""
    value, ends = f"{r.estimate:+.3f} {r.unit}", f"[{r.ci95[0]:+.3f}, {r.ci95[1]:+.3f}]"
    return [f"{r.id} {NAMES.get(r.id, '')}", r.arm, r.lang, value, ends, f"{r.limit:+.3f}", r.verdict + needed]


def _worst(card: Callable[..., str], node: Callable[..., str], v: Any) -> str:
    from html import escape

    rows = "".join(
        node("p", escape(f"{e.value:+.3f}  {e.prompt[:300]}"))
        + node("blockquote", escape(e.a[:400]))
        + node("blockquote", escape(e.b[:400]))
        for e in v.examples[:2]
    )
    return card(str(v), node("p", escape(v.sentence)), rows)


def policy_page(body: dict[str, Any], target: str, more: Sequence[Section] = ()) -> str:
    """The audit of a policy as one page: the score, its parts against their controls, stubbornness beside them."""
    from posttrain.report.dots import dot_plot
    from posttrain.report.page import Section, as_interval, figure, page, tiles

    score = as_interval({**body["interval"], "method": "bootstrap"}, "interval")
    rows = [(k, as_interval({**p, "method": "bootstrap"}, k)) for k, p in body["parts"].items()]
    rows.append(("stubbornness", as_interval({**body["stubbornness"], "method": "bootstrap"}, "stubbornness")))
    rows = [(k, i) for k, i in rows if i.estimate == i.estimate]
    top = tiles([("sycophancy", f"{body['sycophancy_score']:.2f}", str(score)), ("verdict", body["verdict"], "")])
    drawn = figure("Parts, each against its control", dot_plot(rows, "Parts of the score", "", 0.0, 760.0))
    told = f"{target}: {body['verdict']}. Items were made by templates; nobody validated them."
    return page("Audit of a policy", told, top, [Section("parts", "Parts", drawn), *more], f"posttrain audit {target}")
