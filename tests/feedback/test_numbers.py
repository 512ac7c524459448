"""Rankings as typed, coefficients and aggregation against independent packages, planted truth, labels and exchange."""

from __future__ import annotations

import random

import choix
import krippendorff
import numpy as np
import pandas as pd
import pytest
from crowdkit.aggregation import DawidSkene
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

from posttrain.feedback import accounts, assigning, exchange, judging, labels
from posttrain.feedback.aggregate import dawid_skene, luce, rao_kupper, reliability
from posttrain.feedback.agreement import coefficients as c
from posttrain.feedback.agreement.report import agreement
from posttrain.feedback.ranking_text import RankingError, letter, parse_ranking, render
from posttrain.feedback.records import Record, records
from tests.feedback.conftest import Database
from tests.feedback.made import ledger, made

RNG = np.random.default_rng(3)


@pytest.mark.parametrize(
    ("text", "tiers"),
    [("0 > 1 = 2", [[0], [1, 2]]), ("[0] > [2] = [1]", [[0], [2, 1]]), ("A > B = C", [[0], [1, 2]]),
     ("2,0、1", [[2], [0], [1]]), ("０＞１＝２", [[0], [1, 2]])],
)  # fmt: skip
def test_rankings_are_read(text: str, tiers: list[list[int]]) -> None:
    assert parse_ranking(text, 3) == tiers


@pytest.mark.parametrize(
    ("text", "kind"),
    [("", "empty"), ("0 > x!", "bad_token"),
     ("0 > 7 > 1", "unknown_id"), ("0 > 0 > 1", "duplicate_id"), ("0 > 1", "missing_id"),
     ("0 , 1 > 2", "mixed_separators"), ("A > 1 > 2", "mixed_names"), ("0 > > 1", "bad_token")],
)  # fmt: skip
def test_nothing_is_guessed(text: str, kind: str) -> None:
    with pytest.raises(RankingError) as error:
        parse_ranking(text, 3)
    assert error.value.kind == kind


