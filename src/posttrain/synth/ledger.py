"""What a generator made, where each row came from, and why the others were dropped: kept + dropped = produced, always.

A check is a function from a candidate to a reason to drop it, or None. Drops are counted under their reason with up to 20 examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from posttrain.core.files import hash_json
from posttrain.core.group import Group
from posttrain.detectors import language_of, refusal
from posttrain.detectors.repetition import repetition

EXAMPLES = 20
MACHINERY = (
    "as an ai language model",
    "[inst]",
    "<|im_start|>",
    "{{",
    "### instruction",
    "en tant que modèle de langage",
)
Check = Callable[[Group], str | None]


@dataclass(frozen=True, slots=True)
class Origin:
    """Provenance of a row. generator and its version; model; prompt: hash of what the model was asked; parents: ids of the rows or texts
    it was made of; seed; cost in money (0 for a local model); checked: template, model or human(name)."""

    generator: str
    model: str
    prompt: str
    seed: int
    parents: tuple[str, ...] = ()
    cost: float = 0.0
    checked: str = "model"
    version: int = 1

    def on(self, group: Group, checks: Sequence[str] = ()) -> Group:
        """The group with this provenance in its facts, and an id by content."""
        told = {**{n: getattr(self, n) for n in self.__slots__}, "parents": list(self.parents), "checks": list(checks)}
        body = {**group.to_json(), "facts": None}
        return replace(group, facts={**group.facts, "id": f"synth:{hash_json(body)[:16]}", "provenance": told})


@dataclass
class Made:
    """kept rows, and the account of the others. produced: all candidates."""

    kept: list[Group] = field(default_factory=list)
    produced: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, text: str) -> None:
        """Count a candidate that is not kept."""
        self.produced += 1
        self.dropped[reason] += 1
        shown = self.examples.setdefault(reason, [])
        if len(shown) < EXAMPLES:
            shown.append(text[:300])

    def offer(self, group: Group, checks: Mapping[str, Check], origin: Origin) -> bool:
        """Keep a candidate that passes every check."""
        for name, check in checks.items():
            reason = check(group)
            if reason is not None:
                self.drop(f"{name}: {reason}", group.responses[0].text if group.responses else group.prompt_text)
                return False
        self.produced += 1
        self.kept.append(origin.on(group, list(checks)))
        return True

    def account(self) -> dict[str, Any]:
        """The ledger, checked."""
        assert len(self.kept) + sum(self.dropped.values()) == self.produced
        rate = len(self.kept) / self.produced if self.produced else 0.0
        cost = sum(g.facts["provenance"]["cost"] for g in self.kept)
        return {"produced": self.produced, "kept": len(self.kept), "yield": rate, "cost": cost,
                "dropped": dict(self.dropped.most_common()), "examples": self.examples}  # fmt: skip


def length(group: Group) -> str | None:
    """3 to 16,000 characters of answer, a request of at most 8,000."""
    said = group.responses[0].text
    if len(said.strip()) < 3:
        return "answer too short"
    return "too long" if len(said) > 16_000 or len(group.prompt_text) > 8_000 else None


def tongue(group: Group) -> str | None:
    """The answer is in the language of the row, or of its request."""
    wanted, found = group.facts.get("lang") or language_of(group.prompt_text), language_of(group.responses[0].text)
    long = len(group.responses[0].text) > 40
    return f"{found} instead of {wanted}" if long and "und" not in (wanted, found) and wanted != found else None


def varied(group: Group) -> str | None:
    """No degenerate repetition."""
    return "repeats itself" if repetition("", group.responses[0].text).flagged else None


def machinery(group: Group) -> str | None:
    """No words of templates or of assistants about themselves."""
    said = group.responses[0].text.lower()
    return next((f"holds {word!r}" for word in MACHINERY if word in said), None)


def answers(group: Group) -> str | None:
    """No refusal where an answer is wanted."""
    return "a refusal" if refusal(group.prompt_text, group.responses[0].text).flagged else None


def unseen() -> Check:
    """A check that drops a second row with the same request or the same answer."""
    seen: set[str] = set()

    def check(group: Group) -> str | None:
        asked, said = (" ".join(t.lower().split()) for t in (group.prompt_text, group.responses[0].text))
        keys = {"a" + said} | ({"q" + asked} if asked else set())
        if seen & keys:
            return "seen before"
        seen.update(keys)
        return None

    return check


def usual() -> dict[str, Check]:
    """The checks of supervised rows, with a fresh memory."""
    return {
        "length": length,
        "language": tongue,
        "repetition": varied,
        "machinery": machinery,
        "refusal": answers,
        "duplicate": unseen(),
    }
