"""Every generator by the name that a recipe writes, all with one signature: rows, teacher and what is wanted in; an account out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from posttrain.core.group import Group
from posttrain.synth.augment import ASK, Direction, augment, best_of, corrupted, topics
from posttrain.synth.dialogue import dialogues
from posttrain.synth.ledger import Made
from posttrain.synth.notices import notices
from posttrain.synth.passages import backtranslate, plain_text
from posttrain.synth.refusals import refusals
from posttrain.synth.tasks import evolve, self_instruct
from posttrain.synth.teacher import Teacher, Wanted
from posttrain.synth.transcripts import transcripts

Generator = Callable[[Sequence[Group], Teacher, Wanted], Made]


def _direction(name: Direction, rows: Sequence[Group], teacher: Teacher, wanted: Wanted) -> Made:
    """One of the lesson's four directions; combinations of the axes are taken in turn."""
    number = -1

    def ask(text: str, lang: str) -> str:
        nonlocal number
        number += 1
        return wanted.axes.on(text if name == "question_to_answer" else ASK[name][lang].format(x=text), number, lang)

    return augment(
        rows, name, teacher.model, teacher.seed, wanted.n, teacher.sampling, wanted.verify, ask=ask, least=wanted.least
    )


def _rejection(rows: Sequence[Group], teacher: Teacher, wanted: Wanted) -> Made:
    if wanted.verify is None:
        raise ValueError("rejection: name a reward in `verify`; it decides which of the n answers is the best")
    return best_of(rows, teacher.model, wanted.verify, wanted.n, wanted.least, teacher.seed, teacher.sampling)


GENERATORS: dict[str, Generator] = {
    "answer_to_question": partial(_direction, "answer_to_question"),
    "question_to_answer": partial(_direction, "question_to_answer"),
    "question_to_reasoned_answer": partial(_direction, "question_to_reasoned_answer"),
    "both": partial(_direction, "both"),
    "topics": topics,
    "self_instruct": self_instruct,
    "transcript": transcripts,
    "evolve": evolve,
    "backtranslate": backtranslate,
    "refusals": refusals,
    "dialogue": dialogues,
    "notices": notices,
    "text": plain_text,
    "rejection": _rejection,
    "corruption": lambda rows, teacher, wanted: corrupted(rows, teacher.seed),
}
FROM_TOPICS = ("topics", "text")
"""Generators that begin from words; dialogue takes words or rows; all others take rows."""
ASKS_AGAIN = ("evolve", "backtranslate", "dialogue")
"""Generators whose later questions hang on earlier answers: a dry run knows their first questions only."""
