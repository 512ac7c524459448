"""Texts to tokens for task heads: exactly what the tokenizer gives when anyone calls it, split into prompt and response.

A text alone is its tokenizer's opening token (the prompt) and the rest (the response); a question with a text is a pair, the question being
the prompt. No chat template takes part, so pipelines that load the result see the same ids. A causal tokenizer that opens or closes
nothing is told to put its bos (or eos) in front and its eos behind, and is saved so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from posttrain.core.group import Group, Response

Encoded = tuple[list[int], list[int], np.ndarray]


def settle_texts(tokenizer: Any) -> str | None:
    """Make plain calls of a tokenizer open and close every text. Returns a note where something was changed."""
    from tokenizers.processors import TemplateProcessing

    if len(tokenizer("")["input_ids"]) >= 2 and tokenizer.cls_token_id is not None:
        return None
    eos = tokenizer.eos_token
    opening = tokenizer.bos_token or eos
    if eos is None:
        raise ValueError(f"{tokenizer.name_or_path}: the tokenizer has neither cls and sep nor an eos token")
    ids = [(opening, tokenizer.convert_tokens_to_ids(opening)), (eos, tokenizer.convert_tokens_to_ids(eos))]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{opening} $A {eos}", pair=f"{opening} $A {eos} $B {eos}", special_tokens=list(dict.fromkeys(ids))
    )
    return f"texts open with {opening} and close with {eos}; the saved tokenizer does so by itself"


class TextRenderer:
    """Renders groups whose responses are texts, with the characters behind each token.

    max_tokens: limit on prompt + response. overlong: ``stop`` raises, ``drop`` leaves the group out and counts it; nothing is cut, as
    a cut text could lose what its marks point at.
    """

    def __init__(
        self, tokenizer: Any, max_tokens: int | None = None, overlong: Literal["stop", "drop"] = "stop"
    ) -> None:
        if not tokenizer.is_fast:
            raise ValueError(f"{tokenizer.name_or_path}: task heads need a fast tokenizer (tokenizer.json)")
        self.tokenizer, self.max_tokens, self.overlong = tokenizer, max_tokens, overlong
        self.counts: Counter[str] = Counter()

    def render(self, group: Group) -> Group | None:
        """The group with `prompt_tokens`, and each response's `tokens`, `trained` (all of them) and `offsets`. None where dropped."""
        prompts: list[list[int]] = []
        made: list[Response] = []
        for response in group.responses:
            prompt, ids, offsets = self.encode(group.prompt_text if group.prompt else None, response.text)
            prompts.append(prompt)
            made.append(
                replace(
                    response,
                    tokens=np.asarray(ids, dtype=np.int64),
                    trained=np.ones(len(ids), dtype=bool),
                    offsets=offsets,
                )
            )
        longest = max((len(p) + len(r.tokens) for p, r in zip(prompts, made) if r.tokens is not None), default=0)
        if self.max_tokens is not None and longest > self.max_tokens:
            if self.overlong == "stop":
                raise ValueError(
                    f"{group.place}: {longest} tokens, the limit is {self.max_tokens}; raise max_tokens or set overlong to drop"
                )
            self.counts["dropped"] += 1
            self.counts["dropped: too long"] += 1
            return None
        assert all(p == prompts[0] for p in prompts)
        self.counts["kept"] += 1
        return replace(group, prompt_tokens=np.asarray(prompts[0], dtype=np.int64), responses=tuple(made))

    def render_many(self, groups: Iterable[Group]) -> Iterator[Group]:
        """`render` over a stream; dropped groups are left out."""
        for group in groups:
            made = self.render(group)
            if made is not None:
                yield made

    def encode(self, question: str | None, text: str) -> Encoded:
        """(prompt ids, response ids, offsets of the response in `text`)."""
        pair = (text,) if question is None else (question, text)
        out = self.tokenizer(*pair, return_offsets_mapping=True, truncation=False, verbose=False)
        parts = out.sequence_ids()
        begin = 1 if question is None else next((i for i, p in enumerate(parts) if p == 1), len(parts) - 1)
        offsets = np.asarray(out["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        mine = len(pair) - 1
        offsets = np.where(np.asarray([p == mine for p in parts])[:, None], offsets, 0)
        offsets = _without_leading_space(offsets, text)
        return out["input_ids"][:begin], out["input_ids"][begin:], offsets[begin:]


def _without_leading_space(offsets: np.ndarray, text: str) -> np.ndarray:
    """Byte-level tokenizers count the space before a word to it; marks begin at the word."""
    made = offsets.copy()
    for i, (start, end) in enumerate(offsets.tolist()):
        while start < end and text[start].isspace():
            start += 1
        if start < end:
            made[i, 0] = start
    return made
