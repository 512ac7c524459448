"""A small encoder with random weights and a tokenizer learned from texts: where masked language modelling starts from.

A BERT (Devlin et al. 2018, arXiv:1810.04805) in the library's own classes, with WordPiece of the texts given, so that every task class,
pipeline and adapter of `transformers` takes it. Leaves out larger shapes: those are downloaded, not made.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def learned_tokenizer(texts: Iterable[str], vocabulary: int, context: int) -> Any:
    """WordPiece of the texts: lower-cased, accents kept, [CLS] text [SEP] as any BERT writes it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False)
    made.train_from_iterator(texts, trainer)
    ids = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=context,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def write_encoder(
    directory: Path, tokenizer: Any, hidden: int, layers: int, heads: int, ffn: int, context: int, seed: int
) -> int:
    """Write the model directory; returns how many parameters it has. Raises ValueError where heads do not divide the width."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    from posttrain.core.files import whole_directory

    if hidden % heads:
        raise ValueError(f"hidden: {hidden} is not divisible by heads = {heads}")
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=ffn,
        max_position_embeddings=context,
        pad_token_id=tokenizer.pad_token_id,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForMaskedLM(config)
    with whole_directory(directory) as beside:
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
    return sum(p.numel() for p in model.parameters())
