"""The engine: layout, forward, backward, step and state on one device, alone or as one rank of several.

It knows models and heads, never a method: a `Needs` says what a forward must give. Roles are `policy` (trained) and frozen ones such as
`reference`: the same model with its adapter off, or a copy made before the first step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from posttrain.core.batch import Batch, layout
from posttrain.core.group import Group
from posttrain.core.needs import Needs, Output
from posttrain.engine import pieces, ranks
from posttrain.engine.fastest import fastest
from posttrain.engine.hands import LEAST, Hands
from posttrain.engine.heap import keep_freed_memory
from posttrain.engine.kept import Kept, keepable, weights_hash
from posttrain.engine.optimizer import Optimizer, global_norm
from posttrain.engine.roles import AdapterOff, frozen_copy, nothing
from posttrain.engine.tokens import encoder_outputs, token_outputs
from posttrain.engine.work import Work
from posttrain.models import critic
from posttrain.models.heads import LikelihoodHead
from posttrain.models.kernels import Kernel, on_cpu
from posttrain.models.native_modules import adopt
from posttrain.models.token_scores import Head, token_scores
from posttrain.models.trunk import dense_hidden, dense_reason, hidden, is_encoder, shared_hidden

Path = Literal["shared", "dense"]
T = TypeVar("T")
FP32_TOLERANCE = 1e-5
BUDGET = {"cpu": 1024, "other": 8192}
"""Stream tokens of one forward. On a CPU shorter pieces cost 3% of time, spare a fifth of the memory of a step and stay in the caches."""


class LocalEngine:
    """See the module docstring.

    model: a causal LM, perhaps wrapped by peft. heads: new heads by name (`score`, `value`), trained with it. roles: frozen models by
    name; ``reference`` is made on demand. token_budget: stream tokens of one forward (None: by device). path: None lets the first
    batch decide. attention: the kernel of the shared path (None: `native` or buckets on CPUs, on GPUs what is fastest on the first batch).
    """

    def __init__(
        self,
        model: nn.Module,
        heads: Mapping[str, nn.Module] | None = None,
        roles: Mapping[str, nn.Module] | None = None,
        needs: Needs | None = None,
        token_budget: int | None = None,
        path: Path | None = None,
        head_limit: int = 256 * 2**20,
        attention: Kernel | None = None,
    ) -> None:
        self.model = model
        self.heads = nn.ModuleDict(dict(heads or {}))
        self.roles: dict[str, nn.Module] = dict(roles or {})
        self.device = next(model.parameters()).device
        self.token_budget = token_budget or BUDGET["cpu" if self.device.type == "cpu" else "other"]
        self.head_limit = head_limit
        if self.device.type == "cpu":
            keep_freed_memory()
            adopt(model)
        self.notes: list[str] = []
        self.encoder = is_encoder(model)
        reason = dense_reason(model)
        if reason is not None:
            self.notes.append(f"prompts are not shared: {reason}; the dense path gives the same numbers")
        self.path: Path | None = "dense" if reason is not None else path
        self.attention: Kernel | None = attention or (on_cpu() if self.device.type == "cpu" else None)
        self.optimizer: torch.optim.AdamW | None = None
        self.settings = Optimizer()
        self.lr = 0.0
        self.eased = 1.0  # share of the rate that is used: a run that goes on after a rollback may lower it
        self.steps = self.done = 0
        self.kept: Kept | None = None
        self.hands: Hands | None = None
        self._hashes: dict[str, str] = {}
        self._paths: dict[str, Path] = {}
        self._work = {} if self.encoder else {id(model): Work(model)}
        self.flops = 0.0
        """Useful operations so far, as `engine.work` counts them."""
        if needs is not None and "reference" in needs.roles and "reference" not in self.roles and not self._adapters():
            self.roles["reference"] = frozen_copy(model)
        self.critic: critic.Separate | critic.Adapter | None = None
        if needs is not None and needs.value and needs.critic != "head":
            self.critic = (critic.Separate if needs.critic == "separate" else critic.Adapter)(model)
        for role in needs.moving if needs is not None else ():
            if role not in self.roles:
                raise ValueError(f"a moving {role} needs weights of its own: train without lora, or without `moving`")
            self.roles[role].moves = True  # type: ignore[assignment]

    # What is trained

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Trainable tensors by name: the model's, those of a critic's own trunk, then the heads' (``heads.score.weight``)."""
        own = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        own |= {} if self.critic is None else self.critic.named_parameters()
        return own | {f"heads.{n}": p for n, p in self.heads.named_parameters() if p.requires_grad}

    def optimize(self, settings: Optimizer, lr: float, steps: int) -> None:
        """Build the optimiser for a run of `steps` steps. Call once, after heads and adapters exist."""
        named = self.named_parameters()
        if not named:
            raise ValueError("train: no parameter is trainable; loosen `only` or `freeze`")
        self.settings, self.lr, self.steps = settings, lr, steps
        heads = frozenset(n for n in named if n.startswith("heads."))
        self.optimizer = settings.build(named.items(), lr, heads)

    # Groups to outputs

    def layout(self, groups: Sequence[Group]) -> Batch:
        """This rank's share of the step's groups, laid flat on the device."""
        rank, world = ranks.world()
        return layout(groups[rank::world], self.path or "shared").to(self.device)

    def plan(self, batch: Batch, atom: str, ordered: bool = True) -> list[Batch]:
        """Cut a batch into even pieces of at most `token_budget` stream tokens; an atom larger than that stays whole. Several hands get
        as many pieces each, nearly equal ones where the pieces need not come in the order of the batch."""
        hands = 1 if self.hands is None or self.hands.count * LEAST > batch.T else self.hands.count
        count = hands * math.ceil(batch.T / self.token_budget / hands)
        if count <= 1 or atom == "step":
            return [batch] if batch.R else []
        spread = None if ordered or hands == 1 else pieces.spread(batch, self.token_budget, hands)
        return spread or pieces.in_order(batch, atom, self.token_budget, count)

    @torch.no_grad()
    def score(self, batch: Batch, needs: Needs, role: str = "policy") -> Output:
        """Outputs without a graph, aligned with the batch; cuts itself to the token budget. Those of frozen roles are `kept`."""
        if batch.R == 0:  # an idle rank
            return nothing(needs)
        if self.kept is None or role == "policy" or not keepable(needs):
            return self._score(batch, needs, role)
        return self.kept.score(batch, self._hash(role), needs, lambda part: self._score(part, needs, role))

    def _score(self, batch: Batch, needs: Needs, role: str) -> Output:
        with self._as(role) as model:
            own = self._own_path(role, model, batch)

        def one(engine: LocalEngine, piece: Batch) -> Output:
            with engine._as(role) as model:
                return engine._forward(model, piece, needs, own)

        return Output.concat(list(self.each(self.plan(batch, "row"), one)))

    def side_by_side(self, count: int) -> None:
        """Work on so many pieces at once, each with one thread (see `engine.hands`); 1: one after the other. Call it once the engine has
        its heads, roles and optimizer. Raises ValueError where that is not possible."""
        self.hands = None
        self.hands = Hands(self, count) if count > 1 else None

    def each(self, cut: Sequence[Batch], work: Callable[[LocalEngine, Batch], T]) -> Iterator[T]:
        """`work(engine, piece)` for every piece, in their order; side by side where there are hands."""
        if self.hands is None or len(cut) < 2:
            return (work(self, piece) for piece in cut)
        if self.path is None:
            self.path = self._verified(cut[0], self.model)
        return iter(self.hands.each(cut, work))

    def _own_path(self, role: str, model: nn.Module, batch: Batch) -> Path | None:
        """The path of a model of another kind than the policy, such as a teacher; a reference goes the policy's way."""
        if role in ("policy", "reference"):
            return None
        if role not in self._paths:
            self._paths[role] = "dense" if dense_reason(model) is not None else self._verified(batch, model)
        return self._paths[role]

    def _hash(self, role: str) -> str:
        if role not in self._hashes:
            with self._as(role) as model:
                self._hashes[role] = weights_hash(model)
        return self._hashes[role]

    def forward(self, piece: Batch, needs: Needs) -> Output:
        """Outputs of the policy with a graph."""
        return self._forward(self.model, piece, needs)

    def _forward(self, model: nn.Module, piece: Batch, needs: Needs, own_path: Path | None = None) -> Output:
        if self.path is None:
            self.path = self._verified(piece, self.model)
        path = own_path or self.path
        if path != piece.layout:
            piece = _with_layout(piece, path)
        if path == "shared" and self.attention is None:
            self.attention = fastest(self.model, piece, self.notes.append)
        if self.encoder:
            return encoder_outputs(model, piece, needs)
        if needs.own or needs.labels or needs.pooled:
            return token_outputs(model, self.heads, piece, needs, path, self.head_limit)
        work = self._work.get(id(model)) or self._counted(model)
        scorer = self.heads["score"] if needs.score else None
        weighs = isinstance(scorer, LikelihoodHead)
        self.flops += work.forward(piece, needs.head_rows or weighs) * (3 if torch.is_grad_enabled() else 1)
        rows_needed = needs.head_rows or weighs or (needs.value > 0 and self.critic is None) or needs.hidden
        places = [*([piece.source] if rows_needed else []), *([piece.last] if needs.score else [])]
        if not places:
            parts: Sequence[Tensor] = ()
        elif path == "shared":
            states = shared_hidden(model, piece, torch.cat(places), self.attention or "buckets")
            parts = states.split([len(p) for p in places])
        else:
            parts = tuple(dense_hidden(model, piece, p) for p in places)
        at_rows = parts[0] if rows_needed else None
        out = Output()
        if needs.head_rows:
            assert at_rows is not None
            at_ids = piece.data[needs.at_ids] if needs.at_ids else None
            out = token_scores(Head.of(model), at_rows, piece.target, needs, at_ids, self.head_limit)
        extra: dict[str, Any] = {}
        if needs.value:
            extra["value"] = self.heads["value"](at_rows if self.critic is None else self._critic_states(piece, path))
        if scorer is not None:
            extra["score"] = scorer(parts[-1])
        if isinstance(scorer, LikelihoodHead):
            assert at_rows is not None
            said = token_scores(Head.of(model), at_rows, piece.target, Needs(logp=True), None, self.head_limit).logp
            assert said is not None
            extra["score"] = extra["score"] + scorer.added(said, piece.row, piece.R)
        if needs.hidden:
            extra["hidden"] = at_rows
        fields = {name: getattr(out, name) for name in Output.__slots__ if name != "heads"}
        return Output(**{**fields, **extra}) if extra else out

    def _counted(self, model: nn.Module) -> Work:
        """The operations of a role's forwards, counted from its shape once."""
        self._work[id(model)] = Work(model)
        return self._work[id(model)]

    def _critic_states(self, piece: Batch, path: Path) -> Tensor:
        """Hidden states of the critic's own trunk at scored positions [N, d]."""
        assert self.critic is not None
        with self.critic.speaking() as model:
            return hidden(model, _with_layout(piece, path), piece.source)

    def _verified(self, batch: Batch, model: nn.Module) -> Path:
        """Score the batch both ways once; a difference means that this model cannot share prompts."""
        piece = batch.groups(range(min(batch.G, 4)))
        with torch.no_grad():
            try:
                shared = hidden(model, _with_layout(piece, "shared"), piece.source)
            except (AssertionError, TypeError) as error:
                self.notes.append(f"prompts are not shared: {error}; the dense path gives the same numbers")
                return "dense"
            dense = hidden(model, _with_layout(piece, "dense"), piece.source)
            head = Head.of(model)
            gap = _gap(head, shared, dense, piece.target)
            limit = FP32_TOLERANCE
            if shared.dtype not in (torch.float32, torch.float64):
                again = dense_hidden(model, _with_layout(piece, "dense"), piece.source, extra=7)
                limit = max(3 * _gap(head, again, dense, piece.target), 1e-3)
        if gap > limit:
            self.notes.append(
                f"prompts are not shared: log-probs differ by {gap:.1e} (limit {limit:.0e}) from the padded form; "
                "the dense path gives the right numbers"
            )
            return "dense"
        self.notes.append(f"prompts are shared: log-probs equal the padded form within {gap:.1e}")
        return "shared"

    # Roles

    def _adapters(self) -> bool:
        return hasattr(self.model, "disable_adapter")

    def _as(self, role: str) -> AbstractContextManager[nn.Module]:
        if role == "policy":
            return nullcontext(self.model)
        if role in self.roles:
            return nullcontext(self.roles[role])
        if role == "reference" and self._adapters():
            return AdapterOff(self.model)
        raise ValueError(f"no model plays the role {role!r}; known: policy, {', '.join(sorted(self.roles))}")

    @torch.no_grad()
    def move(self, role: str, share: float) -> None:
        """Move a role's weights to `share` of the policy's and 1 - share of its own. Its scores kept from before are void."""
        own = dict(self.model.named_parameters())
        for name, parameter in self.roles[role].named_parameters():
            parameter.lerp_(own[name].to(parameter.dtype), share)
        self._hashes.pop(role, None)

    # Gradients

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of one piece."""
        loss.backward()

    def step(self) -> dict[str, float]:
        """Sum gradients over ranks, check, clip, update. Raises NonFiniteGradient before any weight moves."""
        assert self.optimizer is not None, "optimize() comes before step()"
        named = self.named_parameters()
        # Nothing to learn from is a gradient of zero, not a step less; a rank without work still takes part in the sum.
        if all(p.grad is None for p in named.values()) or ranks.world()[1] > 1:
            for parameter in named.values():
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        gradients = {n: p.grad for n, p in named.items() if p.grad is not None}
        ranks.sum_gradients(list(gradients.values()))
        norm = global_norm(gradients) if gradients else 0.0
        if self.settings.clip and norm > self.settings.clip:
            torch._foreach_mul_(list(gradients.values()), self.settings.clip / norm)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self.settings.rate(self.done, self.steps) * self.eased
        self.optimizer.step()
        # torch's fused step does not count as a change, by which samplers know that their copies are old
        increment_version(named.values())
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        return {"grad_norm": norm, "lr": float(self.optimizer.param_groups[0]["lr"])}

    # Ranks

    def total(self, counts: Mapping[str, float]) -> dict[str, float]:
        return ranks.total(counts)

    def gather(self, values: Tensor) -> Tensor:
        return ranks.gather(values)

    # State

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs: trainable tensors, moving roles, optimiser moments, the cursor of the schedule."""
        moments: dict[str, Any] = {}
        if self.optimizer is not None:
            for name, parameter in self.named_parameters().items():
                moments[name] = dict(self.optimizer.state.get(parameter, {}))
        return {
            "weights": {n: p.detach() for n, p in self.named_parameters().items()},
            "moments": moments,
            "done": self.done,
            "path": self.path,
            "attention": self.attention,
            "roles": {r: dict(m.named_parameters()) for r, m in self.roles.items() if getattr(m, "moves", False)},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`. Raises ValueError when the tensors are those of another model."""
        named = self.named_parameters()
        if set(named) != set(state["weights"]):
            odd = sorted(set(named) ^ set(state["weights"]))
            raise ValueError(
                f"the checkpoint holds other tensors than this model, first {odd[0]}; was the recipe changed?"
            )
        with torch.no_grad():
            for name, parameter in named.items():
                parameter.copy_(state["weights"][name])
            for role, tensors in state["roles"].items():
                for name, parameter in self.roles[role].named_parameters():
                    parameter.copy_(tensors[name])
        if self.optimizer is not None:
            for name, parameter in named.items():
                self.optimizer.state[parameter] = {k: v.clone() for k, v in state["moments"].get(name, {}).items()}
        self._hashes.clear()
        self.done, self.path, self.attention = int(state["done"]), state["path"], state["attention"]
        if self.attention == "native" and on_cpu() != "native":
            self.attention = on_cpu()
            self.notes.append(
                "the run began with compiled kernels, which are not here: it goes on with other last bits"
            )


def _with_layout(batch: Batch, kind: Path) -> Batch:
    return replace(batch, layout=kind)


def _gap(head: Head, a: Tensor, b: Tensor, target: Tensor) -> float:
    at = target[:, None]
    one, two = (head.logits(h).log_softmax(-1).gather(-1, at) for h in (a, b))
    return float((one - two).abs().max()) if len(target) else 0.0
