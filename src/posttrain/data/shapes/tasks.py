"""Shapes of task heads: texts with classes, numbers, spans; answers that stand in a text; choices; texts that belong together.

What is said of a text rides on its Response: a class and every span are a `Mark`, a number is its `score`, right and wrong its `label`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from posttrain.core.chat import Message, user
from posttrain.core.group import Group, Mark, Response, Score
from posttrain.data.shapes.shape import Row, Shape, build, first, has, need, text
from posttrain.data.turns import Notes, kind, missing, number, parsed, plain

TAGS = ("ner_tags", "tags", "labels")
SPANS = ("spans", "entities")
NUMBERS = ("score", "value", "rating")
CORRECT = ("answer", "label", "answer_idx", "answerKey", "correct")
NEGATIVES = ("negative", "negatives")


def document(content: str, **fields: Any) -> Response:
    """A text that something is said of."""
    return Response(turns=(Message("document", content),), **fields)


def spans_of(tokens: Sequence[str], tags: Sequence[str]) -> tuple[str, tuple[Mark, ...]]:
    """The text of tokens (one blank between) and the spans of their tags: BIO, BIOES, or a bare label per token.

    Raises ValueError where the two differ in length.
    """
    if len(tokens) != len(tags):
        raise ValueError(f"{len(tokens)} tokens and {len(tags)} tags; one tag per token is needed")
    marks: list[Mark] = []
    at, before = 0, "O"
    for token, tag in zip(tokens, tags):
        side, dash, label = tag.partition("-")
        label = label if dash else tag
        inside = before.partition("-")[2] if "-" in before else before
        joins = tag != "O" and (side in ("I", "E") if dash else True) and inside == label and before[:1] not in "ELS"
        if joins and marks:
            marks[-1] = marks[-1]._replace(end=at + len(token))
        elif tag != "O":
            marks.append(Mark(label, at, at + len(token)))
        before = tag
        at += len(token) + 1
    return " ".join(tokens), tuple(marks)


def _list(row: Row, column: str) -> list[Any]:
    value = parsed(need(row, column), f"column {column!r}")
    if not isinstance(value, list):
        raise ValueError(f"column {column!r} holds {kind(value)}; a list is needed")
    return value


def _read_tagged(row: Row, notes: Notes) -> Group:
    column = first(row, TAGS) or TAGS[0]
    tags = _list(row, column)
    if any(not isinstance(t, str) for t in tags):
        raise ValueError(f"column {column!r} holds numbers; write the tags' names (O, B-person, I-person)")
    content, marks = spans_of([str(t) for t in _list(row, "tokens")], tags)
    return build(row, ("tokens", column), notes, (), [document(content, marks=marks)])


def _read_spans(row: Row, notes: Notes) -> Group:
    column = first(row, SPANS) or SPANS[0]
    content = text(row, "text", notes)
    marks = []
    for n, span in enumerate(_list(row, column)):
        if not isinstance(span, Mapping) or not {"start", "end", "label"} <= set(span):
            raise ValueError(f'{column}[{n}] needs {{"start", "end", "label"}}')
        if not 0 <= span["start"] < span["end"] <= len(content):
            raise ValueError(
                f"{column}[{n}] is {span['start']}:{span['end']}, outside the text of {len(content)} characters"
            )
        marks.append(Mark(str(span["label"]), int(span["start"]), int(span["end"])))
    return build(
        row, ("text", column), notes, (), [document(content, marks=tuple(sorted(marks, key=lambda m: m.start)))]
    )


def _read_class(row: Row, notes: Notes) -> Group:
    label = plain(need(row, "label"), "column 'label'", notes)
    return build(row, ("text", "label"), notes, (), [document(text(row, "text", notes), marks=(Mark(label),))])


def _read_number(row: Row, notes: Notes) -> Group:
    column = first(row, NUMBERS) or NUMBERS[0]
    score = Score(number(row[column], f"column {column!r}"))
    return build(row, ("text", column), notes, (), [document(text(row, "text", notes), score=score)])


def _answers(value: Any, context: str) -> tuple[Mark, ...]:
    """Answer spans of SQuAD rows: {text: [...], answer_start: [...]} or a list of {text, answer_start}; none where it is empty."""
    value = parsed(value, "column 'answers'")
    if isinstance(value, Mapping):
        pairs = list(zip(value.get("text", ()), value.get("answer_start", ()), strict=True))
    elif isinstance(value, list) and all(isinstance(v, Mapping) for v in value):
        pairs = [(v["text"], v["answer_start"]) for v in value]
    else:
        raise ValueError('column \'answers\' needs {"text": [...], "answer_start": [...]} or a list of such answers')
    for said, start in pairs:
        if context[start : start + len(said)] != said:
            raise ValueError(f"the answer {said!r} does not stand at character {start} of the context")
    return tuple(dict.fromkeys(Mark("answer", start, start + len(said)) for said, start in pairs))


def _asked(question: str, context: str, answers: Any, row: Row, used: Sequence[str], notes: Notes) -> Group:
    response = document(context, marks=_answers(answers, context))
    return build(row, (*used, "is_impossible"), notes, (user(question),), [response])


def _read_question(row: Row, notes: Notes) -> Group:
    question, context = text(row, "question", notes), text(row, "context", notes)
    return _asked(question, context, need(row, "answers"), row, ("question", "context", "answers"), notes)


def _read_article(row: Row, notes: Notes) -> tuple[Group, ...]:
    """A SQuAD article: every question of every paragraph."""
    made = []
    for paragraph in _list(row, "paragraphs"):
        for asked in paragraph["qas"]:
            facts = {"id": asked["id"]} if "id" in asked else {}
            facts |= {"title": row["title"]} if has(row, "title") else {}
            answers = [] if asked.get("is_impossible") else asked["answers"]
            made.append(_asked(asked["question"], paragraph["context"], answers, facts, (), notes))
    return tuple(made)


def _read_choices(row: Row, notes: Notes) -> Group:
    value = parsed(need(row, "choices"), "column 'choices'")
    listed = value.get("text") if isinstance(value, Mapping) else value
    names = value.get("label", ()) if isinstance(value, Mapping) else ()
    if not isinstance(listed, list) or len(listed) < 2:
        raise ValueError('column \'choices\' needs a list of two texts or more (or {"text": [...], "label": [...]})')
    column = first(row, CORRECT)
    if column is None:
        raise ValueError(f"which choice is right? one of these columns is needed: {', '.join(CORRECT)}")
    right = _chosen(row[column], [str(c) for c in listed], [str(n) for n in names])
    responses = [document(str(c), label=i == right) for i, c in enumerate(listed)]
    return build(row, ("question", "choices", column), notes, (user(text(row, "question", notes)),), responses)


def _chosen(value: Any, choices: list[str], names: list[str]) -> int:
    """Index of the right choice from an index, a name, a letter or the choice's own text."""
    said = str(value).strip()
    for known in (choices, names, [chr(65 + i) for i in range(len(choices))], [str(i) for i in range(len(choices))]):
        if known.count(said) == 1:
            return known.index(said)
    raise ValueError(
        f"the right choice {said!r} is none of the {len(choices)} choices, their letters or numbers from 0"
    )


