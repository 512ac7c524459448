"""What a model is, before it has said anything: parameters, depth, context, and the work of one token.

FLOPs of a forward are 2 for each weight that multiplies (embedding look-ups do not) plus 4 x layers x width x context of attention, at a
full context, as counted by Kaplan et al. 2020 (arXiv:2001.08361). Mixtures of experts count the experts that a token visits.
"""

from __future__ import annotations

from typing import Any


def shape_of(model: Any) -> dict[str, int | None]:
    """parameters, active (per token), layers, width, context, flops (of one token at full context). model: a `transformers` model."""
    config = model.config.get_text_config()
    everything = sum(p.numel() for p in model.parameters())
    embedded = model.get_input_embeddings()
    tied = bool(getattr(config, "tie_word_embeddings", False))
    looked_up = 0 if embedded is None or tied else embedded.weight.numel()
    idle = _idle_experts(model, config)
    active = everything - idle
    layers, width = int(config.num_hidden_layers), int(config.hidden_size)
    context = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    flops = 2 * (active - looked_up) + 4 * layers * width * int(context or 0)
    return {
        "parameters": everything,
        "active": active,
        "layers": layers,
        "width": width,
        "context": None if context is None else int(context),
        "flops": flops,
    }


def _idle_experts(model: Any, config: Any) -> int:
    """Weights of experts that one token does not visit."""
    count = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    visited = getattr(config, "num_experts_per_tok", None)
    if not count or not visited:
        return 0
    held = sum(p.numel() for n, p in model.named_parameters() if ".experts." in n)
    return int(held * (1 - visited / count))
