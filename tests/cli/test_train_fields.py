"""S8 for training: every field of Train and of the nodes inside it changes a loss, weights, answers or a file that is not the recipe.

A table gives per field a changed value, what must differ, and what else to set so that the field has something to act on. A field
without a row fails. Each row is two short runs of the job itself; the fields of methods are tried on the methods' own examples.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from posttrain.core.files import hash_json
from posttrain.core.group import Response
from posttrain.core.method import Method
from posttrain.core.recipe import Kind, Spec
from posttrain.data.source import Offline
from posttrain.engine.optimizer import Optimizer
from posttrain.jobs import assembly, mixing
from posttrain.jobs.job import Context, Data, Selection, as_data
from posttrain.jobs.probe import Again, Probe
from posttrain.jobs.train import Train
from posttrain.jobs.training import Training
from posttrain.methods.distill import Match
from posttrain.methods.dpo import MovingReference
from posttrain.models.adapters import Lora
from posttrain.objectives.divergences import Divergence
from posttrain.objectives.links import Link
from posttrain.objectives.modifiers import Modifier
from posttrain.train import checkpoint
from posttrain.train.loop import train
from tests.jobs.tiny_run import demos, pairs, rows_file
from tests.laws.build import engine_for
from tests.models.tiny import tiny_directory


def vowels(prompts: list[str], responses: list[str]) -> list[float]:
    """A reward that tells the answers of a model with random weights apart."""
    return [float(sum(c in "aeiou" for c in r)) for r in responses]


def consonants(prompts: list[str], responses: list[str]) -> list[float]:
    """Another one."""
    return [float(sum(c.isalpha() for c in r)) - v for r, v in zip(responses, vowels(prompts, responses), strict=True)]


class Row(NamedTuple):
    """A changed value; the observation that must differ; what both runs have set besides."""

    changed: Any
    shows: str = "weights"
    given: Mapping[str, Any] = {}


HELD = {"validation": 4, "method": "sft"}
ONLINE = {"method": "grpo", "rollout": {"n": 2, "max_new_tokens": 4}, "reward": {"name": "length", "limit": 1}}
WORSENING = {**HELD, "evaluate_every": 1, "steps": 4, "optimizer": {"lr": 2.0, "warmup": 0.0, "schedule": "constant"}}
LIMITED = {
    **ONLINE,
    "method": {"name": "grpo", "beta": 0.04},
    "reward": f"{__name__}:vowels",
    "limits": {"kl": 1e-6, "action": "rollback"},
    "checkpoint_every": 1,
    "optimizer": {"lr": 0.02, "warmup": 0.0},
}
PROBED = {
    **ONLINE,
    "reward": f"{__name__}:vowels",
    "probe": {"data": "@long", "gold": f"{__name__}:consonants", "every": 1},
}
GOES_ON = {**LIMITED, "again": {"lr": 0.5}}
CODE = """from transformers import LlamaForCausalLM


class Mine(LlamaForCausalLM):
    pass
