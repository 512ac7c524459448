"""Groups of messages to groups of tokens, with a flag on each token that the policy is trained on.

One renderer serves training, sampling, reward models and judges. A prompt is the template's text with the opening of an assistant
turn; response ids are *appended* to the prompt's ids and never re-tokenised with them, as a sampler would produce them. The
assistant's span comes from the template's ``{% generation %}`` marks, else from the prefix difference of two renderings, checked
to contain the assistant's text; it ends with the stop token, which is trained. What the template writes after the last stop is
left off. Truncated answers get no stop token. Content is data: see `spell.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from posttrain.core.chat import Chat, Message
from posttrain.core.group import Group, Response
from posttrain.models.spell import Speller
from posttrain.models.template import Template, as_row, turn_ends

Mask = Literal["all", "last"]
Overlong = Literal["stop", "drop", "truncate"]
Piece = tuple[str, float]
"""Text of a response and the weight its tokens are trained with (0 = context)."""
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class _Plan:
    """A group's texts before tokenisation; None for a response that brought its own tokens."""

    prompt: str
    answers: tuple[tuple[Piece, ...] | None, ...]
    document: bool = False


class Renderer:
    """Renders groups for one tokenizer and template.

    mask: which assistant turns of a response are trained, subject to each `Message.weight` (0 = never). max_tokens: limit on
    prompt + response. overlong: ``stop`` raises, ``drop`` leaves the group out, ``truncate`` cuts the response without a stop
    token; all are counted in `counts` (kept, dropped, truncated and ``dropped: reason``). stops: ids that end an answer (None =
    eos and the template's turn end); use `Renderer.of` to take them from a loaded model.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: Template,
        mask: Mask = "all",
        max_tokens: int | None = None,
        overlong: Overlong = "stop",
        stops: Iterable[int] | None = None,
    ) -> None:
        if mask not in ("all", "last"):
            raise ValueError(f"mask {mask!r} is unknown; accepted: all, last (and Message.weight 0 for single turns)")
        if overlong not in ("stop", "drop", "truncate"):
            raise ValueError(f"overlong {overlong!r} is unknown; accepted: stop, drop, truncate")
        self.tokenizer, self.template = tokenizer, template
        self.mask, self.max_tokens, self.overlong = mask, max_tokens, overlong
        found = {tokenizer.eos_token_id, *turn_ends(tokenizer, template)} if stops is None else set(stops)
        self.stops = tuple(
            sorted(i for i in found if i is not None and (stops is not None or i != tokenizer.pad_token_id))
        )
        self.speller = Speller(tokenizer, template, self.stops)
        self.special = dict(tokenizer.special_tokens_map)
        self.counts: Counter[str] = Counter()

    @classmethod
    def of(
        cls, loaded: Any, mask: Mask = "all", max_tokens: int | None = None, overlong: Overlong = "stop"
    ) -> Renderer:
        """The renderer of a `Loaded` model, with its stop set."""
        return cls(loaded.tokenizer, loaded.template, mask, max_tokens, overlong, loaded.stops)

    def prompt_text(self, chat: Chat, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """What the model is shown before it answers, as text (content that spells a special token is guarded, see `spell`)."""
        return self._texts([chat], tools, prompt=True)[0][0]

    def prompt(self, chat: Chat, tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Ids of a prompt with the opening of the assistant's turn: the same in training, sampling and serving."""
        return self.speller.ids([self.prompt_text(chat, tools)])[0]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text of ids, special tokens written out."""
        return self.tokenizer.decode(list(map(int, ids)), skip_special_tokens=False)

    def render(self, group: Group) -> Group | None:
        """The group with `prompt_tokens` (int64) and each response's `tokens` (int64) and `trained`.

        trained is bool, or float32 weights where a `Message.weight` is neither 0 nor 1. A response that already has tokens
        (sampled) keeps them. None where an overlong group is dropped (counted). Raises ValueError naming the row.
        """
        return next(self.render_many([group], keep_dropped=True))

    def render_many(self, groups: Iterable[Group], keep_dropped: bool = False) -> Iterator[Group | None]:
        """`render` over a stream, tokenised in batches; dropped groups are left out, or None with `keep_dropped`."""
        chunk: list[Group] = []
        for group in groups:
            chunk.append(group)
            if len(chunk) == _CHUNK:
                yield from self._chunk(chunk, keep_dropped)
                chunk = []
        yield from self._chunk(chunk, keep_dropped)

    def _chunk(self, groups: list[Group], keep_dropped: bool) -> Iterator[Group | None]:
        plans = self._plans(groups)
        prompts = self.speller.ids([plan.prompt for plan in plans])
        jobs: list[tuple[str, str]] = []
        for plan in plans:
            for pieces in plan.answers:
                before = plan.prompt
                for text, _ in pieces or ():
                    jobs.append((before, text))
                    before = before + text if len(text) < 64 else text
        spelled = iter(self.speller.after(jobs))
        for group, plan, prompt in zip(groups, plans, prompts, strict=True):
            made = [None if p is None else [(next(spelled), weight) for _, weight in p] for p in plan.answers]
            done = self._assemble(group, np.asarray(prompt, dtype=np.int64), made)
            if done is not None or keep_dropped:
                yield done

    # --- texts -----------------------------------------------------------------------------------------------------

    def _texts(
        self, chats: Sequence[Chat], tools: Sequence[Mapping[str, Any]], prompt: bool
    ) -> list[tuple[str, tuple[tuple[int, int], ...]]]:
        rows = [[self.speller.guard(as_row(m), m.role) for m in chat] for chat in chats]
        return self.template.render(rows, self.special, [self.speller.guard(dict(t), "system") for t in tools], prompt)

    def _plans(self, groups: list[Group]) -> list[_Plan]:
        """Plans of a chunk: one template call for all prompts and one for all whole chats that share the (usual) lack of tools."""
        plans: list[_Plan | None] = [self._document(g) if _is_document(g) else None for g in groups]
        plain = [i for i, g in enumerate(groups) if plans[i] is None and not g.tools]
        for batch in ([plain] if plain else []) + [[i] for i, g in enumerate(groups) if plans[i] is None and g.tools]:
            for i, plan in zip(batch, self._chats([groups[i] for i in batch]), strict=True):
                plans[i] = plan
        return [plan for plan in plans if plan is not None]

    def _document(self, group: Group) -> _Plan:
        """BOS (or eos where there is none) is the prompt; text and eos are the response."""
        start = self.tokenizer.bos_token or self.tokenizer.eos_token
        answers = []
        for response in group.responses:
            text = "".join(self.speller.guard(m.content, "user") for m in response.turns)
            answers.append(None if response.tokens is not None else ((text, 1.0), (self.tokenizer.eos_token, 1.0)))
        return _Plan(start, tuple(answers), document=True)

    def _chats(self, groups: list[Group]) -> list[_Plan]:
        try:
            prompts = self._texts([g.prompt for g in groups], groups[0].tools, prompt=True)
            wholes = iter(
                self._texts(
                    [g.prompt + r.turns for g in groups for r in g.responses if r.tokens is None],
                    groups[0].tools,
                    prompt=False,
                )
            )
        except ValueError as error:
            if len(groups) == 1:
                raise ValueError(f"{groups[0].place}: {error}") from error
            return [plan for g in groups for plan in self._chats([g])]  # find and name the row at fault
        return [
            _Plan(
                p,
                tuple(
                    None if r.tokens is not None else self._pieces(g, p, r.turns, *next(wholes)) for r in g.responses
                ),
            )
            for g, (p, _) in zip(groups, prompts, strict=True)
        ]

    def _pieces(
        self, group: Group, prompt: str, turns: Chat, whole: str, marks: tuple[tuple[int, int], ...]
    ) -> tuple[Piece, ...]:
        """The response cut into trained and untrained text. Raises ValueError naming the row."""
        said = [k for k, turn in enumerate(turns) if turn.role == "assistant"]
        if not said or said[0] != 0:
            raise ValueError(
                f"{group.place}: a response must begin with an assistant turn; context belongs to the prompt"
            )
        trained = [k for k in said[0 if self.mask == "all" else -1 :] if turns[k].weight > 0]
        at = len(prompt) if whole.startswith(prompt) else self._own_start(group, turns[0], whole)
        marked = dict(zip(said, marks[-len(said) :], strict=True)) if len(marks) >= len(said) else {}
        pieces: list[Piece] = []
        for k in sorted({*trained, said[-1]}):
            start, end = self._span(group, turns, k, whole, at if k == 0 else None, marked.get(k))
            pieces.append((whole[at:start], 0.0))
            pieces.append((whole[start:end], float(turns[k].weight) if k in trained else 0.0))
            at = end
        if turns[-1].role != "assistant":
            pieces.append((whole[at:].rstrip(), 0.0))
        return tuple(p for p in pieces if p[0])

    def _span(
        self, group: Group, turns: Chat, k: int, whole: str, start: int | None, mark: tuple[int, int] | None
    ) -> tuple[int, int]:
        """[start, end) in characters of `whole` of assistant turn k; `start` is known for the first."""
        if start is None:
            opening = self._texts([group.prompt + turns[:k]], group.tools, prompt=True)[0][0]
            if not whole.startswith(opening):
                raise self._rewrites(group, k)
            start = len(opening)
        if mark is not None:
            start = max(start, mark[0])
        return start, self._end(group, turns, k, whole, start, mark)

    def _rewrites(self, group: Group, k: int) -> ValueError:
        return ValueError(
            f"{group.place}: template {self.template.name!r} rewrites earlier turns (seen at turn {k}), so they cannot be trained "
            "where serving shows them; use mask: last, or one row per answer"
        )

    def pieces(self, group: Group, response: Response) -> tuple[Piece, ...]:
        """The text of one response as it is tokenised, each part with the weight that its tokens are trained with."""
        plan = self._plans([group.with_responses([replace(response, tokens=None)])])[0]
        return plan.answers[0] or ()

    def _own_start(self, group: Group, turn: Message, whole: str) -> int:
        """Where the first answer begins when the whole chat does not continue the prompt: at its own text, counted as a mismatch."""
        self.counts["answers not a continuation of the prompt's rendering"] += 1
        closed = self._texts([group.prompt], group.tools, prompt=False)[0][0] if group.prompt else ""
        shared = _common(closed, whole)
        at = whole.find(_kept(self.speller.guard(turn.content, "assistant")), shared)
        if at < 0:
            raise ValueError(f"{group.place}: template {self.template.name!r} does not keep the assistant's text")
        return at

    def _end(self, group: Group, turns: Chat, k: int, whole: str, start: int, mark: tuple[int, int] | None) -> int:
        """Where turn k ends: after its first stop token, else with the last character that the template gives it."""
        text = _kept(self.speller.guard(turns[k].content, "assistant"))
        at = whole.find(text, start) if text else start
        if at < 0 and k < len(turns) - 1:
            raise self._rewrites(group, k)
        if at < 0:
            raise ValueError(f"{group.place}: template {self.template.name!r} does not keep the assistant's text")
        stop = self.speller.stop.search(whole, at + len(text))
        limit = len(whole)
        if k + 1 < len(turns):
            following = whole.find(_kept(self.speller.guard(turns[k + 1].content, turns[k + 1].role)), at + len(text))
            limit = following if following > at else limit
        if stop and stop.start() < limit and not self.speller.opener.search(whole, at + len(text), stop.start()):
            return stop.end()
        self.counts["assistant turns without a stop token"] += 1
        return mark[1] if mark is not None else at + len(text)

    # --- tokens ----------------------------------------------------------------------------------------------------

    def _assemble(
        self, group: Group, prompt: np.ndarray, answers: list[list[tuple[list[int], float]] | None]
    ) -> Group | None:
        responses: list[Response] = []
        cut = 0
        for response, pieces in zip(group.responses, answers, strict=True):
            if pieces is None:
                responses.append(response)
                continue
            tokens = np.array([i for ids, _ in pieces for i in ids], dtype=np.int64)
            trained = _flags(pieces)
            excess = 0 if self.max_tokens is None else len(prompt) + len(tokens) - self.max_tokens
            if excess > 0:
                if self.overlong == "stop":
                    raise ValueError(
                        f"{group.place}: {len(prompt) + len(tokens)} tokens, the limit is {self.max_tokens}; raise max_tokens, or "
                        "set overlong to drop or truncate"
                    )
                if self.overlong == "drop":
                    return self._dropped("too long")
                if excess >= len(tokens) or not trained[:-excess].any():
                    return self._dropped("too long: no trained token is left")
                tokens, trained, cut = tokens[:-excess], trained[:-excess], cut + 1
                response = replace(response, stop="length")
            responses.append(replace(response, tokens=tokens, trained=trained))
        if self.max_tokens is not None and not responses and len(prompt) >= self.max_tokens:
            if self.overlong == "stop":
                raise ValueError(
                    f"{group.place}: a prompt of {len(prompt)} tokens leaves no room below {self.max_tokens}"
                )
            return self._dropped("prompt too long")
        self.counts["kept"] += 1
        self.counts["truncated"] += cut
        return replace(group, prompt_tokens=prompt, responses=tuple(responses))

    def _dropped(self, reason: str) -> Group | None:
        self.counts["dropped"] += 1
        self.counts[f"dropped: {reason}"] += 1
        return None


def _flags(pieces: list[tuple[list[int], float]]) -> np.ndarray:
    """Per-token flags: bool, or float32 where a weight is neither 0 nor 1."""
    flags = [w for ids, w in pieces for w in [w] * len(ids)]
    whole = all(w in (0.0, 1.0) for _, w in pieces)
    return np.array(flags, dtype=np.bool_ if whole else np.float32)


def _is_document(group: Group) -> bool:
    return (
        bool(group.responses)
        and all(m.role == "document" for r in group.responses for m in r.turns)
        and not group.prompt
    )


def _kept(text: str) -> str:
    """The part of an assistant's text that templates repeat verbatim: after an inline trace of thought, without outer spaces."""
    return text.rsplit("</think>", 1)[-1].strip()


def _common(a: str, b: str) -> int:
    """Length of the longest common prefix."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
