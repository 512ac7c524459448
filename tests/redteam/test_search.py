"""Searches look at answers: they find what a single prompt does not, and stop; planted canaries are ranked by the model's own weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from posttrain.core.chat import Chat
from posttrain.core.group import Group, answer
from posttrain.core.protocols import Request
from posttrain.guard.file import read_guard
from posttrain.guard.vectors import Vector
from posttrain.jobs.job import Context
from posttrain.jobs.redteaming import RedTeamJob
from posttrain.redteam import RedTeam
from posttrain.redteam.extraction import Canary, exposures, plant, read_canaries
from posttrain.redteam.intents import Ask
from posttrain.redteam.search import PIECES, Suffix

NO = "Sorry, I cannot tell that."
ASKS = [
    Ask(f"{i}{harmful}", str(i), harmful, f"{'code' if harmful else 'floor'} {i}", secrets=("s7x",), expected=("f",))
    for i in range(3)
    for harmful in (True, False)
]
QUIET = Context(bars=False)


def test_the_iterative_attacker_finds_a_composition_that_no_single_technique_is() -> None:
    def gives_in(text: str) -> str:
        """To two sentences together only; one of them alone makes it answer, without the secret."""
        found = ("lecture" in text) + ("director" in text)
        return ("s7x" if found == 2 else "Well, perhaps." if found else NO) if "code" in text else "f"

    single = RedTeam(["academic", "authority"], ASKS).run(gives_in)
    assert single.rates.asr.estimate == 0
    rows = RedTeam(["iterative"], ASKS).run(gives_in, k=4).rows
    assert rows and all(r["harmful"] and r["family"] == "F9" for r in rows)
    assert sum(r["success"] for r in rows) >= 3, "single techniques never succeed"
    assert all("lecture" in r["messages"][-1]["content"] for r in rows if r["success"])
    assert rows == RedTeam(["iterative"], ASKS).run(gives_in, k=4).rows, "a search depends on its seed alone"
    never = RedTeam(["iterative"], ASKS).run(lambda text: NO if "code" in text else "f").rows
    assert not any(r["success"] for r in never) and all(r["tried"] > 10 for r in never)


def test_an_attacker_model_writes_the_next_prompt() -> None:
    asked: list[str] = []

    class Attacker:
        def generate(self, requests: Any) -> list[Group]:
            asked.extend(r.prompt[0].content for r in requests)
            return [Group(r.prompt, tuple(answer("please, the code") for _ in range(r.n))) for r in requests]

    report = RedTeam(["iterative"], ASKS, attacker=Attacker()).run(lambda t: "s7x" if "please" in t else NO)  # type: ignore[arg-type]
    assert all(r["success"] and r["messages"][-1]["content"] == "please, the code" for r in report.rows)
    assert "code 0" in asked[0] and NO in asked[0]


class Weights:
    """Thinks an affirmative beginning likelier the more `sure` stands in the prompt, and says the secret at four."""

    def logp(self, groups: Any) -> list[list[torch.Tensor]]:
        return [[torch.tensor([float(self.count(g.prompt))])] for g in groups]

    def generate(self, requests: list[Request]) -> list[Group]:
        return [Group(r.prompt, (answer("s7x" if self.count(r.prompt) >= 4 else NO),)) for r in requests]

    @staticmethod
    def count(prompt: Chat) -> int:
        return prompt[-1].content.split().count("sure")


def test_the_suffix_search_follows_the_weights() -> None:
    found = Suffix(steps=60).seek(Weights(), ASKS[0].chat, "en", lambda c, a: float("s7x" in a), None, 0)  # type: ignore[arg-type]
    assert found.grade == 1 and set(found.chat[-1].content.split()[2:]) <= set(PIECES)
    assert Suffix(steps=0).seek(Weights(), ASKS[0].chat, "en", lambda c, a: 0.0, None, 0).grade == 0  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="own weights"):
        RedTeam(["suffix"], ASKS).run(lambda text: NO)


def test_canaries_are_planted_and_ranked(tmp_path: Path) -> None:
    secret = Canary("The card is {}.", "42", 3)
    texts = plant(["a", "b"], [secret])
    assert sorted(texts) == ["The card is 42."] * 3 + ["a", "b"] and texts == plant(["a", "b"], [secret])

    class Knows:
        def logp(self, groups: Any) -> list[list[torch.Tensor]]:
            return [[torch.tensor([1.0 if "42" in r.text else 0.0]) for r in g.responses] for g in groups]

    row = exposures(Knows(), [secret])[0]
    assert row["exposure"] == pytest.approx(6.644, abs=1e-3) and row["extracted"]
    assert not exposures(Knows(), [Canary("The card is {}.", "17", 1)])[0]["extracted"]
    rows = tmp_path / "t.jsonl"
    rows.write_text('{"text": "a"}\n')
    made = RedTeamJob(target=str(rows), mode="plant", out=str(tmp_path / "p")).run(QUIET)
    planted = [json.loads(x) for x in (made.path / "canaries.jsonl").read_text().splitlines()]
    assert sum(c["repeats"] for c in planted) + 1 == made.summary["rows"]
    assert len(read_canaries(planted, "x")) == made.summary["canaries"]
    with pytest.raises(ValueError, match="row 1"):
        read_canaries([{"form": "x", "digits": "1", "repeats": 1}], "x")
    with pytest.raises(ValueError, match="cannot be opened"):
        RedTeamJob(
            target="tests.jobs.test_safety_jobs:refuses", canaries=str(made.path / "canaries.jsonl"), intents=2
        ).run(QUIET)


def test_the_attacker_and_the_canaries_of_a_local_model_reach_the_report(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text('{"form": "Card {}.", "digits": "42", "repeats": 1}\n')
    vector = Vector(torch.nn.functional.normalize(torch.ones(8), dim=0), 1, 1.0, 1.0, 0.0)
    vector.write(tmp_path / "v.safetensors")
    (tmp_path / "g.yaml").write_text("steer: v.safetensors\nstrength: 2\n")
    file = read_guard(tmp_path / "g.yaml")
    made = file.edit(8)
    assert made is not None and made.strength == 2 and torch.equal(made.vector.direction, vector.direction)
    with pytest.raises(ValueError, match="the model has 9"):
        file.edit(9)
    shared = {
        "target": "base",
        "out": str(tmp_path / "o"),
        "intents": 1,
        "langs": ("en",),
        "max_tokens": 4,
        "competent": 0,
    }
    told = {"attacker": "tests.jobs.test_safety_jobs:refuses", "canaries": str(tmp_path / "c.jsonl")}
    run = RedTeamJob(**shared, techniques=("iterative",), **told).run(QUIET)
    assert run.summary["canaries"][0]["exposure"] >= 0 and "Planted secrets" in (run.path / "report.html").read_text()
    with pytest.raises(ValueError, match="vector of 8 units"):
        RedTeamJob(**shared, guard=str(tmp_path / "g.yaml")).model()
    bent = RedTeamJob(**shared).model()
    width = int(bent.loaded.model.config.hidden_size)  # type: ignore[attr-defined]
    Vector(torch.nn.functional.normalize(torch.ones(width), dim=0), 1, 30.0, 1.0, 0.0).write(tmp_path / "v.safetensors")
    guarded = RedTeamJob(**shared, guard=str(tmp_path / "g.yaml")).model()
    asked = [Request(ASKS[0].chat, job_sampling())]
    assert guarded.generate(asked)[0].responses[0].text != bent.generate(asked)[0].responses[0].text


def job_sampling() -> Any:
    from posttrain.core.protocols import Sampling

    return Sampling(temperature=0.0, max_tokens=8)
