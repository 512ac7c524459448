"""PPO by hand: one page straight on tensors, beside docs/by_hand.py.

Rows are padded on the right, one row per answer, `trained` marks the answer's tokens. Nothing of `posttrain` is used here, and a test holds
its loop to these numbers, loss by loss and weight by weight (tests/docs/test_by_hand_ppo.py). Run it: ``python docs/by_hand_ppo.py``.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

Answer = tuple[
    list[int], list[int], float
]  # the ids of a prompt, those of a sampled answer (stop token included), its score


@dataclass
class Settings:
    beta: float = 0.05  # KL coefficient; moves when there is a target
    target: float | None = None  # nats per answer
    gamma: float = 1.0
    lam: float = 0.95
    clip: float = 0.2
    value_clip: float = 0.2
    value_weight: float = 0.1
    passes: int = 4
    lr: float = 3e-3


class ActorCritic(nn.Module):
    """A language model and a linear value head on its last hidden states, zero at first."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.value = model, nn.Linear(model.config.hidden_size, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, ids: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """log p of token t + 1 and the value of the state before it, at every position t; [rows, longest - 1] each."""
        out = self.model(input_ids=ids, attention_mask=real, output_hidden_states=True)
        logp = out.logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
        return logp, self.value(out.hidden_states[-1][:, :-1])[..., 0]


def padded(rows: list[Answer]) -> tuple[Tensor, Tensor, Tensor]:
    """ids and real (1 where there is a token) [rows, longest]; trained [rows, longest - 1] (1 where the next token is the answer's)."""
    width = max(len(prompt) + len(answer) for prompt, answer, _ in rows)
    ids, real, trained = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
    for i, (prompt, answer, _) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[i, :end], real[i, :end] = torch.tensor(prompt + answer), 1
        trained[i, len(prompt) : end] = 1
    return ids, real, trained[:, 1:].float()


def advantages(reward: Tensor, value: Tensor, mask: Tensor, s: Settings) -> Tensor:
    """GAE, from the last token backwards; nothing is carried across untrained positions, and the value after the end is 0."""
    out, later, next_value = torch.zeros_like(reward), torch.zeros(len(reward)), torch.zeros(len(reward))
    for t in range(reward.shape[1] - 1, -1, -1):
        delta = reward[:, t] + s.gamma * next_value - value[:, t]
        later = (delta + s.gamma * s.lam * later) * mask[:, t]
        next_value = value[:, t] * mask[:, t]
        out[:, t] = later
    return out


def whitened(x: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the trained tokens alone."""
    mean = (x * mask).sum() / mask.sum()
    variance = ((x - mean) ** 2 * mask).sum() / mask.sum()
    return (x - mean) / (variance + 1e-8).sqrt() * mask


def step(
    net: ActorCritic, reference: nn.Module, optimizer: torch.optim.Optimizer, rows: list[Answer], s: Settings
) -> list[float]:
    """One PPO step on sampled answers: rewards, advantages, then some passes over the same answers. The loss of each pass."""
    ids, real, mask = padded(rows)
    with torch.no_grad():
        old, value = net(ids, real)
        kl = (
            old
            - reference(input_ids=ids, attention_mask=real)
            .logits[:, :-1]
            .log_softmax(-1)
            .gather(-1, ids[:, 1:, None])[..., 0]
        )
        reward = -s.beta * kl * mask
        last = torch.tensor(
            [len(prompt) + len(answer) - 2 for prompt, answer, _ in rows]
        )  # where the stop token is predicted
        reward[torch.arange(len(rows)), last] += torch.tensor([score for _, _, score in rows])
        advantage = advantages(reward, value, mask, s)
        target = advantage + value
        advantage = whitened(advantage, mask)
    losses = []
    for _ in range(s.passes):
        logp, v = net(ids, real)
        ratio = (logp - old).exp()
        policy = -torch.minimum(ratio * advantage, ratio.clamp(1 - s.clip, 1 + s.clip) * advantage)
        near = value + (v - value).clamp(-s.value_clip, s.value_clip)
        critic = 0.5 * torch.maximum((v - target) ** 2, (near - target) ** 2)
        loss = ((policy + s.value_weight * critic) * mask).sum() / mask.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    if s.target is not None:  # Ziegler et al. 2019; the horizon is four steps' worth of answers
        error = float((kl * mask).sum() / len(rows)) / s.target - 1
        s.beta *= 1 + min(max(error, -0.2), 0.2) / 4
    return losses


def ppo(net: ActorCritic, batches: list[list[Answer]], s: Settings) -> list[list[float]]:
    """One step per batch of answers, against the model as it was; the losses of each pass of each step."""
    reference = copy.deepcopy(net.model).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=s.lr, weight_decay=0.0)
    return [step(net, reference, optimizer, rows, s) for rows in batches]


if __name__ == "__main__":
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    net = ActorCritic(LlamaForCausalLM(LlamaConfig(**sizes, initializer_range=0.2)).eval())
    good, bad = ([1, 7, 9, 4], [12, 15, 2], 1.0), ([1, 7, 9, 4], [12, 33, 40, 2], -1.0)
    for losses in ppo(net, [[good, bad]] * 5, Settings()):
        print([f"{loss:.4f}" for loss in losses])
