"""A constitution: principles in a YAML file, some of which are drawn for each critique. Bai et al. 2022 (arXiv:2212.08073)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import yaml

SHIPPED = Path(__file__).with_name("constitution.yaml")


@dataclass(frozen=True, slots=True)
class Principle:
    """One rule. severity: 1 (taste) to 3 (must); a principle is drawn that many times as often."""

    id: str
    text: str
    category: str = "general"
    severity: int = 1
    languages: tuple[str, ...] = ("en", "fr", "ru", "zh")


@dataclass(frozen=True, slots=True)
class Constitution:
    """Principles in the order of their file."""

    principles: tuple[Principle, ...]

    @classmethod
    def read(cls, path: str | Path = SHIPPED) -> Constitution:
        """From YAML: a list of {id, text, category, severity, languages}. Raises ValueError naming file and entry."""
        try:
            rows = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise ValueError(f"{path}: cannot read the constitution ({error})") from None
        if not isinstance(rows, list) or not rows:
            raise ValueError(f"{path}: a constitution is a list of principles, each with `id` and `text`")
        made = []
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not isinstance(row.get("text"), str):
                raise ValueError(f"{path}: principle {number}: needs `id` and `text`, both texts")
            unknown = set(row) - {"id", "text", "category", "severity", "languages"}
            if unknown or row.get("severity", 1) not in (1, 2, 3):
                raise ValueError(
                    f"{path}: principle {row['id']!r}: severity is 1, 2 or 3; unknown fields: {sorted(unknown)}"
                )
            spoken = {"languages": tuple(row["languages"])} if "languages" in row else {}
            made.append(
                Principle(row["id"], row["text"], row.get("category", "general"), row.get("severity", 1), **spoken)
            )
        if len({p.id for p in made}) < len(made):
            raise ValueError(f"{path}: two principles have the same id")
        return cls(tuple(made))

    def draw(self, rng: random.Random, lang: str, n: int = 2) -> list[Principle]:
        """n different principles of a language, severe ones more often."""
        left = [p for p in self.principles if lang in p.languages]
        out: list[Principle] = []
        while left and len(out) < n:
            picked = rng.choices(left, [p.severity for p in left])[0]
            out.append(picked)
            left.remove(picked)
        return out
