"""Any `transformers` causal language model directory or hub id, in and out.

`load` gives a `Loaded`: model, tokenizer, template and what was decided on the way (`notes`). Nothing is unpickled: weights must be
safetensors. Dropout is 0 in every role, so that policy and reference agree before the first step; the directory that `save`
writes keeps the original values. Left out: directories of quantised
weights (`base: 4bit` packs plain ones), sequence-to-sequence models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from posttrain.models.quantized import four_bit, settle
from posttrain.models.template import MARKERS, Template, chosen, turn_ends
from posttrain.models.weights import write_weights

DTYPES = {"fp32": torch.float32, "float32": torch.float32, "bf16": torch.bfloat16, "bfloat16": torch.bfloat16}
PAD_NAMES = ("<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|endoftext|>", "<unk>", "<|unk|>", "[UNK]")


@dataclass
class Loaded:
    """A model ready to train or serve.

    path: where it came from. family: `model_type` of its config. notes: one line per decision that the user should see.
    kept: config values that training overrides (dropout, cache), written back on `save`.
    added: names of tokens that were not in the vocabulary before; `new_rows` counts embedding rows created for them.
    lora: the adapter's settings, where the model wears one.
    """

    model: nn.Module
    tokenizer: Any
    template: Template
    path: str
    dtype: torch.dtype
    family: str
    notes: tuple[str, ...] = ()
    kept: Mapping[str, Any] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    new_rows: int = 0
    lora: Any = None

    @property
    def stops(self) -> tuple[int, ...]:
        """`stop_ids` of this model, sorted."""
        return stop_ids(self)


def cpu_has_bf16() -> bool:
    """Does this CPU multiply bfloat16 in hardware (AVX512-BF16 or AMX)? Elsewhere it is far slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        flags = ""
    return bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", flags)) and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def pick_dtype(dtype: str | torch.dtype, device: str | torch.device) -> torch.dtype:
    """`auto` is bf16 on GPUs and fp32 on CPUs, those with bf16 hardware included: the same recipe gives the same model on every CPU, whole
    weights are not trained in eight bits of mantissa unasked, and the kernels are fp32. Raises ValueError on an unknown name."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is unknown; accepted: auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def check_directory(path: str) -> bool:
    """True for a local model directory, False for what can only be a hub id. Raises ValueError with the remedy."""
    folder = Path(path).expanduser()
    if not folder.exists():
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) and not path.startswith("."):
            return False
        raise ValueError(f"{path}: no such directory")
    if not folder.is_dir():
        raise ValueError(f"{path}: a file, not a model directory; give the directory that holds config.json")
    if not (folder / "config.json").exists():
        raise ValueError(f"{path}: not a model directory (no config.json)")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(f.name for f in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
        if pickled:
            raise ValueError(
                f"{path}: weights only as pickle ({pickled[0]}), which is never read; convert them to safetensors"
            )
        raise ValueError(f"{path}: no weights (*.safetensors)")
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "tokenizer_config.json")
    if not any((folder / name).exists() for name in names):
        raise ValueError(f"{path}: no tokenizer beside the model (tokenizer.json)")
    return True


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


def _unreachable(path: str, what: str, local: bool, error: Exception) -> ValueError:
    if local:
        return ValueError(f"{path}: {what} cannot be read: {_first_line(error)}")
    return ValueError(
        f"{path}: no such directory, and no {what} of that hub id in the cache or online ({_first_line(error)})"
    )


def without_dropout(config: Any) -> dict[str, Any]:
    """Set dropout and router noise of a config (and of its text part) to 0; returns the values before, by dotted name."""
    kept: dict[str, Any] = {}
    for prefix, part in (("", config), ("text_config.", getattr(config, "text_config", None))):
        for name, value in dict(vars(part)).items() if part is not None else ():
            noisy = "dropout" in name or name.endswith("pdrop") or name in ("layerdrop", "router_jitter_noise")
            if noisy and isinstance(value, float) and value > 0:
                kept[prefix + name] = value
                setattr(part, name, 0.0)
    return kept


def _quiet(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout", "dropout_p"):
            if isinstance(vars(module).get(name), float):
                setattr(module, name, 0.0)


def read_tokenizer(path: str, local: bool, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a directory or hub id. Raises ValueError in one line."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever a broken tokenizer raises, the user gets one line
        raise _unreachable(path, "tokenizer", local, error) from error


def read_config(path: str, local: bool, trust_remote_code: bool = False) -> Any:
    """The config of a directory or hub id. Raises ValueError in one line."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise _unreachable(path, "config", local, error) from error


