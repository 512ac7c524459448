"""Dry runs, prices by model, answers judged once, `refine`: what the jobs that ask models share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.client import Estimate, Price, Store
from posttrain.core.files import read_lines
from posttrain.core.group import Group, Score, group
from posttrain.jobs.answerer import Answerer, listed
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.job import Context
from posttrain.synth import Refiner
from posttrain.synth.refine import Refined, Round
from posttrain.synth.watch import alarms, course
from tests.client.stub import Stub, serving
from tests.rewards.judges import Scripted, by_utility, worth

QUIET = Context(bars=False)


def lines(path: Path, groups: list[Group]) -> str:
    path.write_text("".join(json.dumps(g.to_json()) + "\n" for g in groups), encoding="utf-8")
    return str(path)


def judging(tmp: Path, stub: Stub, **more: Any) -> dict[str, Any]:
    rows = [group(f"question {i}", f"q={i % 7}.5", "q=3") for i in range(60)]
    data = lines(tmp / "d.jsonl", rows)
    return {
        "job": "judge",
        "data": data,
        "out": str(tmp / "j.jsonl"),
        "model": "m",
        "url": stub.url,
        "max_tokens": 50,
        **more,
    }


def test_a_dry_run_sends_and_writes_nothing_and_bounds_the_price(tmp_path: Path) -> None:
    with serving(lambda asked: by_utility(worth)(asked["messages"][-1]["content"])) as stub:
        priced = judging(tmp_path, stub, price_in=1.0, price_out=10.0)
        told = build_job({**priced, "dry_run": True}).run(QUIET)
        assert isinstance(told, Estimate) and told.calls == 120 and told.tokens_out == 120 * 50 and not stub.tried
        assert [f.name for f in tmp_path.iterdir()] == ["d.jsonl"]
        build_job(priced).run(QUIET)
        store = Store(str(tmp_path / "j.jsonl.answers.db"))
        assert 0 < store.spent.money <= told.money and store.spent.calls == 120
        again = build_job({**priced, "dry_run": True}).run(QUIET)
        assert (again.calls, again.known, again.money) == (0, 120, 0.0)
        seeds = lines(tmp_path / "s.jsonl", [group(f"Name a book about {i}.", "Emma.") for i in range(5)])
        fields = {"job": "synth", "generator": "self_instruct", "data": seeds, "n": 3, "model": "m", "url": stub.url}
        before = sum(stub.tried.values())
        made = build_job({**fields, "out": str(tmp_path / "y.jsonl"), "dry_run": True, "max_tokens": 9}).run(QUIET)
        assert made.calls == 15 and made.tokens_out == 135 and sum(stub.tried.values()) == before
        assert not (tmp_path / "y.jsonl").exists() and not list(tmp_path.glob("y.jsonl*"))
        local = build_job(
            {**fields, "model": "base", "url": None, "out": str(tmp_path / "y.jsonl"), "dry_run": True}
        ).run(QUIET)
        assert local.calls == 15 and local.money == 0.0


def test_prices_by_model(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("qwen3-8b: {in: 0.1, out: 0.4}\nfree: {}\nodd: {in: cheap}\nlow: {in: -1}\n", encoding="utf-8")
    at = {"url": "http://127.0.0.1:1/v1", "prices": str(file)}
    assert Answerer(model="qwen3-8b", **at).price() == Price(0.1, 0.4) and listed(str(file), "free") == Price()
    assert Answerer(model="x", price_in=1.0, price_out=2.0).price() == Price(1.0, 2.0)
    for fields, why in (
        ({"model": "other", **at}, "models there: qwen3-8b, free, odd, low"),
        ({"model": "odd", **at}, "prices: .*odd: could not convert"),
        ({"model": "low", **at}, "low: price.input is -1.0"),
        ({"model": "qwen3-8b", "price_in": 1.0, **at}, "give one of them"),
        ({"model": "m", "url": at["url"], "max_cost": 1.0}, "a limit in money needs prices"),
        ({"model": "m", "url": at["url"], "prices": str(tmp_path / "none.yaml")}, "cannot read"),
    ):
        with pytest.raises(ValueError, match=why):
            Answerer(**fields).price()
    with pytest.raises(ValueError, match="leave `raw` out"):
        Answerer(model="m", url=at["url"], raw=True).open()


def test_nobody_compares_a_text_with_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [group("a", "q=1", "q=1", "q=2"), group("b", "q=1", "q=1"), group("c", "q=3", "q=1")]
    with serving(lambda asked: by_utility(worth)(asked["messages"][-1]["content"])) as stub:
        fields = {**judging(tmp_path, stub), "data": lines(tmp_path / "r.jsonl", rows)}
        build_job(fields).run(QUIET)
        made = read_lines(tmp_path / "j.jsonl")
        assert [len(r["responses"]) for r in made] == [2, 2] and sum(stub.billed.values()) == 4
        assert "left out: 1 rows whose answers all say the same" in capsys.readouterr().err
        alike = lines(tmp_path / "alike.jsonl", rows[1:2])
        with pytest.raises(ValueError, match="none of 1 rows has two different answers"):
            build_job({**fields, "data": alike}).run(QUIET)


def improving(asked: dict[str, Any]) -> str:
    """A critic that raises every answer by one up to three, then finds nothing to say; and the judge of the same server."""
    text = asked["messages"][-1]["content"]
    if "<verdict>" in text:
        return by_utility(worth)(text)
    value = worth(text.split("Answer:")[1])
    if "Revise the answer" in text:
        return f"q={value + 1:.1f}"
    return "The answer is right." if value >= 3 else "It could say more."


def test_refine_writes_finals_pairs_critiques_and_its_course(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = lines(tmp_path / "a.jsonl", [group(f"What is said of {i}?", f"q={i % 3}.5") for i in range(9)])
    out = tmp_path / "refined"
    with serving(improving) as stub:
        judge = {"name": "judge", "model": "m", "url": stub.url}
        fields = {"job": "refine", "data": data, "model": "m", "url": stub.url, "out": str(out), "accept": judge}
        made = build_job({**fields, "rounds": 5}).run(QUIET)
        assert "critic and acceptor are the same model" in capsys.readouterr().err
        assert {m.best for m in made} == {"q=3.5"} and {m.reason for m in made} == {"passed"}
        told = json.loads((out / "report.json").read_text(encoding="utf-8"))
        assert told["changed"] == told["pairs"] == 9 and told["warning"] and told["ended"] == {"passed": 9}
        assert told["rounds"][0]["taken"] == 0 and told["rounds"][1]["taken"] == 9
        finals = [Group.from_json(r) for r in read_lines(out / "finals.jsonl")]
        pairs = [Group.from_json(r) for r in read_lines(out / "pairs.jsonl")]
        assert {g.responses[0].text for g in finals} == {"q=3.5"} and all(len(g.responses) == 2 for g in pairs)
        assert len(read_lines(out / "critiques.jsonl")) > 18
        short = build_job(
            {**fields, "rounds": 1, "out": str(tmp_path / "short"), "accept": {**judge, "model": "other"}}
        ).run(QUIET)
        assert {m.reason for m in short} == {"rounds"} and "same model" not in capsys.readouterr().err
        rules = tmp_path / "rules.yaml"
        rules.write_text("- {id: only, text: Say numbers alone.}\n", encoding="utf-8")
        again = build_job(
            {
                **fields,
                "constitution": str(rules),
                "accept": {"name": "length", "limit": 9},
                "out": str(tmp_path / "len"),
            }
        ).run(QUIET)
        assert {r.principles for m in again for r in m.rounds} == {("only",)}


def test_the_course_of_critique_is_watched_and_alarms_are_raised() -> None:
    def row(i: int, revision: str) -> Refined:
        start = f"The book number {i} stands on the second shelf."
        asked = group(f"Where is book {i}?", facts={"benign": True})
        return Refined(
            asked,
            start,
            revision,
            "m",
            [Round(("a",), "c", revision, "accepted", 1.0), Round(("a",), "ok", "", "passed")],
        )

    calm = course([row(i, f"Book {i} stands there, on shelf two.") for i in range(20)])
    assert [r["round"] for r in calm] == [0, 1, 2] and [r["taken"] for r in calm] == [0, 20, 0] and alarms(calm) == []
    assert calm[0]["length"]["estimate"] == 1.0 and calm[2]["length"] == calm[1]["length"]
    refusing = course([row(i, "I'm sorry, but I cannot help with that. " * 3) for i in range(20)])
    told = " ".join(alarms(refusing))
    assert "times their length" in told and "benign requests are refused" in told and "distinct word pairs" in told
    with pytest.raises(ValueError, match="nothing to watch"):
        course([])


def test_the_refiner_takes_any_reward_and_never_ends_below_the_start() -> None:
    def liking(groups: list[Group]) -> list[list[Score]]:
        return [[Score(worth(r.text)) for r in g.responses] for g in groups]

    worse = Scripted(lambda text: "q=0.1" if "Revise" in text else "It is wrong.")
    (made,) = Refiner(worse, liking, k=4).refine([group("What is said?", "q=2.5")])
    assert made.best == made.start == "q=2.5" and made.reason == "rejected"
