"""What the model is really trained on: rows as tokens, trained ones in colour, and the settings that decide them.

Colour alone would be lost in a pipe, so trained tokens are also underlined on a terminal and bracketed in plain text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt
from rich.console import Console
from rich.text import Text

from posttrain.core.group import Group, Response
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, Job, Source
from posttrain.models.load import load
from posttrain.models.render import Renderer
from posttrain.report.terminal import safe

TRAINED, CONTEXT = "bold green underline", "dim"
OPEN, CLOSE = "⟦", "⟧"


class Show(Job):
    """Print rows as the model sees them: every token, the trained ones in colour."""

    name: ClassVar[str] = "show"
    produces: ClassVar[Literal["run", "file", "text"]] = "text"
    positional: ClassVar[tuple[str, ...]] = ("data",)

    data: Source
    """Rows to show: a file, a directory or a hub id."""
    model: str
    """Model whose tokenizer and template render them."""
    rows: PositiveInt = 3
    """How many rows."""
    skip: Annotated[int, Field(ge=0)] = 0
    """Rows to pass over first."""
    mask: Literal["all", "last"] = "all"
    """Which assistant turns are trained."""
    template: str | None = None
    """Chat template: a built-in name or a .jinja file; none takes the tokenizer's own."""
    max_tokens: PositiveInt | None = None
    """Cut longer rows here, as `overlong: truncate` would."""

    def run(self, context: Context | None = None) -> list[Group]:
        """The rendered groups, printed to stdout. Raises ValueError naming the row that cannot be rendered."""
        context = context or Context()
        loaded = load(assembly.resolve(self.model), template=self.template)
        renderer = Renderer.of(loaded, self.mask, self.max_tokens, "truncate")
        groups = [g for part in assembly.gather(self.data, context) for g in part.groups][
            self.skip : self.skip + self.rows
        ]
        if not groups:
            raise ValueError(f"skip: {self.skip} passes over every row")
        shown = [g for g in renderer.render_many(groups) if g is not None]
        for note in loaded.notes:
            context.say(f"note: {note}")
        context.say(f"template {loaded.template.name}, mask {self.mask}")
        console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        for group in shown:
            for block in blocks(group, renderer, marked=not console.is_terminal):
                console.print(block)
        return shown


def blocks(group: Group, renderer: Renderer, marked: bool) -> Iterator[Text]:
    """A heading and the tokens of each response. marked: bracket trained tokens, for output without colour."""
    assert group.prompt_tokens is not None
    yield Text(f"row {group.id}: prompt {len(group.prompt_tokens)} tokens", style="bold")
    yield pieces(group.prompt_tokens, np.zeros(len(group.prompt_tokens)), renderer, marked)
    for number, response in enumerate(group.responses, 1):
        assert response.tokens is not None and response.trained is not None
        trained = int((np.asarray(response.trained) > 0).sum())
        yield Text(
            f"answer {number}{_role(group, number - 1, response)}: {trained} of {len(response.tokens)} tokens trained",
            style="bold",
        )
        yield pieces(response.tokens, np.asarray(response.trained), renderer, marked)
    yield Text("")


def _role(group: Group, index: int, response: Response) -> str:
    """How the answer stands among the others."""
    told = []
    if any(p.i == index and p.p > 0.5 for p in group.preferences):
        told.append("preferred")
    if any(p.j == index and p.p > 0.5 for p in group.preferences):
        told.append("not preferred")
    if response.label is not None:
        told.append("good" if response.label else "bad")
    return f" ({', '.join(told)})" if told else ""


def pieces(ids: np.ndarray, trained: np.ndarray, renderer: Renderer, marked: bool) -> Text:
    """Tokens as text, trained runs styled (and bracketed when `marked`). Control characters are shown, never sent."""
    out = Text()
    at = 0
    while at < len(ids):
        end = at
        while end < len(ids) and (trained[end] > 0) == (trained[at] > 0):
            end += 1
        text = safe(renderer.decode(ids[at:end].tolist())).plain
        on = trained[at] > 0
        out.append(f"{OPEN}{text}{CLOSE}" if on and marked else text, style=TRAINED if on else CONTEXT)
        at = end
    return out