def _read_near(row: Row, notes: Notes) -> Group:
    column = first(row, NEGATIVES)
    value = [] if column is None else parsed(row[column], f"column {column!r}")
    others = value if isinstance(value, list) else [value]
    responses = [document(text(row, "anchor", notes)), document(text(row, "positive", notes), label=True)]
    responses += [document(str(n), label=False) for n in others if not missing(n)]
    return build(row, ("anchor", "positive", *NEGATIVES), notes, (), responses)


def _holds(row: Row, column: str, *kinds: type) -> bool:
    return isinstance(row.get(column), kinds)


SHAPES = (
    Shape("anchor/positive/negative", "anchor, positive; optional negative (text or list)",
          "texts that belong together (label true) or not (false); the first is the anchor",
          lambda row: has(row, "anchor", "positive"), _read_near),
    Shape("tagged tokens", "tokens and ner_tags (or tags, labels), as lists; CoNLL files", "a text with spans",
          lambda row: has(row, "tokens") and first(row, TAGS) is not None, _read_tagged),
    Shape("SQuAD articles", "paragraphs[context, qas]", "a question and a text with answer spans, per question",
          lambda row: _holds(row, "paragraphs", list), _read_article),
    Shape("question in context", "question, context, answers[text, answer_start]",
          "a question and a text with its answer spans; none where the text holds no answer",
          lambda row: has(row, "question", "context") and _holds(row, "answers", dict, list), _read_question),
    Shape("question with choices", "question, choices, and answer (index, letter or text)", "answers, one of them right",
          lambda row: has(row, "question") and _holds(row, "choices", dict, list), _read_choices),
    Shape("text with spans", "text, spans[start, end, label]", "a text with spans",
          lambda row: has(row, "text") and first(row, SPANS) is not None, _read_spans),
    Shape("text with a class", "text, label", "a text with its class",
          lambda row: has(row, "text", "label") and first(row, ("completion", "response", "output", "prompt")) is None,
          _read_class),
    Shape("text with a number", "text, score (or value, rating)", "a text with a number",
          lambda row: has(row, "text") and first(row, NUMBERS) is not None and first(row, ("prompt",)) is None,
          _read_number),
)  # fmt: skip
