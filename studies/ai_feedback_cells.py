"""The trainings of the study *ai-feedback*, one seed at a time: feedback of a judge, critique, synthetic rows, a smaller student.

Each function makes some cells and gives their raw rows; jobs that are finished are reused, so a study that was cut goes on. Nothing
here reads gold but the judge, through noise of known size, and `measured`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.core.files import read_lines, write_text
from posttrain.core.group import Group, Preference, Score, answer
from posttrain.core.protocols import Sampling

NOISE = 0.15
"""Standard deviation of what the judge adds to gold, which lies in [0, 1]."""
MARKERS = {"en": ("Question: ", "Answer: "), "fr": ("Question : ", "Réponse : "),
           "ru": ("Вопрос: ", "Ответ: "), "zh": ("问题：", "回答：")}  # fmt: skip
ROOM = {
    "en": ("{q}\nCheck this answer: {x}", "{q}\nAnswer: {x}\nCriticism: {c}\nRevise the answer."),
    "fr": ("{q}\nVérifiez cette réponse : {x}", "{q}\nRéponse : {x}\nCritique : {c}\nCorrigez la réponse."),
    "ru": ("{q}\nПроверьте этот ответ: {x}", "{q}\nОтвет: {x}\nКритика: {c}\nИсправьте ответ."),
    "zh": ("{q}\n请检查这个回答：{x}", "{q}\n回答：{x}\n批评：{c}\n请修改回答。"),
}
"""How a critique and a revision are asked for in the words of the world; those of `synth.refine` are for larger models."""
RAW = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"


@dataclass(frozen=True)
class Scale:
    """How much of everything. more: prompts that the teacher answers for its student alone, twice each. revised: of the criticised answers,
    those that are learned."""

    demos: int = 2400
    asked: int = 400
    more: int = 500
    criticised: int = 320
    revised: int = 200
    seeds: int = 50
    tasks_per_seed: int = 16
    raw: int = 500
    held_out: int = 320
    answers: int = 2
    tokens: int = 160
    written: int = 320
    """Longest task that the base writes, in tokens with its answer."""
    passed: float = 0.5
    """A teacher's answer that the judge marks lower is not learned from."""


SMALL = Scale(
    demos=64,
    asked=16,
    more=8,
    criticised=6,
    revised=4,
    seeds=4,
    tasks_per_seed=6,
    raw=32,
    held_out=8,
    tokens=24,
    passed=-1.0,
)


@dataclass(frozen=True)
class Bench:
    """One seed's directory, and how its jobs are run."""

    seed: int
    out: Path
    scale: Scale

    def do(self, **jobs: Any) -> None:
        """Run jobs of a pipeline; `$name` is a job of the same call."""
        from posttrain.jobs.job import Context
        from posttrain.jobs.pipeline import build

        build({"out": str(self.out), "seed": self.seed, "jobs": jobs}).run(Context(bars=False))

    def at(self, name: str) -> str:
        return str(self.out / name)

    def said(self, model: str, prompts: str, n: int) -> dict[str, Any]:
        """A job: n answers at temperature 0.7."""
        drawn = {"n": n, "temperature": 0.7, "max_tokens": self.scale.tokens}
        return {"job": "sample", "model": self.at(model), "data": self.at(prompts), **drawn}

    def groups(self, name: str) -> list[Group]:
        return [Group.from_json(row) for row in read_lines(self.out / name)]

    def keep(self, name: str, groups: Sequence[Group]) -> str:
        write_text(
            self.out / name, "".join(json.dumps(g.to_json(), ensure_ascii=False, default=str) + "\n" for g in groups)
        )
        return self.at(name)

    def measured(self, *cells: str) -> list[dict[str, Any]]:
        """Gold of cells' answers to the held-out prompts, one row each."""
        from posttrain.readingroom.gold import GoldReward

        self.do(**{f"said_{c}": self.said(c, "held_out.jsonl", self.scale.answers) for c in cells})
        rows = []
        for cell in cells:
            answered = self.groups(f"said_{cell}.jsonl")
            for place, (g, scores) in enumerate(zip(answered, GoldReward()(answered), strict=True)):
                gold = round(float(np.mean([s.value for s in scores])), 6)
                rows.append({"seed": self.seed, "cell": cell, "place": place, "id": g.id, "gold": gold})
        return rows


def train(
    method: Any, model: str, data: str, lr: float, batch: int = 16, epochs: float = 1, **more: Any
) -> dict[str, Any]:
    """A training job."""
    rate = {"lr": lr, "schedule": "cosine", "warmup": 0.05}
    fields = {"method": method, "model": model, "data": data, "batch": batch, "epochs": epochs}
    return {**fields, "samples": 0, "optimizer": rate, "overlong": "drop", **more}


