"""Planted bugs of data, losses and state: each fires exactly its own id in the whole preflight, and clean runs fire none.

S3 (a kill during a save) is in tests/slow/test_kills.py, S5 (a missing rank) in tests/laws/test_ranks.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from posttrain.core.batch import Batch, layout
from posttrain.core.finding import Finding
from posttrain.core.group import Group, Preference, Response, Score, group
from posttrain.core.method import Atom, Method, Unit
from posttrain.core.needs import Loss, Needs, Output
from posttrain.data.source import Offline
from posttrain.engine.local import LocalEngine
from posttrain.methods.dpo import DPO
from posttrain.methods.sft import SFT
from posttrain.models import attention, kernels
from posttrain.models.adapters import Lora, add_lora
from posttrain.models.render import Renderer
from posttrain.models.template import from_source
from posttrain.train import data_checks, preflight, speed_checks, state_checks
from posttrain.train.preflight import PreflightError, Subject, inspect
from tests.check.subject import account, fired, fires, loaded, pairs, renderer, subject
from tests.models.tiny import CHATML


def with_response(made: Subject, change: Callable[[Response], Response]) -> Subject:
    """The subject with its first response changed after rendering."""
    (told, groups), *rest = made.parts
    first = replace(groups[0], responses=(change(groups[0].responses[0]), *groups[0].responses[1:]))
    made.parts = [(told, [first, *groups[1:]]), *rest]
    return made


# Clean


@pytest.mark.parametrize("method", ["dpo", "sft", "reward"])
@pytest.mark.parametrize("path", ["shared", "dense"])
def test_clean_runs_fire_nothing(method: str, path: str) -> None:
    assert (
        fires(subject(method, path=path, held_out=[group("Other?", "yes", "no", preferences=(Preference(0, 1),))]))
        == set()
    )


def test_clean_lora_fires_nothing() -> None:
    model = loaded()
    add_lora(model, Lora(rank=2))
    assert fires(subject(model=model)) == set()


def test_clean_documents_fire_nothing() -> None:
    from posttrain.core.group import document

    assert fires(subject("lm", [document(f"It rains in Paris, day {i}.") for i in range(12)])) == set()


def test_everything_is_put_back() -> None:
    made = subject()
    before = {n: p.detach().clone() for n, p in made.engine.named_parameters().items()}
    rng = torch.get_rng_state()
    inspect(made)
    assert all(torch.equal(before[n], p) and p.grad is None for n, p in made.engine.named_parameters().items())
    assert torch.equal(rng, torch.get_rng_state()) and made.engine.done == 0
    assert made.engine.optimizer is not None and not made.engine.optimizer.state


# Data


def test_D1_a_row_vanishes_without_a_reason() -> None:
    made = subject()
    made.parts = [(account(made.groups, rows=13), made.groups)]
    assert fires(made) == {"D1"}


def test_D1_rows_left_out_have_to_be_accepted() -> None:
    made = subject()
    made.parts = [({**account(made.groups), "rows": 20, "dropped": {"too long": 8}}, made.groups)]
    assert fires(made) == {"D1"}
    one = {**account(made.groups), "rows": 1012, "dropped": {"too long": 1000}}
    assert "1000 x too long" in data_checks.row_accounting(one)[0].message
    few = data_checks.row_accounting({**account(made.groups), "rows": 1000, "dropped": {"too long": 10}})
    assert [f.severity for f in few] == ["info"]


def test_D1_truncated_answers_have_to_be_accepted() -> None:
    made = subject()
    made.parts = [({**account(made.groups), "truncated": 1}, made.groups)]
    assert fires(made) == {"D1"}


def test_D1_a_layout_that_loses_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posttrain.train.loss_checks.layout", lambda groups, kind: layout(groups[:-1], kind))
    found = inspect(subject())
    assert "laid out" in next(f for f in found if f.severity == "error").message
    assert fired(found) == {"D1"}


def cut_rows(model: Any) -> tuple[Renderer, list[Group]]:
    """A renderer whose limit cuts the answers of `pairs`."""
    longest = max(
        len(g.prompt_tokens) + len(r.tokens) for g in renderer(model).render_many(pairs()) for r in g.responses
    )
    return renderer(model, longest - 2, "truncate"), pairs()


def test_D2_cut_answers_keep_their_open_end() -> None:
    model = loaded()
    read, rows = cut_rows(model)
    clean = subject("sft", rows, model=model, read=read)
    assert read.counts["truncated"] and fires(clean) == set()


def test_D2_fake_stop_behind_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last token that fits is replaced by the stop token, as some loaders do."""
    model = loaded()
    read, rows = cut_rows(model)
    made = subject("sft", rows, model=model, read=read)

    def fake(response: Response) -> Response:
        if response.stop != "length":
            return response
        return replace(response, tokens=np.append(response.tokens[:-1], read.stops[-1]))

    groups = [replace(g, responses=tuple(fake(r) for r in g.responses)) for g in made.groups]
    made.parts = [(account(groups), groups)]
    found = [f for f in inspect(made) if f.id == "D2"]
    assert [f.severity for f in found] == ["error"] and found[0].row is not None
    # A row of which nobody says that it was cut is seen as well.
    silent = [replace(g, responses=tuple(replace(r, stop=None) for r in g.responses)) for g in groups]
    assert [f.id for f in data_checks.no_fake_stop(silent, read)] == ["D2"]


