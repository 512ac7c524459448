"""Refusals with benign twins: for each harmful request a short refusal, and a legitimate request of like words with a full answer.

A harmful completion is never asked for. Both rows are kept or neither, so refusing and helping stay one to one. After XSTest
(Röttger et al. 2024, arXiv:2308.01263), whose safe prompts mirror unsafe ones. Leaves out crisis topics, which need a person's words.
"""

from __future__ import annotations

from collections.abc import Sequence

from posttrain.core.chat import as_chat
from posttrain.core.group import Group, answer
from posttrain.detectors import language_of, refusal
from posttrain.detectors.repetition import units
from posttrain.rewards.judge_prompts import language
from posttrain.synth.ledger import Made, usual
from posttrain.synth.teacher import Said, Teacher, Wanted

LONGEST, LECTURE = 80, 120
DECLINE = {
    "en": "A user asks an assistant: {x}\nWrite the assistant's reply: it declines, gives the reason in one "
    "sentence and offers something safe instead. At most 60 words, no lecture.",
    "fr": "Un utilisateur demande à un assistant : {x}\nÉcrivez la réponse de l'assistant : il refuse, en dit "
    "la raison en une phrase et propose autre chose de sûr. 60 mots au plus, sans morale.",
    "ru": "Пользователь просит помощника: {x}\nНапишите ответ помощника: он отказывается, в одном предложении "
    "объясняет почему и предлагает безопасную замену. Не больше 60 слов, без нравоучений.",
    "zh": "用户向助手提出：{x}\n请写助手的回答：拒绝，用一句话说明原因，并提出安全的替代办法。不超过60个词，不要说教。",
}
TWIN = {
    "en": "Write one harmless request that shares words and form with this one but that anybody may be helped "
    "with. Write only it: {x}",
    "fr": "Écrivez une demande inoffensive qui a les mots et la forme de celle-ci, mais que l'on peut aider "
    "sans danger. Écrivez seulement elle : {x}",
    "ru": "Напишите одну безобидную просьбу, похожую на эту словами и формой, с которой можно помочь каждому. "
    "Только её: {x}",
    "zh": "请写一个无害的请求，用词和形式与下面这个相似，但任何人都可以得到帮助。只写它：{x}",
}


def refusals(rows: Sequence[Group], teacher: Teacher, wanted: Wanted) -> Made:
    """n pairs of rows per harmful prompt: the refusal (facts kind: refusal) and the twin with its answer (facts benign_twin: true)."""
    made, tests = Made(), usual()
    many = [g for g in rows for _ in range(wanted.n)]
    for number in range(wanted.n):
        langs = [language(g.prompt_text) for g in rows]
        asked = [
            wanted.axes.on(DECLINE[lang].format(x=g.prompt_text), i, lang)
            for i, (g, lang) in enumerate(zip(rows, langs, strict=True))
        ]
        declined = teacher.one(asked, number)
        twins = teacher.one([TWIN[lang].format(x=g.prompt_text) for g, lang in zip(rows, langs, strict=True)], number)
        replies = teacher.one([t.text or "." for t in twins], number)
        for g, no, twin, reply in zip(rows, declined, twins, replies, strict=True):
            why = _fault(g.prompt_text, no, twin, reply)
            safe = Group(
                as_chat(twin.text or "."),
                (answer(reply.text),),
                facts={"lang": language(g.prompt_text), "benign_twin": True, "kind": "sft"},
            )
            why = why or next(
                (f"twin, {name}: {r}" for name, check in tests.items() if (r := check(safe)) is not None), None
            )
            if why is not None:
                made.drop(why, no.text)
                made.drop(why, twin.text)
                continue
            bad = Group(g.prompt, (answer(no.text),), facts={"lang": language(g.prompt_text), "kind": "refusal"})
            made.offer(bad, {}, teacher.origin("refusals", [g.id], no))
            made.offer(safe, {}, teacher.origin("refusals", [g.id], twin, reply))
    assert made.produced == 2 * len(many)
    return made


def _fault(asked: str, no: Said, twin: Said, reply: Said) -> str | None:
    """Why a pair of rows is dropped, or None."""
    if no.failed or twin.failed or reply.failed:
        return "failed call"
    if refusal(asked, no.text).label != "full_refusal":
        return "the refusal does not refuse"
    if len(units(no.text)) > (LECTURE if language_of(no.text) == "zh" else LONGEST):
        return "the refusal lectures"
    if "und" not in (language_of(asked), language_of(no.text)) and language_of(asked) != language_of(no.text):
        return "the refusal is in another language"
    shared = set(units(asked.lower())) & set(units(twin.text.lower()))
    return None if len(shared) >= 2 and asked != twin.text else "the twin shares no words"
