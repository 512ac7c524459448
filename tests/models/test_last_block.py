"""The last block at the places that are read: the same states and gradients with less work, and the model as it was afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from posttrain.core.batch import layout
from posttrain.models import trunk
from posttrain.models.last_block import read_only_at
from posttrain.models.recompute import recompute_blocks
from tests.models.test_shared_prefix import ragged
from tests.models.tiny import FAMILIES, tiny


def states_and_gradients(model: Any) -> list[torch.Tensor | None]:
    batch = layout(ragged())
    states = trunk.shared_hidden(model, batch, batch.source)
    loss = (states * torch.linspace(-1, 1, states.shape[-1])).square().mean()
    return [states.detach(), *torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_equals_the_whole_block(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = tiny(family, seed=1)
    if trunk.dense_reason(model) is not None:
        assert family not in ("llama", "qwen3")
        return
    made = states_and_gradients(model)
    monkeypatch.setattr(trunk, "read_only_at", lambda _, places: read_only_at(None, places))
    whole = states_and_gradients(model)
    for a, b in zip(made, whole, strict=True):
        assert (a is None) == (b is None)
        assert a is None or b is None or torch.allclose(a, b, atol=1e-6, rtol=1e-5)


def test_only_the_rows_that_count_are_computed() -> None:
    model, _ = tiny("llama", seed=1)
    batch, seen = layout(ragged()), []
    layers = model.model.layers
    hooks = [layer.mlp.gate_proj.register_forward_hook(lambda _, x, __: seen.append(x[0].shape[1])) for layer in layers]
    trunk.shared_hidden(model, batch, batch.last)
    assert seen == [*[batch.T] * (len(layers) - 1), len(set(batch.last.tolist()))]
    assert all("forward" not in vars(m) for m in layers[-1].modules())
    for hook in hooks:
        hook.remove()


def test_a_block_that_is_read_nearly_everywhere_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = tiny("llama", seed=1)
    batch, seen = layout(ragged()), []

    def noted(*given: Any) -> Any:
        seen.append(len(given[1]))
        return read_only_at(*given)

    monkeypatch.setattr(trunk, "read_only_at", noted)
    for share in (0.6, 0.4):
        trunk.shared_hidden(model, batch, torch.arange(int(share * batch.T)))
    assert seen == [int(0.4 * batch.T)]


def test_blocks_that_compute_themselves_again_stay_whole() -> None:
    model, _ = tiny("llama", seed=1)
    plain = states_and_gradients(model)
    recompute_blocks(model)
    with read_only_at(model.model, torch.tensor([0])) as parts:
        assert parts == []
    again = states_and_gradients(model)
    assert all(a is None or torch.allclose(a, b, atol=1e-6) for a, b in zip(plain, again, strict=True))  # type: ignore[arg-type]