"""
TRAIN: dict[str, Row] = {
    "model": Row("@other"),
    "method": Row("reward", "weights", {"data": "@pairs", "method": "dpo"}),
    "data": Row("@long"),
    "mixture": Row({"epochs": {"demos.jsonl": 0.5}}, "metrics", {"steps": None}),
    "out": Row("@elsewhere", "place"),
    "steps": Row(2, "metrics"),
    "epochs": Row(0.7, "metrics", {"steps": None}),
    "batch": Row(3),
    "optimizer": Row({"lr": 0.02}),
    "lora": Row({"rank": 2}),
    "train": Row({"freeze": ["*q_proj*"]}),
    "teacher": Row("@base", "weights", {"method": "distill", "teacher": "@other"}),
    "cache": Row("@scores", "kept", {"method": "dpo", "data": "@pairs"}),
    "reward": Row({"name": "length", "limit": 9}, "metrics", ONLINE),
    "rollout": Row({"n": 3, "max_new_tokens": 4}, "metrics", ONLINE),
    "validation": Row(4, "metrics"),
    "evaluate_every": Row(2, "metrics", HELD),
    "patience": Row(1, "metrics", WORSENING),
    "limits": Row(
        {"entropy": 99.0},
        "metrics",
        ONLINE,
    ),
    "probe": Row({"data": "@long", "gold": {"name": "target_length", "target": 4}, "every": 1}, "metrics", ONLINE),
    "again": Row({"lr": 0.5}, "metrics", LIMITED),
    "template": Row("chatml", "metrics"),
    "mask": Row("last", "metrics", {"data": "@talk"}),
    "max_tokens": Row(40, "metrics", {"data": "@long", "overlong": "drop"}),
    "overlong": Row("truncate", "metrics", {"data": "@long", "overlong": "drop", "max_tokens": 40}),
    "seed": Row(1, "metrics"),
    "dtype": Row("bf16", "metrics"),
    "save_dtype": Row("bf16", "stored"),
    "device": Row("cuda", "device" if torch.cuda.is_available() else "refused"),
    "threads": Row(2, "threads", {"threads": 1, "steps": 1}),
    "token_budget": Row(30, "pieces"),
    "recompute": Row("on", "recomputed"),
    "layout": Row("dense", "layout"),
    "compile": Row("on", "compiled", {"compile": "off"}),
    "attention": Row("flex", "files" if torch.cuda.is_available() else "refused"),
    "checkpoint_every": Row(1, "checkpoints"),
    "keep": Row(1, "checkpoints", {"checkpoint_every": 1}),
    "accept": Row(["D5"], "refused", {"data": "@twice", "preflight": "fast"}),
    "preflight": Row("fast", "files"),
    "log_to": Row(["wandb"], "tracked"),
    "project": Row("mine", "tracked", {"log_to": ["wandb"]}),
    "samples": Row(2, "samples", {"samples": 1}),
    "sample_tokens": Row(2, "samples", {"samples": 1}),
    "trust_remote_code": Row(True, "class", {"model": "@code"}),
}
SCORED = {"method": "reward", "data": "@pairs"}
OPTIMIZER: dict[str, Row] = {
    "lr": Row(0.02),
    "head_lr": Row(0.5, "weights", SCORED),
    "schedule": Row("constant"),
    "warmup": Row(0.7),
    "floor": Row(0.5),
    "weight_decay": Row(0.5),
    "betas": Row([0.5, 0.9]),
    "eps": Row(0.01),
    "clip": Row(0.0),
    "states": Row("8bit", "refused"),
}
SELECTION: dict[str, Row] = {"only": Row(["*q_proj*"]), "freeze": Row(["*q_proj*"])}
LORA: dict[str, Row] = {
    "rank": Row(2),
    "alpha": Row(4.0),
    "targets": Row(["q_proj"]),
    "base": Row("4bit", "metrics", {"model": "@broad"}),
    "save": Row("adapter", "files"),
}
DATA: dict[str, Row] = {
    "path": Row("@long", "rows"),
    "shape": Row("prompt/completion", "rows", {"path": "@labels"}),
    "columns": Row({"completion": "other"}, "rows", {"path": "@labels", "shape": "prompt/completion"}),
    "template": Row("Say: {prompt}", "rows", {"path": "@labels"}),
    "split": Row("test", "rows", {"path": "@splits"}),
    "limit": Row(3, "rows"),
    "bad": Row("aside", "refused", {"path": "@torn"}),
    "weight": Row(5.0, "rows"),
    "task": Row("sums", "names"),
}
PROBE: dict[str, Row] = {
    "data": Row("@labels", "metrics", PROBED),
    "gold": Row({"name": "target_length", "target": 4}, "metrics", PROBED),
    "prompts": Row(2, "metrics", PROBED),
    "every": Row(2, "metrics", PROBED),
    "n": Row(2, "metrics", PROBED),
    "action": Row("rollback", "files", PROBED),
}
AGAIN: dict[str, Row] = {
    "beta": Row(2.0, "metrics", GOES_ON),
    "lr": Row(0.25, "metrics", GOES_ON),
    "times": Row(1, "metrics", GOES_ON),
}
TABLES: list[tuple[type[Spec], str, dict[str, Row]]] = [
    (Train, "", TRAIN),
    (Optimizer, "optimizer", OPTIMIZER),
    (Selection, "train", SELECTION),
    (Lora, "lora", LORA),
    (Probe, "probe", PROBE),
    (Again, "again", AGAIN),
]
USUAL: dict[str, Any] = {
    "model": "@base",
    "data": "@demos",
    "method": "sft",
    "steps": 3,
    "batch": 4,
    "optimizer": {"lr": 0.01, "warmup": 0.4},
    "preflight": "off",
    "samples": 0,
    "log_to": [],
    "dtype": "fp32",
    "out": "@out",
}


class Bench:
    """Directories and files by name (`@base` in the tables), and runs that are made once per recipe."""

    def __init__(self, root: Path) -> None:
        self.root, self.seen = root, dict[str, dict[str, Any]]()
        made = {
            "base": tiny_directory(root / "base", "llama", context=256),
            "other": tiny_directory(root / "other", "llama", context=256, seed=1),
            "code": tiny_directory(root / "code", "llama", context=256),
            "broad": tiny_directory(root / "broad", "llama", context=256, hidden=64),
            "demos": demos(root / "demos.jsonl"),
            "pairs": pairs(root / "pairs.jsonl"),
            "long": rows_file(
                root / "long.jsonl", [self.row(f"Count to {i}.", "Again. " * (i + 1)) for i in range(12)]
            ),
            "twice": rows_file(root / "twice.jsonl", [self.row(f"What is {i % 6}?", "so") for i in range(12)]),
            "talk": rows_file(root / "talk.jsonl", [{"messages": self.talk(i)} for i in range(12)]),
            "labels": rows_file(
                root / "labels.jsonl", [{**self.row(str(i), "a"), "label": i % 2 > 0, "other": "b"} for i in range(12)]
            ),
            "torn": rows_file(root / "torn.jsonl", [*(self.row(str(i), "a") for i in range(11)), {"prompt": None}]),
            "splits": root / "splits",
            "scores": root / "scores",
        }
        (root / "splits").mkdir()
        for name in ("train", "test"):
            rows_file(root / "splits" / f"{name}.jsonl", [self.row(f"{name} {i}", "a") for i in range(12)])
        self.names = {f"@{name}": str(path) for name, path in made.items()}
        config = json.loads((root / "code" / "config.json").read_text(encoding="utf-8"))
        config["auto_map"] = {"AutoModelForCausalLM": "mine.Mine"}
        (root / "code" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        (root / "code" / "mine.py").write_text(CODE, encoding="utf-8")

    @staticmethod
    def row(prompt: str, completion: str) -> dict[str, object]:
        return {"prompt": prompt, "completion": completion}

    @staticmethod
    def talk(i: int) -> list[dict[str, str]]:
        said = (("user", f"a{i}"), ("assistant", "b"), ("user", "c"), ("assistant", f"d{i}"))
        return [{"role": role, "content": text} for role, text in said]

    def filled(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        def named(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {k: named(v) for k, v in value.items()}
            return self.names.get(value, value) if isinstance(value, str) else value

        return {k: named(v) for k, v in fields.items()}

    def watched(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What a run shows, by name; `refused` alone where it did not start."""
        key = hash_json(dict(fields))
        if key not in self.seen:
            place = self.root / f"run{len(self.seen)}" / str(fields["out"]).strip("@")
            self.seen[key] = self.run({**self.filled(fields), "out": str(place)})
        return self.seen[key]

    def run(self, fields: dict[str, Any]) -> dict[str, Any]:
        tracked: list[Any] = []
        sys.modules["wandb"] = SimpleNamespace(  # type: ignore[assignment]
            init=lambda project, **_: tracked.append(project),
            log=lambda row: tracked.append(sorted(row)),
            finish=lambda: None,
        )
        threads = torch.get_num_threads()
        training = Training(Train(**fields), Context(Console(file=io.StringIO()), bars=False))
        try:
            training.run()
        except ValueError as error:
            return {"refused": str(error)}
        finally:
            torch.set_num_threads(threads)
            del sys.modules["wandb"]
        return {**outcome(training), "tracked": tracked}


