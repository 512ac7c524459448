"""A reward model's scores as probabilities: planted temperatures are found, planted doubt tells errors, the page shows both plots."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from posttrain.core.group import Preference, group
from posttrain.jobs.job import Context
from posttrain.jobs.reward_report import Comparisons, RewardReport, compared, disagreement, halves, trusted
from tests.jobs.tiny_run import pairs, reward_run


def planted(n: int = 4000, temperature: float = 3.0) -> Comparisons:
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 4, n)
    won = (rng.random(n) < 1 / (1 + np.exp(-margin / temperature))).astype(float)
    return Comparisons(margin, np.zeros(n), won, tuple(str(i // 2) for i in range(n)))


def test_a_planted_temperature_is_found_and_heals_the_calibration() -> None:
    body = trusted(planted())
    assert body["temperature"] == pytest.approx(3.0, rel=0.1)
    assert body["before"]["excess"]["estimate"] > 0.08 and body["after"]["excess"]["estimate"] < 0.02
    assert body["doubt"] is None and len(body["plots"]["after"]) == 15
    fit, judge = halves(planted())
    assert not set(fit.prompt) & set(judge.prompt) and len(fit.won) + len(judge.won) == 4000


def test_spread_that_grows_with_the_error_is_seen() -> None:
    rng = np.random.default_rng(1)
    truth, noise = rng.normal(0, 1, 600), rng.choice([0.1, 2.0], 600)
    heads = truth[:, None] + noise[:, None] * (rng.normal(0, 1, (600, 4)) + rng.normal(0, 1, (600, 1)))
    found = Comparisons(heads.mean(1), heads.std(1, ddof=1), (truth > 0).astype(float), tuple(map(str, range(600))))
    doubt = disagreement(found)
    assert doubt is not None and doubt.low > 0.65


def test_pairs_are_turned_by_a_coin_and_ties_left_out() -> None:
    groups = [group(f"q{i}", "a", "b", preferences=(Preference(0, 1),)) for i in range(200)]
    groups.append(group("tie", "a", "b", preferences=(Preference(0, 1, p=0.5),)))
    found = compared(groups, [[[2.0, 4.0], [1.0, 1.0]]] * 201)
    assert len(found.won) == 200 and 60 < found.won.sum() < 140
    assert not found.wrong.any() and np.allclose(np.abs(found.margin), 2.0) and np.allclose(found.spread, np.sqrt(2))
    with pytest.raises(ValueError, match="no comparison with a winner"):
        compared(groups[-1:], [[[1.0], [2.0]]])


def test_the_page_has_both_plots(tmp_path: Path) -> None:
    context = Context(Console(file=io.StringIO()), bars=False)
    job = RewardReport(
        reward=reward_run(tmp_path), data=pairs(tmp_path / "p.jsonl", 24), out=str(tmp_path / "r"), bins=3
    )
    body = job.run(context)
    page = (tmp_path / "r" / "report.html").read_text()
    assert "Reliability before temperature scaling" in page and "Reliability after temperature scaling" in page
    assert body["judged_on"] == 12 and "Below 1000" in page
