"""The page in a real Chromium, by keyboard alone: twenty items with ties, a skip, an undo, a reload; agreement moves; the file trains."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from posttrain.core.files import read_lines
from posttrain.core.group import group
from posttrain.feedback import accounts, assigning, judging, queues
from posttrain.feedback.ledger import Ledger
from posttrain.feedback.records import records
from posttrain.jobs.feedback import Labels
from posttrain.jobs.train import Train
from tests.feedback.made import ledger
from tests.models.tiny import tiny_directory
from tests.slow.annotation import Server, free_port, picture, session, sign_in

pytestmark = pytest.mark.slow
GUIDELINE = """## What makes an answer better

1. **It is right.** A wrong fact loses to a shorter true one.
2. It does what was asked, in the language of the question.
3. It is as short as it can be.

Tie answers that you would be equally happy to receive."""
THINGS = {
    "buildings": ("lighthouse", "canal", "archive", "bridge", "quarry", "granary", "observatory", "aqueduct", "windmill", "viaduct",
                  "cairn", "dovecote"),
    "nature": ("heron", "glacier", "tide", "comet", "orchard", "estuary", "herbarium", "menagerie"),
    "tools": ("atlas", "printing press", "loom", "sundial", "compass", "ferry", "abacus", "telegraph", "lantern", "portolan",
              "almanac", "ledger"),
}  # fmt: skip
SUBJECTS = [thing for things in THINGS.values() for thing in things]


def article(subject: str) -> str:
    return "An" if subject[0] in "aeiou" else "A"


def answers(subject: str) -> list[str]:
    """Three answers, the first the best, the third the worst."""
    a = article(subject)
    return [
        f"{a} **{subject}** is easiest to know by three things:\n\n- where it is found\n- what it was made for\n- what it outlived",
        f"{a} {subject} is easiest to know by its use. People made it for one purpose, and it was found to serve another.",
        f"There are many kinds of {subject}. It is hard to say more, but {a.lower()} {subject} is certainly {a.lower()} {subject}.",
    ]


def others(opened: Ledger, queue: queues.Queue, names: tuple[str, ...]) -> None:
    """People who have been here before: they rank as the answers deserve, and one slips now and then."""
    for k, name in enumerate(names):
        for turn in range(len(SUBJECTS)):
            with opened.write() as connection:
                person = accounts.named(connection, name)
                task = assigning.next_task(connection, person, queue, assigning.random.Random(turn))
                assert isinstance(task, assigning.Task)
                tiers = (
                    ((1,), (0,), (2,))
                    if (turn + k) % 7 == 0
                    else ((0,), (1, 2))
                    if turn % 5 == 0
                    else ((0,), (1,), (2,))
                )
                judging.submit(
                    connection, person, task.id, f"{turn}", judging.Answer("ranking", tiers, seconds=20 + turn % 9)
                )


def keys_of(page: Page) -> list[int]:
    """Places of the answers from best to worst, read off the screen as a person would."""
    texts = page.locator(".answer .view-rendered").all_inner_texts()
    worth = ["three things" in t for t in texts], ["its use" in t for t in texts]
    return sorted(range(len(texts)), key=lambda p: (not worth[0][p], not worth[1][p]))


def done(page: Page) -> int:
    return int(page.locator("#done").get_attribute("data-done") or -1)


def task_id(page: Page) -> str:
    return page.locator("#verdict").get_attribute("data-task") or ""


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def answered(page: Page, before: str) -> None:
    page.wait_for_function("(old) => document.querySelector('#verdict')?.dataset.task !== old", arg=before)


def work_through(page: Page, items: int) -> None:
    """Twenty items: ties on every fourth, a skip, both bad, a comment, an undo, and a reload with a ranking half typed."""
    page.keyboard.press("Alt+3")
    for turn in range(items):
        before, best = task_id(page), keys_of(page)
        if turn == 6:
            page.keyboard.press("s")
            page.keyboard.type("cannot judge this one")
            page.keyboard.press("Enter")
        elif turn == 8:
            page.keyboard.press("b")
        else:
            press(page, str(best[0]), *(("=",) if turn % 4 == 1 else ()), str(best[1]))
            if turn == 3:
                picture(page, "annotate")
            if turn == 10:
                page.wait_for_function("() => document.querySelector('#saved')?.textContent.length > 0")
                page.reload()
                assert task_id(page) == before and page.locator("#ranking").input_value() == f"{best[0]} > {best[1]}"
            press(page, str(best[2]), "Enter")
        answered(page, before)
        if turn == 12:
            count = done(page)
            page.keyboard.press("u")
            page.wait_for_function("(id) => document.querySelector('#verdict')?.dataset.task === id", arg=before)
            assert done(page) == count - 1
            again = task_id(page)
            press(page, *map(str, keys_of(page)), "Enter")
            answered(page, again)


def test_twenty_items_by_keyboard(tmp_path: Path, chromium: Any) -> None:
    rows = [
        group(f"What is the easiest way to know {article(s).lower()} {s}?", *answers(s), facts={"category": kind})
        for kind, things in THINGS.items()
        for s in things
    ]
    opened, queue = ledger(tmp_path, rows)
    with opened.write() as connection:
        queues.write_guideline(connection, queue.id, GUIDELINE)
    others(opened, queue, ("Ada", "Bram"))
    worker, boss = session(opened, "Chloe")[0], session(opened, "Olga", "owner")[0]
    opened.close()
    server = Server(tmp_path / "prefs.db", free_port())
    server.start()
    try:
        owner = sign_in(chromium, server, boss)
        before = owner.request.get(f"{server.address}/agreement").json()
        page = sign_in(chromium, server, worker)
        page.goto(server.address)
        work_through(page, 20)
        assert done(page) == 19 and page.faults == []  # type: ignore[attr-defined]
        assert owner.request.get(f"{server.address}/agreement").json() != before
        pages_for_the_docs(owner, chromium, server, worker)
        assert owner.faults == []  # type: ignore[attr-defined]
    finally:
        server.kill()
    with Ledger(tmp_path / "prefs.db") as again, again.read() as connection:
        mine = {p.id for p in accounts.people(connection) if p.name == "Chloe"}
        said = [r for r in records(connection, queue.id) if r.who in mine]
    assert len(said) == 19 == len({r.item for r in said})
    assert sum(any(len(t) == 2 for t in r.ranking or ()) for r in said) >= 4 and any(r.kind == "both_bad" for r in said)
    trains(tmp_path)


def pages_for_the_docs(owner: Page, browser: Any, server: Server, worker: str) -> None:
    owner.goto(f"{server.address}/dashboard")
    assert owner.locator("svg.figure").count() >= 2
    picture(owner, "agreement")
    dark = sign_in(browser, server, worker, color_scheme="dark")
    dark.goto(server.address)
    press(dark, "0", "d")
    time.sleep(1)
    picture(dark, "annotate-dark")
    dark.set_viewport_size({"width": 390, "height": 844})
    picture(dark, "annotate-phone")
    assert dark.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways on a phone"


def trains(place: Path) -> None:
    """The exported file is one that DPO reads, and its loss is finite."""
    out = Labels(ledger=str(place / "prefs.db"), out=str(place / "prefs.jsonl")).run()
    assert len(list(read_lines(out))) >= 20
    tiny_directory(place / "base", "llama", context=512)
    Train(
        model=str(place / "base"), method={"name": "dpo"}, data=str(out), out=str(place / "run"), steps=2, batch=4, samples=0,
        log_to=(), preflight="off", threads=1,
    ).run()  # fmt: skip
    assert json.loads((place / "run" / "manifest.json").read_text(encoding="utf-8"))["status"] == "finished"