def read_model(
    kind: Any,
    path: str,
    local: bool,
    config: Any,
    dtype: torch.dtype,
    attn: str,
    trust_remote_code: bool,
    quantized: Mapping[str, Any] | None = None,
) -> tuple[Any, dict[str, Any], list[str]]:
    """Model, loading information and notes. `kind` is an Auto class. Weights come from safetensors only.

    A model that refuses the attention asked for is loaded with its plain one, and a note says so. quantized: further arguments of
    `from_pretrained`, for weights held in fewer bits.
    """
    from transformers.utils import logging as hf_logging

    fixed = {
        "config": config,
        "dtype": dtype,
        "use_safetensors": True,
        "output_loading_info": True,
        **(quantized or {}),
    }
    fixed["trust_remote_code"] = trust_remote_code
    notes: list[str] = []
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        try:
            model, info = kind.from_pretrained(path, attn_implementation=attn, **fixed)
        except (ValueError, ImportError) as error:
            if "attention" not in str(error) and "attn" not in str(error):
                raise
            notes.append(f"{config.model_type} does not take {attn} attention: loaded with eager")
            model, info = kind.from_pretrained(path, attn_implementation="eager", **fixed)
    except Exception as error:
        raise _unreachable(path, "model", local, error) from error
    finally:
        if bars:
            hf_logging.enable_progress_bar()
    return model, info, notes


def load(
    path_or_id: str | Path,
    dtype: str | torch.dtype = "auto",
    template: str | Template | None = None,
    device: str | torch.device = "cpu",
    trust_remote_code: bool = False,
    attn: str = "sdpa",
    base: Literal["same", "4bit"] = "same",
) -> Loaded:
    """A causal language model with its tokenizer and template, dropout and router noise off.

    path_or_id: a directory (also an adapter directory of `peft`) or a hub id. dtype: auto, fp32, bf16 or a torch dtype.
    template: None = the tokenizer's own, or a built-in one for a base model; else a name, a .jinja file or source.
    base: 4bit holds the linear layers in four bits, to be trained through an adapter.
    Raises ValueError in one line for a missing or incomplete directory, pickle-only weights, an unreachable hub id, and
    weights that lack tensors of the model (nothing is newly initialised in silence).
    """
    from transformers import AutoModelForCausalLM

    path = str(path_or_id)
    if (Path(path) / "adapter_config.json").exists() and not (Path(path) / "config.json").exists():
        from posttrain.models.adapters import load_adapter

        if base == "4bit":
            raise ValueError(
                f"{path}: lora.base: 4bit starts from whole weights, and this is an adapter; save it merged"
            )
        return load_adapter(path, dtype, template, device, trust_remote_code, attn)
    local = check_directory(path)
    held = pick_dtype(dtype, device)
    config = read_config(path, local, trust_remote_code)
    kept = without_dropout(config)
    tokenizer = read_tokenizer(path, local, trust_remote_code)
    packed = {"quantization_config": four_bit(held), "device_map": {"": str(device)}} if base == "4bit" else None
    model, info, notes = read_model(AutoModelForCausalLM, path, local, config, held, attn, trust_remote_code, packed)
    if packed is not None:
        settle(model)
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise ValueError(
            f"{path}: {len(missing)} tensors of {config.model_type} are not in the weights (first: {missing[0]})"
        )
    if info["unexpected_keys"]:
        surplus = sorted(info["unexpected_keys"])
        notes.append(f"{len(surplus)} tensors of the directory are not part of the model (first: {surplus[0]})")
    return finish(model, tokenizer, template, path, held, kept, notes, device)


def finish(
    model: Any,
    tokenizer: Any,
    template: str | Template | None,
    path: str,
    dtype: torch.dtype,
    kept: dict[str, Any],
    notes: list[str],
    device: str | torch.device,
) -> Loaded:
    """A `Loaded` of a model just read: no dropout, no cache, on its device, with template and pad settled."""
    _quiet(model)
    kept["use_cache"] = getattr(model.config, "use_cache", True)
    model.config.use_cache = False
    model.to(device)
    own = chosen(template, tokenizer.chat_template, tokenizer.get_vocab())
    loaded = Loaded(model, tokenizer, own, path, dtype, model.config.model_type, tuple(notes), kept)
    settle_tokens(loaded, template)
    return loaded


def settle_tokens(loaded: Loaded, wanted: str | Template | None = None) -> None:
    """Template markers and a pad token of its own: chosen from the vocabulary, or added with a new embedding row."""
    tokenizer, notes, added = loaded.tokenizer, list(loaded.notes), list(loaded.added)
    template = loaded.template = chosen(wanted, tokenizer.chat_template, tokenizer.get_vocab())
    if tokenizer.chat_template != template.source:
        why = "replaces the tokenizer's own" if tokenizer.chat_template else "the tokenizer has none"
        notes.append(f"chat template {template.name!r} ({why}); it is saved with the model")
        tokenizer.chat_template = template.source
    if tokenizer.eos_token_id is None:
        ends = turn_ends(tokenizer, template)
        if not ends:
            raise ValueError(
                f"{loaded.path}: the tokenizer has no eos token and the template ends no turn; set eos_token"
            )
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(min(ends))
        notes.append(f"no eos token: {tokenizer.eos_token!r} taken from the template")
    markers = [m for m in MARKERS.get(template.name, ()) if m not in tokenizer.get_vocab()]
    if markers:
        tokenizer.add_tokens(markers, special_tokens=True)
        added += markers
    stops = {tokenizer.eos_token_id, *generation_eos(loaded.model), *turn_ends(tokenizer, template)}
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        was = tokenizer.pad_token
        name = _pad_name(tokenizer, stops)
        if name is None:
            name = "<|pad|>"
            added.append(name)
        tokenizer.add_special_tokens({"pad_token": name})
        notes.append(f"pad token was {'missing' if was is None else f'eos ({was})'}: {name!r} is used")
    loaded.new_rows += _grow(loaded.model, len(tokenizer))
    config: Any = loaded.model.config
    config.pad_token_id = tokenizer.pad_token_id
    if added:
        notes.append(f"tokens added: {', '.join(added)} ({loaded.new_rows} new embedding rows, set to the mean row)")
    loaded.notes, loaded.added = tuple(notes), tuple(added)


