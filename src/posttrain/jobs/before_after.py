"""Answers of the same prompts before and after a run, side by side in the report, and what training did to the tokens they use."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from posttrain.core.files import read_lines, write_text
from posttrain.core.group import Group
from posttrain.core.protocols import Request, Sampling
from posttrain.rollout.sampler import Sampler

if TYPE_CHECKING:
    from posttrain.jobs.training import Training


@dataclass
class Samples:
    """Prompts drawn from validation (or the data), their answers before, and after."""

    groups: list[Group]
    before_text: list[str]
    token_counts: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def before(cls, run: Training, fresh: bool) -> Samples:
        """Sample the untrained policy, or read back what a first start sampled."""
        groups = asked(run)
        if not groups:
            return cls([], [])
        if not fresh and run.out.samples.is_file():
            rows = read_lines(run.out.samples)
            counts = {"before": rows[0]["tokens_before"]} if rows else {}
            return cls(groups, [r["before"] for r in rows], counts)
        texts, counted = answers(run, groups)
        made = cls(groups, texts, {"before": counted})
        made._write(run, None)
        return made

    def after(self, run: Training) -> None:
        """Sample the trained policy on the same prompts."""
        if not self.groups:
            return
        texts, counted = answers(run, self.groups)
        self.token_counts = {"before": self.token_counts.get("before", {}), "after": counted}
        self._write(run, texts)

    def _write(self, run: Training, after: list[str] | None) -> None:
        rows: list[dict[str, Any]] = []
        for i, item in enumerate(self.groups):
            row: dict[str, Any] = {"id": item.id, "prompt": item.prompt_text, "before": self.before_text[i]}
            if after is not None:
                row["after"] = after[i]
            if item.responses:
                row["data"] = item.responses[0].text
            rows.append(row)
        if rows:
            rows[0]["tokens_before"] = self.token_counts.get("before", {})
        write_text(run.out.samples, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


def asked(run: Training) -> list[Group]:
    """The prompts whose answers the report shows: held-out ones where there are; none for methods that teach no answers."""
    if run.job.samples == 0 or run.job.method.name in ("lm", "reward"):
        return []
    return _spread(run.held_out or [g for p in run.parts for g in p.groups], run.job.samples)


def answers(run: Training, groups: list[Group]) -> tuple[list[str], dict[str, int]]:
    """Greedy answers of the policy as it is, and how often each token occurs in them."""
    sampler = Sampler(run.loaded.model, run.loaded.tokenizer, run.loaded.stops, run.renderer.prompt)
    plain = Sampling(temperature=0.0, max_tokens=run.job.sample_tokens)
    made = sampler.generate([Request(g.prompt, plain, id=g.id, tools=g.tools) for g in groups])
    counts: Counter[str] = Counter()
    for item in made:
        for response in item.responses:
            if response.tokens is not None:
                counts.update(run.loaded.tokenizer.convert_ids_to_tokens(response.tokens.tolist()))
    return [g.responses[0].text for g in made], dict(counts)


def _spread(groups: list[Group], wanted: int) -> list[Group]:
    unique = list({g.prompt_hash: g for g in groups}.values())
    step = max(1, len(unique) // wanted)
    return unique[::step][:wanted]
