"""New tasks from tasks: self-instruct, and evolution to harder or neighbouring ones.

Wang et al. 2023 (arXiv:2212.10560): six seed tasks and two made ones are shown, and a task is kept if its ROUGE-L with every kept one is
below .7. Xu et al. 2023 (arXiv:2304.12244): an instruction is rewritten by one of five operators, then answered. Leaves out the judge
that says whether an evolved instruction gained anything, and the balance of class labels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from posttrain.core.chat import as_chat
from posttrain.core.group import Group, answer
from posttrain.detectors.repetition import units
from posttrain.rewards.judge_prompts import language
from posttrain.synth.ledger import Made, usual
from posttrain.synth.parse import parse_instruction_response
from posttrain.synth.teacher import Teacher, Wanted

LIKE = 0.7
SHOWN_SEEDS, SHOWN_MADE, ROUND = 6, 2, 8
NEW = {
    "en": "Here are some tasks:\n{x}\nWrite one new task of another kind, with its "
    "answer.\nForm:\nInstruction: ...\nResponse: ...",
    "fr": "Voici des tâches :\n{x}\nÉcrivez une tâche nouvelle d'un autre genre, avec sa réponse.\nForme "
    ":\nInstruction : ...\nRéponse : ...",
    "ru": "Вот несколько заданий:\n{x}\nСоставьте новое задание другого рода с ответом.\nФорма:\nИнструкция: "
    "...\nОтвет: ...",
    "zh": "以下是一些任务：\n{x}\n请写一个不同类型的新任务及其回答。\n格式：\n指令：...\n回答：...",
}
EVOLVE = {
    "en": ("Add one constraint to this task", "Ask for more depth in this task", "Make this task more concrete",
           "Make this task need one more step of reasoning", "Write a task of the same kind in another field"),
    "fr": ("Ajoutez une contrainte à cette tâche", "Approfondissez cette tâche", "Rendez cette tâche plus concrète",
           "Faites que cette tâche demande une étape de plus", "Écrivez une tâche du même genre dans un autre domaine"),
    "ru": ("Добавьте одно условие к этому заданию", "Углубите это задание", "Сделайте это задание более конкретным",
           "Добавьте в это задание ещё один шаг рассуждения", "Составьте такое же задание из другой области"),
    "zh": ("请给这个任务加一个条件", "请加深这个任务", "请把这个任务写得更具体", "请让这个任务多一步推理", "请写一个其他领域的同类任务"),
}  # fmt: skip
ONLY = {"en": "{op}. Write only the new task: {x}", "fr": "{op}. Écrivez seulement la nouvelle tâche : {x}",
        "ru": "{op}. Напишите только новое задание: {x}", "zh": "{op}，只写新任务：{x}"}  # fmt: skip
MARKS = ("new task", "nouvelle tâche", "новое задание", "新任务", "rewritten")


def rouge_l(a: Sequence[str], b: Sequence[str]) -> float:
    """F-measure of the longest common subsequence (Lin 2004).

    >>> round(rouge_l("a b c d".split(), "a c d e".split()), 2)
    0.75
    """
    if not a or not b:
        return 0.0
    before = [0] * (len(b) + 1)
    for x in a:
        now = [0]
        for j, y in enumerate(b):
            now.append(before[j] + 1 if x == y else max(before[j + 1], now[j]))
        before = now
    return 2 * before[-1] / (len(a) + len(b))


def self_instruct(rows: Sequence[Group], teacher: Teacher, wanted: Wanted) -> Made:
    """n new tasks per seed row. Raises ValueError with fewer than two seed tasks."""
    if len(rows) < 2:
        raise ValueError(f"self_instruct: {len(rows)} seed tasks; give two or more (50 to 200 are usual)")
    made, tests = Made(), usual()
    pool = [(g.prompt_text, units(g.prompt_text)) for g in rows]
    total = wanted.n * len(rows)
    for first in range(0, total, ROUND):
        numbers = range(first, min(first + ROUND, total))
        shown = [_shown(pool, len(rows), teacher.seed, i) for i in numbers]
        asked = [wanted.axes.on(NEW[language(rows[0].prompt_text)].format(x="\n".join(s)), i)
                 for s, i in zip(shown, numbers, strict=True)]  # fmt: skip
        for number, seen, said in zip(numbers, shown, teacher.one(asked, first), strict=True):
            found = None if said.failed else parse_instruction_response(said.text)
            if found is None:
                made.drop("failed call" if said.failed else "unparsed", said.text)
                continue
            words = units(found[0])
            if any(rouge_l(words, other) >= LIKE for _, other in pool):
                made.drop("like a task already there", found[0])
                continue
            facts = wanted.facts(number, language(found[0]))
            parents = [g.id for g in rows if g.prompt_text in seen]
            if made.offer(
                Group(as_chat(found[0]), (answer(found[1]),), facts=facts),
                tests,
                teacher.origin("self_instruct", parents, said),
            ):
                pool.append((found[0], words))
    return made


def _shown(pool: Sequence[tuple[str, Sequence[str]]], seeds: int, seed: int, number: int) -> list[str]:
    rng = random.Random(f"{seed}:{number}")
    old = rng.sample(pool[:seeds], min(SHOWN_SEEDS, seeds))
    new = rng.sample(pool[seeds:], min(SHOWN_MADE, len(pool) - seeds))
    mixed = [text for text, _ in old + new]
    rng.shuffle(mixed)
    return mixed


def evolve(rows: Sequence[Group], teacher: Teacher, wanted: Wanted) -> Made:
    """n rounds (at most four): each prompt is rewritten by an operator, the new one answered and, if it is kept, rewritten again."""
    if wanted.n > 4:
        raise ValueError(f"evolve: n is {wanted.n} rounds; later rounds drift away, give at most 4")
    made, tests = Made(), usual()
    open_ = [(g.prompt_text, g.id) for g in rows]
    for number in range(wanted.n):
        asked, ops = [], []
        for text, parent in open_:
            lang = language(text)
            op = random.Random(f"{teacher.seed}:{parent}:{number}").choice(EVOLVE[lang])
            ops.append(op)
            asked.append(wanted.axes.on(ONLY[lang].format(op=op, x=text), number, lang))
        new = teacher.one(asked, number)
        good = [
            not said.failed and _evolved(text, said.text, op)
            for (text, _), said, op in zip(open_, new, ops, strict=True)
        ]
        for said, fine in zip(new, good, strict=True):
            if not fine:
                made.drop("failed call" if said.failed else "not evolved", said.text)
        kept = [(s, parent) for s, (_, parent), fine in zip(new, open_, good, strict=True) if fine]
        open_ = []
        for (said, parent), reply in zip(kept, teacher.one([s.text for s, _ in kept], number), strict=True):
            row = Group(as_chat(said.text), (answer(reply.text),), facts=wanted.facts(number, language(said.text)))
            if reply.failed:
                made.drop("failed call", said.text)
            elif made.offer(row, tests, teacher.origin("evolve", [parent], said, reply)):
                open_.append((said.text, made.kept[-1].id))
    return made


def _evolved(before: str, after: str, op: str) -> bool:
    """Is it another task, without the operator's own words in it?"""
    low = after.lower()
    return rouge_l(units(before), units(after)) < 0.95 and op.lower() not in low and not any(m in low for m in MARKS)
