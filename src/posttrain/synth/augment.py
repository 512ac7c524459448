"""The four directions between question, reasoning and answer; topics to pairs; the best of n; controlled corruptions.

Every function takes a Model and gives `Made`: rows with provenance, and a count of every candidate that was dropped with its reason. A
direction is one call: `augment(rows, "question_to_answer", model)`. Verified back-translation is in `passages`.
Leaves out trees of topics deeper than the list given.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from posttrain.core.chat import Message, as_chat
from posttrain.core.files import hash_json
from posttrain.core.group import Group, Preference, Response, answer
from posttrain.core.protocols import Model, Request, Reward, Sampling
from posttrain.rewards.judge import name_of
from posttrain.rewards.judge_prompts import language
from posttrain.synth.ledger import Check, Made, Origin, usual
from posttrain.synth.parse import parse_instruction_response
from posttrain.synth.teacher import DRAW, Axes, Teacher, Wanted, costs_of

Direction = Literal["answer_to_question", "question_to_answer", "question_to_reasoned_answer", "both"]
ASK: dict[str, dict[str, str]] = {
    "answer_to_question": {
        "en": "Write the question behind this answer: {x}",
        "fr": "Écrivez la question qui mène à cette réponse : {x}",
        "ru": "Напишите вопрос, на который отвечает этот текст: {x}",
        "zh": "请写出以下回答所对应的问题：{x}",
    },
    "question_to_reasoned_answer": {
        "en": "{x}\nThink step by step, then write one line that begins with Answer:",
        "fr": "{x}\nRaisonnez pas à pas, puis écrivez une ligne qui commence par Réponse :",
        "ru": "{x}\nРассуждайте по шагам, затем напишите строку, начинающуюся с Ответ:",
        "zh": "{x}\n请逐步思考，然后另起一行写出以“回答：”开头的一行。",
    },
    "both": {
        "en": "Write one new task about this: {x}\nForm:\nInstruction: ...\nResponse: ...",
        "fr": "Écrivez une tâche nouvelle sur ce sujet : {x}\nForme :\nInstruction : ...\nRéponse : ...",
        "ru": "Составьте одно новое задание на тему: {x}\nФорма:\nИнструкция: ...\nОтвет: ...",
        "zh": "请就以下主题写一个新任务：{x}\n格式：\n指令：...\n回答：...",
    },
}
SAME = 5
"""Duplicates in a row after which a topic is used up."""
_FINAL = re.compile(r"^\W*(?:Answer|Réponse|Ответ|回答)\W*[:：]\s*(.+)$", re.IGNORECASE | re.MULTILINE)


def augment(
    rows: Sequence[Group], direction: Direction, model: Model, seed: int = 0, n: int = 1, sampling: Sampling = DRAW,
    verify: Reward | None = None, checks: Mapping[str, Check] | None = None, ask: Callable[[str, str], str] | None = None,
    least: float = 0.0,
) -> Made:  # fmt: skip
    """New rows from rows in one direction.

    answer_to_question keeps the answer and writes its question; question_to_answer and question_to_reasoned_answer answer the prompt
    (reasoning is kept as the turn's thinking); both writes a new task on the text of the row. n: candidates per row. verify: a Reward that
    must give each kept row more than `least`. ask: (text, language) to what the model is asked, for models with habits of their own.
    """
    if direction not in ("question_to_answer", *ASK):
        raise ValueError(f"direction {direction!r} is unknown; accepted: question_to_answer, {', '.join(ASK)}")
    made, tests = Made(), usual() if checks is None else dict(checks)
    questions = [_question(g, direction, ask) for g in rows]
    requests = [Request(as_chat(q), sampling, n, seed, facts=g.facts) for q, g in zip(questions, rows, strict=True)]
    made_by = model.generate(requests)
    for g, question, said, costs in zip(rows, questions, made_by, costs_of(model, requests), strict=True):
        for response, cost in zip(said.responses, costs, strict=True):
            origin = Origin(direction, name_of(model), hash_json(question)[:16], seed, (g.id,), cost)
            new = _row(g, direction, response)
            if new is None:
                made.drop("unparsed", response.text)
            elif verify is not None and not (verify([new])[0][0].value or 0.0) > least:
                made.drop("not verified", response.text)
            else:
                made.offer(new, tests, origin)
    return made


def _question(group: Group, direction: str, ask: Callable[[str, str], str] | None) -> str:
    text = group.responses[0].text if direction == "answer_to_question" else group.prompt_text
    lang = language(text)
    if ask is not None:
        return ask(text, lang)
    return text if direction == "question_to_answer" else ASK[direction][lang].format(x=text)


def _row(group: Group, direction: str, said: Response) -> Group | None:
    """The new row of one reply, None where the reply cannot be read."""
    text, facts = said.text.strip(), {k: v for k, v in group.facts.items() if k not in ("id", "where", "provenance")}
    if not text or said.stop in ("error", "length"):
        return None
    if direction == "answer_to_question":
        return Group(as_chat(text), group.responses[:1], facts={"lang": language(text)})
    if direction == "question_to_answer":
        return Group(group.prompt, (answer(text, by=said.by),), facts=facts)
    if direction == "both":
        found = parse_instruction_response(text)
        return None if found is None else Group(as_chat(found[0]), (answer(found[1], by=said.by),))
    final = list(_FINAL.finditer(text))
    if len(final) != 1 or not text[: final[0].start()].strip():
        return None
    turn = Message("assistant", final[0].group(1).strip(), thinking=text[: final[0].start()].strip())
    return Group(group.prompt, (Response(turns=(turn,), by=said.by),), facts=facts)


def generate_sft_examples(
    seed_topics: Sequence[str], num_per_topic: int = 100, *, model: Model, seed: int = 0, sampling: Sampling = DRAW,
    audiences: Sequence[str] = ("a beginner", "an expert"), levels: Sequence[str] = ("easy", "hard"),
) -> Made:  # fmt: skip
    """The lesson's call: topics to instruction and answer. Axes vary audience and level; a topic stops after 5 duplicates in a row."""
    axes = Axes(tuple(audiences), levels=tuple(levels))
    return topics((), Teacher(model, sampling, seed), Wanted(num_per_topic, tuple(seed_topics), axes))


def topics(rows: Sequence[Group], teacher: Teacher, wanted: Wanted) -> Made:
    """n instructions with answers per topic, all open topics asked together in each round."""
    made, tests = Made(), usual()
    again = dict.fromkeys(wanted.topics, 0)
    for number in range(wanted.n):
        open_ = [t for t in again if again[t] < SAME]
        asked = [wanted.axes.on(ASK["both"][language(t)].format(x=t), number, language(t)) for t in open_]
        for topic, said in zip(open_, teacher.one(asked, number), strict=True):
            found = None if said.failed else parse_instruction_response(said.text)
            if found is None:
                made.drop("failed call" if said.failed else "unparsed", said.text)
                continue
            before = made.dropped["duplicate: seen before"]
            new = Group(as_chat(found[0]), (answer(found[1]),), facts=wanted.facts(number, language(found[0])))
            made.offer(new, tests, teacher.origin("topics", [topic], said))
            again[topic] = again[topic] + 1 if made.dropped["duplicate: seen before"] > before else 0
    return made


def best_of(rows: Sequence[Group], model: Model, reward: Reward, n: int = 8, least: float = 0.0, seed: int = 0,
            sampling: Sampling = DRAW) -> Made:  # fmt: skip
    """Rejection sampling: n answers to each prompt, the best kept where it scores above `least`; among equals the shortest."""
    made, tests = Made(), usual()
    requests = [Request(g.prompt, sampling, n, seed, facts=g.facts) for g in rows]
    said = model.generate(requests)
    costs = [sum(c) for c in costs_of(model, requests)]
    scored = reward([Group(g.prompt, s.responses, facts=g.facts) for g, s in zip(rows, said, strict=True)])
    for g, s, scores, cost in zip(rows, said, scored, costs, strict=True):
        known = [
            (v.value, -len(r.text), -i)
            for i, (r, v) in enumerate(zip(s.responses, scores, strict=True))
            if v.value is not None
        ]
        for _ in range(n - 1):
            made.drop("not the best", "")
        if not known or max(known)[0] <= least:
            made.drop("below the threshold" if known else "not scored", s.responses[0].text)
            continue
        best = s.responses[-max(known)[2]]
        facts = {k: v for k, v in g.facts.items() if k not in ("id", "where", "provenance")}
        origin = Origin("rejection", name_of(model), g.prompt_hash, seed, (g.id,), cost)
        made.offer(Group(g.prompt, (answer(best.text, by=best.by),), facts=facts), tests, origin)
    return made


def corrupted(rows: Sequence[Group], seed: int = 0) -> Made:
    """Preference pairs without a model: the row's answer over a copy with one planted fault (changed number, dropped sentence, padding,
    flattery), the fault named in its facts."""
    made = Made()
    for g in rows:
        rng = random.Random(f"{seed}:{g.id}")
        text = g.responses[0].text
        faults = {name: change(text, rng) for name, change in CORRUPTIONS.items()}
        open_ = sorted(name for name, bad in faults.items() if bad is not None and bad != text)
        name = rng.choice(open_)
        pair = Group(g.prompt, (g.responses[0], answer(faults[name] or "", by=f"corruption:{name}")), (Preference(0, 1),),
                     facts={"lang": language(g.prompt_text), "corruption": name})  # fmt: skip
        made.offer(pair, {}, Origin("corruption", "template", g.prompt_hash, seed, (g.id,), checked="template"))
    return made


def _number(text: str, rng: random.Random) -> str | None:
    found = list(re.finditer(r"\d+", text))
    if not found:
        return None
    at = rng.choice(found)
    return text[: at.start()] + str(int(at.group()) + rng.choice((1, 2, 7, 10))) + text[at.end() :]


def _shorter(text: str, rng: random.Random) -> str | None:
    parts = re.split(r"(?<=[.!?。！？])\s*", text.strip())
    parts = [p for p in parts if p]
    if len(parts) < 2:
        return None
    parts.pop(rng.randrange(len(parts)))
    return " ".join(parts)


CORRUPTIONS: dict[str, Callable[[str, random.Random], str | None]] = {
    "number": _number,
    "dropped": _shorter,
    "padding": lambda text, rng: f"{text} {text}",
    "flattery": lambda text, rng: f"What a brilliant question! {text}",
}
