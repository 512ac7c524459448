"""Which attention kernel is the fastest on this device, and right, and whether compiled blocks pay: measured on a run's first batch.

Rightness first: a candidate must give the hidden states and gradients of the buckets, within twice the rounding of the precision held.
One that fails to start (no kernel for the device, the precision or the shape) is passed over with a note. The first call of each is not
timed, so that compilation does not count. CPUs have no choice to make: compiled blocks took 54 s to start and saved nothing there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from posttrain.core.batch import Batch
from posttrain.models.compiled import compile_blocks, plain_blocks
from posttrain.models.kernels import Kernel
from posttrain.models.trunk import shared_hidden

CANDIDATES: tuple[Kernel, ...] = ("varlen", "flex")
REPEATS = 3


def fastest(
    model: nn.Module,
    piece: Batch,
    say: Callable[[str], None],
    candidates: Sequence[Kernel] = CANDIDATES,
    clock: Callable[[], float] = time.perf_counter,
) -> Kernel:
    """The kernel to use for this model and layout; `say` takes a line that says why. piece: a batch of the shared layout."""
    right = _pass(model, piece, "buckets")
    seconds: dict[Kernel, float] = {"buckets": _seconds(model, piece, "buckets", clock)}
    passed_over = []
    for name in candidates:
        try:
            gap = max(_gap(a, b) for a, b in zip(_pass(model, piece, name), right))
            limit = 2 * torch.finfo(right[0].dtype).eps ** 0.5
            if not gap <= limit:
                passed_over.append(f"{name} differs by {gap:.1e}")
                continue
            seconds[name] = _seconds(model, piece, name, clock)
        except Exception as error:  # a library's kernel may refuse in any way; the buckets always work
            passed_over.append(f"{name} does not run here ({type(error).__name__})")
    best = min(seconds, key=lambda name: seconds[name])
    told = ", ".join(f"{name} {1e3 * s:.0f} ms" for name, s in sorted(seconds.items(), key=lambda item: item[1]))
    say("; ".join([f"attention by {best}: {told} a forward and backward", *passed_over]))
    return best


GAIN = 0.05
"""Share of time that compiled blocks must save, or they are not worth their start."""


def compiled_pays(
    model: nn.Module,
    piece: Batch,
    kernel: Kernel,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.perf_counter,
) -> bool:
    """Compile the blocks where that is right and faster on this piece; otherwise they are left as they were, and a line says why."""
    right, plain = _pass(model, piece, kernel), _seconds(model, piece, kernel, clock)
    try:
        compile_blocks(model)
        gap = max(_gap(a, b) for a, b in zip(_pass(model, piece, kernel), right, strict=True))
        quick = _seconds(model, piece, kernel, clock)
    except Exception as error:  # compilers fail in many ways; without one everything works
        plain_blocks(model)
        say(f"blocks as they are: they do not compile here ({type(error).__name__})")
        return False
    wrong = not gap <= 2 * torch.finfo(right[0].dtype).eps ** 0.5
    pays = not wrong and quick <= (1 - GAIN) * plain
    if not pays:
        plain_blocks(model)
    why = (
        f"the compiled ones differ by {gap:.1e}"
        if wrong
        else f"compiled {1e3 * quick:.0f} ms, plain {1e3 * plain:.0f} ms"
    )
    say(f"blocks {'compiled' if pays else 'as they are'}: {why} a forward and backward")
    return pays


def _pass(model: nn.Module, piece: Batch, kernel: Kernel) -> tuple[Tensor, ...]:
    """Hidden states at scored positions and the gradients of their mean square, no gradient left behind."""
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.enable_grad():
        states = shared_hidden(model, piece, piece.source, kernel)
        made = torch.autograd.grad(states.float().square().mean(), trained, allow_unused=True) if trained else ()
    return (states.detach(), *(g for g in made if g is not None))


def _seconds(model: nn.Module, piece: Batch, kernel: Kernel, clock: Callable[[], float]) -> float:
    """Best of a few passes."""
    best = float("inf")
    for _ in range(REPEATS):
        start = clock()
        _pass(model, piece, kernel)
        if piece.ids.is_cuda:
            torch.cuda.synchronize()
        best = min(best, clock() - start)
    return best


def _gap(a: Tensor, b: Tensor) -> float:
    """Relative distance in the L2 norm."""
    norm = float(b.float().norm())
    return float((a.float() - b.float()).norm()) / norm if norm else float(a.float().norm())
