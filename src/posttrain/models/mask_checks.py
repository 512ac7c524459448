"""Checks of masks and templates before step 1: M1-M9 of the pitfalls list.

They judge rendered groups by decoding or by rendering anew, not by the code that made them. What the model is trained on must be the
assistant's words and a stop, behind exactly the prompt that serving shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import numpy as np

from posttrain.core.chat import Message
from posttrain.core.finding import Finding
from posttrain.core.group import Group, Response
from posttrain.models.render import Renderer
from posttrain.models.token_checks import Ids, answers, found_on, is_document, runs


def _spoken(renderer: Renderer, response: Response) -> list[Message]:
    """The assistant turns that should be trained, in order."""
    said = [m for m in response.turns if m.role == "assistant"]
    return [m for m in (said[-1:] if renderer.mask == "last" else said) if m.weight > 0]


def mask_extremes(groups: Iterable[Group]) -> list[Finding]:
    """M1: something is trained in each row, and turns of others are not all trained (documents excepted)."""
    empty, full = [], []
    for group, response, _, trained in answers(groups):
        if is_document(response):
            continue
        if not np.any(trained):
            if any(m.role == "assistant" and m.weight > 0 for m in response.turns):
                empty.append(group.id)
        elif len(response.turns) > 1 and np.all(trained):
            full.append(group.id)
    fix = "Mark the assistant's span with {% generation %} in the template."
    found = found_on("M1", "error", empty, "No token of the answer is trained.", fix)
    return found + found_on("M1", "error", full, "Every token is trained, the turns of others too.", fix)


def mask_includes_stop(renderer: Renderer, groups: Iterable[Group]) -> list[Finding]:
    """M2: no stop token stands right behind a trained answer with its flag off."""
    bad = [
        group.id
        for group, _, tokens, trained in answers(groups)
        if any(b < len(tokens) and tokens[b] in renderer.stops for _, b in runs(trained))
    ]
    return found_on("M2", "error", bad, "The stop token falls outside the mask.", "Move it inside {% generation %}.")


def _lead(renderer: Renderer) -> str:
    """What the template writes between the opening and an answer's text (a space, an empty trace of thought)."""
    probe = "Zq9probe"
    made = renderer.render(
        Group(prompt=(Message("user", "hi"),), responses=(Response(turns=(Message("assistant", probe),)),))
    )
    if made is None or made.responses[0].tokens is None:
        return ""
    return renderer.decode(made.responses[0].tokens).split(probe)[0]


def mask_decodes_to_answer(renderer: Renderer, groups: Iterable[Group]) -> list[Finding]:
    """M3: the trained tokens, decoded, are the assistant's text and a stop, no character more or less (outer spaces apart)."""
    bad = []
    lead: str | None = None
    for group, response, tokens, trained in answers(groups):
        spoken = _spoken(renderer, response)
        stretches = runs(trained)
        if is_document(response) or response.stop == "length" or len(spoken) != len(stretches):
            continue
        lead = _lead(renderer) if lead is None else lead
        for message, (start, end) in zip(spoken, stretches, strict=True):
            ids = list(tokens[start:end])
            if ids and ids[-1] in renderer.stops:
                ids.pop()
            if not _says(renderer, renderer.decode(ids), message, lead):
                bad.append(group.id)
                break
    found = found_on(
        "M3", "error", bad, "Trained tokens do not decode to the answer.", "Check the template's assistant branch."
    )
    return found + traces_written(renderer, groups)


def traces_written(renderer: Renderer, groups: Iterable[Group]) -> list[Finding]:
    """M3: a reasoning trace of an answer's last turn is among its tokens (templates drop earlier ones on purpose)."""
    lost = []
    for group, response, tokens, _ in answers(groups):
        last = next((m for m in reversed(response.turns) if m.role == "assistant"), None)
        trace = last.thinking.strip() if last is not None and last.thinking else ""
        if trace and response.stop != "length" and trace not in renderer.decode(list(tokens)):
            lost.append(group.id)
    fix = "Take a template that writes reasoning_content, or strip the traces (sample: thinking: strip) and accept M3."
    return found_on("M3", "warning", lost, "The template leaves reasoning traces out.", fix)


def _says(renderer: Renderer, text: str, message: Message, lead: str) -> bool:
    content = message.content.strip()
    if message.tool_calls or message.thinking or "</think>" in content:
        return content.rsplit("</think>", 1)[-1].strip() in text
    said = text.removeprefix(lead).strip()
    if said == content:
        return True
    spelled = renderer.speller.ids([renderer.speller.guard(content, "assistant")])[0]
    return said in (renderer.decode(spelled).strip(), renderer.decode(spelled).removeprefix(lead).strip())


def prefix_preserving(renderer: Renderer, groups: Iterable[Group]) -> list[Finding]:
    """M4: at each trained turn, what stands before it is what serving would show the model there."""
    bad = []
    for group, response, tokens, trained in answers(groups):
        said = [k for k, m in enumerate(response.turns) if m.role == "assistant"]
        chosen = [k for k in (said[-1:] if renderer.mask == "last" else said) if response.turns[k].weight > 0]
        stretches = runs(trained)
        if len(said) < 2 or len(chosen) != len(stretches) or group.prompt_tokens is None:
            continue
        for k, (start, _) in zip(chosen, stretches, strict=True):
            before = renderer.decode([*group.prompt_tokens, *tokens[:start]])
            if not before.startswith(renderer.decode(renderer.prompt(group.prompt + response.turns[:k], group.tools))):
                bad.append(group.id)
                break
    return found_on("M4", "error", bad, "Turn by turn is not the whole: a turn is trained behind another prompt than serving's.",
                  "Train with mask: last, or use a template that keeps earlier turns.")  # fmt: skip


