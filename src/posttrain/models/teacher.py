"""A teacher for distillation: a frozen model with the student's vocabulary.

Tokens must mean the same to both, so the two tokenizers are compared entry by entry. Rows that only pad the teacher's embedding (releases
of one family differ there) are cut away. Leaves out: teachers with another tokenizer.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from posttrain.models.load import Loaded, load


def load_teacher(path: str, student: Loaded, device: str) -> nn.Module:
    """The frozen model of `path`, in the student's precision. Raises ValueError where its vocabulary is another."""
    teacher = load(path, dtype=student.dtype, template=student.template, device=device)
    check_vocabulary(student, teacher, path)
    model: Any = teacher.model
    rows, wanted = (m.get_output_embeddings().weight.shape[0] for m in (model, student.model))  # type: ignore[operator]
    if rows > wanted:
        model.resize_token_embeddings(wanted, mean_resizing=False)
    elif rows < wanted and rows < len(student.tokenizer):
        raise ValueError(f"teacher: {path} has {rows} output rows, fewer than the {len(student.tokenizer)} tokens")
    return model.requires_grad_(False).eval()


def check_vocabulary(student: Loaded, teacher: Loaded, path: str) -> None:
    """Raises ValueError with one token that the two tokenizers write differently."""
    ours, theirs = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    odd = [t for t in sorted(set(ours) | set(theirs)) if ours.get(t) != theirs.get(t)]
    if odd:
        at = [
            f"{who} {vocabulary.get(odd[0], 'has none')}"
            for who, vocabulary in (("student", ours), ("teacher", theirs))
        ]
        raise ValueError(
            f"teacher: {path} has another vocabulary ({len(odd)} tokens differ, first {odd[0]!r}: {', '.join(at)}); "
            "take a teacher of the student's family, or train on its answers (posttrain sample, then sft)"
        )
