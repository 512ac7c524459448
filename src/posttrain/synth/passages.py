"""Back-translation of documents into instructions, verified; and plain text for pretraining.

A passage is the answer; the model writes instructions that it would answer. Kept is an instruction that (a) finds its own passage first
among twenty by BM25, (b) when answered with the passage in hand gives words that agree with it (token F1 at least .5), and (c), where a
scorer of log-probabilities is given, makes the passage likelier by .1 nats per token. After Li et al. 2023 (arXiv:2308.06259), who score
pairs from 1 to 5 instead; that is a filter. Leaves out rewriting the passage: it is kept word for word.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from posttrain.core.chat import as_chat
from posttrain.core.group import Group, answer, document
from posttrain.core.protocols import Scorer
from posttrain.detectors.repetition import units
from posttrain.rewards.judge_prompts import language
from posttrain.synth.ledger import Made, usual
from posttrain.synth.teacher import Said, Teacher, Wanted

LEAST, MOST, RIVALS, AGREE, LIFT = 20, 600, 20, 0.5, 0.1
LOOSE = re.compile(
    r"\b(as (mentioned|shown|noted|seen) (above|before|earlier)|see (above|below)|table of contents|ci-dessus|см\. выше)\b|如上所述",
    re.I,
)
ASK = {
    "en": "Write one instruction or question that this text answers completely. Write only it.\n\n{x}",
    "fr": "Écrivez une consigne ou une question à laquelle ce texte répond entièrement, et rien d'autre.\n\n{x}",
    "ru": "Напишите одно задание или вопрос, на который этот текст отвечает полностью, и больше ничего.\n\n{x}",
    "zh": "请写一个由这段文字完整回答的指令或问题，只写它。\n\n{x}",
}
CHECK = {"en": "{x}\n\nUsing only this text, answer: {q}", "fr": "{x}\n\nD'après ce seul texte, répondez : {q}",
         "ru": "{x}\n\nОпираясь только на этот текст, ответьте: {q}", "zh": "{x}\n\n请只根据这段文字回答：{q}"}  # fmt: skip
TEXT = {"en": "Write a text of two or three paragraphs about: {x}. No title.",
        "fr": "Écrivez un texte de deux ou trois paragraphes sur : {x}. Sans titre.",
        "ru": "Напишите текст в два-три абзаца на тему: {x}. Без заголовка.",
        "zh": "请写一篇两三段的文章，主题是：{x}。不要标题。"}  # fmt: skip


def passages(text: str) -> list[str]:
    """Self-contained pieces of 20 to 600 words: paragraphs joined until long enough, loose references left out."""
    out: list[str] = []
    piece: list[str] = []
    for part in re.split(r"\n\s*\n", text):
        if not part.strip() or LOOSE.search(part):
            continue
        piece.append(part.strip())
        if len(units("\n".join(piece))) >= LEAST:
            if len(units("\n".join(piece))) <= MOST:
                out.append("\n\n".join(piece))
            piece = []
    return out


def ranked_first(query: str, own: int, texts: Sequence[str]) -> bool:
    """Does BM25 (k1 1.2, b .75; Robertson and Zaragoza 2009) put text `own` strictly first for the query?"""
    bags = [Counter(units(t.lower())) for t in texts]
    mean = sum(b.total() for b in bags) / len(bags)
    scores = []
    for bag in bags:
        total = 0.0
        for word in set(units(query.lower())):
            seen = sum(word in b for b in bags)
            rare = math.log(1 + (len(bags) - seen + 0.5) / (seen + 0.5))
            total += rare * bag[word] * 2.2 / (bag[word] + 1.2 * (0.25 + 0.75 * bag.total() / mean))
        scores.append(total)
    return scores[own] > 0 and all(s < scores[own] for i, s in enumerate(scores) if i != own)


def token_f1(a: str, b: str) -> float:
    """Agreement of two texts as bags of words (as SQuAD measures answers)."""
    x, y = Counter(units(a.lower())), Counter(units(b.lower()))
    shared = (x & y).total()
    return 2 * shared / (x.total() + y.total()) if shared else 0.0


def lift(scorer: Scorer, instruction: str, passage: str) -> float:
    """Nats per token that the instruction adds to the passage's mean log-probability."""
    said = (answer(passage),)
    (given,), (alone,) = scorer.logp([Group(as_chat(instruction), said), Group(as_chat("."), said)])
    return float(given.mean() - alone.mean())


def backtranslate(rows: Sequence[Group], teacher: Teacher, wanted: Wanted, scorer: Scorer | None = None) -> Made:
    """Instructions for the passages of rows' answers (or documents): n candidates each, at most one kept."""
    made, tests = Made(), usual()
    found = [(p, g.id) for g in rows for p in passages(g.responses[0].text if g.responses else g.prompt_text)]
    if not found:
        raise ValueError(
            f"backtranslate: no passage of {LEAST} to {MOST} words in {len(rows)} rows; give longer documents"
        )
    texts = [p for p, _ in found]
    asked = [wanted.axes.on(ASK[language(p)].format(x=p), i, language(p)) for i, p in enumerate(texts)]
    said = teacher.ask(asked, wanted.n)
    tries = [(i, s) for i, many in enumerate(said) for s in many if not s.failed]
    again = teacher.one([CHECK[language(texts[i])].format(x=texts[i], q=s.text) for i, s in tries])
    back = {(i, s): r for (i, s), r in zip(tries, again, strict=True)}
    for i, many in enumerate(said):
        fair = []
        for s in many:
            why = _fault(i, texts, s, back.get((i, s)))
            gain = lift(scorer, s.text, texts[i]) if why is None and scorer is not None else None
            if why is not None or (gain is not None and gain < LIFT):
                made.drop(why or "does not make its passage likelier", s.text)
            else:
                fair.append((gain or 0.0, s))
        fair.sort(key=lambda pair: -pair[0])
        for _, s in fair[1:]:
            made.drop("another instruction of the passage is kept", s.text)
        for gain, s in fair[:1]:
            checked = {"lift": "no log-probabilities" if scorer is None else round(gain, 4)}
            row = Group(as_chat(s.text), (answer(texts[i]),), facts={**wanted.facts(i, language(texts[i])), **checked})
            made.offer(row, tests, teacher.origin("backtranslate", [found[i][1]], *many, back[i, s]))
    return made


def _fault(own: int, texts: Sequence[str], said: Said, reply: Said | None) -> str | None:
    if said.failed or reply is None or reply.failed:
        return "failed call"
    first = max(0, min(own - RIVALS // 2, len(texts) - RIVALS))
    if len(texts) > 1 and not ranked_first(said.text, own - first, texts[first : first + RIVALS]):
        return "does not find its passage"
    return None if token_f1(reply.text, texts[own]) >= AGREE else "round trip disagrees"


def plain_text(rows: Sequence[Group], teacher: Teacher, wanted: Wanted) -> Made:
    """Documents for pretraining: n texts per topic."""
    made, tests = Made(), usual()
    for number in range(wanted.n):
        places = [number * len(wanted.topics) + i for i in range(len(wanted.topics))]
        asked = [
            wanted.axes.on(TEXT[language(t)].format(x=t), i, language(t))
            for i, t in zip(places, wanted.topics, strict=True)
        ]
        for i, topic, said in zip(places, wanted.topics, teacher.one(asked, number), strict=True):
            if said.failed:
                made.drop("failed call", said.text)
                continue
            row = document(said.text, facts=wanted.facts(i, language(topic)))
            made.offer(row, tests, teacher.origin("text", [topic], said))
    return made
