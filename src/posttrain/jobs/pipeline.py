"""Recipes in YAML: one job, or jobs that name each other's outputs; ``posttrain run`` runs them in the order of their needs.

    version: 1                      # of this format
    out: runs/chat                  # each job's directory is runs/chat/<its name> unless it says otherwise
    seed: 1                         # for every job that has a seed and names none
    jobs:
      sft: {method: sft, model: ..., data: demos.jsonl, steps: 200}
      dpo: {method: dpo, model: $sft, data: prefs.jsonl}

A value that begins with ``$name`` is that job's output (``$name/file`` a file in it); ``$$`` is a plain dollar sign.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from posttrain.core.recipe import SCHEMA_VERSION, RecipeError, Spec, nearest
from posttrain.jobs.catalogue import build_job, dump_job
from posttrain.jobs.job import Context, Job
from posttrain.jobs.recipe_text import parse, read_mapping

SHARED = ("version", "out", "seed", "jobs")
SHORT = {"data": "path", "source": "path"}
"""Fields whose short form is not a member's name."""


@dataclass(frozen=True)
class Pipeline:
    """Jobs by name, in the order in which they run. waits: the jobs whose outputs each one reads."""

    jobs: dict[str, Job]
    waits: dict[str, tuple[str, ...]]

    def run(self, context: Context | None = None) -> dict[str, Any]:
        """What each job returned, by name. A finished job with unchanged inputs is reused."""
        context = context or Context()
        made: dict[str, Any] = {}
        for number, (name, job) in enumerate(self.jobs.items(), 1):
            if len(self.jobs) > 1:
                context.say(f"[{number}/{len(self.jobs)}] {name}")
            made[name] = job.run(context)
        return made


def build(recipe: Mapping[str, Any], stem: str = "recipe") -> Pipeline:
    """A pipeline from plain values. stem: names the default directory ``runs/<stem>``. Raises RecipeError before anything runs."""
    body = dict(recipe)
    _check_version(body.pop("version", SCHEMA_VERSION))
    single = "jobs" not in body
    if single:
        seed, prefix = None, None
        name = str(body.get("job", "train"))
        plain: dict[str, Any] = {name: body}
    else:
        for field in body:
            if field not in SHARED:
                raise RecipeError(f"{field}: unknown field of a pipeline{nearest(field, list(SHARED))}")
        plain, seed, prefix = _jobs(body["jobs"]), body.get("seed"), body.get("out")
    outs = {n: _out(n, fields, prefix, stem, single) for n, fields in plain.items()}
    waits = {n: tuple(dict.fromkeys(_references(fields, n, plain))) for n, fields in plain.items()}
    jobs: dict[str, Job] = {}
    for n in _order(waits):
        fields = {**_resolved(plain[n], outs, n)}
        cls = Job.members.get(str(fields.get("job", "train")))
        if cls is not None and "out" in cls.model_fields and outs[n] is not None:
            fields["out"] = outs[n]
        if cls is not None and "seed" in cls.model_fields and seed is not None:
            fields.setdefault("seed", seed)
        jobs[n] = build_job(fields, "" if single else n)
    _check_outs(jobs)
    return Pipeline(jobs, waits)


def dump(pipeline: Pipeline) -> dict[str, Any]:
    """Plain values that `build` turns back into equal jobs; references are written out as paths."""
    return {"version": SCHEMA_VERSION, "jobs": {name: dump_job(job) for name, job in pipeline.jobs.items()}}


def load(path: str | Path, overrides: Sequence[str] = ()) -> Pipeline:
    """The pipeline of a recipe file with ``a.b=value`` overrides. Raises RecipeError with the place and the remedy."""
    body = read_mapping(path)
    for text in overrides:
        override(body, text)
    at = Path(path)
    return build(body, at.parent.name if at.name == "recipe.yaml" else at.stem)


def override(recipe: dict[str, Any], text: str) -> None:
    """Put the value of ``sft.steps=50`` or ``method.beta=0.2`` into plain recipe values, in place."""
    path, equals, written = text.partition("=")
    steps = path.strip().split(".")
    if not equals or not all(steps):
        raise RecipeError(f"override {text!r}: write field=value, for example method.beta=0.2")
    here: Any = recipe
    if isinstance(recipe.get("jobs"), dict):
        if steps[0] in recipe["jobs"]:
            here = recipe["jobs"]
        elif steps[0] not in SHARED:
            raise RecipeError(f"override {text!r}: no such job{nearest(steps[0], [*recipe['jobs'], 'out', 'seed'])}")
    for at, step in enumerate(steps[:-1]):
        here = _inside(here, step, text, ".".join(steps[: at + 1]))
    value = parse(written, f"override {path}")
    if isinstance(here, list):
        here[_index(here, steps[-1], text)] = value
    elif not isinstance(here, dict):
        raise RecipeError(f"override {text!r}: {'.'.join(steps[:-1])} has no fields")
    else:
        here[steps[-1]] = value


def _inside(here: Any, step: str, text: str, path: str) -> Any:
    """The mapping or list under `step`; a short form (``method: dpo``) becomes the long one so that fields can be set."""
    if isinstance(here, list):
        return here[_index(here, step, text)]
    if not isinstance(here, dict):
        raise RecipeError(f"override {text!r}: {path.rpartition('.')[0]} has no fields")
    inside = here.get(step)
    if isinstance(inside, str):
        here[step] = {SHORT.get(step, "name"): inside}
    elif inside is None:
        here[step] = {}
    elif not isinstance(inside, dict | list):
        raise RecipeError(f"override {text!r}: {path} is {inside!r} and has no fields")
    return here[step]


def _index(items: list[Any], step: str, text: str) -> int:
    if not step.isdigit() or int(step) >= len(items):
        raise RecipeError(f"override {text!r}: {step} is not one of the {len(items)} entries (counted from 0)")
    return int(step)


def _check_version(version: Any) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RecipeError(f"version: a whole number from 1, got {version!r}")
    if version > SCHEMA_VERSION:
        raise RecipeError(
            f"version: {version} is newer than this posttrain reads ({SCHEMA_VERSION}); "
            "upgrade it (pip install -U posttrain) or write the recipe in the older form"
        )


def _jobs(jobs: Any) -> dict[str, Any]:
    if not isinstance(jobs, dict) or not jobs:
        raise RecipeError("jobs: a mapping of names to jobs, for example {sft: {method: sft, ...}}")
    for name, fields in jobs.items():
        if not isinstance(name, str) or not name or set(name) & set("/$. \\"):
            raise RecipeError(f"jobs: {name!r} cannot be a job's name; use letters, digits, - and _")
        if not isinstance(fields, dict):
            raise RecipeError(f"{name}: a job is a mapping of fields, found {fields!r}")
    return dict(jobs)


def _out(name: str, fields: Mapping[str, Any], prefix: Any, stem: str, single: bool) -> str | None:
    """Where a job writes: its own `out`, else a place under the pipeline's. None for a single job, which must say."""
    if fields.get("out") is not None:
        return str(fields["out"])
    cls = Job.members.get(str(fields.get("job", "train")))
    file = ".jsonl" if cls is not None and issubclass(cls, Job) and cls.produces == "file" else ""
    return None if single else str(Path(str(prefix or f"runs/{stem}")) / (name + file))


def _texts(value: Any) -> Iterator[str]:
    """Every text in plain values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _reference(text: str) -> tuple[str, str] | None:
    """(job, rest of the path) of ``$job`` or ``$job/rest``; None for other text."""
    if not text.startswith("$") or text.startswith("$$"):
        return None
    name, slash, rest = text[1:].partition("/")
    return name, slash + rest


def _references(fields: Mapping[str, Any], job: str, known: Mapping[str, Any]) -> Iterator[str]:
    for text in _texts(fields):
        found = _reference(text)
        if found is None:
            continue
        if found[0] not in known:
            match = difflib.get_close_matches(found[0], list(known), n=1, cutoff=0.5)
            others = ", ".join(f"${n}" for n in known if n != job) or "none"
            hint = f"did you mean `${match[0]}`?" if match else f"known: {others}; $$ is a plain dollar sign"
            raise RecipeError(f"{job}: {text!r} names no job of this recipe; {hint}")
        cls = Job.members.get(str(known[found[0]].get("job", "train")))
        if cls is not None and "out" not in cls.model_fields:
            raise RecipeError(f"{job}: {text!r} names a job that writes no output")
        yield found[0]


def _resolved(value: Any, outs: Mapping[str, str | None], job: str) -> Any:
    """Plain values with references replaced by paths."""
    if isinstance(value, str):
        found = _reference(value)
        if found is not None:
            return f"{outs[found[0]]}{found[1]}"
        return value[1:] if value.startswith("$$") else value
    if isinstance(value, Mapping):
        return {k: _resolved(v, outs, job) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolved(v, outs, job) for v in value]
    return value


def _order(waits: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Jobs so that each comes after those it waits for, otherwise as written. Raises RecipeError with the cycle."""
    done: list[str] = []

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            cycle = " -> ".join([*trail[trail.index(name) :], name])
            raise RecipeError(f"jobs wait for each other: {cycle}")
        if name not in done:
            for other in waits[name]:
                visit(other, (*trail, name))
            done.append(name)

    for name in waits:
        visit(name, ())
    return done


def _check_outs(jobs: Mapping[str, Job]) -> None:
    places: dict[Path, str] = {}
    for name, job in jobs.items():
        out = getattr(job, "out", None)
        if out is None:
            continue
        at = Path(out).resolve()
        if at in places:
            raise RecipeError(f"{name} and {places[at]} both write to {out}; give each its own `out`")
        places[at] = name


class RunRecipe(Spec):
    """Run a recipe: one job, or a pipeline of jobs that name each other's outputs."""

    positional: ClassVar[tuple[str, ...]] = ("recipe", "overrides")

    recipe: str
    """YAML file of a job or of a pipeline; a run's directory repeats that run's recipe."""
    overrides: tuple[str, ...] = ()
    """Changes such as `steps=50`, `method.beta=0.2`, or `dpo.method.beta=0.2` in a pipeline."""

    def run(self, context: Context | None = None) -> dict[str, Any]:
        """Run the jobs in order and return what each returned."""
        return load(self.recipe, self.overrides).run(context)
