"""Task heads: models with one, loaded, adapted and saved in the library's own classes.

An encoder is loaded in the task class of `transformers` that its family has, and trained whole or through an adapter. A causal LM keeps
its trunk; our linear heads are moved into the task class when it is saved. Either way the result is a directory that
`AutoModelFor...` and pipelines load without us; embeddings become a `sentence-transformers` directory. Left out: quantised weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from posttrain.core.files import whole_directory, write_json
from posttrain.core.needs import Needs
from posttrain.models import adapters
from posttrain.models import load as loading
from posttrain.models.heads import _plain
from posttrain.models.load import Loaded
from posttrain.models.template import chosen
from posttrain.models.texts import settle_texts
from posttrain.models.trunk import reads_both_ways

CLASSES = {
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
    "multiple_choice": "AutoModelForMultipleChoice",
    "masked_lm": "AutoModelForMaskedLM",
    "embedding": "AutoModel",
}
PEFT_TASKS = {
    "sequence_classification": "SEQ_CLS",
    "token_classification": "TOKEN_CLS",
    "question_answering": "QUESTION_ANS",
    "embedding": "FEATURE_EXTRACTION",
}


def auto_class(task: str) -> Any:
    """The Auto class of a task."""
    import transformers

    return getattr(transformers, CLASSES[task])


def load_for_task(
    path: str, task: str, names: Sequence[str], needs: Needs, dtype: str, device: str, trust_remote_code: bool = False
) -> Loaded:
    """A model to train a task head on: an encoder in its task class, or a causal LM as `load` gives it.

    names: of the outputs, in order, where they have names. Raises ValueError in one line.
    """
    local = loading.check_directory(path)
    config = loading.read_config(path, local, trust_remote_code)
    if not reads_both_ways(config):
        if task == "masked_lm":
            raise ValueError(
                f"{path}: masked_lm needs an encoder (BERT and its kin), {config.model_type} reads one way"
            )
        loaded = loading.load(path, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        note = settle_texts(loaded.tokenizer)
        loaded.notes = (*loaded.notes, *([note] if note else []))
        return loaded
    kept = loading.without_dropout(config)
    _named(config, task, names, needs.score or needs.labels)
    tokenizer = loading.read_tokenizer(path, local, trust_remote_code)
    held = loading.pick_dtype(dtype, device)
    model, info, notes = loading.read_model(auto_class(task), path, local, config, held, "sdpa", trust_remote_code)
    if info["missing_keys"]:
        notes.append(f"new head: {', '.join(sorted(info['missing_keys']))}")
    loading._quiet(model)
    model.to(device)
    template = chosen("plain", None, tokenizer.get_vocab())
    return Loaded(model, tokenizer, template, path, held, config.model_type, tuple(notes), kept)


def _named(config: Any, task: str, names: Sequence[str], outputs: int) -> None:
    if task in ("sequence_classification", "token_classification"):
        config.num_labels = outputs
        if names:
            config.id2label, config.label2id = dict(enumerate(names)), {n: i for i, n in enumerate(names)}
        if task == "sequence_classification":
            config.problem_type = "regression" if outputs == 1 else "single_label_classification"


def add_task_lora(loaded: Loaded, task: str, lora: adapters.Lora) -> None:
    """Adapt an encoder in place; its new head is trained whole and saved with the adapter."""
    from peft import LoraConfig, TaskType, get_peft_model

    model: Any = loaded.model
    model.requires_grad_(False)
    head = [n for n, _ in model.named_children() if n not in (model.base_model_prefix, "dropout")]
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        task_type=getattr(TaskType, PEFT_TASKS[task]) if task in PEFT_TASKS else None,
        modules_to_save=head if task not in ("embedding", "masked_lm") else None,
        exclude_modules=head or None,
    )
    model.name_or_path = str(Path(loaded.path).resolve()) if Path(loaded.path).exists() else loaded.path
    loaded.model = get_peft_model(model, config)
    loaded.lora = lora


def save_task(
    loaded: Loaded, heads: nn.ModuleDict, task: str, names: Sequence[str], directory: Path, dtype: torch.dtype | None
) -> Path:
    """Write the directory of a finished run: config, safetensors, tokenizer, and for embeddings the modules of `sentence-transformers`."""
    if reads_both_ways(adapters_off(loaded.model).config):
        return _save_encoder(loaded, task, directory, dtype)
    if loaded.lora is not None and loaded.lora.save == "adapter":
        raise ValueError("lora.save: a task head on a causal model is written merged; use save: merge")
    head = next(iter(heads.values()), None)
    return _save_causal(loaded, head, task, names, directory, dtype)


def adapters_off(model: nn.Module) -> Any:
    """The `transformers` model inside an adapter's wrapper."""
    return model.get_base_model() if adapters.is_adapted(model) else model  # type: ignore[operator]


