"""The page of one run, from the files in its directory: recipe, manifest, metrics, samples.

A part whose file is missing says so; nothing is guessed. What the manifest holds beyond the known names is listed at
the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from posttrain.core.files import read_lines, write_text
from posttrain.report.axes import node, number
from posttrain.report.data import data_markup, kept_of, sources, whole
from posttrain.report.page import (
    Cell,
    Section,
    card,
    duration,
    facts,
    figure,
    hash_markup,
    page,
    plain,
    table,
    tiles,
)
from posttrain.report.plot import Series, histogram, line_chart
from posttrain.report.samples import samples_markup
from posttrain.report.tokens import tokens_markup

SHOWN = {
    "name",
    "method",
    "created",
    "seconds",
    "seeds",
    "versions",
    "inputs",
    "outputs",
    "data",
    "lineage",
    "parameters",
    "threads",
    "notes",
    "token_counts",
    "device",
    "findings",
    "status",
    "finished",
    "alerts",
}
LAST = (
    "lr",
    "learning_rate",
    "grad_norm",
    "tokens",
    "trained_tokens",
    "stream_tokens",
    "time",
    "seconds",
    "tokens_per_second",
    "share_of_peak",
    "memory_mib",
)


@dataclass(frozen=True, slots=True)
class Record:
    """What a run directory holds; a missing file leaves its field empty."""

    path: Path
    recipe: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    samples: Sequence[Mapping[str, Any]] = ()
    findings: Sequence[Mapping[str, Any]] = ()


def threads_line(told: Any) -> str:
    """`2 threads` from a number, or from what a run says of its choice."""
    count = told.get("threads") if isinstance(told, Mapping) else told
    return f"{count} threads" if count else ""


def read_run(run_dir: str | Path) -> Record:
    """Read a run directory. Raises ValueError when it is no run directory or its manifest is not a JSON object."""
    path = Path(run_dir)
    names = ("recipe.yaml", "manifest.json", "metrics.jsonl", "samples.jsonl")
    recipe, manifest, metrics, samples = (path / n for n in names)
    if not any(f.is_file() for f in (recipe, manifest, metrics, samples)):
        raise ValueError(f"{path} is no run directory: it has none of {', '.join(names)}")
    held: Any = {}
    if manifest.is_file():
        try:
            held = json.loads(manifest.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{manifest}:{error.lineno}: not JSON ({error.msg})") from None
        if not isinstance(held, dict):
            raise ValueError(f"{manifest} must hold a JSON object")
    return Record(
        path,
        recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
        held,
        read_lines(metrics) if metrics.is_file() else (),
        read_lines(samples) if samples.is_file() else (),
        _check(path / "check.json", held),
    )


def series_of(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Every numeric name of the metrics as a curve over `step` (the line number where a row has none)."""
    found: dict[str, tuple[list[float], list[float | None]]] = {}
    for i, row in enumerate(metrics, 1):
        step = row.get("step", i)
        for name, value in row.items():
            if name == "step" or isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            xs, ys = found.setdefault(name, ([], []))
            xs.append(float(step))
            ys.append(float(value))
    return {name: Series(name, xs, ys) for name, (xs, ys) in found.items()}


def charts(curves: Mapping[str, Series]) -> list[tuple[str, list[Series]]]:
    """Which curves share a chart: a name with its `eval_` twin, and chosen with rejected; losses first, machinery
    last."""
    groups: dict[str, list[Series]] = {}
    for name, s in curves.items():
        key = re.sub(r"^(eval|train|valid|validation)[_/]", "", name)
        key = re.sub(r"(chosen|rejected)", "chosen and rejected", key)
        groups.setdefault(key, []).append(s)

    def order(item: tuple[str, list[Series]]) -> tuple[int, int]:
        key = item[0]
        rank = 0 if key == "loss" else 3 if key in LAST else 1 if "loss" in key else 2
        return rank, list(groups).index(key)

    return sorted(groups.items(), key=order)


def _title(name: str) -> str:
    return name.replace("_", " ").replace("/", " · ")


def _curves(record: Record) -> str:
    if not record.metrics:
        return node("p", "This run wrote no metrics.jsonl.", class_="empty")
    boxes = [
        figure(_title(key), line_chart(group, _title(key), log_y="loss" in key))
        for key, group in charts(series_of(record.metrics))
    ]
    steps = len(record.metrics)
    note = f"{steps:,} recorded steps. Bold: moving average; faint: every step. Point at a curve to read its values."
    return node("p", note, class_="muted small") + node("div", *boxes, class_="grid")


