"""New tasks by a base model, which follows no instructions: shown one task with its answer, as a transcript, it goes on with another.

As in Wang et al. 2022 (arXiv:2212.10560), who had a base model write tasks after examples of them; here each seed row is shown alone, so
that a short context holds it, and a new task is of the seed's kind and language. The model must see plain text (`raw` in a recipe). Leaves
out balancing the kinds of tasks: each seed row asks for as many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from posttrain.core.group import Group
from posttrain.synth.augment import augment
from posttrain.synth.ledger import Made
from posttrain.synth.teacher import Teacher, Wanted

MARKERS = {"en": ("Question: ", "Answer: "), "fr": ("Question : ", "Réponse : "),
           "ru": ("Вопрос: ", "Ответ: "), "zh": ("问题：", "回答：")}  # fmt: skip
END = "\n\n"
"""What ends a task of a transcript."""


def transcripts(rows: Sequence[Group], teacher: Teacher, wanted: Wanted) -> Made:
    """n new tasks per row. Raises ValueError for a row without an answer."""
    shown = {}
    for g in rows:
        if not g.responses:
            raise ValueError(f"transcript: row {g.id} has no answer; a seed row is a task with its answer")
        shown[g.prompt_text] = g.responses[0].text

    def ask(text: str, lang: str) -> str:
        q, a = MARKERS[lang]
        return f"{q}{text}\n{a}{shown[text]}{END}"

    drawn = replace(teacher.sampling, stop=(*teacher.sampling.stop, END))
    made = augment(
        rows, "both", teacher.model, teacher.seed, wanted.n, drawn, wanted.verify, ask=ask, least=wanted.least
    )
    made.kept = [_named(g) for g in made.kept]
    return made


def _named(group: Group) -> Group:
    """The row with this generator in its provenance."""
    told = {**group.facts["provenance"], "generator": "transcript"}
    return replace(group, facts={**group.facts, "provenance": told})
