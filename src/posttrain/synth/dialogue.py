"""Dialogues of several turns with a simulated user who has a goal, some patience, and never sees the assistant's instructions.

The user is a model too: it reads the dialogue with the roles turned round. It writes DONE when its goal is reached. Leaves out tools.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from posttrain.core.chat import Message, user
from posttrain.core.group import Group, Response
from posttrain.rewards.judge_prompts import language
from posttrain.synth.ledger import Made, usual
from posttrain.synth.teacher import Said, Teacher, Wanted

TURNS = 8
DONE = re.compile(r"\bDONE\b")
LEAK = re.compile(
    r"^\s*(user|assistant|utilisateur|пользователь|помощник|用户|助手)\s*[:：]", re.IGNORECASE | re.MULTILINE
)
PERSONA = {
    "en": "You play a person who talks with an assistant. Your goal: {x}. Write only your next message, one or "
    "two sentences. Do not tell "
    "everything at once. When your goal is reached, write DONE.",
    "fr": "Vous jouez une personne qui parle avec un assistant. Votre but : {x}. Écrivez seulement votre "
    "prochain message, une ou deux "
    "phrases. Ne dites pas tout d'un coup. Quand le but est atteint, écrivez DONE.",
    "ru": "Вы играете человека, который говорит с помощником. Ваша цель: {x}. Пишите только своё следующее "
    "сообщение, одно-два "
    "предложения. Не говорите всего сразу. Когда цель достигнута, напишите DONE.",
    "zh": "你扮演一个与助手交谈的人。你的目标：{x}。只写你的下一条消息，一两句话，不要一次说完。目标达到后请写 DONE。",
}
START = {"en": "Begin.", "fr": "Commencez.", "ru": "Начните.", "zh": "请开始。"}


def dialogues(rows: Sequence[Group], teacher: Teacher, wanted: Wanted, person: Teacher | None = None) -> Made:
    """One dialogue per goal (topics, or the prompts of rows) of at most n assistant turns, two to eight. person: who plays the user (None:
    the teacher's model). A row is the first message as the prompt and everything after it as one response; only assistant turns train."""
    turns = min(max(wanted.n, 2), TURNS)
    goals = [*wanted.topics, *(g.prompt_text for g in rows)]
    parents = [*wanted.topics, *(g.id for g in rows)]
    talks: list[list[Message]] = [[] for _ in goals]
    used: list[list[Said]] = [[] for _ in goals]
    ended = ["" for _ in goals]
    for number in range(turns):
        open_ = [i for i in range(len(goals)) if not ended[i]]
        asks = (person or teacher).one([_seen_by_user(goals[i], talks[i], wanted, i) for i in open_], number)
        for i, said in zip(open_, asks, strict=True):
            used[i].append(said)
            ended[i] = (
                "failed call"
                if said.failed
                else "done"
                if DONE.search(said.text)
                else _fault(said.text, talks[i], "user")
            )
            if not ended[i]:
                talks[i].append(user(said.text))
        open_ = [i for i in open_ if not ended[i]]
        for i, said in zip(open_, teacher.one([tuple(talks[i]) for i in open_], number), strict=True):
            used[i].append(said)
            ended[i] = "failed call" if said.failed else _fault(said.text, talks[i], "assistant")
            if not ended[i]:
                talks[i].append(Message("assistant", said.text))
    return _rows(talks, used, ended, parents, teacher, wanted)


def _rows(
    talks: list[list[Message]],
    used: list[list[Said]],
    ended: list[str],
    parents: list[str],
    teacher: Teacher,
    wanted: Wanted,
) -> Made:
    made, tests = Made(), usual()
    for i, (talk, said, why, parent) in enumerate(zip(talks, used, ended, parents, strict=True)):
        if why not in ("", "done") or len(talk) < 4:
            made.drop(
                why if why not in ("", "done") else "fewer than two exchanges", "\n".join(m.content for m in talk)
            )
            continue
        facts = {**wanted.facts(i, language(talk[0].content)), "goal": "reached" if why else "patience spent"}
        made.offer(
            Group((talk[0],), (Response(turns=tuple(talk[1:])),), facts=facts),
            tests,
            teacher.origin("dialogue", [parent], *said),
        )
    return made


def _seen_by_user(goal: str, talk: Sequence[Message], wanted: Wanted, number: int) -> tuple[Message, ...]:
    """The dialogue as the user's model sees it: what the assistant said comes from the other side."""
    lang = language(goal)
    turned = [Message("assistant" if m.role == "user" else "user", m.content) for m in talk]
    opening = user(wanted.axes.on(PERSONA[lang].format(x=goal), number, lang) + "\n" + START[lang])
    return (opening, *turned)


def _fault(text: str, talk: Sequence[Message], role: str) -> str:
    if LEAK.search(text):
        return f"the {role} wrote a role's name"
    return "a turn is repeated" if any(m.content == text for m in talk) else ""
