"""What a check has to say: an id of the pitfalls list, how bad it is, the row it was seen on, and the way out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[str, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation. An error stops the run, a warning needs to be accepted by id in the recipe, info is printed.

    id: as in the pitfalls list (``T1``, ``M3`` ...). message: what was seen. fix: one sentence. row: id of the row at fault.
    """

    id: str
    severity: Severity
    message: str
    fix: str
    row: str | None = None

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity {self.severity!r} is unknown; accepted: {', '.join(SEVERITIES)}")

    def __str__(self) -> str:
        where = f" (row {self.row})" if self.row is not None else ""
        return f"{self.id} {self.severity}{where}: {self.message} Fix: {self.fix}"

    def to_json(self) -> dict[str, Any]:
        """The finding as a JSON object, for check.json."""
        return {name: getattr(self, name) for name in self.__slots__}
