"""TRL's side of the parity tests: losses and gradients of given token ids, computed by TRL's own trainers.

Run by the bench environment's interpreter (`requirements-bench.txt`); it imports TRL and never posttrain, so the two
implementations share nothing but the numbers in a file. One process answers many cases, since start-up takes seconds:

    python trl_worker.py        one path of a case file per line on stdin, one JSON answer per line on stdout

**Case file** (JSON)

    name      any text, repeated in the answer
    trainer   sft | reward | dpo | kto | orpo | cpo | grpo | rloo | gkd
    policy    directory of a causal language model with fp32 weights (`save_pretrained`)
    reference directory of the frozen reference (dpo, kto, grpo and rloo with beta > 0; the teacher of gkd), else absent or null
    score     safetensors file with `weight` [1, hidden]: the reward head (trainer `reward`)
    options   keyword arguments of the trainer's config class (`DPOConfig(...)` and so on)
    groups    list of {"prompt": [ids], "responses": [response, ...]}; every list of responses keeps its order
    gradients path of the safetensors file to write: one tensor per parameter, by its name in `named_parameters()`

A response is {"tokens": [ids], "trained": [0/1 per token]} and, where the method reads them,

    label     true | false                              kto
    kl        [ids] of the mismatched answer            kto (as TRL rotates them, or any other)
    reward    number or null (cannot be scored), or a list of them, one per reward function     grpo, rloo
    old       [log-probability per token] of the policy that sampled it (absent: the policy itself)   grpo, rloo
    sampled   [log-probability per token] that the sampler reported: TRL's importance correction for a separate sampler
              is then on (options `vllm_importance_sampling_*` say how)                              grpo

For sft a group has one response; for reward, dpo, orpo and cpo two, the chosen first, and a group may have "margin"
(reward). For grpo and rloo every group has the same number of responses.

**Answer**: {"name", "loss", "gradients", "seconds", "trl", "metrics"} or {"name", "error": traceback}.

What is TRL's: the collator, the advantages, the reference pass and `compute_loss`, on one micro-batch, accumulation 1,
fp32 on the CPU, dropout and checkpointing off. What is not: tokenisation (ids are given, and an untrained token inside
an answer is written over the collator's mask), sampling (completions are given), and the optimizer.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
import transformers
import trl
from datasets import Dataset, disable_progress_bars
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.gkd import GKDTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer
from trl.trainer.utils import add_fused_lm_head

Case = dict[str, Any]
Batch = dict[str, Any]


def word_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """One word per id: trainers insist on a tokenizer, though the ids of a case never pass through it."""
    special = ["<pad>", "</s>", "<unk>", "<s>"]
    vocabulary = {w: i for i, w in enumerate([*special, *(f"t{i}" for i in range(len(special), vocab_size))])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pad, end, unknown, begin = special
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token=pad, eos_token=end, unk_token=unknown, bos_token=begin
    )


def arguments(case: Case, rows: int) -> dict[str, Any]:
    """Config fields that every trainer shares; the case's own options come last and win."""
    return {
        "output_dir": tempfile.gettempdir(),
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": 1,
        "max_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "fp16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        **case.get("options", {}),
    }


def causal(path: str) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def text_rows(n: int, *columns: str) -> Dataset:
    """Placeholder rows for trainers that tokenise text; what is trained on is collated from the case's ids."""
    return Dataset.from_list([dict.fromkeys(columns, "t5 t6") for _ in range(n)])


def joined_mask(group: Case, response: Case) -> list[int]:
    return [0] * len(group["prompt"]) + list(response["trained"])


def padded(rows: list[list[int]], width: int) -> torch.Tensor:
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


def sft(case: Case) -> tuple[Any, Batch]:
    rows = []
    for group in case["groups"]:
        (response,) = group["responses"]
        ids = group["prompt"] + response["tokens"]
        labels = [i if m else -100 for i, m in zip(ids, joined_mask(group, response), strict=True)]
        rows.append({"input_ids": ids, "labels": labels})
    model = causal(case["policy"])
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(max_length=None, **arguments(case, len(rows))),
        train_dataset=Dataset.from_list(rows),
        processing_class=word_tokenizer(model.config.vocab_size),
    )
    return trainer, trainer.data_collator(rows)


def reward(case: Case) -> tuple[Any, Batch]:
    rows = []
    for group in case["groups"]:
        chosen, rejected = group["responses"]
        row = {"chosen_ids": group["prompt"] + chosen["tokens"], "rejected_ids": group["prompt"] + rejected["tokens"]}
        if "margin" in group:
            row["margin"] = float(group["margin"])
        rows.append(row)
    model = AutoModelForSequenceClassification.from_pretrained(case["policy"], num_labels=1, dtype=torch.float32)
    with torch.no_grad():
        model.score.weight.copy_(load_file(case["score"])["weight"])
    trainer = trl.RewardTrainer(
        model=model,
        args=trl.RewardConfig(max_length=None, **arguments(case, len(rows))),
        train_dataset=Dataset.from_list(rows),
        processing_class=word_tokenizer(model.config.vocab_size),
    )
    return trainer, trainer.data_collator(rows)


