"""Task heads measured on labelled rows: the part of `eval` for models that answer nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from posttrain.core.group import Group
from posttrain.evals import task_scores as scores
from posttrain.methods.tag import bio
from posttrain.models.task_models import TaskModel
from posttrain.stats import Interval, cluster_bootstrap

Measured = tuple[dict[str, Interval], list[dict[str, Any]]]


def measure(path: str, groups: Sequence[Group], seed: int = 0, device: str = "cpu") -> Measured:
    """Figures with intervals, and one row per group, of a task directory. Raises ValueError where the rows do not fit the head."""
    model = TaskModel(path, device)
    by_task = {
        "token_classification": _spans,
        "question_answering": _answers,
        "multiple_choice": _choices,
        "embedding": _embeddings,
    }
    if model.task == "sequence_classification":
        single = len(model.labels) == 1
        chosen = _choices if single and _is_choice(groups) else _numbers if single else _classes
    elif model.task in by_task:
        chosen = by_task[model.task]
    else:
        raise ValueError(f"{path}: a {model.task} model is a start for others; there is no figure to measure it by")
    return chosen(model, groups, seed)


def _is_choice(groups: Sequence[Group]) -> bool:
    return bool(groups) and len(groups[0].responses) > 1


def _row(group: Group, said: Any, wanted: Any, figures: dict[str, list[float | None]]) -> dict[str, Any]:
    return {
        "id": group.id,
        "prompt_hash": group.prompt_hash,
        "prompt": [m.to_json() for m in group.prompt],
        "text": group.responses[0].text,
        "said": said,
        "wanted": wanted,
        "figures": figures,
    }


def _fitting(groups: Sequence[Group], fits: Any, what: str) -> list[Group]:
    kept = [g for g in groups if g.responses and fits(g)]
    if len(kept) < len(groups):
        raise ValueError(f"row {next(g for g in groups if g not in kept).id}: {what} is needed to measure this head")
    return kept


def _classes(model: TaskModel, groups: Sequence[Group], seed: int) -> Measured:
    groups = _fitting(groups, lambda g: g.responses[0].marks, "a class (`label`)")
    gold = [(g.responses[0].marks or ())[0].label for g in groups]
    odd = sorted(set(gold) - set(model.labels))
    if odd:
        raise ValueError(f"class {odd[0]!r} is none of the model's: {', '.join(model.labels)}")
    said = model.classes([g.responses[0].text for g in groups])
    rows = [_row(g, s, w, {"accuracy": [float(s == w)]}) for g, s, w in zip(groups, said, gold)]
    return scores.class_figures(gold, said, model.labels, seed), rows


def _numbers(model: TaskModel, groups: Sequence[Group], seed: int) -> Measured:
    groups = _fitting(groups, lambda g: g.responses[0].score is not None, "a number (`score`)")
    gold = [float(g.responses[0].score.value) for g in groups]  # type: ignore[union-attr, arg-type]
    said = model.logits([g.responses[0].text for g in groups])[:, 0].tolist()
    rows = [_row(g, s, w, {"absolute_error": [abs(s - w)]}) for g, s, w in zip(groups, said, gold)]
    return scores.number_figures(gold, said, seed), rows


def _spans(model: TaskModel, groups: Sequence[Group], seed: int) -> Measured:
    groups = _fitting(groups, lambda g: g.responses[0].marks is not None, "spans")
    texts = [g.responses[0].text for g in groups]
    said, gold = model.tags(texts), []
    for group, text in zip(groups, texts):
        _, _, offsets = model.renderer.encode(None, text)
        gold.append([t for t in bio(offsets, group.responses[0].marks or ()) if t is not None])
    rows = [_row(g, s, w, {"exact": [float(s == w)]}) for g, s, w in zip(groups, said, gold)]
    return scores.span_figures(gold, said, seed), rows


def _answers(model: TaskModel, groups: Sequence[Group], seed: int) -> Measured:
    groups = _fitting(groups, lambda g: g.prompt and g.responses[0].marks is not None, "a question and its answer span")
    texts = [g.responses[0].text for g in groups]
    spans = model.answers([(g.prompt_text, t) for g, t in zip(groups, texts)])
    rows = []
    for group, text, span in zip(groups, texts, spans):
        said = "" if span is None else text[span.start : span.end]
        wanted = [text[m.start : m.end] for m in group.responses[0].marks or ()]
        exact, f1 = scores.answer_scores(said, wanted)
        figures: dict[str, list[float | None]] = {"exact_match": [exact], "f1": [f1]}
        figures["f1_answered" if wanted else "f1_unanswerable"] = [f1]
        rows.append(_row(group, said, wanted, figures))
    return _means(rows, seed), rows


def _choices(model: TaskModel, groups: Sequence[Group], seed: int) -> Measured:
    groups = _fitting(groups, lambda g: [r.label for r in g.responses].count(True) == 1, "one right choice")
    rows = []
    for group in groups:
        said = model.choose(group.prompt_text, [r.text for r in group.responses])
        right = [r.label for r in group.responses].index(True)
        rows.append(_row(group, said, right, {"accuracy": [float(said == right)]}))
    return _means(rows, seed), rows


def _embeddings(model: TaskModel, groups: Sequence[Group], seed: int) -> Measured:
    groups = _fitting(groups, lambda g: True in [r.label for r in g.responses], "an anchor and what belongs to it")
    anchors = [next(r for r in g.responses if r.label is None).text for g in groups]
    others = [next(r for r in g.responses if r.label is True).text for g in groups]
    queries, documents = model.embed(anchors), model.embed(others)
    ranks = scores.retrieval_ranks(queries, documents)
    rows = [_row(g, int(k), 1, {"reciprocal_rank": [1.0 / k]}) for g, k in zip(groups, ranks)]
    return scores.retrieval_figures(queries, documents, seed), rows


def _means(rows: Sequence[dict[str, Any]], seed: int) -> dict[str, Interval]:
    names = list(dict.fromkeys(n for r in rows for n in r["figures"]))
    out = {}
    for name in names:
        values = [float(np.mean(r["figures"][name])) for r in rows if name in r["figures"]]
        out[name] = cluster_bootstrap(values, [r["id"] for r in rows if name in r["figures"]], seed=seed)
    return out
