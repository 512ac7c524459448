"""What the classic bugs of trainers break, held directly: each patch of tests/mutations names a test here or among the laws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posttrain.core.batch import layout
from posttrain.core.files import whole_directory
from posttrain.core.group import Group, Preference, Response
from posttrain.core.method import Method
from posttrain.core.needs import Needs
from posttrain.core.recipe import build_spec
from posttrain.data.source import Offline
from posttrain.engine.local import LocalEngine
from posttrain.jobs.assembly import Part, hold_out
from posttrain.models.kernels import Kernel, on_cpu
from posttrain.models.load import load
from posttrain.train.loop import accumulate
from tests.check.subject import loaded, pairs, renderer
from tests.laws.build import engine_for, gradients, prepared, tiny_model
from tests.models.tiny import tiny, tiny_directory


def rendered(count: int = 4) -> list[Group]:
    return [g for g in renderer(loaded()).render_many(pairs(count)) if g is not None]


@pytest.mark.parametrize("path", ["shared", "dense"])
def test_log_probs_are_the_models_own(path: str) -> None:
    """Each trained token's log-prob is that of a plain forward over prompt and answer, read one place before the token."""
    model = tiny_model()
    rng = np.random.default_rng(0)
    answers = [Response(tokens=rng.integers(3, 60, n), trained=np.ones(n, dtype=bool)) for n in (5, 3)]
    row = Group((), tuple(answers), prompt_tokens=rng.integers(3, 60, 4))
    batch = layout([row], path)  # type: ignore[arg-type]
    got = LocalEngine(model, path=path).score(batch, Needs(logp=True)).logp  # type: ignore[arg-type]
    expected = []
    for answer in answers:
        ids = torch.from_numpy(np.concatenate([row.prompt_tokens, answer.tokens]))[None]
        table = model(input_ids=ids).logits[0].log_softmax(-1)
        expected += [table[3 + k, int(t)] for k, t in enumerate(answer.tokens)]
    assert got is not None
    torch.testing.assert_close(got, torch.stack(expected).detach(), atol=1e-5, rtol=0)


def test_reference_stands_still() -> None:
    """The reference's log-probs do not move while the policy's do."""
    method = build_spec(Method.members["dpo"], {})
    engine = engine_for(method, apart=False)
    batch = prepared(engine, method, method.example().groups)
    before = engine.score(batch, Needs(logp=True), "reference").logp
    accumulate(engine, method, batch)
    engine.step()
    after, own = (engine.score(batch, Needs(logp=True), role).logp for role in ("reference", "policy"))
    assert before is not None and after is not None and own is not None
    assert torch.equal(before, after) and not torch.equal(before, own)


def test_every_answer_trains_its_stop() -> None:
    read = renderer(loaded())
    for item in rendered():
        for response in item.responses:
            assert response.tokens is not None and response.trained is not None
            assert int(response.tokens[-1]) in read.stops and bool(response.trained[-1])


def test_seed_decides_the_order() -> None:
    rows = pairs(12)
    one, same, other = ([[g.id for g in step] for step in Offline(rows, 4, seed=seed).stream()] for seed in (1, 1, 2))
    assert one == same != other


def test_half_a_directory_is_none(tmp_path: Path) -> None:
    """While it is written a directory does not have its name, and a failure leaves the old one."""
    target = tmp_path / "step-1"
    with whole_directory(target) as beside:
        (beside / "a").write_text("old", encoding="utf-8")
        assert not target.exists()

    def fails() -> None:
        with whole_directory(target) as beside:
            (beside / "a").write_text("half", encoding="utf-8")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fails()
    assert (target / "a").read_text(encoding="utf-8") == "old" and len(list(tmp_path.iterdir())) == 1


def test_dropout_of_the_config_is_off(tmp_path: Path) -> None:
    """A model that was trained with dropout gives one answer to one question, even when library code turns training on."""
    from transformers import AutoConfig

    at = tiny_directory(tmp_path / "m", "smollm3", hidden=16)
    config = AutoConfig.from_pretrained(at)
    config.attention_dropout = 0.5
    config.save_pretrained(at)
    model = load(at, dtype="fp32", device="cpu")
    model.model.train()
    engine = LocalEngine(model.model, path="dense")
    batch = layout([g for g in renderer(model).render_many(pairs(2)) if g is not None], "dense")
    one, two = (engine.score(batch, Needs(logp=True)).logp for _ in range(2))
    assert one is not None and two is not None and torch.equal(one, two)


@pytest.mark.parametrize("attention", ["buckets", "native"])
def test_sliding_window_holds_for_shared_prompts(attention: Kernel) -> None:
    """Answers behind a shared prompt that is longer than the window see what padded rows see."""
    if attention == "native" and on_cpu() != "native":
        pytest.skip("no C compiler here")
    model, _ = tiny("mistral", hidden=64, heads=4)
    rng = np.random.default_rng(1)
    answers = tuple(Response(tokens=rng.integers(3, 60, n), trained=np.ones(n, dtype=bool)) for n in (9, 6))
    row = Group((), answers, prompt_tokens=rng.integers(3, 60, 40))
    assert model.config.sliding_window < 40
    shared, dense = (
        LocalEngine(model, path=p, attention=attention).score(layout([row], p), Needs(logp=True)).logp
        for p in ("shared", "dense")
    )
    assert shared is not None and dense is not None
    torch.testing.assert_close(shared, dense, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["dpo", "reward"])
def test_pair_weight_counts(name: str) -> None:
    """A pair of weight 2 gives twice the gradient."""
    method = build_spec(Method.members[name], {})
    engine = engine_for(method)
    row = method.example().groups[0]
    heavy = replace(row, preferences=(Preference(0, 1, weight=2.0),))
    one, two = (gradients(engine, method, prepared(engine, method, [g])) for g in (row, heavy))
    for tensor, value in one.items():
        torch.testing.assert_close(two[tensor], 2 * value, atol=1e-6, rtol=1e-4)


def test_validation_is_not_trained_on() -> None:
    rows = pairs(20)
    part = Part("rows", list(rows), len(rows))
    held = hold_out([part], 0.3, seed=0)
    assert held and len(held) + len(part.groups) == 20
    assert not {g.prompt_hash for g in held} & {g.prompt_hash for g in part.groups}


def test_a_better_answer_is_pushed_up() -> None:
    """Steps of the reward method raise the better answer's score over the other's, whichever stands first."""
    method = build_spec(Method.members["reward"], {})
    for first in (True, False):
        engine = engine_for(method)
        row = method.example().groups[0]
        row = replace(row, preferences=(Preference(0, 1) if first else Preference(1, 0),))
        batch = prepared(engine, method, [row])
        for _ in range(4):
            accumulate(engine, method, batch)
            engine.step()
        score = engine.score(batch, Needs(score=1)).score
        assert score is not None
        assert bool(score[0] > score[1]) is first
