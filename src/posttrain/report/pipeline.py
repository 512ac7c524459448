"""The page of a whole pipeline: its stages side by side, on a scale whose truth is known.

`write_pipeline_report(dir, summary)` takes a JSON-able mapping. Where a number has uncertainty give an `Interval` or
{estimate, low, high, n, method}; a bare number is shown without an interval. All but `stages` may be absent.

    title, created, seconds, seeds, versions, notes
    stages: [{name, method, seconds, gold, kl, rm_accuracy: [{gap, accuracy}], report, note}]     report: relative path of its page
    winners: [{a, b, difference, separated, seeds: {seed: difference}, text}]                     a against b, paired by prompt
    tasks: {task: {stage: gold}}
    samples: [{id, prompt, answers: {stage: text}, scores: {stage: number}}]
    lineage: [{name, path, hash}]
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from posttrain.core.files import write_text
from posttrain.report.axes import node
from posttrain.report.dots import dot_plot
from posttrain.report.page import (
    Cell,
    Section,
    as_interval,
    card,
    duration,
    facts,
    figure,
    hash_markup,
    page,
    table,
    tiles,
)
from posttrain.report.plot import scatter
from posttrain.report.samples import samples_markup, score_table
from posttrain.stats import Interval

SIMULATION = (
    "The reading room is a simulation. Its tasks, its gold reward and its annotators are generated with a known truth, so gold can be "
    "measured on every answer. The numbers show that the pipeline works on that world; they say nothing about people or about "
    "other models."
)


def _stages(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    stages = summary.get("stages")
    if not isinstance(stages, Sequence) or isinstance(stages, str) or not stages:
        raise ValueError("summary.stages is missing: give a list of {name, method, seconds, gold, ...}")
    for i, s in enumerate(stages):
        if not isinstance(s, Mapping) or "name" not in s:
            raise ValueError(f"summary.stages[{i}] lacks a name")
    return list(stages)


def golds(stages: Sequence[Mapping[str, Any]]) -> list[tuple[str, Interval]]:
    """Name and gold of the stages that have one."""
    return [(str(s["name"]), as_interval(s["gold"], f"{s['name']}.gold")) for s in stages if s.get("gold") is not None]


def accuracies(stages: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[str, Interval]]]:
    """Per stage, (gap, accuracy) of its reward model."""
    return {
        str(s["name"]): [
            (str(r["gap"]), as_interval(r["accuracy"], f"{s['name']}.rm_accuracy")) for r in s["rm_accuracy"]
        ]
        for s in stages
        if s.get("rm_accuracy")
    }


def _number(value: Interval | None) -> Cell:
    if value is None:
        return Cell("–", class_="n muted")
    sub = f"[{value.low:.3f}, {value.high:.3f}]" if value.known else ""
    return Cell(f"{value.estimate:.3f}", sub=sub, class_="n")


def _accuracy_line(rows: Sequence[tuple[str, Interval]]) -> str:
    return " · ".join(f"{gap}: {i.estimate:.0%}" for gap, i in rows) or "–"


def _link(stage: Mapping[str, Any]) -> Cell:
    """The stage's name, linked to its own page when that is a plain relative path."""
    name, report = str(stage["name"]), str(stage.get("report") or "")
    if not re.fullmatch(r"[\w.\-][\w.\-/]*", report) or ".." in report:
        return Cell(name)
    return Cell(markup=node("a", escape(name), href=report))


def _stage_table(stages: Sequence[Mapping[str, Any]]) -> str:
    rms = accuracies(stages)
    rows: list[list[Cell | str]] = []
    for s in stages:
        gold = None if s.get("gold") is None else as_interval(s["gold"], f"{s['name']}.gold")
        kl = None if s.get("kl") is None else as_interval(s["kl"], f"{s['name']}.kl")
        link = _link(s)
        rows.append(
            [
                Cell(link.text, sub=str(s.get("note") or ""), markup=link.markup),
                str(s.get("method", "")),
                Cell(duration(s["seconds"]) if s.get("seconds") is not None else "–", class_="n"),
                _number(gold),
                _number(kl),
                Cell(_accuracy_line(rms.get(str(s["name"]), [])), class_="small"),
            ]
        )
    head = ["stage", "method", "time", "gold", "KL (nats)", "reward-model accuracy by gap"]
    return card("", table(head, rows, "Intervals are 95%", numeric=(2, 3, 4)))


