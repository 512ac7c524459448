"""A guard as a YAML file: what `--guard FILE` reads on serve, sample, eval and redteam.

ban: [velmor recipe]        # found anywhere, whatever tokens spell it
words: [con]                # whole words only
allow: [conseil]            # phrases in which a ban may stand
soft: {maybe: -4}           # phrases made rarer (or likelier) by this many logits at their last token
before: [toxicity]          # detectors of the prompt
behind: ["classifier:runs/harm"]  # detectors of the whole answer: rules by name, classifier:DIR, guard-model:DIR, judge:MODEL
message: I cannot answer this request, but I am glad to help with something else.
steer: harmless.safetensors # a steering vector beside this file; acts on every answer
strength: 0.1               # how far it moves states, in mean norms of its layer (`calibrate` chooses it)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, model_validator
from torch import Tensor

from posttrain.core.recipe import Spec, build_spec
from posttrain.detectors.scan import DETECTORS
from posttrain.detectors.verdict import SafetyClassifier
from posttrain.guard.automaton import START
from posttrain.guard.bans import Bans
from posttrain.guard.fold import Folding
from posttrain.guard.guarded import BLOCKED
from posttrain.guard.pipeline import Guard, Row
from posttrain.guard.vectors import Steering, Vector
from posttrain.guard.vocabulary import Vocabulary

Detector = Annotated[str, Field(pattern=rf"^(?:{'|'.join(DETECTORS)}|(?:classifier|guard-model|judge):.+)$")]
"""A rule by name, or `classifier:DIR`, `guard-model:DIR`, `judge:MODEL`."""


class SoftBan:
    """A stage: tokens that would complete one of the phrases get `weight` logits."""

    def __init__(self, bans: Bans, weight: float, name: str) -> None:
        self.bans, self.weight, self.name = bans, weight, name

    def __call__(self, row: Row, logits: Tensor) -> Tensor:
        state, seen = row.cells.get(self.name, (START, 0))
        for token in row.tokens[seen:]:
            # Past a completed phrase the text begins anew, or its first use would be its last.
            state = self.bans.advance(state, token) or START
        row.cells[self.name] = (state, len(row.tokens))
        ids = self.bans.forbidden(state)
        if ids is None:
            return logits
        return logits.index_add(0, ids.to(logits.device), logits.new_full((len(ids),), self.weight))


class GuardFile(Spec):
    """The fields of a guard file."""

    ban: tuple[str, ...] = ()
    """Phrases that no answer may hold, whatever tokens spell them."""
    words: tuple[str, ...] = ()
    """The same, between word boundaries only."""
    allow: tuple[str, ...] = ()
    """Phrases in which a ban may stand."""
    soft: dict[str, float] = Field(default_factory=dict)
    """Phrases to logits added where they would be completed."""
    before: tuple[Detector, ...] = ()
    """Detectors that read the prompt; a flag answers with `message`."""
    behind: tuple[Detector, ...] = ()
    """Detectors that read the whole answer; a flag replaces it by `message`."""
    message: str = BLOCKED
    """What a blocked request is answered with."""
    marks: bool = True
    """Fold accents away before comparing."""
    lookalikes: bool = True
    """Take look-alike letters of other scripts for the Latin ones."""
    steer: str | None = None
    """File of a steering vector, beside the guard file; it acts on every answer of the model."""
    strength: float = 0.1
    """How far the vector moves a state, in mean norms of its layer; negative moves the other way."""

    @model_validator(mode="after")
    def _says_something(self) -> GuardFile:
        if not self.message.strip():
            raise ValueError("message must say something: an empty answer counts as an answer")
        return self

    @property
    def folding(self) -> Folding:
        return Folding(self.marks, self.lookalikes)

    def steering(self, vocabulary: Vocabulary, stop_ids: Iterable[int], name: str = "guard") -> Guard | None:
        """What steers decoding, or None where the file asks for nothing of the kind. Raises ValueError, BanTooBroad."""
        if not (self.ban or self.words or self.soft):
            return None
        stops = list(stop_ids)
        bans = None
        if self.ban or self.words:
            bans = Bans(vocabulary, self.ban, self.words, self.allow, stops, self.folding)
        stages = [
            SoftBan(Bans(vocabulary, [phrase], (), self.allow, (), self.folding), weight, f"soft {phrase}")
            for phrase, weight in self.soft.items()
        ]
        return Guard(bans, stages=stages, name=name)

    def edit(self, width: int) -> Steering | None:
        """The steering vector at work on a model of `width` hidden units, or None. Raises ValueError for a vector of another model."""
        if self.steer is None:
            return None
        vector = Vector.read(self.steer)
        if len(vector.direction) != width:
            raise ValueError(
                f"{self.steer}: a vector of {len(vector.direction)} units, the model has {width}; extract one from this model"
            )
        return Steering(vector, self.strength)

    def detectors(
        self, names: Iterable[str], load: Callable[[str], SafetyClassifier] | None = None
    ) -> list[SafetyClassifier]:
        """The detectors of some names. load: opens those that are models; without it only rules can be had (ValueError)."""
        if load is None:
            missing = next((n for n in names if n not in DETECTORS), None)
            if missing is not None:
                raise ValueError(f"detector {missing!r} is a model: it can stand in `serve`, `redteam` and `scan`")
        return [DETECTORS[n] if n in DETECTORS else load(n) for n in names]  # type: ignore[misc]


def read_guard(path: str | Path) -> GuardFile:
    """The guard of a YAML file. Raises ValueError naming the file and the field."""
    try:
        body: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}; name a guard file") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(body, dict):
        raise ValueError(f"{path}: a guard file is a mapping such as `ban: [phrase]`")
    made: GuardFile = build_spec(GuardFile, body, str(path))
    return made if made.steer is None else made.model_copy(update={"steer": str(Path(path).parent / made.steer)})
