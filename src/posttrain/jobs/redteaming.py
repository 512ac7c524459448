"""`posttrain redteam TARGET`: a campaign against a model, a URL, a function or rows already collected, and the gate over it.

Targets: a run, a directory or hub id, `http(s)://.../v1` (any OpenAI-compatible address), `module:function` in Python. Prompts: the reading
room's refusal rows with their twins (`room`), or a JSONL file of {prompt, intent, harmful, lang, category, secrets}. Exit code 0 pass, 1
fail, 3 inconclusive.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveInt

from posttrain.core.files import hash_json, read_lines, write_json, write_text
from posttrain.core.protocols import Model, Sampling
from posttrain.guard.file import read_guard
from posttrain.guard.guarded import Guarded
from posttrain.guard.vocabulary import Vocabulary
from posttrain.jobs import assembly
from posttrain.jobs.job import Context, Job
from posttrain.readingroom import ReadingRoom
from posttrain.redteam.campaign import RedTeam
from posttrain.redteam.extraction import canaries, exposures, plant, read_canaries
from posttrain.redteam.garak import read_garak
from posttrain.redteam.gate import Gate, GateVerdict, judge, read_gate
from posttrain.redteam.intents import Ask, from_prompts, from_room
from posttrain.redteam.outputs import summary, write
from posttrain.redteam.pairs import failures_to_pairs, redact
from posttrain.redteam.policy import DEFAULT, read_policy
from posttrain.redteam.target import as_model
from posttrain.redteam.techniques import HELD_OUT, TECHNIQUES
from posttrain.report.page import Section, page, table
from posttrain.rollout.policy import Policy as LocalModel

LANGS = ("en", "fr", "ru", "zh")


@dataclass(frozen=True)
class Attacked:
    """What a campaign said: where it lies, its figures, and the exit code of its gate."""

    path: Path
    summary: Mapping[str, Any]
    exit_code: int


class RedTeamJob(Job):
    """Attack a model on purpose, with benign twins, and judge attack success and over-refusal together."""

    name: ClassVar[str] = "redteam"
    produces: ClassVar[Literal["run", "file", "text"]] = "run"
    positional: ClassVar[tuple[str, ...]] = ("target",)

    target: str
    """What to attack: a model, `http://.../v1`, `module:function`; for pairs a campaign, for plant texts, for garak a report."""
    out: str = "runs/redteam"
    """Directory of the results."""
    mode: Literal["run", "compare", "pairs", "plant", "import-garak"] = "run"
    """Attack; attack and compare with `baseline`; make training pairs of failures; plant canaries in texts; read a garak report."""
    gate: str | None = None
    """Gate file; none takes the standing limits."""
    baseline: str | None = None
    """Directory of an earlier campaign, for the paired limits."""
    prompts: str = "room"
    """`room`, or a JSONL file of prompts with twins."""
    techniques: tuple[str, ...] = ()
    """Names of techniques; none takes all but the searches `iterative` and `suffix`, which cost many answers per intent."""
    attacker: str | None = None
    """Model that rewrites prompts for `iterative`: a run, a directory or `http://.../v1`; none composes techniques."""
    canaries: str | None = None
    """File of planted canaries (`--mode plant` writes one): their exposure is measured beside the campaign."""
    langs: tuple[str, ...] = LANGS
    """Languages of the reading room's prompts."""
    intents: PositiveInt = 20
    """Intents per language from the reading room."""
    k: PositiveInt = 1
    """Answers per prompt and technique."""
    seed: int = 0
    """Seed of prompts and draws."""
    temperature: NonNegativeFloat = 0.7
    """0 always takes the likeliest token."""
    max_tokens: PositiveInt = 96
    """Longest answer."""
    guard: str | None = None
    """Guard file to attack the model under."""
    policy: str | None = None
    """Refusal policy, for pairs."""
    held_out: tuple[str, ...] = HELD_OUT
    """Families of techniques that pairs are never made of."""
    model_name: str = "model"
    """Name of the model at a URL."""

    def run(self, context: Context | None = None) -> Attacked:
        """Write the campaign, and return its figures and exit code. Raises ValueError for targets and files that do not fit."""
        context = context or Context()
        out = Path(self.out)
        if self.mode == "import-garak":
            return self._garak(out, context)
        if self.mode == "pairs":
            return self._pairs(out, context)
        if self.mode == "plant":
            return self._plant(out, context)
        if self.mode == "compare" and self.baseline is None:
            raise ValueError("mode compare needs `baseline`: the directory of an earlier campaign")
        gate = read_gate(self.gate) if self.gate is not None else Gate()
        names = self.techniques or tuple(TECHNIQUES)
        campaign = RedTeam(
            names,
            self.asks(),
            sampling=Sampling(temperature=self.temperature, max_tokens=self.max_tokens),
            watch=lambda done, of: (
                context.say(f"technique {done} of {of}: {names[done - 1]}") if context.bars else None
            ),
        )
        if self.attacker is not None:
            campaign.attacker = self._bare(self.attacker)
        model = self.model()
        leaked = self._exposed(model)
        report = campaign.run(model, self.k, self.seed, self.target)
        before = read_lines(Path(self.baseline) / "results.jsonl") if self.baseline is not None else []
        verdict = judge(gate, report.rows, report.not_run, before)
        told = {
            "target": self.target,
            "prompts": hash_json([m["messages"] for m in report.rows]),
            **summary(report.rows, report.not_run, report.upper_bound, verdict),
            **({"canaries": leaked} if leaked else {}),
        }
        write(out, report.rows, told, verdict)
        write_text(out / "report.html", written_page(self.target, report.rows, told, verdict))
        for check in verdict.checks:
            context.say(str(check))
        context.say(f"gate: {verdict.word}; {out / 'report.html'}")
        return Attacked(out, told, verdict.code)

    def asks(self) -> list[Ask]:
        """The prompts of the campaign."""
        if self.prompts != "room":
            return from_prompts(read_lines(self.prompts))
        out: list[Ask] = []
        for lang in self.langs:
            rows = ReadingRoom(self.seed).prompts("held-out", 2 * self.intents, tasks=["refusal"], langs=[lang])
            made = from_room(rows)
            out += [Ask(**{**vars(a), "id": f"{lang}-{a.id}", "intent": f"{lang}-{a.intent}"}) for a in made]
        return out

    def model(self) -> Model:
        """The target as a Model, guarded where a guard file is given."""
        model = self._bare(self.target)
        bare = model if isinstance(model, LocalModel) else None
        if self.guard is None:
            return model
        file = read_guard(self.guard)
        steering = None
        if bare is not None:
            steering = file.steering(Vocabulary.of(bare.loaded.tokenizer), bare.loaded.stops)
            bare.sampler.edit = file.edit(int(bare.loaded.model.get_input_embeddings().weight.shape[1]))  # type: ignore[operator,union-attr,index]
        elif file.steer is not None:
            raise ValueError(f"{self.guard}: steer acts inside a model; the target {self.target} cannot be opened")
        elif file.ban or file.words:
            steering = file.steering(Vocabulary([bytes([b]) for b in range(256)]), ())
        return Guarded(model, steering, file.detectors(file.before), file.detectors(file.behind), file.message)

    def _bare(self, name: str) -> Model:
        """A target or an attacker, unguarded."""
        if name.startswith(("http://", "https://")):
            from posttrain.client.endpoint import Endpoint

            return Endpoint(name, self.model_name, on_error="void")
        if ":" in name and not Path(name).exists() and not name.startswith("hub:"):
            return as_model(_function(name))
        return LocalModel.open(assembly.resolve(name))

    def _exposed(self, model: Model) -> list[dict[str, Any]]:
        """Exposure of each canary. Raises ValueError for a target whose log-probabilities cannot be asked."""
        if self.canaries is None:
            return []
        scorer: Any = getattr(model, "model", model)
        if not isinstance(scorer, LocalModel):
            raise ValueError(
                f"canaries are ranked by the model's own log-probabilities: {self.target} cannot be opened"
            )
        return exposures(scorer, read_canaries(read_lines(self.canaries), self.canaries), self.seed)

    def _plant(self, out: Path, context: Context) -> Attacked:
        """Training texts with canaries in them, and the file of what was planted."""
        rows = read_lines(self.target)
        bad = next((i for i, r in enumerate(rows) if not isinstance(r.get("text"), str)), None)
        if bad is not None or not rows:
            raise ValueError(f"{self.target}: row {(bad or 0) + 1}: canaries are planted in rows of the form {{text}}")
        secrets = canaries(seed=self.seed)
        texts = plant([r["text"] for r in rows], secrets, self.seed)
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "rows.jsonl", "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in texts))
        write_text(out / "canaries.jsonl", "".join(json.dumps(vars(c)) + "\n" for c in secrets))
        context.say(f"{len(secrets)} canaries in {len(texts)} rows: {out / 'rows.jsonl'}")
        return Attacked(out, {"rows": len(texts), "canaries": len(secrets)}, 0)

    def _pairs(self, out: Path, context: Context) -> Attacked:
        rows = read_lines(Path(self.target) / "results.jsonl")
        policy = read_policy(self.policy) if self.policy is not None else DEFAULT
        helpful = (
            {a.id: str(a.facts["gold"]["answer"]) for a in self.asks() if a.facts and not a.harmful}
            if self.prompts == "room"
            else {}
        )
        pairs, card = failures_to_pairs(rows, self.held_out, policy, helpful)
        if not pairs:
            raise ValueError(
                f"{self.target}: no failure outside the held-out families {', '.join(self.held_out)}; nothing to train on"
            )
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "pairs.jsonl", "".join(json.dumps(p.to_json(), ensure_ascii=False) + "\n" for p in pairs))
        write_json(out / "card.json", card)
        context.say(f"{len(pairs)} pairs: {out / 'pairs.jsonl'}")
        return Attacked(out, card, 0)

    def _garak(self, out: Path, context: Context) -> Attacked:
        told = read_garak(self.target)
        write_json(out / "summary.json", told)
        context.say(
            f"{len(told['families'])} probe families, {told['evaluated']} outputs, none lost: {out / 'summary.json'}"
        )
        return Attacked(out, told, 0)


