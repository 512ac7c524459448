"""People in the loop as jobs: two rounds of rejection sampling, two models before people, a pipe into the page, ranking in a terminal."""

from __future__ import annotations

import json
import os
import pty
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from posttrain.core.files import read_lines
from posttrain.core.group import Group, group
from posttrain.core.recipe import RecipeError
from posttrain.feedback import accounts, assigning, duels, items, judging, queues
from posttrain.feedback.ledger import Ledger
from posttrain.feedback.records import records
from posttrain.jobs.compare import Compare
from posttrain.jobs.duel import Duel, people_say, send
from posttrain.jobs.pipeline import build
from posttrain.jobs.recipe_text import read_mapping
from posttrain.report.compare import _people
from tests.jobs.tiny_run import base


def rows(path: Path, groups: list[Group]) -> str:
    path.write_text("".join(json.dumps(g.to_json()) + "\n" for g in groups), encoding="utf-8")
    return str(path)


class People(threading.Thread):
    """Simulated annotators: they choose the shortest answer in every queue of a ledger as it appears, through the ledger itself."""

    def __init__(self, place: Path, names: tuple[str, ...] = ("ann",), until: int = 2) -> None:
        super().__init__(daemon=True)
        self.place, self.names, self.until, self.fault = place, names, until, None
        self.done: set[str] = set()

    def run(self) -> None:
        try:
            while not self.place.exists():
                time.sleep(0.1)
            with Ledger(self.place) as book:
                while len(self.done) < self.until:
                    time.sleep(0.1)
                    with book.read() as connection:
                        here = queues.queues(connection)
                    for queue in here:
                        self._work(book, queue)
        except BaseException as error:
            self.fault: Any = error

    def _work(self, book: Ledger, queue: queues.Queue) -> None:
        for name in self.names:
            while True:
                with book.write() as connection:
                    person = accounts.named(connection, name)
                    task = assigning.next_task(connection, person, queue, random.Random(0))
                    if isinstance(task, assigning.Nothing):
                        break
                    texts = [r.text for r in items.read(connection, [task.item])[0].group.responses]
                    order = sorted(range(len(texts)), key=lambda k: (len(texts[k]), texts[k]))
                    judging.submit(
                        connection,
                        person,
                        task.id,
                        f"c{task.id}",
                        judging.Answer("ranking", tuple((k,) for k in order)),
                    )
                    self.done.add(queue.name)


