"""Talk to a model in the terminal: its own template, tokens as they come, no history but this conversation's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from posttrain.core.chat import Message, assistant, user
from posttrain.core.protocols import Model, Request, Sampling
from posttrain.jobs.job import Context, Job
from posttrain.jobs.sample import answering, device_of
from posttrain.report.terminal import safe

COMMANDS = "/reset  /system TEXT  /temperature X  /quit"


class Chat(Job):
    """Talk to a model in the terminal."""

    name: ClassVar[str] = "chat"
    produces: ClassVar[Literal["run", "file", "text"]] = "text"
    positional: ClassVar[tuple[str, ...]] = ("model",)

    model: str
    """Model to talk to: a directory, a run or a hub id."""
    system: str | None = None
    """System message; not every template has a place for one."""
    temperature: NonNegativeFloat = 0.7
    """0 always takes the likeliest token; higher is more varied."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Draw from the likeliest tokens that hold this share of the probability."""
    max_tokens: PositiveInt = 512
    """Longest answer."""
    seed: int = 0
    """Seed of the draws; the same conversation gives the same answers."""
    template: str | None = None
    """Chat template: a built-in name or a .jinja file; none takes the tokenizer's own."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""

    def run(self, context: Context | None = None) -> list[Message]:
        """Talk until /quit or the end of the input; returns the last conversation."""
        context = context or Context()
        loaded, _, sampler = answering(self.model, self.template, device_of(self.device))
        for note in loaded.notes:
            context.say(f"note: {note}")
        context.say(f"{self.model}, template {loaded.template.name}. {COMMANDS}")
        sampling = Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)
        talk = Talk(sampler, sampling, self.seed, context.say)
        talk.system(self.system or "")
        while True:
            line = _ask()
            if line is None or not talk.hear(line):
                return talk.turns


def _ask() -> str | None:
    """A line from the person; None at the end of the input or after Ctrl-C at the prompt."""
    try:
        return input("> " if sys.stdin.isatty() else "")
    except (EOFError, KeyboardInterrupt):
        return None


@dataclass
class Talk:
    """One conversation. `hear` takes a line: a command, or something to answer."""

    model: Model
    sampling: Sampling
    seed: int
    say: Callable[[str], None]
    turns: list[Message] = field(default_factory=list)

    def system(self, text: str) -> None:
        """Begin anew under a system message (none when empty)."""
        self.turns = [Message("system", text)] if text else []

    def hear(self, line: str) -> bool:
        """False when the person wants to leave. What the model refuses is said in one line and the turn is taken back."""
        command, _, rest = line.strip().partition(" ")
        if command in ("/quit", "/exit"):
            return False
        if command == "/reset":
            self.turns = [t for t in self.turns if t.role == "system"]
            self.say("a new conversation")
        elif command == "/system":
            self.system(rest.strip())
            self.say(
                "a new conversation" + (" under that system message" if rest.strip() else " without system message")
            )
        elif command == "/temperature":
            self._temperature(rest.strip())
        elif command.startswith("/"):
            self.say(f"unknown command {command}; {COMMANDS}")
        elif line.strip():
            self._answer(line)
        return True

    def _temperature(self, text: str) -> None:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            self.say(f"/temperature takes a number from 0, got {text!r}")
            return
        self.sampling = Sampling(value, self.sampling.top_p, max_tokens=self.sampling.max_tokens)
        self.say(f"temperature {value:g}")

    def _answer(self, line: str) -> None:
        self.turns.append(user(line))
        said, stop = "", None
        request = Request(tuple(self.turns), self.sampling, seed=self.seed)
        stream = iter(self.model.stream([request]))
        try:
            for event in stream:
                said += event.text
                stop = event.stop or stop
                print(safe(event.text).plain, end="", flush=True)
        except KeyboardInterrupt:
            stop = "cancelled"
        except ValueError as error:
            self.turns.pop()
            self.say(str(error))
            return
        finally:
            close = getattr(stream, "close", None)
            if close is not None:
                close()
        print()
        if stop in ("length", "cancelled"):
            self.say("(cut at max_tokens)" if stop == "length" else "(stopped)")
        self.turns.append(assistant(said))
