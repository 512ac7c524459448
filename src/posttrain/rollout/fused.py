"""Decoder for Llama-like models: few operations per step, prompts computed and kept once.

A prompt is prefilled once. When several samples share it, its keys and values stay in one pool place and the queries of all its samples
attend to them together; each row keeps only its own tokens, and the two partial attentions are joined by their log-sum-exp:
`out = lerp(own, shared, sigmoid(lse_shared - lse_own))`. A prompt with one sample goes straight into that row's cache.

Live rows are always 0..live-1: a row that leaves is replaced by the last one. Caches grow in steps of 64 tokens up to `max_context`
and are then kept, so memory is bounded by slots x max_context and flat in a long run.

Batch independence: on CPU a row of a matrix product does not depend on the number of rows once there are four, nor an attention on masked
keys at the widths of `attention.key_width` (observed with MKL on AVX2, fp32, one thread; tests hold it). So at least four rows always run,
the extra ones as scratch, and a sample is the same, bit for bit, alone or in company. Elsewhere (more threads, CUDA, bf16) the last bits
may differ and flip a token now and then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from posttrain.rollout.attention import MIN_ROWS, Edit, attend, key_width, rounded
from posttrain.rollout.blocks import Blocks
from posttrain.rollout.native import Native
from posttrain.rollout.pages import zeros
from posttrain.rollout.plan import Plan, Prompt
from posttrain.rollout.weights import Decoder, Layer, read_decoder

ROUND = 16  # prompts are prefilled at multiples of this
GROW = 64
VECTOR = 16
PREFILL_TOKENS = 4096
MASKED = -1e30  # finite, so that a prompt wholly outside a sliding window gets weight 0 instead of NaN


class Fused:
    """Rows 0..live-1 of a Llama-like model. Raises ValueError when the model is not of that family. like: a decoder of the same model and
    context, whose copies of the weights serve both."""

    def __init__(self, model: Any, slots: int, max_context: int, like: Fused | None = None) -> None:
        self.slots, self.max_context = max(slots, MIN_ROWS), max_context
        self.refresh(model, like)
        w = self.weights
        self.device, self.dtype = w.embed.device, w.embed.dtype
        self.live = 0
        self.prompts: list[Prompt] = []  # of row i
        self.places: list[Prompt] = []  # of pool place i
        self.length = np.zeros(self.slots, dtype=np.int64)  # tokens in the row's own cache
        self.base = np.zeros(self.slots, dtype=np.int64)  # tokens in its shared prompt
        self.own = self._cache(self.slots, GROW)
        self.pool = self._cache(0, 0)
        self.moved = True  # rows or places changed since the last step
        self.edit: Edit | None = None
        self._seating: dict[str, Any] = {}

    def _cache(self, rows: int, tokens: int) -> Tensor:
        w = self.weights
        shape = len(w.layers), rows, 2 * w.kv_heads, tokens, w.head_dim
        # Zeros, not empty: masked keys are multiplied by weight 0, which a stray NaN would survive.
        return zeros(*shape, dtype=w.embed.dtype, device=w.embed.device)

    def refresh(self, model: Any, like: Fused | None = None) -> None:
        """Read the weights again, or take those that `like` has read; rows in flight go on with the new ones."""
        if like is not None:
            weights, native = like.weights, like.native
        else:
            read = read_decoder(model, rounded(self.max_context, ROUND))
            if read is None:
                raise ValueError(f"{type(model).__name__} is outside the fused family; use the generic decoder")
            weights, native = read, Native.of(read)
        self.weights: Decoder = weights
        self.native: Native | None = native
        self.blocks = Blocks(weights, native)

    def open(self, prompts: list[list[int]], shared: list[bool]) -> tuple[list[Prompt], Tensor]:
        """Prefill prompts. Returns a handle and the next-token logits [G, V] float32 of each, in order."""
        handles: list[Prompt | None] = [None] * len(prompts)
        hidden = torch.zeros(
            max(len(prompts), MIN_ROWS), self.weights.embed.shape[1], device=self.device, dtype=self.dtype
        )
        buckets: dict[int, list[int]] = {}
        for i, ids in enumerate(prompts):
            buckets.setdefault(rounded(len(ids), ROUND), []).append(i)
        for width, members in sorted(buckets.items()):
            step = max(1, PREFILL_TOKENS // width)
            for start in range(0, len(members), step):
                part = members[start : start + step]
                kv, last = self._prefill([prompts[i] for i in part], width)
                for j, i in enumerate(part):
                    handles[i] = Prompt(len(prompts[i]), kv[:, j, :, : len(prompts[i])])
                    hidden[i] = last[j]
        done = [h for h in handles if h is not None]
        for handle, share in zip(done, shared, strict=True):
            if share:
                self._place(handle)
        return done, self.blocks.logits(hidden)[: len(prompts)]

    def _prefill(self, prompts: list[list[int]], width: int) -> tuple[Tensor, Tensor]:
        w, n = self.weights, len(prompts)
        ids = torch.zeros(n, width, dtype=torch.long)
        for i, prompt in enumerate(prompts):
            ids[i, : len(prompt)] = torch.tensor(prompt)
        x = self.blocks.embed(ids.view(-1).to(self.device))
        turn = {name: table[:width].repeat(n, 1).unsqueeze(1) for name, table in w.rope.items()}
        kv = torch.empty(len(w.layers), n, 2 * w.kv_heads, width, w.head_dim, device=self.device, dtype=self.dtype)
        at = torch.arange(width, device=self.device)
        ends = [i * width + len(p) - 1 for i, p in enumerate(prompts)]
        for i, layer in enumerate(w.layers):
            q, fresh = self.blocks.project(layer, x, turn)
            kv[i] = fresh.view(n, width, 2 * w.kv_heads, w.head_dim).transpose(1, 2)
            if i == len(w.layers) - 1:
                break  # only the prompts' last tokens go on to the logits
            q = q.reshape(n, width, w.heads, w.head_dim).transpose(1, 2)
            k, v = kv[i, :, : w.kv_heads], kv[i, :, w.kv_heads :]
            windowed = 0 < layer.window < width
            mask = (at <= at[:, None]) & (at > at[:, None] - layer.window) if windowed else None
            o = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=not windowed, scale=w.scale, enable_gqa=w.heads != w.kv_heads
            )
            x = self.blocks.finish(layer, x, o.transpose(1, 2).reshape(n * width, -1))
            x = x if self.edit is None else self.edit(i, x, True)
        last = self._last(w.layers[-1], x, q, kv[-1], ends)
        return kv, last if self.edit is None else self.edit(len(w.layers) - 1, last, True)

    def _last(self, layer: Layer, x: Tensor, q: Tensor, kv: Tensor, ends: list[int]) -> Tensor:
        """The last block at the last token of each prompt alone: [n, d]. q [n * width, H, D], kv [n, 2 Hkv, width, D]."""
        w, n, width = self.weights, kv.shape[0], kv.shape[2]
        # At least four rows: from there on a row of a product does not depend on their number.
        rows = torch.tensor([*ends, *ends[:1] * (MIN_ROWS - n)], device=self.device)
        length = np.array([end - i * width for i, end in enumerate(ends)])
        seen = np.arange(width)[None] <= length[:, None]
        if layer.window:
            seen &= np.arange(width)[None] > length[:, None] - layer.window
        asked = q.index_select(0, rows[:n]).view(n, w.kv_heads, w.heads // w.kv_heads, w.head_dim)
        out, _ = attend(asked, kv[:, : w.kv_heads], kv[:, w.kv_heads :], self._mask(seen)[:, None, None], w.scale)
        attended = out.reshape(n, -1)
        attended = torch.cat([attended, attended[:1].expand(max(0, MIN_ROWS - n), -1)])
        return self.blocks.finish(layer, x.index_select(0, rows), attended)[:n]

    def _place(self, prompt: Prompt) -> None:
        """Give a prompt its place in the pool."""
        assert prompt.kv is not None, "a prompt is placed once, before its rows are seated"
        prompt.place = len(self.places)
        self.places.append(prompt)
        self.pool = self._grown(self.pool, len(self.places), key_width(prompt.length, MIN_ROWS))
        self.pool[:, prompt.place, :, : prompt.length] = prompt.kv
        prompt.kv, self.moved = None, True

    def close(self, prompt: Prompt) -> None:
        """No more rows of this prompt will be seated; its place is freed with its last row."""
        prompt.open = False
        self._sweep(prompt)

    def _sweep(self, prompt: Prompt) -> None:
        if prompt.open or prompt.rows or prompt.place < 0:
            return
        hole, last = prompt.place, self.places.pop()
        if last is not prompt:
            self.pool[:, hole, :, : last.length] = self.pool[:, last.place, :, : last.length]
            last.place = hole
            self.places[hole] = last
        prompt.place, self.moved = -1, True

    def seat(self, prompt: Prompt, count: int) -> None:
        """Append `count` rows that answer a prompt."""
        for _ in range(count):
            row = self.live
            self.live += 1
            self.prompts.append(prompt)
            prompt.rows += 1
            if prompt.place >= 0:
                self.length[row], self.base[row] = 0, prompt.length
            else:
                assert prompt.kv is not None, "a private prompt has one row"
                self.own = self._grown(self.own, self.slots, rounded(prompt.length + 1, 8))
                self.own[:, row, :, : prompt.length] = prompt.kv
                self.length[row], self.base[row] = prompt.length, 0
                prompt.kv = None
        self.moved = True

    def release(self, row: int) -> None:
        """Row leaves; the last row takes its number."""
        self.live -= 1
        last, prompt = self.live, self.prompts[row]
        if row != last:
            n = int(self.length[last])
            self.own[:, row, :, :n] = self.own[:, last, :, :n]
            self.length[row], self.base[row] = self.length[last], self.base[last]
            self.prompts[row] = self.prompts[last]
        self.prompts.pop()
        self.length[last] = self.base[last] = 0
        prompt.rows -= 1
        self.moved = True
        self._sweep(prompt)

    def _grown(self, cache: Tensor, rows: int, tokens: int) -> Tensor:
        have_rows, have = cache.shape[1], cache.shape[3]
        if rows <= have_rows and tokens <= have:
            return cache
        limit = max(rounded(self.max_context, GROW), 6 * GROW)
        wanted = have if tokens <= have else min(limit, rounded(max(tokens, have * 3 // 2), GROW))
        larger = self._cache(max(rows, have_rows), wanted)
        larger[:, :have_rows, :, :have] = cache
        return larger

    def nbytes(self) -> int:
        """Bytes of the two caches."""
        return self.own.nbytes + self.pool.nbytes

    def step(self, tokens: list[int]) -> Tensor:
        """Feed one token to each live row; next-token logits [live, V] float32."""
        w = self.weights
        if self.native is not None:
            return self._native_step(self.native, tokens)
        plan = self._plan()
        ids = torch.zeros(plan.rows, dtype=torch.long)
        ids[: self.live] = torch.tensor(tokens)
        x = self.blocks.embed(ids.to(self.device))
        for i, layer in enumerate(w.layers):
            q, fresh = self.blocks.project(layer, x, plan.turn)
            if plan.column is None:
                self.own[i].view(-1, w.head_dim).index_copy_(0, plan.write, fresh.reshape(-1, w.head_dim))
            else:
                self.own[i, : plan.rows, :, plan.column] = fresh
            x = self.blocks.finish(layer, x, self._attention(i, layer, q, plan))
            x = x if self.edit is None else self.edit(i, x, False)
        self.length[: self.live] += 1
        return self.blocks.logits(x)[: self.live]

    def _native_step(self, native: Native, tokens: list[int]) -> Tensor:
        """`step` in one call of the kernels."""
        place = np.array([max(p.place, 0) for p in self.prompts], dtype=np.int64)
        self.own = self._grown(self.own, self.slots, rounded(int(self.length[: self.live].max()) + 1, 8))
        logits = native.step(tokens, self.length, self.base, place, self.own, self.pool, self.edit)
        self.length[: self.live] += 1
        return self.blocks.scaled(logits)

    def _attention(self, i: int, layer: Layer, q: Tensor, plan: Plan) -> Tensor:
        w, b = self.weights, plan.rows
        kv, rep = w.kv_heads, w.heads // w.kv_heads
        own = self.own[i, :b, :, : plan.width]
        out, lse = attend(q.view(b, kv, rep, w.head_dim), own[:, :kv], own[:, kv:], plan.own[layer.window], w.scale)
        if not plan.places:
            return out.reshape(b, -1)
        assert plan.shared is not None
        g, m = plan.places, plan.seats
        # The queries of all samples of a prompt side by side, so that its keys and values are read once: [g, Hkv, m * rep, D].
        seated = q if plan.row_of_seat is None else q.reshape(b, -1).index_select(0, plan.row_of_seat)
        seated = seated.view(g, m, kv, rep, w.head_dim).transpose(1, 2).reshape(g, kv, m * rep, w.head_dim)
        pool = self.pool[i, :g, :, : plan.pool_width]
        there, there_lse = attend(seated, pool[:, :kv], pool[:, kv:], plan.shared[layer.window], w.scale)
        there = there.view(g, kv, m, rep, w.head_dim).transpose(1, 2).reshape(g * m, -1)
        there_lse = there_lse.view(g, kv, m, rep).transpose(1, 2).reshape(g * m, -1)
        if plan.seat_of_row is not None:
            there, there_lse = there.index_select(0, plan.seat_of_row), there_lse.index_select(0, plan.seat_of_row)
        if plan.private is not None:
            there_lse = there_lse + plan.private
        # Whole vectors only: elements of a vector's tail go through another exponential, which may differ in the last bit.
        gap = there_lse.new_zeros(rounded(b, VECTOR), w.heads)
        torch.sub(there_lse, lse.reshape(b, -1), out=gap[:b])
        share = gap.sigmoid_()[:b].to(out.dtype)
        joined = torch.lerp(out.reshape(b, w.heads, -1), there.view(b, w.heads, -1), share.unsqueeze(-1))
        return joined.view(b, -1)

    def _plan(self) -> Plan:
        """Masks and indices of the coming step, made with numpy (small arrays, cheaper there)."""
        w, b = self.weights, max(self.live, MIN_ROWS)
        length, base = self.length[:b], self.base[:b]
        width = key_width(int(length.max()) + 1, w.heads // w.kv_heads)
        self.own = self._grown(self.own, self.slots, width)
        position = length + base
        at = self._tensor(position)
        head = np.arange(b * 2 * w.kv_heads).reshape(
            b, -1
        )  # a row's heads lie one after the other, each a run of tokens
        write = self._tensor((head * self.own.shape[3] + length[:, None]).reshape(-1))
        turn = {name: table.index_select(0, at).unsqueeze(1) for name, table in w.rope.items()}
        windows = {layer.window for layer in w.layers}
        column = np.arange(width)[None]
        own = {}
        for window in windows:
            seen = column <= length[:, None]
            if window:
                seen &= column > length[:, None] - window
            own[window] = self._mask(seen)[:, None, None]
        together = int(length[0]) if (length == length[0]).all() else None
        plan = Plan(b, width, write, together, turn, own)
        if self.places:
            self._share(plan, position, windows)
        return plan

    def _share(self, plan: Plan, position: np.ndarray, windows: set[int]) -> None:
        if self.moved:
            self._seating = self._seats(plan.rows)
            self.moved = False
        s, rep = self._seating, self.weights.heads // self.weights.kv_heads
        plan.places, plan.seats, plan.pool_width = len(self.places), s["m"], s["width"]
        plan.row_of_seat, plan.seat_of_row, plan.private = s["row_of_seat"], s["seat_of_row"], s["private"]
        plan.shared = {}
        for window in windows:
            if not window or int(position.max()) < window:
                plan.shared[window] = s["mask"]
                continue
            at = position[s["rows"]].reshape(plan.places, plan.seats, 1)
            seen = s["seen"][:, None] & (np.arange(plan.pool_width) > at - window)
            plan.shared[window] = self._mask(np.repeat(seen, rep, axis=1))[:, None]

    def _seats(self, rows: int) -> dict[str, Any]:
        """Where each row sits: `m` seats per pool place, at least four; empty seats read row 0."""
        places = np.array([p.place for p in self.prompts], dtype=np.int64)
        counts = np.bincount(places[places >= 0], minlength=len(self.places))
        m = max(int(counts.max()), MIN_ROWS)
        row_of_seat = np.zeros(len(self.places) * m, dtype=np.int64)
        seat_of_row = np.zeros(rows, dtype=np.int64)
        taken = [0] * len(self.places)
        for row, place in enumerate(places.tolist()):
            if place >= 0:
                seat = place * m + taken[place]
                taken[place] += 1
                row_of_seat[seat], seat_of_row[row] = row, seat
        lengths = np.array([p.length for p in self.places])
        width = key_width(int(lengths.max()), MIN_ROWS)
        seen = np.arange(width)[None] < lengths[:, None]
        alone = np.ones(rows, dtype=bool)
        alone[: len(places)] = places < 0
        private = torch.tensor(np.where(alone, MASKED, 0.0), device=self.device, dtype=torch.float32)[:, None]
        in_order = rows == len(row_of_seat) and bool((row_of_seat == np.arange(rows)).all())
        return {
            "m": m,
            "width": width,
            "rows": row_of_seat,
            "row_of_seat": None if in_order else self._tensor(row_of_seat),
            "seat_of_row": None if in_order else self._tensor(seat_of_row),
            "seen": seen,
            "mask": self._mask(seen)[:, None, None],
            "private": private if (places < 0).any() else None,
        }

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def _mask(self, seen: np.ndarray) -> Tensor:
        # Half precision cannot hold the number; a quarter of its range still gives weight 0.
        low = max(MASKED, torch.finfo(self.dtype).min / 4)
        return torch.from_numpy(np.where(seen, np.float32(0), np.float32(low))).to(self.device, self.dtype)
