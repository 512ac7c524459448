"""Directories with a task head, loaded through the library alone, and what they say of texts.

Nothing of the training code takes part: classes of `transformers` (or mean pooling for embeddings), the tokenizer as it was saved. So a
figure measured here is one that any other program would get.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posttrain.core.group import Mark
from posttrain.models.tasks import auto_class
from posttrain.models.texts import TextRenderer
from posttrain.models.trunk import reads_both_ways

KINDS = {
    "ForSequenceClassification": "sequence_classification",
    "ForTokenClassification": "token_classification",
    "ForQuestionAnswering": "question_answering",
    "ForMultipleChoice": "multiple_choice",
    "ForMaskedLM": "masked_lm",
}
PIECE = 32
"""Rows of one forward."""


def task_of(path: str | Path) -> str | None:
    """Which task a model directory is for, from its files; None for language models."""
    folder = Path(path)
    if (folder / "modules.json").is_file():
        return "embedding"
    if not (folder / "config.json").is_file():
        return None
    names = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or [""]
    return next((task for end, task in KINDS.items() if names[0].endswith(end)), None)


class TaskModel:
    """A loaded directory. `task` is one of `tasks.CLASSES`; `labels` names its outputs."""

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        from transformers import AutoTokenizer

        found = task_of(path)
        if found is None:
            raise ValueError(f"{path}: no task head; give a run of sequence_classification, token_classification ...")
        self.task, self.path, self.device = found, str(path), device
        self.model: Any = auto_class(found).from_pretrained(path, use_safetensors=True).to(device).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.renderer = TextRenderer(self.tokenizer)
        named = self.model.config.id2label or {}
        self.labels = tuple(named[i] for i in sorted(named))

    def _rows(self, texts: Sequence[tuple[str, ...]]) -> Iterator[tuple[slice, Any, Any]]:
        """Pieces of padded rows with what the model gives for them."""
        for at in range(0, len(texts), PIECE):
            part = texts[at : at + PIECE]
            columns = [list(c) for c in zip(*part)]
            inputs = self.tokenizer(*columns, padding=True, padding_side="right", return_tensors="pt").to(self.device)
            limit = getattr(self.model.config, "max_position_embeddings", None)
            if limit is not None and inputs["input_ids"].shape[1] > limit:
                longest = max(part, key=lambda texts: sum(map(len, texts)))[-1]
                raise ValueError(
                    f"a text of {inputs['input_ids'].shape[1]} tokens does not fit the model's {limit}: {longest[:40]!r} ...; shorten it"
                )
            if not reads_both_ways(self.model.config):
                inputs.pop("token_type_ids", None)
            with torch.no_grad():
                yield slice(at, at + len(part)), inputs, self.model(**inputs)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """[texts, outputs] of a sequence classification or regression head."""
        return np.concatenate([out.logits.float().cpu().numpy() for _, _, out in self._rows([(t,) for t in texts])])

    def classes(self, texts: Sequence[str]) -> list[str]:
        """The likeliest class of each text."""
        return [self.labels[i] for i in self.logits(texts).argmax(-1)]

    def tags(self, texts: Sequence[str]) -> list[list[str]]:
        """A tag for each token of the text, closing tokens left out; aligned with `offsets`."""
        out: list[list[str]] = []
        for where, inputs, made in self._rows([(t,) for t in texts]):
            best = made.logits.argmax(-1).cpu().numpy()
            for row, text in enumerate(texts[where]):
                _, ids, offsets = self.renderer.encode(None, text)
                first = int(inputs["attention_mask"][row].sum()) - len(ids)
                named = [self.labels[i] for i in best[row, first : first + len(ids)]]
                out.append([n for n, (start, end) in zip(named, offsets.tolist()) if start < end])
        return out

    def answers(self, pairs: Sequence[tuple[str, str]], longest: int = 64) -> list[Mark | None]:
        """The span that answers each (question, text), at most `longest` tokens; None where the model points at the closing token."""
        out: list[Mark | None] = []
        for where, inputs, made in self._rows(pairs):
            starts, ends = made.start_logits.float(), made.end_logits.float()
            for row, (question, text) in enumerate(pairs[where]):
                _, ids, offsets = self.renderer.encode(question, text)
                total = int(inputs["attention_mask"][row].sum())
                mine = slice(total - len(ids), total)
                out.append(_best(starts[row, mine], ends[row, mine], offsets, longest))
        return out

    def choose(self, question: str, choices: Sequence[str]) -> int:
        """Index of the choice with the highest score."""
        pairs = [(question, c) for c in choices]
        if self.task == "multiple_choice":
            columns = [list(c) for c in zip(*pairs)]
            inputs = self.tokenizer(*columns, padding=True, return_tensors="pt").to(self.device)
            with torch.no_grad():
                return int(self.model(**{k: v[None] for k, v in inputs.items()}).logits[0].argmax())
        return int(np.concatenate([out.logits[:, 0].float().cpu().numpy() for _, _, out in self._rows(pairs)]).argmax())

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[texts, d] embeddings of length 1: the mean over all tokens of a text."""
        made = [
            _mean(out.last_hidden_state, inputs["attention_mask"])
            for _, inputs, out in self._rows([(t,) for t in texts])
        ]
        return torch.nn.functional.normalize(torch.cat(made), dim=-1).cpu().numpy()


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weight = mask[..., None].to(states.dtype)
    return ((states * weight).sum(1) / weight.sum(1)).float()


def _best(start: Tensor, end: Tensor, offsets: np.ndarray, longest: int) -> Mark | None:
    """The likeliest span of text; None where the closing token, which stands for no answer, is likelier."""
    said = torch.from_numpy((offsets[:, 0] < offsets[:, 1]).copy())
    wanted = start[:, None] + end[None, :]
    allowed = torch.ones_like(wanted).triu() * torch.ones_like(wanted).tril(longest - 1)
    allowed = allowed.bool() & said[:, None] & said[None, :]
    if not bool(allowed.any()):
        return None
    wanted = wanted.masked_fill(~allowed, float("-inf"))
    at = int(wanted.argmax())
    first, last = divmod(at, wanted.shape[1])
    if float(start[-1] + end[-1]) > float(wanted[first, last]):
        return None
    return Mark("answer", int(offsets[first, 0]), int(offsets[last, 1]))
