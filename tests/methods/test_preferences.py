"""What the laws do not say of the preference family: who is compared with whom, what is remembered, what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from posttrain.core.batch import Batch, layout
from posttrain.core.group import Group, Preference, Response, Score
from posttrain.core.method import Method
from posttrain.core.needs import Output
from posttrain.methods.aot import AOT, quantile_partner
from posttrain.methods.bco import BCO
from posttrain.methods.dpo import DPO, pairs
from posttrain.methods.kto import KTO, rated
from posttrain.methods.listwise import Listwise, rankings
from posttrain.methods.orpo import ORPO, log_odds
from posttrain.methods.reward_ensemble import RewardEnsemble, bootstrap
from posttrain.methods.reward_scores import RewardScores, scored
from posttrain.methods.simpo import SimPO
from posttrain.objectives.labels import labelled, labels_of, mismatched, not_labelled
from posttrain.objectives.sequence import row_sum
from tests.laws.build import Stub, apart, engine_for, gradients, outputs, tiny_model


def made(seed: int, prompt: int = 3, lengths: tuple[int, ...] = (4,), **fields: object) -> Group:
    rng = np.random.default_rng(seed)
    answers = tuple(Response(tokens=rng.integers(3, 60, n), trained=np.ones(n, dtype=bool)) for n in lengths)
    return Group((), answers, prompt_tokens=rng.integers(3, 60, prompt), **fields)


def labels(group: Group, *values: bool | None) -> Group:
    return replace(group, responses=tuple(replace(r, label=v) for r, v in zip(group.responses, values, strict=True)))


# Labels


def test_labels_are_read_from_pairs_where_there_are_none() -> None:
    two = (3, 4)
    assert labels_of(made(0, lengths=two, preferences=(Preference(0, 1),))) == [True, False]
    assert labels_of(made(0, lengths=two, preferences=(Preference(0, 1, p=0.2),))) == [False, True]
    assert labels_of(made(0, lengths=two, preferences=(Preference(0, 1, both_bad=True),))) == [False, False]
    assert labels_of(made(0, lengths=(3, 3, 3), ranking=((2,), (0,), (1,)))) == [None, False, True]
    own = labels(made(0, lengths=two, preferences=(Preference(0, 1),)), None, True)
    assert labels_of(own) == [None, True], "a response's own label goes before its pairs"
    tie = made(0, lengths=two, preferences=(Preference(0, 1, p=0.5),))
    assert not_labelled(tie) == "no response is labelled good or bad"


def test_unlabelled_answers_are_in_no_count_and_no_loss() -> None:
    groups = [labels(made(1, lengths=(3, 5)), True, None), labels(made(2), False)]
    batch = Method.of("reward_labels").batch(groups, Stub())
    assert batch.counts["row"] == 2 and batch.R == 2
    assert batch.data["label"].tolist() == [1.0, 0.0]


def test_mismatched_answers_hang_on_content_alone() -> None:
    """Each row gets an answer to another prompt; the order of groups and arranging twice change nothing."""
    groups = labelled([labels(made(i, lengths=(3, 2)), True, False) for i in range(4)])
    once = mismatched(groups)

    def told(arranged: list[Group]) -> dict[bytes, list[bytes]]:
        return {
            g.prompt_tokens.tobytes(): [r.tokens.tobytes() for r in g.responses if r.kind == "kl"] for g in arranged
        }

    own = {g.prompt_tokens.tobytes(): {r.tokens.tobytes() for r in g.responses} for g in groups}
    assert told(once) == told(mismatched(list(reversed(groups)))) == told(mismatched(once))
    for prompt, extra in told(once).items():
        assert len(extra) == 2 and not set(extra) & own[prompt]


def test_kto_refuses_a_step_of_one_prompt() -> None:
    one = labels(made(1, lengths=(3, 4)), True, False)
    with pytest.raises(ValueError, match="all 2 answers of a step are to one prompt"):
        KTO().arrange([one])


def test_kto_measures_z0_on_answers_to_other_prompts() -> None:
    """z0 = max(0, mean log-ratio of the mismatched answers), by an independent dense forward."""
    engine = engine_for(KTO())
    groups = [labels(made(i, prompt=2 + i), i % 2 == 0) for i in range(3)]
    arranged = KTO().arrange(groups)
    batch = KTO().batch(groups, engine)
    assert batch.R == 3 and batch.counts["row"] == 3 and "z0" in batch.data
    lifts = []
    for item in arranged:
        (extra,) = [r for r in item.responses if r.kind == "kl"]
        ids = torch.from_numpy(np.concatenate([item.prompt_tokens, extra.tokens]))[None]
        at = slice(len(item.prompt_tokens) - 1, -1)
        logps = []
        for model in (engine.model, engine.roles["reference"]):
            with torch.no_grad():
                logp = model(input_ids=ids).logits[0].log_softmax(-1)[at]
            logps.append(logp.gather(-1, torch.from_numpy(extra.tokens)[:, None]).sum())
        lifts.append(float(logps[0] - logps[1]))
    assert float(batch.data["z0"][0]) == pytest.approx(max(0.0, sum(lifts) / 3), rel=1e-4, abs=1e-5)


def test_kto_on_pairs_is_kto_on_labels() -> None:
    engine = engine_for(KTO())
    as_pairs = pairs()
    as_labels = [replace(labels(g, True, False), preferences=()) for g in as_pairs]
    a, b = (gradients(engine, KTO(), KTO().batch(groups, engine)) for groups in (as_pairs, as_labels))
    assert apart(a, b) < 1e-6


def test_bco_threshold_follows_both_classes_and_resumes() -> None:
    method = BCO(memory=0.5)
    assert method.threshold == 0.0
    method.after(1, {"reward_good": 1.0, "reward_bad": -0.5}, None)
    assert method.threshold == pytest.approx(0.25), "bias-corrected: the first step counts whole"
    method.after(2, {"reward_good": 2.0}, None)  # a step without bad answers
    assert method.threshold == pytest.approx(0.5 * ((0.25 * 1 + 0.5 * 2) / 0.75 - 0.5))
    other = BCO(memory=0.5)
    other.load(method.state())
    assert other.threshold == method.threshold
    batch = other.batch(rated(), Stub())
    assert batch.data["threshold"].tolist() == pytest.approx([method.threshold] * 2)


# Pairs and rankings


def test_partners_are_those_of_sorting() -> None:
    rng = np.random.default_rng(0)
    u, v = (torch.from_numpy(rng.normal(size=9)) for _ in range(2))
    got = quantile_partner(u, u, v)
    assert torch.allclose(got[u.argsort()], v.sort().values, rtol=1e-12)
    tied = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    assert quantile_partner(tied, tied, torch.tensor([5.0, 9.0, 7.0], dtype=torch.float64)).tolist() == [8, 8, 5]


@pytest.mark.parametrize("paired", [True, False])
def test_aot_has_the_loss_and_gradient_of_sorting(paired: bool) -> None:
    """Against both sorts written out, at the weights that preparation saw."""
    method = AOT(paired=paired)
    groups = [made(i, lengths=(3 + i, 4), preferences=(Preference(0, 1),)) for i in range(5)]
    batch = method.batch(groups, Stub())
    logp = outputs(method.needs(), batch, sum(map(ord, "policy"))).logp.requires_grad_()
    loss = method.loss(Output(logp=logp), batch).sums["pair"]
    (ours,) = torch.autograd.grad(loss, logp)
    own, ref = row_sum(logp, batch), row_sum(batch.data["ref"], batch)
    w, r = batch.pair[:, 0], batch.pair[:, 1]
    up, down = (own[w] - own[r], ref[w] - ref[r]) if paired else (own[w] - ref[w], own[r] - ref[r])
    naive = torch.nn.functional.softplus(-method.beta * (up.sort().values - down.sort().values)).sum()
    (theirs,) = torch.autograd.grad(naive, logp)
    assert float(loss.detach()) == pytest.approx(float(naive.detach()), rel=1e-9)
    assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_listwise_of_two_is_dpo_and_a_ranking_is_not_its_pairs() -> None:
    two = made(3, lengths=(4, 5), ranking=((1,), (0,)))
    batch = Listwise().batch([two], Stub())
    out = outputs(Listwise().needs(), batch, 1)
    assert float(Listwise().loss(out, batch).sums["ranking"]) == pytest.approx(
        float(DPO().loss(out, batch).sums["pair"])
    )
    batch = Listwise().batch(rankings(), Stub())
    out = outputs(Listwise().needs(), batch, 1)
    assert float(Listwise().loss(out, batch).sums["ranking"]) > float(DPO().loss(out, batch).sums["pair"]) + 0.1


def test_a_moving_reference_moves_and_is_in_the_checkpoint() -> None:
    method = DPO(moving={"every": 2, "share": 0.6})
    engine = engine_for(method)
    before = {n: p.clone() for n, p in engine.roles["reference"].named_parameters()}
    method.after(1, {}, engine)
    assert all(torch.equal(p, before[n]) for n, p in engine.roles["reference"].named_parameters())
    method.after(2, {}, engine)
    policy = dict(engine.model.named_parameters())
    for name, parameter in engine.roles["reference"].named_parameters():
        assert torch.allclose(parameter, 0.6 * policy[name] + 0.4 * before[name], atol=1e-6)
    assert set(engine.state()["roles"]) == {"reference"}
    assert engine_for(DPO()).state()["roles"] == {}


def test_a_moving_reference_needs_weights_of_its_own() -> None:
    from peft import LoraConfig, get_peft_model

    from posttrain.engine.local import LocalEngine

    adapted = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ValueError, match="train without lora, or without `moving`"):
        LocalEngine(adapted, needs=DPO(moving={}).needs())
    LocalEngine(adapted, needs=DPO().needs())


def test_likelihood_is_divided_by_the_chosen_tokens_of_the_step() -> None:
    """The nll of a step cut into pieces: the mean over all 14 chosen tokens, not the mean of the pieces' means."""
    method = DPO(nll=1.0)
    batch = method.batch(pairs(), Stub())
    out = outputs(method.needs(), batch, 5)
    own = -torch.cat([out.logp[:10], out.logp[15:19]]).mean()
    whole = method.loss(out, batch)
    assert float(whole.sums["nll"] / batch.counts["chosen"]) == pytest.approx(float(own))