def outcome(training: Training) -> dict[str, Any]:
    out, engine = training.out, training.engine
    timed = ("seconds", "tokens_per_second", "share_of_peak", "memory_mib")
    lines = [json.loads(line) for line in out.metrics.read_text(encoding="utf-8").splitlines()]
    tensors = {n: t for f in sorted(out.model.glob("*.safetensors")) for n, t in load_file(f).items()}
    manifest = json.loads(out.manifest.read_text(encoding="utf-8"))
    return {
        "metrics": [{k: v for k, v in line.items() if k not in timed} for line in lines],
        "weights": {n: hash_json(t.float().tolist()) for n, t in tensors.items()},
        "stored": {n: str(t.dtype) for n, t in tensors.items()},
        "files": sorted(f.relative_to(out.path).as_posix() for f in out.path.rglob("*") if f.is_file()),
        "checkpoints": [f.name for f in checkpoint.found(out.checkpoints)],
        "samples": out.samples.read_text(encoding="utf-8") if out.samples.is_file() else "",
        "kept": manifest["kept_scores"],
        "threads": {k: v for k, v in manifest["threads"].items() if k not in timed},
        "layout": json.loads(out.manifest.read_text(encoding="utf-8"))["layout"],
        "pieces": len(engine.plan(engine.layout(training.parts[0].groups[:4]), training.job.method.atom)),
        "recomputed": [n for n in training.notes if "computed again" in n],
        "compiled": sum(m._compiled_call_impl is not None for m in training.loaded.model.modules()),
        "device": str(engine.device),
        "class": type(training.loaded.model).__name__,
        "place": out.path.name,
    }


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("fields")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(root / "modules"))
        patch.setattr("os.fsync", lambda _: None)  # a hundred tiny files need not reach the disk
        patch.setattr("posttrain.models.compiled.BACKEND", "eager")  # the code generator takes a minute
        patch.setattr("posttrain.report.write_report", lambda _: None)
        patch.syspath_prepend(str(root / "modules"))
        yield Bench(root)


