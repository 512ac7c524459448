"""Where the rows that a run learned from came from, step by step, read from what the jobs left beside their files.

`synth` leaves an account of its candidates, `data` a record of what it dropped and of the leaks that it looked for, a
run its manifest. Files without either are told by their number of rows. Leaves out people: the ledger knows them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posttrain.core.files import read_lines
from posttrain.core.run import Run

SHOWN = 3
"""Rows of a made file that are shown."""


def rows_behind(path: str) -> list[dict[str, Any]]:
    """One entry per file that the run learned from: file, rows, trained (rows used), steps, shown. Empty for what was not trained here."""
    done = Run(path).finished
    if done is None:
        return []
    return [_source(told) for told in done.get("data", []) if told.get("path")]


def _source(told: Mapping[str, Any]) -> dict[str, Any]:
    steps = history(str(told["path"]))
    out = {"file": Path(told["path"]).name, "rows": told["rows"], "trained": told["kept"], "steps": steps}
    return {**out, "dropped": told.get("dropped") or {}, "shown": _shown(Path(told["path"])) if steps else []}


def history(path: str) -> list[dict[str, Any]]:
    """The steps that made a file, the first one first; none where no job left a word of it."""
    record, account = _read(path + ".record.json"), _read(path + ".account.json")
    if account is not None:
        kinds = Counter(reason.partition(":")[0] for reason, n in account["dropped"].items() for _ in range(n))
        step = {"what": "written", "file": Path(path).name, "before": account["produced"], "after": account["kept"]}
        return [{**step, "dropped": dict(kinds.most_common()), "by": _writers(path)}]
    if record is None:
        return []
    leaks = {Path(name).name: told["rows"] for name, told in (record.get("decontamination") or {}).items()}
    step = {"what": "cleaned", "file": Path(path).name, "before": record["rows"], "after": record["kept"]}
    earlier = [s for source in record.get("from", ()) for s in history(source)]
    return [*earlier, {**step, "dropped": record["dropped"], "leaks": leaks}]


def _read(path: str) -> dict[str, Any] | None:
    return json.loads(Path(path).read_text(encoding="utf-8")) if Path(path).is_file() else None


def _writers(path: str) -> str:
    made = Counter(
        f"{p['generator']} by {Path(str(p['model'])).name}"
        for r in read_lines(path)
        if (p := (r.get("facts") or {}).get("provenance"))
    )
    return ", ".join(made)


def _shown(path: Path) -> list[dict[str, str]]:
    """A few rows, evenly spaced: what was asked and what was answered."""
    rows = read_lines(path) if path.suffix == ".jsonl" else []
    picked = [rows[i * len(rows) // SHOWN] for i in range(min(SHOWN, len(rows)))]
    return [
        {"prompt": _text(r.get("prompt")), "answer": _text(r["responses"][0]["turns"])}
        for r in picked
        if r.get("responses")
    ]


def _text(turns: Any) -> str:
    return "\n".join(str(t.get("content", "")) for t in turns or ())
