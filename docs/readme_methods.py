"""The table of methods in README.md, from the registry: what stands between its two marks.

``python docs/readme_methods.py`` writes it; with ``--check`` it writes nothing and exits with 1 where the table is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from posttrain.core.files import write_text
from posttrain.jobs.methods import rows

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- methods: written by docs/readme_methods.py -->", "<!-- end of methods -->"


def table() -> str:
    """A Markdown table, one line per method, each with a link to its fields."""
    lines = ["| method | does | learns from | papers |", "|---|---|---|---|"]
    for row in rows():
        papers = ", ".join(f"[{p}](https://arxiv.org/abs/{p})" for p in row.papers)
        fields = ", ".join(f"`{f.name}`" for f in row.fields)
        does = row.does + (f" Fields: {fields}." if fields else "")
        lines.append(f"| [{row.name}](docs/methods.md#{row.name}) | {does} | {row.wants} | {papers} |")
    return "\n".join(lines)


def renewed(text: str) -> str:
    """The page with a fresh table. Raises ValueError when the marks are gone."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README}: put the marks back: {BEGIN} and {END}")
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


def main(argv: list[str]) -> int:
    text = README.read_text(encoding="utf-8")
    fresh = renewed(text)
    if fresh == text:
        return 0
    if "--check" in argv:
        print("stale: README.md; run: python docs/readme_methods.py")
        return 1
    write_text(README, fresh)
    print("written: README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