class Judge:
    """A Reward: gold with noise that hangs on the answer alone, so the same answer always gets the same mark."""

    def __init__(self, noise: float, seed: int) -> None:
        self.noise, self.seed = noise, seed

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        from posttrain.readingroom.gold import GoldReward

        def mark(g: Group, gold: Score, text: str) -> Score:
            return Score((gold.value or 0.0) + random.Random(f"{self.seed}:{g.id}:{text}").gauss(0, self.noise))

        return [[mark(g, s, r.text) for s, r in zip(scores, g.responses, strict=True)]
                for g, scores in zip(groups, GoldReward()(groups), strict=True)]  # fmt: skip


def judged(groups: Sequence[Group], judge: Judge) -> list[Group]:
    """One pair a prompt: what the judge likes best over what it likes least; prompts whose answers are all alike have none."""
    out = []
    for g, scores in zip(groups, judge(groups), strict=True):
        order = sorted(range(len(scores)), key=lambda i: -(scores[i].value or 0.0))
        best, worst = g.responses[order[0]], g.responses[order[-1]]
        if best.text != worst.text:
            out.append(g.with_responses([best, worst], preferences=(Preference(0, 1),)))
    return out


DPO = {"name": "dpo", "beta": 0.1, "nll": 1.0}


def teacher(bench: Bench) -> list[dict[str, Any]]:
    """The world of the seed, and the SFT model that everything starts from or learns from."""
    scale = bench.scale
    bench.do(
        demos={"job": "room-prompts", "n": scale.demos, "answers": True, "quality": 0.5},
        asked={"job": "room-prompts", "n": scale.asked, "start": 20000},
        held_out={"job": "room-prompts", "n": scale.held_out, "split": "held-out"},
        sft=train("sft", "base", "$demos", 2e-3, 32),
    )
    bench.do(answers=bench.said("sft", "asked.jsonl", 4))
    return bench.measured("sft")


def feedback(bench: Bench) -> list[dict[str, Any]]:
    """RLAIF: the judge's pairs train the SFT model with DPO."""
    pairs = bench.keep("pairs.jsonl", judged(bench.groups("answers.jsonl"), Judge(NOISE, bench.seed)))
    bench.do(dpo_ai=train(DPO, bench.at("sft"), pairs, 2e-4))
    return bench.measured("dpo_ai")


def critique(bench: Bench) -> list[dict[str, Any]]:
    """The model revises its own answers and learns the final ones; then the judge's pairs on what it says after that."""
    from posttrain.rollout.policy import Policy
    from posttrain.synth import Refiner

    judge = Judge(NOISE, bench.seed)
    drawn = Sampling(temperature=0.7, max_tokens=bench.scale.tokens)
    refiner = Refiner(
        Policy.open(bench.at("sft")),
        judge,
        critique=lambda g, x, rules, lang: ROOM[lang][0].format(q=g.prompt_text, x=x),
        revise=lambda g, x, c, lang: ROOM[lang][1].format(q=g.prompt_text, x=x, c=c),
        sampling=drawn,
        seed=bench.seed,
    )
    made = refiner.refine(bench.groups("answers.jsonl")[: bench.scale.criticised])
    rows = refined_rows(bench.seed, made, judge)
    finals = bench.keep("finals.jsonl", [m.sft for m in made[: bench.scale.revised]])
    bench.do(revised=train("sft", bench.at("sft"), finals, 2e-4))
    bench.do(again=bench.said("revised", "asked.jsonl", 4))
    pairs = bench.keep("second.jsonl", judged(bench.groups("again.jsonl"), judge))
    bench.do(two_stage=train(DPO, bench.at("revised"), pairs, 2e-4))
    return rows + bench.measured("revised", "two_stage")


def refined_rows(seed: int, made: Sequence[Any], judge: Judge) -> list[dict[str, Any]]:
    """Gold and the judge's mark of each answer before and after its critique."""
    from posttrain.readingroom.gold import GoldReward

    rows = []
    for place, m in enumerate(made):
        both = m.group.with_responses([answer(m.start), answer(m.best)])
        (gold,), (mark,) = GoldReward()([both]), judge([both])
        told = {"before": gold[0].value, "after": gold[1].value, "rounds": len(m.rounds), "end": m.reason}
        marks = {"mark_before": round(mark[0].value or 0.0, 6), "mark_after": round(mark[1].value or 0.0, 6)}
        rows.append({"seed": seed, "cell": "critique", "place": place, "id": m.group.id, **told, **marks})
    return rows


