"""`posttrain effort`: accuracy against the tokens spent on a prompt, by majority vote, best-of-n and thinking budgets; a table and a plot.

    posttrain effort runs/reasoning/grpo held_out.jsonl --verify exact --n 16 --budgets 8 16 32 --out runs/effort

A thinking budget cuts an answer that is still inside its trace, closes the trace and lets the model go on to its result. Writes
effort.json, rows.jsonl (every answer with its verdict) and report.html. Leaves out process rewards and search over steps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from posttrain.core.files import write_json, write_text
from posttrain.core.group import Group, answer
from posttrain.core.protocols import Request, Sampling
from posttrain.core.recipe import one_of
from posttrain.evals.effort import Drawn, Spent, curves, cut_trace
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, Job, Source
from posttrain.jobs.sample import answering, device_of
from posttrain.jobs.scoring import ModelReward
from posttrain.jobs.stage import Stage, paths_of
from posttrain.report.effort import write_effort
from posttrain.rewards import Criterion
from posttrain.rewards.final_answer import final_answer
from posttrain.rollout.sampler import Sampler
from posttrain.stats import cluster_bootstrap

CLOSING = "</think>"


class Effort(Job):
    """Accuracy against tokens spent: majority vote, best of n, thinking budgets; a table and a plot."""

    name: ClassVar[str] = "effort"
    positional: ClassVar[tuple[str, ...]] = ("model", "data")

    model: str
    """Model that answers: a directory, a run or a hub id."""
    data: Source
    """Prompts with the facts that `verify` reads."""
    out: str
    """Directory for effort.json, rows.jsonl and report.html."""
    verify: one_of(Criterion) = "exact"  # type: ignore[valid-type]
    """Rule that says whether an answer is right."""
    reward: str | None = None
    """Reward run that chooses the best of n; none takes the mean log-probability of the answer."""
    n: PositiveInt = 16
    """Answers per prompt."""
    budgets: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Tokens after which thinking is cut and the result is asked for; none leaves this part out."""
    temperature: PositiveFloat = 1.0
    """How freely the answers are drawn."""
    max_tokens: PositiveInt = 256
    """Longest answer."""
    result_tokens: PositiveInt = 48
    """Longest result after a trace that was cut."""
    seed: int = 0
    """Seed of the draws and of the intervals."""

    def run(self, context: Context | None = None) -> Path:
        """Draw, verify, write; returns the page."""
        context = context or Context()
        stage = Stage(self, self.name, self.out, [self.model, *paths_of(self.data)], file=False)
        page = stage.out / "report.html"
        if stage.finished:
            context.say(f"{self.out}: finished with the same recipe and inputs; reused")
            return page
        asked = [g for part in assembly.gather(self.data, context) for g in part.groups]
        _, _, sampler = answering(self.model, None, device_of("auto"))
        drawn = Sampling(temperature=self.temperature, max_tokens=self.max_tokens)
        made = sampler.generate([Request(g.prompt, drawn, self.n, self.seed, g.id, facts=g.facts) for g in asked])
        rows = self._judged(made)
        points = curves(rows, self.seed) + [self._budget(b, made, sampler) for b in self.budgets]
        chooser = "the mean log-probability" if self.reward is None else f"the reward run {self.reward}"
        told = {
            "model": self.model,
            "prompts": len(asked),
            "n": self.n,
            "seed": self.seed,
            "chooser": chooser,
            "points": [p.to_json() for p in points],
        }
        write_json(stage.out / "effort.json", told)
        write_text(stage.out / "rows.jsonl", "".join(_line(g, r) for g, r in zip(made, rows, strict=True)))
        write_effort(page, told)
        stage.finish([stage.out / "effort.json", stage.out / "rows.jsonl"], rows=len(asked))
        for p in points:
            context.say(f"{p.way:<7}k {p.k:<4} {p.tokens:8.1f} tokens a prompt: accuracy {p.accuracy}")
        return page

    def _judged(self, made: Sequence[Group]) -> list[list[Drawn]]:
        right = self.verify(made)
        scores = None if self.reward is None else ModelReward(self.reward, device=device_of("auto"))(made)
        out = []
        for i, group in enumerate(made):
            row = []
            for j, r in enumerate(group.responses):
                own = float(np.mean(r.logps)) if r.logps is not None and len(r.logps) else -np.inf
                score = own if scores is None else float(scores[i][j].value or 0.0)
                said = " ".join(final_answer(r.text)[0].casefold().split())
                tokens = 0 if r.tokens is None else len(r.tokens)
                row.append(Drawn(said, float(right[i][j].value or 0.0), score, tokens))
            out.append(row)
        return out

    def _budget(self, budget: int, made: Sequence[Group], sampler: Sampler) -> Spent:
        """The first answer to each prompt, its thinking cut after `budget` tokens."""
        closing = sampler.tokenizer.encode(CLOSING, add_special_tokens=False)
        kept = {i: cut for i, g in enumerate(made) if (cut := self._cut(g, budget, sampler)) is not None}
        rest = Sampling(temperature=self.temperature, max_tokens=self.result_tokens)
        asks = []
        for i, cut in kept.items():
            prompt = made[i].prompt_tokens
            assert prompt is not None, "the sampler keeps what it was asked"
            asks.append(([*prompt.tolist(), *cut, *closing], rest, self.seed))
        said = dict(zip(kept, sampler.turns(asks), strict=True))
        groups, tokens = [], []
        for i, g in enumerate(made):
            if i in said:
                text = sampler.tokenizer.decode([*kept[i], *closing], skip_special_tokens=True) + sampler.text(said[i])
                groups.append(g.with_responses([answer(text)]))
                tokens.append(len(kept[i]) + len(closing) + len(said[i].tokens))
            else:
                groups.append(g.with_responses(g.responses[:1]))
                tokens.append(len(g.responses[0].tokens))  # type: ignore[arg-type]
        right = [float(s[0].value or 0.0) for s in self.verify(groups)]
        return Spent("budget", budget, float(np.mean(tokens)), cluster_bootstrap(right, seed=self.seed))

    def _cut(self, group: Group, budget: int, sampler: Sampler) -> list[int] | None:
        tokens = group.responses[0].tokens
        assert tokens is not None, "the sampler keeps its tokens"
        ids = [int(t) for t in tokens]
        closed = CLOSING in sampler.tokenizer.decode(ids[:budget], skip_special_tokens=True)
        return cut_trace(ids, budget, closed)


def _line(group: Group, row: Sequence[Drawn]) -> str:
    each: list[dict[str, Any]] = [
        {"answer": r.text, "result": d.result, "right": d.right, "score": round(d.score, 6), "tokens": d.tokens}
        for r, d in zip(group.responses, row, strict=True)
    ]
    return json.dumps({"id": group.id, "answers": each}, ensure_ascii=False) + "\n"
