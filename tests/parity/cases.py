"""The parity table: what must give the same loss and gradients as TRL 1.16, and with which of its options.

A case waits while `posttrain` does not know its method, or a link or field that it names, and is due from the moment it
does. Only the cases of `MAY_WAIT` may wait: a method that vanishes from the registry fails the test instead of shrinking
it. TRL's options were read in its 1.16 source. Left out, as TRL 1.16 lacks them: conservative DPO, R-DPO, DPOP, Cal-DPO,
full BCO, PPO, REINFORCE++, ReMax, listwise losses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Rows = Literal["answers", "documents", "pairs", "margins", "labels", "scored", "old", "sampled"]


@dataclass(frozen=True)
class Case:
    """One comparison.

    name: unique. method: our node, as a recipe would give it. trainer, options: TRL's (see `trl_worker`) and its config.
    rows: what the groups look like (`rows.py`). whole: every token of a response is trained (TRL has no mask there).
    policy: whether the policy starts at the reference, as it does in practice, or away from it (where losses differ).
    """

    name: str
    method: dict[str, Any]
    trainer: str
    options: dict[str, Any] = field(default_factory=dict)
    rows: Rows = "pairs"
    whole: bool = False


def dpo(
    name: str, link: Any = "sigmoid", *, beta: float = 0.1, trl: dict[str, Any] | None = None, **fields: Any
) -> Case:
    node = {"name": "dpo", "beta": beta, "link": link, **fields}
    return Case(f"dpo-{name}", node, "dpo", {"beta": beta, **(trl or {})})


def loss(kind: str, **options: Any) -> dict[str, Any]:
    return {"loss_type": [kind], **options}


LANGUAGE = [
    Case("sft", {"name": "sft"}, "sft", {"loss_type": "nll"}, rows="answers"),
    Case(
        "sft-smoothed", {"name": "sft", "label_smoothing": 0.1}, "sft", {"label_smoothing_factor": 0.1}, rows="answers"
    ),
    Case("dft", {"name": "dft"}, "sft", {"loss_type": "dft"}, rows="answers"),
    Case("lm", {"name": "lm"}, "sft", {"loss_type": "nll"}, rows="documents", whole=True),
]

DISTILLED = [
    Case(name, {"name": "distill", "k": None, **ours}, "gkd", theirs, rows="answers")
    for name, ours, theirs in (
        ("distill-forward", {}, {"beta": 0}),
        ("distill-reverse", {"match": "reverse_kl"}, {"beta": 1}),
        ("distill-jsd", {"match": {"name": "jsd", "b": 0.3}}, {"beta": 0.3}),
        ("distill-warm", {"match": "jsd", "temperature": 2.0}, {"beta": 0.5, "temperature": 2.0}),
        ("distill-top", {"k": 300}, {"beta": 0}),
    )
]

REWARD = [
    Case("reward", {"name": "reward"}, "reward", rows="pairs"),
    Case("reward-margin", {"name": "reward"}, "reward", rows="margins"),
    Case(
        "reward-centred",
        {"name": "reward", "centring": 0.01},
        "reward",
        {"center_rewards_coefficient": 0.01},
        rows="pairs",
    ),
]

PAIRS = [
    dpo("sigmoid", trl=loss("sigmoid")),
    dpo("hinge", "hinge", trl=loss("hinge")),
    dpo("ipo", "ipo", trl=loss("ipo")),
    dpo("robust", {"name": "robust", "smoothing": 0.1}, trl=loss("robust", label_smoothing=0.1)),
    dpo("exo", {"name": "exo", "smoothing": 1e-3}, trl=loss("exo_pair", label_smoothing=1e-3)),
    dpo("nca", "nca", trl=loss("nca_pair")),
    dpo("bco-pair", "bco", trl=loss("bco_pair")),
    dpo("sppo", "sppo", trl=loss("sppo_hard")),
    dpo("apo-zero", "apo_zero", trl=loss("apo_zero")),
    dpo("apo-down", "apo_down", trl=loss("apo_down")),
    dpo("discopop", "discopop", trl=loss("discopop")),
    dpo("normalised", "normalised", trl=loss("sigmoid_norm")),
    dpo("nll", trl={"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}, nll=0.5),
    dpo("ld", trl=loss("sigmoid", ld_alpha=0.3), modifiers=[{"name": "ld", "alpha": 0.3}]),
    dpo("wpo", trl=loss("sigmoid", use_weighting=True), modifiers=["wpo"]),
    *(
        dpo(
            f"{ours}-{link}",
            link,
            trl=loss(link, f_divergence_type=theirs),
            divergence=ours,
        )
        for ours, theirs in (("forward_kl", "forward_kl"), ("js", "js_divergence"), ("alpha", "alpha_divergence"))
        for link in ("sigmoid", "ipo")
    ),
    Case("aot", {"name": "aot", "beta": 0.1}, "dpo", {"beta": 0.1, **loss("aot")}),
    Case("aot-unpaired", {"name": "aot", "beta": 0.1, "paired": False}, "dpo", {"beta": 0.1, **loss("aot_unpaired")}),
]

UNPAIRED = [
    Case("kto", {"name": "kto", "beta": 0.1}, "kto", {"beta": 0.1}, rows="labels"),
    Case(
        "kto-weights",
        {"name": "kto", "beta": 0.1, "desirable": 1.2, "undesirable": 0.7},
        "kto",
        {"beta": 0.1, "desirable_weight": 1.2, "undesirable_weight": 0.7},
        rows="labels",
    ),
    Case(
        "apo-zero-unpaired",
        {"name": "apo_zero_unpaired", "beta": 0.1},
        "kto",
        {"beta": 0.1, "loss_type": "apo_zero_unpaired"},
        rows="labels",
    ),
]

REFERENCE_FREE = [
    Case("orpo", {"name": "orpo", "weight": 0.1, "nll_on": "all"}, "orpo", {"beta": 0.1}),
    Case("cpo", {"name": "cpo", "beta": 0.1}, "cpo", {"beta": 0.1, "loss_type": "sigmoid"}),
    Case("cpo-hinge", {"name": "cpo", "beta": 0.1, "link": "hinge"}, "cpo", {"beta": 0.1, "loss_type": "hinge"}),
    Case(
        "simpo",
        {"name": "simpo", "beta": 2.0, "gamma": 0.5},
        "cpo",
        {"beta": 2.0, "loss_type": "simpo", "simpo_gamma": 0.5, "cpo_alpha": 0.0},
    ),
    Case(
        "alphapo",
        {"name": "simpo", "beta": 2.0, "gamma": 0.5, "alpha": 0.25},
        "cpo",
        {"beta": 2.0, "loss_type": "simpo", "simpo_gamma": 0.5, "cpo_alpha": 0.0, "alpha": 0.25},
    ),
]


def grpo(name: str, ours: dict[str, Any], theirs: dict[str, Any], rows: Rows = "old") -> Case:
    return Case(f"grpo-{name}", {"name": "grpo", **ours}, "grpo", {"beta": 0.0, **theirs}, rows=rows)


SAMPLED = [
    grpo("first-step", {"aggregation": "grpo"}, {"loss_type": "grpo"}, rows="scored"),
    *(grpo(kind, {"aggregation": kind}, {"loss_type": kind}) for kind in ("grpo", "dapo")),
    grpo("bnpo", {"aggregation": "dapo"}, {"loss_type": "bnpo"}),  # a mean per micro-batch: the same in one piece
    grpo(
        "dr",
        {"aggregation": {"name": "dr_grpo", "budget": 16}},
        {"loss_type": "dr_grpo", "max_completion_length": 16},
    ),
    grpo(
        "luspo",
        {"aggregation": "luspo", "ratio": "sequence"},
        {"loss_type": "luspo", "importance_sampling_level": "sequence"},
    ),
    grpo(
        "gspo",
        {"aggregation": "grpo", "ratio": "sequence", "surrogate": {"name": "clip", "low": 3e-4, "high": 4e-4}},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    ),
    grpo(
        "clip-higher",
        {"aggregation": "dapo", "surrogate": {"name": "clip", "low": 0.2, "high": 0.28}},
        {"loss_type": "dapo", "epsilon_high": 0.28},
    ),
    grpo(
        "two-sided",
        {"aggregation": "grpo", "surrogate": {"name": "two_sided", "delta": 1.5}},
        {"loss_type": "grpo", "delta": 1.5},
    ),
    grpo("cispo", {"aggregation": "dapo", "surrogate": "cispo"}, {"loss_type": "cispo", "epsilon_high": 5.0}),
    grpo("sapo", {"aggregation": "grpo", "surrogate": "sapo"}, {"loss_type": "sapo"}),
    grpo("vespo", {"aggregation": "dapo", "surrogate": "vespo"}, {"loss_type": "vespo"}),
    grpo("kl", {"aggregation": "grpo", "beta": 0.04}, {"loss_type": "grpo", "beta": 0.04}),
    grpo("scale-none", {"aggregation": "grpo", "scale": "none"}, {"loss_type": "grpo", "scale_rewards": "none"}),
    grpo("scale-batch", {"aggregation": "grpo", "scale": "batch"}, {"loss_type": "grpo", "scale_rewards": "batch"}),
    grpo(
        "truncated-is",
        {"aggregation": "grpo", "correction": {"level": "token", "high": 1.2}},
        {
            "loss_type": "grpo",
            "vllm_importance_sampling_mode": "token_truncate",
            "vllm_importance_sampling_clip_max": 1.2,
        },
        rows="sampled",
    ),
    Case("rloo", {"name": "rloo", "beta": 0.05}, "rloo", {"beta": 0.05}, rows="old", whole=True),
    Case("rloo-first-step", {"name": "rloo", "beta": 0.05}, "rloo", {"beta": 0.05}, rows="scored", whole=True),
]

CASES: list[Case] = [*LANGUAGE, *DISTILLED, *REWARD, *PAIRS, *UNPAIRED, *REFERENCE_FREE, *SAMPLED]

MAY_WAIT: frozenset[str] = frozenset()

assert len({c.name for c in CASES}) == len(CASES)
