"""Profiles: which rules hold, how severe and heavy they are, and the tables they judge by. All of it is YAML beside this file.

A profile may extend another and states only what differs. Its hash covers every value after merging, tables included, and is
stored with every score, so a score says which rules made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
WEIGHT = {"error": 1.0, "warning": 0.5}
_KEYS = {
    "name", "extends", "source", "date", "switches", "rules", "control_subfields", "tags", "unjudged", "leader", "coded_100",
}  # fmt: skip


class UnknownProfile(ValueError):
    """A profile name that is neither shipped nor a YAML file."""


class UnknownRule(ValueError):
    """A rule id that no profile knows."""


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One rule of a profile. weight: within its level. consequences: what breaking it alone may make others report."""

    id: str
    severity: str
    weight: float
    says: str
    consequences: tuple[str, ...]

    @property
    def level(self) -> str:
        return self.id[:2]


@dataclass(frozen=True, slots=True)
class TagTable:
    """What a data field may hold. ind1, ind2: accepted characters, None where not judged. codes: accepted subfields."""

    ind1: frozenset[str] | None
    ind2: frozenset[str] | None
    codes: frozenset[str]


@dataclass(frozen=True, eq=False)
class Profile:
    """A loaded profile. path: what it was loaded by.

    today: the day beyond which a date lies in the future (the only value taken from the clock)."""

    name: str
    path: str
    hash: str
    rules: Mapping[str, RuleSpec]
    tags: Mapping[str, TagTable]
    unjudged: frozenset[str]
    switches: Mapping[str, Any]
    leader: Mapping[int, frozenset[str]]
    coded: Mapping[str, frozenset[str]]
    languages: frozenset[str]
    language_names: Mapping[str, tuple[str, ...]]
    countries: frozenset[str]
    places: Mapping[str, frozenset[str]]
    relators: frozenset[str]
    relator_words: Mapping[str, tuple[str, ...]]
    today: str


def known_profiles() -> list[str]:
    """Names of the shipped profiles."""
    return sorted(p.stem for p in (HERE / "profiles").glob("*.yaml"))


def _yaml(path: Path) -> dict[str, Any]:
    value = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise UnknownProfile(f"{path}: a profile is a mapping of {', '.join(sorted(_KEYS))}")
    return value


def _merged(name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    path = HERE / "profiles" / f"{name}.yaml" if name in known_profiles() else Path(name)
    if path.suffix != ".yaml" or not path.is_file():
        raise UnknownProfile(
            f"profile {name!r} is unknown; shipped: {', '.join(known_profiles())}, or the path of a .yaml"
        )
    if name in seen:
        raise UnknownProfile(f"profiles extend each other in a circle: {' > '.join((*seen, name))}")
    own = _yaml(path)
    if unknown := set(own) - _KEYS:
        raise UnknownProfile(f"{path}: unknown key {sorted(unknown)[0]!r}; accepted: {', '.join(sorted(_KEYS))}")
    base = _merged(own["extends"], (*seen, name)) if "extends" in own else {}
    merged = {**base, **own}
    for key in ("switches", "tags", "leader", "coded_100"):
        merged[key] = {**base.get(key, {}), **own.get(key, {})}
    rules = {rule: dict(spec) for rule, spec in base.get("rules", {}).items()}
    for rule, spec in own.get("rules", {}).items():
        if base and rule not in rules:
            raise UnknownRule(f"{path}: rule {rule!r} is unknown; the engine has {', '.join(sorted(rules))}")
        rules[rule] = {**rules.get(rule, {}), **spec}
    merged["rules"] = rules
    return merged


def _characters(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(str(text).replace("#", " "))


def _rule(rule: str, spec: Mapping[str, Any]) -> RuleSpec:
    severity = spec["severity"]
    if severity not in WEIGHT:
        raise ValueError(f"rules.{rule}.severity must be error or warning, got {severity!r}")
    weight = float(spec.get("weight", WEIGHT[severity]))
    if not weight > 0:
        raise ValueError(f"rules.{rule}.weight must be positive, got {weight}; use 'on: false' to leave a rule out")
    return RuleSpec(rule, severity, weight, spec["says"], tuple(spec.get("consequences", ())))


@lru_cache(maxsize=16)
def load_profile(name: str = "ifla") -> Profile:
    """The profile `name` (shipped, or the path of a YAML file). Raises UnknownProfile, UnknownRule or ValueError."""
    merged = _merged(name)
    tables = {stem: _yaml(HERE / "tables" / f"{stem}.yaml") for stem in ("languages", "countries", "relators")}
    body = json.dumps([merged, tables], ensure_ascii=False, sort_keys=True, default=str)
    shared = frozenset(merged["control_subfields"])
    tags = {
        tag: TagTable(_characters(t.get("ind1")), _characters(t.get("ind2")), frozenset(t["codes"]) | shared)
        for tag, t in merged["tags"].items()
    }
    coded = merged["coded_100"]
    return Profile(
        name=merged["name"],
        path=name,
        hash=hashlib.sha256(body.encode()).hexdigest()[:12],
        rules={r: _rule(r, spec) for r, spec in sorted(merged["rules"].items()) if spec.get("on", True)},
        tags=tags,
        unjudged=frozenset(merged["unjudged"].split()),
        switches=merged["switches"],
        leader={int(at): frozenset(chars.replace("#", " ")) for at, chars in merged["leader"].items()},
        coded={k: frozenset(v.split() if " " in v else v.replace("#", " ")) for k, v in coded.items()},
        languages=frozenset(tables["languages"]["codes"].split()),
        language_names={code: tuple(names) for code, names in tables["languages"]["names"].items()},
        countries=frozenset(tables["countries"]["codes"].split())
        | frozenset(merged["switches"]["country_extras"].split()),
        places={place: frozenset(codes) for place, codes in tables["countries"]["places"].items()},
        relators=frozenset(tables["relators"]["codes"].split()),
        relator_words={code: tuple(words) for code, words in tables["relators"]["words"].items()},
        today=date.today().strftime("%Y%m%d"),
    )
