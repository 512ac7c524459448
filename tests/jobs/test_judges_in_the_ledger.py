"""Verdicts of judges beside those of people: kept once, corrected by new rows, never counted as people's; and joined by `winrate`."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.group import Group, group
from posttrain.feedback import accounts, assigning, history, judges, judging, queues
from posttrain.feedback import labels as ledger_labels
from posttrain.feedback.ledger import Ledger
from posttrain.feedback.records import records
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.job import Context
from posttrain.jobs.ledger_verdicts import by_pairs, by_scores, tiers
from posttrain.rewards.judge import joined
from tests.client.stub import serving
from tests.feedback.made import ledger, made
from tests.rewards.judges import by_utility, worth

QUIET = Context(bars=False)


def said(asked: dict[str, Any]) -> str:
    text = asked["messages"][0]["content"]
    return "no verdict" if "question 5" in text else by_utility(worth)(text)


def test_verdicts_are_kept_once_and_corrected_by_new_rows(tmp_path: Path) -> None:
    opened, queue = ledger(tmp_path, made(3, 2))
    with opened.write() as connection:
        first = judges.keep(connection, queue, "m", made(4, 2), [((0,), (1,)), ((0, 1),), "both_bad", None])
        assert (first.added, first.refused) == (3, {"unparsed": 1})
        again = judges.keep(connection, queue, "m", made(4, 2), [((0,), (1,)), ((1,), (0,)), "both_bad", None])
        assert (again.added, again.known, again.corrected) == (0, 2, 1)
    with opened.read() as connection:
        found = records(connection, queue.id, judges=True)
        assert {r.tiers for r in found if r.model} == {((0,), (1,)), ((0, 1),), ((1,), (0,))} and len(found) == 3
        assert records(connection, queue.id) == [] and not history.verify(connection).faults
        assert [p.kind for p in accounts.people(connection) if p.name == "m"] == ["model"]
    with opened.write() as connection:
        accounts.named(connection, "ann")
        with pytest.raises(ValueError, match="a person of this ledger has that name"):
            judges.keep(connection, queue, "ann", made(1, 2), [((0,), (1,))])
        rating = queues.make(connection, "marks", queues.Settings(question="rating"))
        with pytest.raises(ValueError, match="asks for rating"):
            judges.keep(connection, rating, "m", made(1, 2), [((0,), (1,))])


def test_a_judge_takes_no_place_and_is_no_person(tmp_path: Path) -> None:
    opened, queue = ledger(tmp_path, made(1, 2), overlap=2)
    with opened.write() as connection:
        judges.keep(connection, queue, "m", made(1, 2), [((1,), (0,))])
        for name in ("ann", "bob"):
            who = accounts.named(connection, name)
            task = assigning.next_task(connection, who, queue, random.Random(0))
            assert isinstance(task, assigning.Task), "the judge took a person's place"
            judging.submit(connection, who, task.id, name, judging.Answer("ranking", ((0,), (1,))))
    with opened.read() as connection:
        (people,) = ledger_labels.labels(connection, queue, "luce").groups
        (both,) = ledger_labels.labels(connection, queue, "luce", judges=True).groups
    assert people.facts["by"] == "people" and people.facts["n_judgments"] == 2
    assert both.facts["by"] == "people and judges" and both.facts["n_judgments"] == 3
    assert people.pairs()[0].p > both.pairs()[0].p


def test_the_job_keeps_its_verdicts_and_an_export_brings_them_back(tmp_path: Path) -> None:
    rows = [group(f"question {i}", f"q={i}.5", "q=3") for i in range(12)]
    data = tmp_path / "d.jsonl"
    data.write_text("".join(json.dumps(g.to_json()) + "\n" for g in rows))
    place = str(tmp_path / "prefs.db")
    with serving(said) as stub:
        fields = {"job": "judge", "data": str(data), "model": "m", "url": stub.url, "ledger": place, "queue": "q"}
        build_job({**fields, "out": str(tmp_path / "a.jsonl")}).run(QUIET)
        build_job({**fields, "out": str(tmp_path / "a.jsonl")}).run(QUIET)
    with Ledger(place).read() as connection:
        found = records(connection, queues.find(connection, "q").id, judges=True)
    assert len(found) == 11 and {r.tiers for r in found} == {((0,), (1,)), ((1,), (0,))}
    build_job({"job": "labels", "ledger": place, "out": str(tmp_path / "all.jsonl"), "shape": "ledger"}).run(QUIET)
    other = str(tmp_path / "other.db")
    build_job({"job": "ledger", "ledger": other, "mode": "import", "file": str(tmp_path / "all.jsonl")}).run(QUIET)
    with Ledger(other).read() as connection:
        again = records(connection, queues.find(connection).id, judges=True)
    assert Counter((r.tiers, r.model) for r in again) == Counter((r.tiers, r.model) for r in found)


def test_win_rates_from_few_people_and_many_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """True rate .6; the judge says .8 of everything: people alone are right and wide, the joined interval is right and narrower."""
    rng = random.Random(1)
    truth = [rng.random() < 0.6 for _ in range(700)]
    lean = [t if rng.random() < 0.9 else True for t in truth]
    opened, queue = ledger(tmp_path, made(700, 2))
    with opened.write() as connection:
        judges.keep(connection, queue, "m", made(700, 2), [((0,), (1,)) if v else ((1,), (0,)) for v in lean])
        who = accounts.named(connection, "ann")
        for _ in range(120):
            task = assigning.next_task(connection, who, queue, random.Random(0))
            assert isinstance(task, assigning.Task)
            (content,) = judging.items.read(connection, [task.item])
            won = truth[int(content.group.prompt_text.split()[1])]
            judging.submit(
                connection, who, task.id, task.id, judging.Answer("ranking", ((0,), (1,)) if won else ((1,), (0,)))
            )
    opened.close()
    job = {"job": "winrate", "ledger": str(tmp_path / "prefs.db"), "judge": "m", "out": str(tmp_path / "w.json")}
    told = build_job(job).run(QUIET)
    assert (told["labelled"], told["judged_only"]) == (120, 580) and json.loads(
        (tmp_path / "w.json").read_text()
    ) == told
    whole, people = told["joined"], told["people_alone"]
    assert whole["low"] - 0.05 < sum(truth) / 700 < whole["high"] + 0.05  # who is asked is drawn anew each time
    assert whole["high"] - whole["low"] < 0.7 * (people["high"] - people["low"])
    assert told["judge_alone"] > sum(truth) / 700 + 0.02 and "weight of the judge" in capsys.readouterr().out
    with pytest.raises(ValueError, match="judge 'x' has no verdicts in this ledger; there are: m"):
        build_job({**job, "judge": "x"}).run(QUIET)
    with pytest.raises(ValueError, match="no item of queue main that m judged has both answers"):
        build_job({**job, "better": "nobody"}).run(QUIET)


def test_from_comparisons_to_tiers() -> None:
    assert by_pairs(2, [joined(0, 1, "A", "B")]) == ((0,), (1,)) and by_pairs(2, [joined(0, 1, "A", "A")]) == ((0, 1),)
    assert by_pairs(2, [joined(0, 1, "bad", "bad")]) == "both_bad" and by_pairs(2, [joined(0, 1, None, None)]) is None
    three = [joined(0, 1, "A", "B"), joined(0, 2, "B", "A"), joined(1, 2, "B", "A")]
    assert by_pairs(3, three) == ((2,), (0,), (1,)) and tiers([1.0, 1.0]) == ((0, 1),)
    assert by_scores(Group(group("q", "a").prompt, group("q", "a", "b").responses)) is None
