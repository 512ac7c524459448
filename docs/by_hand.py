"""SFT and DPO by hand: straight on tensors, the way a page of a textbook would have it.

Rows are padded on the right, one row per answer; `trained` marks the answer's tokens, its stop token among them. Nothing of `posttrain` is
used here, and a test holds `posttrain`'s loop to these numbers, loss by loss and weight by weight (tests/docs/test_by_hand.py).
Run it: ``python docs/by_hand.py``.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from transformers import LlamaConfig, LlamaForCausalLM

Row = tuple[list[int], list[int]]  # the ids of a prompt and of one answer, stop token included


def padded(rows: list[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """ids, real (1 where there is a token) and trained (1 where the answer's tokens are), [rows, longest] each."""
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids, real, trained = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[i, :end] = torch.tensor(prompt + answer)
        real[i, :end] = 1
        trained[i, len(prompt) : end] = 1
    return ids, real, trained


def token_logp(model: nn.Module, rows: list[Row]) -> tuple[Tensor, Tensor]:
    """log p of every token given those before it, and its mask; [rows, longest - 1] each: position t predicts token t + 1."""
    ids, real, trained = padded(rows)
    logits = model(input_ids=ids, attention_mask=real).logits[:, :-1]
    logp = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    return logp, trained[:, 1:].float()


def sft_loss(model: nn.Module, rows: list[Row]) -> Tensor:
    """Mean negative log-likelihood of the trained tokens: one mean over the batch's tokens, not a mean of rows' means."""
    logp, mask = token_logp(model, rows)
    return -(logp * mask).sum() / mask.sum()


def dpo_loss(model: nn.Module, reference: nn.Module, pairs: list[tuple[Row, Row]], beta: float) -> Tensor:
    """Mean of -log sigma(beta (h_w - h_l)); h is how much the policy raised an answer over the reference, summed over its tokens."""
    rows = [row for pair in pairs for row in pair]
    logp, mask = token_logp(model, rows)
    with torch.no_grad():
        reference_logp, _ = token_logp(reference, rows)
    h = ((logp - reference_logp) * mask).sum(-1)
    return -logsigmoid(beta * (h[0::2] - h[1::2])).mean()


def step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, clip: float = 1.0) -> float:
    """Backward, clip the global norm, update; the loss before the update."""
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def sft(model: nn.Module, batches: list[list[Row]], lr: float) -> list[float]:
    """One AdamW step per batch; the losses."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    return [step(model, optimizer, sft_loss(model, rows)) for rows in batches]


def dpo(model: nn.Module, batches: list[list[tuple[Row, Row]]], lr: float, beta: float) -> list[float]:
    """One AdamW step per batch of (preferred, other) pairs against the model as it was; the losses."""
    reference = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    return [step(model, optimizer, dpo_loss(model, reference, pairs, beta)) for pairs in batches]


def tiny_llama(seed: int = 0) -> nn.Module:
    """A random Llama over 64 tokens."""
    torch.manual_seed(seed)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, initializer_range=0.2)).eval()  # eval: no dropout anywhere


if __name__ == "__main__":
    question, right, wrong = [1, 7, 9, 4], [12, 15, 2], [12, 33, 40, 2]
    print("sft", [f"{loss:.4f}" for loss in sft(tiny_llama(), [[(question, right)]] * 5, lr=1e-3)])
    pair = ((question, right), (question, wrong))
    print("dpo", [f"{loss:.4f}" for loss in dpo(tiny_llama(), [[pair]] * 5, lr=1e-3, beta=0.1)])
