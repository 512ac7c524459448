"""Low-rank adapters through `peft` (Hu et al. 2021, arXiv:2106.09685): add, turn off, merge, fold, load.

The reference of an adapted policy is the same model with the adapter off, so no second copy is held. Saving merged weights computes
W + (alpha / rank) B A into a new state dict and leaves the training model as it is, bit by bit. The base may be held in four bits
(`models.quantized`). Left out: DoRA, dropout.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from posttrain.core.recipe import Spec
from posttrain.models.quantized import dense, dense_state

if TYPE_CHECKING:
    from posttrain.models.load import Loaded
    from posttrain.models.template import Template


class Lora(Spec):
    """Train small matrices beside the linear layers in place of the layers."""

    rank: PositiveInt = 16
    """Width of the update; more can learn more."""
    alpha: PositiveFloat = 32.0
    """The update is scaled by alpha / rank."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Layers that get one: all linear layers but the head, or names such as q_proj."""
    base: Literal["same", "4bit"] = "same"
    """Hold the frozen weights as loaded, or in four bits (QLoRA): a quarter of their memory in bf16, and slower steps."""
    save: Literal["merge", "adapter"] = "merge"
    """Write whole weights that anything loads, or the adapter alone beside its base's name."""


def add_lora(loaded: Loaded, lora: Lora) -> None:
    """Wrap the model of `loaded` in place; only the adapter (and rows of new tokens) can be trained afterwards.

    Raises ValueError where no layer has one of the target names.
    """
    from peft import LoraConfig, get_peft_model

    model = loaded.model
    model.requires_grad_(False)
    new = [loaded.tokenizer.convert_tokens_to_ids(t) for t in loaded.added if t != loaded.tokenizer.pad_token]
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft divides, so a fraction is fine
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        lora_dropout=0.0,  # with it, policy and reference would differ before the first step
        bias="none",
        task_type="CAUSAL_LM",
        fan_in_fan_out=loaded.family == "gpt2",  # its linear layers hold the transpose
        trainable_token_indices=new or None,
    )
    # peft writes this name into the adapter; a relative path, or the base of a folded adapter, would lead elsewhere
    model.name_or_path = str(Path(loaded.path).resolve()) if Path(loaded.path).exists() else loaded.path  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # patterns for experts that a model may lack
            loaded.model = get_peft_model(model, config)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{loaded.path}: no layer for LoRA: {str(error).splitlines()[0]}") from error
    loaded.lora = lora
    layers = [layer for _, layer in lora_layers(loaded.model)]
    stacked = sum(hasattr(layer, "parameter_name") for layer in layers)
    experts = f", {stacked} of them stacked experts" if stacked else ""
    loaded.notes = (*loaded.notes, f"LoRA of rank {lora.rank} on {len(layers)} layers{experts}")


def is_adapted(model: nn.Module) -> bool:
    """Is the model wrapped by an adapter that can be turned off?"""
    return hasattr(model, "disable_adapter")


@contextmanager
def adapter_off(model: nn.Module) -> Iterator[nn.Module]:
    """The model without its adapter, as the reference; a model without one is given as it is."""
    if not is_adapted(model):
        yield model
        return
    with model.disable_adapter():  # type: ignore[operator]
        yield model


def lora_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Adapted layers by their name in the plain model."""
    from peft.tuners.lora import LoraLayer

    inner = model.get_base_model() if is_adapted(model) else model  # type: ignore[operator]
    for name, module in inner.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Weights of the plain model with the adapter folded in; the model itself is not touched.

    Sums are taken in fp32 and rounded once to the dtype held.
    """
    from peft.tuners.trainable_tokens import TrainableTokensLayer

    inner = model.get_base_model() if is_adapted(model) else model  # type: ignore[operator]
    state: dict[str, Tensor] = {}
    for name, value in dense_state(inner).items():
        if "lora_" in name or ".token_adapter." in name or "trainable_tokens_" in name:
            continue
        state[name.replace(".base_layer", "").replace(".original_module", "")] = value
    with torch.no_grad():
        for name, layer in lora_layers(model):
            leaf = getattr(layer, "parameter_name", "weight")  # stacked experts: a parameter of a module with several
            base = dense(getattr(layer.get_base_layer(), leaf))
            key = f"{name.replace('.base_layer', '')}.{leaf}"
            delta = sum(layer.get_delta_weight(a).float() for a in layer.active_adapters)
            state[key] = (base.float() + delta).to(base.dtype)
        for name, module in inner.named_modules():
            if isinstance(module, TrainableTokensLayer):
                key = name.replace(".token_adapter", "") + ".weight"
                held = module.get_base_layer().weight
                state[key] = module.get_merged_weights(module.active_adapters).to(held.dtype)  # type: ignore[arg-type]
    keep_ties(inner, state)
    return state


def fold(loaded: Loaded) -> None:
    """Put an adapter into the weights of `loaded`, in place: what it was trained to is then the plain model, and its own reference.

    A model without an adapter is left as it is. After it, every tensor can be trained and a new adapter can be added.
    """
    if not is_adapted(loaded.model):
        return
    state = merged_state(loaded.model)
    plain = loaded.model.unload()  # type: ignore[operator]
    plain.load_state_dict(state)
    loaded.model, loaded.lora = plain.requires_grad_(True), None
    loaded.notes = (*loaded.notes, f"the adapter of {loaded.path} is folded into its base")


def keep_ties(inner: Any, state: dict[str, Tensor]) -> None:
    """Tied names share one tensor in the state too, so that it is written once."""
    ties = inner.all_tied_weights_keys if hasattr(inner, "all_tied_weights_keys") else {}
    for alias, source in ties.items():
        if alias in state and source in state:
            state[alias] = state[source]


def load_adapter(
    path: str,
    dtype: str | torch.dtype,
    template: str | Template | None,
    device: str | torch.device,
    trust_remote_code: bool,
    attn: str,
) -> Loaded:
    """An adapter directory on its base model, as `load` gives it. Raises ValueError when the base cannot be found."""
    import json

    from peft import PeftModel

    from posttrain.models.load import load, read_tokenizer, settle_tokens

    config = json.loads((Path(path) / "adapter_config.json").read_text(encoding="utf-8"))
    if not (Path(path) / "adapter_model.safetensors").exists():
        raise ValueError(f"{path}: no adapter_model.safetensors (adapters stored as pickle are never read)")
    base = config.get("base_model_name_or_path")
    if not base:
        raise ValueError(f"{path}: adapter_config.json names no base model")
    try:
        loaded = load(base, dtype, template, device, trust_remote_code, attn)
    except ValueError as error:
        raise ValueError(f"{path}: its base model cannot be loaded: {error}") from error
    fold(loaded)  # a base that is an adapter itself
    if (Path(path) / "tokenizer_config.json").exists():
        loaded.tokenizer = read_tokenizer(path, True, trust_remote_code)
        settle_tokens(loaded, template)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        loaded.model = PeftModel.from_pretrained(loaded.model, path, is_trainable=True)  # type: ignore[arg-type]
    rank, alpha = config["r"], config["lora_alpha"]
    loaded.lora = Lora(rank=rank, alpha=alpha, save="adapter")
    loaded.notes = (*loaded.notes, f"adapter of rank {rank} on {base}")
    loaded.path = path
    return loaded
