"""Small random models of every family we prove on, with byte-level or metaspace tokenizers trained here: no download.

`tiny("llama", seed=0)` builds model and tokenizer in memory; `tiny_directory(path, "llama")` saves them as `transformers` would.
The chat templates are our own short versions of each family's conventions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim"
    " + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant turns') }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% set r = 'model' if m.role == 'assistant' else 'user' %}"
    "{{ '<start_of_turn>' + r + '\\n' + m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
OLMO = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """model_type, tokenizer style (byte or metaspace), special tokens, eos, bos, pad, template and further config."""

    model_type: str
    style: str = "byte"
    special: tuple[str, ...] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    plain: tuple[str, ...] = ()
    eos: str = "<|im_end|>"
    bos: str | None = None
    pad: str | None = "<|endoftext|>"
    template: str | None = CHATML
    generation_eos: tuple[str, ...] = ()
    config: tuple[tuple[str, Any], ...] = ()


_L3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|pad|>")
_SP = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]")
_GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
_PHI = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|placeholder1|>")
FAMILIES: dict[str, Family] = {
    "llama": Family(
        "llama",
        special=_L3,
        eos="<|eot_id|>",
        bos="<|begin_of_text|>",
        pad="<|pad|>",
        template=LLAMA3,
        generation_eos=("<|end_of_text|>", "<|eot_id|>"),
    ),
    "qwen3": Family(
        "qwen3",
        plain=("<think>", "</think>"),
        template=QWEN3,
        generation_eos=("<|im_end|>", "<|endoftext|>"),
        config=(("head_dim", 16),),
    ),
    "mistral": Family(
        "mistral",
        "metaspace",
        _SP,
        eos="</s>",
        bos="<s>",
        pad=None,
        template=MISTRAL,
        config=(("sliding_window", 24), ("head_dim", 16)),
    ),
    "gemma3": Family(
        "gemma3_text",
        "gemma",
        _GEMMA,
        eos="<eos>",
        bos="<bos>",
        pad="<pad>",
        template=GEMMA,
        generation_eos=("<eos>", "<end_of_turn>"),
        config=(
            ("sliding_window", 16),
            ("head_dim", 16),
            ("query_pre_attn_scalar", 16),
            ("layer_types", ["sliding_attention", "full_attention"]),
        ),
    ),
    "phi3": Family(
        "phi3",
        "prepend",
        _PHI,
        eos="<|endoftext|>",
        pad="<|endoftext|>",
        template=PHI3,
        generation_eos=("<|endoftext|>", "<|end|>"),
    ),
    "olmo2": Family(
        "olmo2",
        special=("<|endoftext|>", "<|pad|>"),
        eos="<|endoftext|>",
        bos="<|endoftext|>",
        pad="<|pad|>",
        template=OLMO,
    ),
    "gpt2": Family(
        "gpt2", special=("<|endoftext|>",), eos="<|endoftext|>", bos="<|endoftext|>", pad=None, template=None
    ),
    "gpt_neox": Family(
        "gpt_neox",
        special=("<|endoftext|>", "<|padding|>"),
        eos="<|endoftext|>",
        bos="<|endoftext|>",
        pad=None,
        template=None,
    ),
    "mixtral": Family(
        "mixtral",
        "metaspace",
        _SP,
        eos="</s>",
        bos="<s>",
        pad=None,
        template=MISTRAL,
        config=(("num_local_experts", 4), ("num_experts_per_tok", 2), ("sliding_window", None)),
    ),
    "smollm3": Family("smollm3"),
    "granite": Family("granite"),
    "cohere": Family("cohere"),
}

TEXT = (
    "The quick brown fox jumps over the lazy dog. What is two plus two? Two plus two is four. User: hello! Assistant: hi. ",
    "You are a helpful assistant. Please write a short answer about the weather in Paris; it rains, and then the sun shines.\n",
    "def add(a, b):\n    return a + b\n\n\n", "1 2 3 4 5 6 7 8 9 10 20 30 100", "wörld naïve façade 你好 世界 мир",
    "im_start im_end end user system tool begin_of_text start_of_turn <| |> [INST] </s> <s>",
)  # fmt: skip

WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Words, digits by three, line breaks kept together with the spaces before them: how recent byte-level vocabularies split."""


