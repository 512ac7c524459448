"""Groups to tokens: the tokenizer's own ids, spans, weights, lengths, and content that stays data."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from posttrain.core.chat import Chat, Message, as_chat, assistant, user
from posttrain.core.group import Group, Response, document, group
from posttrain.models.explain import explain
from posttrain.models.render import Renderer
from posttrain.models.template import chosen, from_source, named
from tests.models.tiny import CHATML, FAMILIES, tokenizer_for

MARKED = CHATML.replace(
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}",
    "{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}"
    "{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}",
)


@cache
def renderer(family: str, source: str | None = None, mask: str = "all") -> Renderer:
    tokenizer = tokenizer_for(family)
    own = tokenizer.chat_template
    template = from_source(source) if source else chosen(None, own, tokenizer.get_vocab())
    return Renderer(tokenizer, template, mask)  # type: ignore[arg-type]


def talk(*turns: Message, prompt: str = "hi") -> Group:
    return Group(prompt=as_chat(prompt), responses=(Response(turns=turns),))


def whole(done: Group, i: int = 0) -> list[int]:
    return [*done.prompt_tokens, *done.responses[i].tokens]


def trained_text(r: Renderer, done: Group, i: int = 0) -> str:
    return r.decode(done.responses[i].tokens[np.asarray(done.responses[i].trained) > 0])


def rows(chat: Chat) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in chat]


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_the_tokenizers_own(family: str) -> None:
    r = renderer(family)
    chats = ["hello  there, my friend\n\nsay 12345", "wörld 你好", " spaces around "]
    for text in chats:
        theirs = r.tokenizer.apply_chat_template(
            rows(as_chat(text)), chat_template=r.template.source, add_generation_prompt=True, return_dict=False
        )
        assert r.prompt(as_chat(text)) == list(theirs)
        g = group(text, "fine, thanks 42")
        joint = r.tokenizer.apply_chat_template(
            rows(g.prompt + g.responses[0].turns), chat_template=r.template.source, return_dict=False
        )
        mine = whole(r.render(g))
        assert mine == list(joint)[: len(mine)]
        assert mine[-1] in r.stops
        assert not r.tokenizer.decode(joint[len(mine) :], skip_special_tokens=True).strip()


@pytest.mark.parametrize("family", FAMILIES)
def test_several_turns(family: str) -> None:
    r = renderer(family)
    g = talk(assistant("One two."), user("and then?"), assistant("Three four."))
    done = r.render(g)
    stop = r.decode(done.responses[0].tokens[-1:])
    said = trained_text(r, done)
    assert said.replace("<think>\n\n</think>\n\n", "").replace(" ", "") == f"Onetwo.{stop}Threefour.{stop}".replace(
        " ", ""
    )
    last = Renderer(r.tokenizer, r.template, mask="last").render(g)
    assert whole(last) == whole(done)
    assert "One" not in trained_text(r, last) and "Three four." in trained_text(r, last)
    with_zero = r.render(talk(Message("assistant", "One two.", weight=0), user("and then?"), assistant("Three four.")))
    assert np.array_equal(with_zero.responses[0].trained, last.responses[0].trained)


def test_weights_between_are_kept_as_floats() -> None:
    done = renderer("smollm3").render(talk(Message("assistant", "One.", weight=0.25), user("?"), assistant("Two.")))
    trained = done.responses[0].trained
    assert trained.dtype == np.float32 and set(trained.tolist()) == {0.0, 0.25, 1.0}
    assert trained[0] == 0.25 and trained[-1] == 1.0


def test_marked_and_unmarked_templates_agree() -> None:
    g = talk(assistant("One."), Message("tool", "two"), assistant("Three."))
    plain, marked = renderer("smollm3", CHATML).render(g), renderer("smollm3", MARKED).render(g)
    assert whole(plain) == whole(marked)
    assert np.array_equal(plain.responses[0].trained, marked.responses[0].trained)


def test_marks_that_leave_the_stop_outside_are_mended() -> None:
    outside = MARKED.replace(
        "m.content + '<|im_end|>' }}{% endgeneration %}", "m.content }}{% endgeneration %}{{ '<|im_end|>' }}"
    )
    assert outside != MARKED
    r = renderer("smollm3", outside)
    assert trained_text(r, r.render(group("hi", "yes"))) == "yes<|im_end|>"


def test_generation_prompt_that_is_longer_than_the_turns_opening() -> None:
    thinking = CHATML.replace("{{ '<|im_start|>assistant\\n' }}", "{{ '<|im_start|>assistant\\n<think>' }}")
    r = renderer("smollm3", thinking)
    done = r.render(group("hi", "yes"))
    assert r.decode(done.prompt_tokens).endswith("<think>")
    assert trained_text(r, done) == "yes<|im_end|>"
    assert r.counts["answers not a continuation of the prompt's rendering"] == 1


def test_responses_share_the_prompts_ids_and_sampled_tokens_are_kept() -> None:
    r = renderer("llama")
    sampled = Response(turns=(assistant("x"),), tokens=np.array([7, 8]), trained=np.array([True, True]), stop="length")
    done = r.render(Group(prompt=as_chat("hi"), responses=(sampled, Response(turns=(assistant("yes"),)))))
    assert done.responses[0] is sampled
    assert done.responses[1].tokens.dtype == np.int64 and done.responses[1].trained.dtype == np.bool_
    assert list(done.prompt_tokens) == r.prompt(as_chat("hi"))


@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2", "qwen3"])
def test_document(family: str) -> None:
    r = renderer(family)
    done = r.render(document("Some text, and <|im_end|> more."))
    start = r.tokenizer.bos_token_id if r.tokenizer.bos_token_id is not None else r.tokenizer.eos_token_id
    assert list(done.prompt_tokens) == [start]
    ids = done.responses[0].tokens
    assert ids[-1] == r.tokenizer.eos_token_id and done.responses[0].trained.all()
    assert r.decode(ids[:-1]).strip() == "Some text, and <|im_end|> more."
    assert not set(ids[:-1]) & set(r.tokenizer.all_special_ids)


def test_overlong_rows_are_counted() -> None:
    tokenizer, template = tokenizer_for("smollm3"), from_source(CHATML)
    long, short = group("hi", "word " * 50), group("hi", "ok")
    with pytest.raises(ValueError, match=r"row .*tokens, the limit is 30; raise max_tokens"):
        Renderer(tokenizer, template, max_tokens=30).render(long)
    dropping = Renderer(tokenizer, template, max_tokens=30, overlong="drop")
    assert [g.id for g in dropping.render_many([long, short, long])] == [short.id]
    assert dropping.counts == {"kept": 1, "truncated": 0, "dropped": 2, "dropped: too long": 2}
    cutting = Renderer(tokenizer, template, max_tokens=30, overlong="truncate")
    done = cutting.render(long)
    assert len(whole(done)) == 30 and done.responses[0].tokens[-1] not in cutting.stops
    assert done.responses[0].stop == "length" and cutting.counts["truncated"] == 1
    full = Renderer(tokenizer, template).render(long)
    assert whole(full)[:30] == whole(done)
    assert cutting.render(group("many words " * 40, "ok")) is None and cutting.counts["dropped"] == 1


def test_bad_rows_are_named() -> None:
    r = renderer("mistral")
    bad = Group(
        prompt=(Message("system", "be kind"), user("hi")),
        responses=(Response(turns=(assistant("ok"),)),),
        facts={"id": 17},
    )
    with pytest.raises(ValueError, match="row 17: chat template 'own' refuses this chat: only user and assistant"):
        list(r.render_many([group("a", "b"), bad]))
    with pytest.raises(ValueError, match="must begin with an assistant turn"):
        r.render(talk(user("me")))
    with pytest.raises(ValueError, match="accepted: all, last"):
        Renderer(r.tokenizer, r.template, mask="none")  # type: ignore[arg-type]


def test_one_at_a_time_is_as_in_batches() -> None:
    r = renderer("mistral")
    groups = [group(f"question {i}?", f"answer {i}", f"other <s> {i}") for i in range(5)]
    for alone, together in zip(map(r.render, groups), r.render_many(groups), strict=True):
        assert whole(alone) == whole(together) and whole(alone, 1) == whole(together, 1)


@pytest.mark.parametrize("name", ["posttrain-chat", "chatml", "plain"])
def test_built_in_templates_hold_tools_and_thinking(name: str) -> None:
    tokenizer = tokenizer_for("smollm3")
    tokenizer.add_tokens(["<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"], special_tokens=True)
    r = Renderer(tokenizer, named(name))
    call = {"name": "add", "arguments": {"a": 2, "b": "<|im_end|>"}}
    turns = (
        Message("assistant", "Let me see.", tool_calls=(call,)),
        Message("tool", "four", name="add"),
        Message("assistant", "It is four.", thinking="easy"),
    )
    g = Group(
        prompt=(Message("system", "Be kind."), user("2+2?")),
        responses=(Response(turns=turns),),
        tools=({"name": "add"},),
    )
    done = r.render(g)
    prompt, said = r.decode(done.prompt_tokens), trained_text(r, done)
    assert "Be kind." in prompt and '"add"' in prompt
    assert "Let me see." in said and '"b": "<|im_end|>"' in said and "It is four." in said and "easy" in said
    assert "four" not in said.replace("It is four.", "")
    stops = np.isin(done.responses[0].tokens, r.stops)
    assert done.responses[0].trained[stops].sum() == 2 and done.responses[0].trained[-1]


SPECIALS = sorted(
    {t for f in FAMILIES.values() for t in (*f.special, *f.plain)} | {"<|im_", "end|>", "<", "|", "\ufdd0", "\ufdd1"}
)
TEXT = st.lists(
    st.one_of(st.sampled_from(SPECIALS), st.text(max_size=6), st.sampled_from([" ", "\n", "a b"])), max_size=8
)


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "gemma3", "phi3", "gpt2"])
@given(asked=TEXT.map("".join), said=TEXT.map("".join))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_special_escape(family: str, asked: str, said: str) -> None:
    """T6: whatever the texts are, control ids are those of the same chat with harmless texts; and the answer is still its text."""
    r = renderer(family)
    done, calm = r.render(group(asked, said)), r.render(group("x", "y"))
    special = [i for i, t in r.tokenizer.added_tokens_decoder.items() if t.special]
    for mine, theirs in (
        (done.prompt_tokens, calm.prompt_tokens),
        (done.responses[0].tokens, calm.responses[0].tokens),
    ):
        assert [i for i in mine if i in special] == [i for i in theirs if i in special]
    surrogates = any("\ud800" <= c <= "\udfff" for c in asked + said)
    text = trained_text(r, done)
    if family in ("llama", "qwen3", "gpt2") and not surrogates:
        assert said.strip() in text


def test_prompt_of_earlier_answers_is_what_serving_shows() -> None:
    for family in FAMILIES:
        r = renderer(family)
        chat = (user("a"), assistant("b <|im_end|> c"), user("d"))
        done = r.render(Group(prompt=chat, responses=(Response(turns=(assistant("e"),)),)))
        assert list(done.prompt_tokens) == r.prompt(chat)


def test_sanitised_like_transformers() -> None:
    r = renderer("smollm3")
    text = "say <|im_end|> and <|im_start|>user twice"
    theirs = r.tokenizer.apply_chat_template(
        rows(as_chat(text)), add_generation_prompt=True, return_dict=False, sanitize_control_tokens=True
    )
    assert r.decode(r.prompt(as_chat(text))) == r.decode(theirs)


def test_explain_shows_ids_and_colours() -> None:
    r = renderer("smollm3")
    done = r.render(talk(Message("assistant", "yes", weight=0.5)))
    out = explain(done, r.tokenizer)
    stream = io.StringIO()
    Console(file=stream, width=200).print(out)
    assert "prompt:" in stream.getvalue()
    assert f"[{done.responses[0].tokens[-1]}×0.5]" in out.plain
    green = "".join(out.plain[s.start : s.end] for s in out.spans if "green" in str(s.style))
    assert green == "yes<|im_end|>"
    assert "more" in explain(done, r.tokenizer, limit=2).plain
    with pytest.raises(ValueError, match="not rendered"):
        explain(group("a", "b"), r.tokenizer)
