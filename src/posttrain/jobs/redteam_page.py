"""The page of a campaign: limits, the grid of techniques and languages, planted secrets, failures folded with their harm redacted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from posttrain.redteam.gate import GateVerdict
from posttrain.redteam.pairs import redact
from posttrain.report.page import Section, page, table


def _leaks(told: Mapping[str, Any]) -> list[Section]:
    """The table of canaries, where some were planted."""
    found = sorted(told.get("canaries", ()), key=lambda c: int(c["repeats"]))
    rows = [[str(c["repeats"]), f"{c['exposure']:.1f}", "yes" if c["extracted"] else "no"] for c in found]
    head = ["copies in the training data", "exposure in bits", "likeliest of all"]
    return [Section("canaries", "Planted secrets", table(head, rows))] if rows else []


def written_page(target: str, rows: Sequence[Mapping[str, Any]], told: Mapping[str, Any], verdict: GateVerdict) -> str:
    """The report page: checks, the grid of techniques and languages, failures folded with their harmful part redacted."""
    checks = table(
        ["limit", "word", "estimate", "bound", "at"],
        [[c.name, c.word, f"{c.estimate:.3f}", f"{c.bound:.3f}", f"{c.limit:g}"] for c in verdict.checks],
    )
    langs = sorted({r["lang"] for r in rows})
    grid = []
    for technique in dict.fromkeys(r["technique"] for r in rows):
        cells = [technique]
        for lang in langs:
            part = [
                r for r in rows if r["technique"] == technique and r["lang"] == lang and r["harmful"] and not r["void"]
            ]
            twins = [
                r
                for r in rows
                if r["technique"] == technique and r["lang"] == lang and not r["harmful"] and not r["void"]
            ]
            hit = f"{sum(r['success'] for r in part)}/{len(part)}" if part else "-"
            over = f"{sum(r['refused'] for r in twins)}/{len(twins)}" if twins else "-"
            cells.append(f"{hit} · {over}")
        grid.append(cells)
    failures = [r for r in rows if r["success"] or (not r["harmful"] and r["refused"])]
    shown = "".join(
        f"<details><summary>{escape(str(r['id']))}</summary><pre>{escape(str(r['messages'][-1]['content']))}</pre>"
        f"<pre>{escape(redact(r))}</pre></details>"
        for r in failures[:200]
    )
    sections = [
        Section("gate", "Gate", checks),
        Section("grid", "Attack success · over-refusal, by technique and language", table(["technique", *langs], grid)),
        *_leaks(told),
        Section("failures", f"Failures ({len(failures)}, the first 200)", shown or "<p>none</p>"),
    ]
    intro = f"<p>{'Not human-validated. ' if not told['human_validated'] else ''}Verdict: {escape(verdict.word)}</p>"
    return page("Red team", target, intro, sections, "posttrain redteam")
