"""Drawing the next token of every row from its logits.

Each row has its own settings (`Sampling`), key and position; a draw reads one uniform number that depends on (key, position) alone,
so a row's tokens never depend on the rows beside it. Inverse-CDF over two levels (blocks of the vocabulary, then inside a block):
the same law as an exponential race, with one random number per token instead of one per vocabulary entry.

Order for a row: repetition penalty, bans and `Steer`, then temperature, top-k, top-p, min-p. `logp` is read before all of it except
the temperature, `sampled_logp` after it. A greedy row (temperature 0) reports both at temperature 1. Ties at a top-k or top-p border
are kept. Leaves out beam search and typical sampling.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posttrain.core.protocols import Sampling, Steer

BLOCK = 64
NUCLEUS = 256  # top-p first looks at this many tokens; only a flatter distribution pays for a full sort
SPARSE = 1e-4  # a mask that leaves less probability than this is applied to the logits, where small numbers keep their digits
NOTHING = "every token is forbidden for a row: loosen its steer mask, its stop ids or min_tokens"


def row_key(prompt: Sequence[int], seed: int, index: int) -> int:
    """64-bit key of sample `index` of a prompt: a hash of (prompt ids, seed, index)."""
    digest = hashlib.blake2b(np.asarray(prompt, dtype=np.int64).tobytes(), digest_size=8)
    digest.update(f"{seed}:{index}".encode())
    return int.from_bytes(digest.digest(), "little")


def uniform(keys: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """One number in [0, 1) per row [B] float64 from (key uint64, position): the splitmix64 finaliser on key + position * golden ratio.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
    """
    z = keys + (positions.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def pick(weights: Tensor, u: Tensor) -> Tensor:
    """Indices [B] with probability proportional to non-negative `weights` [B, V], given uniforms `u` [B] float64.

    An entry of weight 0 is never returned.
    """
    rows, vocabulary = weights.shape
    if vocabulary % BLOCK:
        weights = torch.nn.functional.pad(weights, (0, BLOCK - vocabulary % BLOCK))
    blocks = weights.view(rows, -1, BLOCK)
    outer = blocks.sum(-1).double().cumsum(-1)
    target = u.unsqueeze(1) * outer[:, -1:]
    block = (outer <= target).sum(-1, keepdim=True).clamp_(max=outer.shape[1] - 1)
    before = torch.where(block > 0, outer.gather(1, (block - 1).clamp(min=0)), 0.0)
    inside = blocks.gather(1, block.unsqueeze(-1).expand(-1, -1, BLOCK)).squeeze(1).double().cumsum(-1)
    # The remainder stays strictly below the block's sum, so that rounding cannot run past its last positive entry.
    target = torch.minimum(target - before, inside[:, -1:] * (1 - 1e-12)).clamp_(min=0.0)
    return (block * BLOCK).squeeze(1) + (inside <= target).sum(-1)


def truncate(probs: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    """`probs` [B, V] with everything outside top-k, then top-p, then min-p set to 0, and renormalised.

    top_k [B] long (0 = off), top_p [B] (1 = off), min_p [B] relative to the largest probability (0 = off). The best token always stays.
    """
    vocabulary = probs.shape[-1]
    floor = probs.amax(-1) * min_p
    nucleus = bool((top_p < 1).any())
    width = min(vocabulary, max(int(top_k.max()), NUCLEUS if nucleus else 0))
    if width:
        best = probs.topk(width, dim=-1).values
        k = torch.where(top_k > 0, top_k.clamp(max=vocabulary), vocabulary)
        if nucleus and width < vocabulary:
            enough = (best.sum(-1) >= top_p) | (k <= width) | (top_p >= 1)
            if not bool(enough.all()):
                best, width = probs.sort(-1, descending=True).values, vocabulary
        capped = k <= width
        kth = best.gather(1, (k.clamp(max=width) - 1).unsqueeze(1)).squeeze(1)
        floor = torch.where(capped, torch.maximum(floor, kth), floor)
        if nucleus:
            rank = torch.arange(width, device=probs.device)
            kept = torch.where(rank < k.unsqueeze(1), best, 0.0)
            mass = torch.where(capped, kept.sum(-1), 1.0)
            inside = (kept.cumsum(-1) - kept) < (top_p * mass).unsqueeze(1)
            inside[:, 0] = True
            last = inside.sum(-1, keepdim=True).clamp(max=width) - 1
            limit = best.gather(1, torch.minimum(last, (k.unsqueeze(1) - 1).clamp(max=width - 1))).squeeze(1)
            floor = torch.where(top_p < 1, torch.maximum(floor, limit), floor)
    kept = torch.where(probs >= floor.unsqueeze(1), probs, 0.0)
    return kept / kept.sum(-1, keepdim=True)


@dataclass(slots=True)
class Chooser:
    """How one row draws: its settings, random key, number of tokens so far, and what it has seen.

    seen: bool [V], only under a repetition penalty. steer, state: decoding-time control and its state. stop_ids: banned before
    `min_tokens`.
    """

    sampling: Sampling
    key: int
    stop_ids: Tensor
    drawn: int = 0
    seen: Tensor | None = None
    steer: Steer | None = None
    state: Any = None

    @property
    def shaped(self) -> bool:
        """Does this row need more than temperature and a mask at this position?"""
        s = self.sampling
        return (
            s.top_p < 1
            or s.top_k > 0
            or s.min_p > 0
            or s.repetition_penalty != 1
            or self.drawn < s.min_tokens
            or (self.steer is not None and s.temperature == 0)
        )

    def bend(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """(logits [V] after penalty, stop ids and steering, before the temperature; the mask of `Steer`, None where all are allowed)."""
        s = self.sampling
        if self.seen is not None:
            lowered = torch.where(logits < 0, logits * s.repetition_penalty, logits / s.repetition_penalty)
            logits = torch.where(self.seen, lowered, logits)
        if self.drawn < s.min_tokens:
            logits = logits.index_fill(0, self.stop_ids, -torch.inf)
        if self.steer is None:
            return logits, None
        logits = self.steer.adjust(self.state, logits)
        mask = self.steer.mask(self.state)
        return logits, None if mask is None else mask.to(logits.device)

    def advance(self, token: int) -> None:
        """Take note of the token that was drawn."""
        self.drawn += 1
        if self.seen is not None:
            self.seen[token] = True
        if self.steer is not None:
            self.state = self.steer.advance(self.state, token)


def _log_at(logits: Tensor, peaks: Tensor, ids: Tensor) -> list[float]:
    """log softmax(logits) at `ids` [B], from the largest probability of each row: the normaliser is max(logits) - log(peak).

    The logarithms are taken one by one: the last bit of a vector's depends on where in the vector it lies.
    """
    chosen = logits.gather(1, ids.unsqueeze(1)).squeeze(1).tolist()
    rows = zip(chosen, logits.amax(-1).tolist(), peaks.tolist(), strict=True)
    return [at - (top - math.log(p)) for at, top, p in rows]


def draw(logits: Tensor, choosers: Sequence[Chooser]) -> tuple[list[int], list[float], list[float]]:
    """Tokens, `logp` and `sampled_logp` of each row of float32 `logits` [B, V], B = number of choosers. `logits` is overwritten."""
    device = logits.device
    bent, masks = _wishes(logits, choosers)
    rows = torch.stack(list(bent.values())) if bent else None
    heat = [c.sampling.temperature or 1.0 for c in choosers]
    if any(t != 1.0 for t in heat):
        logits /= torch.tensor(heat, device=device).unsqueeze(1)
    probs = logits.softmax(-1)
    peaks = probs.amax(-1)
    scores, weights, mass = logits, probs, _mask(probs, logits, masks)
    if rows is not None:
        rows, kept = _shape(rows, [choosers[i] for i in bent])
        at = torch.tensor(list(bent), device=device)
        scores, weights = logits.index_copy(0, at, rows), probs.index_copy(0, at, kept)
        mass |= dict.fromkeys(bent, 1.0)
    greedy = [i for i, c in enumerate(choosers) if c.sampling.temperature == 0]
    if len(greedy) < len(choosers):
        keys = np.array([c.key for c in choosers], dtype=np.uint64)
        u = torch.from_numpy(uniform(keys, np.array([c.drawn for c in choosers]))).to(device)
        ids = pick(weights, u)
        if greedy:
            ids[greedy] = scores[greedy].argmax(-1)
    else:
        ids = scores.argmax(-1)
    tokens, before = ids.tolist(), _log_at(logits, peaks, ids)
    after = list(before)
    if mass:
        drawn = weights.gather(1, ids.unsqueeze(1)).squeeze(1).tolist()
        for i, total in mass.items():
            after[i] = math.log(drawn[i] / total) if drawn[i] else -math.inf
    return tokens, before, after


def _wishes(logits: Tensor, choosers: Sequence[Chooser]) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Rows whose logits change, as they then are, and the masks of the rows that ask for nothing but a mask."""
    bent: dict[int, Tensor] = {}
    masks: dict[int, Tensor] = {}
    for i, c in enumerate(choosers):
        shaped = c.shaped
        if c.steer is None and not shaped:
            continue
        if not shaped and getattr(c.steer, "only_forbids", False):
            ids = c.steer.forbid(c.state)  # type: ignore[union-attr]
            if ids is not None:
                masks[i] = ids
            continue
        row = logits[i]
        made, mask = c.bend(row)
        if shaped or made is not row:
            bent[i] = made if mask is None else _without(made, mask)
        elif mask is not None:
            masks[i] = mask
    return bent, masks


