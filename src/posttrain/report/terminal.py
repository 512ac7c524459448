"""Small tables for the command line, readable at 80 columns and through a pipe.

Text from data and models is never read as markup and control characters are shown, not sent to the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from posttrain.report.page import as_interval, duration

STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan", "note": "dim"}
ORDER = tuple(STYLES)


class FindingLike(Protocol):
    """What a preflight says: `core.finding.Finding` fits."""

    @property
    def id(self) -> str: ...
    @property
    def severity(self) -> Any: ...
    @property
    def message(self) -> str: ...
    @property
    def fix(self) -> str | None: ...


def safe(value: Any, style: str = "") -> Text:
    """Text that cannot move the cursor, change colours or open links: control characters become visible."""
    shown = "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in str(value))
    return Text(shown, style=style)


def _severity(finding: FindingLike) -> str:
    """The severity as a word, also where it is an enum member."""
    return str(getattr(finding.severity, "value", finding.severity)).lower()


def findings_table(findings: Iterable[FindingLike]) -> Group | Text:
    """Findings, worst first: id and severity, the message, and what to do. One line says how many of each there are."""
    rows = sorted(findings, key=lambda f: ORDER.index(_severity(f)) if _severity(f) in ORDER else len(ORDER))
    if not rows:
        return Text("No findings.", style="green")
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False, show_edge=False)
    out.add_column("severity", no_wrap=True)
    out.add_column("id", no_wrap=True, overflow="ellipsis", max_width=22)
    out.add_column("finding", overflow="fold")
    for f in rows:
        word = _severity(f)
        body = safe(f.message)
        row = getattr(f, "row", None)
        if row is not None:
            body.append(f" (row {row})", style="dim")
        if f.fix:
            body.append("\n")
            body.append_text(Text("fix: ", style="bold"))
            body.append_text(safe(f.fix, "dim"))
        out.add_row(Text(word, style=STYLES.get(word, "")), safe(f.id), body)
    counts: dict[str, int] = {}
    for f in rows:
        counts[_severity(f)] = counts.get(_severity(f), 0) + 1
    said = ", ".join(
        f"{n} {word}" + ("s" if n != 1 and word in ("error", "warning") else "") for word, n in counts.items()
    )
    return Group(out, Text(said, style="dim"))


def stages_table(stages: Sequence[Mapping[str, Any]]) -> Table:
    """Stages of a pipeline: name, method, time, gold with its interval, KL. Same rows as the page's summary."""
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    out.add_column("stage", overflow="ellipsis", no_wrap=True, max_width=18)
    out.add_column("method", overflow="ellipsis", no_wrap=True, max_width=19)
    for name in ("time", "gold", "KL"):
        out.add_column(name, justify="right", no_wrap=True)
    for s in stages:
        gold = "-" if s.get("gold") is None else _short(s["gold"], f"{s['name']}.gold")
        kl = "-" if s.get("kl") is None else f"{as_interval(s['kl'], 'kl').estimate:.2f}"
        time = duration(s["seconds"]) if s.get("seconds") is not None else "-"
        out.add_row(safe(s["name"], "bold"), safe(s.get("method", "")), time, gold, kl)
    return out


def _short(value: Any, where: str) -> Text:
    """An interval that fits a narrow column."""
    i = as_interval(value, where)
    return Text(str(i) if i.known else f"{i.estimate:.3f}")


def rendered(what: Any, width: int = 80, colour: bool = False) -> str:
    """The table as a string, for pipes and tests."""
    console = Console(width=width, force_terminal=colour, color_system="standard" if colour else None)
    with console.capture() as capture:
        console.print(what)
    return capture.get()
