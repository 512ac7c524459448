"""Online sources: sampled and scored groups, best-of-n, pairs, and exact resumption."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from posttrain.core.group import Group, Score, answer, group
from posttrain.core.protocols import Sampling
from posttrain.data.source import Offline
from posttrain.rollout.best_of import Best, PairUp, best, best_of, pair
from posttrain.rollout.rollouts import Rollouts
from posttrain.rollout.sampler import Sampler
from tests.rollout.models import model_of


def shortness(groups: Sequence[Group]) -> list[list[Score]]:
    """Minus the characters of the answer; an empty answer cannot be scored."""
    return [[Score(-float(len(r.text)) if r.text else None, why="length") for r in g.responses] for g in groups]


def source(model: Any, seed: int = 0) -> Rollouts:
    tokenizer = model_of("llama")[1]
    sampler = Sampler(
        model,
        tokenizer,
        (11,),
        lambda chat, tools: tokenizer.encode(chat[-1].content, add_special_tokens=False),
        slots=6,
        threads=1,
    )
    rows = [group(t, facts={"id": t, "gold": t.upper()}) for t in ("hello", "the weather", "1 2 3", "two plus two")]
    return Rollouts(
        Offline(rows, per_step=2, epochs=3), sampler, shortness, n=3, sampling=Sampling(max_tokens=8), seed=seed
    )


def content(steps: list[list[Group]]) -> list[Any]:
    return [[(g.id, [r.tokens.tolist() for r in g.responses if r.tokens is not None]) for g in step] for step in steps]


def test_groups_are_sampled_and_scored() -> None:
    step = next(source(copy.deepcopy(model_of("llama")[0])).stream(None))
    assert len(step) == 2
    for g in step:
        assert g.facts["gold"] == g.id.upper() and g.prompt_tokens is not None and len(g.responses) == 3
        for r in g.responses:
            assert r.score is not None and r.logps is not None and r.score.why == "length"
            assert r.score.value == (-len(r.text) if r.text else None)


def moved(model: Any, by: int) -> None:
    torch.manual_seed(by)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.add_(torch.randn(32, 32) * 0.1)


def test_a_killed_run_samples_what_the_whole_one_would_have() -> None:
    model = copy.deepcopy(model_of("llama")[0])
    engine = SimpleNamespace(model=model)
    made, kept, saved = source(model), [], None
    for number, step in enumerate(made.stream(engine), 1):
        kept.append(step)
        moved(model, number)
        made.publish(engine, number)  # type: ignore[arg-type]
        if number == 3:
            saved = json.loads(json.dumps(made.state())), copy.deepcopy(model.state_dict())
    assert [r.version for step in kept for r in step[0].responses[:1]] == [0, 1, 2, 3, 4, 5]
    assert saved is not None
    other = copy.deepcopy(model_of("llama")[0])
    other.load_state_dict(saved[1])
    again = source(other)
    again.load(saved[0])
    resumed = []
    engine = SimpleNamespace(model=other)
    for number, step in enumerate(again.stream(engine), 4):
        resumed.append(step)
        moved(other, number)
        again.publish(engine, number)  # type: ignore[arg-type]
    assert content(resumed) == content(kept[3:])
    assert resumed[0][0].responses[0].version == 3
    with pytest.raises(ValueError, match="seed changed"):
        source(other, seed=1).load(saved[0])


def test_steps_and_prompts_draw_apart() -> None:
    steps = list(source(copy.deepcopy(model_of("llama")[0])).stream(None))
    answers = [tuple(r.tokens.tolist()) for step in steps for g in step for r in g.responses if r.tokens is not None]
    assert len(set(answers)) > 0.9 * len(answers)


def scored_group(*values: float | None) -> Group:
    texts = ("aaaa", "bb", "c", "dddd")
    return group("q", *(answer(t, score=Score(v)) for t, v in zip(texts, values, strict=False)), facts={"id": "7"})


def test_best_keeps_the_top_and_breaks_ties_by_length() -> None:
    g = scored_group(1.0, 3.0, 3.0, None)
    kept = best(g, 2)
    assert kept is not None and [r.text for r in kept.responses] == ["c", "bb"] and kept.id == "7"
    assert best(scored_group(None, None)) is None
    assert [r.text for r in best_of([group("q", "abc", "a", "ab")], shortness, 1)[0].responses] == ["a"]
    with pytest.raises(ValueError, match="none of its 1 responses"):
        best_of([group("q", "")], shortness)
    with pytest.raises(ValueError, match="another number of scores"):
        best_of([group("q", "a", "b")], lambda groups: [[Score(1.0)]])


def test_pairs_are_best_against_worst() -> None:
    made = pair(scored_group(1.0, 0.5, 3.0, None))
    assert made is not None and [r.text for r in made.responses] == ["c", "bb"] and made.pairs()[0][:2] == (0, 1)
    assert pair(scored_group(1.0, 1.0)) is None and pair(scored_group(1.0, None)) is None


def test_selections_are_sources_that_count_what_they_drop() -> None:
    rows = [scored_group(1.0, 2.0), scored_group(1.0, 1.0), scored_group(None, None)]
    pairs = PairUp(Offline(rows, per_step=1, epochs=1, shuffle=False))
    assert [len(s) for s in pairs.stream(None)] == [1] and pairs.dropped == 2
    kept = Best(Offline(rows, per_step=3, epochs=1, shuffle=False), k=1)
    assert [[len(g.responses) for g in s] for s in kept.stream(None)] == [[1, 1]] and kept.dropped == 1
    kept.publish(None, 1)  # type: ignore[arg-type]
    other = Best(Offline(rows, per_step=3, epochs=1, shuffle=False), k=1)
    other.load(json.loads(json.dumps(kept.state())))
    assert other.dropped == 1 and list(other.stream(None)) == []
    with pytest.raises(ValueError, match="k is 0"):
        Best(Offline(rows, per_step=1), k=0)
