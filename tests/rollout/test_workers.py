"""Further processes: the same answers bit for bit with one, two or three, started only where they pay, and nothing lost when one dies."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posttrain.core.chat import as_chat
from posttrain.core.group import Group
from posttrain.core.protocols import Request, Sampling
from posttrain.models.load import load
from posttrain.models.render import Renderer
from posttrain.rollout import workers
from posttrain.rollout.sampler import Sampler
from posttrain.rollout.workers import Workers
from tests.models.tiny import tiny_directory


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_directory(tmp_path_factory.mktemp("workers") / "model", "llama", context=256))


def sampler(path: str, slots: int = 8) -> Sampler:
    loaded = load(path, device="cpu")
    loaded.model.eval()
    return Sampler(loaded.model, loaded.tokenizer, loaded.stops, Renderer.of(loaded).prompt, slots=slots)


def requests(count: int, n: int = 2, tokens: int = 24) -> list[Request]:
    """Plain, penalised and stopped draws over prompts of many lengths, some of them equal."""
    draws = (
        Sampling(max_tokens=tokens),
        Sampling(max_tokens=tokens, temperature=0.6, top_p=0.9, repetition_penalty=1.3),
        Sampling(max_tokens=tokens, stop=("e", "a")),
        Sampling(max_tokens=tokens, temperature=0.0),
    )
    return [
        Request(as_chat("word " * (i % 7) + f"{i % 5}?"), draws[i % 4], n, seed=i, facts={"at": i})
        for i in range(count)
    ]


def bits(groups: list[Group]) -> list[Any]:
    """Everything an answer consists of."""
    return [
        (g.to_json(), np.asarray(g.prompt_tokens).tolist())
        + tuple((r.text, r.stop, r.tokens.tobytes(), r.logps.tobytes(), r.sampled_logps.tobytes()) for r in g.responses)  # type: ignore[union-attr]
        for g in groups
    ]


def test_the_bits_do_not_depend_on_the_number_of_processes(path: str) -> None:
    asked = requests(400)
    alone = bits(sampler(path).generate(asked))
    with Workers(sampler(path), path, wanted=2) as two:
        _wait_ready(two, asked[:8])
        assert bits(two.generate(asked)) == alone
        (worker,) = two._workers
        taken = worker.given
        assert 20 < taken < 380, f"both should have had a part of 400 prompts, the second took {taken}"
        assert bits(two.generate(asked[:40])) == alone[:40], "a second batch goes to the same processes"
    assert worker.process.poll() is not None


def _wait_ready(made: Workers, asked: list[Request]) -> None:
    made.generate(asked)
    deadline = time.monotonic() + 300  # the start takes 4 seconds of a core, wherever they come from
    while not made._workers[0].ready and time.monotonic() < deadline:
        time.sleep(0.05)


def test_a_worker_that_dies_costs_nothing(path: str) -> None:
    asked = requests(600)
    said: list[str] = []
    with Workers(sampler(path), path, wanted=2, say=said.append) as two:
        _wait_ready(two, asked[:8])
        _kill_when_busy(two)
        assert bits(two.generate(asked)) == bits(sampler(path).generate(asked))
    assert said == ["a sampling worker ended early (exit -9); its prompts are answered here"]


def _kill_when_busy(made: Workers) -> None:
    """SIGKILL at the worker's third reply."""
    plain, seen = made.sampler.drawn, [0]

    def drawn(*given: Any) -> Any:
        seen[0] += 1
        if seen[0] == 3:
            os.kill(made._workers[0].process.pid, signal.SIGKILL)
        return plain(*given)

    made.sampler.drawn = drawn  # type: ignore[method-assign]


def test_an_interrupt_ends_the_workers(path: str) -> None:
    made = Workers(sampler(path), path, wanted=3)
    plain = made.sampler.finished

    def interrupted(jobs: Any) -> Any:
        for number, sample in enumerate(plain(jobs)):
            if number == 30:
                raise KeyboardInterrupt
            yield sample

    made.sampler.finished = interrupted  # type: ignore[method-assign]
    processes = []
    grow = made._grow
    made._grow = lambda: (grow(), processes.extend(w.process for w in made._workers))  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        made.generate(requests(60))
    assert len(set(processes)) == 2
    assert all(p.poll() is not None for p in processes)


def test_auto_starts_one_only_where_the_wait_would_be_long(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "allowed", lambda: 2)
    monkeypatch.setattr(workers, "PAYS", 1e6)
    with Workers(sampler(path), path) as made:
        assert made.most == 2
        made.generate(requests(20))
        assert not made._workers
        monkeypatch.setattr(workers, "PAYS", 1e-6)
        made.generate(requests(100))
        assert len(made._workers) == 1


@pytest.mark.parametrize(("wish", "want"), [("1", 1), ("", None), ("many", None)])
def test_omp_num_threads_limits_auto(wish: str, want: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wish)
    assert workers.allowed() == (want or workers.cores())


def test_alone_where_bits_could_differ(path: str) -> None:
    slow = sampler(path)
    slow.model.bfloat16()
    assert Workers(slow, path, wanted=2).most == 1
    many = sampler(path)
    many.threads = 2
    assert Workers(many, path, wanted=2).most == 1
    gpt2 = Path(path).parent / "gpt2"
    assert Workers(sampler(str(tiny_directory(gpt2, "gpt2", context=256))), str(gpt2), wanted=2).most == 1