def test_odds_are_exact_at_both_ends() -> None:
    x = torch.tensor([-1e-4, -0.3, -math.log(2), -1.0, -50.0], dtype=torch.float64, requires_grad=True)
    expected = [v - math.log(-math.expm1(v)) for v in x.tolist()]
    assert log_odds(x).tolist() == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(log_odds, x[1:].detach().requires_grad_())
    at_one = torch.zeros(1, requires_grad=True)
    log_odds(at_one).sum().backward()
    assert torch.isfinite(at_one.grad).all()


def test_orpo_over_prompt_and_answer_counts_both() -> None:
    """Prompts of 6 and 2 tokens, chosen answers of 10 and 4: all but the first token of each, once."""
    batch = ORPO(nll_on="all").batch(pairs(), Stub())
    assert batch.counts["imitated"] == (6 - 1 + 10) + (2 - 1 + 4)
    assert batch.counts["group"] == 2 and batch.counts["row"] == 4
    assert ORPO().batch(pairs(), Stub()).counts["imitated"] == 14


def test_alpha_po_tends_to_simpo() -> None:
    batch = SimPO().batch(pairs(), Stub())
    out = outputs(SimPO().needs(), batch, 2)
    plain = float(SimPO().loss(out, batch).sums["pair"])
    assert float(SimPO(alpha=1e-6).loss(out, batch).sums["pair"]) == pytest.approx(plain, rel=1e-5)
    assert abs(float(SimPO(alpha=0.5).loss(out, batch).sums["pair"]) - plain) > 1e-3


