"""R1 to R8: a bug planted into sampling or into the reward is found before step 1, and a clean run is not suspected."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from posttrain.core.batch import Batch
from posttrain.core.group import Group, Score, group
from posttrain.core.method import Method
from posttrain.core.protocols import Request, Sampling
from posttrain.engine.local import LocalEngine
from posttrain.engine.optimizer import Optimizer
from posttrain.jobs import reward_checks
from posttrain.jobs.scoring import ModelReward
from posttrain.models.adapters import Lora, add_lora
from posttrain.models.load import Loaded
from posttrain.rollout.sampler import Sampler
from posttrain.train import rollout_checks
from tests.check.subject import fired, loaded, renderer
from tests.jobs.tiny_run import reward_run, rows_file

GRPO = Method.of("grpo")
PLAIN = Sampling(max_tokens=6)


def sampler_of(model: Loaded) -> Sampler:
    return Sampler(model.model, model.tokenizer, model.stops, renderer(model).prompt, threads=1)


def answers(sampler: Sampler, sampling: Sampling = PLAIN, score: Callable[[int], float | None] = float) -> list[Group]:
    """Three prompts with three answers each, scored by their place."""
    made = sampler.generate([Request(group(f"What is {i}?").prompt, sampling, n=3, seed=i) for i in range(3)])
    return [
        g.with_responses(
            [replace(r, score=Score(score(i), {}, "")) for i, r in enumerate(g.responses)],
            prompt_tokens=g.prompt_tokens,
        )
        for g in made
    ]


def found(model: Loaded, groups: Sequence[Group], method: Method = GRPO) -> set[str]:
    engine = LocalEngine(model.model, needs=method.needs())
    return fired(rollout_checks.findings(engine, method, groups, {}))


def moved(model: Loaded, by: float = 0.05) -> None:
    """Weights after an update."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.model.parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p) * by)


def test_a_clean_run_is_not_suspected() -> None:
    model = loaded()
    assert found(model, answers(sampler_of(model))) == set()


def test_r1_old_weights_in_the_sampler() -> None:
    model = loaded()
    groups = answers(sampler_of(model))
    moved(model)
    assert found(model, groups) == {"R1"}


def test_r1_another_temperature_than_the_trainers() -> None:
    model = loaded()
    assert found(model, answers(sampler_of(model), Sampling(temperature=0.7, max_tokens=6))) == {"R1"}
    assert (
        found(model, answers(sampler_of(model), Sampling(temperature=0.7, max_tokens=6)), GRPO.changed(temperature=0.7))
        == set()
    )


def test_r2_a_reward_beside_the_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    model, laid = loaded(), rollout_checks.laid

    def shifted(engine: Any, groups: Any) -> Batch:
        batch = laid(engine, groups)
        return replace(batch, last=batch.last - 1)

    groups = answers(sampler_of(model))
    monkeypatch.setattr(rollout_checks, "laid", shifted)
    assert "R2" in found(model, groups)


def test_r3_truncated_sampling() -> None:
    model = loaded()
    groups = answers(sampler_of(model), Sampling(top_p=0.5, max_tokens=6))
    assert "R3" in found(model, groups)
    assert found(model, groups, GRPO.changed(correction={"high": 2.0})) == set()


def test_r5_flat_and_missing_scores() -> None:
    model = loaded()
    sampler = sampler_of(model)
    assert found(model, answers(sampler, score=lambda _: 1.0)) == {"R5"}
    assert found(model, answers(sampler, score=lambda _: None)) == {"R5"}


def test_r6_sampler_and_trainer_have_the_same_weights_after_every_sync() -> None:
    """With adapters: first-token and all other log-probs equal a re-forward after each update, and differ where the sync is left out."""
    model = loaded()
    add_lora(model, Lora(rank=2))
    sampler, engine = sampler_of(model), LocalEngine(model.model, needs=GRPO.needs())
    engine.optimize(Optimizer(), 1e-3, 3)
    for _ in range(2):
        moved(model)
        sampler.sync()
        groups = answers(sampler)
        batch = rollout_checks.laid(engine, groups)
        again = engine.score(batch, GRPO.needs()).logp
        assert again is not None
        assert float((again - batch.data["old"])[torch.from_numpy(batch.tokens_of[:-1])].abs().max()) <= 1e-4
        assert found(model, groups) == set()
    stale = Sampler(
        model.model, model.tokenizer, model.stops, renderer(model).prompt, threads=1
    )  # reads the merged weights now
    stale.generate([Request(group("Hello?").prompt, PLAIN)])
    decoder = stale._decoder
    moved(model)
    groups = answers(SimpleNamespace(generate=lambda asked: _without_sync(stale, decoder, asked)))  # type: ignore[arg-type]
    assert found(model, groups) == {"R1"}


