"""Models side by side on the same prompts: who wins, at what cost, what was lost on the way, and whether training gained anything.

Each model is evaluated once (`jobs.evaluate`, kept under the output directory and reused), and so are two untrained baselines: the
first model with worked examples in its prompt, and with a fact of the row put in front. All comparisons are paired by prompt. Writes
comparison.json, one folder of figures and rows per model, and report.html. Leaves out several training seeds: studies have them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from posttrain.core.chat import Message
from posttrain.core.files import write_json, write_text
from posttrain.core.group import Group
from posttrain.core.run import Run
from posttrain.data.novelty import marked
from posttrain.evals import texts as likelihood
from posttrain.evals.apart import models_apart, most_apart
from posttrain.evals.columns import lines, place
from posttrain.evals.front import front
from posttrain.evals.pairing import duel, forgetting, tax
from posttrain.jobs import assembly
from posttrain.jobs.compare_models import models_of, name_and_path
from posttrain.jobs.duel import answered, people_say, send
from posttrain.jobs.evaluate import Evaluate, Evaluated, references
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.rows_behind import files_behind, rows_behind
from posttrain.jobs.run_cost import cost_of, with_others
from posttrain.jobs.sample import answering
from posttrain.jobs.spent_kl import log_ratios
from posttrain.report.compare import write_comparison
from posttrain.stats import cluster_bootstrap

MAIN = ("human", "faithful", "gold", "reward", "exact_match", "f1", "accuracy", "word_f1")
"""Figures that decide, in this order, where `figure` names none."""
SHOTS, FACTS = "base + examples", "base + facts"


class Compare(Job):
    """Compare models on the same prompts, with baselines, costs and what was lost; one page."""

    name: ClassVar[str] = "compare"
    positional: ClassVar[tuple[str, ...]] = ("models",)

    models: Annotated[tuple[str, ...], Field(min_length=2)]
    """Models in the order of the pipeline, the base first: directories, runs, `base`, RUN@STEP, or NAME=PATH."""
    soups: NonNegativeInt = 0
    """Averages of the weights of the last two models that join the trade-offs, evenly spaced; 0 makes none."""
    data: Source
    """Prompts with reference answers or reading-room facts."""
    out: str
    """Directory for comparison.json and report.html."""
    title: str = "Comparison"
    """Heading of the page."""
    figure: str | None = None
    """Figure that decides who wins; none takes the first of gold, human, reward, exact_match, word_f1 that is there."""
    n: PositiveInt = 1
    """Answers per prompt."""
    temperature: NonNegativeFloat = 0.0
    """0 always takes the likeliest token."""
    max_tokens: PositiveInt = 160
    """Longest answer."""
    reward: str | None = None
    """Reward run whose mean score is a figure too."""
    shots: NonNegativeInt = 3
    """Worked examples in the prompt of the untrained baseline; 0 leaves it out."""
    examples: Source | None = None
    """Rows that the worked examples come from; none leaves that baseline out."""
    fact: str | None = None
    """Fact of each row that the second baseline gets in front of its prompt; none leaves it out."""
    margin: PositiveFloat = 0.02
    """Loss of a figure that would still be acceptable as the price of alignment."""
    kl_to: str | None = None
    """Model that KL is measured from, in nats per answer drawn at temperature 1: one of the names; none leaves it out."""
    kl_prompts: PositiveInt = 128
    """Prompts whose answers estimate a KL."""
    made: dict[str, tuple[str, ...]] = {}
    """Runs that a model rests on beside its own, such as its reward model: their time, labels and tokens count as its own."""
    bias: NonNegativeInt = 0
    """First rows that are asked again from other readers (gender, origin, religion, age, disability); 0 asks none."""
    turns: tuple[PositiveInt, ...] = ()
    """Lengths of conversation, in user turns, at which first prompts are asked again after exchanges of `examples`: `[1, 4, 16]`."""
    turn_prompts: PositiveInt = 32
    """Prompts that are asked again at each length of conversation."""
    ledger: str | None = None
    """Ledger of people's verdicts: answers of neighbouring models that differ go there as blind pairs, and the page shows who wins."""
    objectives: tuple[str, ...] = ()
    """Figures of the trade-off between models; none takes the main figure and likelihood of references."""
    texts: Source | None = None
    """Raw documents, each source by itself: what was gained in a domain and lost outside it, in nats per token."""
    seen: Source | None = None
    """Rows that the models learned from: figures are then told apart by how new a prompt is against them."""
    seed: int = 0
    """Seeds the draws and the intervals."""

    def run(self, context: Context | None = None) -> Path:
        """Evaluate what is new, compare, write the page; returns its path."""
        context = context or Context()
        began = time.perf_counter()
        asked = [g for part in assembly.gather(self.data, context) for g in part.groups]
        if self.seen is not None:
            asked = marked(asked, [g for part in assembly.gather(self.seen, context) for g in part.groups])
        named = models_of(self.models, self.soups, Path(self.out), context)
        unknown = [n for n in (*self.made, *filter(None, [self.kl_to])) if n not in named]
        if unknown:
            raise ValueError(f"made, kl_to: {unknown[0]!r} is none of the models; known: {', '.join(named)}")
        measured = {name: self._evaluate(name, path, asked, context, False) for name, path in named.items()}
        first = next(iter(named.values()))
        for name, groups in self._baselines(asked, context).items():
            measured[name] = self._evaluate(name, first, groups, context)
        talks = self._talks(asked, context)
        longer = {n: self._evaluate(f"{n}/turns", p, talks, context) for n, p in named.items()} if talks else measured
        told = self._told(named, measured, longer) | {"kl": self._kl(named, asked)}
        told["people"] = self._people(list(named), {n: measured[n].rows for n in named}, context)
        told["seconds"] = round(time.perf_counter() - began, 1)
        out = Path(self.out)
        Run(out).start({"job": self.name, **self.model_dump(mode="json")})
        write_json(out / "comparison.json", told)
        page = write_comparison(out, told)
        context.say(f"{page}: {len(measured)} models on {len(asked)} prompts in {told['seconds']:.0f} s")
        return page

    def _evaluate(
        self, name: str, path: str, groups: Sequence[Group], context: Context, other_prompts: bool = True
    ) -> Evaluated:
        """Measure a model. other_prompts: these are not the prompts that people judged and other readers ask."""
        folder = Path(self.out) / "models" / name.replace("/", "_").replace(" ", "_")
        prompts = folder / "prompts.jsonl"
        body = "".join(json.dumps(g.to_json(), ensure_ascii=False) + "\n" for g in groups)
        if not prompts.is_file() or prompts.read_text(encoding="utf-8") != body:
            write_text(prompts, body)
        job = Evaluate(
            model=path,
            data=str(prompts),  # type: ignore[arg-type]
            out=str(folder),
            n=self.n,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            reward=self.reward,
            bias=0 if other_prompts else self.bias,
            texts=None if other_prompts else self.texts,
            seed=self.seed,
        )
        return job.run(context)

    def _people(self, names: Sequence[str], rows: Mapping[str, Any], context: Context) -> list[dict[str, Any]]:
        """Each two neighbouring trained models before people; pairs that a ledger holds already are not doubled."""
        if self.ledger is None:
            return []
        out = []
        for second, first in list(pairwise(names))[1:] or list(pairwise(names)):
            queue = f"{first} against {second}"
            sent = send(
                self.ledger,
                queue,
                answered(rows[first], first),
                answered(rows[second], second),
                (first, second),
                3,
                self.seed,
            )
            context.say(f"{queue}: {sent}")
            out.append(people_say(self.ledger, queue, (first, second), self.seed))
        return out

    def _kl(self, named: Mapping[str, str], asked: Sequence[Group]) -> dict[str, Any]:
        """KL of every other model from `kl_to`, with intervals over prompts."""
        if self.kl_to is None:
            return {}
        groups, reference = asked[: self.kl_prompts], named[self.kl_to]
        ratios = {
            n: log_ratios(path, reference, groups, self.max_tokens, self.seed)
            for n, path in named.items()
            if n != self.kl_to
        }
        return {n: cluster_bootstrap(r, seed=self.seed).to_json() for n, r in ratios.items()}

    def _baselines(self, asked: Sequence[Group], context: Context) -> dict[str, list[Group]]:
        out: dict[str, list[Group]] = {}
        if self.examples is not None and self.shots:
            rows = [g for part in assembly.gather(self.examples, context) for g in part.groups]
            out[SHOTS] = self._shown(asked, rows, context)
        if self.fact is not None:
            out[FACTS] = [with_fact(g, self.fact) for g in asked]
        return out

    def _shown(self, asked: Sequence[Group], rows: Sequence[Group], context: Context) -> list[Group]:
        """Every prompt with as many worked examples as the first model's context holds beside an answer; fewer is said."""
        fits = self._fits()
        out, short = [], 0
        for group in asked:
            tried = [with_examples(group, rows, k) for k in range(self.shots, -1, -1)]
            out.append(next(filter(fits, tried), group))
            short += out[-1] is not tried[0]
        if short:
            context.say(f"{SHOTS}: {short} of {len(asked)} prompts have room for fewer than {self.shots} examples")
        return out

    def _talks(self, asked: Sequence[Group], context: Context) -> list[Group]:
        """The first prompts after k - 1 earlier exchanges, for each k of `turns`; what the first model's context cannot hold is counted."""
        if not self.turns:
            return []
        if self.examples is None:
            raise ValueError("turns: earlier exchanges come from `examples`; name rows with answers there")
        rows = [g for part in assembly.gather(self.examples, context) for g in part.groups]
        fits, out, long = self._fits(), [], 0
        for group in asked[: self.turn_prompts]:
            for k in self.turns:
                talk = with_examples(group, rows, k - 1)
                talk = replace(talk, facts={**talk.facts, "turns": k, "id": f"{group.id}:{k}"})
                long += not fits(talk)
                out += [talk] if fits(talk) else []
        if long:
            context.say(f"turns: {long} conversations are longer than the first model's context and left out")
        return out

    def _fits(self) -> Callable[[Group], bool]:
        """Does a prompt leave room for an answer in the first model's context?"""
        from transformers import AutoConfig

        path = assembly.resolve(name_and_path(self.models[0])[1].partition("@")[0])
        _, renderer, _ = answering(path, None, "cpu")
        limit = getattr(AutoConfig.from_pretrained(path), "max_position_embeddings", None) or 10**9
        return lambda group: len(renderer.prompt(group.prompt, group.tools)) + self.max_tokens <= limit

    def _told(
        self, named: Mapping[str, str], measured: Mapping[str, Evaluated], longer: Mapping[str, Evaluated]
    ) -> dict[str, Any]:
        """The comparison as plain values: everything that the page shows."""
        names, rows = list(measured), {n: m.rows for n, m in measured.items()}
        main = self.figure or next((f for f in MAIN if all(f in m.metrics for m in measured.values())), None)
        if main is None or any(main not in m.metrics for m in measured.values()):
            raise ValueError(f"figure: {main or 'none of ' + ', '.join(MAIN)} is not known of every model")
        base, stages = names[0], [n for n in names if n in named]
        objectives = self.objectives or tuple(
            f for f in (main, "logp", "unsupported_claims") if all(f in m.metrics for m in measured.values())
        )
        points = {n: [_upward(f, measured[n].metrics[f].estimate) for f in objectives] for n in names}
        return {
            "main": main,
            "models": {n: {"path": named.get(n, named[stages[0]]), "trained": n in stages} for n in names},
            "lines": {
                n: [x.to_json() | {"value": x.value.to_json()} for x in lines(measured[n].metrics)] for n in names
            },
            "about": {n: _about(measured[n].path) for n in names},
            "title": self.title,
            "means": place(main).means,
            "rows_behind": rows_behind(named),
            "cost": {n: with_others(cost_of(named[n]), [cost_of(p) for p in self.made.get(n, ())]) for n in stages},
            "duels": self._duels(names, rows, main),
            "objectives": list(objectives),
            "points": points,
            "front": front(points),
            "tax": self._taxes(stages, rows, measured, base),
            **self._apart(rows, {n: m.rows for n, m in longer.items()}, main),
            "texts": text_changes({n: measured[n].texts for n in stages}, self.margin, self.seed),
            "by_task": {
                task: [(s, i.to_json()) for s, i in found]
                for task, found in forgetting([(n, rows[n]) for n in stages], main, seed=self.seed).items()
            },
            "bias": {
                n: json.loads((measured[n].path / "eval.json").read_text(encoding="utf-8")).get("bias", {})
                for n in names
            },
            "curve": _curve({n: named[n] for n in stages}, measured, main),
            "apart": most_apart({n: rows[n] for n in stages}, main),
            "seed": self.seed,
        }

    def _duels(self, names: Sequence[str], rows: Mapping[str, Any], main: str) -> list[dict[str, Any]]:
        pairs = [(b, a) for a, b in pairwise(names)] + [(n, names[0]) for n in names[2:]]
        out = []
        for better, other in dict.fromkeys(pairs):
            made = duel(rows[better], rows[other], main, self.seed)
            if made is not None:
                told = asdict(made) | {k: getattr(made, k).to_json() for k in ("rate", "difference")}
                told["equal_length"] = None if made.equal_length is None else made.equal_length.to_json()
                out.append({"model": better, "other": other, **told})
        return out

    def _apart(self, rows: Mapping[str, Any], longer: Mapping[str, Any], main: str) -> dict[str, Any]:
        """Per fact the figure of each model at each value, and under `changes` how it differs from the first model's there."""
        out: dict[str, Any] = {"changes": {}}
        for key, fact, measured in (
            ("by_split", "split", rows),
            ("by_novelty", "novelty", rows),
            ("by_turn", "turns", longer),
            ("by_lang", "lang", rows),
        ):
            found = models_apart(measured, main, fact, self.seed)
            out[key] = {v: [(n, i.to_json()) for n, i in made["figures"].items()] for v, made in found.items()}
            out["changes"][key] = {
                v: {n: {**gap.to_json(), "smallest": least} for n, (gap, least) in made["changes"].items()}
                for v, made in found.items()
            }
        return out

    def _taxes(
        self, stages: Sequence[str], rows: Mapping[str, Any], measured: Mapping[str, Evaluated], base: str
    ) -> list[dict[str, Any]]:
        """What each stage lost of capability and performance against the base, by non-inferiority."""
        out = []
        figures = [f for f in measured[base].metrics if place(f).column != "alignment" and place(f).better]
        for name in stages[1:]:
            for figure in figures:
                made = tax(rows[name], rows[base], figure, self.margin, self.seed, place(figure).better == "down")
                if made is not None:
                    out.append({"model": name, **asdict(made), "change": made.change.to_json()})
        return out


