"""Task heads on real rows: an encoder pretrained here by masked language modelling learns refusals, choices and retrieval.

XSTest answers are judged by heads that saw other prompts only (three folds); the encoder has seen texts of other sets alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posttrain.core.chat import Message, user
from posttrain.core.group import Group, Mark, Response
from posttrain.data.read import read
from posttrain.evals.task_scores import class_figures, retrieval_figures, retrieval_ranks
from posttrain.jobs.evaluate_task import measure
from posttrain.jobs.job import Context
from posttrain.jobs.new_encoder import NewEncoder
from posttrain.jobs.train import Train
from posttrain.models.task_models import TaskModel
from posttrain.stats import paired_bootstrap, wilson
from tests.slow import real

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not real.DATA.is_dir(), reason="POSTTRAIN_DATA names no directory of real rows"),
]
QUIET = Context(bars=False)
WORDS = 40
"""Words of a text that are kept: the first of an answer say whether it refuses."""
REFUSED, ANSWERED = "refused", "answered"
AGREEABLE = "model-written-evals/persona/agreeableness.jsonl"
XSTEST = "xstest/model_completions/xstest_v2_completions_mistralinstruct.jsonl"


def short(text: str) -> str:
    return " ".join(text.split()[:WORDS])


def doc(text: str, **fields: Any) -> Response:
    return Response(turns=(Message("document", short(text)),), **fields)


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (real.DATA / path).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two layers of 128, pretrained on instructions, answers, dialogues and questions (without their answers) of four public sets."""
    place = tmp_path_factory.mktemp("encoder")
    texts = [r["question"] for r in lines(AGREEABLE)]
    texts += [t for r in other_refusals() for t in (*r["chosen"], *r["rejected"])]
    for name in ("llamafactory-demo/alpaca_en_demo.jsonl", "hh-rlhf/harmless-base.test.jsonl"):
        for group in read(real.DATA / name, limit=600).groups:
            texts += [group.prompt_text, *(r.text for r in group.responses[:2])]
    rows = place / "texts.jsonl"
    rows.write_text("".join(json.dumps({"text": short(t)}) + "\n" for t in texts if t.strip()), encoding="utf-8")
    shape = {"vocabulary": 4000, "hidden": 128, "layers": 2, "heads": 4, "ffn": 384, "context": 160}
    NewEncoder(data=str(rows), out=str(place / "new"), **shape).run(QUIET)
    optimizer = {"lr": 1e-3, "warmup": 0.1, "schedule": "cosine"}
    fields = {"steps": 200, "batch": 32, "optimizer": optimizer, "overlong": "drop", "accept": ("D1",), "log_to": ()}
    run = Train(model=str(place / "new"), method="masked_lm", data=str(rows), out=str(place / "mlm"), **fields).run(
        QUIET
    )
    told = [json.loads(line)["nll"] for line in run.metrics.read_text().splitlines()]
    assert np.mean(told[-20:]) < np.mean(told[:5]) - 1.0, "the encoder learned nothing"
    return str(run.path)


def head(model: str, method: Any, rows: list[Group], out: Path, steps: int, lr: float = 5e-4) -> str:
    optimizer = {"lr": lr, "warmup": 0.1, "schedule": "cosine"}
    fields = {"steps": steps, "batch": 16, "optimizer": optimizer, "log_to": (), "overlong": "drop"}
    return str(Train(model=model, method=method, data=rows, out=str(out), **fields).run(QUIET).model)


def prompts_of_xstest() -> set[str]:
    return {r["prompt"].strip().lower() for r in [*lines(XSTEST), *lines("xstest/xstest_prompts.jsonl")]}


def other_refusals() -> list[dict[str, Any]]:
    """Answers of another set, refusals among them, for pretraining; requests that XSTest asks, too, are left out."""
    known = prompts_of_xstest()
    return [r for r in lines("rm-bench/safety-refuse_filtered.jsonl") if r["prompt"].strip().lower() not in known]


def named(text: str, label: str) -> Group:
    return Group((), (doc(text, marks=(Mark(label),)),))


def test_xstest_refusals(encoder: str, tmp_path: Path) -> None:
    """Held-out F1 of refusals over all rows, each judged by a head that saw other prompts only."""
    table = lines(XSTEST)
    truth = [ANSWERED if r["final_label"].startswith("1") else REFUSED for r in table]
    groups = [named(r["completion"], n) for r, n in zip(table, truth)]
    said: list[str] = [""] * len(groups)
    for fold in range(3):
        inside = [i for i in range(len(groups)) if i % 3 != fold]
        weighted = [
            groups[i] for i in inside for _ in range(4 if truth[i] == REFUSED else 1)
        ]  # refusals are one in six
        model = TaskModel(head(encoder, "sequence_classification", weighted, tmp_path / str(fold), 60, lr=7e-4))
        outside = [i for i in range(len(groups)) if i % 3 == fold]
        for i, label in zip(outside, model.classes([groups[i].responses[0].text for i in outside])):
            said[i] = label
    made = class_figures(truth, said, [ANSWERED, REFUSED])
    print({k: str(v) for k, v in made.items()})
    count = truth.count(REFUSED)
    assert made["f1/refused"].low > 2 * count / (len(truth) + count), "no better than calling everything a refusal"


def test_agreeableness_as_multiple_choice(encoder: str, tmp_path: Path) -> None:
    """Which answer an agreeable speaker gives, on statements that the head never saw.

    Yes and No are right equally often, so only statement and answer together tell: the loss stays at log 2 for some forty steps.
    """
    groups = []
    for row in lines(AGREEABLE):
        pair = [
            doc(row[k].strip(), label=k == "answer_matching_behavior")
            for k in ("answer_matching_behavior", "answer_not_matching_behavior")
        ]
        groups.append(Group((user(row["question"]),), tuple(sorted(pair, key=lambda r: r.text))))
    train, test = [g for i, g in enumerate(groups) if i % 3], [g for i, g in enumerate(groups) if i % 3 == 0]
    figures, _ = measure(head(encoder, "multiple_choice", train, tmp_path / "c", 250, lr=1e-3), test)
    print({k: str(v) for k, v in figures.items()})
    assert figures["accuracy"].n == len(test) and figures["accuracy"].low > 0.5


def test_retrieval_of_alpaca_instructions(encoder: str, tmp_path: Path) -> None:
    """The right instruction for an answer is found more often than before training, paired by answer."""
    found = [
        g for g in read(real.DATA / "llamafactory-demo" / "alpaca_en_demo.jsonl").groups if g.responses[0].text.strip()
    ]
    rows = [Group((), (doc(g.responses[0].text), doc(g.prompt_text, label=True))) for g in found]
    train, test = rows[200:], rows[:200]
    after = TaskModel(head(encoder, "contrastive", train, tmp_path / "after", 100))
    before = TaskModel(head(encoder, "contrastive", train, tmp_path / "before", 1, lr=1e-12))
    ranks = {}
    for name, model in (("before", before), ("after", after)):
        queries = model.embed([g.responses[0].text for g in test])
        documents = model.embed([g.responses[1].text for g in test])
        ranks[name] = retrieval_ranks(queries, documents)
        print(name, {k: str(v) for k, v in retrieval_figures(queries, documents).items()})
    gain = paired_bootstrap(1.0 / ranks["after"], 1.0 / ranks["before"])
    print("gain", gain, wilson(int((ranks["after"] <= 10).sum()), len(test)))
    assert gain.low > 0