def _save_encoder(loaded: Loaded, task: str, directory: Path, dtype: torch.dtype | None) -> Path:
    model: Any = loaded.model
    inner = adapters_off(model)
    with whole_directory(directory) as beside:
        if loaded.lora is not None and loaded.lora.save == "adapter":
            model.save_pretrained(beside)
        else:
            plain = copy.deepcopy(model).merge_and_unload() if adapters.is_adapted(model) else model
            for name, value in loaded.kept.items():
                setattr(plain.config, name, value)
            state = plain.state_dict()
            if dtype is not None:
                state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
            plain.save_pretrained(beside, state_dict=state)
            for name in loaded.kept:
                setattr(inner.config, name, 0.0)
        loaded.tokenizer.save_pretrained(beside)
        if task == "embedding":
            sentence_modules(beside, int(inner.config.hidden_size), loaded)
    return directory


def _save_causal(
    loaded: Loaded, head: nn.Module | None, task: str, names: Sequence[str], directory: Path, dtype: torch.dtype | None
) -> Path:
    inner, trunk = _plain(loaded.model)
    config = copy.deepcopy(inner.config)
    for name, value in loaded.kept.items():
        if "." not in name:
            setattr(config, name, value)
    config.pad_token_id = loaded.tokenizer.pad_token_id
    kind = "sequence_classification" if task == "multiple_choice" else task
    outputs = int(head.weight.shape[0]) if isinstance(head, nn.Linear) else 0
    _named(config, kind, names, outputs)
    try:
        with torch.device("meta"):
            shell = auto_class(kind).from_config(config)
    except ValueError as error:
        raise ValueError(f"transformers has no {kind} class for {loaded.family}") from error
    state: dict[str, Tensor] = {}
    for name in shell.state_dict():
        if name.startswith(("score.", "classifier.", "qa_outputs.")) and isinstance(head, nn.Linear):
            part = getattr(head, name.rpartition(".")[2])
            state[name] = part.detach().to(loaded.dtype)
        else:
            state[name] = trunk[name.removeprefix(f"{shell.base_model_prefix}.")]
    if dtype is not None:
        state = {k: v.to(dtype) for k, v in state.items()}
    with whole_directory(directory) as beside:
        shell.load_state_dict(state, assign=True)
        shell.save_pretrained(beside)
        loaded.tokenizer.save_pretrained(beside)
        if task == "embedding":
            sentence_modules(beside, int(config.hidden_size), loaded)
    return directory


def sentence_modules(directory: Path, width: int, loaded: Loaded) -> None:
    """What makes a model directory one of `sentence-transformers`: mean of all tokens, scaled to length 1."""
    module = "sentence_transformers.models."
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [{"idx": i, "name": str(i), "path": p, "type": module + k} for i, (p, k) in enumerate(kinds)]
    write_json(directory / "modules.json", modules)
    limit = getattr(adapters_off(loaded.model).config, "max_position_embeddings", None)
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})
    (directory / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    write_json(directory / "1_Pooling" / "config.json", pooling)
    (directory / "2_Normalize").mkdir()
    (directory / "2_Normalize" / ".keep").touch()
    write_json(
        directory / "config_sentence_transformers.json",
        {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )
