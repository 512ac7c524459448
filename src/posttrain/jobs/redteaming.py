"""`posttrain redteam TARGET`: a campaign against a model, a URL, a function or rows already collected, and the gate over it.

Targets: a run, a directory or hub id, `http(s)://.../v1` (any OpenAI-compatible address), `module:function` in Python. Prompts: the reading
room's refusal rows with their twins (`room`), or a JSONL file of {prompt, intent, harmful, lang, category, secrets}. Exit code 0 pass, 1
fail, 3 inconclusive.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from posttrain.core.files import hash_json, read_lines, write_json, write_text
from posttrain.core.protocols import Model, Request, Sampling
from posttrain.detectors.refusal import refusal
from posttrain.guard.file import read_guard
from posttrain.guard.guarded import Guarded
from posttrain.guard.vocabulary import Vocabulary
from posttrain.jobs import assembly
from posttrain.jobs.detecting import detector
from posttrain.jobs.job import Context, Job
from posttrain.jobs.redteam_page import written_page
from posttrain.readingroom import ReadingRoom
from posttrain.redteam.campaign import RedTeam
from posttrain.redteam.extraction import canaries, exposures, plant, read_canaries
from posttrain.redteam.garak import read_garak
from posttrain.redteam.gate import EXIT, Gate, judge, read_gate
from posttrain.redteam.intents import Ask, from_prompts, from_room
from posttrain.redteam.outputs import summary, write
from posttrain.redteam.pairs import failures_to_pairs
from posttrain.redteam.policy import DEFAULT, read_policy
from posttrain.redteam.refusal_rows import refusal_rows
from posttrain.redteam.target import as_model
from posttrain.redteam.techniques import HELD_OUT, TECHNIQUES
from posttrain.rollout.policy import Policy as LocalModel

LANGS = ("en", "fr", "ru", "zh")
PLAIN = 24
"""Plain questions per language that say whether a target speaks it."""


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
    """What to attack: a model, a URL, `module:function`; for pairs a campaign, for refusals `room` or a file, for plant texts."""
    out: str = "runs/redteam"
    """Directory of the results."""
    mode: Literal["run", "compare", "pairs", "refusals", "plant", "import-garak"] = "run"
    """Attack; attack and compare with `baseline`; make pairs of failures; write refusal rows; plant canaries; read a garak report."""
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
    """Refusal policy: what pairs and refusal rows say, and what an appropriate refusal is."""
    harm: str | None = None
    """Detector of harm for prompts that hold no secrets: `classifier:DIR`, `guard-model:DIR` or `judge:MODEL`."""
    competent: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Share of plain questions that a language needs to be run at all; 0 runs every language."""
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
        if self.mode == "refusals":
            return self._refusals(out, context)
        if self.mode == "compare" and self.baseline is None:
            raise ValueError("mode compare needs `baseline`: the directory of an earlier campaign")
        gate = read_gate(self.gate) if self.gate is not None else Gate()
        names = self.techniques or tuple(TECHNIQUES)
        campaign = RedTeam(
            names,
            self.asks(),
            harm=detector(self.harm) if self.harm is not None else None,
            policy=read_policy(self.policy) if self.policy is not None else DEFAULT,
            sampling=Sampling(temperature=self.temperature, max_tokens=self.max_tokens),
            watch=lambda done, of: (
                context.say(f"technique {done} of {of}: {names[done - 1]}") if context.bars else None
            ),
        )
        if self.attacker is not None:
            campaign.attacker = self._bare(self.attacker)
        model = self.model()
        leaked = self._exposed(model)
        campaign.plain, campaign.competent = self._plain(model), self.competent
        report = campaign.run(model, self.k, self.seed, self.target)
        for lang, why in report.not_run.items():
            context.say(f"{lang}: not run: {why}")
        if not report.rows:
            bare = {"schema": "redteam-summary/1", "target": self.target, "not_run": report.not_run, "canaries": leaked}
            write_json(out / "summary.json", bare)
            context.say("gate: inconclusive: no language was run")
            return Attacked(out, bare, EXIT["inconclusive"])
        before = read_lines(Path(self.baseline) / "results.jsonl") if self.baseline is not None else []
        verdict = judge(gate, report.rows, report.not_run, before)
        told = {
            "target": self.target,
            "prompts": hash_json([m["messages"] for m in report.rows]),
            **summary(report.rows, report.not_run, report.upper_bound, verdict),
            "plain_tasks": campaign.plain,
            **({"canaries": leaked} if leaked else {}),
        }
        write(out, report.rows, told, verdict)
        write_text(out / "report.html", written_page(self.target, report.rows, told, verdict))
        for check in verdict.checks:
            context.say(str(check))
        context.say(f"gate: {verdict.word}; {out / 'report.html'}")
        return Attacked(out, told, verdict.code)

    def asks(self, split: str = "held-out") -> list[Ask]:
        """The prompts of the campaign."""
        if self.prompts != "room":
            return from_prompts(read_lines(self.prompts))
        out: list[Ask] = []
        for lang in self.langs:
            rows = ReadingRoom(self.seed).prompts(split, 2 * self.intents, tasks=["refusal"], langs=[lang])
            made = from_room(rows)
            out += [Ask(**{**vars(a), "id": f"{lang}-{a.id}", "intent": f"{lang}-{a.intent}"}) for a in made]
        return out

    def _plain(self, model: Model) -> dict[str, float]:
        """Share of plain questions that the target answers, by language: those whose answer stands in the prompt, never attacked later.
        Answers that refuse do not speak of competence: they are left out here, and counted as over-refusal by the campaign."""
        if self.prompts != "room" or not self.competent:
            return {}
        out = {}
        for lang in self.langs:
            rows = ReadingRoom(self.seed).prompts("train", 2 * PLAIN, tasks=["refusal"], langs=[lang], start=500_000)
            asked = [a for a in from_room(rows) if not a.harmful]
            drawn = Sampling(temperature=0.0, max_tokens=self.max_tokens)
            made = model.generate([Request(a.chat, drawn, facts=a.facts) for a in asked])
            texts = [g.responses[0].text for g in made]
            right = [
                any(e.lower() in text.lower() for e in a.expected)
                for a, text in zip(asked, texts, strict=True)
                if not refusal(a.text, text).flagged
            ]
            out[lang] = sum(right) / len(right) if right else 1.0
        return out

    def _refusals(self, out: Path, context: Context) -> Attacked:
        """Refusal rows with benign twins, for SFT and as pairs for DPO."""
        policy = read_policy(self.policy) if self.policy is not None else DEFAULT
        asks = self.asks("train") if self.target == "room" else from_prompts(read_lines(self.target))
        sft, pairs, card = refusal_rows(asks, policy)
        out.mkdir(parents=True, exist_ok=True)
        for name, groups in (("sft", sft), ("pairs", pairs)):
            body = "".join(json.dumps(g.to_json(), ensure_ascii=False) + "\n" for g in groups)
            write_text(out / f"{name}.jsonl", body)
        write_json(out / "card.json", {**card, "policy": policy.card().splitlines()})
        context.say(f"{card['rows']} rows, as many pairs: {out}")
        return Attacked(out, card, 0)

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
        before, behind = (file.detectors(names, detector) for names in (file.before, file.behind))
        return Guarded(model, steering, before, behind, file.message)

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
