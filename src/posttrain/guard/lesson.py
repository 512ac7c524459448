"""The shapes in which lessons write decoding-time safety, kept working: `guided_decoding`, `ban_token_ids`, `apply_safety_vector`.

They run on a plain `transformers` model, with its cache, so that a token costs one token and not the whole prefix again. For bans that
hold under every tokenisation use `Bans`; for strengths that were measured use `calibrate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


def guided_decoding(
    model: Any,
    input_ids: Tensor,
    guidance_fn: Callable[[Tensor], Tensor],
    max_new_tokens: int = 64,
    stop_ids: Iterable[int] = (),
    temperature: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """Ids [1, T + new] of one prompt continued, `guidance_fn` applied to the next-token logits [1, V] at every step.

    temperature 0 takes the likeliest token. Raises ValueError where the function forbids everything or gives NaN.
    """
    if input_ids.ndim != 2 or input_ids.shape[0] != 1 or not input_ids.shape[1]:
        raise ValueError(f"input_ids must have shape [1, T], got {list(input_ids.shape)}")
    stops = set(stop_ids)
    draw = torch.Generator(device=input_ids.device).manual_seed(seed)
    ids, feed, cache = input_ids, input_ids, None
    with torch.no_grad():
        for _ in range(max_new_tokens):
            out = model(input_ids=feed, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            logits = guidance_fn(out.logits[:, -1].float())
            if not bool(torch.isfinite(logits.amax())):
                raise ValueError("guidance_fn left no token that may be drawn, or gave NaN")
            if temperature == 0:
                feed = logits.argmax(-1, keepdim=True)
            else:
                feed = torch.multinomial((logits / temperature).softmax(-1), 1, generator=draw)
            ids = torch.cat([ids, feed], dim=1)
            if int(feed) in stops:
                break
    return ids


def ban_token_ids(ids: Iterable[int]) -> Callable[[Tensor], Tensor]:
    """A guidance function that forbids these ids: the plain form, which other spellings of the same text get around."""
    banned = sorted(set(ids))

    def forbid(logits: Tensor) -> Tensor:
        return logits.index_fill(-1, torch.tensor(banned, device=logits.device, dtype=torch.long), -torch.inf)

    return forbid


def safety_vector(safe: Tensor, unsafe: Tensor) -> Tensor:
    """The lesson's vector: mean hidden state of safe answers minus that of unsafe ones, [n, d] and [m, d] to [d]."""
    return safe.mean(0) - unsafe.mean(0)


def apply_safety_vector(hidden_states: Tensor, vector: Tensor, strength: float = 1.0) -> Tensor:
    """`hidden_states + strength * vector` at every position, the raw form without scale."""
    return hidden_states + strength * vector.to(hidden_states.dtype)
