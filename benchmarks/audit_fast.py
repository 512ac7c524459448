"""How long does `posttrain audit --fast` take on a reward model of 6M parameters? `python -m benchmarks.audit_fast`.

A random Llama of the benchmarks' 6M size around the reading room's tokenizer, with a fresh score head: its time does not depend on what it
has learned. Wall and processor seconds, scorings and arms go to benchmarks/results/audit_fast.json.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from posttrain.core.files import write_json

RESULT = Path(__file__).parent / "results" / "audit_fast.json"
SHAPE = {"hidden": 256, "layers": 6, "heads": 8, "kv_heads": 8, "ffn": 704, "context": 1024}
LIMIT = 90.0
"""Seconds of wall time on two cores."""


def model(root: Path) -> tuple[str, int]:
    """A reward directory and its number of parameters."""
    import torch

    from posttrain.jobs.assembly import resolve
    from posttrain.jobs.job import Context
    from posttrain.jobs.new_model import New
    from posttrain.models import heads
    from posttrain.models.load import load, save

    torch.manual_seed(0)
    start = New(tokenizer=resolve("base"), out=str(root / "start"), **SHAPE).run(Context(bars=False))
    loaded = load(resolve(str(start.path)))
    head = heads.score_head(heads.width_of(loaded.model), generator=torch.Generator().manual_seed(1))
    save(loaded, root / "rm" / "model", heads={f"score.{k}": v for k, v in head.state_dict().items()})
    return str(root / "rm"), sum(p.numel() for p in loaded.model.parameters())


def main() -> None:
    import torch

    from posttrain.jobs.auditing import Audit

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    with TemporaryDirectory() as root:
        path, parameters = model(Path(root))
        wall, cpu = time.perf_counter(), time.process_time()
        Audit(target=path, out=str(Path(root) / "audit"), fast=True).run()
        told = {
            "command": "python -m benchmarks.audit_fast",
            "parameters": parameters,
            "threads": torch.get_num_threads(),
            "wall_seconds": round(time.perf_counter() - wall, 1),
            "processor_seconds": round(time.process_time() - cpu, 1),
            "load_at_the_end": round(os.getloadavg()[0], 1),
            "limit_seconds": LIMIT,
        }
        body = json.loads((Path(root) / "audit" / "audit.json").read_text(encoding="utf-8"))
        told |= {"scorings": body["scorings"], "cases": body["cases"], "arms": len(body["results"])}
    write_json(RESULT, told)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