def test_D2_cut_behind_an_earlier_turn_is_no_false_alarm() -> None:
    from posttrain.core.chat import assistant, user

    model = loaded()
    row = Group(
        prompt=(user("hi"),), responses=(Response(turns=(assistant("Two."), user("more"), assistant("Three."))),)
    )
    whole = renderer(model).render(row)
    assert whole is not None
    stop = int(np.flatnonzero(np.isin(whole.responses[0].tokens, renderer(model).stops))[0])
    read = renderer(model, len(whole.prompt_tokens) + stop + 1, "truncate")
    cut = read.render(row)
    assert cut is not None and int(cut.responses[0].tokens[-1]) in read.stops and cut.responses[0].stop == "length"
    assert data_checks.no_fake_stop([cut], read) == []


def test_D3_groups_that_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions restart and yet every group attends to what lies before it in the stream."""

    def leaky(batch: Batch) -> attention.FlatPlan:
        everything = np.arange(batch.T)
        bucket = attention._causal_bucket([everything])
        return attention.FlatPlan([bucket], torch.arange(batch.T))

    made = subject("sft", path="shared")
    for kernel in ("buckets", "native"):
        monkeypatch.setitem(kernels.PLANS, kernel, leaky)
    assert fires(made) == {"D3"}


def test_D4_a_row_that_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_checks.slow_rows, "__defaults__", (0.05,))
    made = subject(
        rows=[*pairs(), group("slow " * 30, "x", "y", preferences=(Preference(0, 1),), facts={"id": "the slow one"})]
    )
    real = Renderer.render

    def crawl(self: Renderer, item: Group) -> Group | None:
        if "slow" in item.prompt_text:
            time.sleep(0.1)
        return real(self, item)

    monkeypatch.setattr(Renderer, "render", crawl)
    found = [f for f in inspect(made) if f.severity != "info"]
    assert [(f.id, f.row) for f in found] == [("D4", "the slow one")]


def test_D4_a_row_that_hangs_is_named() -> None:
    """A template that loops for ever on one row: rendering stops and says which."""
    for_ever = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    loop = "{% for m in messages %}{% if 'hang' in m.content %}" + for_ever + "{% endif %}{% endfor %}"
    model = loaded()
    read = Renderer(model.tokenizer, from_source(loop + CHATML), stops=model.stops)
    rows = [*pairs(3), group("please hang", "x", facts={"id": "row 3"})]
    said: list[str] = []
    with pytest.raises(data_checks.Stuck, match="row row 3: rendering did not end"):
        data_checks.rendered(read, rows, said.append, limit=0.8)
    assert len(data_checks.rendered(read, rows[:3], said.append)) == 3


def test_D4_progress_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_checks, "PROGRESS", 0.0)
    monkeypatch.setattr(data_checks, "CHUNK", 5)
    said: list[str] = []
    data_checks.rendered(renderer(loaded()), pairs(12), said.append)
    assert said[0] == "5 of 12 rows rendered"


def test_D5_identical_pair() -> None:
    rows = [*pairs(), group("Same?", "this", "this", preferences=(Preference(0, 1),))]
    assert fires(subject(rows=rows)) == {"D5"}


def test_D5_empty_answer() -> None:
    rows = [*pairs(), group("Empty?", "", facts={"id": "e"})]
    found = [f for f in inspect(subject("sft", rows)) if f.severity != "info"]
    assert {f.id for f in found} <= {"D5", "M1", "M3"} and "D5" in {f.id for f in found}


def test_D5_overlap_and_duplicates() -> None:
    found = inspect(subject(held_out=pairs(2)))
    assert fired(found) == {"D5"} and any("r0, r1" in f.message for f in found)
    assert fires(subject(rows=[*pairs(), *pairs(3)])) == {"D5"}


def test_D5_flipped_labels_are_told() -> None:
    flipped = replace(pairs()[0], preferences=(Preference(1, 0),))
    told = [f for f in inspect(subject(rows=[*pairs(), flipped])) if f.id == "D5"]
    assert "contradict" in told[0].message


def sums(rows: int = 12) -> list[Group]:
    return [group(f"{i} + {i}", facts={"gold": 2 * i}) for i in range(rows)]


def exact(groups: list[Group]) -> list[list[Score]]:
    return [[Score(float(r.text == f"Answer: {g.facts['gold']}")) for r in g.responses] for g in groups]


def test_D6_gold_that_the_reward_cannot_parse() -> None:
    def gold(g: Group) -> str:
        return f"Answer: {g.facts['gold']}"

    assert data_checks.gold_scores_max(exact, sums(), gold) == []
    one_bad = data_checks.gold_scores_max(exact, sums(), lambda g: gold(g) if g.facts["gold"] != 4 else "four")
    assert [(f.id, f.row) for f in one_bad] == [("D6", sums()[2].id)]
    none = data_checks.gold_scores_max(exact, sums(), lambda g: f"It is {g.facts['gold']}.")
    generous = data_checks.gold_scores_max(lambda gs: [[Score(1.0)] for _ in gs], sums(), gold)
    partial = data_checks.gold_scores_max(lambda gs: [[Score(s[0].value / 2)] for s in exact(gs)], sums(), gold, 1.0)
    unscored = data_checks.gold_scores_max(lambda gs: [[Score(None)] for _ in gs], sums(), gold)
    assert [f[0].id for f in (none, generous, partial, unscored)] == ["D6"] * 4


# Loss and gradient


class PerPiece(SFT):
    """L1 planted: the loss divides by its own piece's tokens."""

    name: ClassVar[str] = "planted_per_piece"

    def loss(self, out: Output, batch: Batch) -> Loss:
        whole = super().loss(out, batch)
        return Loss({n: v / batch.N for n, v in whole.sums.items()}, whole.metrics)


