"""Replacements of words in a suffix, proposed by the gradient of a reward model's score: for searches that attack it.

The first-order step of HotFlip (Ebrahimi et al. 2018, arXiv:1712.06751): putting token v in the place of w changes the score by about
(e_v - e_w) . dscore/de. The gradient is averaged over the prompts; proposals are texts, which the search then really scores. Leaves out
the likelihood part of scores that have one, and suffixes whose tokens run into the answer's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from posttrain.core.chat import assistant
from posttrain.core.group import Group, Response
from posttrain.models.trunk import backbone

if TYPE_CHECKING:
    from posttrain.jobs.scoring import ModelReward


def swaps(reward: ModelReward, groups: Sequence[Group], suffix: str, k: int, up: bool = True) -> list[str]:
    """Up to k suffixes with one token replaced, the most promising first. groups: one answer each, which ends with `suffix`."""
    bare = [_without(g, suffix) for g in groups]
    full, short = ([g for g in reward.renderer.render_many(x) if g is not None] for x in (groups, bare))
    gradients, ids = [], None
    for g, without in zip(full, short, strict=True):
        span = _span(_tokens(g), _tokens(without))
        mine = _tokens(g)[span]
        if ids is None:
            ids = mine
        if not len(mine) or not np.array_equal(mine, ids):
            continue  # this answer's last token runs into the suffix
        gradients.append(_gradient(reward, g, span))
    if ids is None or not gradients:
        return []
    return _proposals(reward, ids, torch.stack(gradients).mean(0), suffix, k, up)


def _without(group: Group, suffix: str) -> Group:
    text = group.responses[0].text.removesuffix(suffix).rstrip()
    return group.with_responses([replace(group.responses[0], turns=(assistant(text),))])


def _tokens(group: Group) -> np.ndarray:
    response: Response = group.responses[0]
    assert response.tokens is not None
    return np.asarray(response.tokens)


def _span(full: np.ndarray, short: np.ndarray) -> slice:
    """Where `full` is longer than `short`: after their common start and before their common end."""
    most = min(len(full), len(short))
    start = next((i for i in range(most) if full[i] != short[i]), most)
    end = next((i for i in range(most - start) if full[-1 - i] != short[-1 - i]), most - start)
    return slice(start, len(full) - end)


def _gradient(reward: ModelReward, group: Group, span: slice) -> Tensor:
    """d score / d embedding at the suffix's tokens [n, d]."""
    model: Any = reward.loaded.model
    assert group.prompt_tokens is not None
    start = len(group.prompt_tokens)
    ids = torch.as_tensor(np.concatenate([group.prompt_tokens, _tokens(group)]), device=reward.engine.device)
    weight = model.get_input_embeddings().weight
    embedded = weight[ids].detach().clone().requires_grad_(True)
    states = backbone(model)(inputs_embeds=embedded[None], use_cache=False).last_hidden_state[0]
    head: Any = reward.engine.heads["score"]
    score = head(states[-1]).mean()
    (found,) = torch.autograd.grad(score, embedded)
    return found[start + span.start : start + span.stop].float()


def _proposals(reward: ModelReward, ids: np.ndarray, gradient: Tensor, suffix: str, k: int, up: bool) -> list[str]:
    model: Any = reward.loaded.model
    tokenizer: Any = reward.loaded.tokenizer
    weight = model.get_input_embeddings().weight.detach().float()
    gain = gradient @ weight.T
    gain = gain - gain.gather(1, torch.as_tensor(ids, device=gain.device)[:, None])
    gain = gain if up else -gain
    gain[:, list(tokenizer.all_special_ids)] = -torch.inf
    out: list[str] = []
    for at in gain.flatten().argsort(descending=True)[: 32 * k].tolist():
        place, token = divmod(at, gain.shape[1])
        changed = [int(i) for i in ids]
        changed[place] = token
        text = str(tokenizer.decode(changed))
        # A text that is cut into other tokens is not the point that the gradient spoke of.
        if not text.strip().isprintable() or tokenizer(text, add_special_tokens=False)["input_ids"] != changed:
            continue
        text = text.strip()
        if text and text != suffix and text not in out:
            out.append(text)
        if len(out) == k:
            break
    return out