def dpo(case: Case) -> tuple[Any, Batch]:
    groups = case["groups"]
    model = causal(case["policy"])
    trainer = trl.DPOTrainer(
        model=model,
        ref_model=causal(case["reference"]),
        args=trl.DPOConfig(max_length=None, **arguments(case, len(groups))),
        train_dataset=text_rows(len(groups), "prompt", "chosen", "rejected"),
        processing_class=word_tokenizer(model.config.vocab_size),
    )
    rows = [
        {
            "prompt_ids": g["prompt"],
            "chosen_ids": g["responses"][0]["tokens"],
            "rejected_ids": g["responses"][1]["tokens"],
        }
        for g in groups
    ]
    batch = trainer.data_collator(rows)
    masks = [joined_mask(g, g["responses"][side]) for side in (0, 1) for g in groups]
    batch["completion_mask"] = padded(masks, batch["input_ids"].shape[1])
    return trainer, batch


def kto(case: Case) -> tuple[Any, Batch]:
    pairs = [(g, r) for g in case["groups"] for r in g["responses"]]
    model = causal(case["policy"])
    dataset = text_rows(len(pairs), "prompt", "completion").add_column("label", [bool(r["label"]) for _, r in pairs])
    trainer = trl.KTOTrainer(
        model=model,
        ref_model=causal(case["reference"]),
        args=trl.KTOConfig(max_length=None, **arguments(case, len(pairs))),
        train_dataset=dataset,
        processing_class=word_tokenizer(model.config.vocab_size),
    )
    rows = []
    for group, response in pairs:
        row = {"prompt_ids": group["prompt"], "completion_ids": response["tokens"], "label": bool(response["label"])}
        if trainer.calculate_KL:
            row["KL_completion_ids"] = response["kl"]
        rows.append(row)
    batch = trainer.data_collator(rows)
    batch["completion_mask"] = padded([joined_mask(g, r) for g, r in pairs], batch["input_ids"].shape[1])
    return trainer, batch


def reference_free(case: Case, trainer_class: Any, config_class: Any) -> tuple[Any, Batch]:
    """ORPO and CPO (with SimPO and AlphaPO): both read chosen and rejected rows with labels."""
    groups = case["groups"]
    model = causal(case["policy"])
    trainer = trainer_class(
        model=model,
        args=config_class(max_length=4096, **arguments(case, len(groups))),
        train_dataset=text_rows(len(groups), "prompt", "chosen", "rejected"),
        processing_class=word_tokenizer(model.config.vocab_size),
    )
    rows = []
    for group in groups:
        row: dict[str, Any] = {
            "prompt_input_ids": group["prompt"],
            "prompt_attention_mask": [1] * len(group["prompt"]),
        }
        for side, response in zip(("chosen", "rejected"), group["responses"], strict=True):
            ids = group["prompt"] + response["tokens"]
            row[f"{side}_input_ids"] = ids
            row[f"{side}_attention_mask"] = [1] * len(ids)
            row[f"{side}_labels"] = [i if m else -100 for i, m in zip(ids, joined_mask(group, response), strict=True)]
        rows.append(row)
    return trainer, trainer.data_collator(rows)


def orpo(case: Case) -> tuple[Any, Batch]:
    return reference_free(case, ORPOTrainer, ORPOConfig)


def cpo(case: Case) -> tuple[Any, Batch]:
    return reference_free(case, CPOTrainer, CPOConfig)


def sampled_rows(case: Case) -> tuple[list[tuple[Case, Case]], int, list[Any]]:
    """Rows in TRL's order (a prompt repeated, once per answer), answers per prompt, and one function per reward."""
    groups = case["groups"]
    rows = [(g, r) for g in groups for r in g["responses"]]
    given = [r["reward"] if isinstance(r["reward"], list) else [r["reward"]] for _, r in rows]

    def function(k: int) -> Any:
        def given_reward(**_: Any) -> list[float | None]:
            return [row[k] for row in given]

        given_reward.__name__ = f"given_{k}"
        return given_reward

    return rows, len(groups[0]["responses"]), [function(k) for k in range(len(given[0]))]


def on_policy(case: Case, trainer_class: Any, config_class: Any, **fields: Any) -> tuple[Any, list[tuple[Case, Case]]]:
    rows, n, rewards = sampled_rows(case)
    model = causal(case["policy"])
    options = {"num_generations": n, "steps_per_generation": 1, **fields, **arguments(case, len(rows))}
    trainer = trainer_class(
        model=model,
        reward_funcs=rewards,
        args=config_class(**options),
        train_dataset=text_rows(len(case["groups"]), "prompt"),
        processing_class=word_tokenizer(model.config.vocab_size),
    )
    if trainer.beta != 0:
        trainer.ref_model = causal(case["reference"]).eval()
        add_fused_lm_head(trainer.ref_model, temperature=trainer.temperature)
    trainer.current_gradient_accumulation_steps = 1
    return trainer, rows