class Poisoned(SFT):
    """L2 planted: the logarithm of zero."""

    name: ClassVar[str] = "planted_nan"

    def loss(self, out: Output, batch: Batch) -> Loss:
        assert out.logp is not None
        return Loss({"nll": -(out.logp - out.logp.detach()).sqrt().sum()})


class Shifted(DPO):
    """L3 planted: the reference's log-probs belong to the neighbouring tokens."""

    name: ClassVar[str] = "planted_shift"

    def prepare(self, batch: Batch, engine: Any) -> Batch:
        done = super().prepare(batch, engine)
        return done.plus("token", ref=done.data["ref"].roll(1))


class Idle(SFT):
    """L2 planted: nothing reaches the weights."""

    name: ClassVar[str] = "planted_zero"

    def loss(self, out: Output, batch: Batch) -> Loss:
        whole = super().loss(out, batch)
        return Loss({n: v * 0 for n, v in whole.sums.items()}, whole.metrics)


def test_L1_loss_divided_per_piece() -> None:
    assert fires(subject(PerPiece())) == {"L1"}


class Losing(LocalEngine):
    """L1 planted: cutting into pieces forgets the last one."""

    def plan(self, batch: Batch, atom: str, ordered: bool = True) -> list[Batch]:
        pieces = super().plan(batch, atom, ordered)
        return pieces[:-1] if len(pieces) > 1 else pieces


