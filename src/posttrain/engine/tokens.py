"""What is read at tokens themselves: tags, fillings of masks, embeddings, and the library's own task heads.

A causal LM gives its hidden states and linear heads of ours read them, on the shared path or the padded one. An encoder looks both
ways, so a prompt cannot be shared: its rows are padded, and its own task class (pooler, dense layer, whatever the family has) gives the
logits. Which of the two a model is, a method never sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from posttrain.core.batch import Batch
from posttrain.core.needs import Needs, Output
from posttrain.models.token_scores import Head, token_scores
from posttrain.models.trunk import attention_of, backbone, causal_lm, dense_attention, rectangle, shared_hidden


@dataclass(frozen=True)
class Places:
    """Tokens to read: `flat` in the stream [T], `box` in the padded rows [R * L], `row` their response; all [M] on the host."""

    flat: np.ndarray
    box: np.ndarray
    row: np.ndarray


def own_places(batch: Batch) -> Places:
    """The trained tokens themselves, in the order of `target`."""
    row, own = batch.row.cpu().numpy(), batch.own
    return Places(own, row * width(batch) + prompts(batch)[row] + own - batch.start[row], row)


def last_places(batch: Batch) -> Places:
    """The last trained token of each response."""
    row, last = np.arange(batch.R), batch.last.cpu().numpy()
    return Places(last, row * width(batch) + prompts(batch) + last - batch.start, row)


def prompt_places(batch: Batch) -> Places:
    """Every prompt token once for each response that follows it."""
    lengths = prompts(batch)
    row = np.repeat(np.arange(batch.R), lengths)
    inside = np.concatenate([np.arange(n) for n in lengths]) if len(lengths) else np.zeros(0, dtype=np.int64)
    return Places(batch.prompt_start[batch.group_of][row] + inside, row * width(batch) + inside, row)


def prompts(batch: Batch) -> np.ndarray:
    """[R] length of each response's prompt."""
    return batch.prompt_length[batch.group_of]


def width(batch: Batch) -> int:
    """L: tokens of the longest row."""
    return int((prompts(batch) + batch.length).max())


def token_outputs(
    model: nn.Module,
    heads: nn.ModuleDict,
    batch: Batch,
    needs: Needs,
    path: Literal["shared", "dense"],
    limit: int,
) -> Output:
    """Outputs of a causal LM read at tokens themselves: `labels`, `pooled`, `score`, and log-probs with `own`."""
    own, last = own_places(batch), last_places(batch)
    around = prompt_places(batch) if needs.pooled else None
    asked = [own, last, *([around] if around is not None else [])]
    states = _states(model, batch, asked, path)
    out: dict[str, Any] = {}
    if needs.head_rows:
        at_ids = batch.data[needs.at_ids] if needs.at_ids else None
        made = token_scores(Head.of(model), states[0], batch.target, needs, at_ids, limit)
        out = {n: getattr(made, n) for n in Output.__slots__ if n != "heads"}
    if needs.labels:
        out["labels"] = heads["labels"](states[0])
    if needs.score:
        out["score"] = heads["score"](states[1])
    if needs.hidden:
        out["hidden"] = states[0]
    if around is not None:
        out["pooled"] = mean_by_row(torch.cat([states[2], states[0]]), np.concatenate([around.row, own.row]), batch.R)
    return Output(**out)


def _states(model: nn.Module, batch: Batch, asked: list[Places], path: str) -> list[Tensor]:
    sizes = [len(p.row) for p in asked]
    if path == "shared":
        places = torch.from_numpy(np.concatenate([p.flat for p in asked])).to(batch.ids.device)
        return list(shared_hidden(model, batch, places).split(sizes))
    box = rectangle(batch)
    with attention_of(model, dense_attention(model)):
        out = backbone(model)(input_ids=box.ids, attention_mask=box.mask.long(), use_cache=False)
    places = torch.from_numpy(np.concatenate([p.box for p in asked])).to(batch.ids.device)
    return list(out.last_hidden_state.flatten(0, 1).index_select(0, places).split(sizes))


def mean_by_row(states: Tensor, row: np.ndarray, rows: int) -> Tensor:
    """[M, d] -> [rows, d], in fp32 (fp64 for fp64 states)."""
    wide = states if states.dtype == torch.float64 else states.float()
    index = torch.from_numpy(row).to(states.device)
    total = wide.new_zeros(rows, states.shape[-1]).index_add(0, index, wide)
    return total / torch.bincount(index, minlength=rows).clamp_min(1)[:, None]


def encoder_outputs(model: nn.Module, batch: Batch, needs: Needs) -> Output:
    """Outputs of an encoder's own task class on padded rows; see `encoder_inputs`."""
    inputs = encoder_inputs(model, batch)
    places = torch.from_numpy(own_places(batch).box).to(batch.ids.device)
    if needs.pooled:
        kept = torch.from_numpy(np.concatenate([prompt_places(batch).box, own_places(batch).box]))
        rows = np.concatenate([prompt_places(batch).row, own_places(batch).row])
        states = backbone(model)(**inputs).last_hidden_state.flatten(0, 1)
        return Output(pooled=mean_by_row(states.index_select(0, kept.to(states.device)), rows, batch.R))
    several = "MultipleChoice" in type(causal_lm(model)).__name__
    if several:  # the class takes [questions, choices, L]; every row is a question of one choice here
        inputs = {k: v[:, None] for k, v in inputs.items()}
    made = model(**inputs)
    if needs.score:
        return Output(score=made.logits.reshape(batch.R, -1).float())
    if needs.labels:
        logits = torch.stack([made.start_logits, made.end_logits], -1) if "start_logits" in made else made.logits
        return Output(labels=logits.flatten(0, 1).index_select(0, places).float())
    logp = made.logits.flatten(0, 1).index_select(0, places).float().log_softmax(-1)
    out = Output(logp=logp.gather(-1, batch.target[:, None])[:, 0])
    if needs.at_ids is None:
        return out
    return Output(logp=out.logp, at_logp=logp.gather(-1, batch.data[needs.at_ids]))


def encoder_inputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Padded rows as an encoder takes them; the second text of a pair has segment 1 where the family knows segments."""
    config: Any = causal_lm(model).config
    box = rectangle(batch, pad=config.pad_token_id or 0)
    inputs = {"input_ids": box.ids, "attention_mask": box.mask.long()}
    lengths = prompts(batch)
    if getattr(config, "type_vocab_size", 0) > 1 and bool((lengths > 1).any()):
        after = np.arange(box.ids.shape[1])[None] >= np.where(lengths > 1, lengths, box.ids.shape[1])[:, None]
        inputs["token_type_ids"] = torch.from_numpy(after.astype(np.int64)).to(box.ids.device) * box.mask
    return inputs
