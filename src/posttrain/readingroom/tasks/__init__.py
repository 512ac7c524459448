"""Task families of the reading room: each file makes items and scores answers. `TASKS` is the one table of them."""

from __future__ import annotations

from posttrain.readingroom.item import Task
from posttrain.readingroom.tasks.ask_notice import AskNotice
from posttrain.readingroom.tasks.catalogue import Catalogue
from posttrain.readingroom.tasks.documents import Canary, Documents
from posttrain.readingroom.tasks.fines import Fines
from posttrain.readingroom.tasks.judging import BackQuestion, Critique, Judge, Revise
from posttrain.readingroom.tasks.refusal import Refusal
from posttrain.readingroom.tasks.summary import Summary
from posttrain.readingroom.tasks.underspecified import Underspecified
from posttrain.readingroom.tasks.wrong_user import WrongUser

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Catalogue(),
        AskNotice(),
        Fines(),
        Summary(),
        Underspecified(),
        Refusal(),
        WrongUser(),
        Judge(),
        Critique(),
        Revise(),
        BackQuestion(),
        Documents(),
        Canary(),
    )
}

SHARES: dict[str, float] = {
    "catalogue": 4, "ask_notice": 4, "fines": 3, "summary": 2, "underspecified": 3, "refusal": 4, "wrong_user": 3,
    "judge": 1, "critique": 1, "revise": 1, "back_question": 1, "documents": 2, "canary": 1,
}  # fmt: skip
"""How often each task comes up, relative to the others."""
