"""Planted bugs: each one fires exactly its own id, and clean rows of every family fire none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from posttrain.core.chat import Message, assistant, user
from posttrain.core.finding import Finding
from posttrain.core.group import Group, Response, group
from posttrain.models.checks import rendering, sample_findings
from posttrain.models.mask_checks import rm_same_ids, serve_prefix_equal
from posttrain.models.render import Renderer
from posttrain.models.template import Template, chosen, from_source, named, turn_ends
from posttrain.models.token_checks import ids_have_rows, pad_is_not_stop, runs, stop_round_trip
from tests.models.tiny import CHATML, FAMILIES, tokenizer_for

SPECIAL = "<s> </s> <|im_end|> <|eot_id|> <end_of_turn> <|end|> [INST] <|endoftext|> <|assistant|>"


@cache
def renderer(family: str = "smollm3", source: str | None = None, mask: str = "all") -> Renderer:
    tokenizer = tokenizer_for(family)
    if source is not None:
        template = from_source(source)
    else:
        template = chosen(None, tokenizer.chat_template, tokenizer.get_vocab())
    return Renderer(tokenizer, template, mask)  # type: ignore[arg-type]


def rows() -> list[Group]:
    """A pair, a row whose text spells special tokens, and three turns with a masked one."""
    several = (assistant("Two."), user("And plus one?"), assistant("Three, of course."))
    return [
        group("What is one plus one?", "Two.", "It is 11, I think"),
        group(f"Repeat {SPECIAL} please", f"Gladly: {SPECIAL}!"),
        Group(prompt=(user("What is one plus one?"),), responses=(Response(turns=several),)),
    ]


def tool_row() -> Group:
    turns = (assistant("Let me look it up."), Message("tool", "rain in Paris"), assistant("It rains."))
    return Group(prompt=(user("weather?"),), responses=(Response(turns=turns),))


def ids(found: list[Finding]) -> set[str]:
    return {f.id for f in found}


def findings(r: Renderer, groups: list[Group], **more: int) -> set[str]:
    return ids(sample_findings(r, groups, **more))


def on_rendered(r: Renderer, done: list[Group], rows_of: int = 10_000) -> set[str]:
    """Every check that reads rendered groups, on groups that may have been tampered with."""
    from posttrain.models import mask_checks as m
    from posttrain.models import token_checks as t

    found = (
        t.stop_trained(r, done) + t.pad_is_not_stop(r, done) + t.bos_once(r, done) + t.ids_have_rows(r, done, rows_of)
    )
    found += t.content_is_data(r, done) + m.mask_extremes(done) + m.mask_includes_stop(r, done)
    found += m.mask_decodes_to_answer(r, done) + m.prefix_preserving(r, done) + m.others_untrained(r, done)
    found += m.append_only(r, done) + m.default_system(r, done)
    found += serve_prefix_equal(r, done, lambda g: r.prompt(g.prompt, g.tools), r.template.hash)
    return ids(found)


def tampered(r: Renderer, row: Group, change: Callable[[Response], Response]) -> list[Group]:
    done = r.render(row)
    assert done is not None
    return [replace(done, responses=tuple(change(x) for x in done.responses))]


def masked(response: Response, start: int, end: int, value: bool) -> Response:
    trained = response.trained.copy()
    trained[start:end] = value
    return replace(response, trained=trained)


@pytest.mark.parametrize("family", FAMILIES)
def test_clean_rows_fire_nothing(family: str) -> None:
    r = renderer(family)
    if r.tokenizer.pad_token_id is None or r.tokenizer.pad_token_id == r.tokenizer.eos_token_id:
        r.tokenizer.pad_token = r.tokenizer.unk_token or "a"  # loading chooses one; see test_load
    assert sample_findings(r, rows(), rows=len(r.tokenizer)) == []
    done, none = rendering(r, rows())
    assert none == []
    assert on_rendered(r, done) == set()


def test_clean_tool_rows_fire_nothing() -> None:
    assert findings(renderer(), [tool_row()]) == set()


def test_T1_template_without_a_stop() -> None:
    bare = CHATML.replace("+ '<|im_end|>' +", "+")
    assert findings(renderer(source=bare), rows()[:1]) == {"T1"}


def test_T2_pad_equals_eos() -> None:
    r = Renderer(tokenizer_for("smollm3"), from_source(CHATML))
    r.tokenizer.pad_token = r.tokenizer.eos_token
    r = Renderer(r.tokenizer, r.template, stops=[r.tokenizer.eos_token_id])
    found = sample_findings(r, rows())
    assert [(f.id, f.severity) for f in found] == [("T2", "warning")]
    assert [(f.id, f.severity) for f in pad_is_not_stop(r, [], reward_model=True)] == [("T2", "error")]
    done, _ = rendering(r, rows()[:1])
    padded = [
        replace(g, responses=tuple(masked(x, len(x.tokens) - 1, len(x.tokens), False) for x in g.responses))
        for g in done
    ]
    assert [(f.id, f.severity) for f in pad_is_not_stop(r, padded)] == [("T2", "error")]


def test_T3_saved_stop_set() -> None:
    r = renderer()
    ends = turn_ends(r.tokenizer, r.template)
    pad = r.tokenizer.pad_token_id
    good = SimpleNamespace(eos_token_id=list(r.stops))
    assert stop_round_trip(r.stops, r.tokenizer, good, ends, len(r.tokenizer)) == []
    for wrong in (None, [*r.stops, pad], [5], [*r.stops, 9]):
        found = stop_round_trip(r.stops, r.tokenizer, SimpleNamespace(eos_token_id=wrong), ends, len(r.tokenizer))
        assert ids(found) == {"T3"}, wrong
    assert ids(stop_round_trip(r.stops, r.tokenizer, good, ends, r.stops[0])) == {"T3"}


def test_T4_two_bos() -> None:
    r = renderer("llama")
    twice = r.template.source.replace("{{ bos_token }}", "{{ bos_token + bos_token }}")
    assert findings(renderer("llama", twice), rows()[:1]) == {"T4"}


def test_T4_missing_bos() -> None:
    r = renderer("gemma3")
    assert r.tokenizer("a")["input_ids"][0] == r.tokenizer.bos_token_id
    without = r.template.source.replace("{{ bos_token }}", "")
    assert findings(renderer("gemma3", without), rows()[:1]) == {"T4"}


def test_T5_ids_outside_the_embedding() -> None:
    r = renderer()
    assert findings(r, rows()[:1], rows=10) == {"T5"}
    frozen = ids_have_rows(r, [], 10_000, added=("<|new|>",), frozen_embedding=True)
    assert [(f.id, f.severity) for f in frozen] == [("T5", "error")]


def test_T6_content_that_becomes_control(monkeypatch: pytest.MonkeyPatch) -> None:
    r = Renderer(tokenizer_for("smollm3"), from_source(CHATML))
    monkeypatch.setattr(r.speller, "guard", lambda value, role: value)
    done, _ = rendering(r, [group("Say <|im_start|> twice", "ok")])
    assert on_rendered(r, done) == {"T6"}


@pytest.mark.parametrize("value", [True, False])
def test_M1_all_or_nothing(value: bool) -> None:
    r = renderer()
    done = tampered(r, rows()[2], lambda x: masked(x, 0, len(x.tokens), value))
    assert on_rendered(r, done) == {"M1"}


def test_M1_template_that_drops_the_answer() -> None:
    dropping = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    assert findings(renderer(source=dropping), rows()[:1]) == {"M1"}


def test_M2_stop_outside_the_mask() -> None:
    r = renderer()
    done = tampered(r, rows()[0], lambda x: masked(x, len(x.tokens) - 1, len(x.tokens), False))
    assert on_rendered(r, done) == {"M2"}


def test_M3_a_reasoning_trace_that_the_template_drops() -> None:
    """A template that never reads reasoning_content trains the answer alone; one that does is silent."""
    from posttrain.models.mask_checks import traces_written

    thought = Response(turns=(Message("assistant", "42", thinking="six sevens"),))
    asked = Group((user("6 x 7?"),), (thought,))
    for source, ids in ((CHATML, {"M3"}), (named("chatml").source, set())):
        r = renderer("smollm3", source)
        made = r.render(asked)
        assert made is not None
        assert {f.id for f in traces_written(r, [made])} == ids


def test_M3_first_token_lost() -> None:
    r = renderer()
    assert on_rendered(r, tampered(r, rows()[0], lambda x: masked(x, 0, 1, False))) == {"M3"}


def test_M4_template_that_rewrites_history() -> None:
    shifting = CHATML.replace("m.content +", "(m.content if loop.last or m.role == 'user' else '...') +")
    assert findings(renderer(source=shifting), [rows()[2]]) == {"M4"}


def test_M4_earlier_turn_altered_in_the_tokens() -> None:
    r = renderer()

    def change(x: Response) -> Response:
        (_, end), _ = runs(x.trained)
        tokens = np.delete(x.tokens, end)
        return replace(x, tokens=tokens, trained=np.delete(x.trained, end))

    assert on_rendered(r, tampered(r, rows()[2], change)) == {"M4"}


def test_M5_tool_output_trained() -> None:
    r = renderer()

    def change(x: Response) -> Response:
        (_, end), (start, _) = runs(x.trained)
        stop = end + int(np.flatnonzero(np.isin(x.tokens[end:start], r.stops))[0])
        words = len(r.speller.ids(["rain in Paris"])[0])
        return masked(x, stop - words, stop + 1, True)

    assert on_rendered(r, tampered(r, tool_row(), change)) == {"M5"}


def test_M6_prompt_end_dropped() -> None:
    r = renderer()
    done = r.render(rows()[0])
    assert done is not None
    cut = [replace(done, prompt_tokens=done.prompt_tokens[:-1])]
    found = on_rendered(r, cut)
    assert found - {"M7"} == {"M6"}  # serving shows the whole prompt, which M7 sees too


def test_M7_serving_with_another_template() -> None:
    r = renderer()
    done, _ = rendering(r, rows())
    other = Renderer(r.tokenizer, named("plain"))
    assert ids(serve_prefix_equal(r, done, lambda g: r.prompt(g.prompt), other.template.hash)) == {"M7"}
    assert ids(serve_prefix_equal(r, done, lambda g: other.prompt(g.prompt))) == {"M7"}


def test_M8_default_system_prompt() -> None:
    default = "{{ '<|im_start|>system\\nYou are the very helpful Bob.<|im_end|>\\n' }}" + CHATML
    assert findings(renderer(source=default), rows()[:1]) == {"M8"}


@pytest.mark.parametrize("times", ["", "m.content + m.content"])
def test_M8_system_text_lost_or_doubled(times: str) -> None:
    row = Group(
        prompt=(Message("system", "Be brief and kind."), user("hi")), responses=(Response(turns=(assistant("ok"),)),)
    )
    assert findings(renderer(), [row]) == set()
    source = CHATML.replace("m.content +", f"({times or repr('')} if m.role == 'system' else m.content) +")
    assert findings(renderer(source=source), [row]) == {"M8"}


def test_M9_reward_model_with_other_ids() -> None:
    r = renderer()
    done, _ = rendering(r, rows())
    assert rm_same_ids(r, done, lambda g, x: [*g.prompt_tokens, *x.tokens]) == []
    assert ids(rm_same_ids(r, done, lambda g, x: [*g.prompt_tokens, *x.tokens][:-1])) == {"M9"}


def test_finding_says_how_bad_and_what_to_do() -> None:
    with pytest.raises(ValueError, match="accepted: error"):
        Finding("T1", "fatal", "x", "y")  # type: ignore[arg-type]
    assert str(Finding("T1", "error", "No stop.", "Add eos.", "7")) == "T1 error (row 7): No stop. Fix: Add eos."
    assert Template("own", "x").hash != Template("own", "y").hash