def test_L1_plan_that_loses_a_piece() -> None:
    assert fires(subject(engine_type=Losing)) == {"L1"}


@pytest.mark.parametrize("method", [Poisoned(), Idle()])
def test_L2_nan_and_nothing(method: Method) -> None:
    assert fires(subject(method)) == {"L2"}


def test_L2_weights_that_are_not_finite() -> None:
    model = loaded()
    with torch.no_grad():
        next(p for n, p in model.model.named_parameters() if "down_proj" in n)[0, 0] = float("inf")
    assert fires(subject("sft", model=model)) == {"L2"}


def test_L3_dropout_left_on() -> None:
    model = loaded()
    add_lora(model, Lora(rank=2))
    for module in model.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    layers = [m for m in model.model.modules() if hasattr(m, "lora_dropout")]
    assert layers
    for layer in layers:
        layer.lora_dropout["default"] = nn.Dropout(0.1)
        nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
    made = subject("sft", model=model)
    assert fires(made) == {"L3"} or not made.engine.model.training
    made.engine.model.train()
    assert fires(made) == {"L3"}


def test_L3_attention_dropout_has_no_module() -> None:
    """Dropout inside the attention function is no `nn.Dropout`; it is seen because two forwards differ."""
    model = loaded()
    for module in model.model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.2
    made = subject("sft", model=model)
    made.engine.model.train()
    found = [f for f in inspect(made) if f.severity != "info"]
    assert {f.id for f in found} == {"L3"} and "two answers" in found[0].message


def test_L3_policy_is_not_its_reference() -> None:
    other = loaded().model
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.05)
    assert fires(subject(roles={"reference": other.requires_grad_(False)})) == {"L3"}


def test_L3_margin_is_not_zero_at_the_reference() -> None:
    found = [f for f in inspect(subject(Shifted())) if f.severity != "info"]
    assert {f.id for f in found} == {"L3"} and "not 0" in found[0].message


