"""The public reader: a path or hub id in, Groups out, with the shape that was recognised and a count of every row.

Nothing is lost: a row that cannot be read stops the reading with one line (file, line, what, remedy), or is kept aside with its
reason when asked. Leaves out tokenising, length limits and filters: those are rendering and quality.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from posttrain.core.chat import user
from posttrain.core.files import hash_tree
from posttrain.core.group import Group
from posttrain.data import shapes
from posttrain.data.files import Bad, Found
from posttrain.data.presets import Preset, preset
from posttrain.data.shapes.shape import Shape
from posttrain.data.tables import rows as rows_of
from posttrain.data.template import Template, map_columns
from posttrain.data.turns import Notes, kind

PROBE = 20
"""Rows looked at to recognise a shape."""


@dataclass(slots=True)
class Counts:
    """rows = kept + dropped. groups: made from the kept rows (more than kept where a row holds several). aside: the dropped rows
    as they stood. notes: what was changed or not carried, each with how often."""

    rows: int = 0
    kept: int = 0
    groups: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    aside: list[Bad] = field(default_factory=list)
    notes: Notes = field(default_factory=Counter)


@dataclass(slots=True)
class Read:
    """What was read. hash: SHA-256 of the content (of the rows for a hub data set)."""

    groups: list[Group]
    shape: str
    path: str
    hash: str
    counts: Counts

    def describe(self) -> str:
        """A line for people, and one per note."""
        c = self.counts
        dropped = f", {c.rows - c.kept} set aside" if c.rows > c.kept else ""
        made = f", {c.groups} groups" if c.groups != c.kept else ""
        lines = [f"{self.path}: read as {self.shape}: {c.kept} of {c.rows} rows{made}{dropped}"]
        kept = dict.fromkeys(name for g in self.groups[:PROBE] for name in g.facts if name != "where")
        lines += [f"  kept as facts: {', '.join(kept)}"] if kept else []
        lines += [f"  set aside {n} times: {why}" for why, n in c.dropped.most_common()]
        lines += [f"  note {n} times: {why}" for why, n in c.notes.most_common()]
        return "\n".join(lines)


def read(
    source: str | os.PathLike[str],
    shape: str | None = None,
    columns: Mapping[str, str] | None = None,
    template: str | Mapping[str, str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    bad: Literal["stop", "aside"] = "stop",
    progress: Callable[[int], None] | None = None,
) -> Read:
    """Read a file, a directory or ``hub:owner/name`` into Groups.

    ``hub:alpaca`` and the like are presets (`data.presets`); shape ``hub:alpaca`` reads a local copy as one.
    shape: a name of `shapes.NAMES`; recognised from the first rows when not given. columns: {our name: the file's name}.
    template: the prompt's text from columns, or {column to make: template}. split: of a directory or hub data set.
    limit: rows at most. bad: stop at a row that cannot be read, or keep it aside and count it. progress: told the rows
    read so far, every 1,000. Raises ValueError with one clear line (file:line: what; remedy).
    """
    path = os.fspath(source)
    named = preset(shape or "") or preset(path)
    if named is not None:
        at = named.source if preset(path) is not None else path
        read = _preset(named, at, split or (named.split if at.startswith("hub:") else None), limit, bad, columns)
        return replace(read, path=path)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; give a number of rows of 1 or more")
    counts = Counts()
    digest = hashlib.sha256() if path.startswith("hub:") else None
    stream = _counted(itertools.islice(rows_of(path, split), limit), counts, digest, bad, progress)
    maker = _Maker(shape, dict(columns or {}), template, path)
    groups: list[Group] = []
    for found in itertools.chain(maker.begin(stream, counts, bad), stream):
        try:
            made = maker.groups(found, counts.notes)
        except ValueError as error:
            _refuse(Bad(found.where, str(error), json.dumps(found.row, ensure_ascii=False, default=str)), counts, bad)
            continue
        counts.kept += 1
        groups += made
    counts.groups = len(groups)
    if not groups:
        why = (
            f"all {counts.rows} rows were set aside; the first: {counts.aside[0].where}: {counts.aside[0].why}"
            if counts.aside
            else "no rows; the data are empty"
        )
        raise ValueError(f"{path}: {why}")
    body = digest.hexdigest() if digest else hash_tree(Path(path))
    return Read(groups, maker.name, path, body, counts)


def _preset(
    known: Preset,
    path: str,
    split: str | None,
    limit: int | None,
    bad: Literal["stop", "aside"],
    columns: Mapping[str, str] | None,
) -> Read:
    """A set of the lessons, or a local copy of the same shape: rows assembled where only several make a group, origin in the facts."""
    if known.assemble is None:
        made = read(path, None, columns or known.columns or None, split=split, limit=limit, bad=bad)
        groups = made.groups
    else:
        counts = Counts()
        digest = hashlib.sha256()
        rows = [f.row for f in _counted(itertools.islice(rows_of(path, split), limit), counts, digest, bad, None)]
        groups = known.assemble(rows)
        if not groups:
            raise ValueError(
                f"{path}: no group could be assembled of {len(rows)} rows; is this a copy of {known.repository}?"
            )
        counts.kept, counts.groups = len(rows), len(groups)
        made = Read(groups, f"{known.repository} assembled", path, digest.hexdigest(), counts)
    told = [replace(g, facts={**known.facts, **g.facts}) for g in groups]
    made.counts.notes[
        f"answers by {known.origin}; licence {known.licence}; languages {', '.join(known.languages)}"
    ] += 1
    return replace(made, groups=told)


def _refuse(row: Bad, counts: Counts, bad: str) -> None:
    if bad == "stop":
        raise ValueError(f"{row.where}: {row.why}")
    counts.dropped[row.why] += 1
    counts.aside.append(row)


def _counted(
    stream: Iterator[Found | Bad], counts: Counts, digest: Any, bad: str, progress: Callable[[int], None] | None
) -> Iterator[Found]:
    for found in stream:
        counts.rows += 1
        if progress is not None and counts.rows % 1000 == 0:
            progress(counts.rows)
        if isinstance(found, Bad):
            _refuse(found, counts, bad)
            continue
        if digest is not None:
            digest.update(json.dumps(found.row, ensure_ascii=False, sort_keys=True, default=str).encode() + b"\n")
        yield found


class _Maker:
    """Makes groups of rows: columns mapped, template filled, shape recognised once from the first rows."""

    def __init__(
        self, shape: str | None, columns: dict[str, str], template: str | Mapping[str, str] | None, path: str
    ) -> None:
        self.columns, self.path = columns, path
        texts = {"prompt": template} if isinstance(template, str) else dict(template or {})
        self.templates = {name: Template(text) for name, text in texts.items()}
        self.only_prompt = isinstance(template, str)
        self.shape: Shape | None = None if shape is None else shapes.named(shape)
        self.replaces = False

    @property
    def name(self) -> str:
        assert self.shape is not None
        return self.shape.name

    def begin(self, stream: Iterator[Found], counts: Counts, bad: str) -> list[Found]:
        """The first rows, after the shape was recognised from them."""
        probe = list(itertools.islice(stream, PROBE))
        if not probe:
            return probe
        mapped = []
        for found in probe:
            try:
                mapped.append(map_columns(found.row, self.columns) if self.columns else found.row)
            except ValueError as error:
                if bad == "stop":
                    raise ValueError(f"{found.where}: {error}") from None
        if self.only_prompt:
            # A template in words replaces the prompt of the shape that the columns have by themselves; else it is the prompt column.
            own = self.shape or shapes.recognise(mapped)
            self.replaces = own is not None
            self.shape = own
        if self.shape is None:
            filled = [{**row, **dict.fromkeys(self.templates, "text")} for row in mapped]
            self.shape = shapes.recognise(filled)
        if self.shape is None:
            found_columns: dict[str, str] = {}
            for row in mapped:
                for column, value in row.items():
                    if found_columns.get(column, "null") == "null":
                        found_columns[column] = kind(value)
            listed = ", ".join(f"{c} ({k})" for c, k in found_columns.items()) or "none"
            raise ValueError(
                f"{self.path}: columns not recognised: {listed}; accepted: "
                + "; ".join(f"{s.name}" for s in shapes.SHAPES)
                + f". {_nearest(list(found_columns))}Map columns (columns={{'prompt': ..., 'completion': ...}}) or give a template"
            )
        return probe

    def groups(self, found: Found, notes: Notes) -> tuple[Group, ...]:
        """The groups of one row. Raises ValueError without the place."""
        assert self.shape is not None
        row: Mapping[str, Any] = map_columns(found.row, self.columns) if self.columns else found.row
        if self.templates and not self.replaces:
            row = {**row, **{name: t.fill(row, notes) for name, t in self.templates.items()}}
        made = self.shape.read(row, notes)
        several = made if isinstance(made, tuple) else (made,)
        if self.replaces:
            text = self.templates["prompt"].fill(row, notes)
            several = tuple(_asked(g, text) for g in several)
        for g in several:
            g.facts.setdefault("where", found.where)  # type: ignore[attr-defined]
        return several


def _nearest(found: list[str]) -> str:
    """Which columns look like a slip of a known name."""
    known = ("prompt", "completion", "response", "question", "answer", "instruction", "output", "messages", "conversations", "chosen",
             "rejected", "responses", "text")  # fmt: skip
    near = [(c, difflib.get_close_matches(str(c).lower(), known, n=1, cutoff=0.8)) for c in found if c not in known]
    hints = [f"{c!r} looks like {match[0]!r}" for c, match in near if match]
    return f"{', '.join(hints)}. " if hints else ""


def _asked(made: Group, text: str) -> Group:
    """The group with another question: a system turn stays, the one user turn is replaced."""
    system = tuple(m for m in made.prompt if m.role == "system")
    if len(made.prompt) - len(system) != 1:
        raise ValueError(
            "a template replaces a prompt of one user turn; this row's prompt is a conversation, so leave the template out"
        )
    return replace(made, prompt=(*system, user(text)))
