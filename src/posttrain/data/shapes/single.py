"""Shapes of one answer or none: prompt/completion and its column pairs, labels, reference answers, prompts alone, plain text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from posttrain.core.chat import Message, assistant, user
from posttrain.core.group import Group, Response
from posttrain.data.shapes.ask import PROMPTS, REFERENCES, asked, reference
from posttrain.data.shapes.shape import (
    SCORES,
    Row,
    Shape,
    as_answer,
    as_prompt,
    as_score,
    build,
    first,
    has,
    label,
    label_of,
    need,
    text,
)
from posttrain.data.turns import Notes, kind, parsed, plain

COMPLETIONS = ("completion", "response", "output")
LABELS = ("label", "kto_tag")
PAIRS = (
    ("prompt", "completion"), ("prompt", "response"), ("prompt", "output"), ("question", "answer"), ("question", "response"),
    ("problem", "solution"), ("query", "response"), ("query", "answer"), ("input", "output"),
)  # fmt: skip


def _answered(row: Row, notes: Notes, ask: str, say: str, labels: bool = False) -> Group:
    """One answer to one question; alpaca history opens the conversation as trained turns would."""
    prompt, read = asked(row, notes, ask)
    turns = as_answer(need(row, say), f"column {say!r}", notes)
    used = {*read, say}
    if has(row, "history") and not labels:
        at = next((n for n, m in enumerate(prompt) if m.role == "assistant"), len(prompt))
        prompt, turns = prompt[:at], prompt[at:] + turns
    response = Response(turns=turns)
    if labels:
        name = next((c for c in LABELS if c in row), LABELS[0])
        response = replace(response, label=label(row, name))
        used.add(name)
    score = first(row, SCORES)
    if score is not None:
        response = replace(response, score=as_score(row[score], f"column {score!r}"))
        used.add(score)
    facts = {"answer": row[say]} if say == "answer" else {}
    return build(row, used, notes, prompt, [response], facts=facts)


def _pair_columns(row: Row) -> tuple[str, str] | None:
    """Which question and answer columns a row has."""
    if has(row, "instruction"):
        say = first(row, ("output", "response", "completion"))
        return ("instruction", say) if say else None
    return next(((a, b) for a, b in PAIRS if has(row, a, b)), None)


def _labelled(row: Row) -> bool:
    return _pair_columns(row) is not None and any(has(row, c) and label_of(row[c]) is not None for c in LABELS)


def _read_labelled(row: Row, notes: Notes) -> Group:
    ask, say = _pair_columns(row) or ("prompt", "completion")
    return _answered(row, notes, ask, say, labels=True)


def _read_reference(row: Row, notes: Notes) -> Group:
    prompt, used = asked(row, notes)
    found = reference(row)
    if found is None:
        raise ValueError(f"no reference answer; one of these columns is needed: {', '.join(REFERENCES)}")
    column, value = found
    keep = {"reward_model": row[column]} if column == "reward_model" else {}
    return build(row, {*used, column}, notes, prompt, (), facts={"answer": value, **keep})


def _read_prompt(row: Row, notes: Notes) -> Group:
    prompt, used = asked(row, notes)
    return build(row, used, notes, prompt, ())


def _read_turns(row: Row, notes: Notes) -> Group:
    """Several user turns to be asked one after the other (MT-Bench): the first is the prompt, all stay in facts["turns"]."""
    listed = parsed(need(row, "turns"), "column 'turns'")
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"column 'turns' holds {kind(listed)}; a list of user turns is needed")
    texts = [plain(t, f"turns[{n}]", notes) for n, t in enumerate(listed)]
    given = row.get("id", row.get("question_id"))
    facts = {"turns": texts} | ({} if given is None else {"id": given})
    return build(row, ("turns",), notes, (user(texts[0]),), (), facts=facts)


def _read_behaviour(row: Row, notes: Notes) -> Group:
    columns = ("answer_matching_behavior", "answer_not_matching_behavior")
    responses = [Response(turns=(assistant(text(row, c, notes)),)) for c in columns]
    return build(
        row, ("question", *columns), notes, as_prompt(row, "question", notes), responses, facts={"matching": 0}
    )


def _read_instances(row: Row, notes: Notes) -> tuple[Group, ...]:
    """Self-instruct seed tasks: one group per instance."""
    listed = parsed(need(row, "instances"), "column 'instances'")
    if not isinstance(listed, list) or not listed or not all(isinstance(i, Mapping) for i in listed):
        raise ValueError('column \'instances\' needs a list of {"input": ..., "output": ...} objects')
    rest = {k: v for k, v in row.items() if k != "instances"}
    return tuple(_answered({**rest, **instance}, notes, "instruction", "output") for instance in listed)


def _read_text(row: Row, notes: Notes) -> Group:
    column = next((c for c in ("text", "document") if c in row), "text")
    return build(row, (column,), notes, (), [Response(turns=(Message("document", text(row, column, notes)),))])


def _pair_shape(name: str, ask: str, say: str) -> Shape:
    gives = "one answer, and the same as reference in facts" if say == "answer" else "one answer"
    return Shape(name, f"{ask}, {say}", gives, lambda row: has(row, ask, say), partial(_answered, ask=ask, say=say))


def _instruction_shape(name: str, say: str, more: str) -> Shape:
    return Shape(
        name,
        f"instruction, {say}; optional {more}, history, system",
        "one answer; the extra text follows the instruction on a new line",
        lambda row: has(row, "instruction", say),
        partial(_answered, ask="instruction", say=say),
    )


SHAPES = (
    Shape(
        "prompt/completion/label",
        "prompt, completion (or another column pair), label (or kto_tag): true/false, 1/0, good/bad",
        "one labelled answer (KTO)",
        _labelled,
        _read_labelled,
    ),
    Shape(
        "question with two behaviours",
        "question, answer_matching_behavior, answer_not_matching_behavior",
        'two answers without preference; facts["matching"] is the index of the matching one',
        lambda row: has(row, "question", "answer_matching_behavior", "answer_not_matching_behavior"),
        _read_behaviour,
    ),
    _pair_shape("prompt/completion", "prompt", "completion"),
    _pair_shape("prompt/response", "prompt", "response"),
    _pair_shape("prompt/output", "prompt", "output"),
    _instruction_shape("instruction/input/output", "output", "input"),
    _instruction_shape("instruction/context/response", "response", "context"),
    _instruction_shape("instruction/completion", "completion", "input"),
    Shape(
        "instruction with instances",
        "instruction, instances[input, output]",
        "one answer per instance",
        lambda row: has(row, "instruction", "instances"),
        _read_instances,
    ),
    *(_pair_shape(f"{a}/{b}", a, b) for a, b in PAIRS if a != "prompt"),
    Shape(
        "prompt + reference",
        f"prompt (or question, instruction, ...) and one of {', '.join(REFERENCES)}, reward_model.ground_truth",
        'a prompt without answer; the reference of any type is facts["answer"]',
        lambda row: first(row, PROMPTS) is not None and reference(row) is not None,
        _read_reference,
    ),
    Shape(
        "turns",
        "turns (a list of user turns)",
        'a prompt; all turns in facts["turns"]',
        lambda row: isinstance(row.get("turns"), list),
        _read_turns,
    ),
    Shape(
        "prompts",
        "prompt (or question, instruction, query, problem)",
        "a prompt without answer",
        lambda row: first(row, PROMPTS) is not None,
        _read_prompt,
    ),
    Shape(
        "text",
        "text (or document)",
        "a plain document",
        lambda row: first(row, ("text", "document")) is not None,
        _read_text,
    ),
)
