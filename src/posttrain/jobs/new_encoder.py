"""The new-encoder job: a small encoder and its tokenizer from rows, ready for `posttrain masked_lm`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import PositiveInt

from posttrain.core.run import Run
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.stage import Stage, paths_of


class NewEncoder(Job):
    """Make a small encoder with random weights, and a tokenizer learned from texts."""

    name: ClassVar[str] = "new-encoder"

    data: Source
    """Rows whose texts (prompts and answers) the vocabulary is learned from."""
    out: str
    """Where the model directory is written (`model/` inside)."""
    vocabulary: PositiveInt = 4000
    """Word pieces; more makes shorter rows and a larger table."""
    hidden: PositiveInt = 128
    """Width of the hidden states."""
    layers: PositiveInt = 4
    """Transformer blocks."""
    heads: PositiveInt = 4
    """Attention heads."""
    ffn: PositiveInt = 512
    """Width of the feed-forward layer."""
    context: PositiveInt = 256
    """Longest text, in tokens."""
    seed: int = 0
    """Seeds the weights."""

    def run(self, context: Context | None = None) -> Run:
        """Write the directory, or reuse one of the same recipe and inputs."""
        from posttrain.models.new_encoder import learned_tokenizer, write_encoder

        context = context or Context()
        stage = Stage(self, self.name, self.out, paths_of(self.data), file=False)
        out = Run(stage.out)
        if stage.finished:
            context.say(f"{self.out}: finished with the same recipe and inputs; reused")
            return out
        groups = [g for part in assembly.gather(self.data, context) for g in part.groups]
        texts = [t for g in groups for t in (g.prompt_text, *(r.text for r in g.responses)) if t]
        tokenizer = learned_tokenizer(texts, self.vocabulary, self.context)
        out.path.mkdir(parents=True, exist_ok=True)
        size = write_encoder(
            out.model, tokenizer, self.hidden, self.layers, self.heads, self.ffn, self.context, self.seed
        )
        stage.finish([out.model], parameters=size)
        context.say(f"{out.model}: {size:,} parameters, random; {len(tokenizer):,} word pieces")
        return out