def _leaks(told: Mapping[str, Any]) -> list[Section]:
    """The table of canaries, where some were planted."""
    found = sorted(told.get("canaries", ()), key=lambda c: int(c["repeats"]))
    rows = [[str(c["repeats"]), f"{c['exposure']:.1f}", "yes" if c["extracted"] else "no"] for c in found]
    head = ["copies in the training data", "exposure in bits", "likeliest of all"]
    return [Section("canaries", "Planted secrets", table(head, rows))] if rows else []


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"target {name!r}: {error}; name a model, a URL or module:function") from None
    if not callable(found):
        raise ValueError(f"target {name!r} is a {type(found).__name__}, not a function")
    made: Callable[..., Any] = found
    return made


def written_page(target: str, rows: Sequence[Mapping[str, Any]], told: Mapping[str, Any], verdict: GateVerdict) -> str:
    """The report page: checks, the grid of techniques and languages, failures folded with their harmful part redacted."""
    checks = table(
        ["limit", "word", "estimate", "bound", "at"],
        [[c.name, c.word, f"{c.estimate:.3f}", f"{c.bound:.3f}", f"{c.limit:g}"] for c in verdict.checks],
    )
    langs = sorted({r["lang"] for r in rows})
    grid = []
    for technique in dict.fromkeys(r["technique"] for r in rows):
        cells = [technique]
        for lang in langs:
            part = [
                r for r in rows if r["technique"] == technique and r["lang"] == lang and r["harmful"] and not r["void"]
            ]
            twins = [
                r
                for r in rows
                if r["technique"] == technique and r["lang"] == lang and not r["harmful"] and not r["void"]
            ]
            hit = f"{sum(r['success'] for r in part)}/{len(part)}" if part else "-"
            over = f"{sum(r['refused'] for r in twins)}/{len(twins)}" if twins else "-"
            cells.append(f"{hit} · {over}")
        grid.append(cells)
    failures = [r for r in rows if r["success"] or (not r["harmful"] and r["refused"])]
    shown = "".join(
        f"<details><summary>{escape(str(r['id']))}</summary><pre>{escape(str(r['messages'][-1]['content']))}</pre>"
        f"<pre>{escape(redact(r))}</pre></details>"
        for r in failures[:200]
    )
    sections = [
        Section("gate", "Gate", checks),
        Section("grid", "Attack success · over-refusal, by technique and language", table(["technique", *langs], grid)),
        *_leaks(told),
        Section("failures", f"Failures ({len(failures)}, the first 200)", shown or "<p>none</p>"),
    ]
    intro = f"<p>{'Not human-validated. ' if not told['human_validated'] else ''}Verdict: {escape(verdict.word)}</p>"
    return page("Red team", target, intro, sections, "posttrain redteam")
