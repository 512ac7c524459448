"""A model that answers while people judge: prompts without answers, each answered once, whoever opens the page again."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from posttrain.core.group import Group, group
from posttrain.core.protocols import Request
from posttrain.feedback import items, queues
from posttrain.feedback.ledger import Ledger
from posttrain.feedback.records import records
from posttrain.feedback.server.live import Live
from posttrain.jobs.annotate import Annotate
from posttrain.jobs.feeding import Feed
from posttrain.jobs.job import Context
from tests.feedback.made import client, ledger
from tests.jobs.test_people import People, rows
from tests.jobs.tiny_run import base


class Told(Context):
    """A context that keeps what was said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@dataclass
class Slow:
    """A model whose answers come when the test lets them."""

    asked: list[str] = field(default_factory=list)
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def generate(self, requests: list[Request]) -> list[Group]:
        assert self.go.acquire(timeout=20)
        out = []
        for request in requests:
            text = Group(request.prompt).prompt_text
            self.asked.append(text)
            if "too long" in text:
                raise ValueError("the prompt has 900 tokens, the model takes 256")
            out.append(group(text, *(f"{text} {k}" for k in range(request.n))))
        return out


def test_people_begin_before_the_model_has_finished(tmp_path: Path) -> None:
    """The first item can be judged while the second is not yet made; whoever waits is told; a prompt that is too long is counted."""
    opened, queue = ledger(tmp_path, [], overlap=1)
    told = Told()
    feed = Feed(opened, queue, told, coming=True)
    model = Slow()
    browser, headers = client(opened, feeding=lambda: feed.coming)
    assert "data-poll" in browser.get("/next?as=html").text
    thread = threading.Thread(target=feed.answer, args=(Live(model, 3), [group(t) for t in ("one", "too long", "two")]))
    thread.start()
    model.go.release()
    while not (task := browser.get("/next").json())["task"]:
        thread.join(0.02)
    assert feed.coming and [a["text"] for a in sorted(task["answers"], key=lambda a: a["text"])] == [
        f"one {k}" for k in range(3)
    ]
    body = {"task": task["task"], "client": "c", "kind": "ranking", "ranking": "0 > 1 > 2"}
    assert browser.post("/judgments", json=body, headers=headers).status_code == 201
    model.go.release(2)
    thread.join(20)
    assert not feed.coming and model.asked == ["one", "too long", "two"]
    assert browser.get("/next").json()["task"] and "data-poll" not in browser.get("/next?as=html").text
    assert any("takes 256" in line for line in told.lines)
    assert told.lines[-1] == "2 items from the model, 1 left out; 1 times: no answer"


def test_a_model_that_dies_lets_nobody_wait(tmp_path: Path) -> None:
    opened, queue = ledger(tmp_path, [])
    feed = Feed(opened, queue, Context(), coming=True)

    class Broken:
        def generate(self, requests: list[Request]) -> list[Group]:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        feed.answer(Live(Broken()), [group("one")])  # type: ignore[arg-type]
    assert not feed.coming


def test_prompts_are_answered_once(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`posttrain annotate prefs.db --model M --data prompts.jsonl`, twice: rows with answers stay as they are, prompts get n answers."""
    model, place = base(tmp_path_factory.getbasetemp()), tmp_path / "prefs.db"
    asked = [group("Say one."), group("Say two."), group("Say three.", "three", "3")]
    told = Told()
    job = Annotate(
        ledger=str(place), model=model, data=rows(tmp_path / "prompts.jsonl", asked), n=2, settings={"overlap": 1}, port=0,
        browser=False, until_done=True,
    )  # fmt: skip
    crowd = People(place, until=9)  # for as long as the page is open
    crowd.start()
    job.run(told)
    crowd.until = 0
    crowd.join(20)
    assert crowd.fault is None and any("2 items from the model, 0 left out" in line for line in told.lines)
    with Ledger(place) as book, book.read() as connection:
        queue = queues.find(connection)
        made = {i.group.prompt_text: [r.text for r in i.group.responses] for i in items.each(connection, queue)}
        assert len(records(connection, queue.id)) == 3
        left = items.unanswered(connection, queue, [*asked, group("Say four."), group("Say four.")])
        assert [g.prompt_text for g in left] == [group("Say four.").prompt_text]
    assert sorted(len(texts) for texts in made.values()) == [2, 2, 2] and ["three", "3"] in made.values()
    job.run(told)
    assert sum("from the model" in line for line in told.lines) == 1