# Reward models


def test_heads_of_an_ensemble_see_different_groups() -> None:
    """Draws are Poisson(1) by content: the same for the same group in another place, different between heads."""
    groups = [made(i, lengths=(3, 4), preferences=(Preference(0, 1),)) for i in range(200)]
    draws = bootstrap(layout(groups), 4)
    assert float(draws.mean()) == pytest.approx(1.0, abs=0.1)
    assert float(draws.var()) == pytest.approx(1.0, abs=0.25)
    assert not torch.equal(draws[:, 0], draws[:, 1])
    assert torch.equal(bootstrap(layout(list(reversed(groups))), 4), draws.flip(0))
    turned = [g.with_responses(tuple(reversed(g.responses))) for g in groups]
    assert torch.equal(bootstrap(layout(turned), 4), draws)


def test_heads_come_apart_in_training() -> None:
    method = RewardEnsemble(heads=3)
    engine = engine_for(method)
    with torch.no_grad():
        engine.heads["score"].weight.copy_(engine.heads["score"].weight[:1].expand(3, -1))
    groups = [made(i, lengths=(3, 4), preferences=(Preference(0, 1),)) for i in range(12)]
    batch: Batch = method.batch(groups, engine)
    got = gradients(engine, method, batch)["heads.score.weight"]
    assert float((got[0] - got[1]).norm()) > 1e-3 * float(got.norm())


def test_an_unscored_answer_is_in_no_denominator() -> None:
    batch = RewardScores().batch(scored(), Stub())
    assert batch.counts["scored"] == 2 and batch.counts["row"] == 3
    nothing = made(1)
    assert RewardScores().accepts(nothing) == "no response has a score"
    unscored = replace(nothing, responses=(replace(nothing.responses[0], score=Score(None)),))
    assert RewardScores().accepts(unscored) == "no response has a score"
