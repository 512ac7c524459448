"""Whether a run's blocks are compiled: as the recipe says, or as its first batch shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from posttrain.core.group import Group
from posttrain.core.method import Method
from posttrain.core.needs import Needs
from posttrain.engine.fastest import compiled_pays
from posttrain.engine.local import LocalEngine
from posttrain.models.compiled import compile_blocks


def compile_where_it_pays(
    engine: LocalEngine,
    method: Method,
    groups: Sequence[Group],
    wanted: Literal["auto", "on", "off"],
    say: Callable[[str], None],
) -> None:
    """Compile the policy's blocks in place, or leave them. groups: a few of the run's, to measure on. CPUs are not measured."""
    if wanted == "off" or (wanted == "auto" and engine.device.type == "cpu"):
        return
    if wanted == "on":
        say(f"note: {compile_blocks(engine.model)} blocks are compiled on their first call")
        return
    piece = engine.plan(method.batch(groups, engine), "row")[0]
    engine.score(piece, Needs(logp=True))  # decides about the layout and its kernel
    if engine.path == "shared":
        compiled_pays(engine.model, piece, engine.attention or "buckets", lambda line: say(f"note: {line}"))
