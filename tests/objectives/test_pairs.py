"""Every link, divergence and modifier against values computed apart from the code; soft labels, margins, who is imitated."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from posttrain.core.batch import layout
from posttrain.core.group import Group, Preference, Response
from posttrain.core.needs import Output
from posttrain.methods.dpo import DPO, pairs
from posttrain.objectives import pairs as shared
from posttrain.objectives.divergences import Divergence
from posttrain.objectives.links import Link
from posttrain.objectives.modifiers import Modifier
from posttrain.objectives.pairs import Ratios

# At the reference; at h = (2, -1), lengths (10, 5), beta 0.1; the same with p = 0.3 and margin 0.2. From the formulas, by plain `math`.
LINKS = {
    "sigmoid": (0.693147, 0.554355, 0.714397),
    "conservative": (0.693147, 0.584355, 0.710397),
    "robust": (0.693147, 0.516855, 0.719397),
    "hinge": (1.0, 0.7, 1.04),
    "ipo": (25.0, 21.16, 25.84),
    "normalised": (0.693147, 0.673347, 0.664344),
    "exo": (2.761231, 2.258199, 2.831489),
    "nca": (1.386294, 1.319407, 1.397294),
    "bco": (1.386294, 1.242536, 1.407544),
    "sppo": (50.0, 25.0, 55.0),
    "apo_zero": (1.0, 0.925187, 1.009992),
    "apo_down": (1.0, 0.975391, 1.017485),
    "discopop": (0.846574, 0.740357, 0.813319),
}
DIVERGENCES = {"reverse_kl": 0.554355, "forward_kl": 0.572316, "js": 0.635589, "alpha": 0.573243}
MODIFIERS = {
    "ld": (0.5, math.log1p(math.exp(-0.25))),
    "wpo": (None, 0.554355 * math.exp(0.5)),
    "dpop": (50.0, None),
    "length": (0.01, 0.533382),
}


def ratios(h_w: float, h_l: float) -> Ratios:
    return Ratios(*(torch.tensor([float(x)], dtype=torch.float64) for x in (h_w, h_l, 10, 5)))


def first_pair(p: float = 1.0, margin: float = 0.0, **data: object) -> object:
    batch = layout(pairs()).groups([0])
    given = {"p": [p], "margin": [margin]}
    return replace(batch, data={**batch.data, **{k: torch.tensor(v, dtype=torch.float64) for k, v in given.items()}})


def test_every_link_is_in_the_table() -> None:
    assert set(LINKS) == set(Link.members)
    assert set(DIVERGENCES) == set(Divergence.members)
    assert set(MODIFIERS) == set(Modifier.members)


@pytest.mark.parametrize("name", LINKS)
def test_links(name: str) -> None:
    link, zero = Link.of(name), torch.zeros(1, dtype=torch.float64)
    at_reference, vector, soft = LINKS[name]
    assert float(link(ratios(0, 0), 0.1, zero)) == pytest.approx(at_reference, rel=2e-6)
    assert float(link(ratios(2, -1), 0.1, zero)) == pytest.approx(vector, rel=2e-6)
    batch = first_pair(p=0.3, margin=0.2)
    got = shared.expected(lambda pair, margin: link(pair, 0.1, margin), ratios(2, -1), batch)
    assert float(got) == pytest.approx(soft, rel=2e-6)


@pytest.mark.parametrize("name", sorted(LINKS))
def test_a_soft_label_read_backwards_is_the_same(name: str) -> None:
    """(i over j with p, margin m) and (j over i with 1 - p, margin -m) are one statement."""
    link = Link.of(name)

    def loss(pair: Ratios, p: float, margin: float) -> float:
        return float(shared.expected(lambda q, m: link(q, 0.1, m), pair, first_pair(p, margin)))

    pair = ratios(2, -1)
    assert loss(pair, 0.3, 0.2) == pytest.approx(loss(pair.swapped(), 0.7, -0.2), rel=1e-12)


def test_discopop_stays_finite_far_out() -> None:
    z = ratios(-5000, 5000)
    assert math.isfinite(float(Link.of("discopop")(z, 0.1, torch.zeros(1))))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergences(name: str) -> None:
    """0 at h = 0 with slope 1, and the known loss at the fixed vector."""
    f = Divergence.of(name)
    h = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    f(h).sum().backward()
    assert float(f(h).detach()) == pytest.approx(0.0, abs=1e-12)
    assert float(h.grad) == pytest.approx(0.5 if name == "js" else 1.0)
    pair = ratios(2, -1)
    z = 0.1 * (f(pair.h_w) - f(pair.h_l))
    assert math.log1p(math.exp(-float(z))) == pytest.approx(DIVERGENCES[name], rel=2e-6)
    assert torch.isfinite(f(torch.tensor([-1e4, 1e4]))).all()


def dpo_loss(
    node: dict, logp: list[float], batch: object = None, log_sum_sq: list[float] | None = None
) -> torch.Tensor:
    batch = batch if batch is not None else first_pair()
    batch = batch.plus("token", ref=torch.zeros(batch.N, dtype=torch.float64))
    given = torch.tensor(logp, dtype=torch.float64, requires_grad=True)
    square = None if log_sum_sq is None else torch.tensor(log_sum_sq, dtype=torch.float64)
    loss = DPO.of({"name": "dpo", **node}).loss(Output(logp=given, log_sum_sq=square), batch).sums["pair"]
    loss.backward()
    return loss.detach(), given.grad


VECTOR = [0.2] * 10 + [-0.2] * 5


def test_desensitised_counts_the_surplus_less() -> None:
    loss, gradient = dpo_loss({"modifiers": ["ld"]}, VECTOR)
    assert float(loss) == pytest.approx(MODIFIERS["ld"][1], rel=2e-6)
    assert torch.allclose(gradient[5:10], gradient[:5] * 0.5)
    assert torch.allclose(gradient[10:], -gradient[:5])
    plain, _ = dpo_loss({"modifiers": [{"name": "ld", "alpha": 1.0}]}, VECTOR)
    assert float(plain) == pytest.approx(0.554355, rel=2e-6)


def test_wpo_weighs_and_is_a_constant_of_the_gradient() -> None:
    """mean(logp - log sum p^2) = 0.2 + 0.3 and -0.2 + 0.2 over the two responses: the weight is e^0.5."""
    _, without = dpo_loss({}, VECTOR)
    loss, gradient = dpo_loss({"modifiers": ["wpo"]}, VECTOR, log_sum_sq=[-0.3] * 10 + [-0.2] * 5)
    assert float(loss) == pytest.approx(MODIFIERS["wpo"][1], rel=2e-6)
    assert torch.allclose(gradient, without * math.exp(0.5))


def test_dpop_charges_a_falling_chosen_answer() -> None:
    fallen = [-0.02] * 10 + [-0.2] * 5  # h_w = -0.2, h_l = -1
    loss, gradient = dpo_loss({"modifiers": [{"name": "dpop", "penalty": 50.0}]}, fallen)
    assert float(loss) == pytest.approx(math.log1p(math.exp(-0.1 * (0.8 - 50 * 0.2))), rel=2e-6)
    assert float(gradient[0]) < 20 * float(dpo_loss({}, fallen)[1][0])


def test_length_margin() -> None:
    assert float(dpo_loss({"modifiers": ["length"]}, VECTOR)[0]) == pytest.approx(MODIFIERS["length"][1], rel=2e-6)


def test_a_divergence_needs_a_link_of_differences() -> None:
    with pytest.raises(ValueError, match="divergence: link nca is defined on plain log-ratios"):
        DPO.of({"name": "dpo", "link": "nca", "divergence": "js"})
    with pytest.raises(ValueError, match="write divergence: reverse_kl"):
        DPO.of({"name": "dpo", "divergence": {"name": "alpha", "a": 1.0}})


def group(*preferences: Preference, n: int = 3, ranking: tuple | None = None) -> Group:
    responses = tuple(Response(tokens=np.arange(3, 5 + i), trained=np.ones(2 + i, dtype=bool)) for i in range(n))
    return Group((), responses, preferences=preferences, ranking=ranking, prompt_tokens=np.asarray([7, 8]))


def test_who_is_imitated() -> None:
    """Chosen answers, the first tier of a ranking, and with soft labels the probability of being the best."""
    plain = layout([group(Preference(0, 1), n=2), group(Preference(1, 0, p=0.7), n=3), group(ranking=((2,), (0, 1)))])
    assert shared.chosen(plain).tolist() == pytest.approx([1, 0, 0.3, 0.7, 0, 0, 0, 1])
    counted = shared.counting_chosen(plain)
    assert counted.counts["chosen"] == pytest.approx(2 + 0.3 * 2 + 0.7 * 3 + 4)


def test_counts_of_data_follow_a_cut_and_survive_a_drop() -> None:
    """The denominator of the likelihood is counted again in a minibatch, kept in an exact skip, and adds up over pieces."""
    batch = shared.counting_chosen(layout(pairs()))
    assert batch.counts["chosen"] == 14
    assert [batch.groups([g]).counts["chosen"] for g in (0, 1)] == [10, 4]
    assert batch.without([0]).counts["chosen"] == 14
    assert layout([]).N == 0 and shared.counting_chosen(layout([])).counts["chosen"] == 0
