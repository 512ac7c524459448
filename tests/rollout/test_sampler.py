"""The sampler as a Model: groups, events, stops, cancelling, steering, synchronising, refusals."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from posttrain.core.chat import as_chat
from posttrain.core.group import Group
from posttrain.core.protocols import Request, Sampling, Scorer
from posttrain.rollout.sampler import Sampler
from posttrain.rollout.text import TextStream
from tests.rollout.models import model_of, prompts, sampler_of


def ask(text: str, **fields: Any) -> Request:
    return Request(as_chat(text), **fields)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_generate_gives_groups_in_order(family: str) -> None:
    tokenizer = model_of(family)[1]
    sampler = sampler_of(family, slots=3, stop=(11,))
    asked = [ask("What is two plus two?", n=4, facts={"id": "q"}), ask("hello", n=2), ask("1 2 3")]
    asked = [Request(r.prompt, Sampling(max_tokens=12), r.n, seed=i, facts=r.facts) for i, r in enumerate(asked)]
    groups = sampler.generate(asked)
    assert [len(g.responses) for g in groups] == [4, 2, 1]
    assert groups[0].id == "q" and groups[1].prompt_text == "hello"
    assert groups[0].prompt_tokens is not None
    assert groups[0].prompt_tokens.tolist() == tokenizer.encode("What is two plus two?", add_special_tokens=False)
    for g in groups:
        for r in g.responses:
            assert r.tokens is not None and r.trained is not None and r.logps is not None
            assert len(r.tokens) == len(r.trained) == len(r.logps) <= 12 and bool(r.trained.all())
            assert r.stop == ("stop" if r.tokens[-1] == 11 else "length") and r.version == 0
            ids = r.tokens[:-1] if r.stop == "stop" else r.tokens
            assert r.text == tokenizer.decode(ids, skip_special_tokens=True)
    assert isinstance(sampler, Scorer)
    for g, rows in zip(groups, sampler.logp(groups), strict=True):
        for r, row in zip(g.responses, rows, strict=True):
            assert r.logps is not None
            np.testing.assert_allclose(r.logps, row.numpy(), atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_stream_says_what_generate_says(family: str) -> None:
    sampler = sampler_of(family, slots=3, stop=(11, 30, 31, 32))
    asked = [ask(t, sampling=Sampling(max_tokens=10), n=2, seed=4, id=t) for t in ("hello", "the weather", "1 2")]
    groups = sampler.generate(asked)
    seen: dict[tuple[str, int], list[Any]] = {}
    for event in sampler.stream(iter([None, asked[0], None, *asked[1:]])):
        seen.setdefault((event.id, event.index), []).append(event)
    for r, g in zip(asked, groups, strict=True):
        for i, response in enumerate(g.responses):
            events = seen[(str(r.id), i)]
            assert "".join(e.text for e in events) == response.text
            assert response.tokens is not None and response.logps is not None
            assert [t for e in events for t in e.tokens] == response.tokens.tolist()
            assert [e.stop for e in events] == [None] * (len(events) - 1) + [response.stop]
            np.testing.assert_allclose([x for e in events for x in e.logps], response.logps, rtol=1e-6)


def test_stop_string_cuts_the_text_and_ends_the_tokens() -> None:
    sampler = sampler_of("llama")
    free = sampler.generate([ask("hello", sampling=Sampling(max_tokens=30), seed=9)])[0].responses[0]
    assert free.tokens is not None
    middle = free.text[len(free.text) // 2 :]
    stop = middle[:3]
    cut = sampler.generate([ask("hello", sampling=Sampling(max_tokens=30, stop=("never so", stop)), seed=9)])[
        0
    ].responses[0]
    assert cut.tokens is not None
    assert cut.stop == "stop" and cut.text == free.text[: free.text.index(stop)]
    n = len(cut.tokens)
    assert cut.tokens.tolist() == free.tokens[:n].tolist() and n < len(free.tokens)
    tokenizer = model_of("llama")[1]
    assert stop in tokenizer.decode(free.tokens[:n], skip_special_tokens=True)
    assert stop not in tokenizer.decode(free.tokens[: n - 1], skip_special_tokens=True)


@pytest.mark.parametrize("family", ["llama", "mistral", "phi3", "gemma3"])
def test_text_arrives_whole_across_tokens(family: str) -> None:
    tokenizer = model_of(family)[1]
    text = "hé 你好 wörld 🙂 end"
    ids = tokenizer.encode(text, add_special_tokens=False)
    stream = TextStream(tokenizer)
    parts = [stream.push(i) for i in ids] + [stream.finish()]
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    assert "".join(parts) == whole == stream.text and "你好" in whole
    assert not any("\ufffd" in p for p in parts) and sum(map(bool, parts)) > 5
    held = TextStream(tokenizer, stop=("好 w",))
    parts = [held.push(i) for i in ids if not held.stopped] + [held.finish()]
    assert held.stopped and "".join(parts) == whole[: whole.index("好 w")]


def test_cancel_ends_a_request_and_leaves_the_others() -> None:
    sampler = sampler_of("llama", slots=4)
    asked = [
        ask("hello", sampling=Sampling(max_tokens=20), n=6, id="a"),
        ask("1 2", sampling=Sampling(max_tokens=20), id="b"),
    ]
    ends: dict[tuple[str, int], list[str]] = {}
    for number, event in enumerate(sampler.stream(asked)):
        if number == 10:
            sampler.cancel("a")
            sampler.cancel("nobody")
        if event.stop:
            ends.setdefault((event.id, event.index), []).append(event.stop)
    assert ends == {**{("a", i): ["cancelled"] for i in range(6)}, ("b", 0): ["length"]}


def test_a_stream_left_early_frees_its_rows() -> None:
    sampler = sampler_of("llama", slots=4)
    for event in sampler.stream([ask("hello", n=6)]):
        if event.index == 2:
            with pytest.raises(ValueError, match="already decoding"):
                sampler.generate([ask("x")])
            break
    assert len(sampler.generate([ask("hello", n=6, sampling=Sampling(max_tokens=3))])[0].responses) == 6


class Alternate:
    """Only even tokens at even positions, odd ones at odd; counts what it was told."""

    def start(self, request: Request) -> tuple[int, ...]:
        return ()

    def mask(self, state: tuple[int, ...]) -> torch.Tensor:
        return torch.arange(model_of("llama")[0].config.vocab_size) % 2 == len(state) % 2

    def adjust(self, state: tuple[int, ...], logits: torch.Tensor) -> torch.Tensor:
        return logits - 50.0 * (torch.arange(logits.numel()) < 100)

    def advance(self, state: tuple[int, ...], token: int) -> tuple[int, ...]:
        return (*state, token)


def test_steer_state_moves_with_its_row() -> None:
    sampler = sampler_of("llama", slots=3)
    plain = Sampling(max_tokens=9)
    asked = [
        ask(t, sampling=Sampling(max_tokens=m), n=2, steer=Alternate() if s else None)
        for t, m, s in (("hello", 3, False), ("1 2", 9, True), ("the", 5, False), ("weather", 8, True))
    ]
    groups = sampler.generate(asked)
    for g in (groups[1], groups[3]):
        for r in g.responses:
            assert r.tokens is not None and r.logps is not None and r.sampled_logps is not None
            assert [int(t) % 2 for t in r.tokens] == [i % 2 for i in range(len(r.tokens))] and r.tokens.min() >= 100
            assert not np.allclose(r.logps, r.sampled_logps)
    assert groups[0].responses[0].logps is not None
    alone = sampler.generate([ask("1 2", sampling=plain, n=2, steer=Alternate())])[0]
    assert [r.tokens.tolist() for r in alone.responses if r.tokens is not None] == [
        r.tokens.tolist() for r in groups[1].responses if r.tokens is not None
    ]


def test_sync_takes_new_weights_and_stale_ones_are_refused() -> None:
    model = copy.deepcopy(model_of("llama")[0])
    sampler = Sampler(model, None, (), lambda chat, tools: [5], slots=4, threads=1)
    text = prompts((9,))
    greedy = Sampling(temperature=0, max_tokens=12)
    before = sampler.decode(text, greedy)[0][0]
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.normal_()
        model.model.layers[1].mlp.up_proj.weight.normal_()
    with pytest.raises(ValueError, match="sync"):
        sampler.decode(text, greedy)
    sampler.sync(model)
    after = sampler.decode(text, greedy)[0][0]
    assert (before.version, after.version) == (0, 1)
    fresh = Sampler(model, None, (), lambda chat, tools: [5], slots=4, threads=1).decode(text, greedy)[0][0]
    assert after.tokens == fresh.tokens != before.tokens


def test_dropout_of_a_model_in_training_is_off() -> None:
    model = copy.deepcopy(model_of("gpt2")[0])
    model.config.attn_pdrop = 0.5
    model.train()
    sampler = Sampler(model, None, (), lambda chat, tools: [5], slots=4, threads=1)
    greedy = Sampling(temperature=0, max_tokens=8)
    text = prompts((9,))
    assert sampler.decode(text, greedy)[0][0].logps == sampler.decode(text, greedy)[0][0].logps
    assert model.training


def test_context_ends_an_answer() -> None:
    sampler = sampler_of("llama", max_context=20)
    out = sampler.decode(prompts((15,)), Sampling(max_tokens=50))[0][0]
    assert len(out.tokens) == 5 and out.stop == "length"


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (ask("", n=1), "no tokens"),
        (ask("hello " * 600), "leave no room"),
        (ask("x", n=0), "n and max_tokens"),
        (ask("x", sampling=Sampling(top_p=0.0)), "top_p must be in"),
        (ask("x", sampling=Sampling(temperature=-1.0)), "temperature must be"),
        (ask("x", sampling=Sampling(min_tokens=9, max_tokens=3)), "min_tokens"),
    ],
)
def test_bad_requests_are_refused_in_one_line(request_: Request, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        sampler_of("llama").generate([request_])
    assert "\n" not in str(caught.value)


def test_not_finite_is_said() -> None:
    model = copy.deepcopy(model_of("llama")[0])
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    sampler = Sampler(model, None, (), lambda chat, tools: [5], slots=4)
    with pytest.raises(FloatingPointError, match="not finite"):
        sampler.decode([[5, 6]], Sampling(max_tokens=4))


def test_text_responses_are_scored_too() -> None:
    from posttrain.core.group import answer

    sampler = sampler_of("llama")
    rows = sampler.logp([Group(as_chat("hello"), (answer("the sun"), answer("Paris rains")))])
    tokenizer = model_of("llama")[1]
    assert [len(r) for r in rows[0]] == [
        len(tokenizer.encode(t, add_special_tokens=False)) for t in ("the sun", "Paris rains")
    ]
    assert all(bool((r < 0).all()) for r in rows[0])
