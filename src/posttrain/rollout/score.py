"""Log-probabilities of given answers by the model's own dense forward: the yardstick the decoders are held to.

Rows are padded on the right, which causal attention cannot see. The trainer's engine has the fast, prompt-once form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from posttrain.core.group import Group

LOGIT_BUDGET = 1 << 26  # entries of a logits tensor held at once


@contextmanager
def without_dropout(model: Any) -> Iterator[None]:
    """The model in evaluation mode, and back in the mode it came in."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def response_logps(model: Any, prompt: list[int], answers: list[list[int]], temperature: float = 1.0) -> list[Tensor]:
    """log p of each answer token given the prompt, one float32 CPU tensor [tokens] per answer, logits divided by `temperature`.

    Temperature 0 is read as 1, as the sampler reports it.
    """
    out: list[Tensor] = [torch.zeros(0)] * len(answers)
    order = sorted((i for i, a in enumerate(answers) if a), key=lambda i: len(answers[i]))
    vocabulary = model.get_output_embeddings().weight.shape[0]
    while order:
        longest = len(answers[order[-1]])
        part = order[-max(1, LOGIT_BUDGET // (vocabulary * (longest + 1))) :]
        order = order[: -len(part)]
        rows = _rows(model, prompt, [answers[i] for i in part], temperature or 1.0)
        for i, row in zip(part, rows, strict=True):
            out[i] = row
    return out


def _rows(model: Any, prompt: list[int], answers: list[list[int]], temperature: float) -> list[Tensor]:
    device = next(model.parameters()).device
    width = max(len(a) for a in answers)
    ids = torch.zeros(len(answers), len(prompt) + width, dtype=torch.long)
    real = torch.zeros_like(ids)
    for i, answer in enumerate(answers):
        row = prompt + answer
        ids[i, : len(row)] = torch.tensor(row)
        real[i, : len(row)] = 1
    with without_dropout(model):
        made = model(
            input_ids=ids.to(device), attention_mask=real.to(device), use_cache=False, logits_to_keep=width + 1
        )
    logits = made.logits
    logp = (logits[:, :-1].float() / temperature).log_softmax(-1)
    target = ids[:, len(prompt) :].to(device)
    picked = logp.gather(-1, target.unsqueeze(-1)).squeeze(-1).cpu()
    return [row[: len(a)].clone() for row, a in zip(picked, answers, strict=True)]


def group_logps(model: Any, tokenizer: Any, encode: Any, group: Group, temperature: float) -> list[Tensor]:
    """`response_logps` of a group. encode: (chat, tools) -> prompt ids, where the group has none; so is a response's text encoded."""
    given = group.prompt_tokens
    prompt = encode(group.prompt, group.tools) if given is None else given
    answers = [
        tokenizer.encode(r.text, add_special_tokens=False) if r.tokens is None else r.tokens for r in group.responses
    ]
    return response_logps(model, [int(t) for t in prompt], [[int(t) for t in a] for a in answers], temperature)
