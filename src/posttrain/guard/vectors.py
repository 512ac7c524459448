"""Steering vectors: a direction in the hidden states that separates safe from unsafe, how it is found, kept and applied.

Mean difference (the lesson's safety vector; Turner et al. 2023, Rimsky et al. 2024), first principal component of paired differences
(Zou et al. 2023), weight of a logistic probe. The layer is the one whose direction separates a held-out part best; the last fifth of the
layers is left out. Directions are unit vectors with the layer's mean norm, so strengths are free of scale. The same vector ablated removes
refusals (Arditi et al. 2024, arXiv:2406.11717): files are written for their owner alone. Leaves out vectors per head.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from posttrain.core.files import write_bytes
from posttrain.stats import auroc

How = Literal["mean", "pca", "probe"]
Mode = Literal["add", "clamp", "ablate"]
FEWEST = 128
"""Texts per side below which a vector is refused, unless asked otherwise."""


@dataclass(frozen=True)
class Vector:
    """direction [d]: unit, from unsafe to safe. layer: hidden state 1..L after which it acts. scale: mean norm of that layer's states.
    difference: norm of the raw mean difference. threshold: projection halfway between the sides (a probe for conditional use). told: how
    it was made, hashes included."""

    direction: Tensor
    layer: int
    scale: float
    difference: float
    threshold: float
    told: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: str | Path) -> Path:
        """A safetensors file that only its owner may read."""
        facts = {n: getattr(self, n) for n in ("layer", "scale", "difference", "threshold")}
        body = save(
            {"direction": self.direction.contiguous()}, {"posttrain": json.dumps({**facts, "told": dict(self.told)})}
        )
        made = write_bytes(path, body)
        os.chmod(made, 0o600)
        return made

    @classmethod
    def read(cls, path: str | Path) -> Vector:
        """Raises ValueError for a file that holds no vector of ours."""
        try:
            with safe_open(str(path), "pt") as body:
                facts = json.loads((body.metadata() or {})["posttrain"])
                direction = body.get_tensor("direction")
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise ValueError(f"{path}: holds no steering vector ({error})") from None
        return cls(direction, **facts)


def direction_of(safe: Tensor, unsafe: Tensor, how: How) -> Tensor:
    """Unit direction [d] from unsafe [m, d] to safe [n, d]. `pca` pairs the rows in order."""
    mean = safe.mean(0) - unsafe.mean(0)
    if how == "mean":
        found = mean
    elif how == "pca":
        n = min(len(safe), len(unsafe))
        gaps = safe[:n] - unsafe[:n]
        found = torch.linalg.svd(gaps, full_matrices=False).Vh[0]
        found = found if float((gaps @ found > 0).float().mean()) >= 0.5 else -found
    else:
        found = _probe(safe, unsafe)
    size = float(found.norm())
    if size < 1e-9:
        raise ValueError("safe and unsafe states do not differ: no direction to find")
    return found / size


def _probe(safe: Tensor, unsafe: Tensor, decay: float = 1e-2, steps: int = 50) -> Tensor:
    """Weight of a ridge-penalised logistic regression on standardised states, back in their own units."""
    x = torch.cat([safe, unsafe]).double()
    y = torch.cat([torch.ones(len(safe)), torch.zeros(len(unsafe))]).double()
    centre, spread = x.mean(0), x.std(0).clamp(min=1e-6)
    z = torch.cat([(x - centre) / spread, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
    w = torch.zeros(z.shape[1], dtype=torch.float64, requires_grad=True)
    best = torch.optim.LBFGS([w], max_iter=steps)

    def closure() -> Tensor:
        best.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z @ w, y) + decay * w[:-1].square().sum()
        loss.backward()
        return loss

    best.step(closure)
    return (w.detach()[:-1] / spread).float()


def extract(
    hidden: Callable[[Sequence[Any], int], Tensor],
    safe: Sequence[Any],
    unsafe: Sequence[Any],
    layers: Sequence[int],
    how: How = "mean",
    fewest: int = FEWEST,
    told: Mapping[str, Any] | None = None,
) -> Vector:
    """The vector of the layer that separates best. hidden: (texts, layer) -> states [n, d]; safe[i] and unsafe[i] belong together.

    layers: hidden states to try, 1..L; those in the last fifth of the largest are left out. Half of each side finds the direction, the
    other half chooses the layer. Raises ValueError for fewer than `fewest` texts a side.
    """
    if min(len(safe), len(unsafe)) < fewest:
        raise ValueError(f"{len(safe)} safe and {len(unsafe)} unsafe texts; at least {fewest} of each are needed")
    usable = [n for n in layers if n <= max(1, int(max(layers) * 0.8))]
    tried = {}
    for layer in usable:
        a, b = hidden(safe, layer), hidden(unsafe, layer)
        found = direction_of(a[::2], b[::2], how)
        p, q = a[1::2] @ found, b[1::2] @ found
        labels = np.r_[np.ones(len(p)), np.zeros(len(q))]
        tried[layer] = (auroc(torch.cat([p, q]).numpy(), labels).estimate, found, a, b)
    layer = max(tried, key=lambda n: (tried[n][0], -n))
    area, found, a, b = tried[layer]
    both = torch.cat([a, b])
    return Vector(
        found,
        layer,
        float(both.norm(dim=1).mean()),
        float((a.mean(0) - b.mean(0)).norm()),
        float(((a @ found).mean() + (b @ found).mean()) / 2),
        {
            **(told or {}),
            "how": how,
            "auroc": area,
            "auroc_by_layer": {str(n): t[0] for n, t in tried.items()},
            "texts": len(safe),
        },
    )


@dataclass(frozen=True)
class Steering:
    """A vector at work: `sampler.edit = Steering(vector, 0.2)`.

    strength: c; `add` moves a state by c times the layer's mean norm (`raw`: by c times the raw mean difference). `clamp` sets the
    projection to c times the mean norm, `ablate` to nothing. where: prompt, answer or both. conditional: acts only on states whose
    projection lies below (or above) the threshold, so that all others stay bit-identical; `always` acts everywhere. gate: another vector
    of the same layer whose projection decides instead, such as "asks for what is forbidden" over "refuses".
    """

    vector: Vector
    strength: float
    mode: Mode = "add"
    where: Literal["both", "prompt", "answer"] = "both"
    conditional: Literal["always", "below", "above"] = "always"
    raw: bool = False
    gate: Vector | None = None

    def __post_init__(self) -> None:
        if self.gate is not None and self.gate.layer != self.vector.layer:
            raise ValueError(
                f"the gate reads layer {self.gate.layer}, the vector acts after layer {self.vector.layer}; extract both there"
            )

    def __call__(self, block: int, states: Tensor, prompt: bool) -> Tensor:
        v = self.vector
        if block + 1 != v.layer or self.where == ("answer" if prompt else "prompt"):
            return states
        direction = v.direction.to(states.dtype).to(states.device)
        along = states @ direction
        if self.mode == "add":
            move = torch.full_like(along, self.strength * (v.difference if self.raw else v.scale))
        else:
            move = (self.strength * v.scale if self.mode == "clamp" else 0.0) - along
        if self.conditional == "always":
            return states + move.unsqueeze(-1) * direction
        gate = self.gate or v
        seen = along if self.gate is None else states @ gate.direction.to(states.dtype).to(states.device)
        fires = seen < gate.threshold if self.conditional == "below" else seen > gate.threshold
        if not bool(fires.any()):
            return states
        return torch.where(fires.unsqueeze(-1), states + move.unsqueeze(-1) * direction, states)