def tokenizer_for(family: str, vocab: int = 420) -> PreTrainedTokenizerFast:
    """The family's kind of tokenizer, trained on a few lines; byte fallback or byte level, so every text encodes."""
    spec = FAMILIES[family]
    specials = [AddedToken(t, special=True, normalized=False) for t in spec.special]
    if spec.style == "byte":
        core = Tokenizer(models.BPE())
        gpt2 = family in ("gpt2", "gpt_neox", "olmo2")
        words = pre_tokenizers.Split(Regex(WORDS), "isolated")
        core.pre_tokenizer = (
            pre_tokenizers.ByteLevel(add_prefix_space=False)
            if gpt2
            else pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        )
        core.decoder = decoders.ByteLevel()
        start = pre_tokenizers.ByteLevel.alphabet()
    else:
        core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        if spec.style == "metaspace":
            core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
        else:
            replace = normalizers.Replace(" ", "▁")
            core.normalizer = (
                normalizers.Sequence([normalizers.Prepend("▁"), replace]) if spec.style == "prepend" else replace
            )
        start = []
        if "<unk>" not in spec.special:
            specials.append(AddedToken("<unk>", special=True, normalized=False))
        specials += [AddedToken(f"<0x{i:02X}>", special=False) for i in range(256)]
        tail = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        core.decoder = decoders.Sequence(tail + ([] if spec.style == "gemma" else [decoders.Strip(" ", 1, 0)]))
    names = [t.content for t in specials]
    size = max(vocab, len(names) + 256 + 40)
    core.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=size, special_tokens=specials, initial_alphabet=start, show_progress=False)
    )
    core = _only_specials(core, set(spec.special) | {"<unk>"})
    core.add_tokens([AddedToken(t, special=False, normalized=False) for t in spec.plain])
    if spec.bos and spec.style != "byte":
        core.post_processor = processors.TemplateProcessing(
            single=f"{spec.bos} $A", special_tokens=[(spec.bos, core.token_to_id(spec.bos))]
        )
    unk = {} if spec.style == "byte" else {"unk_token": "<unk>"}
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=spec.eos,
        bos_token=spec.bos,
        pad_token=spec.pad,
        clean_up_tokenization_spaces=False,
        **unk,
    )
    made.chat_template = spec.template
    return made


def _only_specials(core: Tokenizer, special: set[str]) -> Tokenizer:
    """Byte pieces stay in the vocabulary as the model's own, and are no added tokens (as in real byte-fallback vocabularies)."""
    import json

    body = json.loads(core.to_str())
    body["added_tokens"] = [t for t in body["added_tokens"] if t["content"] in special]
    return Tokenizer.from_str(json.dumps(body))


def tiny(
    family: str, vocab: int = 420, seed: int = 0, hidden: int = 32, layers: int = 2, heads: int = 2, context: int = 512
) -> tuple[Any, PreTrainedTokenizerFast]:
    """Model (float32, random) and tokenizer of a family. Embedding rows = len(tokenizer)."""
    spec = FAMILIES[family]
    tokenizer = tokenizer_for(family, vocab)
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": 1, "intermediate_size": 2 * hidden, "max_position_embeddings": context,
    }  # fmt: skip
    if family == "gpt2":
        sizes = {
            "vocab_size": len(tokenizer),
            "n_embd": hidden,
            "n_layer": layers,
            "n_head": heads,
            "n_positions": context,
        }
    if family == "gpt_neox":
        sizes.pop("num_key_value_heads")
    ids = {
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = AutoConfig.for_model(spec.model_type, **sizes, **ids, **dict(spec.config))
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.mul_(3.0)
    stops = [tokenizer.convert_tokens_to_ids(t) for t in spec.generation_eos] or tokenizer.eos_token_id
    model.generation_config = GenerationConfig(eos_token_id=stops, bos_token_id=tokenizer.bos_token_id)
    return model.eval(), tokenizer


def tiny_directory(path: str | Path, family: str, **sizes: int) -> Path:
    """Save `tiny(family)` to `path` the way `transformers` does, and return it."""
    model, tokenizer = tiny(family, **sizes)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return Path(path)