def _headline(record: Record) -> str:
    m, items = record.manifest, []
    curves = series_of(record.metrics)
    for name, told in (("loss", "Training loss"), ("eval_loss", "Held-out loss"), ("reward", "Reward")):
        points = curves[name].finite() if name in curves else []
        if points:
            tail = points[-max(1, len(points) // 20) :]
            end = sum(y for _, y in tail) / len(tail)
            over = f", mean of the last {len(tail)}" if len(tail) > 1 else ""
            items.append((told, number(end), f"from {number(points[0][1])}{over}"))
    if record.metrics:
        items.append(("Steps", f"{max(int(r.get('step', i)) for i, r in enumerate(record.metrics, 1)):,}", ""))
    accounts = sources(m.get("data"))
    if accounts:
        rows = sum(whole(a.get("rows")) for a in accounts)
        items.append(("Rows used", f"{sum(map(kept_of, accounts)):,}", f"of {rows:,}"))
    if "seconds" in m:
        items.append(("Time", duration(m["seconds"]), threads_line(m.get("threads"))))
    if isinstance(m.get("parameters"), int):
        items.append(("Parameters", _millions(m["parameters"]), ""))
    elif isinstance(m.get("parameters"), Mapping):
        held = m["parameters"]
        total, trained = held.get("all", held.get("total")), held.get("trainable", held.get("trained"))
        if isinstance(total, int):
            part = f"{_millions(trained)} trained" if isinstance(trained, int) else ""
            items.append(("Parameters", _millions(total), part))
    return tiles(items)


def _millions(n: int) -> str:
    return f"{n / 1e9:.2f} B" if n >= 1e9 else f"{n / 1e6:.2f} M" if n >= 1e6 else f"{n:,}"


def _files(items: Any, title: str) -> str:
    if not isinstance(items, Sequence) or isinstance(items, str) or not items:
        return card(title, node("p", "None recorded.", class_="empty"), class_="card stack")
    rows = []
    for item in items:
        item = item if isinstance(item, Mapping) else {"name": str(item)}
        extra = {k: v for k, v in item.items() if k not in ("name", "path", "hash")}
        rows.append(
            [
                Cell(str(item.get("name", "")), sub=plain(extra) if extra else ""),
                Cell(markup=node("code", escape(str(item.get("path", ""))), class_="mono")),
                Cell(markup=hash_markup(item.get("hash"))),
            ]
        )
    return card(title, table(["name", "path", "SHA-256"], rows), class_="card stack")


def _flow(record: Record) -> str:
    """Inputs, this run, outputs: names with the start of their hash."""
    m = record.manifest

    def column(items: Any) -> str:
        named = [i if isinstance(i, Mapping) else {"name": str(i)} for i in items or ()]
        shown = [
            node("li", escape(str(i.get("name", ""))), node("code", escape(str(i.get("hash") or "no hash")[:12])))
            for i in named
        ]
        return node("ul", *(shown or [node("li", "none recorded", class_="muted")]))

    middle = node(
        "ul", node("li", node("b", escape(str(m.get("name", record.path.name)))), escape(f" {m.get('method', '')}"))
    )
    arrow = node("div", "→", class_="arrow", aria_hidden="true")
    return node(
        "div", column(m.get("inputs")), arrow, middle, arrow, column(m.get("outputs")), class_="card flow stack"
    )


def _lineage(record: Record) -> str:
    m = record.manifest
    out = [_flow(record), _files(m.get("inputs"), "Inputs"), _files(m.get("outputs"), "Outputs")]
    if m.get("lineage"):
        out.append(_files(m["lineage"], "Where the inputs came from"))
    return "".join(out)


def _machine(record: Record) -> str:
    m = record.manifest
    boxes = [card("Seeds", facts(m["seeds"]))] if isinstance(m.get("seeds"), Mapping) else []
    if m.get("versions"):
        boxes.append(card("Versions", facts(m["versions"])))
    machine = {k: m[k] for k in ("device", "threads", "parameters") if k in m}
    if machine:
        boxes.append(card("Machine", facts(machine)))
    others = {k: v for k, v in m.items() if k not in SHOWN}
    if others:
        boxes.append(card("Also in the manifest", facts(others)))
    out = (
        node("div", *boxes, class_="grid")
        if boxes
        else node("p", "The manifest names no seeds or versions.", class_="empty")
    )
    if record.recipe:
        folded = node("details", node("summary", "recipe.yaml"), node("pre", escape(record.recipe)))
        out += node("div", folded, class_="card stack")
    return out


def _sample_plots(samples: Sequence[Mapping[str, Any]]) -> str:
    """Distributions of scores and of lengths in words, before and after; a plot with fewer than five answers a side is left out."""
    names = ("before", "after")
    scores = [
        (n, [float(r[f"score_{n}"]) for r in samples if isinstance(r.get(f"score_{n}"), (int, float))]) for n in names
    ]
    lengths = [(n, [float(len(r[n].split())) for r in samples if isinstance(r.get(n), str)]) for n in names]
    boxes = [
        figure(title, histogram(sets, title, x_label))
        for title, sets, x_label in (("Scores", scores, "score"), ("Length of answers", lengths, "words"))
        if min(len(values) for _, values in sets) >= 5
    ]
    return node("div", *boxes, class_="grid stack") if boxes else ""


def _check(path: Path, manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The preflight's findings, worst first; check.json holds a list or an object with `findings`, else the manifest has them."""
    try:
        held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else manifest
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    rows = held.get("findings") or [] if isinstance(held, Mapping) else held
    order = ("error", "warning", "info")
    found = [f for f in rows if isinstance(f, Mapping)]
    return sorted(found, key=lambda f: order.index(f["severity"]) if f.get("severity") in order else len(order))


def _findings(findings: Sequence[Mapping[str, Any]]) -> str:
    rows: list[list[Cell | str]] = []
    for f in findings:
        severity = str(f.get("severity", ""))
        chip = node("span", escape(severity), class_="chip down" if severity in ("error", "warning") else "chip")
        where = f"row {f['row']}" if f.get("row") is not None else ""
        rows.append(
            [
                str(f.get("id", "")),
                Cell(markup=chip),
                Cell(str(f.get("message", "")), sub=where),
                str(f.get("fix") or ""),
            ]
        )
    return card("", table(["id", "severity", "finding", "fix"], rows, "What the preflight saw before training"))


def _notes(record: Record) -> str:
    """What the run wants read first: alerts raised while training, then notes."""
    alerts, notes = record.manifest.get("alerts") or (), record.manifest.get("notes") or ()
    raised = [f"Alert: {text}" for text in (alerts.values() if isinstance(alerts, Mapping) else alerts)]
    said = [*raised, *([notes] if isinstance(notes, str) else notes)]
    return node("div", *(node("p", escape(str(n))) for n in said), class_="banner", role="note") if said else ""


def run_page(record: Record) -> str:
    """The page as text."""
    m = record.manifest
    counts = m.get("token_counts")
    counts = counts if isinstance(counts, Mapping) and counts.get("before") and counts.get("after") else None
    sections = [
        Section("curves", "Curves", _curves(record)),
        Section("samples", "Samples before and after", _sample_plots(record.samples) + samples_markup(record.samples)),
        Section("data", "Data: kept, dropped, truncated", data_markup(m.get("data"), m.get("drawn"))),
        Section(
            "tokens",
            "Tokens before and after",
            tokens_markup(counts["before"], counts["after"])
            if counts
            else node("p", "The manifest holds no token counts of sampled answers before and after.", class_="empty"),
        ),
        Section("lineage", "Lineage", _lineage(record)),
        Section("machine", "Seeds, versions, recipe", _machine(record)),
    ]
    if record.findings:
        sections.insert(3, Section("preflight", "Preflight", _findings(record.findings)))
    said = [str(m[k]) for k in ("method", "created") if m.get(k)]
    title = str(m.get("name") or record.path.name)
    intro = node("div", _headline(record), _notes(record), class_="intro")
    return page(
        title, " · ".join(said) or "post-training run", intro, sections, "Made by posttrain from the files of the run."
    )


def write_report(run_dir: str | Path) -> Path:
    """Write `report.html` into a run directory from what it holds, and return its path.

    Raises ValueError for a directory without run files, a manifest that is no JSON object, or a metrics row that is not
    JSON.
    """
    record = read_run(run_dir)
    return write_text(record.path / "report.html", run_page(record))
