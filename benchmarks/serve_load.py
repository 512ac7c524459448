"""The server under load: 64 concurrent streams for a minute against one stream at a time, errors, memory.

    python -m benchmarks.serve_load [--seconds 60] [--streams 64] [--out benchmarks/results/serve_load.json]

The server is a process of its own with the shipped base model; the client counts tokens of finished streams and asks again at once. Prints
and writes tokens/s of both, their ratio, errors, and the server's resident memory after warm-up and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from posttrain.core.files import write_json

TOKENS = 64


async def stream(port: int, number: int) -> int:
    """Tokens of one streamed answer. Raises on any status but 200 and on a stream that does not end as it should."""
    body = json.dumps(
        {
            "messages": [{"role": "user", "content": f"Row {number}. Tell me about the reading room and its books."}],
            "max_tokens": TOKENS, "stream": True, "seed": number, "logit_bias": {"1": -100, "7": -100},
            "stream_options": {"include_usage": True},
        }
    ).encode()  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    answer = await reader.read()
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200") or b"data: [DONE]" not in answer:
        raise RuntimeError(answer[:200].decode("utf-8", "replace"))
    return int(re.findall(rb'"completion_tokens": (\d+)', answer)[-1])


async def load(port: int, streams: int, seconds: float) -> tuple[float, int, list[str]]:
    """(tokens per second, finished streams, errors) with so many streams at a time."""
    end = time.monotonic() + seconds
    done, tokens, errors, number = 0, 0, list[str](), 0

    async def one() -> None:
        nonlocal done, tokens, number
        while time.monotonic() < end:
            number += 1
            try:
                made = await stream(port, number)  # never `+= await`: others add meanwhile
                tokens += made
                done += 1
            except (OSError, RuntimeError, IndexError) as error:
                errors.append(str(error))

    began = time.monotonic()
    await asyncio.gather(*(one() for _ in range(streams)))
    return tokens / (time.monotonic() - began), done, errors


def memory(pid: int) -> float:
    """Resident MiB of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--out", default="benchmarks/results/serve_load.json")
    asked = parser.parse_args()
    command = [
        str(Path(sys.executable).with_name("posttrain")),
        "serve",
        "base",
        "--port",
        "0",
        "--slots",
        str(asked.streams),
    ]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        assert server.stderr is not None
        port = next(int(found.group(1)) for line in server.stderr if (found := re.search(r":(\d+)/v1", line)))
        asyncio.run(load(port, asked.streams, min(10, asked.seconds / 4)))
        warm = memory(server.pid)
        many, streams, errors = asyncio.run(load(port, asked.streams, asked.seconds))
        after = memory(server.pid)
        one, _, more = asyncio.run(load(port, 1, asked.seconds / 4))
    finally:
        server.terminate()
        server.wait(30)
    told: dict[str, Any] = {
        "streams": asked.streams, "seconds": asked.seconds, "tokens_per_answer": TOKENS, "tokens_per_second": round(many, 1),
        "tokens_per_second_one_at_a_time": round(one, 1), "ratio": round(many / one, 2), "finished": streams,
        "errors": len(errors) + len(more), "memory_mib_warm": round(warm, 1), "memory_mib_after": round(after, 1),
        "machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
    }  # fmt: skip
    write_json(asked.out, told)
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
