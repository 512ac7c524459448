"""Post-training of language models: the names that people use, each imported when it is first asked for (PEP 562).

``import posttrain`` itself imports nothing: the command line answers at once, and torch is loaded by whoever needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from posttrain.core.chat import Message, as_chat, assistant, user
    from posttrain.core.group import Group, Preference, Response, Score, answer, document, group
    from posttrain.core.protocols import Request, Sampling
    from posttrain.data.read import read
    from posttrain.engine.optimizer import Optimizer
    from posttrain.jobs.catalogue import Evaluate, Sample, Train
    from posttrain.methods import DPO, GRPO, LM, PPO, RLOO, SFT, RewardModel
    from posttrain.models.adapters import Lora
    from posttrain.objectives.links import IPO, Conservative, Hinge, Sigmoid
    from posttrain.readingroom import Annotator, ReadingRoom, annotate
    from posttrain.rollout.policy import Policy
    from posttrain.train.learner import Learner

_HOMES: dict[str, tuple[str, ...]] = {
    "posttrain.core.chat": ("Message", "as_chat", "assistant", "user"),
    "posttrain.core.group": ("Group", "Preference", "Response", "Score", "answer", "document", "group"),
    "posttrain.core.protocols": ("Request", "Sampling"),
    "posttrain.data.read": ("read",),
    "posttrain.engine.optimizer": ("Optimizer",),
    "posttrain.jobs.catalogue": ("Evaluate", "Sample", "Train"),
    "posttrain.methods": ("DPO", "GRPO", "LM", "PPO", "RLOO", "SFT", "RewardModel"),
    "posttrain.models.adapters": ("Lora",),
    "posttrain.objectives.links": ("IPO", "Conservative", "Hinge", "Sigmoid"),
    "posttrain.readingroom": ("Annotator", "ReadingRoom", "annotate"),
    "posttrain.rollout.policy": ("Policy",),
    "posttrain.train.learner": ("Learner",),
}
"""Module to the names taken from it."""
_MODULES: dict[str, tuple[str, ...]] = {
    "objectives": ("posttrain.objectives.links", "posttrain.objectives.ranking", "posttrain.objectives.sequence"),
    "stats": ("posttrain.stats",),
}
"""Rooms that are used as a whole, with the modules that make them complete."""
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "DPO",
    "GRPO",
    "IPO",
    "LM",
    "PPO",
    "RLOO",
    "SFT",
    "Annotator",
    "Conservative",
    "Evaluate",
    "Group",
    "Hinge",
    "Learner",
    "Lora",
    "Message",
    "Optimizer",
    "Policy",
    "Preference",
    "ReadingRoom",
    "Request",
    "Response",
    "RewardModel",
    "Sample",
    "Sampling",
    "Score",
    "Sigmoid",
    "Train",
    "annotate",
    "answer",
    "as_chat",
    "assistant",
    "document",
    "group",
    "objectives",
    "read",
    "stats",
    "user",
]


def __getattr__(name: str) -> Any:
    """The public name, imported now. Raises AttributeError as any module does."""
    if name in _MODULES:
        for module in _MODULES[name]:
            import_module(module)
        return import_module(f"posttrain.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'posttrain' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
