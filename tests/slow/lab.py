"""A process that has imported everything and forks one `posttrain` command per request: imports are paid once, kills hit a real process.

Requests and replies are JSON lines on stdin and stdout. A request: argv; env for the child; log, where its output goes; kill, when to
send SIGKILL: as soon as `lines` lines stand in `file` (0 = as soon as it exists), `after` seconds later. A reply: status, the exit code or
minus the signal. The child notes the rows of every step in `order.jsonl` of its run, so that the order can be compared.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def main() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch

    import posttrain.cli
    import posttrain.jobs.pipeline
    import posttrain.jobs.schema
    import posttrain.jobs.training
    import posttrain.report  # noqa: F401

    torch.set_num_threads(1)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            work(request)
        if request.get("kill"):
            kill(child, request["kill"])
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


def work(request: dict[str, Any]) -> None:
    """The child: run the command and leave."""
    code = 99
    try:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(request["env"])
        note_order()
        if request["env"].get("FULL_AFTER"):
            fill(int(request["env"]["FULL_AFTER"]))
        from posttrain.cli import main as command

        code = command(request["argv"])
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def kill(child: int, when: dict[str, Any]) -> None:
    """Wait for the moment, then SIGKILL (a child that has ended is left alone)."""
    file = Path(when["file"])
    while True:
        if file.exists() and file.read_bytes().count(b"\n") >= when["lines"]:
            break
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.002)
    time.sleep(when["after"])
    os.kill(child, signal.SIGKILL)


def note_order() -> None:
    """Every step of the source of a run, by row id, in `order.jsonl` of the run."""
    from posttrain.core.files import append_line
    from posttrain.data.source import Offline
    from posttrain.jobs.training import Training

    stream, loop = Offline.stream, Training._loop

    def noted_loop(self: Training) -> None:
        source: Any = self.source
        while not isinstance(source, Offline):  # online runs wrap their prompts
            inner = (getattr(source, name, None) for name in ("source", "prompts", "sources"))
            found = next(s for s in inner if s is not None)
            source = found[0] if isinstance(found, tuple) else found
        source.noted = self.out.path / "order.jsonl"
        loop(self)

    def noted(self: Any, policy: Any = None) -> Iterator[list[Any]]:
        for step in stream(self, policy):
            if hasattr(self, "noted"):
                append_line(self.noted, {"step": self._handed // self.per_step, "rows": [g.id for g in step]})
            yield step

    Training._loop, Offline.stream = noted_loop, noted  # type: ignore[method-assign]


def fill(after: int) -> None:
    """A disk that is full after some checkpoints, where none can be mounted."""
    import errno

    from posttrain.train import checkpoint

    save, calls = checkpoint.save_file, [0]

    def full(*args: Any) -> None:
        calls[0] += 1
        if calls[0] > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(*args)

    checkpoint.save_file = full


if __name__ == "__main__":
    main()
