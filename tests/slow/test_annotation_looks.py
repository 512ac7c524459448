"""Every page in a real Chromium, in four languages, wide and narrow, light and dark: nothing runs over its box, scrolls sideways, is too
faint to read (WCAG 2.2: 4.5 to 1, large text 3 to 1), too small to touch, or takes the keyboard without showing where it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Page

from posttrain.core.chat import Message
from posttrain.core.group import Group, answer, group
from posttrain.feedback import accounts, assigning, items, judging, queues
from posttrain.feedback.server.words import LANGUAGES
from tests.feedback.made import ledger
from tests.slow.annotation import Server, free_port, picture, session, sign_in

pytestmark = pytest.mark.slow
QUESTIONS = ("ranking", "rating", "label", "write", "edit")
PAGES = ("/dashboard", "/review", "/people", "/guidelines")
WIDE, NARROW = {"width": 1280, "height": 820}, {"width": 390, "height": 844}
TALK = (
    Message("system", "Answer in the language of the question."),
    Message("user", "ما هو المحيط الأكبر؟"),
    Message("assistant", "المحيط الهادئ."),
    Message("user", "Et le plus petit ? Donnez un tableau, puis une ligne de code, s'il vous plaît."),
)
ANSWERS = (
    "| océan | km² |\n|---|---|\n| Arctique | 14 000 000 |\n\n```python\nprint(sorted(oceans, key=area_in_square_kilometres)[0])\n```",
    "L'océan **Arctique**.",
    "北冰洋是世界上最小的大洋，面积约一千四百万平方公里。" * 12,
    "https://example.org/" + "averyverylongaddresswithoutanyplacetobreak" * 4,
)
SEEN = """() => {
  const out = [], shown = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getBoundingClientRect().width > 1;
  const name = (e) => `${e.tagName.toLowerCase()}${e.id ? "#" + e.id : ""}.${e.className} "${(e.textContent || "").trim().slice(0, 40)}"`;
  const rgb = (c) => { const p = c.match(/[\\d.]+/g).map(Number); return [p[0], p[1], p[2], p[3] === undefined ? 1 : p[3]]; };
  const over = (top, under) => top.slice(0, 3).map((v, i) => v * top[3] + under[i] * (1 - top[3]));
  const light = (c) => c.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { const layers = []; for (let p = e; p; p = p.parentElement) layers.push(rgb(getComputedStyle(p).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]); };
  if (document.documentElement.scrollWidth > innerWidth) out.push(`the page is ${document.documentElement.scrollWidth} wide`);
  for (const e of document.querySelectorAll("body *")) {
    if (!shown(e) || e.closest("svg, .hidden, .jump, option")) continue;
    const s = getComputedStyle(e), box = e.getBoundingClientRect();
    if (s.overflowX === "visible" && !s.display.startsWith("inline ") && s.display !== "inline" && e.scrollWidth > e.clientWidth + 1)
      out.push(`runs over: ${name(e)} ${e.scrollWidth} > ${e.clientWidth}`);
    if (e.matches("button, select") && innerWidth < 500 && box.height < 39.5) out.push(`small to touch: ${name(e)} ${box.height}`);
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || e.disabled || e.closest(":disabled")) continue;
    let seen = 1; for (let p = e; p; p = p.parentElement) seen *= Number(getComputedStyle(p).opacity);
    const under = ground(e), ink = rgb(s.color), c = over([ink[0], ink[1], ink[2], ink[3] * seen], under);
    const [a, b] = [light(c), light(under)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(s.fontSize), large = size >= 24 || (size >= 18.6 && Number(s.fontWeight) >= 600);
    if (ratio < (large ? 3 : 4.5)) out.push(`faint (${ratio.toFixed(2)}): ${name(e)}`);
  }
  return [...new Set(out)];
}"""
FOCUSED = """() => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  const ring = (n) => {
    const s = getComputedStyle(n);
    return (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== "none";
  };
  const seen = ring(e) || (e.nextElementSibling !== null && e.matches("input[type=radio]") && ring(e.nextElementSibling));
  return [`${e.tagName.toLowerCase()}#${e.id}.${e.className} ${e.name || ""} ${(e.textContent || "").trim().slice(0, 30)}`, seen];
}"""


@dataclass
class Place:
    """A running server; queue ids by question; an owner's cookie, and a link that invites."""

    server: Server
    queue: dict[str, str]
    owner: str
    link: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    path = tmp_path_factory.mktemp("looks")
    rows = [Group(TALK, tuple(answer(a) for a in ANSWERS[: 2 + i % 3]), facts={"category": "seas"}) for i in range(3)]
    rows += [group(f"How deep is sea {i}?", f"{i} km", f"**{i}** km", facts={"lang": "en"}) for i in range(43)]
    opened, first = ledger(path, rows, overlap=2)
    ids = {"ranking": first.id}
    with opened.write() as connection:
        for question in QUESTIONS[1:]:
            made = queues.make(connection, f"{question} of answers", queues.Settings(question=question, overlap=2))  # type: ignore[arg-type]
            items.add(connection, made, rows[:3])
            ids[question] = made.id
        for id in ids.values():
            queues.write_guideline(connection, id, "## Better\n\n1. right\n2. short")
    for name in ("Ada Lovelace-Byron of Marylebone", "Bram"):
        for turn in range(43):
            with opened.write() as connection:
                person = accounts.named(connection, name)
                task = assigning.next_task(connection, person, first, assigning.random.Random(turn))
                if isinstance(task, assigning.Task):
                    order = sorted(task.display, reverse=(turn + len(name)) % 3 == 0)
                    said = judging.Answer("ranking", tuple((k,) for k in order), comment="because", seconds=9.0)
                    judging.submit(connection, person, task.id, f"{turn}", said)
        with opened.write() as connection:
            text = judging.Answer("write", text="A text that somebody wrote.\n\n- with a list")
            queue = queues.by_id(connection, ids["write"])
            task = assigning.next_task(connection, accounts.named(connection, name), queue, assigning.random.Random(0))
            judging.submit(connection, accounts.named(connection, name), task.id, "w", text)  # type: ignore[union-attr]
        with opened.write() as connection:
            secret = accounts.invite(connection, "annotator")
    owner = session(opened, "Olga", "owner")[0]
    opened.close()
    server = Server(path / "prefs.db", free_port())
    server.start()
    yield Place(server, ids, owner, f"/join/{secret}")
    server.kill()


