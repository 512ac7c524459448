"""Methods of sampled answers: where rewards land, what is whitened, what a KL estimate is, and what is remembered between steps."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from posttrain.core.batch import Batch, layout
from posttrain.core.group import Group, Response, Score
from posttrain.core.needs import Needs, Output
from posttrain.core.recipe import RecipeError
from posttrain.methods import GRPO, PPO, RLOO, ReinforcePP
from posttrain.methods.grpo import answered
from posttrain.objectives.advantages import at_last, flat, gae, leave_one_out, moments, whitened
from posttrain.objectives.control import PID, Adaptive, Ascent, Constraint, Ledger, expected
from posttrain.objectives.endings import Mask, Set, Soft, Subtract
from posttrain.objectives.kl import K1, K3, MSE, Abs, Full, penalties
from posttrain.objectives.running import Moments
from posttrain.objectives.sampled import Correction, with_old
from posttrain.train.loop import learn
from tests.laws.build import Stub, engine_for


def batch_of(*lengths: int, scores: tuple[float, ...] = (), prompts: int = 1, tail: int = 0) -> Batch:
    """Answers of these lengths, dealt to the prompts in order; `tail` untrained tokens after each."""
    answers = [
        Response(
            tokens=np.arange(3, 3 + n + tail),
            trained=np.array([1] * n + [0] * tail),
            score=Score(scores[i]) if scores else None,
            stop="stop",
        )
        for i, n in enumerate(lengths)
    ]
    per = len(answers) // prompts
    return layout(
        [Group((), tuple(answers[i * per : (i + 1) * per]), prompt_tokens=np.array([1, 5])) for i in range(prompts)]
    )


def test_gae_anchors() -> None:
    """gamma 1, lambda 0.95, reward at the end of three tokens; two rows do not leak into each other."""
    batch = batch_of(3, 3)
    reward = torch.tensor([0.0, 0, 1, 0, 0, 1])
    value = torch.tensor([0.0, 0, 0, 0.5, 0.5, 0.5])
    got = gae(reward, value, batch, 1.0, 0.95)
    assert torch.allclose(got, torch.tensor([0.9025, 0.95, 1, 0.45125, 0.475, 0.5]))
    returns = gae(reward, value, batch, 1.0, 1.0) + value
    assert torch.allclose(returns, torch.ones(6))


def test_reward_stands_at_the_last_trained_token() -> None:
    batch = batch_of(2, 4, tail=3)
    assert at_last(torch.tensor([5.0, 7.0]), batch).tolist() == [0, 5, 0, 0, 0, 7]


def test_whitening_counts_taught_tokens_alone() -> None:
    engine = Stub()
    values, weight = torch.tensor([1.0, 2.0, 3.0, 100.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    white = whitened(values, weight, engine)  # type: ignore[arg-type]
    assert torch.allclose(white[:3], torch.tensor([-1.0, 0.0, 1.0]) * math.sqrt(1.5), atol=1e-5)
    kept = whitened(values, weight, engine, shift=False)  # type: ignore[arg-type]
    assert float(kept[:3].mean()) == pytest.approx(2.0, abs=1e-5)
    assert moments(values, weight, engine)[:2] == pytest.approx((2.0, 2 / 3))  # type: ignore[arg-type]


def test_ppo_penalises_each_token_by_its_own_kl() -> None:
    """With lambda = gamma = 1, V = 0 and no score, the target of a token is minus the KL from it to the end of its answer."""
    method = PPO(beta=0.5, lam=1.0, whiten=False, running=())
    engine = engine_for(method)
    with torch.no_grad():
        engine.heads["value"].weight.zero_()
        engine.heads["value"].bias.zero_()
    groups = [replace(g, responses=tuple(replace(r, score=Score(0.0)) for r in g.responses)) for g in answered()]
    batch = method.batch(groups, engine)
    kl = batch.data["old"] - batch.data["ref"]
    for r in range(batch.R):
        own = slice(int(batch.tokens_of[r]), int(batch.tokens_of[r + 1]))
        to_end = kl[own].flip(0).cumsum(0).flip(0)
        assert torch.allclose(batch.data["target"][own], -0.5 * to_end, atol=1e-5)


def test_estimators_by_enumeration() -> None:
    """Over a small vocabulary: k1 and k3 have the KL as their mean; as losses their gradients are those the docs name."""
    torch.manual_seed(0)
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    logq = torch.randn(6, dtype=torch.float64).log_softmax(0)
    logp = logits.log_softmax(0)
    p = logp.exp()
    kl = (p * (logp - logq)).sum()
    fixed = p.detach()
    assert float((fixed * K1()(logp, logq)).sum().detach()) == pytest.approx(float(kl.detach()))
    assert float((fixed * K3()(logp, logq)).sum().detach()) == pytest.approx(float(kl.detach()))

    def slope(loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, logits, retain_graph=True)[0]

    assert torch.allclose(slope((fixed * K1()(logp, logq)).sum()), torch.zeros(6, dtype=torch.float64), atol=1e-15)
    assert torch.allclose(slope((fixed * MSE()(logp, logq)).sum()), slope(kl), atol=1e-15)
    ratio = (logp - logp.detach()).exp()
    assert torch.allclose(slope((fixed * ratio * K3()(logp, logq)).sum()), slope(kl), atol=1e-15)
    assert torch.equal(Abs()(logp, logq), (logp - logq).abs())


def test_full_kl_is_the_mean_over_the_vocabulary() -> None:
    method = PPO(penalty="full")
    engine = engine_for(method)
    batch = method.batch(answered(), engine)
    full = penalties(Full(), batch, engine, 1.0)
    assert full.shape == (batch.N,) and bool((full >= -1e-6).all())
    engine.token_budget = 10
    assert torch.allclose(full, penalties(Full(), batch, engine, 1.0), atol=1e-5)


def test_group_baselines() -> None:
    batch = batch_of(1, 1, 1, 1, 1, 1, scores=(1.0, 0.0, 0.3, 0.3, 0.3, 0.3))
    two = batch_of(1, 1, 1, 1, scores=(1.0, 0.0, 0.3, 0.3), prompts=2)
    lead = GRPO().scale(two.data["score"], two, Stub())  # type: ignore[arg-type]
    assert torch.allclose(lead[:2], torch.tensor([0.7070, -0.7070]), atol=1e-4)
    assert lead[2:].tolist() == [0.0, 0.0] and flat(two.data["score"], two).tolist() == [False, True]
    assert leave_one_out(two.data["score"], two).tolist() == [1.0, -1.0, 0.0, 0.0]
    unknown = batch.data["score"].clone()
    unknown[:2] = float("nan")
    assert flat(unknown, batch).tolist() == [True]


def test_equal_rewards_teach_grpo_nothing_and_still_count() -> None:
    method = GRPO(aggregation="dapo")
    engine = engine_for(method)
    groups = answered()
    even = replace(groups[0], responses=tuple(replace(r, score=Score(0.5)) for r in groups[0].responses))
    batch = method.batch([even, groups[1]], engine)
    assert set(method.idle(batch)) >= {0, 1}
    assert batch.without(method.idle(batch)).counts["share"] == batch.counts["share"] == batch.N
    assert method.figures(batch, engine)["flat_groups"] == (1.0, 2.0)
    cut = replace(even, responses=(even.responses[0], replace(even.responses[1], stop="length")))
    for ended in (GRPO(ending="set"), RLOO(ending="set", beta=0.0)):
        made = ended.batch([cut, groups[1]], engine)
        told = ended.figures(made, engine)["flat_groups"]
        assert told == (0.0, 2.0), "an ending tells equal scores apart"


def test_endings() -> None:
    batch = batch_of(2, 8, scores=(1.0, 1.0))
    batch = replace(batch, data={**batch.data, "stopped": torch.tensor([1.0, 0.0])})
    score = batch.data["score"]
    assert Set().score(score, batch).tolist() == [1.0, -1.0]
    assert Subtract(penalty=0.4).score(score, batch).tolist() == pytest.approx([1.0, 0.6])
    assert Mask().taught(batch).tolist() == [1.0, 0.0]
    assert Soft(budget=10, buffer=4).score(score, batch).tolist() == pytest.approx([1.0, 0.5])


def test_adaptive_kl_finds_its_target() -> None:
    """KL falls as beta rises (kl = 3 / beta): from ten times and a tenth of the right coefficient the target is reached."""
    control = Adaptive(target=6.0)
    assert control.next(0.2, [6.0], 256) == 0.2
    assert control.next(1.0, [8.0], 256) == pytest.approx(1.05)
    assert Adaptive(target=6.0, horizon=10_000).next(1.0, [9.0], 256) == pytest.approx(1.00512)
    for start in (5.0, 0.05):
        beta = start
        for _ in range(60):
            beta = control.next(beta, [3 / beta], 32)
        assert beta == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("start", [0.1, 10.0])
@pytest.mark.parametrize("lookahead", [0, 30])
def test_looking_ahead_holds_a_slow_kl(lookahead: int, start: float) -> None:
    """KL goes to 0.6 at a coefficient of 0.03, a hundredth a step: to look at the last KL alone lets beta run away."""
    control = Adaptive(target=0.6, lookahead=lookahead)
    beta, kl, recent, seen = 0.03 * start, 0.0, [], []
    for _ in range(240):
        kl += min(max((0.2 + 0.4 * 0.03 / beta - kl) / 15, -0.01), 0.01)
        recent = [*recent, kl][-control.memory :]
        seen.append(kl)
        beta = control.next(beta, recent, 32)
    held = abs(sum(seen[120:]) / 120 / 0.6 - 1) <= 0.2
    assert held is (lookahead > 0 or start > 1)


def after(control: Adaptive, kls: list[float], beta: float = 0.1) -> float:
    """The coefficient after steps with these KLs."""
    recent: list[float] = []
    for kl in kls:
        recent = [*recent, kl][-control.memory :]
        beta = control.next(beta, recent, 32)
    return beta


def test_the_coefficient_answers_the_kl_itself() -> None:
    """Ten steps after the KL has risen by one target the coefficient is exp(proportional) times higher, and falls back with it."""
    control = Adaptive(target=2.0, horizon=10**12, proportional=3.0)
    assert control.memory == 11 and Adaptive(target=2.0).memory == 1
    assert after(control, [0.0] * 5) == pytest.approx(0.1)
    assert after(control, [0.0] * 5 + [2.0] * 10) == pytest.approx(0.1 * math.exp(3.0))
    assert after(control, [0.0] * 5 + [2.0] * 5) == pytest.approx(0.1 * math.exp(1.5))
    assert after(control, [0.0] * 5 + [2.0] * 10 + [0.0] * 10) == pytest.approx(0.1)
    broken = [after(control, [1.0] * 12 + [80.0] + [1.0] * n) for n in (0, 9, 10)]
    assert broken == pytest.approx([0.1 * math.exp(0.3), 0.1 * math.exp(0.3), 0.1]), "one broken step, then forgotten"
    assert after(Adaptive(target=2.0, proportional=3.0, most=0.5), [0.0] * 5 + [9.0] * 200) == 0.5
    assert after(Adaptive(target=2.0, proportional=3.0), [0.0] * 5 + [9.0] * 200) > 100
    with pytest.raises(ValueError, match=r"above control\.most"):
        PPO(beta=0.5, control={"name": "adaptive", "target": 2.0, "most": 0.1})  # type: ignore[arg-type]


@pytest.mark.parametrize("start", [0.1, 10.0])
def test_a_kl_that_runs_off_is_caught_before_it_is_far(start: float) -> None:
    """A policy that drifts by itself and answers 25 steps late: the integral alone lets it go twice as far beyond the target."""
    farthest = []
    for proportional in (0.0, 5.0):
        control = Adaptive(target=1.0, horizon=64, lookahead=30, proportional=proportional)
        beta, kl, pull, recent, seen = 0.1 * start, 0.0, 0.0, [], []
        for _ in range(240):
            pull += (math.log(beta / 0.1) - pull) / 25
            kl = max(kl + 0.02 - 0.02 * kl * math.exp(min(pull, 3.0)), 0.0)
            recent = [*recent, kl][-control.memory :]
            seen.append(kl)
            beta = control.next(beta, recent, 32)
        farthest.append(max(seen) - 1)
    assert 0 < farthest[1] < 0.5 * farthest[0]


def test_a_resumed_run_looks_ahead_along_the_same_line() -> None:
    fields: dict[str, Any] = {"beta": 0.1, "control": {"name": "adaptive", "target": 1.0, "lookahead": 5}}
    whole, again = PPO(**fields), PPO(**fields)
    for kl in (0.1, 0.3, 0.5, 0.7):
        whole.after(1, {"kl_sequence": kl, "answers": 8.0}, None)  # type: ignore[arg-type]
    again.load(json.loads(json.dumps(whole.state())))
    for method in (whole, again):
        method.after(5, {"kl_sequence": 0.9, "answers": 8.0}, None)  # type: ignore[arg-type]
    assert again.state() == whole.state() and again.state()["beta"] > PPO(**fields).beta * 0.9
    alone = PPO(**fields)
    alone.load({**whole.state(), "beta": again.state()["beta"], "kl": []})
    alone.after(6, {"kl_sequence": 0.9, "answers": 8.0}, None)  # type: ignore[arg-type]
    whole.after(6, {"kl_sequence": 0.9, "answers": 8.0}, None)  # type: ignore[arg-type]
    assert alone.state()["beta"] < whole.state()["beta"], "what was remembered has to count"


def test_the_line_ahead() -> None:
    assert expected([1.0, 2.0, 3.0, 4.0], 10) == pytest.approx(14.0)
    assert expected([1.0, 2.0, 3.0], 0) == 3.0 and expected([1.0, 5.0], 10) == 5.0


def test_old_ppo_settings_work_and_its_names_are_answered() -> None:
    method = PPO(beta=0.2, penalty="abs", control={"name": "adaptive", "target": 6.0})
    method.after(1, {"kl_sequence": 12.0, "answers": 8.0}, None)  # type: ignore[arg-type]
    assert method.state()["beta"] == pytest.approx(0.21)
    names = ("init_kl_coef", "kl_penalty", "target", "cliprange", "ppo_epochs", "mini_batch_size")
    with pytest.raises(RecipeError) as told:
        PPO.of({"name": "ppo", **dict.fromkeys(names, 1)})
    lines = str(told.value).splitlines()
    assert [line.partition(": here it is ")[0] for line in lines] == list(names)
    assert all(line.partition(": here it is ")[2] for line in lines)


def test_multiplier_rises_while_the_cost_is_above_its_limit() -> None:
    ledger = Ledger(Constraint(limit=0.0, window=8))
    assert ledger.multiplier == 1.0
    ledger.note(0.0, 8)
    assert ledger.multiplier == 1.0
    ledger.note(1.0, 8)
    assert ledger.multiplier == pytest.approx(math.exp(0.1))
    again = Ledger(Constraint(limit=0.0, window=8))
    again.load(ledger.state())
    assert again.multiplier == ledger.multiplier
    assert Ascent(most=1.0).next({"log": 0.0}, 5.0) == {"log": 0.0}
    price, remembered = Ascent(), Ascent().start()
    for _ in range(100):
        remembered = price.next(remembered, 5.0)
    assert price.value(remembered) == pytest.approx(10.0), "a limit that cannot be met ends at the bound"
    with pytest.raises(ValueError, match="first is 20"):
        Ascent(first=20.0)
    pid = PID()
    state = pid.next(pid.start(), 1.0)
    assert pid.value(state) == pytest.approx(0.16) and pid.value(pid.next(state, -9.0)) == 0.0


def test_cost_equal_to_reward_at_price_one_leaves_nothing() -> None:
    same = [
        replace(g, responses=tuple(replace(r, score=Score(s, {"cost": s})) for s, r in enumerate(g.responses)))
        for g in answered()
    ]
    method = GRPO(constraint=Constraint())
    batch = method.batch(same, engine_for(method))
    assert bool((batch.data["advantage"] == 0).all())


def test_running_moments_are_of_the_priced_scores() -> None:
    """Score 2 and cost 1 at price 1 enter the rewards as 0.5, and that is what their normaliser remembers."""
    same = [
        replace(g, responses=tuple(replace(r, score=Score(2.0, {"cost": 1.0})) for r in g.responses))
        for g in answered()
    ]
    method = PPO(constraint=Constraint())
    engine = engine_for(method)
    total, count = method.figures(method.batch(same, engine), engine)["score_mean"]
    assert total / count == pytest.approx(0.5)


def test_correction_takes_the_policy_of_now_and_weighs() -> None:
    """Without a correction the sampler's log-probs stand; with one they are computed anew and the weights are truncated."""
    groups = [
        replace(
            g,
            responses=tuple(
                replace(r, logps=np.full(len(r.tokens), -1.0, np.float32), sampled_logps=np.full(len(r.tokens), -1.0))
                for r in g.responses
                if r.tokens is not None
            ),
        )
        for g in answered()
    ]
    engine = engine_for(GRPO())
    batch = engine.layout(groups)
    trusted, _ = with_old(batch, engine, 1.0, None)
    assert bool((trusted.data["old"] == -1.0).all()) and bool((trusted.data["omega"] == 1.0).all())
    made, _ = with_old(batch, engine, 1.0, Correction(high=1.5))
    now = engine.score(batch, Needs(logp=True)).logp
    assert now is not None and torch.allclose(made.data["old"], now)
    assert torch.allclose(made.data["omega"], (now + 1.0).exp().clamp(0.0, 1.5), atol=1e-5)
    cut = replace(batch, data={**batch.data, "sampled": batch.data["sampled"] + 0.3})
    with pytest.raises(ValueError, match="top_p"):
        with_old(cut, engine, 1.0, None)