def _upward(figure: str, value: float) -> float:
    return -value if place(figure).better == "down" else value


def with_examples(group: Group, rows: Sequence[Group], k: int) -> Group:
    """The prompt after k worked examples as earlier turns: of the row's own task and language where such rows are, never the row itself."""
    others = [r for r in rows if r.prompt_hash != group.prompt_hash and references(r)]
    keys = ("task", "lang")
    near = [r for r in others if all(r.facts.get(f) == group.facts.get(f) for f in keys)] or others
    if not near:
        raise ValueError("examples: none of the rows has an answer to show")
    if k == 0:
        return group
    start = int(group.prompt_hash, 16) % len(near)
    picked = [near[(start + i) % len(near)] for i in range(min(k, len(near)))]
    shown = tuple(m for r in picked for m in (*r.prompt, Message("assistant", references(r)[0])) if m.role != "system")
    system = tuple(m for m in group.prompt if m.role == "system")
    rest = tuple(m for m in group.prompt if m.role != "system")
    asked = sum(m.role == "user" for m in group.prompt)
    return replace(group, prompt=(*system, *shown, *rest), facts={**group.facts, "id": group.id, "turns": asked})


def with_fact(group: Group, fact: str) -> Group:
    """The prompt with a fact of its row in front of the last user turn. Raises ValueError where a row lacks it."""
    if fact not in group.facts:
        raise ValueError(f"fact: row {group.id} has no {fact!r}; known: {', '.join(group.facts)}")
    *before, last = group.prompt
    told = group.facts[fact]
    said = told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
    turn = Message(last.role, f"{said}\n\n{last.content}")
    return replace(group, prompt=(*before, turn), facts={**group.facts, "id": group.id})