def others_untrained(renderer: Renderer, groups: Iterable[Group]) -> list[Finding]:
    """M5: the text of tool and user turns stands among the untrained tokens."""
    bad = []
    for group, response, tokens, trained in answers(groups):
        heard = [m.content.strip() for m in response.turns if m.role not in ("assistant", "document")]
        if not any(heard) or np.all(trained):
            continue
        outside = np.flatnonzero(~(np.asarray(trained) > 0))
        parts = np.split(outside, np.flatnonzero(np.diff(outside) > 1) + 1)
        text = "\n".join(renderer.decode(tokens[p]) for p in parts)
        if any(renderer.decode(renderer.speller.ids([h])[0]).strip() not in text and h not in text for h in heard if h):
            bad.append(group.id)
    return found_on("M5", "error", bad, "Text of a tool or a user is trained as if the model had written it.",
                  "Give those turns the role tool or user; check the template's marks.")  # fmt: skip


def append_only(renderer: Renderer, groups: Iterable[Group]) -> list[Finding]:
    """M6: prompt ids are serving's prompt ids; where the tokenizer would merge across the border, that is said."""
    cut, merged = [], []
    for group in groups:
        if group.prompt_tokens is None or not group.prompt:
            continue
        if not np.array_equal(group.prompt_tokens, renderer.prompt(group.prompt, group.tools)):
            cut.append(group.id)
            continue
        text = renderer.prompt_text(group.prompt, group.tools)
        for response in group.responses:
            if len(response.turns) != 1 or response.tokens is None or response.stop is not None:
                continue
            pieces = renderer.pieces(group, response)
            joint = renderer.speller.ids([text + "".join(p for p, _ in pieces)])[0]
            if joint != [*group.prompt_tokens, *response.tokens]:
                merged.append(group.id)
                break
    found = found_on(
        "M6", "error", cut, "The prompt's ids are not those that serving shows.", "Append answers to the prompt's ids."
    )
    message = "Tokenised together, prompt and answer merge at their border; ids are appended, as in sampling."
    return found + found_on("M6", "info", merged, message, "Nothing to do, unless the model was trained on merged ids.")


def serve_prefix_equal(
    renderer: Renderer, groups: Iterable[Group], serve: Callable[[Group], Ids], hash: str | None = None
) -> list[Finding]:
    """M7: serving's prompt ids equal training's on 3 rows, and its template has the hash trained with.

    serve: prompt ids of a group as the serving side makes them.
    """
    fix = "Serve with the template saved in the model's directory."
    if hash is not None and hash != renderer.template.hash:
        return [Finding("M7", "error", f"Trained with template {renderer.template.hash}, served with {hash}.", fix)]
    some = [g for g in groups if g.prompt_tokens is not None and g.prompt][:3]
    bad = [g.id for g in some if _ints(serve(g)) != _ints(g.prompt_tokens)]
    return found_on("M7", "error", bad, "Serving shows other prompt ids than training.", fix)


def _ints(ids: Ids | None) -> list[int]:
    return [] if ids is None else [int(i) for i in ids]


_ROLE_WORDS = frozenset(
    (
        "system",
        "user",
        "assistant",
        "tool",
        "model",
        "human",
        "ai",
        "bot",
        "header",
        "inst",
        "im",
        "start",
        "end",
        "of",
        "turn",
    )
)
"""Words of turn headers, which are no injected text."""


def default_system(renderer: Renderer, groups: Iterable[Group]) -> list[Finding]:
    """M8: text that the template puts before the first user turn is shown; a system text stands in the prompt once."""
    found = []
    probe = "Zq9probe"
    try:
        text = renderer.prompt_text((Message("user", probe),)).split(probe)[0]
    except ValueError:
        text = ""
    plain = renderer.speller.control.sub(" ", text)
    words = [w for w in re.findall(r"[^\W_]+", plain) if w.lower() not in _ROLE_WORDS]
    if len(words) > 2:
        message = f"Without a system message the template writes one: {' '.join(plain.split())[:160]!r}."
        found.append(Finding("M8", "warning", message, "Give rows a system message of their own, or accept M8."))
    lost, twice = [], []
    for group in groups:
        system = next((m.content.strip() for m in group.prompt if m.role == "system"), "")
        if len(system) < 12 or group.prompt_tokens is None:
            continue
        spelled = renderer.decode(renderer.speller.ids([renderer.speller.guard(system, "system")])[0]).strip()
        shown = renderer.decode(group.prompt_tokens)
        elsewhere = sum(m.content.count(system) for m in group.prompt if m.role != "system")
        times = shown.count(spelled) - elsewhere
        inside = any(
            spelled in renderer.decode(r.tokens) and system not in "".join(m.content for m in r.turns)
            for r in group.responses
            if r.tokens is not None
        )
        if times > 1 or inside:
            twice.append(group.id)
        elif times < 1:
            lost.append(group.id)
    found += found_on(
        "M8", "error", twice, "The system text stands twice, or in the answer.", "Render the whole chat at once."
    )
    return found + found_on(
        "M8", "error", lost, "The template drops the system message.", "Move it into the first user turn."
    )


def rm_same_ids(renderer: Renderer, groups: Iterable[Group], scored: Callable[[Group, Response], Ids]) -> list[Finding]:
    """M9: a reward model reads the ids that were trained, stop token included. scored: ids it is given, prompt and answer."""
    bad = []
    for group, response, tokens, _ in answers(groups):
        ids = _ints(scored(group, response))
        if ids != [*_ints(group.prompt_tokens), *_ints(tokens)]:
            bad.append(group.id)
    return found_on("M9", "error", bad, "The reward model scores other ids than were trained (stop token lost, text re-encoded).",
                  "Score rendered groups with the same renderer.")  # fmt: skip
