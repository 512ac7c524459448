"""One rank of the ranks law: the gradient of each method's example over all ranks, written by rank 0. Run with RANK and WORLD_SIZE."""

from __future__ import annotations

import sys

import torch
from safetensors.torch import save_file

import posttrain.methods  # noqa: F401
from posttrain.core.method import Method
from posttrain.engine import ranks
from posttrain.train.loop import accumulate
from tests.laws.build import engine_for


def main(out: str, scale: int) -> None:
    torch.set_num_threads(1)
    ranks.start(timeout_s=60)
    tensors = {}
    for name in sorted(Method.members):
        method = Method.members[name]()
        engine = engine_for(method)
        groups = method.example().groups * scale
        accumulate(engine, method, method.batch(groups, engine))
        named = engine.named_parameters()
        for parameter in named.values():
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        ranks.sum_gradients([p.grad for p in named.values() if p.grad is not None])
        tensors.update({f"{name}/{n}": p.grad.clone() for n, p in named.items() if p.grad is not None})
    if ranks.world()[0] == 0:
        save_file(tensors, out)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
