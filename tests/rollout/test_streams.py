"""Curriculum, replay and drawing ahead: what they change, and that a run resumed at any step sees the same groups with the same bits."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from posttrain.core.group import Group, Score, answer, group
from posttrain.core.protocols import Sampling, Source
from posttrain.core.recipe import RecipeError, build_spec
from posttrain.data.source import Mix, Offline
from posttrain.rollout.ahead import Ahead, OwnWeights
from posttrain.rollout.curriculum import Curriculum, Measured, Pace, PassRates
from posttrain.rollout.packed import pack, unpack
from posttrain.rollout.replay import Again, Replay
from posttrain.rollout.rollouts import Rollouts
from posttrain.rollout.sampler import Sampler
from posttrain.train import checkpoint
from tests.rollout.models import model_of

WORDS = ("hello", "the weather", "1 2 3", "two plus two", "rain", "a fox", "Paris", "write")
PACE = Pace(pass_at=0.5, low=0.2, high=0.8, keep=0.25)


def shortness(groups: Sequence[Group]) -> list[list[Score]]:
    return [[Score(-float(len(r.text)), {"n": float(len(r.text))}, "length") for r in g.responses] for g in groups]


def prompts(over: Callable[[Source], Source] = lambda s: s) -> Source:
    rows = [group(t, facts={"id": t}) for t in WORDS]
    return Mix([over(Offline(rows, per_step=1, epochs=float("inf")))], [1.0], draws=2)


def chain(model: Any, kind: str) -> Source:
    """Rollouts of two prompts a step with what `kind` names around them."""
    tokenizer = model_of("llama")[1]

    def sampler(m: Any) -> Sampler:
        return Sampler(m, tokenizer, (11,), lambda c, t: tokenizer.encode(c[-1].content), slots=6, threads=0)

    rates = PassRates(pass_at=-9.0)
    pace = PACE.changed(pass_at=-9.0)
    wanted = kind in ("curriculum", "all")
    inner = prompts((lambda s: Curriculum(s, rates, pace, 3)) if wanted else (lambda s: s))
    answers = OwnWeights(sampler, model) if kind in ("ahead", "all") else sampler(model)
    source: Source = Rollouts(inner, answers, shortness, n=3, sampling=Sampling(max_tokens=6))
    if wanted:
        source = Measured(source, rates)
    if kind in ("ahead", "all"):
        source = Ahead(source)
    if kind in ("replay", "all"):
        source = Replay(source, Again(share=0.5, size=4), 1)
    return source


def moved(model: Any, by: int) -> None:
    """What a step of learning does to the weights, from the step's number alone."""
    torch.manual_seed(by)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.add_(torch.randn(32, 32) * 0.1)


def learned(source: Source, model: Any, start: int, end: int) -> Iterator[tuple[int, list[Group]]]:
    stream = source.stream(SimpleNamespace(model=model))
    for number in range(start + 1, end + 1):
        step = next(stream)
        moved(model, number)
        source.publish(SimpleNamespace(model=model), number)  # type: ignore[arg-type]
        yield number, step
    stream.close()  # type: ignore[attr-defined]


def bits(step: list[Group]) -> list[Any]:
    return [
        (
            g.id,
            g.prompt_tokens.tolist(),  # type: ignore[union-attr]
            [
                (r.tokens.tolist(), r.trained.tolist(), r.logps.tobytes(), r.sampled_logps.tobytes(), r.version, r.stop, r.score)  # type: ignore[union-attr]
                for r in g.responses
            ],
        )
        for g in step
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["curriculum", "replay", "ahead", "all"])
def test_a_resumed_run_sees_the_same_groups_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    model = copy.deepcopy(model_of("llama")[0])
    source, steps, saved = chain(model, kind), [], {}
    for number, step in learned(source, model, 0, 7):
        steps.append(bits(step))
        place = checkpoint.write(tmp_path / str(number), number, {"source": source.state()})
        saved[number] = place, copy.deepcopy(model.state_dict())
    for at in (1, 4):
        other = copy.deepcopy(model_of("llama")[0])
        other.load_state_dict(saved[at][1])
        again = chain(other, kind)
        again.load(checkpoint.read(saved[at][0])[1]["source"])
        assert [bits(step) for _, step in learned(again, other, at, 7)] == steps[at:], (kind, at)


def test_ahead_is_one_update_old_and_its_weights_are_its_own() -> None:
    model = copy.deepcopy(model_of("llama")[0])
    versions = [step[0].responses[0].version for _, step in learned(chain(model, "ahead"), model, 0, 5)]
    assert versions == [0, 0, 1, 2, 3]
    plain = copy.deepcopy(model_of("llama")[0])
    assert [s[0].responses[0].version for _, s in learned(chain(plain, "none"), plain, 0, 3)] == [0, 1, 2]
    tokenizer = model_of("llama")[1]
    shared = Sampler(model, tokenizer, (11,), lambda c, t: tokenizer.encode(c[-1].content))
    with pytest.raises(ValueError, match="weights of its own"):
        Ahead(Rollouts(prompts(), shared, shortness, n=2))


