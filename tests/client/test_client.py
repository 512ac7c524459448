"""The client against a server that misbehaves: everything arrives once, in order, within the budget, and no secret gets out."""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from pathlib import Path
from typing import Any

import pytest

from posttrain.client import Budget, BudgetExceeded, CallFailed, Endpoint, Price, Recorded, Store
from posttrain.client.money import most_tokens_in
from posttrain.client.pace import Pace, pause
from posttrain.client.wire import call, failure, key_of, read_reply
from posttrain.core.chat import Message, as_chat
from posttrain.core.group import Group, answer
from posttrain.core.protocols import Request, Sampling
from tests.client.stub import Faults, serving

SHORT = Sampling(max_tokens=20, temperature=0.5)


def requests(n: int) -> list[Request]:
    return [Request(as_chat(f"question {i}"), SHORT, seed=i) for i in range(n)]


def echo(asked: dict[str, Any]) -> str:
    return f"answer to {asked['messages'][-1]['content']} seed {asked['seed']}"


def texts(groups: list[Group]) -> list[list[str]]:
    return [[r.text for r in g.responses] for g in groups]


def test_everything_arrives_in_order_whatever_goes_wrong(tmp_path: Path) -> None:
    faults = Faults(busy=0.15, server=0.1, slow=0.03, cut=0.1, seconds=0.6)
    with serving(echo, faults) as stub:
        model = Endpoint(stub.url, "m", store=tmp_path / "a.db", timeout=0.4, unit=0.01)
        made = model.generate(requests(120))
        assert texts(made) == [[f"answer to question {i} seed {i}"] for i in range(120)]
        assert all(model.counts[kind] > 0 for kind in ("busy", "server", "timeout", "broken")), model.counts
        before = sum(stub.tried.values())
        again = Endpoint(stub.url, "m", store=tmp_path / "a.db").generate(requests(120))
        assert texts(again) == texts(made) and sum(stub.tried.values()) == before, "an answered call was sent again"


def test_answers_of_one_request_differ_by_seed_and_equal_calls_are_sent_once() -> None:
    with serving(echo) as stub:
        model = Endpoint(stub.url, "m")
        (made,) = model.generate([Request(as_chat("a"), SHORT, n=3, seed=5)])
        assert len({r.text for r in made.responses}) == 3 and made.responses[0].by == "m"
        twice = model.generate([requests(1)[0], requests(1)[0]])
        assert texts(twice)[0] == texts(twice)[1]
        assert sum(stub.billed.values()) == 4
        events = list(model.stream(requests(2)))
        assert [e.index for e in events] == [0, 0] and events[1].text == "answer to question 1 seed 1"


@pytest.mark.parametrize("faults", [Faults(), Faults(cut=0.3, slow=0.2, seconds=0.3)])
def test_the_budget_is_never_passed(tmp_path: Path, faults: Faults) -> None:
    with serving(echo, faults) as stub:
        model = Endpoint(stub.url, "m", store=tmp_path / "b.db", budget=Budget(tokens=1500), timeout=0.15, unit=0.01)
        with pytest.raises(BudgetExceeded, match="budget of 1,500"):
            model.generate(requests(150))
        assert isinstance(model.store, Store)
        assert 0 < stub.tokens <= 1500 and model.store.held[0] <= 1500
        kept = model.store.spent.calls
        assert kept > 0
        richer = Endpoint(stub.url, "m", store=tmp_path / "b.db", budget=Budget(tokens=10**6), timeout=2, unit=0.01)
        assert len(richer.generate(requests(150))) == 150 and richer.counts["known"] == kept


def test_money_and_dry_run() -> None:
    with serving(echo) as stub:
        model = Endpoint(stub.url, "m", price=Price(1.0, 10.0), budget=Budget(money=0.001))
        told = model.estimate(requests(10))
        assert told.calls == 10 and told.tokens_out == 200 and told.money > 0.002 and not stub.tried
        with pytest.raises(BudgetExceeded, match="budget"):
            model.generate(requests(10))
        assert isinstance(model.store, Store) and model.store.spent.money <= 0.001
        assert model.estimate(requests(10)).known == model.store.spent.calls


def test_a_call_left_open_by_a_kill_counts_as_spent_unless_billed_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    store.reserve("k", 100, 1.0, Budget())
    store.close()
    store = Store(tmp_path / "s.db")
    assert store.held == (100, 1.0)
    store.reserve("k", 100, 1.0, Budget(tokens=300))
    assert store.held == (200, 2.0)
    store.reserve("k", 100, 1.0, Budget(tokens=300), once=True)
    assert store.held == (200, 2.0)
    with pytest.raises(BudgetExceeded):
        store.reserve("k", 101, 1.0, Budget(tokens=300))
    store.settle("k", {"text": "x"}, 3, 4, 0.1)
    assert store.held == (107, 1.1) and store.find("k") == {"text": "x"} and store.spent.lost == 1.0


