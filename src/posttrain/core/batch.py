"""The Batch: groups laid flat, each prompt once, its responses after it, no padding.

T tokens run through the trunk; N of them are trained response tokens, and only those are scored.

    ids    [T]   prompt_0 | y_00 | y_01 | ... | prompt_1 | y_10 | ...
    target [N]   the trained tokens; source [N] = the place in [T] that predicts each (the prompt's last token for a first token)
    row    [N]   response of each target;  group [R]   group of each response;  pair [Q, 2]   responses (better, other)

**T** tokens, **N** trained response tokens, **R** responses, **G** groups, **Q** preference pairs, **V** vocabulary. `counts` hold
the units of the whole layout (main responses only) and survive `without`, so that a dropped group still counts. ``layout`` is
``shared``, or ``dense`` for models that cannot share a prompt (one padded row per response; only the engine's trunk sees it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from posttrain.core.group import Group, Response

DataUnit = Literal["token", "row", "group", "pair"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """See the module docstring. Span arrays (`prompt_start` ... `tokens_of`) are host numpy; the rest are tensors."""

    ids: Tensor
    position: Tensor
    target: Tensor
    source: Tensor
    row: Tensor
    group: Tensor
    pair: Tensor
    last: Tensor
    """[R] place in [T] of the last trained token of each response: where a score head reads."""
    prompt_start: np.ndarray
    prompt_length: np.ndarray
    start: np.ndarray
    length: np.ndarray
    tokens_of: np.ndarray
    """[R + 1] response r owns targets tokens_of[r] : tokens_of[r + 1]."""
    main: np.ndarray
    """[R] False for untrained extras (KTO's kl rows, a greedy baseline): scored in preparation, in no count, in no loss."""
    data: Mapping[str, Tensor] = field(default_factory=dict)
    unit: Mapping[str, DataUnit] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    counted: frozenset[str] = frozenset()
    """Names of data whose sum is a count: denominators that depend on the data (see `counting`)."""
    layout: Literal["shared", "dense"] = "shared"

    T = property(lambda self: int(self.ids.shape[0]))
    N = property(lambda self: int(self.target.shape[0]))
    R = property(lambda self: len(self.start))
    G = property(lambda self: len(self.prompt_start))
    Q = property(lambda self: int(self.pair.shape[0]))

    @property
    def group_of(self) -> np.ndarray:
        """[R] group of each response, on the host."""
        return self.group.cpu().numpy()

    @property
    def own(self) -> np.ndarray:
        """[N] each trained token's own place in [T], on the host (`source` is the place before it)."""
        row, source = self.row.cpu().numpy(), self.source.cpu().numpy()
        return np.where(source < self.start[row], self.start[row], source + 1)

    def size(self, unit: DataUnit) -> int:
        return {"token": self.N, "row": self.R, "group": self.G, "pair": self.Q}[unit]

    def plus(self, unit: DataUnit, **tensors: Tensor) -> Batch:
        """The batch with more data of one unit, detached. Raises AssertionError on a wrong leading dimension."""
        for name, value in tensors.items():
            assert value.shape[0] == self.size(unit), f"{name}: {value.shape[0]} values for {self.size(unit)} {unit}s"
        return replace(
            self,
            data={**self.data, **{k: v.detach() for k, v in tensors.items()}},
            unit={**self.unit, **dict.fromkeys(tensors, unit)},
        )

    def counting(self, unit: DataUnit, **tensors: Tensor) -> Batch:
        """`plus`, and the sum of each tensor becomes a count of its name that a method may divide by, as in ``sums = {"nll": "chosen"}``.

        Call it in `prepare`, before anything is dropped: cuts and minibatches count again from the data, `without` keeps the count.
        """
        made = self.plus(unit, **tensors)
        sums = {name: float(value.sum()) for name, value in tensors.items()}
        return replace(made, counted=made.counted | set(tensors), counts={**made.counts, **sums})

    def to(self, device: torch.device | str) -> Batch:
        """Tensors on a device; the spans stay on the host."""
        moved = {
            n: getattr(self, n).to(device)
            for n in ("ids", "position", "target", "source", "row", "group", "pair", "last")
        }
        return replace(self, **moved, data={k: v.to(device) for k, v in self.data.items()})

    def take(self, rows: Iterable[int]) -> Batch:
        """The sub-batch of some responses (their prompts come along), with its own counts: what a cut or a minibatch is."""
        kept = self._select(np.asarray(sorted(rows), dtype=np.int64))
        return replace(kept, counts=count_units(kept))

    def without(self, rows: Iterable[int]) -> Batch:
        """The batch less some responses; `counts` stay those of the layout (an exact skip)."""
        gone = set(rows)
        return self._select(np.asarray([r for r in range(self.R) if r not in gone], dtype=np.int64))

    def groups(self, indices: Sequence[int]) -> Batch:
        """The sub-batch of whole groups, with its own counts."""
        wanted = set(indices)
        return self.take([r for r, g in enumerate(self.group_of) if int(g) in wanted])

    def _select(self, rows: np.ndarray) -> Batch:
        group_of = self.group_of[rows]
        groups, new_group = np.unique(group_of, return_inverse=True)
        spans: list[np.ndarray] = []
        prompt_start, start, at = [], [], 0
        for g in groups:
            prompt_start.append(at)
            spans.append(np.arange(self.prompt_start[g], self.prompt_start[g] + self.prompt_length[g]))
            at += int(self.prompt_length[g])
            for r in rows[group_of == g]:
                start.append(at)
                spans.append(np.arange(self.start[r], self.start[r] + self.length[r]))
                at += int(self.length[r])
        flat = _concat(spans)
        moved_to = np.full(self.T, -1, dtype=np.int64)
        moved_to[flat] = np.arange(len(flat))
        targets = _concat([np.arange(self.tokens_of[r], self.tokens_of[r + 1]) for r in rows])
        new_row = np.full(self.R, -1, dtype=np.int64)
        new_row[rows] = np.arange(len(rows))
        pair = self.pair.cpu().numpy().reshape(-1, 2)
        kept_pairs = np.flatnonzero((new_row[pair] >= 0).all(axis=1)) if len(pair) else np.zeros(0, dtype=np.int64)
        device = self.ids.device
        index = {"token": targets, "row": rows, "group": groups, "pair": kept_pairs}

        def tensor(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        row_old = self.row.cpu().numpy()[targets]
        return replace(
            self,
            ids=self.ids[tensor(flat)],
            position=self.position[tensor(flat)],
            target=self.target[tensor(targets)],
            source=tensor(moved_to[self.source.cpu().numpy()[targets]]),
            row=tensor(new_row[row_old]),
            group=tensor(new_group.astype(np.int64)),
            pair=tensor(new_row[pair[kept_pairs]].reshape(-1, 2)),
            last=tensor(moved_to[self.last.cpu().numpy()[rows]]),
            prompt_start=np.asarray(prompt_start, dtype=np.int64),
            prompt_length=self.prompt_length[groups],
            start=np.asarray(start, dtype=np.int64),
            length=self.length[rows],
            tokens_of=np.concatenate([[0], np.cumsum(self.tokens_of[rows + 1] - self.tokens_of[rows])]).astype(
                np.int64
            ),
            main=self.main[rows],
            data={name: value[tensor(index[self.unit[name]])] for name, value in self.data.items()},
        )


def _concat(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def count_units(batch: Batch) -> dict[str, float]:
    """Trained tokens, responses and groups of the main rows, and the method's own counts: the denominators of every loss."""
    lengths = np.diff(batch.tokens_of)
    own = {name: float(batch.data[name].sum()) for name in sorted(batch.counted)}
    return own | {
        "token": float(lengths[batch.main].sum()),
        "row": float(batch.main.sum()),
        "group": float(len(set(batch.group_of[batch.main].tolist()))),
    }


def layout(groups: Sequence[Group], kind: Literal["shared", "dense"] = "shared") -> Batch:
    """Lay rendered groups flat.

    Every group needs `prompt_tokens` (at least one) and every response `tokens` and `trained` of equal length with at least one
    trained token. Data given to methods: token `weight` [N] (how much a trained token counts), `old` and `sampled` log-probs [N]
    where every response was sampled, `tag` where a method asks for ids; row `weight`, `score` (nan = cannot be scored), its parts as
    `part.NAME`, `stopped` (0 = it ran out of room), `label` (1, 0, nan), `rank` (tier, best = 0, -1 = unranked) [R]; pair `p`,
    `pair_weight`, `margin` [Q].
    Raises ValueError naming the group that is not rendered or has nothing to train.
    """
    ids: list[np.ndarray] = []
    position: list[np.ndarray] = []
    spans: dict[str, list[int]] = {
        "prompt_start": [],
        "prompt_length": [],
        "start": [],
        "length": [],
        "last": [],
        "count": [],
    }
    target, source, weight, group_of, pairs = [], [], [], [], []
    pair_data: list[tuple[float, float, float]] = []
    at = row = 0
    for g, item in enumerate(groups):
        prompt = item.prompt_tokens
        if prompt is None or len(prompt) == 0:
            raise ValueError(f"group {item.id}: a prompt needs at least one token; render the group first")
        spans["prompt_start"].append(at)
        spans["prompt_length"].append(len(prompt))
        ids.append(np.asarray(prompt, dtype=np.int64))
        position.append(np.arange(len(prompt)))
        last_prompt = at + len(prompt) - 1
        at += len(prompt)
        for pair in item.pairs():
            if not pair.both_bad:
                pairs.append((row + pair.i, row + pair.j))
                pair_data.append((pair.p, pair.weight, pair.margin))
        for response in item.responses:
            if response.tokens is None or response.trained is None:
                raise ValueError(f"group {item.id}: a response is not rendered")
            trained = np.flatnonzero(np.asarray(response.trained) > 0)
            if len(trained) == 0:
                raise ValueError(f"group {item.id}: a response has no trained token; its mask is empty")
            tokens = np.asarray(response.tokens, dtype=np.int64)
            spans["start"].append(at)
            spans["length"].append(len(tokens))
            spans["last"].append(at + int(trained[-1]))
            spans["count"].append(len(trained))
            ids.append(tokens)
            position.append(np.arange(len(prompt), len(prompt) + len(tokens)))
            target.append(tokens[trained])
            before = at + trained - 1
            source.append(np.where(trained == 0, last_prompt, before))
            weight.append(np.asarray(response.trained, dtype=np.float32)[trained])
            group_of.append(g)
            at += len(tokens)
            row += 1
    counts = np.asarray(spans["count"], dtype=np.int64)
    made = Batch(
        ids=torch.from_numpy(_concat(ids)),
        position=torch.from_numpy(_concat(position)),
        target=torch.from_numpy(_concat(target)),
        source=torch.from_numpy(_concat(source)),
        row=torch.from_numpy(np.repeat(np.arange(row), counts)),
        group=torch.tensor(group_of, dtype=torch.int64),
        pair=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        last=torch.tensor(spans["last"], dtype=torch.int64),
        prompt_start=np.asarray(spans["prompt_start"], dtype=np.int64),
        prompt_length=np.asarray(spans["prompt_length"], dtype=np.int64),
        start=np.asarray(spans["start"], dtype=np.int64),
        length=np.asarray(spans["length"], dtype=np.int64),
        tokens_of=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        main=np.asarray([r.kind == "main" for g in groups for r in g.responses], dtype=bool),
        layout=kind,
    )
    made = made.plus("token", weight=torch.from_numpy(_concat(weight).astype(np.float32)))
    made = made.plus("row", **_row_data(groups))
    table = torch.tensor(pair_data, dtype=torch.float32).reshape(-1, 3)
    made = made.plus("pair", p=table[:, 0], pair_weight=table[:, 1], margin=table[:, 2])
    responses = [r for g in groups for r in g.responses]
    # An idle rank has no response, and is asked for tags all the same.
    if not responses or any(r.tags is not None for r in responses):
        made = made.plus("token", tag=torch.from_numpy(_concat([_tags(r) for r in responses])))
    for name, attribute in (("old", "logps"), ("sampled", "sampled_logps")):
        if responses and all(getattr(r, attribute) is not None for r in responses):
            made = made.plus(
                "token", **{name: torch.from_numpy(np.concatenate([_trained(r, attribute) for r in responses]))}
            )
    return replace(made, counts=count_units(made))


def _tags(response: Response) -> np.ndarray:
    trained = np.asarray(response.trained) > 0
    tags = np.full(len(trained), -1) if response.tags is None else response.tags
    return np.asarray(tags, dtype=np.int64)[trained]


def _trained(response: Any, attribute: str) -> np.ndarray:
    values = np.asarray(getattr(response, attribute), dtype=np.float32)
    return values[np.asarray(response.trained) > 0]


def _row_data(groups: Sequence[Group]) -> dict[str, Tensor]:
    weight, score, label, rank, stopped = [], [], [], [], []
    for item in groups:
        tier_of = {i: t for t, tier in enumerate(item.ranking or ()) for i in tier}
        for i, response in enumerate(item.responses):
            weight.append(response.weight)
            known = response.score is not None and response.score.value is not None
            score.append(response.score.value if known and response.score else float("nan"))
            label.append(float("nan") if response.label is None else float(response.label))
            rank.append(tier_of.get(i, -1))
            stopped.append(float(response.stop not in ("length", "cancelled")))
    return _parts(groups) | {
        "stopped": torch.tensor(stopped, dtype=torch.float32),
        "row_weight": torch.tensor(weight, dtype=torch.float32),
        "score": torch.tensor(score, dtype=torch.float32),
        "label": torch.tensor(label, dtype=torch.float32),
        "rank": torch.tensor(rank, dtype=torch.int64),
    }


def _parts(groups: Sequence[Group]) -> dict[str, Tensor]:
    """Every named part of any response's score [R], nan where a response has none."""
    scores = [r.score for g in groups for r in g.responses]
    names = sorted({name for s in scores if s is not None for name in s.parts})
    return {
        f"part.{name}": torch.tensor(
            [float("nan") if s is None else s.parts.get(name, float("nan")) for s in scores], dtype=torch.float32
        )
        for name in names
    }
