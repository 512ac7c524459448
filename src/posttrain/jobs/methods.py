"""The table of methods, from the registry: for ``posttrain methods`` and for docs/methods.md."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass
from typing import ClassVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from posttrain import methods as _members  # noqa: F401  (importing registers them)
from posttrain.core.method import Method
from posttrain.core.recipe import RecipeError, Spec, nearest
from posttrain.jobs.fields import Field, fields_of, short
from posttrain.jobs.job import Context

PAPER = re.compile(r"arXiv:\s?(\d{4}\.\d{4,5})")


@dataclass(frozen=True)
class Row:
    """One method as the table shows it. papers: arXiv ids of its module's docstring, in order."""

    name: str
    does: str
    wants: str
    papers: tuple[str, ...]
    rates: tuple[float, float]
    sums: str
    atom: str
    fields: tuple[Field, ...]


def rows() -> list[Row]:
    """Every method of the registry, by name."""
    out = []
    for name, cls in sorted(Method.members.items()):
        assert issubclass(cls, Method)
        told = inspect.getdoc(inspect.getmodule(cls)) or ""
        out.append(
            Row(
                name=name,
                does=" ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split()),
                wants=cls.wants,
                papers=tuple(dict.fromkeys(PAPER.findall(told))),
                rates=cls.learning_rate,
                sums=", ".join(f"{n} per {unit}" for n, unit in cls.sums.items()),
                atom=cls.atom,
                fields=tuple(fields_of(cls)),
            )
        )
    return out


class Methods(Spec):
    """List the methods, or the fields of one."""

    positional: ClassVar[tuple[str, ...]] = ("method",)

    method: str | None = None
    """Name of one method, to see its fields."""

    def run(self, context: Context | None = None) -> None:
        """Print the table to stdout. Raises RecipeError with the nearest name."""
        known = {r.name: r for r in rows()}
        console = Console(file=sys.stdout, highlight=False)
        if self.method is None:
            console.print(_overview(list(known.values())))
            return
        if self.method not in known:
            raise RecipeError(f"unknown method {self.method!r}{nearest(self.method, known)}")
        _detail(console, known[self.method])


def _overview(found: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("method", "does", "learns from", "lr (LoRA)"):
        table.add_column(head, overflow="fold", no_wrap=head == "method")  # a folded name cannot be typed
    for row in found:
        rates = f"{short(row.rates[0])} ({short(row.rates[1])})"
        table.add_row(*(Text(t) for t in (row.name, row.does, row.wants, rates)))
    return table


def _detail(console: Console, row: Row) -> None:
    papers = ", ".join(f"arXiv:{p}" for p in row.papers) or "none named"
    for text in (
        f"{row.name}: {row.does}",
        f"learns from  {row.wants}",
        f"lr           {short(row.rates[0])}, with LoRA {short(row.rates[1])}",
        f"averages     {row.sums}",
        f"papers       {papers}",
    ):
        console.print(Text(text))
    if not row.fields:
        console.print(Text("it has no fields of its own"))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("field", "default", "what it does"):
        table.add_column(head, overflow="fold")
    for item in row.fields:
        table.add_row(Text(item.name), Text(item.default_text), Text(item.help))
    console.print(table)
