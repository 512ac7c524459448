"""The New job: a randomly initialised Llama-type model around a tokenizer, to pretrain from nothing."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeInt, PositiveInt

from posttrain.core.files import whole_directory
from posttrain.core.run import Run
from posttrain.jobs.job import Context, Job
from posttrain.jobs.stage import Stage


class New(Job):
    """Make a model of a given shape with random weights."""

    name: ClassVar[str] = "new"

    tokenizer: str
    """Directory of the tokenizer."""
    out: str
    """Where the model directory is written (`model/` inside)."""
    hidden: PositiveInt = 160
    """Width of the hidden states."""
    layers: PositiveInt = 5
    """Transformer blocks."""
    heads: PositiveInt = 5
    """Attention heads."""
    kv_heads: PositiveInt = 5
    """Heads of keys and values."""
    ffn: PositiveInt = 400
    """Width of the feed-forward layer."""
    context: PositiveInt = 512
    """Longest sequence."""
    copying: NonNegativeInt = 0
    """Copying circuits to write into the fresh weights (gives the attention biases); 0 leaves all to training."""
    seed: int = 0
    """Seeds the weights."""

    def run(self, context: Context | None = None) -> Run:
        import torch
        from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

        from posttrain.models.copying import set_copying

        if self.hidden % self.heads or self.heads % self.kv_heads:
            raise ValueError("hidden must be divisible by heads, and heads by kv_heads")
        context = context or Context()
        stage = Stage(self, self.name, self.out, [self.tokenizer], file=False)
        if stage.finished:
            context.say(f"{self.out}: finished with the same recipe and inputs; reused")
            return Run(stage.out)
        tokenizer = AutoTokenizer.from_pretrained(self.tokenizer)
        torch.manual_seed(self.seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden,
            intermediate_size=self.ffn,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            attention_bias=self.copying > 0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model = LlamaForCausalLM(config)
        if self.copying:
            set_copying(model, self.copying, self.seed)
        out = Run(stage.out)
        out.path.mkdir(parents=True, exist_ok=True)
        with whole_directory(out.model) as beside:
            model.save_pretrained(beside, safe_serialization=True)
            tokenizer.save_pretrained(beside)
        size = sum(p.numel() for p in model.parameters())
        stage.finish([out.model], parameters=size)
        context.say(f"{out.model}: {size:,} parameters, random")
        return out
