"""A guard model of the Llama Guard type: a causal directory whose own chat template asks about a whole exchange.

The template is the directory's (sandboxed by `transformers`); the answer is drawn greedily. Leaves out templates that want categories as an
argument: theirs are used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = 16
"""Tokens of a verdict."""


class GuardModel:
    """`says(prompt, response)` is the model's verdict in its own words. Raises ValueError for a directory without a chat template."""

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(path)
        if not self.tokenizer.chat_template:
            raise ValueError(f"{path}: a guard model asks through its chat template, and this directory has none")
        model: Any = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True)
        self.model: Any = model.to(device).eval()

    @torch.no_grad()
    def says(self, prompt: str, response: str) -> str:
        """The verdict, greedily. Raises ValueError for an exchange that does not fit."""
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        ids = self.tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and ids.shape[1] > limit - WORDS:
            raise ValueError(f"an exchange of {ids.shape[1]} tokens does not fit the guard model's {limit}; shorten it")
        made = self.model.generate(ids.to(self.model.device), max_new_tokens=WORDS, do_sample=False)
        return str(self.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))
