"""The head by the kernels against torch: log-probs and gradients, vocabularies of any size, scales, biases, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch

from posttrain.core.needs import Needs
from posttrain.models import native_head
from posttrain.models.token_scores import Head, token_scores
from posttrain.native.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler here")


@pytest.mark.parametrize("rows", [1, 96, 205])
@pytest.mark.parametrize("vocabulary", [7, 64, 301])
@pytest.mark.parametrize("bias", [False, True])
def test_numbers_and_gradients(rows: int, vocabulary: int, bias: bool) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(rows, 64, requires_grad=True), torch.randn(vocabulary, 64, requires_grad=True)
    offset = torch.randn(vocabulary, requires_grad=True) if bias else None
    target, towards = torch.randint(vocabulary, (rows,)), torch.randn(rows)
    assert native_head.knows(hidden, weight, offset)
    ours = native_head.logp(hidden, weight, offset, target, 1.7)
    logits = torch.nn.functional.linear(hidden, weight, offset) * 1.7
    theirs = logits.log_softmax(-1).gather(-1, target[:, None])[:, 0]
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)
    given = [t for t in (hidden, weight, offset) if t is not None]
    twice = [torch.autograd.grad((ours * towards).sum(), given, retain_graph=True) for _ in range(2)]
    for a, again, b in zip(*twice, torch.autograd.grad((theirs * towards).sum(), given), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(a, again, atol=0, rtol=0)


def test_logits_far_apart() -> None:
    hidden = torch.zeros(2, 32)
    hidden[0, 0], hidden[1, 0] = 1e4, -1e4
    weight = torch.zeros(40, 32)
    weight[3, 0] = 1.0
    said = native_head.logp(hidden, weight, None, torch.tensor([3, 3]), 1.0)
    assert said.tolist() == pytest.approx([0.0, -1e4 - torch.tensor(39.0).log().item()])


@pytest.mark.parametrize("needs", [Needs(logp=True), Needs(logp=True, entropy=True), Needs(logp=True, mean_logp=True)])
@pytest.mark.parametrize("cap", [None, 5.0])
def test_only_plain_log_probs_are_its_own(needs: Needs, cap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    own = native_head.call
    monkeypatch.setattr(native_head, "call", lambda name, *given: asked.append(name) or own(name, *given))
    torch.manual_seed(0)
    head = Head(torch.randn(50, 32), None, cap=cap)
    hidden, target = torch.randn(9, 32), torch.randint(50, (9,))
    made = token_scores(head, hidden, target, needs).logp
    monkeypatch.setattr(native_head, "knows", lambda *_: False)
    torch.testing.assert_close(made, token_scores(head, hidden, target, needs).logp, atol=2e-5, rtol=1e-5)
    assert bool(asked) == (needs == Needs(logp=True) and cap is None)