def _without(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits [V] with what the mask forbids at -inf."""
    if mask.dtype == torch.bool:
        return logits.masked_fill(~mask, -torch.inf)
    return logits.index_fill(0, mask, -torch.inf)


def _mask(probs: Tensor, logits: Tensor, masks: dict[int, Tensor]) -> dict[int, float]:
    """Set what is forbidden to 0 in rows of `probs`, in place, and return what is left of each: no second softmax is needed for a ban.

    Rows that forbid ids are treated together, as places of one long row.
    """
    left: dict[int, float] = {}
    for i, mask in masks.items():
        if mask.dtype == torch.bool:
            probs[i] *= mask
            left[i] = float(probs[i].sum())
    told = [(i, ids) for i, ids in masks.items() if ids.dtype != torch.bool and len(ids)]
    if told:
        width, flat = probs.shape[1], probs.view(-1)
        at = np.concatenate([ids.cpu().numpy() + i * width for i, ids in told])
        if flat.is_cpu:  # the same memory, and small steps are cheaper there
            row = flat.numpy()
            taken, row[at] = row[at], 0.0
        else:
            places = torch.from_numpy(at).to(flat.device)
            taken = flat[places].cpu().numpy()
            flat[places] = 0.0
        starts = np.cumsum([0, *(len(ids) for _, ids in told[:-1])])
        gone = np.add.reduceat(taken, starts, dtype=np.float64).tolist()
        left |= {i: 1.0 - part for (i, _), part in zip(told, gone, strict=True)}
    for i, rest in left.items():
        # Far from 1 the difference has too few digits: it is summed.
        left[i] = rest if rest > 0.5 or masks[i].dtype == torch.bool else float(probs[i].sum())
        if left[i] <= SPARSE:
            kept = _without(logits[i], masks[i])
            if float(kept.amax()) == -torch.inf:
                raise ValueError(NOTHING)
            probs[i] = kept.softmax(-1)
            left[i] = 1.0
    return left


def _shape(rows: Tensor, choosers: Sequence[Chooser]) -> tuple[Tensor, Tensor]:
    """(scores for greedy rows, probabilities to draw from) of rows that were bent, after temperature and truncation."""
    device = rows.device
    if bool((rows.amax(-1) == -torch.inf).any()):
        raise ValueError(NOTHING)
    rows = rows / torch.tensor([c.sampling.temperature or 1.0 for c in choosers], device=device).unsqueeze(1)
    # A greedy row takes the best token anyway; truncating it would only hide its probability.
    cut = [c.sampling if c.sampling.temperature > 0 else Sampling() for c in choosers]
    kept = rows.softmax(-1)
    if any(s.top_k > 0 or s.top_p < 1 or s.min_p > 0 for s in cut):
        kept = truncate(
            kept,
            torch.tensor([s.top_k for s in cut], device=device),
            torch.tensor([s.top_p for s in cut], device=device),
            torch.tensor([s.min_p for s in cut], device=device),
        )
    return rows, kept