@given(st.permutations(range(6)), st.lists(st.booleans(), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_render_then_parse(order: list[int], cuts: list[bool]) -> None:
    tiers = [[order[0]]]
    for k, cut in zip(order[1:], cuts, strict=False):
        tiers.append([k]) if cut else tiers[-1].append(k)
    assert parse_ranking(render(tiers), 6) == tiers == parse_ranking(render(tiers, letter), 6)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_equals_krippendorff(level: str) -> None:
    for _ in range(5):
        table = RNG.integers(0, 4, (40, 5))
        table[RNG.random((40, 5)) < 0.3] = -1
        given_ = np.where(table < 0, np.nan, table.astype(float)).T
        ours = c.alpha(c.counted(table, 4), level)  # type: ignore[arg-type]
        assert ours == pytest.approx(krippendorff.alpha(reliability_data=given_, level_of_measurement=level), abs=1e-9)


def test_agreement_does_not_depend_on_how_rows_were_written() -> None:
    """The better answer always first in the file, nine of ten people right: that is agreement, not chance."""
    rng = random.Random(4)
    said = [
        Record(f"{i}{w}", f"item{i}", w, "ranking", 2, ((0,), (1,)) if rng.random() < 0.95 else ((1,), (0,)))
        for i in range(200)
        for w in ("ann", "bob", "cy")
    ]
    whole = agreement(said, "ranking", [], {}).whole
    assert whole["alpha (nominal)"].estimate > 0.6 and whole["alpha (rankings, Kemeny)"].estimate > 0.6


def test_kappas_equal_the_oracles() -> None:
    a, b = RNG.integers(0, 4, 80), RNG.integers(0, 4, 80)
    for ours, theirs in (("none", None), ("linear", "linear"), ("quadratic", "quadratic")):
        assert c.cohen(a, b, 4, ours) == pytest.approx(cohen_kappa_score(a, b, weights=theirs), abs=1e-12)  # type: ignore[arg-type]
    counts = c.counted(RNG.integers(0, 3, (50, 4)), 3)
    assert c.fleiss(counts) == pytest.approx(fleiss_kappa(counts), abs=1e-12)


def test_bradley_terry_equals_choix() -> None:
    pairs = [(int(i), int(j)) for i, j in (RNG.choice(5, 2, replace=False) for _ in range(200))]
    ours = luce.fit([[[i], [j]] for i, j in pairs], [0] * len(pairs), 5, prior=1.0).b[0]
    theirs = choix.opt_pairwise(5, pairs, alpha=0.5)
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_plackett_luce_equals_choix() -> None:
    """Orders of all five answers, and orders of some of them."""
    rng = np.random.default_rng(8)
    orders = [rng.permutation(5)[: rng.integers(2, 6)].tolist() for _ in range(120)]
    ours = luce.fit([[[k] for k in order] for order in orders], [0] * len(orders), 5, prior=1.0).b[0]
    assert ours == pytest.approx(choix.opt_rankings(5, orders, alpha=0.5), abs=1e-3)


def test_ties_recover_planted_strengths() -> None:
    b, v, rows = np.array([1.2, 0.4, 0.0, -0.5, -1.1]), 0.8, []
    for i in range(5):
        for j in range(i):
            x = np.array([np.exp(b[i]), np.exp(b[j]), v * np.exp((b[i] + b[j]) / 2)])
            rows += [[[[i], [j]], [[j], [i]], [[i, j]]][k] for k in RNG.choice(3, 300, p=x / x.sum())]
    fitted = luce.fit(rows, [0] * len(rows), 5)
    assert np.abs(fitted.b[0] - b).max() < 0.25 and fitted.tie == pytest.approx(v, abs=0.12)


def test_rao_kupper_recovers() -> None:
    b, t, rows = np.array([0.9, 0.0, -0.9]), 1.6, []
    for i in range(3):
        for j in range(i):
            a = np.exp(b)
            win, lose = a[i] / (a[i] + t * a[j]), a[j] / (a[j] + t * a[i])
            rows += [(i, j, float(o)) for o in RNG.choice([1.0, 0.0, 0.5], 500, p=[win, lose, 1 - win - lose])]
    fitted = rao_kupper.fit(rows, 3)
    assert np.abs(fitted.b - b).max() < 0.2 and fitted.threshold == pytest.approx(t, abs=0.15)


@pytest.mark.parametrize("seen", [1.0, 0.7])
def test_dawid_skene_equals_crowd_kit(seen: float) -> None:
    """Whole tables, and tables in which a third is missing."""
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 2, 400)
    rows = [
        (i, w, int(truth[i] if rng.random() < 0.75 + 0.05 * w else 1 - truth[i]))
        for i in range(400)
        for w in range(4)
        if w == i % 4 or rng.random() < seen
    ]
    ours = dawid_skene.fit(*map(list, zip(*rows, strict=True)), 2, 1.0, 1.0)  # type: ignore[arg-type]
    theirs = DawidSkene(n_iter=200, tol=1e-9).fit(pd.DataFrame(rows, columns=["task", "worker", "label"])).probas_
    assert (
        np.abs(ours.posterior - theirs.sort_index()[[0, 1]].to_numpy()).max() < 2e-2
    )  # crowd-kit stops by its loss, ours by the posteriors


def test_a_careless_annotator_is_found_and_weighs_less() -> None:
    rng, rows, item, who = random.Random(0), [], [], []
    for i in range(80):
        best = rng.randrange(2)
        for w, right in (("good", 0.95), ("fair", 0.85), ("blind", 0.5), ("blind too", 0.5)):
            first = best if rng.random() < right else 1 - best
            rows.append([[first], [1 - first]])
            item.append(i)
            who.append(w)
    q = reliability.fit(rows, item, who, 2, 80).q
    assert (
        q["good"].estimate > q["fair"].estimate > q["blind"].estimate and q["good"].estimate > q["blind too"].estimate
    )


def test_labels_of_a_ledger_and_the_way_back(database: Database) -> None:
    opened, queue = ledger(database(), made(4), overlap=2)
    rng = random.Random(1)
    for name in ("ann", "bob"):
        for turn in range(4):
            with opened.write() as connection:
                person = accounts.named(connection, name)
                task = assigning.next_task(connection, person, queue, rng)
                assert isinstance(task, assigning.Task)
                judging.submit(connection, person, task.id, f"{turn}", judging.Answer("ranking", ((0,), (1, 2))))
    with opened.write() as connection:
        assert assigning.next_task(connection, accounts.named(connection, "cy"), queue, rng) == assigning.Nothing(
            "done"
        )
    with opened.read() as connection:
        found = labels.labels(connection, queue)
        table = list(exchange.rows(connection, queue, True))
        assert len(records(connection, queue.id)) == 8
    assert len(found.groups) == 4
    for made_ in found.groups:
        assert {(p.i, p.j) for p in made_.preferences} == {(0, 1), (0, 2)} and all(
            0.6 < p.p < 1 and 0 < p.weight <= 1 for p in made_.preferences
        )
    other, place = ledger(database(), [])
    with other.write() as connection:
        assert exchange.load(connection, place, table) == 8
    with other.read() as connection:
        back = list(exchange.rows(connection, place, True))
    assert said(back) == said(table)
    assert exchange.guarded("=1+1") == "'=1+1" and exchange.guarded("a") == "a"


def said(rows: list[exchange.Row]) -> list[str]:
    """Who said what of which prompt, in an order of its own."""
    return sorted(str((r["prompt"], j["who"], j["ranking"], j["display"])) for r in rows for j in r["judgments"])