def _about(path: Path) -> dict[str, Any]:
    body = json.loads((path / "eval.json").read_text(encoding="utf-8"))
    return {k: body[k] for k in ("model", "cost", "rows") if k in body}


def text_changes(measured: Mapping[str, Sequence[Mapping[str, Any]]], margin: float, seed: int) -> dict[str, Any]:
    """Per part of the raw texts and model: perplexity, and the change against the first model in nats per token with its verdict."""
    first = next(iter(measured.values()))
    out: dict[str, Any] = {}
    for part in likelihood.sources(first):
        for name, rows in measured.items():
            told = {"perplexity": likelihood.perplexity(likelihood.nats(rows, part, seed)).to_json(), "margin": margin}
            made = None if rows is first else likelihood.change(rows, first, part, margin, seed)
            if made is not None:
                told |= {"change": made.nats.to_json(), "verdict": made.verdict}
            out.setdefault(part, {})[name] = told
    return out


def _curve(named: Mapping[str, str], measured: Mapping[str, Evaluated], main: str) -> dict[str, list[list[Any]]]:
    """Per method and files with runs on different numbers of their rows: [rows, name, figure] in order of rows."""
    found: dict[str, list[list[Any]]] = {}
    for name, path in named.items():
        told, files = cost_of(path), files_behind(path)
        if told["method"] is not None:
            key = f"{told['method']} on {', '.join(files)}"
            found.setdefault(key, []).append([told["rows"], name, measured[name].metrics[main].to_json()])
    return {m: sorted(made) for m, made in found.items() if len({rows for rows, *_ in made}) > 1}
