"""The model that a generator asks: many questions at once, each answer with what it cost; and the axes along which questions vary.

Leaves out keeping answers: that is the client's store, which makes a killed job repeat no call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from posttrain.core.chat import Chat, as_chat
from posttrain.core.files import hash_json
from posttrain.core.protocols import Model, Request, Sampling
from posttrain.rewards.judge import name_of
from posttrain.rewards.judge_prompts import language
from posttrain.synth.ledger import Origin

DRAW = Sampling(temperature=0.7, max_tokens=512)


def costs_of(model: Model, requests: Sequence[Request]) -> list[list[float]]:
    """Money per answer to each request: what the model's own account says, 0 for a local one."""
    told = getattr(model, "costs", None)
    made: list[list[float]] = [[0.0] * r.n for r in requests] if told is None else told(requests)
    return made


class Said(NamedTuple):
    """One answer: its text, what it cost, a hash of what was asked, and whether the call failed or was cut."""

    text: str
    cost: float
    prompt: str
    failed: bool = False


@dataclass
class Teacher:
    """A Model with its sampling and seed. spent: money of all answers, also of those that were not kept; calls: how many."""

    model: Model
    sampling: Sampling = DRAW
    seed: int = 0
    spent: float = 0.0
    calls: int = 0

    def ask(self, asked: Sequence[str | Chat], n: int = 1, seed: int = 0) -> list[list[Said]]:
        """n answers to each question. seed is added to the teacher's, so that equal questions can be asked again."""
        if not asked:
            return []
        requests = [Request(as_chat(q), self.sampling, n, self.seed + seed) for q in asked]
        made = self.model.generate(requests)
        out = []
        for request, group, costs in zip(requests, made, costs_of(self.model, requests), strict=True):
            key = hash_json([m.to_json() for m in request.prompt])[:16]
            out.append([Said(r.text.strip(), c, key, r.stop in ("error", "length") or not r.text.strip())
                        for r, c in zip(group.responses, costs, strict=True)])  # fmt: skip
            self.spent += sum(costs)
            self.calls += len(costs)
        return out

    def one(self, asked: Sequence[str | Chat], seed: int = 0) -> list[Said]:
        """One answer to each question."""
        return [said[0] for said in self.ask(asked, 1, seed)]

    def origin(self, generator: str, parents: Sequence[str], *said: Said) -> Origin:
        """Provenance of a row made of some answers: their summed cost, the hash of the last question."""
        cost = sum(s.cost for s in said)
        return Origin(generator, name_of(self.model), said[-1].prompt, self.seed, tuple(parents), cost)


AXES = {
    "en": ("For: {}.", "Tone: {}.", "Level: {}.", "Write in English."),
    "fr": ("Public : {}.", "Ton : {}.", "Niveau : {}.", "Écrivez en français."),
    "ru": ("Для кого: {}.", "Тон: {}.", "Уровень: {}.", "Пишите по-русски."),
    "zh": ("对象：{}。", "语气：{}。", "难度：{}。", "请用中文写。"),
}


@dataclass(frozen=True)
class Axes:
    """Audience, tone, level and language; every combination is met once before one comes again. Empty axes say nothing."""

    audiences: tuple[str, ...] = ()
    tones: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.languages) - set(AXES))
        if unknown:
            raise ValueError(f"languages: {unknown} unknown; accepted: {', '.join(AXES)}")

    def at(self, number: int) -> dict[str, str]:
        """The values of one combination, by axis."""
        out = {}
        names = ("audience", "tone", "level", "lang")
        for name, values in zip(names, (self.audiences, self.tones, self.levels, self.languages), strict=True):
            if values:
                number, at = divmod(number, len(values))
                out[name] = values[at]
        return out

    def on(self, question: str, number: int, lang: str | None = None) -> str:
        """The question with its combination said in words, in its own language."""
        told = self.at(number)
        audience, tone, level, _ = AXES[lang or language(question)]
        parts = [
            form.format(told[name])
            for name, form in (("audience", audience), ("tone", tone), ("level", level))
            if name in told
        ]
        parts += [AXES[told["lang"]][3]] if "lang" in told else []
        return "\n".join([question, " ".join(parts)]) if parts else question


@dataclass(frozen=True)
class Wanted:
    """What is asked of a generator. n: candidates per row or topic (rounds of evolution, turns of a dialogue). topics: where a generator
    begins from words instead of rows. verify: a Reward that must give a row more than `least`."""

    n: int = 1
    topics: tuple[str, ...] = ()
    axes: Axes = field(default_factory=Axes)
    verify: Any = None
    least: float = 0.0

    def facts(self, number: int, lang: str) -> Mapping[str, Any]:
        """What a row says of its own axes."""
        told = self.axes.at(number)
        return {"lang": told.get("lang", lang), **({"axes": told} if told else {})}