def test_secrets_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", "sk-very-secret")
    with serving(echo, Faults(busy=1.0)) as stub:
        model = Endpoint(stub.url, "m", store=tmp_path / "s.db", key_variable="STUB_KEY", tries=2, unit=0.01)
        with pytest.raises(CallFailed, match=r"\[key\]") as caught:
            model.generate(requests(1))
        assert stub.headers[0] == "Bearer sk-very-secret"
        assert "secret" not in str(caught.value) + repr(model) + str(model.counts)
        assert b"very-secret" not in (tmp_path / "s.db").read_bytes()
    with pytest.raises(ValueError, match="leave keys out"):
        Endpoint("http://user:pw@127.0.0.1/v1", "m")
    with pytest.raises(ValueError, match="no address"):
        Endpoint("127.0.0.1:80", "m")


def test_a_refusal_stops_at_once_and_void_goes_on() -> None:
    with serving(echo) as stub:
        lost = Endpoint(stub.url.replace("/v1", "/v1"), "m", tries=2, unit=0.01, on_error="void")
        assert lost.generate(requests(1))[0].responses[0].text
    gone = Endpoint(stub.url, "m", tries=2, unit=0.01, on_error="void")
    (made,) = gone.generate(requests(1))
    assert made.responses[0].stop == "error" and gone.counts["void"] == 1
    refused = failure(401, "no such key", None)
    assert refused is not None and refused.kind == "refused" and "check the key" in str(refused)
    assert failure(200, "", None) is None
    kinds = [failure(status, "x", None) for status in (408, 409, 429, 500, 503, 400, 404)]
    assert [f.kind for f in kinds if f] == ["busy"] * 3 + ["server"] * 2 + ["refused"] * 2


def test_a_running_event_loop_is_no_hindrance() -> None:
    async def inside(url: str) -> list[Group]:
        return Endpoint(url, "m").generate(requests(3))

    with serving(echo) as stub:
        assert len(asyncio.run(inside(stub.url))) == 3


def test_pace_and_pauses() -> None:
    async def grow() -> Pace:
        pace = Pace(8, 10)
        for _ in range(60):
            pace.won()
        assert pace.limit == 10
        pace.refused()
        assert pace.limit == 8
        for _ in range(50):
            pace.refused()
        assert pace.limit == 1
        return pace

    asyncio.run(grow())
    rng = random.Random(0)
    assert all(0 <= pause(k, None, rng) <= min(60, 2**k) for k in range(9) for _ in range(50))
    assert pause(0, "7", rng) >= 7 and pause(0, "nonsense", rng) <= 1 and pause(0, "1e9", rng) <= 600
    assert 3 < pause(0, email.utils.formatdate(time.time() + 5, usegmt=True), rng) < 7


def test_replies_of_every_shape() -> None:
    for text in ("", "{", "[]", '{"choices": []}', '{"choices": [{"message": {"content": 3}}]}', "null"):
        with pytest.raises(CallFailed) as caught:
            read_reply(text)
        assert caught.value.kind == "broken"
    full = read_reply(
        '{"choices": [{"finish_reason": "length", "message": {"content": null, "reasoning_content": "hm", "tool_calls": '
        '[{"function": {"name": "f", "arguments": "{\\"a\\": 1}"}}, {"function": {"name": "g", "arguments": "{"}}]}}]}'
    )
    assert full.body["calls"] == [{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {"unparsed": "{"}}]
    assert full.body["thinking"] == "hm" and full.body["stop"] == "length" and full.tokens_in is None


def test_keys_are_by_content() -> None:
    one, other = (call(r, 0, "m", {}) for r in requests(2))
    assert key_of(one, url="u") == key_of(dict(reversed(one.items())), url="u")
    assert len({key_of(one, url="u"), key_of(one, url="v"), key_of(other, url="u")}) == 3
    assert most_tokens_in((Message("user", "日本"),)) >= 6


def test_recorded_models_answer_once(tmp_path: Path) -> None:
    class Local:
        calls = 0

        def generate(self, asked: Any) -> list[Group]:
            Local.calls += len(asked)
            return [
                Group(
                    r.prompt, tuple(answer(f"{r.prompt_text if hasattr(r, 'prompt_text') else i}") for i in range(r.n))
                )
                for r in asked
            ]

        def stream(self, asked: Any) -> Any:
            raise AssertionError

    asked = [Request(as_chat(f"q{i}"), SHORT, n=2) for i in range(5)]
    first = Recorded(Local(), "weights-1", tmp_path / "r.db")
    made = texts(first.generate(asked))
    again = Recorded(Local(), "weights-1", tmp_path / "r.db")
    assert texts(again.generate(asked)) == made and Local.calls == 5 and again.known == 5
    Recorded(Local(), "weights-2", tmp_path / "r.db").generate(asked)
    assert Local.calls == 10