def test_two_rounds_of_rejection_sampling_by_people(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The shipped recipe, on a tiny model: what people chose in each round is what each training reads."""
    model = base(tmp_path_factory.getbasetemp())
    recipe = read_mapping("recipes/people.yaml")
    recipe["out"], place = str(tmp_path / "out"), str(tmp_path / "prefs.db")
    prompts = rows(tmp_path / "prompts.jsonl", [group(f"Say {w}.") for w in ("one", "two", "three")])
    for name, job in recipe["jobs"].items():
        if name.startswith("draw"):
            job |= {"data": prompts, "max_tokens": 6, "device": "cpu", "workers": 1}
        if name.startswith("choose"):
            job |= {"ledger": place, "browser": False}
        if name.startswith("best"):
            job |= {"ledger": place}
        if name.startswith("sft"):
            job |= {"steps": 1, "batch": 2, "preflight": "off", "threads": 1, "log_to": []}
        if job.get("model") == "base":
            job["model"] = model
    crowd = People(Path(place))
    crowd.start()
    build(recipe).run()
    crowd.join(20)
    assert crowd.fault is None and crowd.done == {"round-1", "round-2"}
    for k in ("1", "2"):
        drawn = {
            g.prompt_text: {r.text for r in g.responses}
            for r in read_lines(tmp_path / f"out/draw-{k}.jsonl")
            if (g := Group.from_json(r))
        }
        best = read_lines(tmp_path / f"out/best-{k}.jsonl")
        assert len(best) == 3
        for row in best:
            chosen, choices = row["messages"][-1]["content"], drawn[row["messages"][0]["content"]]
            assert (len(chosen), chosen) == min((len(t), t) for t in choices)
        assert json.loads((tmp_path / f"out/sft-{k}/manifest.json").read_text())["status"] == "finished"
    told = json.loads((tmp_path / "out/sft-2/manifest.json").read_text())
    assert "best-1" in json.dumps(told) and "best-2" in json.dumps(told)


def sides(n: int = 40) -> tuple[list[Group], list[Group]]:
    return [group(f"q{i}", f"good {i}") for i in range(n)], [
        group(f"q{i}", "the same" if i < 3 else f"bad {i}") for i in range(n)
    ]


def test_two_models_before_people(tmp_path: Path) -> None:
    first, second = sides()
    first = [group(f"q{i}", "the same") if i < 3 else g for i, g in enumerate(first)]
    place = str(tmp_path / "prefs.db")
    asked = Duel(
        ledger=place,
        first=rows(tmp_path / "dpo.jsonl", first),
        second=rows(tmp_path / "ppo.jsonl", [*second, group("only", "x")]),
    ).run()
    assert asked["rate"] is None and "nobody has judged" in asked["text"]
    with Ledger(place) as book:
        with book.read() as connection:
            queue = queues.find(connection, "duel")
            assert queues.open_items(connection, queue.id) == 37
            assert duels.contestants(connection, queue) == ("dpo", "ppo")
        with book.write() as connection:
            queue = queues.make(connection, "duel", queues.Settings(repeat_rate=0.0, gold_rate=0.0))
        for who, wins in (("ann", 30), ("bob", 20)):
            for turn in range(37):
                with book.write() as connection:
                    person = accounts.named(connection, who)
                    task = assigning.next_task(connection, person, queue, random.Random(turn))
                    assert isinstance(task, assigning.Task)
                    said = (
                        judging.Answer("both_bad")
                        if turn == 36
                        else judging.Answer("ranking", ((0,), (1,)) if turn < wins else ((1,), (0,)))
                    )
                    judging.submit(connection, person, task.id, f"c{turn}", said)
    told = Duel(ledger=place, out=str(tmp_path / "wins.json")).run()
    assert (told["wins"], told["losses"], told["both_bad"], told["people"]) == (50, 22, 2, 2)
    assert told["rate"]["estimate"] == pytest.approx(51 / 74) and told["rate"]["low"] < 51 / 74 < told["rate"]["high"]
    assert told["by_person"]["ann"]["estimate"] == pytest.approx(30.5 / 37)
    assert json.loads((tmp_path / "wins.json").read_text())["rate"]["n"] == 37
    turned = people_say(place, "duel", ("ppo", "dpo"), 0)
    assert turned["rate"]["estimate"] == pytest.approx(23 / 74)
    assert "there already" in send(place, "duel", first, second, ("dpo", "ppo"), 3, 0)
    html = _people({"people": [told, asked]})
    assert "0.69 [" in html and "50 / 2 / 22" in html and "nobody has judged yet" in html


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"first": "a.jsonl"}, "give both files"), ({"names": ("a", "b", "c")}, "two are needed")],
)  # fmt: skip
def test_a_duel_says_what_is_missing(tmp_path: Path, fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Duel(ledger=str(tmp_path / "prefs.db"), **fields).run()


def test_a_comparison_sends_its_answers_to_people(tmp_path: Path) -> None:
    """The page's own rows become pairs, and what people say of them stands on the page."""
    job = Compare(models=("a", "b", "c"), data="x.jsonl", out=str(tmp_path), ledger=str(tmp_path / "prefs.db"))  # type: ignore[arg-type]
    measured = {
        n: [{"prompt": [{"role": "user", "content": f"q{i}"}], "answers": [f"{n} {i}"]} for i in range(12)]
        for n in "abc"
    }
    from posttrain.jobs.job import Context

    told = job._people(["a", "b", "c"], measured, Context())
    assert [(t["first"], t["second"], t["rate"]) for t in told] == [("c", "b", None)]
    crowd = People(tmp_path / "prefs.db", until=1)
    crowd.start()
    crowd.join(20)
    again = job._people(["a", "b", "c"], measured, Context())
    assert again[0]["wins"] + again[0]["losses"] == 12 and again[0]["rate"]["n"] == 12


def terminal(arguments: list[str], said: list[str], timeout: float = 240) -> tuple[str, int]:
    """Run the command in a terminal of its own, and type a line whenever it asks for a ranking. Returns what stood there."""
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "posttrain.cli", *arguments], stdin=slave, stdout=slave, stderr=slave,
                               env=os.environ | {"TERM": "dumb", "OMP_NUM_THREADS": "1"}, close_fds=True)  # fmt: skip
    os.close(slave)
    shown, lines, asked, until = "", iter(said), 0, time.monotonic() + timeout
    while time.monotonic() < until:
        try:
            part = os.read(master, 4096).decode("utf-8", "replace")
        except OSError:
            break  # the other end is closed
        if not part:
            break
        shown += part
        while shown.count("quits): ") > asked:
            asked += 1
            os.write(master, (next(lines, "q") + "\n").encode())
    os.close(master)
    return shown, process.wait(60)


