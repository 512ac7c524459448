"""CoNLL files: one token a line with its tag last, sentences between blank lines (Tjong Kim Sang and De Meulder 2003).

Columns are separated by blanks or tabs; what stands between token and tag (part of speech, chunk) is left out, as are document marks and
comments. Tags are read as they stand; the shape of tagged tokens makes spans of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from posttrain.data.files import Bad, Found, _whole


def conll(path: Path, shown: str) -> Iterator[Found | Bad]:
    """Sentences as rows of ``tokens`` and ``tags``; a line with one column is kept aside with its place."""
    tokens: list[str] = []
    tags: list[str] = []
    start, wrong = 1, ""
    for number, raw in enumerate([*_whole(path, shown).split("\n"), ""], 1):
        line = raw.rstrip("\r")
        if line.startswith(("-DOCSTART-", "# ")):
            continue
        if line.strip():
            start = start if tokens or wrong else number
            cells = line.split("\t") if "\t" in line else line.split()
            if len(cells) < 2:
                wrong = (
                    wrong
                    or f"line {number} holds {line!r}: a token and its tag are needed, separated by a blank or tab"
                )
                continue
            tokens.append(cells[0])
            tags.append(cells[-1].strip())
            continue
        if wrong:
            yield Bad(f"{shown}:{start}", wrong, " ".join(tokens))
        elif tokens:
            yield Found({"tokens": tokens, "tags": tags}, f"{shown}:{start}")
        tokens, tags, wrong = [], [], ""