def differ(first: Mapping[str, Any], second: Mapping[str, Any], shows: str) -> bool:
    if shows == "refused":  # one is, the other is not
        return ("refused" in first) != ("refused" in second)
    for seen in (first, second):
        assert "refused" not in seen, seen["refused"]
    return bool(first[shows] != second[shows])


@pytest.mark.parametrize(
    ("node", "field", "name"),
    [(node, at, name) for node, at, _ in TABLES for name in node.model_fields],
    ids=lambda v: v.__name__ if isinstance(v, type) else v,
)
def test_every_field_of_training_changes_something(bench: Bench, node: type[Spec], field: str, name: str) -> None:
    table = next(rows for n, _, rows in TABLES if n is node)
    assert name in table, f"{node.__name__}.{name}: give it a row here"
    changed, shows, given = table[name]
    start = {**USUAL, **given}
    other = {**start, name: changed}
    if field:
        inner = {"rank": 4} if field == "lora" else start.get(field, {})
        start, other = ({**start, field: {**inner, **more}} for more in ({}, {name: changed}))
    assert differ(bench.watched(start), bench.watched(other), shows), f"{node.__name__}.{name}: nothing changed"


def test_the_same_recipe_shows_the_same(bench: Bench) -> None:
    """Without it, any difference above could be chance."""
    again = bench.run({**bench.filled(USUAL), "out": str(bench.root / "again" / "out")})
    assert again == bench.watched(USUAL)


@pytest.mark.parametrize("name", list(Data.model_fields))
def test_every_field_of_data_changes_the_rows(bench: Bench, name: str) -> None:
    assert name in DATA, f"Data.{name}: give it a row here"
    changed, shows, given = DATA[name]
    start = {"path": "@demos", **given}
    assert differ(*(handed(bench, fields) for fields in (start, {**start, name: changed})), shows), name