def test_L4_padding_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from posttrain.models import trunk

    real = trunk.rectangle

    def blind(batch: Batch, pad: int = 0, extra: int = 0) -> trunk.Rectangle:
        """Left padding without a mask: every row is as long as the longest."""
        box = real(batch, pad, extra)
        missing = (~box.mask).sum(1)
        ids = torch.stack([row.roll(int(n)) for row, n in zip(box.ids, missing)])
        width = box.ids.shape[1]
        shift = missing.numpy()
        where = np.where(box.where < 0, box.where, box.where + shift[np.clip(box.where // width, 0, len(shift) - 1)])
        return trunk.Rectangle(ids, torch.ones_like(box.mask), where, box.prompt_end + shift)

    made = subject("sft", path="dense")
    monkeypatch.setattr(trunk, "rectangle", blind)
    assert fires(made) == {"L4"}


def test_L4_order_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    real = LocalEngine._forward

    def favours_the_first(self: LocalEngine, model: nn.Module, piece: Batch, needs: Needs, own: Any = None) -> Output:
        out = real(self, model, piece, needs, own)
        if out.logp is None or piece.G < 2 or len(piece.prompt_length) < 2 or piece.T == 0:
            return out
        longer_first = piece.length[0] > piece.length[-1]
        return replace(out, logp=out.logp - 0.01 * float(longer_first))

    made = subject("sft", rows=[group(f"Q{i}?", "yes " * (1 + i)) for i in range(8)])
    monkeypatch.setattr(LocalEngine, "_forward", favours_the_first)
    assert fires(made) == {"L4"}


def test_L5_reference_is_the_policy() -> None:
    model = loaded()
    made = subject(model=model, roles={"reference": model.model})
    found = [f for f in inspect(made) if f.severity != "info"]
    assert {f.id for f in found} == {"L5"} and "shares" in found[0].message


def test_L5_adapter_left_on_in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    model = loaded()
    add_lora(model, Lora(rank=2))
    made = subject(model=model)
    monkeypatch.setattr("posttrain.engine.local.AdapterOff", lambda m: nullcontext(m))
    found = [f for f in inspect(made) if f.severity != "info"]
    assert {f.id for f in found} == {"L5"} and "moved" in found[0].message


def test_L6_a_trainable_tensor_that_nothing_uses() -> None:
    model = loaded()
    model.model.register_parameter("forgotten", nn.Parameter(torch.ones(3)))
    assert fires(subject("sft", model=model)) == {"L6"}


def test_L6_a_tensor_whose_gradient_is_always_zero() -> None:
    model = loaded()
    gate = nn.Parameter(torch.ones(16))
    model.model.register_parameter("gate", gate)
    model.model.model.norm.register_forward_hook(lambda _m, _i, out: out + 0 * gate)
    found = [f for f in inspect(subject("sft", model=model)) if f.severity != "info"]
    assert {f.id for f in found} == {"L6"} and "zero" in found[0].message


# State


class Forgetful(Offline):
    """S1 planted: the state forgets the cursor."""

    def load(self, state: Mapping[str, Any]) -> None:
        return None


class Hasty(Offline):
    """S1 planted: what was handed out counts as trained."""

    def state(self) -> dict[str, Any]:
        return {**super().state(), "trained": self._handed}


class Unseeded(Offline):
    """S2 planted: the order comes from the global generator."""

    def order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            self._orders[epoch] = np.random.permutation(len(self.groups))
        return self._orders[epoch]


class Deaf(Offline):
    """S2 planted: the seed is ignored."""

    def order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng(epoch).permutation(len(self.groups))


class Noisy(Offline):
    """S2 planted: building the source moves the global generator."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        torch.rand(1)


@pytest.mark.parametrize(
    ("kind", "id"), [(Forgetful, "S1"), (Hasty, "S1"), (Unseeded, "S2"), (Deaf, "S2"), (Noisy, "S2")]
)
def test_S1_S2_sources(kind: type[Offline], id: str) -> None:
    made = subject()
    made.source = lambda seed: kind(made.groups, 4, epochs=float("inf"), seed=seed)
    assert fires(made) == {id}


class WithoutMoments(LocalEngine):
    """S1 planted: a checkpoint without the optimiser's moments."""

    def state(self) -> dict[str, Any]:
        return {**super().state(), "moments": {}}


class Growing(SFT):
    """S1 planted: a coefficient that moves with the steps and is not in the state."""

    name: ClassVar[str] = "planted_growing"
    atom: ClassVar[Atom] = "row"
    sums: ClassVar[dict[str, Unit]] = {"nll": "token"}
    seen: ClassVar[list[int]] = []

    def loss(self, out: Output, batch: Batch) -> Loss:
        whole = super().loss(out, batch)
        return Loss({n: v + (out.logp.exp() * len(self.seen)).sum() for n, v in whole.sums.items()}, whole.metrics)

    def after(self, step: int, metrics: Mapping[str, float], engine: Any) -> None:
        self.seen.append(step)


def test_S1_checkpoint_without_moments() -> None:
    assert fires(subject(engine_type=WithoutMoments)) == {"S1"}


def test_S1_method_that_forgets_its_state() -> None:
    Growing.seen.clear()
    assert fires(subject(Growing())) == {"S1"}


def test_S2_two_builds_hash_equal(tmp_path: Path) -> None:
    """New heads and adapters hang on the recipe's seed alone, whatever was drawn before."""
    from io import StringIO

    from rich.console import Console

    from posttrain.jobs.catalogue import build_job
    from posttrain.jobs.job import Context
    from posttrain.jobs.training import Training
    from tests.models.tiny import tiny_directory

    tiny_directory(tmp_path / "m", "smollm3", hidden=16)
    rows = pairs(8)
    told = Context(Console(file=StringIO()), bars=False)

    def built(seed: int, method: str) -> dict[str, torch.Tensor]:
        torch.rand(7), np.random.rand(3)
        more = {"lora": {"rank": 2}} if method == "sft" else {}
        job = build_job({"method": method, "model": str(tmp_path / "m"), "data": "x", "out": str(tmp_path / "r"), "seed": seed,
                         "steps": 1, "threads": 1, **more}).changed(data=rows)  # fmt: skip
        run = Training(job, told)
        run._prepare()
        return {n: p.detach().clone() for n, p in run.engine.named_parameters().items()}

    for method in ("reward", "sft"):
        one, two, other = built(1, method), built(1, method), built(2, method)
        assert all(torch.equal(one[n], two[n]) for n in one)
        assert any(not torch.equal(one[n], other[n]) for n in one)


def test_S2_finding_compares_hashes() -> None:
    assert state_checks.source_findings(None, 0) == []


def test_S4_plan_that_does_not_fit() -> None:
    made = subject()
    (told,) = state_checks.memory(made.engine, made.groups, 4, available=1000.0)
    assert (told.id, told.severity) == ("S4", "error") and "MiB" in told.message


@pytest.mark.parametrize("grad", [True, False])
def test_S4_longest_batch_is_tried(grad: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that holds short batches and not the longest: forward and backward in training, forward in validation."""
    long = group("Long " * 20, "yes " * 60)
    rows, held = ([*pairs(), long], []) if grad else (pairs(), [long])
    made = subject("sft", rows=rows, held_out=held, path="shared")
    real = LocalEngine._forward

    def small(self: LocalEngine, model: nn.Module, piece: Batch, needs: Needs, own: Any = None) -> Output:
        longest = int(max(piece.length, default=0))
        if longest > 60 and torch.is_grad_enabled() is grad:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return real(self, model, piece, needs, own)

    monkeypatch.setattr(LocalEngine, "_forward", small)
    found = [f for f in inspect(made) if f.severity != "info"]
    assert {f.id for f in found} == {"S4"}
    assert ("training" if grad else "validation") in found[0].message


def test_S6_slow_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_checks, "cpu_has_bf16", lambda: False)
    assert fires(subject(job={"threads": 512})) == {"S6"}
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert fires(subject(job={"threads": 2})) <= {"S6"}
    assert [f.id for f in speed_checks.slow_settings(subject(job={"threads": 1}).engine, {"threads": 1})] == []
    model = loaded()
    model.model.to(torch.bfloat16)
    found = speed_checks.slow_settings(LocalEngine(model.model), {"threads": 1})
    assert [(f.id, "bfloat16" in f.message) for f in found] == [("S6", True)]


def test_S6_measured_far_below_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_checks, "LARGE", 0)
    made = subject()
    slow = speed_checks.speed(made.engine, 10, 10.0)
    fast = speed_checks.speed(made.engine, 10**9, 1.0)
    assert [(f.id, f.severity) for f in (*slow, *fast)] == [("S6", "warning"), ("S6", "info")]


def test_S7_recipe_of_a_later_schema() -> None:
    assert fires(subject(job={"version": 99})) == {"S7"}


# The preflight as a whole


def test_preflight_refuses_accepts_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, said = subject(held_out=pairs(2)), list[str]()
    file = tmp_path / "check.json"
    with pytest.raises(PreflightError, match=r"accept: \[D5\]"):
        preflight.preflight(made, file, say=said.append)
    preflight.preflight(made, file, accepted=("D5",), say=said.append)
    assert "known from check.json" in said[-1] and any("D5 accepted warning" in line for line in said)

    def looked(_: Subject) -> list[Finding]:
        raise AssertionError("looked again")

    monkeypatch.setattr(preflight, "inspect", looked)
    began = time.process_time()
    preflight.preflight(made, file, accepted=("D5",), say=said.append)
    assert time.process_time() - began < 0.5
    changed = with_response(
        made, lambda r: replace(r, tokens=np.append(r.tokens, 5), trained=np.append(r.trained, True))
    )
    with pytest.raises(AssertionError, match="looked again"):
        preflight.preflight(changed, file, say=said.append)


def test_fast_mode_is_fast() -> None:
    """3,000 short rows on a tiny model in at most 2 s of processor time."""
    rows = [group(f"Question {i}?", f"yes {i}", f"no {i}", preferences=(Preference(0, 1),)) for i in range(3000)]
    made = subject(rows=rows)
    began = time.process_time()
    found = inspect(made)
    took = time.process_time() - began
    assert fired(found) == set()
    assert took < 2.0, f"{took:.2f} s"


# A class registers by its name when it is defined; no law, table or page is to meet the planted ones.
for _planted in (PerPiece, Poisoned, Shifted, Idle, Growing):
    del Method.members[_planted.name]
