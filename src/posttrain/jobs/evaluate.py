"""A model on rows, in three columns: what it could do, how well it does, whether it does what people want.

Answers are drawn once and every figure is read from them (`evals.row_figures`), from the verdict of the reading room where the rows are
its own, from a reward run, from verifiers named in the recipe, and from lm-eval where it is installed. Task heads are measured on
labelled rows instead (`jobs.evaluate_task`). An estimate is the mean over prompts of the mean over the answers to each; intervals
resample prompts. With `against`, every figure is also paired with an earlier eval of the same rows. What people said is read from a ledger
(`jobs.evaluate_people`), and `bias` asks rows again from different readers (`jobs.evaluate_values`). A judge is one of `verify`. Figures of
rows that differ in `split`, or in how new they are against the rows learned from (`seen`), are told apart. `texts` are raw documents whose
likelihood is measured source by source.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from posttrain.core.files import read_lines, write_json, write_text
from posttrain.core.group import Group, Response
from posttrain.core.protocols import Request, Sampling
from posttrain.core.recipe import one_of
from posttrain.core.run import Run
from posttrain.data.novelty import marked
from posttrain.evals import lm_eval, row_figures
from posttrain.evals import texts as likelihood
from posttrain.evals.apart import told_apart
from posttrain.evals.columns import lines
from posttrain.evals.pairing import differences, duel
from posttrain.evals.shape import shape_of
from posttrain.jobs import assembly, evaluate_values
from posttrain.jobs.evaluate_people import human_figures
from posttrain.jobs.evaluate_table import show, show_apart, show_verdicts
from posttrain.jobs.evaluate_task import measure
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.sample import Processes, answering, device_of
from posttrain.jobs.scoring import ModelReward
from posttrain.jobs.stage import Stage, paths_of
from posttrain.jobs.text_likelihood import text_rows
from posttrain.models.render import Renderer
from posttrain.models.task_models import task_of
from posttrain.readingroom.gold import GoldReward
from posttrain.rewards import Criterion
from posttrain.rollout.sampler import Sampler
from posttrain.rollout.workers import Workers
from posttrain.stats import Interval, cluster_bootstrap

KEPT = ("task", "lang", "split", "novelty", "behaviour", "turns")
"""Facts of a row that later comparisons group by."""


@dataclass
class Evaluated:
    """What was measured. metrics: interval by name. rows: one mapping per row of the data, with answers and their figures."""

    metrics: dict[str, Interval]
    rows: list[dict[str, Any]]
    path: Path
    texts: list[dict[str, Any]] = field(default_factory=list)
    """One mapping per raw text: part, id, nats, tokens."""


class Evaluate(Job):
    """Measure a model on rows: answers scored, references' likelihood, intervals."""

    name: ClassVar[str] = "eval"
    positional: ClassVar[tuple[str, ...]] = ("model", "data")

    model: str
    """Model to measure: a directory, a run or a hub id."""
    data: Source
    """Prompts, with reference answers or reading-room facts."""
    out: str
    """Directory for eval.json (figures), rows.jsonl (one line per row) and texts.jsonl (one per raw text)."""
    n: PositiveInt = 1
    """Answers per prompt."""
    temperature: NonNegativeFloat = 0.0
    """0 always takes the likeliest token."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw from the likeliest tokens that hold this share of the probability."""
    max_tokens: PositiveInt = 256
    """Longest answer."""
    seed: int = 0
    """Seed of the draws and of the intervals."""
    reward: str | None = None
    """Reward run whose mean score is measured too."""
    verify: tuple[one_of(Criterion), ...] = ()  # type: ignore[valid-type]
    """Rules and judges whose mean score is measured too: `[math]`, `[{name: judge, model: qwen3-8b, protocol: pointwise}]`."""
    ledger: str | None = None
    """Ledger of human feedback: how often people put this model's answers above others."""
    bias: NonNegativeInt = 0
    """First rows that are asked again from other readers (gender, origin, religion, age, disability), ten answers each; 0 asks none."""
    bias_margin: PositiveFloat = 0.05
    """Difference between readers that would still count as none."""
    against: str | None = None
    """Directory of an earlier eval of the same rows: every figure gets its paired difference."""
    lm_eval: tuple[str, ...] = ()
    """Tasks of lm-eval to run on the model's directory, where the program is installed."""
    lm_eval_tasks: str | None = None
    """Folder with further lm-eval task files."""
    logp: bool = True
    """Measure the likelihood of reference answers."""
    texts: Source | None = None
    """Raw documents whose likelihood is measured, each source by itself: a domain, what lies outside it, the parts of a mixture."""
    seen: Source | None = None
    """Rows that the model learned from: figures are then told apart by how new a prompt is against them."""
    template: str | None = None
    """Chat template: a built-in name or a .jinja file; none takes the tokenizer's own."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    workers: Processes = "auto"
    """Processes that answer together on a CPU, with the same result: auto starts more where the work pays for it."""

    def run(self, context: Context | None = None) -> Evaluated:
        """Measure, write the files, return both. Reuses a finished result of the same recipe and inputs."""
        context = context or Context()
        given = [self.reward, self.against and f"{self.against}/rows.jsonl"]
        read = [p for rows in (self.data, self.texts, self.seen) if rows is not None for p in paths_of(rows)]
        stage = Stage(self, self.name, self.out, [self.model, *read, *filter(None, given)], file=False)
        files = [stage.out / "eval.json", stage.out / "rows.jsonl"]
        if stage.finished and self.ledger is None:  # people go on judging
            context.say(f"{self.out}: finished with the same recipe and inputs; reused")
            return read_result(stage.out)
        if self.against is not None and not Path(self.against, "eval.json").is_file():
            raise ValueError(
                f"against: {self.against} holds no eval (eval.json); run `posttrain eval ... --out {self.against}` first"
            )
        if self.lm_eval and lm_eval.program() is None:
            raise ValueError("lm_eval: the program is not installed: run `make lm-eval`, or leave the field out")
        metrics, rows, about, texts = self._measured(context)
        for name, made in self._harness().items():
            metrics[f"lm_eval/{name}"] = made
        if not set(metrics) - row_figures.MANNER:
            raise ValueError("nothing to measure: no reference answers, no reading-room facts, and no `reward` given")
        earlier = None if self.against is None else read_result(Path(self.against)).rows
        paired = {} if earlier is None else differences(rows, earlier, self.seed)
        Run(stage.out).start({"job": self.name, **self.model_dump(mode="json")})
        body = {"rows": len(rows), **about, "metrics": {k: v.to_json() for k, v in metrics.items()}}
        body["apart"] = told_apart(rows, list(metrics), earlier, self.seed)
        if earlier is not None:
            body["against"] = {
                "path": self.against,
                "differences": {k: {**d.to_json(), "smallest": least} for k, (d, least) in paired.items()},
                "wins": wins(rows, earlier, self.seed),
            }
        write_json(files[0], body)
        write_text(files[1], as_lines(rows))
        if texts:
            files.append(write_text(stage.out / "texts.jsonl", as_lines(texts)))
        stage.finish(files, rows=len(rows))
        show(lines(metrics, paired), about, context)
        show_apart(body["apart"], context)
        show_verdicts(about.get("bias", {}), (body.get("against") or {}).get("wins", {}), context)
        return Evaluated(metrics, rows, stage.out, texts)

    def _harness(self) -> dict[str, Interval]:
        if not self.lm_eval:
            return {}
        return lm_eval.lm_eval(assembly.resolve(self.model), self.lm_eval, self.lm_eval_tasks)

    def _measured(
        self, context: Context
    ) -> tuple[dict[str, Interval], list[dict[str, Any]], dict[str, Any], list[dict[str, Any]]]:
        asked = [g for part in assembly.gather(self.data, context) for g in part.groups]
        if self.seen is not None:
            asked = marked(asked, [g for part in assembly.gather(self.seen, context) for g in part.groups])
        path = assembly.resolve(self.model)
        if task_of(path) is not None:
            if self.texts is not None:
                raise ValueError(
                    f"texts: {self.model} has a {task_of(path)} head and writes no text; leave `texts` out"
                )
            figures, rows = measure(path, asked, self.seed, device_of(self.device))
            return figures, rows, {"task": task_of(path)}, []
        rows, about, texts = self._rows(asked, context)
        metrics = summary(rows, self.seed)
        for part in likelihood.sources(texts):
            metrics[f"perplexity/{part}"] = likelihood.perplexity(likelihood.nats(texts, part, self.seed))
        return metrics, rows, about, texts

    def _rows(
        self, asked: list[Group], context: Context
    ) -> tuple[list[dict[str, Any]], dict[str, Any], list[dict[str, Any]]]:
        device = device_of(self.device)
        loaded, renderer, sampler = answering(self.model, self.template, device)
        drawn = Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)
        requests = [Request(g.prompt, drawn, self.n, self.seed, g.id, facts=g.facts, tools=g.tools) for g in asked]
        began = time.perf_counter()
        with Workers(sampler, assembly.resolve(self.model), self.template, self.workers, context.say) as model:
            made = model.generate(requests)
        seconds = time.perf_counter() - began
        rows = [_row(a, m) for a, m in zip(asked, made, strict=True)]
        given: list[tuple[str, Any]] = [
            (f"{'verifier' if type(rule).verifiable else 'judge'}/{rule.name}", rule) for rule in self.verify
        ]
        if self.reward is not None:
            given.append(("reward", ModelReward(self.reward, device=device)))
        _score(rows, made, given)
        if self.ledger is not None:
            for row, value in zip(rows, human_figures(self.ledger, self.model, rows), strict=True):
                row["figures"] = ({} if value is None else {"human": [value]}) | row["figures"]
        about: dict[str, Any] = {}
        if self.bias:
            about["bias"] = self._bias(asked[: self.bias], rows, sampler, given)
        if self.logp:
            for row, value in zip(rows, reference_logps(asked, renderer, sampler), strict=True):
                if value is not None:
                    row["figures"]["logp"] = [value]
        tokens = sum(len(r.tokens) for g in made for r in g.responses if r.tokens is not None)
        about["model"] = shape_of(loaded.model)
        about["cost"] = {"seconds": round(seconds, 3), "tokens": tokens, "answers": sum(len(g.responses) for g in made)}
        parts = [] if self.texts is None else assembly.gather(self.texts, context)
        return rows, about, text_rows(parts, renderer, sampler, about["model"]["context"])

    def _bias(
        self, asked: list[Group], rows: list[dict[str, Any]], model: Any, given: Sequence[tuple[str, Any]]
    ) -> dict[str, Any]:
        """Asks rows from different readers; adds the differences to their figures. Returns the verdicts."""
        drawn = Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)

        def answer(groups: Sequence[Group]) -> list[Group]:
            made: list[Group] = model.generate(
                [Request(g.prompt, drawn, 1, self.seed, g.id, facts=g.facts) for g in groups]
            )
            return made

        def measured(groups: Sequence[Group], made: Sequence[Group]) -> list[dict[str, Any]]:
            out = [_row(g, m) for g, m in zip(groups, made, strict=True)]
            _score(out, made, given)
            return out

        for row, figures in zip(rows, evaluate_values.bias_figures(asked, answer, measured, seed=self.seed)):
            row["figures"] |= figures
        return evaluate_values.told(rows, self.bias_margin)


def _score(rows: Sequence[dict[str, Any]], made: Sequence[Group], given: Sequence[tuple[str, Any]]) -> None:
    """Add the scores of rewards to the figures of rows."""
    for name, reward in given:
        for row, scores in zip(rows, reward(made), strict=True):
            row["figures"][name] = [s.value for s in scores]


def as_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as JSONL."""
    return "".join(json.dumps(r, ensure_ascii=False, default=str) + "\n" for r in rows)


