"""Shapes with a prompt column and several answers: prompt/chosen/rejected, lists of both (RM-Bench), and responses with rank or scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from posttrain.core.chat import Chat
from posttrain.core.group import Group, Response
from posttrain.data.shapes.ask import PROMPTS, asked
from posttrain.data.shapes.shape import (
    Row,
    Shape,
    as_answer,
    as_score,
    build,
    first,
    fork,
    has,
    label_of,
    need,
    pair,
    with_system,
)
from posttrain.data.turns import Notes, as_turns, is_turn, is_turns, kind, missing, number, parsed

LISTS = ("responses", "completions", "answers", "outputs", "candidates")
RANKS = ("rank", "ranks", "ranking")
VALUES = ("scores", "score", "rewards", "ratings")
ITEM_TEXT = ("text", "response", "content", "completion", "output", "answer", "turns", "messages")
ITEM_SCORE = ("score", "overall_score", "reward", "rating")


def _texts(value: Any) -> list[Any] | None:
    """A cell that lists several answers, else None: a list of texts or of conversations, not a single conversation.

    JSON text is not taken apart here, since an answer may be a JSON list itself.
    """
    if not isinstance(value, (list, tuple)) or is_turns(value):
        return None
    return list(value) if value and all(isinstance(v, str) or is_turns(v) for v in value) else None


def _read_many(row: Row, notes: Notes) -> Group:
    prompt, used = asked(row, notes)
    sides: list[list[Chat]] = []
    for column in ("chosen", "rejected"):
        cell = need(row, column)
        listed = _texts(cell)
        if listed is None:
            if not isinstance(cell, str):
                raise ValueError(
                    f"column {column!r} holds {kind(cell)}; a list of answers is needed as in the other rows"
                )
            listed = [cell]
        sides.append([as_answer(v, f"column {column!r}[{n}]", notes) for n, v in enumerate(listed)])
    return pair(row, {*used, "chosen", "rejected"}, notes, prompt, sides[0], sides[1])


def _read_pair(row: Row, notes: Notes) -> Group:
    prompt, used = asked(row, notes)
    used |= {"chosen", "rejected"}
    cells = [need(row, c) for c in ("chosen", "rejected")]
    sides = [as_answer(cell, f"column {c!r}", notes) for cell, c in zip(cells, ("chosen", "rejected"), strict=True)]
    if all(side[0].role == "assistant" for side in sides):
        return pair(row, used, notes, prompt, sides[:1], sides[1:])
    whole = [_continued(prompt, with_system(row, prompt, notes), side) for side in sides]
    shared, a, b = fork(whole[0], whole[1])
    return pair(row, used, notes, shared, [a], [b])


def _continued(prompt: Chat, full: Chat, side: Chat) -> Chat:
    """A side as a whole conversation: it may repeat the prompt (with or without a system turn) or go on after it."""
    if side[0].role == "assistant" or side[0].role == "tool":
        return prompt + side
    said = [(m.role, m.content) for m in side]
    for start in (full, prompt, prompt[-1:]):
        wanted = [(m.role, m.content) for m in start]
        if said[: len(wanted)] == wanted or (side[0].role == "system" and said[1 : 1 + len(wanted)] == wanted):
            return (*prompt[: -len(start)], *side) if start is not full and len(start) < len(prompt) else side
    raise ValueError(
        "chosen or rejected is a whole conversation that does not begin with the prompt column; leave the prompt out of one of them"
    )


def _turns(item: Any, n: int, notes: Notes) -> tuple[Chat, Mapping[str, Any]]:
    """One listed answer as (turns, the object it came in)."""
    what = f"responses[{n}]"
    if isinstance(item, Mapping) and not is_turn(item):
        key = next((k for k in ITEM_TEXT if not missing(item.get(k))), None)
        if key is None:
            raise ValueError(f"{what} has no text; one of these keys is needed: {', '.join(ITEM_TEXT)}")
        return as_answer(item[key], f"{what}.{key}", notes), item
    return (as_turns([item], what, notes) if is_turn(item) else as_answer(item, what, notes)), {}


def tiers(ranks: Sequence[Any], n: int) -> tuple[tuple[int, ...], ...]:
    """Tiers, best first, from one rank per response (1 is best, equal ranks tie, null is unranked) or from tiers of indices."""
    if ranks and all(isinstance(r, (list, tuple)) for r in ranks):
        return tuple(tuple(int(i) for i in tier) for tier in ranks)
    if len(ranks) != n:
        raise ValueError(f"{len(ranks)} ranks for {n} responses; one rank per response is needed, 1 for the best")
    known = [(number(r, "rank"), i) for i, r in enumerate(ranks) if not missing(r)]
    return tuple(tuple(i for r, i in known if r == value) for value in sorted({r for r, _ in known}))


def _column(row: Row, names: Sequence[str], n: int) -> tuple[str | None, list[Any] | None]:
    name = first(row, names)
    if name is None:
        return None, None
    value = parsed(row[name], f"column {name!r}")
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"column {name!r} holds {kind(value)}; a list with one value per response is needed")
    if name not in RANKS and len(value) != n:
        raise ValueError(f"column {name!r} has {len(value)} values for {n} responses; one per response is needed")
    return name, list(value)


def _read_responses(row: Row, notes: Notes) -> Group:
    prompt, used = (
        asked(row, notes)
        if first(row, ("messages",)) is None
        else (as_turns(row["messages"], "column 'messages'", notes), frozenset(("messages",)))
    )
    column = next((c for c in LISTS if c in row), LISTS[0])
    listed = parsed(need(row, column), f"column {column!r}")
    if not isinstance(listed, (list, tuple)) or not listed:
        raise ValueError(
            f"column {column!r} holds {'an empty list' if listed in ([], ()) else kind(listed)}; a list of answers is needed"
        )
    made = [_turns(item, n, notes) for n, item in enumerate(listed)]
    rank_column, ranks = _column(row, RANKS, len(made))
    score_column, values = _column(row, VALUES, len(made))
    if values is None and any(k in item for _, item in made for k in ITEM_SCORE):
        values = [next((item[k] for k in ITEM_SCORE if k in item), None) for _, item in made]
    if ranks is None and any("rank" in item for _, item in made):
        ranks = [item.get("rank") for _, item in made]
    scores = None if values is None else [as_score(v, f"score of responses[{n}]") for n, v in enumerate(values)]
    responses = [_response(turns, item, None if scores is None else scores[n]) for n, (turns, item) in enumerate(made)]
    ranking = tiers(ranks, len(made)) if ranks is not None else None
    if ranking is None and scores is not None:
        ranking = tiers([None if s.value is None else -s.value for s in scores], len(made))
    _count_left(made, notes)
    read = {*used, column, *(c for c in (rank_column, score_column) if c)}
    return build(row, read, notes, prompt, responses, ranking=ranking)


def _response(turns: Chat, item: Mapping[str, Any], score: Any) -> Response:
    by = next((str(item[k]) for k in ("by", "model") if not missing(item.get(k))), None)
    given = label_of(item["label"]) if not missing(item.get("label")) else None
    weight = 1.0 if missing(item.get("weight")) else number(item["weight"], "weight")
    return Response(turns=turns, score=score, by=by, label=given, weight=weight, stop=item.get("stop"))


def _count_left(made: Sequence[tuple[Chat, Mapping[str, Any]]], notes: Notes) -> None:
    read = {*ITEM_TEXT, *ITEM_SCORE, "rank", "by", "model", "label", "weight", "stop"}
    for _, item in made:
        for key in item:
            if key not in read and not missing(item[key]):
                notes[f"key {key!r} of responses is not carried"] += 1


def _read_group(row: Row, notes: Notes) -> Group:
    """A row of `Group.to_json`."""
    row = {k: parsed(v, f"column {k!r}") for k, v in row.items() if not missing(v)}
    known = {"prompt", "responses", "preferences", "ranking", "facts", "tools"}
    try:
        made = Group.from_json(row)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"this is no written group ({type(error).__name__}: {error}); see Group.to_json") from None
    return replace(made, facts={**made.facts, **{k: v for k, v in row.items() if k not in known}})


def _is_group(row: Row) -> bool:
    if not has(row, "prompt", "responses"):
        return False
    listed = row["responses"]
    if isinstance(listed, str):
        return listed.startswith('[{"turns":')
    return (
        isinstance(listed, (list, tuple))
        and (bool(listed) or isinstance(row["prompt"], (list, tuple)))  # a written group may have no answer yet
        and all(isinstance(r, Mapping) and "turns" in r for r in listed)
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, str) and value.lstrip()[:1] == "[")


SHAPES = (
    Shape(
        "groups",
        "prompt, responses[turns] (rows that `posttrain` wrote)",
        "the group as it was",
        _is_group,
        _read_group,
    ),
    Shape(
        "prompt/chosen[]/rejected[]",
        "prompt, chosen (list), rejected (list)",
        "every chosen answer over every rejected one, as two tiers",
        lambda row: (
            has(row, "chosen", "rejected")
            and first(row, PROMPTS) is not None
            and any(_texts(row[c]) for c in ("chosen", "rejected"))
        ),
        _read_many,
    ),
    Shape(
        "prompt/chosen/rejected",
        "prompt (or question, instruction + input, ...), chosen, rejected: text or messages; margin, weight, p, score_chosen",
        "a pair",
        lambda row: has(row, "chosen", "rejected") and first(row, PROMPTS) is not None,
        _read_pair,
    ),
    Shape(
        "responses with rank or scores",
        "prompt, responses (texts, messages, or objects with text, score, rank), rank (1 is best, equal = tie) or scores",
        "several answers with their ranking (from the scores where no rank is given)",
        lambda row: (
            first(row, (*PROMPTS, "messages")) is not None
            and any(_is_list(row.get(c)) and not is_turns(row[c]) for c in LISTS)
        ),
        _read_responses,
    ),
)
