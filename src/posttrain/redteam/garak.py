"""A garak report read back: attempts and `eval` rows, intervals whose unit is the prompt, a failure on any lost sample.

garak leaves an output that it could not get (`None`) out of its denominator; here one such sample makes the import fail, because a scan
with holes proves nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from posttrain.redteam.rates import LEVEL
from posttrain.stats import cluster_bootstrap


class LostSamples(ValueError):
    """A garak report in which outputs are missing."""


def read_garak(path: str | Path) -> dict[str, Any]:
    """Figures by probe and detector. Raises LostSamples where outputs are missing, ValueError for a file that is no garak report."""
    evals: list[dict[str, Any]] = []
    hits: dict[tuple[str, str], tuple[list[float], list[str]]] = {}
    finished = False
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            raise ValueError(f"{path}:{number}: not a garak report (JSON lines)") from None
        kind = row.get("entry_type")
        if kind == "eval":
            evals.append(row)
        elif kind == "attempt" and row.get("status") == 2:
            for detector, scores in (row.get("detector_results") or {}).items():
                values, clusters = hits.setdefault((str(row["probe_classname"]), str(detector)), ([], []))
                known = [s for s in scores if s is not None]
                values += [float(s >= 0.5) for s in known]
                clusters += [f"{row.get('seq')}"] * len(known)
        finished |= kind in ("completion", "digest")
    if not evals:
        raise ValueError(f"{path}: holds no `eval` row; is it a finished garak report?")
    lost = {f"{e['probe']}/{e['detector']}": int(e.get("nones") or 0) for e in evals}
    if any(lost.values()):
        worst = ", ".join(f"{k}: {v}" for k, v in lost.items() if v)
        raise LostSamples(f"{path}: {sum(lost.values())} outputs are missing ({worst}); the scan proves nothing")
    found = {}
    for (probe, detector), (values, clusters) in sorted(hits.items()):
        if values:
            found[f"{probe}/{detector}"] = cluster_bootstrap(values, clusters, reps=2000, level=LEVEL).to_json()
    return {
        "probes": sorted({str(e["probe"]) for e in evals}),
        "families": sorted({str(e["probe"]).removeprefix("probes.").split(".")[0] for e in evals}),
        "evaluated": sum(int(e.get("total_evaluated") or e.get("total") or 0) for e in evals),
        "nones": 0,
        "finished": finished,
        "hit_rate": found,
    }