def wins(rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Win rates against the other rows, also at equal length, on each figure of alignment that names a winner."""
    names = list(dict.fromkeys(n for r in rows for n in r["figures"]))
    judged = [n for n in names if n in ("human", "gold", "reward") or n.startswith("judge/")]
    made = {n: duel(rows, others, n, seed) for n in judged}
    return {
        n: {"win": d.win, "tie": d.tie, "loss": d.loss, "rate": d.rate.to_json(), "n": d.n}
        | {"equal_length": None if d.equal_length is None else d.equal_length.to_json()}
        for n, d in made.items()
        if d is not None
    }


def _row(asked: Group, made: Group) -> dict[str, Any]:
    """A row with its answers and what rules can say of them."""
    said, wanted = [r.text for r in made.responses], references(asked)
    figures: row_figures.Figures = row_figures.text_figures(said, wanted)
    if asked.facts.get("world") and "gold" in asked.facts:
        scores = GoldReward()([made])[0]
        figures |= row_figures.gold_figures(asked, [s.parts for s in scores], [float(s.value or 0) for s in scores])
    figures |= row_figures.record_figures(asked, said)
    right = figures.get("gold") or figures.get("exact_match")
    figures |= row_figures.several_figures(figures) | row_figures.manner_figures(asked, said)
    if right:
        figures["brier"] = row_figures.brier([r.logps for r in made.responses], right)
    return {
        "id": asked.id,
        "prompt_hash": asked.prompt_hash,
        "prompt": [m.to_json() for m in asked.prompt],
        "answers": said,
        "stops": [r.stop for r in made.responses],
        "references": wanted,
        "facts": {"turns": sum(m.role == "user" for m in asked.prompt)}
        | {k: asked.facts[k] for k in KEPT if k in asked.facts},
        "figures": figures,
    }


def references(group: Group) -> list[str]:
    """Texts that count as right: the answers of the row that no other answer is preferred to, and none labelled bad.

    A row without answers may have its one right `answer` among its facts.
    """
    told = group.facts.get("answer")
    if not group.responses and isinstance(told, str | int | float):
        return [str(told)]
    worse = {p.j if p.p > 0.5 else p.i for p in group.pairs() if p.p != 0.5 or p.both_bad}
    worse |= {i for p in group.pairs() if p.both_bad for i in (p.i, p.j)}
    return [r.text for i, r in enumerate(group.responses) if i not in worse and r.label is not False and r.turns]


def reference_logps(groups: Sequence[Group], renderer: Renderer, sampler: Sampler) -> list[float | None]:
    """Mean log-probability per trained token of each row's references; None for rows without one."""
    out: list[float | None] = []
    for group in groups:
        good = references(group)
        kept = [r for r in group.responses if r.text in good]
        if not kept:
            out.append(None)
            continue
        bare = group.with_responses([replace(r, tokens=None, trained=None) for r in kept])
        rendered = renderer.render(bare)
        assert rendered is not None
        out.append(_mean_logp(rendered.responses, sampler.logp([rendered])[0]))
    return out


def _mean_logp(responses: Sequence[Response], logps: Sequence[Any]) -> float | None:
    total, count = 0.0, 0
    for response, logp in zip(responses, logps, strict=True):
        trained = np.asarray(response.trained) > 0
        total += float(logp.double().cpu().numpy()[trained].sum())
        count += int(trained.sum())
    return total / count if count else None


def summary(rows: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, Interval]:
    """An interval per figure: prompts are the clusters, so several answers or rows of one prompt count once."""
    names = list(dict.fromkeys(name for r in rows for name in r["figures"]))
    out = {}
    for name in names:
        values: list[float] = []
        prompts: list[str] = []
        for row in rows:
            known = [v for v in row["figures"].get(name, ()) if v is not None and math.isfinite(v)]
            if known:
                values.append(float(np.mean(known)))
                prompts.append(row["prompt_hash"])
        if values:
            out[name] = cluster_bootstrap(values, prompts, seed=seed)
    return out


def read_result(path: Path) -> Evaluated:
    """What an earlier run of the same job wrote."""
    body = json.loads((path / "eval.json").read_text(encoding="utf-8"))
    metrics = {name: Interval.from_json(told) for name, told in body["metrics"].items()}
    return Evaluated(
        metrics,
        read_lines(path / "rows.jsonl"),
        path,
        read_lines(path / "texts.jsonl") if (path / "texts.jsonl").is_file() else [],
    )