def _without_sync(sampler: Sampler, decoder: Any, asked: Sequence[Request]) -> list[Group]:
    sampler._seen_weights = sampler._weights_mark()  # the planted bug: the change goes unnoticed
    assert sampler._decoder is decoder
    return sampler.generate(asked)


def test_r7_every_answer_ends() -> None:
    """A model that never says its stop token ends at the budget, and such answers are marked."""
    model = loaded()
    endless = Sampler(model.model, model.tokenizer, (), renderer(model).prompt, threads=1)
    (made,) = endless.generate([Request(group("Go on").prompt, Sampling(max_tokens=9), n=4)])
    assert [(len(r.tokens), r.stop) for r in made.responses if r.tokens is not None] == [(9, "length")] * 4


# R4 and R8: what scores the answers


def pairs_run(root: Path) -> tuple[str, list[Group]]:
    """A reward run whose manifest names the comparisons that it learned from."""
    path = Path(reward_run(root))
    rows = [{"prompt": f"What is {i}?", "chosen": f"{i} sure", "rejected": f"{i} or so"} for i in range(40)]
    data = rows_file(root / "prefs.jsonl", rows)
    (path / "manifest.json").write_text(json.dumps({"inputs": [{"name": "data", "path": data, "hash": "x"}]}), "utf-8")
    return str(path), [group(f"What is {i}?", "one", "two three", "four five six") for i in range(3)]


class Judged:
    """A reward model around the real one, with another opinion."""

    def __init__(self, inner: ModelReward, opinion: Callable[[Sequence[Group], int, Any], float]) -> None:
        self.inner, self.opinion = inner, opinion
        self.loaded, self.engine = inner.loaded, inner.engine

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        return [[Score(self.opinion(groups, i, r)) for i, r in enumerate(g.responses)] for g in groups]


def right(_: Any, __: int, response: Any) -> float:
    return float("sure" in response.text)


def test_r4_a_reward_model_that_is_not_the_one_that_was_trained(tmp_path: Path) -> None:
    path, asked = pairs_run(tmp_path)
    good = Judged(ModelReward(path), right)
    assert fired(reward_checks.loaded_well(good, path, asked)) == set()  # type: ignore[arg-type]
    assert "40 comparisons" not in str(reward_checks.ordered(good, path)) and "32 of 32" in str(
        reward_checks.ordered(good, path)
    )  # type: ignore[arg-type]

    turned = Judged(good.inner, lambda g, i, r: -right(g, i, r))
    company = Judged(good.inner, lambda g, i, r: right(g, i, r) + 0.1 * len(g[0].responses))
    for planted, says in ((turned, "in 0 of 32"), (company, "what is scored beside it")):
        made = reward_checks.loaded_well(planted, path, asked)  # type: ignore[arg-type]
        assert fired(made) == {"R4"} and any(says in f.message for f in made)

    with torch.no_grad():
        good.engine.heads["score"].weight.normal_()  # type: ignore[union-attr, operator]
    made = reward_checks.loaded_well(good, path, asked)  # type: ignore[arg-type]
    assert fired(made) == {"R4"} and "made anew" in made[0].message


def test_r4_a_real_one_scores_an_answer_alone_as_in_company(tmp_path: Path) -> None:
    path, asked = pairs_run(tmp_path)
    assert reward_checks.alone(ModelReward(path), path, asked) == []


def test_r8_asks_for_somebody_who_looks(tmp_path: Path) -> None:
    from posttrain.jobs.train import Train

    path = reward_run(tmp_path)

    def ids(**fields: Any) -> list[str]:
        node = {"model": "base", "method": "grpo", "data": "x.jsonl", "out": "y", **fields}
        return [f.message for f in reward_checks.watched(Train(**node))]

    assert ids(reward="math") == []
    assert ids(reward={"name": "sum", "terms": [{"reward": "math"}]}) == []
    both = ids(reward=path)
    assert len(both) == 2 and "Nothing but the reward" in both[0] and "not audited" in both[1]
    assert (
        len(ids(reward={"name": "sum", "terms": [{"reward": "math"}, {"reward": {"name": "model", "path": path}}]}))
        == 2
    )
    assert ids(reward=path, probe={"data": "h.jsonl", "gold": "math"}) == both[1:]
    (Path(path) / "audit").mkdir()
    (Path(path) / "audit" / "audit.json").write_text("{}", encoding="utf-8")
    assert ids(reward=path, probe={"data": "h.jsonl", "gold": "math"}) == []
