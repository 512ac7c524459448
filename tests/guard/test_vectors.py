"""A planted direction is found, steering moves along it, and a strength that costs too much is refused."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from posttrain.guard.calibrate import Limits, Measured, NoFeasibleStrength, calibrate
from posttrain.guard.lesson import apply_safety_vector, ban_token_ids, guided_decoding, safety_vector
from posttrain.guard.vectors import Steering, Vector, extract
from posttrain.rollout.sampler import Sampler
from tests.rollout.models import model_of

D = 24


def planted(seed: int = 0) -> tuple[Tensor, Any]:
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(D, generator=generator)
    direction /= direction.norm()

    def hidden(texts: Sequence[Any], layer: int) -> Tensor:
        made = torch.Generator().manual_seed(int(texts[0]) + layer)
        noise = torch.randn(len(texts), D, generator=made)
        side = torch.tensor([1.0 if int(t) < 1000 else -1.0 for t in texts]).unsqueeze(1)
        return noise + side * direction * (3.0 if layer == 3 else 0.2)

    return direction, hidden


@pytest.mark.parametrize("how", ["mean", "pca", "probe"])
def test_extraction_recovers_a_planted_direction_and_its_layer(how: Any) -> None:
    direction, hidden = planted()
    found = extract(hidden, range(256), range(1000, 1256), [1, 2, 3, 4, 5], how=how)
    assert found.layer == 3 and float(found.direction @ direction) > 0.95
    with pytest.raises(ValueError, match="at least 128"):
        extract(hidden, range(5), range(1000, 1005), [1])


def test_files_are_for_their_owner(tmp_path: Path) -> None:
    _, hidden = planted()
    found = extract(hidden, range(128), range(1000, 1128), [1, 2, 3, 4])
    path = found.write(tmp_path / "v.safetensors")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Vector.read(path)
    assert torch.equal(again.direction, found.direction) and again.layer == found.layer
    (tmp_path / "x").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no steering vector"):
        Vector.read(tmp_path / "x")


def test_modes_and_conditions() -> None:
    v = Vector(torch.eye(D)[0], 2, 10.0, 4.0, 0.0)
    states = torch.randn(6, D)
    assert torch.equal(Steering(v, 0.3)(0, states, True), states)
    assert torch.allclose(Steering(v, 0.3)(1, states, True)[:, 0], states[:, 0] + 3)
    assert torch.allclose(Steering(v, 0.3, raw=True)(1, states, True)[:, 0], states[:, 0] + 1.2)
    assert torch.allclose(Steering(v, 0.3, "clamp")(1, states, True)[:, 0], torch.full((6,), 3.0))
    assert torch.allclose(Steering(v, 0, "ablate")(1, states, True)[:, 0], torch.zeros(6), atol=1e-6)
    assert torch.equal(Steering(v, 0.3, where="answer")(1, states, True), states)
    moved = Steering(v, 0.3, conditional="below")(1, states, False)
    harmless = states[:, 0] >= 0
    assert torch.equal(moved[harmless], states[harmless]) and not torch.equal(moved[~harmless], states[~harmless])


@pytest.mark.parametrize("fused", [True, False])
def test_the_sampler_decodes_steered_states(fused: bool) -> None:
    model, tokenizer = model_of("llama")
    sampler = Sampler(model, tokenizer, [], lambda chat, tools: [1], slots=4, threads=1)
    sampler.fused = fused
    width = model.config.hidden_size
    plain = sampler.decode([[5, 6, 7], [8, 9]], n=1, seed=1)
    sampler.edit = Steering(
        Vector(torch.nn.functional.normalize(torch.ones(width), dim=0), 1, 1.0, 1.0, -1e9), 5.0, conditional="below"
    )
    calm = sampler.decode([[5, 6, 7], [8, 9]], n=1, seed=1)
    assert [s[0].tokens for s in calm] == [s[0].tokens for s in plain]
    assert calm[0][0].logps == plain[0][0].logps
    sampler.edit = Steering(
        Vector(torch.nn.functional.normalize(torch.arange(width).float(), dim=0), 1, 1.0, 1.0, 0.0), 5.0
    )
    steered = sampler.decode([[5, 6, 7], [8, 9]], n=1, seed=1)
    assert steered[0][0].logps != plain[0][0].logps
    states = model.model.embed_tokens.weight.device
    hook = model.model.layers[0].register_forward_hook(
        lambda _, __, out: sampler.edit(0, out[0] if isinstance(out, tuple) else out, True)  # type: ignore[misc]
    )
    with torch.no_grad():
        truth = model(torch.tensor([[5, 6, 7]], device=states)).logits[0, -1].log_softmax(-1)
    hook.remove()
    assert steered[0][0].logps[0] == pytest.approx(float(truth[steered[0][0].tokens[0]]), abs=1e-4)


def curve(benefit: float, cost: float) -> Any:
    def measure(strength: float, split: str) -> Measured:
        rng = np.random.default_rng(int(strength * 100) + (split == "test"))
        base = np.random.default_rng(5).random(300)
        return Measured(
            (base < 0.3 + benefit * strength).astype(float), (base > 1 - cost * strength).astype(float),
            np.ones(300), kl=0.05 * strength, perplexity=1 + 0.01 * strength, distinct=0.9 + 0.001 * rng.random(),
        )  # fmt: skip

    return measure


def test_calibration_chooses_the_best_strength_inside_the_limits_and_refuses_otherwise() -> None:
    found = calibrate(curve(0.3, 0.01), [0.5, 1.0, 1.5, 3.0], Limits())
    assert found.strength == 1.5 and found.test.benefit.low > 0 and len(found.curve) == 4
    assert found.curve[-1].broken == ("kl", "over-refusal")
    with pytest.raises(NoFeasibleStrength, match="over-refusal"):
        calibrate(curve(0.3, 0.5), [0.5, 1.0], Limits())
    with pytest.raises(NoFeasibleStrength, match="no benefit"):
        calibrate(curve(0.0, 0.0), [0.5, 1.0], Limits())


def test_the_lessons_shapes() -> None:
    model = model_of("llama")[0]
    ids = torch.tensor([[3, 4]])
    free = guided_decoding(model, ids, lambda logits: logits, max_new_tokens=5)
    held = guided_decoding(model, ids, ban_token_ids(free[0, 2:].tolist()), max_new_tokens=5)
    assert free.shape == (1, 7) and not set(held[0, 2:].tolist()) & set(free[0, 2:].tolist())
    whole = model(free[:, :-1]).logits[0, 1:].argmax(-1)
    assert torch.equal(whole, free[0, 2:])
    with pytest.raises(ValueError, match="no token"):
        guided_decoding(model, ids, lambda logits: logits - torch.inf)
    vector = safety_vector(torch.ones(3, 4), torch.zeros(2, 4))
    assert torch.equal(apply_safety_vector(torch.zeros(2, 5, 4), vector, 2.0), torch.full((2, 5, 4), 2.0))
