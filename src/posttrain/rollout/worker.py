"""A process that answers along with the one that started it (`rollout.workers`): ``python -m posttrain.rollout.worker``.

JSON lines on stdin: first the model, then jobs in tokens, as long as there are any. JSON lines on stdout: ready, then each job with its
samples, or the error that ended the process. It ends with its stdin, so it cannot outlive the other process, however that dies.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from posttrain.core.protocols import Sampling
from posttrain.rollout.jobs import Job, Sample


def serve(lines: Iterator[str], tell: Any) -> None:
    """Load the model that the first line names, then answer jobs until the lines end. tell: writes one JSON value."""
    from posttrain.models.load import load
    from posttrain.rollout.sampler import Sampler

    given = json.loads(next(lines))
    loaded = load(given["path"], template=given["template"], device="cpu", dtype="fp32")
    loaded.model.eval()
    sampler = Sampler(
        loaded.model, loaded.tokenizer, loaded.stops, _no_chats, given["slots"], given["context"], threads=1
    )
    tell({"ready": True})
    done: dict[str, list[Sample]] = {}
    for sample in sampler.finished(_jobs(sampler, _arriving(lines), done)):
        mine = done[sample.job.id]
        mine.append(sample)
        if len(mine) == sample.job.n:
            del done[sample.job.id]
            tell({"job": int(sample.job.id), "samples": [_plain(s) for s in mine]})


def _no_chats(*_: Any) -> list[int]:
    raise AssertionError("jobs come in tokens")


def _plain(s: Sample) -> list[Any]:
    """A sample as JSON: floats of 64 bits are written so that they are read back the same."""
    return [s.index, s.tokens, s.logps, s.sampled_logps, s.stop]


def _arriving(lines: Iterator[str]) -> queue.SimpleQueue[str]:
    """Lines as they come. The end of the lines is the end of the process: nobody waits for what it still decodes."""
    came: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in lines:
            came.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return came


def _jobs(sampler: Any, came: queue.SimpleQueue[str], open_jobs: dict[str, list[Sample]]) -> Iterator[Job | None]:
    """Jobs that have come; None where none has come and others are being decoded; waits where nothing is."""
    while True:
        try:
            row = json.loads(came.get(block=not open_jobs))
        except queue.Empty:
            yield None
            continue
        name = str(row["job"])
        open_jobs[name] = []
        yield sampler.job(
            row["ids"],
            Sampling(**{**row["sampling"], "stop": tuple(row["sampling"]["stop"])}),
            row["n"],
            row["seed"],
            name,
        )


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the other process decides
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the lines

    def tell(value: Any) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    try:
        serve(iter(sys.stdin.readline, ""), tell)
    except BaseException as error:
        tell({"error": f"{type(error).__name__}: {error}"})
        os._exit(1)


if __name__ == "__main__":
    main()
