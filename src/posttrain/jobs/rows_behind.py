"""Where the rows that a run learned from came from, step by step, read from what the jobs left beside their files.

`synth` leaves an account of its candidates, `data` a record of what it dropped and of the leaks that it looked for, a
run its manifest. Files without either are told by their number of rows. Leaves out people: the ledger knows them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posttrain.core.files import read_lines
from posttrain.core.run import Run, fingerprint
from posttrain.jobs.assembly import resolve

SHOWN = 3
"""Rows of a made file that are shown."""


def rows_behind(named: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Per model, one entry per file that it learned from: file, rows, trained (rows used), steps, shown; none where nothing was.

    A writer that is itself one of the models is called by its name, any other by the start of its content hash or its endpoint's name.
    """
    hashes = {fingerprint(resolve(path)): name for name, path in named.items() if Path(resolve(path)).exists()}
    return {
        name: [_source(told, hashes) for told in (Run(path).finished or {}).get("data", []) if told.get("path")]
        for name, path in named.items()
    }


def files_behind(path: str) -> list[str]:
    """Names of the files that a run learned from."""
    return [Path(told["path"]).name for told in (Run(path).finished or {}).get("data", []) if told.get("path")]


def _source(told: Mapping[str, Any], hashes: Mapping[str, str]) -> dict[str, Any]:
    steps = history(str(told["path"]), hashes)
    out = {"file": Path(told["path"]).name, "rows": told["rows"], "trained": told["kept"], "steps": steps}
    return {**out, "dropped": told.get("dropped") or {}, "shown": _shown(Path(told["path"])) if steps else []}


def history(path: str, hashes: Mapping[str, str]) -> list[dict[str, Any]]:
    """The steps that made a file, the first one first; none where no job left a word of it. hashes: names of known models."""
    record, account = _read(path + ".record.json"), _read(path + ".account.json")
    if account is not None:
        kinds = Counter(reason.partition(":")[0] for reason, n in account["dropped"].items() for _ in range(n))
        step = {"what": "written", "file": Path(path).name, "before": account["produced"], "after": account["kept"]}
        return [{**step, "dropped": dict(kinds.most_common()), "by": _writers(path, hashes)}]
    if record is None:
        return []
    leaks = {Path(name).name: told["rows"] for name, told in (record.get("decontamination") or {}).items()}
    step = {"what": "cleaned", "file": Path(path).name, "before": record["rows"], "after": record["kept"]}
    earlier = [s for source in record.get("from", ()) for s in history(source, hashes)]
    return [*earlier, {**step, "dropped": record["dropped"], "leaks": leaks}]


def _read(path: str) -> dict[str, Any] | None:
    return json.loads(Path(path).read_text(encoding="utf-8")) if Path(path).is_file() else None


def _writers(path: str, hashes: Mapping[str, str]) -> str:
    made = Counter(
        f"{p['generator']} by {_called(str(p['model']), hashes)}"
        for r in read_lines(path)
        if (p := (r.get("facts") or {}).get("provenance"))
    )
    return ", ".join(made)


def _called(model: str, hashes: Mapping[str, str]) -> str:
    """A model as people know it; one that was read without a chat template has ` raw` behind its hash."""
    key = model.removesuffix(" raw")
    return hashes.get(key) or (f"model {key[:12]}" if re.fullmatch("[0-9a-f]{64}", key) else Path(key).name)


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
