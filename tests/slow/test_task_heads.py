"""Spans and answers on notices of the reading room from the shipped base, and lm-eval on a directory that we wrote."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from posttrain.evals import lm_eval
from posttrain.jobs.evaluate_task import measure
from posttrain.jobs.job import Context
from posttrain.jobs.train import Train
from posttrain.readingroom.room import ReadingRoom
from posttrain.readingroom.spans import asked_notices, tagged_notices

pytestmark = pytest.mark.slow
QUIET = Context(bars=False)
LIMIT = 180
"""Seconds of processor time, so that a machine busy with other work changes nothing."""


def run(method: str, rows: list, out: Path, steps: int, batch: int, lr: float) -> str:
    job = Train(
        model="base", method=method, data=rows, out=str(out), steps=steps, batch=batch, optimizer={"lr": lr}, log_to=()
    )
    return str(job.run(QUIET).model)


def test_spans_of_notices(tmp_path: Path) -> None:
    began = time.process_time()
    model = run("token_classification", tagged_notices(1600), tmp_path / "m", 200, 8, 2e-3)
    seconds = time.process_time() - began
    print(f"{seconds:.0f} s of a processor")
    figures, _ = measure(model, tagged_notices(300, split="held-out"))
    print({k: str(v) for k, v in figures.items()})
    assert figures["f1"].low > 0.95 and seconds < LIMIT


def test_answers_on_notices(tmp_path: Path) -> None:
    began = time.process_time()
    model = run("question_answering", asked_notices(640), tmp_path / "m", 80, 16, 1e-3)
    seconds = time.process_time() - began
    print(f"{seconds:.0f} s of a processor")
    figures, _ = measure(model, asked_notices(300, split="held-out"))
    print({k: str(v) for k, v in figures.items()})
    assert figures["f1"].low > 0.95 and seconds < LIMIT


@pytest.mark.skipif(lm_eval.program() is None, reason="lm_eval is not installed: make lm-eval")
def test_the_harness_runs_on_what_we_wrote(tmp_path: Path) -> None:
    rows = ReadingRoom(0).demonstrations(16, quality=1.0)
    demos = tmp_path / "d.jsonl"
    demos.write_text("".join(json.dumps(g.to_json()) + "\n" for g in rows), encoding="utf-8")
    made = Train(
        model="base", method="sft", data=str(demos), out=str(tmp_path / "r"), steps=2, batch=4, log_to=(), samples=0
    )
    model = made.run(QUIET).model
    asked = [
        {"question": f"Question: What is {i} + 1?\nAnswer:", "choices": [f" {i + 1}", f" {i + 7}"]} for i in range(12)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({**r, "answer": 0}) + "\n" for r in asked))
    (tmp_path / "rooms.yaml").write_text(
        f"task: rooms\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {tmp_path / 'rows.jsonl'}\n"
        'test_split: test\noutput_type: multiple_choice\ndoc_to_text: "{{question}}"\ndoc_to_choice: choices\n'
        'doc_to_target: "{{answer}}"\nmetric_list:\n  - metric: acc\n'
    )
    figures = lm_eval.lm_eval(model, ["rooms"], str(tmp_path))
    assert 0 <= figures["rooms/acc"].estimate <= 1 and figures["rooms/acc"].n == 12