def handed(bench: Bench, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a source hands out of these rows in three steps, mixed with others."""
    data = as_data([bench.filled(fields), bench.names["@talk"]])
    try:
        parts = assembly.gather(data, Context(Console(file=io.StringIO()), bars=False))
    except ValueError as error:
        return {"refused": str(error)}
    stream = mixing.source_of(parts, 4, 0).stream(None)
    return {"rows": [[g.to_json() for g in next(stream)] for _ in range(3)], "names": [p.name for p in parts]}


# Methods and their parts, on the methods' examples

METHODS: dict[str, dict[str, Any]] = {
    "aot": {"beta": 0.5, "smoothing": 0.2, "paired": False},
    "apo_zero_unpaired": {"beta": 0.5},
    "bco": {"beta": 0.5, "memory": 0.1},
    "contrastive": {"temperature": 0.5, "dimensions": (4,)},
    "cpo": {"beta": 0.5, "link": "hinge", "nll": 0.3},
    "distill": {"match": "reverse_kl", "k": 2, "temperature": 2.0, "tau_squared": True},
    "dpo": {
        "beta": 0.5,
        "link": "ipo",
        "nll": 0.5,
        "divergence": "js",
        "modifiers": ["length"],
        "moving": {"every": 1, "share": 0.5},
    },
    "grpo": {
        "beta": 0.5,
        "estimator": "mse",
        "scale": "none",
        "surrogate": "cispo",
        "ratio": "sequence",
        "aggregation": "dapo",
        "ending": "mask",
        "entropy": 0.5,
        "correction": {"high": 0.5},
        "constraint": {"limit": 0.1},
        "temperature": 2.0,
        "passes": 2,
        "minibatches": 2,
    },
    "kto": {"beta": 0.5, "desirable": 2.0, "undesirable": 2.0},
    "listwise": {"beta": 0.5},
    "masked_lm": {"share": 0.6, "mask_id": 5},
    "orpo": {"weight": 0.5, "nll_on": "all"},
    "ppo": {
        "beta": 0.5,
        "control": {"name": "adaptive", "target": 0.01},
        "penalty": "abs",
        "gamma": 0.5,
        "lam": 0.2,
        "surrogate": "cispo",
        "value_clip": 0.01,
        "value_weight": 0.7,
        "entropy": 0.5,
        "whiten": False,
        "whiten_rewards": True,
        "reward_clip": 0.1,
        "running": (),
        "ending": "mask",
        "critic": "separate",
        "correction": {"high": 0.5},
        "constraint": {"limit": 0.1},
        "temperature": 2.0,
        "passes": 2,
        "minibatches": 2,
        "stop_at": 1e-9,
    },
    "regression": {"delta": 0.1},
    "reinforce_pp": {
        "beta": 0.5,
        "penalty": "abs",
        "gamma": 0.5,
        "surrogate": "cispo",
        "ending": "mask",
        "correction": {"high": 0.5},
        "temperature": 2.0,
        "passes": 2,
        "minibatches": 2,
    },
    "reward": {"centring": 0.1, "likelihood": 2.0},
    "reward_ensemble": {"heads": 3, "centring": 0.1, "likelihood": 2.0},
    "reward_labels": {"good": 2.0, "bad": 2.0},
    "rloo": {
        "beta": 0.5,
        "low": 0.01,
        "high": 0.01,
        "ending": "mask",
        "correction": {"high": 0.5},
        "temperature": 2.0,
        "passes": 2,
        "minibatches": 2,
    },
    "sequence_classification": {"labels": ("yes", "no"), "smoothing": 0.2},
    "sft": {"label_smoothing": 0.2},
    "simpo": {"beta": 1.0, "gamma": 0.2, "alpha": 0.5},
    "token_classification": {"labels": ("span", "other")},
}
BESIDE: dict[tuple[str, str], dict[str, Any]] = {
    ("distill", "tau_squared"): {"temperature": 2.0},
    ("grpo", "estimator"): {"beta": 0.5},
    ("grpo", "surrogate"): {"passes": 3},
    ("grpo", "ratio"): {"passes": 3},
    ("reinforce_pp", "surrogate"): {"passes": 3},
    ("rloo", "low"): {"passes": 3},
    ("rloo", "high"): {"passes": 3},
    **{(name, "correction"): {"passes": 1} for name in ("grpo", "rloo", "reinforce_pp", "ppo")},
}
"""What a field needs beside it to act on: 1 squared is 1."""
PARTS: dict[type[Spec], dict[str, dict[str, Any]]] = {
    Link: {
        "conservative": {"flips": 0.3},
        "robust": {"smoothing": 0.3},
        "exo": {"smoothing": 0.2},
        "discopop": {"tau": 1.0},
    },
    Divergence: {"alpha": {"a": 0.1}},
    Match: {"jsd": {"b": 0.2}},
    Modifier: {"ld": {"alpha": 0.1}, "dpop": {"penalty": 5.0}, "length": {"alpha": 0.5}},
}
MOVING = {"every": 1, "share": 0.2}
WHERE: dict[type[Spec], tuple[str, str]] = {
    Link: ("dpo", "link"),
    Divergence: ("dpo", "divergence"),
    Match: ("distill", "match"),
    Modifier: ("dpo", "modifiers"),
}


def drawn(response: Response) -> Response:
    """The answer as a sampler gives it, with log-probs."""
    assert response.tokens is not None
    logps = np.full(len(response.tokens), -3.0, dtype=np.float32)
    return replace(response, logps=logps, sampled_logps=logps)


def learned(method: Method) -> tuple[list[float], dict[str, Any]]:
    """Losses of three steps on the method's example, and the weights after them."""
    engine, groups = engine_for(method), method.example().groups
    if getattr(method, "correction", None) is not None or getattr(method, "passes", 0) == 1:
        groups = [replace(g, responses=tuple(map(drawn, g.responses))) for g in groups]
    steps = train(engine, method, Offline(groups, len(groups), epochs=float("inf"), shuffle=False), 3)
    losses = [step.metrics["loss"] for step in steps]
    return losses, {n: p.detach().clone().tolist() for n, p in engine.named_parameters().items()}


def made(name: str, fields: Mapping[str, Any]) -> Method:
    method = Method.of({"name": name, **fields})
    assert isinstance(method, Method)
    return method


@pytest.mark.parametrize("name", [n for n, cls in sorted(Method.members.items()) if cls.model_fields])
def test_every_field_of_a_method_changes_what_is_learned(name: str) -> None:
    fields, table = set(Method.members[name].model_fields), METHODS.get(name, {})
    assert fields == set(table), f"{name}: give {fields ^ set(table)} a value here"
    usual = learned(made(name, {}))
    assert usual == learned(made(name, {})), "the probe itself must be deterministic"
    dead = []
    for field, value in table.items():
        given = BESIDE.get((name, field), {})
        before = learned(made(name, given)) if given else usual
        dead += [field] if learned(made(name, {**given, field: value})) == before else []
    assert not dead, f"{name}: changing {dead} changed nothing"


def members() -> list[tuple[type[Kind], str]]:
    families: tuple[type[Kind], ...] = (Link, Divergence, Match, Modifier)
    return [(family, n) for family in families for n, cls in sorted(family.members.items()) if cls.model_fields]


@pytest.mark.parametrize(("family", "name"), members(), ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_every_field_of_a_part_changes_what_is_learned(family: type[Kind], name: str) -> None:
    fields, table = set(family.members[name].model_fields), PARTS[family].get(name, {})
    assert fields == set(table), f"{family.__name__} {name}: give {fields ^ set(table)} a value here"

    def inside(part: Mapping[str, Any]) -> Method:
        value = {"name": name, **part}
        method, field = WHERE[family]
        return made(method, {field: [value] if family is Modifier else value})

    usual = learned(inside({}))
    dead = [field for field, value in table.items() if learned(inside({field: value})) == usual]
    assert not dead, f"{family.__name__} {name}: changing {dead} changed nothing"


def test_every_field_of_a_moving_reference_changes_what_is_learned() -> None:
    table = {"every": 2, "share": 0.9}
    assert set(table) == set(MovingReference.model_fields)
    usual = learned(made("dpo", {"moving": MOVING}))
    dead = [n for n, v in table.items() if learned(made("dpo", {"moving": {**MOVING, n: v}})) == usual]
    assert not dead
