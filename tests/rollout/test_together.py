"""Several threads of samplers: the bits of one, weights that move, and errors that are heard."""

from __future__ import annotations

import pytest
import torch

from posttrain.core.chat import as_chat
from posttrain.core.protocols import Request, Sampling
from posttrain.rollout.sampler import Sampler
from posttrain.rollout.together import Together
from tests.rollout.test_workers import bits, path, requests, sampler

__all__ = ["path"]  # the fixture


def test_the_bits_are_those_of_one_sampler(path: str) -> None:
    asked, before = requests(120, n=3), torch.get_num_threads()
    alone, two = sampler(path), Together(sampler(path), 2)
    assert bits(two.generate(asked)) == bits(alone.generate(asked)) and torch.get_num_threads() == before
    assert two.samplers[0].slots == 4 and all(s._decoder is not None for s in two.samplers), "both have decoded"
    assert two.first._decoder is None, "the first only renders and reads, and holds no cache"


def test_weights_that_moved(path: str) -> None:
    one = sampler(path)
    two, asked = Together(one, 2), requests(12)
    old = bits(two.generate(asked))
    with torch.no_grad():
        for parameter in one.model.parameters():
            parameter.add_(0.05 * torch.ones_like(parameter).cumsum(-1).sin())
    with pytest.raises(ValueError, match="sync"):
        two.generate(asked)
    two.sync(version=7)
    again = Sampler(one.model, one.tokenizer, one.stop_ids, one.encode, slots=8)
    again.sync(version=7)
    assert bits(two.generate(asked)) == bits(again.generate(asked)) != old
    assert {r.version for g in two.generate(asked) for r in g.responses} == {7} and two.version == 7


def test_an_error_is_heard_and_the_next_call_is_clean(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    two, asked = Together(sampler(path), 2), requests(30)
    broken = two.samplers[1]
    with monkeypatch.context() as planted:
        planted.setattr(broken, "_advance", lambda *_: (_ for _ in ()).throw(FloatingPointError("not finite")))
        with pytest.raises(FloatingPointError):
            two.generate(asked)
    assert bits(two.generate(asked)) == bits(sampler(path).generate(asked))


def test_one_request_needs_no_company(path: str) -> None:
    two = Together(sampler(path), 2)
    alone = two.generate([Request(as_chat("word"), Sampling(max_tokens=4), 2, seed=3)])
    assert len(alone[0].responses) == 2 and two.samplers[0]._decoder is None
    two.cancel("nobody")
    named = [Request(as_chat("a"), Sampling(max_tokens=4), id=i) for i in ("early", "late")]
    assert all(r.stop != "cancelled" for g in two.generate(named) for r in g.responses)
    with pytest.raises(ValueError, match="one thread"):
        Together(sampler(path), 1)