def addresses(place: Place) -> list[str]:
    review = [f"/review?queue={place.queue['write']}"]
    return [f"/?queue={id}" for id in place.queue.values()] + [*PAGES, *review]


def named(address: str, place: Place) -> str:
    """A short name of an address for a picture."""
    for question, id in place.queue.items():
        address = address.replace(id, question)
    return re.sub(r"\W+", "-", address).strip("-") or "work"


def opened_at(chromium: Any, place: Place, **options: Any) -> Page:
    return sign_in(chromium, place.server, place.owner, **options)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_fits(place: Place, chromium: Any, language: str) -> None:
    wrong = {}
    for size, width in ((WIDE, "wide"), (NARROW, "narrow")):
        page = opened_at(chromium, place, viewport=size)
        page.context.add_cookies([{"name": "lang", "value": language, "url": place.server.address}])
        for address in addresses(place):
            page.goto(place.server.address + address)
            if "/?queue" in address:
                page.keyboard.press("0")
                page.wait_for_selector("#verdict, .empty-state")
            if found := page.evaluate(SEEN):
                wrong[f"{address} {width}"] = found
            picture(page, f"{language}-{width}-{named(address, place)}", full_page=True)
        page.context.clear_cookies()
        page.context.add_cookies([{"name": "lang", "value": language, "url": place.server.address}])
        for address in ("/login", place.link):
            page.goto(place.server.address + address)
            if found := page.evaluate(SEEN):
                wrong[f"{address} {width}"] = found
            picture(page, f"{language}-{width}-{address.split('/')[1]}", full_page=True)
        assert page.faults == []  # type: ignore[attr-defined]
    assert wrong == {}


def test_the_dark_is_as_clear(place: Place, chromium: Any) -> None:
    page = opened_at(chromium, place, color_scheme="dark")
    wrong = {}
    for address in addresses(place):
        page.goto(place.server.address + address)
        if "ranking" in named(address, place) or address in PAGES:
            page.keyboard.press("0")
            picture(page, f"dark-{named(address, place)}", full_page=True)
        if found := page.evaluate(SEEN):
            wrong[address] = found
    assert wrong == {}


def test_the_keyboard_shows_where_it_is(place: Place, chromium: Any) -> None:
    page = opened_at(chromium, place)
    hidden = set()
    for address in addresses(place):
        page.goto(place.server.address + address)
        met = []
        for _ in range(80):
            page.keyboard.press("Tab")
            found = page.evaluate(FOCUSED)
            if found is None:
                break
            met.append(found[0])
            if not found[1]:
                hidden.add(found[0])
        assert len(met) > 8, address
    assert hidden == set()


def test_written_and_edited_by_keyboard(place: Place, chromium: Any) -> None:
    """Control and Enter sends what was typed, and a draft survives a reload."""
    page = opened_at(chromium, place)
    for question in ("write", "edit"):
        page.goto(f"{place.server.address}/?queue={place.queue[question]}")
        page.locator("#text").focus()
        page.keyboard.type("The Arctic. ")
        page.wait_for_function("() => document.querySelector('#saved')?.textContent.length > 0")
        page.reload()
        assert page.locator("#text").input_value().find("The Arctic. ") >= 0
        before = page.locator("#verdict").get_attribute("data-task")
        page.locator("#text").focus()
        page.keyboard.press("Control+Enter")
        page.wait_for_function("(old) => document.querySelector('#verdict')?.dataset.task !== old", arg=before)
        assert page.faults == []  # type: ignore[attr-defined]


def test_the_measure_sees_what_is_wrong(place: Place, chromium: Any) -> None:
    """A measure that finds nothing anywhere might be blind: faint ink, a box that is run over, a page too wide, a button too small."""
    page = opened_at(chromium, place, viewport=NARROW)
    page.goto(f"{place.server.address}/people")
    assert page.evaluate(SEEN) == []
    page.evaluate(
        """() => {
          document.querySelector("h1").style.color = "#bbb";
          document.querySelector("button.primary").style.cssText = "min-height:0;height:20px;padding:0";
          const box = document.createElement("div");
          box.style.cssText = "width:60px;white-space:nowrap";
          box.textContent = "words that are much wider than sixty pixels and wider than the page, which therefore scrolls sideways";
          document.querySelector("main").append(box);
        }"""
    )
    found = " ".join(page.evaluate(SEEN))
    assert all(what in found for what in ("faint (", "runs over", "the page is", "small to touch")), found
