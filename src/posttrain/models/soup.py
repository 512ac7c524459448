"""Model soups: weights of models of one shape, averaged (Wortsman et al. 2022, arXiv:2203.05482; rewarded soups, Ramé et al. 2023,
arXiv:2306.04488). Between two models trained for two aims lies a line of models, so a person can choose a trade-off after training.

Sums are taken in fp32 and rounded once. Leaves out models of different shapes or vocabularies, and adapters that are not merged.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def average(parts: Sequence[Weights], shares: Sequence[float]) -> dict[str, Tensor]:
    """The weighted sum, tensor by tensor. Raises ValueError where names or shapes differ, or shares do not sum to 1."""
    if len(parts) != len(shares) or len(parts) < 2:
        raise ValueError(f"{len(parts)} models and {len(shares)} shares; two models or more, one share each")
    if abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares sum to {sum(shares):g}; they must sum to 1")
    first = parts[0]
    for n, other in enumerate(parts[1:], 2):
        odd = sorted(set(first) ^ set(other)) or [k for k in first if first[k].shape != other[k].shape]
        if odd:
            raise ValueError(f"model {n} has another shape than the first: {odd[0]}")
    out = {}
    for name, value in first.items():
        if not value.is_floating_point():
            out[name] = value
            continue
        total = sum(share * part[name].float() for share, part in zip(shares, parts))
        assert isinstance(total, Tensor)
        out[name] = total.to(value.dtype)
    return out


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a model directory's safetensors files."""
    from safetensors.torch import load_file

    files = sorted(path.glob("model*.safetensors"))
    if not files:
        raise ValueError(f"{path}: no weights (model*.safetensors); an adapter has to be merged first")
    return {name: value for file in files for name, value in load_file(file).items()}


def overlaid(weights: Weights, trained: Weights, where: str) -> dict[str, Tensor]:
    """A model's tensors with those of one of its checkpoints in their place. Raises ValueError where the checkpoint holds an adapter."""
    known = {k: v for k, v in trained.items() if not k.startswith("heads.")}
    odd = [k for k in known if k not in weights]
    if odd:
        raise ValueError(f"{where}: {odd[0]} is no tensor of the model; checkpoints of adapters cannot be mixed")
    return {**weights, **{k: v.to(weights[k].dtype) for k, v in known.items()}}


def write_soup(like: Path, weights: Weights, directory: Path) -> Path:
    """A directory with these weights and everything else of `like`."""
    from safetensors.torch import save_file

    from posttrain.core.files import whole_directory

    with whole_directory(directory) as beside:
        for file in like.iterdir():
            if file.is_file() and not file.name.endswith((".safetensors", ".index.json")):
                shutil.copyfile(file, beside / file.name)
        tensors = {k: v.contiguous() for k, v in weights.items()}
        save_file(tensors, beside / "model.safetensors", metadata={"format": "pt"})
    return directory


def shares_of(steps: int) -> list[tuple[float, float]]:
    """Evenly spaced shares between two models, ends included: steps = 5 gives 0, 1/4, 1/2, 3/4, 1."""
    return [(float(1 - t), float(t)) for t in torch.linspace(0, 1, steps, dtype=torch.float64).tolist()]