def _winner_table(winners: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for i, w in enumerate(winners):
        difference = as_interval(w.get("difference"), f"summary.winners[{i}].difference")
        seeds = w.get("seeds") or {}
        one = len(seeds) == 1
        yes = bool(w.get("separated"))
        said = ("ahead in one seed" if one else "better") if yes else "not separated"
        rows.append(
            [
                Cell(f"{w.get('a', '?')} against {w.get('b', '?')}", sub=str(w.get("text") or "")),
                Cell(
                    f"{difference.estimate:+.3f}",
                    sub=f"[{difference.low:+.3f}, {difference.high:+.3f}]" if difference.known else "",
                    class_="n",
                ),
                Cell(", ".join(f"{k} {v:+.3f}" for k, v in seeds.items()) or "–"),
                Cell(markup=node("span", escape(("▲ " if yes else "") + said), class_="chip up" if yes else "chip")),
            ]
        )
    told = (
        "Better means: paired by prompt, mean over at least three seeds, one-sided 95% bootstrap bound over at least 300 prompts above 0, "
        "and every seed positive. With one seed the page says ahead in one seed and no more."
    )
    return card(
        "",
        table(["comparison", "difference in gold", "by seed", "verdict"], rows, numeric=(1,)),
        node("p", told, class_="muted small"),
    )


def _task_table(tasks: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    rows = []
    for task, by_stage in tasks.items():
        values = {n: as_interval(by_stage[n], f"tasks.{task}.{n}") for n in names if by_stage.get(n) is not None}
        top = max((v.estimate for v in values.values()), default=math.nan)
        first = next(iter(values.values()), None)
        row = [Cell(task)]
        for n in names:
            cell = _number(values.get(n))
            best = n in values and values[n].estimate == top and len(values) > 1
            change = ""
            if n in values and first is not None and values[n] is not first:
                change = f" {values[n].estimate - first.estimate:+.2f}"
            row.append(Cell(cell.text, sub=(cell.sub + change).strip(), class_="n best" if best else cell.class_))
        rows.append(row)
    told = "Mean gold a task with its 95% interval; the signed number is the change from the first stage; the highest is bold."
    note = node("p", told, class_="muted small")
    return card("", note, table(["task", *names], rows, numeric=range(1, len(names) + 1)))


def _plots(stages: Sequence[Mapping[str, Any]]) -> str:
    gold = golds(stages)
    boxes = []
    if gold:
        boxes.append(figure("Gold by stage", dot_plot(gold, "Gold by stage, 95% intervals", "gold reward")))
    points = [
        (str(s["name"]), as_interval(s["kl"], "kl").estimate, as_interval(s["gold"], "gold"))
        for s in stages
        if s.get("kl") is not None and s.get("gold") is not None
    ]
    # A stage before the one that the KL is counted from (the base under its SFT) is hundreds of nats away and paid nothing.
    start = next((i for i, (_, kl, _) in enumerate(points) if kl == 0), 0)
    points = points[start:]
    if len(points) > 1:
        boxes.append(figure("What gold costs", scatter(points, "Gold against KL", "KL from the start (nats)", "gold")))
    return node("div", *boxes, class_="pair stack")


def _accuracy_plots(stages: Sequence[Mapping[str, Any]]) -> str:
    boxes = [
        figure(
            f"{name}: accuracy by size of the gold gap",
            dot_plot(rows, f"{name}, accuracy by gap", "share ordered as gold", 0.5, one_colour=True),
        )
        for name, rows in accuracies(stages).items()
    ]
    note = node(
        "p", "Pairs that differ little in gold are hard for any judge; the dashed line is a coin.", class_="muted small"
    )
    return node("div", *boxes, class_="pair") + note


def _headline(summary: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> str:
    gold, items = golds(stages), []
    if gold:
        (first, a), (best, b) = gold[0], max(gold, key=lambda g: g[1].estimate)
        items.append(("Highest gold", f"{b.estimate:.3f}", f"{best}, [{b.low:.3f}, {b.high:.3f}]" if b.known else best))
        items.append(("Start", f"{a.estimate:.3f}", f"{first}, [{a.low:.3f}, {a.high:.3f}]" if a.known else first))
    winners = summary.get("winners") or ()
    if winners:
        won = sum(bool(w.get("separated")) for w in winners)
        items.append(("Separated", f"{won} of {len(winners)}", "comparisons"))
    items.append(("Stages", str(len(stages)), ""))
    total = summary.get("seconds")
    if total is None and all(isinstance(s.get("seconds"), (int, float)) for s in stages):
        total = sum(s["seconds"] for s in stages)
    if total is not None:
        items.append(("Time", duration(total), "all stages"))
    return tiles(items)


def _origin(summary: Mapping[str, Any]) -> str:
    boxes = [card(t, facts(summary[k])) for k, t in (("seeds", "Seeds"), ("versions", "Versions")) if summary.get(k)]
    out = node("div", *boxes, class_="grid stack") if boxes else ""
    if summary.get("lineage"):
        rows: list[list[Cell | str]] = [
            [
                str(f.get("name", "")),
                Cell(markup=node("code", escape(str(f.get("path", ""))))),
                Cell(markup=hash_markup(f.get("hash"))),
            ]
            for f in summary["lineage"]
        ]
        out += card("Files", table(["name", "path", "SHA-256"], rows))
    return out


def pipeline_page(summary: Mapping[str, Any]) -> str:
    """The page as text. Raises ValueError naming the field that is missing or is no number."""
    stages = _stages(summary)
    names = [name for name, _ in golds(stages)]
    sections = [Section("stages", "Stages", _plots(stages) + _stage_table(stages))]
    if summary.get("winners"):
        sections.append(Section("winners", "Who is better", _winner_table(summary["winners"])))
    if accuracies(stages):
        sections.append(Section("reward-model", "Reward model", _accuracy_plots(stages)))
    if summary.get("tasks"):
        sections.append(Section("tasks", "Gold by task", _task_table(summary["tasks"], names)))
    if summary.get("samples"):
        rows = summary["samples"]
        scored = [r for r in rows if isinstance(r.get("scores"), Mapping)]
        columns = list(dict.fromkeys(n for r in scored for n in r["scores"]))
        fold = node("details", node("summary", "Scores as a table"), score_table(scored, columns)) if scored else ""
        sections.append(Section("samples", "Answers side by side", samples_markup(rows, "the evaluation rows") + fold))
    origin = _origin(summary)
    if origin:
        sections.append(Section("origin", "Seeds, versions, files", origin))
    notes = [SIMULATION, *map(str, summary.get("notes") or ())]
    banner = node("div", *(node("p", escape(n)) for n in notes), class_="banner", role="note")
    title = str(summary.get("title") or "Pipeline")
    subtitle = " → ".join(str(s["name"]) for s in stages)
    if summary.get("created"):
        subtitle += f" · {summary['created']}"
    return page(
        title,
        subtitle,
        banner + _headline(summary, stages),
        sections,
        "Made by posttrain from the results of every stage.",
    )


def write_pipeline_report(directory: str | Path, summary: Mapping[str, Any]) -> Path:
    """Write `report.html` of a pipeline into a directory and return its path. The shape of `summary` is in the module's docstring."""
    return write_text(Path(directory) / "report.html", pipeline_page(summary))
