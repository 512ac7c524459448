"""Figures apart by split and novelty, and the likelihood of raw texts part by part, through `eval` and `compare`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posttrain.evals import texts
from posttrain.evals.apart import changes_apart, figures_apart, values_of
from posttrain.jobs.compare import Compare, text_changes
from posttrain.jobs.evaluate import Evaluate, read_result
from posttrain.jobs.job import Context
from posttrain.jobs.room import RoomPrompts
from posttrain.models.load import load
from posttrain.readingroom.room import ReadingRoom
from posttrain.rollout.score import response_logps
from tests.jobs.tiny_run import base

QUIET = Context(bars=False)


def made_rows(values: dict[str, list[float]]) -> list[dict[str, Any]]:
    return [
        {"id": f"{s}{i}", "facts": {"split": s}, "figures": {"gold": [v]}}
        for s, vs in values.items()
        for i, v in enumerate(vs)
    ]


def test_each_value_has_its_own_figure_and_its_own_paired_change() -> None:
    rng = np.random.default_rng(0)
    noise = {s: rng.normal(0, 0.05, 60) for s in ("ood", "held-out")}
    after = made_rows({"ood": list(0.2 + noise["ood"]), "held-out": list(0.8 + noise["held-out"])})
    before = made_rows({"ood": list(0.2 + rng.normal(0, 0.05, 60)), "held-out": list(0.3 + rng.normal(0, 0.05, 60))})
    assert values_of(after, "split") == ["held-out", "ood"], "from near to far"
    told = figures_apart(after, "split", ["gold", "logp"])
    assert told["ood"]["gold"].high < 0.25 < 0.75 < told["held-out"]["gold"].low and "logp" not in told["ood"]
    gained = changes_apart(after, before, "split", "gold")
    assert gained["held-out"][0].low > 0.4 and gained["ood"][0].low < 0 < gained["ood"][0].high
    assert 0 < gained["ood"][1] < 0.05
    assert figures_apart(after[:60], "split", ["gold"]) == {}, "one value is no comparison"


def test_texts_gain_lose_and_keep() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(20, 200, 80)

    def rows(level: dict[str, float], seed: int) -> list[dict[str, Any]]:
        draw = np.random.default_rng(seed)
        return [
            {"part": p, "id": f"{p}{i}", "tokens": int(n), "nats": float(n * (v + draw.normal(0, 0.02)))}
            for p, v in level.items()
            for i, n in enumerate(sizes)
        ]

    before = rows({"domain": 2.0, "general": 1.0, "other": 1.0}, 2)
    after = rows({"domain": 1.5, "general": 1.2, "other": 1.0}, 3)
    told = text_changes({"base": before, "new": after}, 0.05, 0)
    assert {p: made["new"]["verdict"] for p, made in told.items()} == {
        "domain": "gained",
        "general": "lost",
        "other": "kept",
    }
    assert told["domain"]["base"]["perplexity"]["estimate"] == pytest.approx(math.exp(2.0), rel=0.02)
    low, high = (told["domain"]["new"]["change"][k] for k in ("low", "high"))
    assert low < -0.5 < high
    mean = texts.nats(before, "domain")
    pooled = sum(r["nats"] for r in before if r["part"] == "domain") / sizes.sum()
    assert mean.estimate == pytest.approx(pooled), "every token counts once, not every text"
    shorter = [{**r, "tokens": r["tokens"] - 1} for r in after]
    assert texts.change(shorter, before, "domain", 0.05) is None, "another tokenizer reads other tokens"


def files(tmp: Path) -> dict[str, str]:
    rows = tmp / "rows.jsonl"
    RoomPrompts(out=str(rows), n=10, splits=("held-out", "new-vocabulary"), answers=True, quality=1.0).run(QUIET)
    learned = tmp / "learned.jsonl"
    RoomPrompts(out=str(learned), n=80).run(QUIET)
    out = {"rows": str(rows), "seen": str(learned)}
    for name, split in (("near", "train"), ("far", "ood")):
        found = list(ReadingRoom(0).corpus(n_docs=12, seed=9, split=split))
        (tmp / f"{name}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in found), encoding="utf-8")
        out[name] = str(tmp / f"{name}.jsonl")
    return out


def test_eval_tells_splits_novelty_and_texts_apart(tmp_path: Path) -> None:
    at = files(tmp_path)
    sources = [{"path": at["near"], "task": "near"}, {"path": at["far"], "task": "far"}]
    fields: dict[str, Any] = {
        "model": "base",
        "data": at["rows"],
        "max_tokens": 5,
        "seen": at["seen"],
        "texts": sources,
    }
    made = Evaluate(out=str(tmp_path / "a"), **fields).run(QUIET)
    body = json.loads((tmp_path / "a" / "eval.json").read_text(encoding="utf-8"))
    assert list(body["apart"]["split"]) == ["held-out", "new-vocabulary"]
    assert all(
        {"gold", "logp"} <= set(v["figures"]) and v["figures"]["logp"]["n"] == 10
        for v in body["apart"]["split"].values()
    )
    assert "new-vocabulary" in body["apart"]["novelty"]
    assert made.metrics["perplexity/far"].low > made.metrics["perplexity/near"].high > 1, (
        "the base has not met these words"
    )
    assert [r["part"] for r in made.texts] == ["near"] * 12 + ["far"] * 12
    assert read_result(tmp_path / "a").texts == made.texts
    Evaluate(out=str(tmp_path / "b"), against=str(tmp_path / "a"), **fields).run(QUIET)
    again = json.loads((tmp_path / "b" / "eval.json").read_text(encoding="utf-8"))["apart"]["split"]["held-out"]
    assert again["differences"]["gold"]["estimate"] == 0
    with pytest.raises(ValueError, match="each its `task`"):
        Evaluate(out=str(tmp_path / "c"), **{**fields, "texts": [at["near"], at["near"]]}).run(QUIET)
    with pytest.raises(ValueError, match="is no document"):
        Evaluate(out=str(tmp_path / "d"), **{**fields, "texts": at["rows"]}).run(QUIET)


def test_a_text_longer_than_the_context_is_read_whole(tmp_path: Path) -> None:
    """Nats of a long text are those of its windows, each after the beginning-of-text token alone."""
    model = base(tmp_path)
    loaded = load(model)
    width = int(loaded.model.config.max_position_embeddings)
    text = " ".join(f"word {i}" for i in range(3 * width))
    file, rows = tmp_path / "long.jsonl", tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"text": text}) + "\n", encoding="utf-8")
    rows.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n", encoding="utf-8")
    made = Evaluate(model=model, data=str(rows), texts=str(file), out=str(tmp_path / "e"), max_tokens=2).run(QUIET)
    ids = [*loaded.tokenizer.encode(text, add_special_tokens=False), loaded.tokenizer.eos_token_id]
    start = (
        loaded.tokenizer.bos_token_id if loaded.tokenizer.bos_token_id is not None else loaded.tokenizer.eos_token_id
    )
    pieces = [ids[i : i + width - 1] for i in range(0, len(ids), width - 1)]
    assert made.texts[0]["tokens"] == len(ids) > 2 * width
    wanted = -sum(response_logps(loaded.model, [start], [p])[0].double().sum().item() for p in pieces)
    assert made.texts[0]["nats"] == pytest.approx(wanted, rel=1e-5)


def test_compare_shows_where_it_holds(tmp_path: Path) -> None:
    at = files(tmp_path)
    sources = [{"path": at["near"], "task": "near"}, {"path": at["far"], "task": "far"}]
    job = Compare(
        models=("base=base", "again=base"),
        title="Rows <apart>",
        data=at["rows"],
        out=str(tmp_path / "c"),
        max_tokens=4,
        texts=sources,
        seen=at["seen"],
    )
    page = job.run(QUIET).read_text(encoding="utf-8")
    told = json.loads((tmp_path / "c" / "comparison.json").read_text(encoding="utf-8"))
    assert list(told["by_split"]) == ["held-out", "new-vocabulary"] and "new-vocabulary" in told["by_novelty"]
    assert told["changes"]["by_split"]["held-out"]["again"]["estimate"] == 0
    assert (
        told["texts"]["far"]["again"]["change"]["estimate"] == 0
        and told["texts"]["far"]["base"]["perplexity"]["low"] > 1
    )
    for words in (
        "new words in known wordings",
        "What was learned of each kind of text",
        "<h1>Rows &lt;apart&gt;</h1>",
        "By split, again against base: not told apart on held-out",
        "own truth",
        "gold by how new the prompt is",
    ):
        assert words in page