def _pad_name(tokenizer: Any, stops: set[int]) -> str | None:
    """A special token of the vocabulary that can serve as pad: neither eos nor bos nor any stop."""
    taken = stops | {tokenizer.bos_token_id}
    special = {t.content: i for i, t in tokenizer.added_tokens_decoder.items() if t.special and i not in taken}
    reserved = (name for name in special if "pad" in name.lower() or "reserved" in name.lower())
    return next((name for name in PAD_NAMES if name in special), next(reserved, None))


def _grow(model: Any, size: int) -> int:
    """Make the embedding hold `size` rows. New rows are the mean of the old ones (no randomness). Returns how many are new."""
    old = model.get_input_embeddings().weight.shape[0]
    if size <= old:
        return 0
    model.resize_token_embeddings(size, mean_resizing=False)
    head = model.get_output_embeddings()
    with torch.no_grad():
        for layer in {id(m): m for m in (model.get_input_embeddings(), head) if m is not None}.values():
            layer.weight[old:] = layer.weight[:old].float().mean(0).to(layer.weight.dtype)
            if getattr(layer, "bias", None) is not None:
                layer.bias[old:] = layer.bias[:old].mean()
    return size - old


def generation_eos(model: nn.Module) -> set[int]:
    """Stop ids of the model's generation config."""
    value = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return set() if value is None else {int(v) for v in (value if isinstance(value, (list, tuple)) else [value])}


def stop_ids(loaded: Loaded) -> tuple[int, ...]:
    """Ids that end an answer: tokenizer eos, generation config eos and the template's turn end, pad left out. Sorted."""
    tokenizer = loaded.tokenizer
    found = {tokenizer.eos_token_id, *generation_eos(loaded.model), *turn_ends(tokenizer, loaded.template)}
    return tuple(sorted(i for i in found if i is not None and i != tokenizer.pad_token_id))


def save(
    loaded: Loaded, directory: str | Path, heads: Mapping[str, Tensor] | None = None, dtype: torch.dtype | None = None
) -> Path:
    """Write a plain `transformers` directory, beside and renamed: safetensors, tokenizer, template, generation config.

    heads: tensors for ``heads.safetensors`` (see `heads.py`). dtype: store in another type than the one held.
    The generation config lists `stop_ids`, never the pad. Returns the directory.
    """
    from safetensors.torch import save_file

    from posttrain.core.files import whole_directory, write_json

    tokenizer = loaded.tokenizer
    adapted = hasattr(loaded.model, "disable_adapter")
    model: Any = loaded.model.get_base_model() if adapted else loaded.model  # type: ignore[operator]
    if getattr(model, "generation_config", None) is not None:
        settle_generation(model.generation_config, tokenizer, list(stop_ids(loaded)))
    training = {name: _nested(model.config, name) for name in loaded.kept}
    try:
        for name, value in loaded.kept.items():
            _nested(model.config, name, value)
        with whole_directory(directory) as beside:
            if adapted and loaded.lora.save == "adapter":
                loaded.model.save_pretrained(beside, save_embedding_layers=False)  # type: ignore[operator]
            else:
                write_weights(loaded.model, model, beside, dtype)
            tokenizer.save_pretrained(beside)
            write_json(
                beside / "posttrain.json", {"template": loaded.template.name, "template_hash": loaded.template.hash}
            )
            if heads:
                tensors = {k: v.detach().float().contiguous().cpu() for k, v in heads.items()}
                save_file(tensors, beside / "heads.safetensors")
    finally:
        for name, value in training.items():
            _nested(model.config, name, value)
    return Path(directory)


def settle_generation(generation: Any, tokenizer: Any, stops: list[int]) -> None:
    """Make a generation config stop where training did, in a form that `transformers` accepts."""
    generation.eos_token_id = stops if len(stops) > 1 else stops[0]
    generation.pad_token_id, generation.bos_token_id = tokenizer.pad_token_id, tokenizer.bos_token_id
    if not generation.do_sample:
        generation.temperature = generation.top_p = generation.top_k = None


def _nested(config: Any, name: str, *value: Any) -> Any:
    """Read a dotted config attribute, or set it when a value is given."""
    part, _, leaf = name.rpartition(".")
    owner = getattr(config, part) if part else config
    if value:
        setattr(owner, leaf, value[0])
    return getattr(owner, leaf, None)