def synthetic(bench: Bench) -> list[dict[str, Any]]:
    """Fifty clean rows, and what the base model writes when it is shown them one at a time: only `synth` and filters in between.

    The base has never been tuned here; it goes on with a transcript that holds one of the rows, as Wang et al. 2022 (arXiv:2212.10560)
    had a base model do. Near copies, repetitions, other languages and held-out prompts go."""
    from posttrain.jobs import assembly
    from posttrain.rollout.policy import Policy
    from posttrain.synth.augment import augment

    scale = bench.scale
    fifty = {"job": "room-prompts", "n": scale.seeds, "start": 40000, "answers": True, "quality": 1.0}
    bench.do(fifty_rows=fifty)
    rows = bench.groups("fifty_rows.jsonl")
    shown = {g.prompt_text: g.responses[0].text for g in rows}

    def ask(text: str, lang: str) -> str:
        q, a = MARKERS[lang]
        return f"{q}{text}\n{a}{shown[text]}\n\n"

    write_text(bench.out / "raw.jinja", RAW)
    base = Policy.open(assembly.SHIPPED, template=bench.at("raw.jinja"))
    drawn = Sampling(temperature=0.8, max_tokens=scale.written, stop=("\n\n",))
    made = augment(rows, "both", base, bench.seed, scale.tasks_per_seed, drawn, ask=ask)
    bench.keep("written.jsonl", made.kept)
    write_text(bench.out / "written.account.json", json.dumps(made.account(), ensure_ascii=False))
    filters = {"same": True, "repeats": True, "shortest": 2}
    clean = {
        "job": "data",
        "data": bench.at("written.jsonl"),
        "filters": filters,
        "against": [bench.at("held_out.jsonl")],
    }
    bench.do(clean=clean)
    few, many = bench.at("fifty_rows.jsonl"), bench.at("clean.jsonl")
    bench.do(fifty=train("sft", "base", few, 1e-3, epochs=4), synth=train("sft", "base", many, 2e-3, epochs=1))
    told = {"produced": made.produced, "kept": len(made.kept), "clean": len(bench.groups("clean.jsonl"))}
    return [{"seed": bench.seed, "cell": "made", **told}, *bench.measured("fifty", "synth")]


def smaller(path: Path, dropped: int = 3) -> str:
    """The shipped base without one of its blocks: a student of four fifths."""
    from torch import nn

    from posttrain.jobs import assembly
    from posttrain.models.load import load, save

    loaded = load(str(assembly.SHIPPED), device="cpu")
    model: Any = loaded.model
    kept = [block for i, block in enumerate(model.model.layers) if i != dropped]
    for i, block in enumerate(kept):
        block.self_attn.layer_idx = i
    model.model.layers, model.config.num_hidden_layers = nn.ModuleList(kept), len(kept)
    return str(save(loaded, path))


def distilled(bench: Bench) -> list[dict[str, Any]]:
    """The smaller model on raw rows as they are (`raw`), on the teacher's distributions over the same rows (`soft`), and on the teacher's
    own answers to other prompts that the judge passes (`distilled`); `distilled` has no more steps than `raw`."""
    student, most = smaller(bench.out / "small"), 2 * bench.scale.raw
    rows = bench.keep("raw.jsonl", bench.groups("demos.jsonl")[: bench.scale.raw])
    bench.do(more={"job": "room-prompts", "n": bench.scale.more, "start": 20000 + bench.scale.asked})
    bench.do(more_answers=bench.said("sft", "more.jsonl", 2))
    said = bench.groups("answers.jsonl") + bench.groups("more_answers.jsonl")
    answers = passed(said, Judge(NOISE, bench.seed), bench.scale.passed)
    taught = bench.keep("taught.jsonl", answers[:most])
    soft = {"name": "distill", "match": "forward_kl", "k": 64}
    bench.do(
        raw=train("sft", student, rows, 2e-3, epochs=2),
        soft=train(soft, student, rows, 2e-3, epochs=2, teacher=bench.at("sft")),
        distilled=train("sft", student, taught, 2e-3),
    )
    told = {"answers": sum(len(g.responses) for g in said), "passed": len(answers), "taught": min(len(answers), most)}
    return [{"seed": bench.seed, "cell": "taught", **told}, *bench.measured("raw", "soft", "distilled")]


def passed(groups: Sequence[Group], judge: Judge, least: float) -> list[Group]:
    """Each different finished answer that the judge marks high enough, as a demonstration: one of every prompt, then the second ones."""
    found: list[list[Group]] = [[], [], [], []]
    for g, marks in zip(groups, judge(groups), strict=True):
        kept: list[str] = []
        for r, mark in zip(g.responses, marks, strict=True):
            if r.stop != "length" and r.text not in kept and (mark.value or 0.0) >= least:
                found[len(kept)].append(g.with_responses([r]))
                kept.append(r.text)
    return [g for row in found for g in row]


PARTS = (teacher, feedback, critique, synthetic, distilled)
