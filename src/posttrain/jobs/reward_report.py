"""What a reward model's scores are worth as probabilities: reliability before and after temperature scaling, and an ensemble's doubt.

Comparisons are cut in two by prompt: one half fits the temperature, the other judges (ECE, its excess over what sampling alone gives,
accuracy). An ensemble's score is the mean of its heads; its spread, the deviation of the heads' margins, should be larger where the mean
is wrong (AUROC). Guo et al. 2017, arXiv:1706.04599; Coste et al. 2023, arXiv:2310.02743.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import PositiveInt

from posttrain.core.files import write_json, write_text
from posttrain.core.group import Group
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.scoring import ModelReward
from posttrain.jobs.stage import Stage, paths_of
from posttrain.stats import Interval, cluster_bootstrap
from posttrain.stats.calibration import excess_ece, reliability
from posttrain.stats.rank import auroc
from posttrain.stats.temperature import fit_temperature, stated

FEW = 1000
"""Comparisons below which the excess ECE is too noisy to be trusted; the page says so."""


@dataclass(frozen=True)
class Comparisons:
    """Pairs in random order. margin [n]: mean score of the first less the second. spread [n]: deviation of that over heads (0 for one
    head). won [n]: 1 where people preferred the first. prompt [n]: whose pair it is."""

    margin: np.ndarray
    spread: np.ndarray
    won: np.ndarray
    prompt: tuple[str, ...]

    def take(self, kept: np.ndarray) -> Comparisons:
        prompts = tuple(p for p, k in zip(self.prompt, kept, strict=True) if k)
        return Comparisons(self.margin[kept], self.spread[kept], self.won[kept], prompts)

    @property
    def wrong(self) -> np.ndarray:
        """[n] where the mean score prefers the other one."""
        return (self.margin > 0) != (self.won > 0.5)


class RewardReport(Job):
    """Say how far a reward model's scores can be trusted: accuracy, calibration before and after, an ensemble's doubt."""

    name: ClassVar[str] = "reward-report"
    produces: ClassVar[Literal["run", "file", "text"]] = "run"

    reward: str
    """Reward run: of reward, reward_pairs or reward_ensemble."""
    data: Source
    """Comparisons that it was not trained on: pairs or rankings."""
    out: str
    """Directory for reward.json and report.html."""
    bins: PositiveInt = 15
    """Bins of the reliability plot, of equally many comparisons."""
    seed: int = 0
    """Seeds which half fits the temperature, the order inside pairs, and the intervals."""

    def run(self, context: Context | None = None) -> dict[str, Any]:
        """Score the comparisons, write both files, return what reward.json holds. Raises ValueError without comparisons."""
        context = context or Context()
        groups = [g for part in assembly.gather(self.data, context) for g in part.groups]
        found = compared(groups, ModelReward(self.reward).opinions(groups), self.seed)
        stage = Stage(self, self.name, self.out, [self.reward, *paths_of(self.data)], file=False)
        body = trusted(found, self.bins, self.seed)
        files = (stage.out / "reward.json", stage.out / "report.html")
        write_json(files[0], {k: v for k, v in body.items() if k != "plots"})
        write_text(files[1], self._page(body))
        stage.finish(files)
        context.say(told(body))
        return body

    def _page(self, body: dict[str, Any]) -> str:
        from posttrain.report.page import Section, figure, node, page, table, tiles
        from posttrain.report.plot import reliability_diagram

        before, after = (
            figure(
                f"{when} scaling", reliability_diagram(body["plots"][when], f"Reliability {when} temperature scaling")
            )
            for when in ("before", "after")
        )
        rows = [
            [when, f"{body[when]['ece']:.4f}", f"{body[when]['floor']:.4f}", f"{body[when]['excess']['estimate']:.4f}"]
            for when in ("before", "after")
        ]
        note = node(
            "p",
            f"Fitted on {body['fitted_on']} comparisons, judged on {body['judged_on']} of other prompts."
            + ("" if body["judged_on"] >= FEW else f" Below {FEW} the excess is noisy."),
        )
        inner = (
            note
            + before
            + after
            + table(["", "ECE", "sampling floor", "excess"], rows, "Expected calibration error", (1, 2, 3))
        )
        sections = [Section("calibration", "Calibration", inner)]
        if body["doubt"] is not None:
            told_ = f"Mean spread {body['spread']:.3f}; AUROC of the spread for errors {body['doubt']['estimate']:.3f}."
            sections.append(Section("doubt", "The ensemble's doubt", node("p", told_)))
        top = tiles(
            [
                ("accuracy", f"{body['accuracy']['estimate']:.3f}", "held-out pairs"),
                ("temperature", f"{body['temperature']:.3g}", ""),
            ]
        )
        return page("Reward model", told(body), top, sections, f"posttrain reward-report of {self.reward}")


def compared(groups: Sequence[Group], opinions: Sequence[Sequence[Sequence[float]]], seed: int = 0) -> Comparisons:
    """The comparisons of groups, each turned by a coin so that the first does not always win. opinions: [group][response][head].

    Ties and pairs that are both bad say nothing of which is better and are left out. Raises ValueError when nothing is left.
    """
    coin = random.Random(seed)
    margins, won, prompts = [], [], []
    for group, scores in zip(groups, opinions, strict=True):
        for pair in group.pairs():
            if pair.both_bad or pair.p == 0.5:
                continue
            i, j, first = (pair.i, pair.j, pair.p > 0.5) if coin.random() < 0.5 else (pair.j, pair.i, pair.p < 0.5)
            margins.append([a - b for a, b in zip(scores[i], scores[j], strict=True)])
            won.append(float(first))
            prompts.append(group.prompt_hash)
    if not margins:
        raise ValueError("data: no comparison with a winner; give pairs or rankings")
    each = np.asarray(margins, dtype=np.float64)
    spread = each.std(axis=1, ddof=1) if each.shape[1] > 1 else np.zeros(len(each))
    return Comparisons(each.mean(axis=1), spread, np.asarray(won), tuple(prompts))


def halves(found: Comparisons, seed: int = 0) -> tuple[Comparisons, Comparisons]:
    """Two halves that share no prompt: one to fit on, one to judge by."""
    prompts = sorted(set(found.prompt))
    random.Random(seed).shuffle(prompts)
    first = set(prompts[: len(prompts) // 2])
    inside = np.asarray([p in first for p in found.prompt])
    return found.take(inside), found.take(~inside)


def trusted(found: Comparisons, bins: int = 15, seed: int = 0) -> dict[str, Any]:
    """Accuracy, temperature, calibration before and after on the judging half, and the doubt of an ensemble (None for one head)."""
    fit, judge = halves(found, seed)
    if not len(fit.won) or not len(judge.won):
        raise ValueError("data: one prompt only; a temperature needs prompts to fit on and others to judge by")
    temperature = fit_temperature(fit.margin, fit.won)
    body: dict[str, Any] = {
        "temperature": temperature,
        "fitted_on": len(fit.won),
        "judged_on": len(judge.won),
        "plots": {},
    }
    for when, at in (("before", 1.0), ("after", temperature)):
        said = stated(judge.margin, at)
        made = excess_ece(said, judge.won, bins, seed=seed)
        body[when] = {"ece": made.ece, "floor": made.floor, "excess": made.excess.to_json()}
        body["plots"][when] = reliability(said, judge.won, bins)
    body["accuracy"] = cluster_bootstrap((~judge.wrong).astype(float), judge.prompt, seed=seed).to_json()
    body["spread"] = float(judge.spread.mean())
    doubt = disagreement(found)
    body["doubt"] = None if doubt is None else doubt.to_json()
    return body


def disagreement(found: Comparisons) -> Interval | None:
    """AUROC of doubt for errors of the mean: 0.5 says nothing, 1 tells every error. None for one head, or where all or none is wrong.

    Doubt is the spread over the size of the margin: how many deviations of its heads the mean is away from a tie, turned round.
    """
    if not found.spread.any() or found.wrong.all() or not found.wrong.any():
        return None
    return auroc(found.spread / np.maximum(np.abs(found.margin), 1e-9), found.wrong.astype(float))


def told(body: dict[str, Any]) -> str:
    """The result in one line."""
    change = (
        f"ECE {body['before']['ece']:.3f} before and {body['after']['ece']:.3f} after T = {body['temperature']:.2f}"
    )
    doubt = "" if body["doubt"] is None else f"; disagreement tells errors with AUROC {body['doubt']['estimate']:.3f}"
    accuracy = body["accuracy"]["estimate"]
    return f"accuracy {accuracy:.3f}; {change}{doubt}" if math.isfinite(accuracy) else change