def test_running_moments_join() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(3, 2, n) for n in (4, 9, 1)]
    made = Moments()
    for part in parts:
        made = made.joined(len(part), float(part.mean()), float(part.var()))
    whole = np.concatenate(parts)
    assert made.mean == pytest.approx(whole.mean()) and made.squares / made.seen == pytest.approx(whole.var())


@pytest.mark.parametrize("method", [PPO(passes=2, minibatches=2), GRPO(passes=2, beta=0.1), RLOO(), ReinforcePP()])
def test_a_step_by_hand_tells_its_figures(method: PPO) -> None:
    engine = engine_for(method)
    step = learn(engine, method, answered(), 1)
    passes, parts = method.updates()
    assert engine.done == passes * parts
    assert {"reward", "length", "stopped", "entropy", "ratio", "clip_fraction", "approx_kl"} <= set(step.metrics)
    assert step.metrics["reward"] == pytest.approx((1.0 + 0.0 + 0.3 - 0.4 + 2.0) / 5)
    assert step.metrics["unscored"] == pytest.approx(1 / 6)
    assert step.metrics["stopped"] == pytest.approx(5 / 6)


def test_passes_end_when_the_policy_has_moved_enough() -> None:
    method = PPO(passes=6, stop_at=1e-9)
    engine = engine_for(method)
    learn(engine, method, answered(), 1)
    assert engine.done == 2  # the first pass stands at ratio 1


def test_a_separate_critic_learns_and_leaves_the_policy_alone() -> None:
    method = PPO(critic="separate")
    engine = engine_for(method)
    batch = method.batch(answered(), engine)
    out = engine.forward(batch, method.needs())
    assert isinstance(out, Output) and out.value is not None
    method.loss(out, batch).sums["value"].backward()
    named = engine.named_parameters()
    assert all(p.grad is None for n, p in named.items() if not n.startswith(("critic.", "heads.")))
    assert any(p.grad is not None and bool((p.grad != 0).any()) for n, p in named.items() if n.startswith("critic."))
