"""Study *overoptimisation*: how far may a small proxy reward be optimised, and what helps? `make study NAME=overoptimisation`.

In the reading room (a simulation) gold is known. Four small reward models learn from 256 pairs of annotators with a mild taste for
length. Best-of-n, n = 1 .. 256, reads one pool of samples for every n and every reward; PPO runs against one model, against the minimum of
the four (each centred on its prompt, where the level of such a model is arbitrary), with a KL target, and with the length taken out. Every
few steps gold and proxy of greedy answers to fixed held-out prompts are written, and the stop rule (`train.monitors.StopRule`) is replayed
on them: seed 0 served to choose learning rate and coefficient, seeds 1 and 2 judge. How to pool four opinions was chosen on seed 0; three
other seeds (new annotated prompts, new models) judge that on best of 64. Raw rows are kept; `--check` recomputes every figure from them.
Design after Gao et al. 2023 (arXiv:2210.10760) and Coste et al. 2023 (arXiv:2310.02743).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posttrain.core.files import append_line, read_lines, write_json, write_text
from posttrain.core.group import Group
from studies.demo import commit
from studies.overoptimisation_result import page, result

HERE = Path(__file__).parent / "overoptimisation"
COMMAND = "make study NAME=overoptimisation"
TESTS = ("T02", "T04", "T05", "T06", "T07", "T10")


@dataclass(frozen=True)
class Scale:
    """How much of everything. The small one is for the tests."""

    demos: int = 4200
    asked: int = 256
    members: int = 4
    prompts: int = 120
    pool: int = 256
    probe: int = 300
    steps: int = 48
    every: int = 6
    batch: int = 8
    tokens: int = 96
    epochs: float = 3.0
    audited: int = 60
    judged: int = 300
    judged_pool: int = 64


SMALL = Scale(96, 24, 2, 4, 8, 12, 2, 1, 4, 16, 1.0, 12, 6, 4)
JUDGING = (1, 2, 3)
"""Seeds whose reward models nobody has looked at before pooling was chosen."""
PPO = {"beta": 0.02, "passes": 2}
RUNS: tuple[tuple[str, int], ...] = (
    ("single", 0), ("minimum", 0), ("single", 1), ("minimum", 1), ("single", 2), ("minimum", 2),
    ("kl target", 0), ("length control", 0),
)  # fmt: skip


class World:
    """Everything up to the reward models, made once in `out`."""

    def __init__(self, out: Path, scale: Scale) -> None:
        self.out, self.scale = out, scale
        out.mkdir(parents=True, exist_ok=True)

    def job(self, **fields: Any) -> Path:
        """Run a job into this directory; a finished one is used again."""
        from posttrain.jobs.catalogue import build_job
        from posttrain.jobs.job import Context

        name = fields.pop("name")
        build_job({**fields, "out": str(self.out / name)}).run(Context(bars=False))
        return self.out / name

    def train(self, name: str, **fields: Any) -> Path:
        return self.job(name=name, **{"log_to": [], "samples": 0, "preflight": "off", "keep": 99, **fields})

    def base(self) -> None:
        """SFT on demonstrations, and two answers to each asked prompt."""
        s = self.scale
        demos = self.job(name="demos.jsonl", job="room-prompts", n=s.demos, answers=True, quality=0.6)
        rate = {"lr": 0.002, "schedule": "cosine", "warmup": 0.05}
        self.sft = self.train("sft", method="sft", model="base", data=str(demos), epochs=1, batch=32, optimizer=rate)
        self.job(name="practice.jsonl", job="room-prompts", n=4 * s.asked, start=40_000)
        self.said = self.answers("", 20_000)

    def answers(self, tag: str, start: int) -> Path:
        """Two answers to each of some prompts."""
        s = self.scale
        asked = self.job(name=f"asked{tag}.jsonl", job="room-prompts", n=s.asked, start=start)
        drawn = {"n": 2, "temperature": 1.0, "max_tokens": s.tokens}
        return self.job(name=f"said{tag}.jsonl", job="sample", model=str(self.sft), data=str(asked), **drawn)

    def preferences(self, tag: str, said: Path) -> Path:
        """Pairs of annotators who like length a little: half a point of gold for 100 characters."""
        from posttrain.readingroom.annotators import Annotator, annotate

        groups = [Group.from_json(r) for r in read_lines(said)]
        rows = [g for g in annotate(groups, [Annotator("wordy", sharpness=6.0, length=0.5)]) if g.preferences]
        return self._write(f"prefs{tag}.jsonl", rows)

    def members(self, seed: int) -> dict[str, Path]:
        """An ensemble of its own: other annotated prompts, other bootstraps."""
        data = self.preferences(f"-{seed}", self.answers(f"-{seed}", 20_000 + 4_000 * seed))
        at = self.scale.members * seed
        return {f"{seed}/{i}": self.reward(f"member-{seed}-{i}", data, at + i) for i in range(self.scale.members)}

    def _write(self, name: str, rows: list[Group]) -> Path:
        write_text(self.out / name, "".join(json.dumps(g.to_json(), ensure_ascii=False) + "\n" for g in rows))
        return self.out / name

    def reward(self, name: str, data: Path, seed: int, **method: Any) -> Path:
        """One reward model on a bootstrap of the pairs (by its seed)."""
        rows = [Group.from_json(r) for r in read_lines(data)]
        draw = np.random.default_rng(seed).integers(0, len(rows), len(rows))
        mine = self._write(f"{name}.pairs.jsonl", [rows[i] for i in draw])
        fields = {
            "method": {"name": "reward", **method},
            "model": str(self.sft),
            "data": str(mine),
            "batch": 16,
            "seed": seed,
        }
        return self.train(name, **fields, epochs=self.scale.epochs, optimizer={"lr": 5e-4, "schedule": "cosine"})

    def rewards(self) -> dict[str, Path]:
        """Members of the ensemble, one centred model, and one retrained with the audit's counter-examples."""
        from posttrain.audit import RewardModelAuditor
        from posttrain.jobs.scoring import ModelReward

        data = self.preferences("", self.said)
        made = {f"member {i}": self.reward(f"member-{i}", data, i) for i in range(self.scale.members)}
        made["centred"] = self.reward("centred", data, 0, centring=0.01)
        auditor = RewardModelAuditor(tests=TESTS, n=self.scale.audited, reps=0)
        report = auditor.analyze(ModelReward(str(made["member 0"])))
        self.found = [str(v) for v in report.vulnerabilities]
        pairs = report.training_pairs()
        step = max(1, len(pairs) // self.scale.asked)
        rows = [Group.from_json(r) for r in read_lines(data)] + pairs[::step]
        made["repaired"] = self.reward("repaired", self._write("repair.jsonl", rows), 0)
        return made


def pooled(world: World, rewards: dict[str, Path], file: str, prompts: int, n: int, start: int) -> None:
    """One row per prompt: gold, length and every model's score of each sample of the pool."""
    from posttrain.core.protocols import Request, Sampling
    from posttrain.jobs.scoring import ModelReward
    from posttrain.readingroom import ReadingRoom
    from posttrain.readingroom.gold import GoldReward
    from posttrain.rollout.policy import Policy

    if (HERE / file).is_file():
        return
    asked = ReadingRoom(0).prompts("held-out", prompts, start=start)
    drawn = Sampling(temperature=1.0, max_tokens=world.scale.tokens)
    policy, gold = Policy.open(world.sft), GoldReward()
    models = {name: ModelReward(str(path)) for name, path in rewards.items()}
    rows = []
    for g in asked:
        (made,) = policy.generate([Request(g.prompt, drawn, n, id=g.id, facts=g.facts)])
        answered = g.with_responses(made.responses)
        scores = {n: [round(x.value or 0.0, 4) for x in m([answered])[0]] for n, m in models.items()}
        truth = [x.value for x in gold([answered])[0]]
        lengths = [len(r.text.split()) for r in made.responses]
        rows.append({"id": g.id, "task": g.facts["task"], "gold": truth, "length": lengths, "scores": scores})
    write_text(HERE / file, "".join(json.dumps(r) + "\n" for r in rows))


def slope(world: World, model: Path) -> float:
    """Score that one word more is worth to a model, from differences within the annotated pairs; never negative."""
    from posttrain.jobs.scoring import ModelReward

    groups = [Group.from_json(r) for r in read_lines(world.said)]
    scores = ModelReward(str(model))(groups)
    d = np.asarray([(row[0].value or 0) - (row[1].value or 0) for row in scores])
    x = np.asarray([len(g.responses[0].text.split()) - len(g.responses[1].text.split()) for g in groups], float)
    return max(0.0, float(x @ d / max(x @ x, 1.0)))


def node(world: World, name: str, seed: int, rewards: dict[str, Path]) -> dict[str, Any]:
    """Method and reward of one PPO run."""
    members = [{"name": "model", "path": str(p)} for n, p in rewards.items() if n.startswith("member")]
    one = members[seed % len(members)]
    method: dict[str, Any] = {"name": "ppo", **PPO}
    if name == "minimum":
        return {"method": method, "reward": {"name": "worst", "rewards": members, "centred": True}}
    if name == "kl target":
        control = {"name": "adaptive", "target": 3.0}
        return {"method": {**method, "beta": 0.05, "control": control}, "reward": one}
    if name == "length control":
        b = slope(world, Path(one["path"]))
        cost = {"name": "length", "limit": 1, "per": 1 / max(b, 1e-6)}
        return {"method": method, "reward": {"name": "sum", "terms": [{"reward": one}, {"reward": cost}]}}
    return {"method": method, "reward": one}


def ppo(world: World, name: str, seed: int, rewards: dict[str, Path]) -> None:
    """One run with a checkpoint every few steps, and gold and proxy of each checkpoint on the probe prompts."""
    s, began = world.scale, time.time()
    out = world.train(
        f"ppo-{name.replace(' ', '-')}-{seed}",
        **node(world, name, seed, rewards),
        model=str(world.sft), data=str(world.out / "practice.jsonl"), batch=s.batch, steps=s.steps, seed=seed,
        rollout={"n": 4, "max_new_tokens": s.tokens}, optimizer={"lr": 2e-4}, checkpoint_every=s.every,
    )  # fmt: skip
    log = {int(r["step"]): r for r in read_lines(out / "metrics.jsonl")}
    for row in probed(world, out, node(world, name, seed, rewards)["reward"]):
        at = log.get(row["step"], {})
        kept = {k: round(float(at[k]), 4) for k in ("kl_sequence", "length", "entropy", "reward") if k in at}
        append_line(HERE / "ppo.jsonl", {"run": name, "seed": seed, **row, **kept})
    append_line(HERE / "ppo.jsonl", {"run": name, "seed": seed, "step": -1, "seconds": round(time.time() - began)})


def probed(world: World, run: Path, reward: dict[str, Any]) -> list[dict[str, Any]]:
    """Gold and proxy of greedy answers at the start and at every checkpoint."""
    from posttrain.core.protocols import Request, Sampling
    from posttrain.jobs.online import as_reward_node
    from posttrain.readingroom import ReadingRoom
    from posttrain.readingroom.gold import GoldReward
    from posttrain.rollout.policy import Policy
    from posttrain.train import checkpoint

    asked = ReadingRoom(0).prompts("held-out", world.scale.probe)
    greedy, gold = Sampling(temperature=0.0, max_tokens=world.scale.tokens), GoldReward()
    proxy = as_reward_node({**reward, "centred": False} if "centred" in reward else reward)  # one answer has no level
    rows = []
    for place in [None, *checkpoint.found(run / "checkpoints")]:
        policy = Policy.open(world.sft)
        if place is not None:
            _, state = checkpoint.read(place)
            named = dict(policy.loaded.model.named_parameters())
            for weight, value in state["engine"]["weights"].items():
                if weight in named:
                    named[weight].data.copy_(value)
        made = policy.generate([Request(g.prompt, greedy, facts=g.facts) for g in asked])
        answered = [g.with_responses(m.responses) for g, m in zip(asked, made, strict=True)]
        rows.append({
            "step": 0 if place is None else int(place.name.removeprefix("step-")),
            "gold": [round(x[0].value or 0.0, 4) for x in gold(answered)],
            "proxy": [round(x[0].value or 0.0, 4) for x in proxy(answered)],
            "words": round(float(np.mean([len(g.responses[0].text.split()) for g in answered])), 2),
        })  # fmt: skip
    return rows


def run(scale: Scale, runs: tuple[tuple[str, int], ...], out: Path) -> None:
    """Everything; rows are written as they come, and what is there is not made again."""
    world = World(out, scale)
    began = time.time()
    told: dict[str, Any] = {"command": COMMAND, "commit": commit(), "scale": vars(scale), "ppo": PPO, "seconds": {}}
    for name, work in (("base", world.base), ("rewards", world.rewards)):
        made = work()
        told["seconds"][name] = round(time.time() - began)
        print(f"{name}: {told['seconds'][name]} s", flush=True)
    rewards: dict[str, Path] = made  # type: ignore[assignment]
    told["audit of member 0"] = world.found
    pooled(world, rewards, "pool.jsonl", scale.prompts, scale.pool, 6_000)
    crowds = {name: path for seed in JUDGING for name, path in world.members(seed).items()}
    pooled(world, crowds, "judged.jsonl", scale.judged, scale.judged_pool, 8_000)
    told["seconds"]["pool"] = round(time.time() - began)
    print(f"pool: {told['seconds']['pool']} s", flush=True)
    write_json(HERE / "run.json", told)
    log = HERE / "ppo.jsonl"
    done = {(r["run"], r["seed"]) for r in (read_lines(log) if log.is_file() else []) if r["step"] == -1}
    for name, seed in runs:
        if (name, seed) not in done:
            ppo(world, name, seed, rewards)
        print(f"ppo {name} {seed}: {round(time.time() - began)} s", flush=True)
        write()


def write() -> None:
    """The result and its page, from the rows that are there."""
    found = figures()
    write_json(HERE / "result.json", found)
    write_text(HERE / "README.md", page(found, (__doc__ or "").split("\n\n")[1]))


def figures() -> dict[str, Any]:
    """The result from the rows that are there."""
    rows = {n: read_lines(HERE / f"{n}.jsonl") if (HERE / f"{n}.jsonl").is_file() else [] for n in ("judged", "ppo")}
    return result(read_lines(HERE / "pool.jsonl"), rows["judged"], rows["ppo"])


def check() -> None:
    """Recompute from the committed rows. Raises SystemExit when a figure differs."""
    again = json.loads(json.dumps(figures()))
    if again != json.loads((HERE / "result.json").read_text(encoding="utf-8")):
        raise SystemExit("studies/overoptimisation: the committed result differs from what the committed rows give")
    print(json.dumps(again["told"], indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", default="runs/study-overoptimisation")
    given = parser.parse_args()
    if given.small:
        HERE = Path(given.out) / "rows"
        HERE.mkdir(parents=True, exist_ok=True)
    if not given.check:
        run(SMALL if given.small else Scale(), RUNS[:2] if given.small else RUNS, Path(given.out))
    check()