def column(rows: list[tuple[Case, Case]], name: str) -> torch.Tensor | None:
    """A per-token column of the responses, padded to the longest; None where no response has it."""
    if all(r.get(name) is None for _, r in rows):
        return None
    return padded([[float(x) for x in r[name]] for _, r in rows], max(len(r["tokens"]) for _, r in rows))


def sampled_batch(trainer: Any, rows: list[tuple[Case, Case]]) -> Batch:
    """TRL's own preparation (advantages, reference pass) of the given answers; given log-probs stand as the old ones."""
    old = column(rows, "old")
    score = trainer._get_per_token_logps_and_entropies

    def given(model: Any, *args: Any, **kwargs: Any) -> Any:
        return (old, None, None) if model is trainer.model else score(model, *args, **kwargs)

    if old is not None:
        trainer._get_per_token_logps_and_entropies = given
    trainer.model.train()
    batch = trainer._generate_and_score_completions([{"prompt": "t5"} for _ in rows])
    trainer._get_per_token_logps_and_entropies = score
    return batch


def grpo(case: Case) -> tuple[Any, Batch]:
    has_old = any("old" in r for g in case["groups"] for r in g["responses"])
    # with two passes over a batch TRL stores the old log-probs; with one it takes the current ones as old
    trainer, rows = on_policy(case, trl.GRPOTrainer, trl.GRPOConfig, num_iterations=2 if has_old else 1)
    sampled = all("sampled" in r for _, r in rows)

    def rollout(prompts: list[Any], _: Any) -> dict[str, Any]:
        return {
            "prompt_ids": [g["prompt"] for g, _ in rows],
            "completion_ids": [r["tokens"] for _, r in rows],
            "logprobs": [r["sampled"] for _, r in rows] if sampled else None,
            "env_mask": [list(r["trained"]) for _, r in rows],
        }

    trainer.rollout_func = rollout
    if sampled:  # no engine runs: these two make TRL correct for one
        trainer.use_vllm, trainer._last_loaded_step = True, trainer.state.global_step
    return trainer, sampled_batch(trainer, rows)


def rloo(case: Case) -> tuple[Any, Batch]:
    trainer, rows = on_policy(case, trl.RLOOTrainer, trl.RLOOConfig)
    prompts, answers = [g["prompt"] for g, _ in rows], [r["tokens"] for _, r in rows]
    trainer._generate = lambda _: (prompts, answers, ["t5" for _ in rows])
    return trainer, sampled_batch(trainer, rows)


def gkd(case: Case) -> tuple[Any, Batch]:
    """GKD's own loss over SFT's rows: its trainer renders a teacher's chat, which a case of ids does not have."""
    options = dict(case["options"])
    beta, temperature = options.pop("beta"), options.pop("temperature", 1.0)
    trainer, batch = sft({**case, "options": options})
    teacher = causal(case["reference"]).eval()

    def compute_loss(model: Any, inputs: Batch, num_items_in_batch: Any = None) -> torch.Tensor:
        read = {name: inputs[name] for name in ("input_ids", "attention_mask", "position_ids") if name in inputs}
        student = model(**read).logits[:, :-1]
        with torch.no_grad():
            known = teacher(**read).logits[:, :-1]
        labels = inputs["labels"][:, 1:]
        return GKDTrainer.generalized_jsd_loss(
            student, known, labels, beta, temperature, num_items_in_batch=num_items_in_batch
        )

    trainer.compute_loss = compute_loss
    return trainer, batch


TRAINERS = {f.__name__: f for f in (sft, reward, dpo, kto, orpo, cpo, grpo, rloo, gkd)}


def solve(case: Case) -> dict[str, Any]:
    """Loss and gradients of one case; the gradients go to the file that the case names."""
    start = time.perf_counter()
    torch.manual_seed(0)
    trainer, batch = TRAINERS[case["trainer"]](case)
    model = trainer.model
    model.train()
    model.zero_grad()
    items = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    loss = trainer.compute_loss(model, batch, num_items_in_batch=items)
    loss.backward()
    gradients = {
        name: (p.grad if p.grad is not None else torch.zeros_like(p)).detach().float().contiguous()
        for name, p in model.named_parameters()
    }
    save_file(gradients, case["gradients"])
    metrics = {name: values[-1] for name, values in getattr(trainer, "_metrics", {}).get("train", {}).items() if values}
    if "advantages" in batch:
        metrics["advantages"] = batch["advantages"].tolist()
    return {
        "name": case["name"],
        "loss": float(loss),
        "gradients": case["gradients"],
        "seconds": time.perf_counter() - start,
        "metrics": metrics,
        "trl": trl.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")  # whatever a library prints goes to stderr, answers alone to stdout
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    for line in sys.stdin:
        if not line.strip():
            continue
        case: Case = {"name": line.strip()}
        try:
            case = json.loads(Path(line.strip()).read_text())
            answer = solve(case)
        except Exception:
            answer = {"name": case["name"], "error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
