"""Dynamic fine-tuning: its gradient is that of the probabilities' own sum, so unlikely tokens pull least."""

from __future__ import annotations

import torch

from posttrain.core.batch import layout
from posttrain.core.needs import Output
from posttrain.methods import DFT, SFT
from posttrain.methods.sft import answers


def test_the_gradient_is_that_of_the_probabilities() -> None:
    batch = layout(answers())
    logp = torch.linspace(-6, -0.1, batch.N, dtype=torch.float64).requires_grad_()
    (ours,) = torch.autograd.grad(DFT().loss(Output(logp=logp), batch).sums["value"], logp)
    (want,) = torch.autograd.grad(-logp.exp().sum(), logp)
    assert torch.allclose(ours, want)
    (plain,) = torch.autograd.grad(SFT().loss(Output(logp=logp), batch).sums["nll"], logp)
    assert torch.equal(plain, torch.full_like(plain, -1.0)) and ours[0].abs() < 0.01 < ours[-1].abs()