def test_ranking_in_a_terminal(tmp_path: Path) -> None:
    """Both ways of writing, a mixture refused with a hint, what cannot be parsed, a skip, an escape sequence that does nothing."""
    data = rows(tmp_path / "rows.jsonl", [group(f"q{i}", f"a{i}\x1b[2J", f"b{i}", f"c{i}") for i in range(4)])
    place = str(tmp_path / "prefs.db")
    shown, code = terminal(
        ["rank", place, "--data", data, "--who", "ann", "--seed", "3"],
        ["0 > 1 = 2", "A > 1 > C", "A > B = C", "0 > 1", "0, 1 > 2", "best is the first", "[2] > [0] > [1]", "s", "q"],
    )
    assert code == 0, shown
    assert "use numbers or letters, not both (character 5)" in shown
    assert "every answer must be ranked; missing: 2" in shown and "commas go with neither > nor =" in shown
    assert "this is no answer and no separator" in shown
    assert "\x1b[2J" not in shown and "␛[2J" in shown
    assert "3 ranked by ann" in shown.replace("\r", "")
    with Ledger(place) as book, book.read() as connection:
        queue = queues.find(connection)
        said = records(connection, queue.id)
        states = queues.open_items(connection, queue.id)
    assert len(said) == 3
    first = said[0]
    assert first.ranking == ((first.display[0],), tuple(first.display[k] for k in (1, 2)))
    assert said[1].ranking == ((said[1].display[0],), tuple(said[1].display[k] for k in (1, 2)))
    assert said[2].ranking == tuple((said[2].display[k],) for k in (2, 0, 1)) and states > 0


def test_answers_come_through_a_pipe_while_people_work(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`posttrain sample MODEL prompts.jsonl --n 2 | posttrain annotate`: the rows arrive, a broken line is told of, the page stays up."""
    model = base(tmp_path_factory.getbasetemp())
    prompts = rows(tmp_path / "prompts.jsonl", [group(f"Say {w}.") for w in ("one", "two")])
    place = tmp_path / "prefs.db"
    command = (
        f"{{ {sys.executable} -m posttrain.cli sample {model} {prompts} --n 2 --max-tokens 5 --device cpu --workers 1; echo broken; }} | "
        f"{sys.executable} -m posttrain.cli annotate {place} --port 0 --no-browser --until-done --settings '{{overlap: 1}}'"
    )
    crowd = People(place, until=1)
    crowd.start()
    made = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=280, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert made.returncode == 0, made.stderr
    assert "2 items from the pipe, 1 left out" in made.stderr and "line 3 of the pipe is no row" in made.stderr
    with Ledger(place) as book, book.read() as connection:
        assert len(records(connection, queues.find(connection).id)) == 2


def test_the_recipe_needs_its_jobs_in_order() -> None:
    recipe = read_mapping("recipes/people.yaml")
    assert list(build(recipe).jobs) == list(recipe["jobs"])
    recipe["jobs"]["best-1"]["shape"] = "winner"
    with pytest.raises(RecipeError, match="shape"):
        build(recipe)