def test_an_error_of_the_reward_reaches_the_trainer() -> None:
    def broken(groups: Sequence[Group]) -> list[list[Score]]:
        raise ValueError("the judge is down")

    model = copy.deepcopy(model_of("llama")[0])
    source = chain(model, "ahead")
    source.source.reward = broken  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="the judge is down"):
        list(learned(source, model, 0, 2))


class Known:
    """Answers of fixed worth: a prompt named `easy` passes always, `hard` never, others half the time. A Source over prompts."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def stream(self, policy: Any) -> Iterator[list[Group]]:
        for groups in self.source.stream(policy):
            yield [g.with_responses([answer("x", score=Score(v)) for v in self._worth(g)]) for g in groups]

    def _worth(self, g: Group) -> tuple[float, float]:
        return (1.0, 1.0) if "easy" in g.prompt_text else (0.0, 0.0) if "hard" in g.prompt_text else (0.0, 1.0)

    def publish(self, engine: Any, version: int) -> None:
        self.source.publish(engine, version)

    def state(self) -> dict[str, Any]:
        return self.source.state()

    def load(self, state: Any) -> None:
        self.source.load(state)


def test_curriculum_holds_back_what_is_always_or_never_solved_and_the_mix_keeps_its_weights() -> None:
    rates = PassRates(0.5)
    rows = [[group(f"{name} {kind} {i}") for i in range(5) for kind in ("easy", "hard", "middling")] for name in "ab"]
    curricula = [Curriculum(Offline(r, 1, epochs=float("inf")), rates, PACE, i) for i, r in enumerate(rows)]
    source = Measured(Known(Mix(curricula, [3.0, 1.0], draws=4)), rates)
    seen: list[str] = []
    stream = source.stream(None)
    for number in range(200):
        seen += [g.prompt_text for g in next(stream)]
        source.publish(None, number)  # type: ignore[arg-type]
    late = Counter(text.split()[1] for text in seen[200:])
    assert late["middling"] / sum(late.values()) == pytest.approx(1 / (1 + 2 * PACE.keep), abs=0.05), late
    assert abs(Counter(text[0] for text in seen)["a"] - 600) <= 1
    assert all(c.passed_over > 0 and c.turns > c.passed_over for c in curricula)
    assert set(rates.known.values()) == {0.0, 0.5, 1.0}


def test_rates_wait_for_the_step_to_be_trained() -> None:
    rates = PassRates(0.5)
    source = Measured(Known(Offline([group("easy"), group("hard")], 1, shuffle=False)), rates)
    next(source.stream(None))
    assert rates.known == {} and source.state()["rates"] == {}
    source.publish(None, 1)  # type: ignore[arg-type]
    assert list(rates.known.values()) == [1.0] and rates.measured([group("q", "unscored")]) == {}


def test_replay_adds_its_share_from_the_newest_trained_groups() -> None:
    source = Replay(Offline([group(str(i)) for i in range(40)], 4, shuffle=False), Again(share=0.5, size=6))
    steps, stream = [], source.stream(None)
    for number in range(5):
        steps.append([int(g.prompt_text) for g in next(stream)])
        source.publish(None, number)
    assert [len(s) for s in steps] == [4, 6, 6, 6, 6]
    for number, step in enumerate(steps):
        assert step[:4] == list(range(4 * number, 4 * number + 4))
        assert all(4 * number - 6 <= old < 4 * number for old in step[4:]) and len(set(step)) == len(step)
    with pytest.raises(ValueError, match="replay seed changed"):
        Replay(Offline([group("a")], 1), Again(), 7).load(source.state())


def test_packed_groups_are_whole(tmp_path: Path) -> None:
    made = group(
        "q",
        answer(
            "a", tokens=np.arange(3), trained=np.array([True, False, True]), logps=np.float32([0.1, 0, 3]), kind="kl"
        ),
    )
    back = unpack(checkpoint.read(checkpoint.write(tmp_path, 1, {"g": pack(made)}))[1]["g"])
    (one,), (two,) = made.responses, back.responses
    assert two.trained.dtype == bool and two.kind == "kl" and two.logps.tobytes() == one.logps.tobytes()  # type: ignore[union-attr]
    assert two.tokens.tolist() == [0, 1, 2] and two.sampled_logps is None and back.prompt_tokens is None  # type: ignore[union-attr]


def test_bad_settings_are_one_line() -> None:
    for spec, fields, told in (
        (Pace, {"low": 0.9, "high": 0.1}, "must not lie above high"),
        (Pace, {"keep": 0}, "keep"),
        (Again, {"share": 0}, "share"),
    ):
        with pytest.raises(RecipeError, match=told):
            build_spec(spec, fields)
