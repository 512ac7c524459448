"""Detectors by name, models included: what guard files, `scan` and campaigns may name.

refusal, language, ...        rules
classifier:runs/harm          a run of `sequence_classification` (or any such directory) with a class `unsafe` or `harm`
guard-model:DIRECTORY         a model of the Llama Guard type
judge:MODEL or judge:URL      any model that is asked
"""

from __future__ import annotations

from functools import lru_cache

from posttrain.detectors.judged import classified, guard_model, judged
from posttrain.detectors.scan import DETECTORS
from posttrain.detectors.verdict import SafetyClassifier
from posttrain.jobs import assembly

UNSAFE = ("unsafe", "harm", "harmful", "toxic", "refusal", "1", "yes")
"""Names under which a classifier's class is the one that is looked for; the first that it knows is taken."""


@lru_cache(maxsize=8)
def detector(name: str) -> SafetyClassifier:
    """The detector of a name. Raises ValueError for one that cannot be had."""
    if name in DETECTORS:
        return DETECTORS[name]
    kind, _, where = name.partition(":")
    if not where:
        raise ValueError(
            f"unknown detector {name!r}; known: {', '.join(DETECTORS)}, classifier:DIR, guard-model:DIR, judge:MODEL"
        )
    if kind == "classifier":
        return _classifier(where)
    if kind == "guard-model":
        from posttrain.models.guard_model import GuardModel

        return guard_model(GuardModel(assembly.resolve(where)).says, name)
    if kind == "judge":
        if where.startswith(("http://", "https://")):
            from posttrain.client.endpoint import Endpoint

            return judged(Endpoint(where, "judge", on_error="void"), name=name)
        from posttrain.rollout.policy import Policy

        return judged(Policy.open(assembly.resolve(where)), name=name)
    raise ValueError(f"unknown kind of detector {kind!r} in {name!r}; known: classifier, guard-model, judge")


def _classifier(where: str) -> SafetyClassifier:
    import numpy as np

    from posttrain.models.task_models import TaskModel

    model = TaskModel(assembly.resolve(where))
    known = {label.lower(): i for i, label in enumerate(model.labels)}
    wanted = next((known[n] for n in UNSAFE if n in known), None)
    if model.task != "sequence_classification" or wanted is None:
        raise ValueError(f"{where}: its classes are {', '.join(model.labels)}; one of {', '.join(UNSAFE)} is needed")

    def unsafe(text: str) -> float:
        logits = model.logits([text])[0].astype(float)
        p = np.exp(logits - logits.max())
        return float(p[wanted] / p.sum())

    return classified(unsafe, name=f"classifier:{where}")
