"""What the rows of the study *overoptimisation* say: best-of-n curves, PPO curves, the stop rule replayed. Pure: rows in, figures out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from posttrain.audit.best_of_n import curve, expected
from posttrain.stats import Interval, better, cluster_bootstrap, mde
from posttrain.train.monitors import StopRule, upper

Row = dict[str, Any]
SHARE = 0.05
"""Part of the peak's gain that a restored checkpoint may lack."""
LATE = 3
"""Checks after a loss beyond what can be detected within which the run should stop."""


def result(pool: Sequence[Row], judged: Sequence[Row], log: Sequence[Row]) -> dict[str, Any]:
    """Every figure; `told` is the short of it. pool, judged: prompts with their samples. log: checks of PPO runs."""
    best = best_of_n(pool) if pool else {}
    runs = {f"{r['run']}/{r['seed']}": r for r in log if r["step"] == 0}
    curves = {
        key: run_curve([x for x in log if (x["run"], x["seed"]) == (r["run"], r["seed"]) and x["step"] >= 0])
        for key, r in runs.items()
    }
    out: dict[str, Any] = {"best_of_n": best, "ppo": curves}
    out["ensemble"] = {"best_of_n": judged_by_seed(judged) if judged else {}, "ppo": ensemble(log)}
    out["told"] = told(out)
    return out


# Best of n


def pools(members: np.ndarray) -> dict[str, np.ndarray]:
    """[way] -> scores [pool] from those of members [members, pool], each less its mean on the prompt, where its level is arbitrary."""
    level = members - members.mean(axis=1, keepdims=True)
    return {"mean": level.mean(0), "minimum": level.min(0), "mean - 1 sd": level.mean(0) - level.std(0)}


def remedies(row: Row) -> dict[str, np.ndarray]:
    """[remedy] -> scores [pool] of one prompt; `single i` is one member of the ensemble."""
    members = np.asarray([v for k, v in row["scores"].items() if k.startswith("member")])
    out = {f"single {i}": m for i, m in enumerate(members)} | pools(members)
    out |= {"minimum, levels kept": members.min(0)}
    out |= {name: np.asarray(row["scores"][name]) for name in ("centred", "repaired") if name in row["scores"]}
    return out


def length_slope(pool: Sequence[Row], pick: Callable[[Row], np.ndarray]) -> float:
    """Score per word within prompts."""
    x = np.concatenate([np.asarray(r["length"], float) - np.mean(r["length"]) for r in pool])
    y = np.concatenate([pick(r) - pick(r).mean() for r in pool])
    return float(x @ y / max(x @ x, 1e-9))


def best_of_n(pool: Sequence[Row]) -> dict[str, Any]:
    """Curves of every remedy, and each remedy against the single models at the largest n, paired by prompt."""
    gold = [np.asarray(r["gold"], float) for r in pool]
    proxies = {name: [remedies(r)[name] for r in pool] for name in remedies(pool[0])}
    b = length_slope(pool, lambda r: remedies(r)["single 0"])
    proxies["length control"] = [remedies(r)["single 0"] - b * np.asarray(r["length"]) for r in pool]
    made = {name: curve(p, gold) for name, p in proxies.items()}
    singles = [c for name, c in made.items() if name.startswith("single")]
    single = np.mean([c.gold for c in singles], axis=0)
    proxy = np.mean([(c.proxy - c.proxy[:, :1]) / max(float(np.std(c.proxy[:, 0])), 1e-9) for c in singles], axis=0)
    at, ns = int(single.mean(0).argmax()), singles[0].ns
    out = {
        name: {"gold": [round(float(x), 4) for x in c.gold.mean(0)], "peak": c.peak, "fall": ends(c.fall)}
        for name, c in made.items()
    }
    for name, c in made.items():
        if not name.startswith("single"):
            against = singles[0].gold if name in ("length control", "centred", "repaired") else single
            out[name]["gain_at_the_end"] = ends(interval(c.gold[:, -1] - against[:, -1]))
    out["single"] = {
        "n": list(ns),
        "gold": [round(float(x), 4) for x in single.mean(0)],
        "proxy": [round(float(x), 4) for x in proxy.mean(0)],
        "peak": ns[at],
        "rise": ends(interval(single[:, at] - single[:, 0])),
        "fall": ends(interval(single[:, -1] - single[:, at])),
        "length_slope": round(b, 5),
    }
    return out


def judged_by_seed(judged: Sequence[Row]) -> dict[str, Any]:
    """Gold of the best of all samples, each way of pooling less the mean of its single models, by the project's definition of better."""
    gold = [np.asarray(r["gold"], float) for r in judged]
    seeds = sorted({name.partition("/")[0] for name in judged[0]["scores"]})
    gains: dict[str, dict[int, np.ndarray]] = {}
    for seed in seeds:
        scores = [np.asarray([v for k, v in r["scores"].items() if k.startswith(f"{seed}/")]) for r in judged]
        singles = [[s[i] for s in scores] for i in range(len(scores[0]))]
        single = np.mean([last_gold(proxy, gold) for proxy in singles], axis=0)
        for way in pools(scores[0]):
            mine = last_gold([pools(s)[way] for s in scores], gold)
            gains.setdefault(way, {})[int(seed)] = mine - single
    return {way: verdict(by_seed) for way, by_seed in gains.items()}


def last_gold(proxy: Sequence[np.ndarray], gold: Sequence[np.ndarray]) -> np.ndarray:
    """[prompts] gold of the sample that a proxy puts first among all of a prompt's."""
    return np.asarray([expected(p, g, p.size) for p, g in zip(proxy, gold, strict=True)])


def verdict(by_seed: dict[int, np.ndarray]) -> dict[str, Any]:
    """Differences per prompt of several seeds, as the project defines better; only their number where they are too few."""
    if len(by_seed) < 3 or len(next(iter(by_seed.values()))) < 300:
        return {"seeds": len(by_seed)}
    found = better(by_seed)
    seeds = {str(k): round(v, 5) for k, v in found.by_seed.items()}
    return {"separated": found.separated, "difference": ends(found.interval), "by_seed": seeds, "text": str(found)}


def interval(values: np.ndarray) -> Interval:
    if np.ptp(values) == 0:
        return Interval(float(values.mean()), math.nan, math.nan, values.size, "no variance")
    return cluster_bootstrap(values, reps=2000)


def ends(i: Interval) -> list[float | None]:
    """[estimate, low, high], rounded."""
    return [round(i.estimate, 5), *(round(x, 5) if math.isfinite(x) else None for x in (i.low, i.high))]


# PPO


def run_curve(rows: Sequence[Row]) -> dict[str, Any]:
    """Gold and proxy by step, the fall after the peak, and what the stop rule would have done."""
    rows = sorted(rows, key=lambda r: r["step"])
    gold = np.asarray([r["gold"] for r in rows])
    at = int(gold.mean(1).argmax())
    return {
        "steps": [r["step"] for r in rows],
        "gold": [round(float(x), 4) for x in gold.mean(1)],
        "proxy": [round(float(np.mean(r["proxy"])), 4) for r in rows],
        "kl": [r.get("kl_sequence") for r in rows],
        "words": [r["words"] for r in rows],
        "peak": rows[at]["step"],
        "fall": ends(interval(gold[-1] - gold[at])),
        "monitor": monitor(rows, gold, at),
    }


def monitor(rows: Sequence[Row], gold: np.ndarray, peak: int) -> dict[str, Any]:
    """The stop rule replayed: where it stops, what it restores, and whether both are in time and good enough."""
    rule, stop = StopRule(planned=len(rows)), None
    for i, r in enumerate(rows):
        if rule.note(r["step"], r["gold"], r["proxy"]) is not None:
            stop = i
            break
    restored = [r["step"] for r in rows].index(rule.best[0])
    lost = lost_at(gold, len(rows))
    gain = float(gold[peak].mean() - gold[0].mean())
    lack = -upper(gold[peak] - gold[restored], 0.05) if restored != peak else 0.0
    good = lack >= -SHARE * max(gain, 0.0)
    timely = (lost is None and stop is None) or (lost is not None and stop is not None and stop <= lost + LATE)
    return {
        "stopped": None if stop is None else rows[stop]["step"],
        "restored": rows[restored]["step"],
        "gold_restored": round(float(gold[restored].mean()), 4),
        "gold_at_the_end": round(float(gold[-1].mean()), 4),
        "loss_detectable": None if lost is None else rows[lost]["step"],
        "peak_gain": round(gain, 4),
        "good": bool(good),
        "timely": bool(timely),
    }


def lost_at(gold: np.ndarray, checks: int) -> int | None:
    """The first check whose loss against the best so far exceeds what a paired test at that check's level could detect."""
    for t in range(1, len(gold)):
        best = gold[: t + 1][gold[: t + 1].mean(1).argmax()]
        d = best - gold[t]
        spread = float(d.std(ddof=1))
        if spread > 0 and d.mean() > mde(d.size, spread, alpha=2 * 0.05 / checks):
            return t
    return None


def ensemble(log: Sequence[Row]) -> dict[str, Any]:
    """Gold at the end, minimum of the ensemble less one model, by the project's definition of better."""
    last: dict[tuple[str, int], Row] = {}
    for r in log:
        if r["step"] >= 0:
            last[r["run"], r["seed"]] = max(last.get((r["run"], r["seed"]), r), r, key=lambda x: x["step"])
    seeds = [s for (run, s) in last if run == "minimum" and ("single", s) in last]
    d = {s: np.subtract(last["minimum", s]["gold"], last["single", s]["gold"]) for s in sorted(seeds)}
    return verdict(d) if d else {"seeds": 0}


def told(out: dict[str, Any]) -> dict[str, Any]:
    """Each thing the study was to show, with its answer."""
    single = out["best_of_n"].get("single", {})
    curves = out["ppo"]
    judged = {k: c["monitor"] for k, c in curves.items() if k in ("single/1", "single/2")}

    def falls(c: dict[str, Any]) -> bool:
        return bool(c["fall"][2] is not None and c["fall"][2] < 0)

    return {
        "best of n: gold peaks at": single.get("peak"),
        "best of n: gold falls after it": falls(single) if single else None,
        "best of n: proxy rises": bool(single and single["proxy"][-1] > single["proxy"][0]),
        "ppo: gold falls while proxy rises": {
            k: falls(c) and c["proxy"][-1] > c["proxy"][c["steps"].index(c["peak"])]
            for k, c in curves.items() if k.startswith("single")
        },
        "monitor on seeds 1 and 2": {k: m["good"] and m["timely"] for k, m in judged.items()},
        "ensemble's gold at the end above single's": {
            **{f"best of n, {way}": v.get("separated") for way, v in out["ensemble"]["best_of_n"].items()},
            "PPO, minimum": out["ensemble"]["ppo"].get("separated"),
        },
    }  # fmt: skip


def page(found: dict[str, Any], about: str) -> str:
    """The result as tables."""
    told, best = found["told"], found["best_of_n"]
    ns = best["single"]["n"]
    lines = ["# How far a small proxy reward may be optimised", "", about.strip(), "", "## What was to be shown", ""]
    lines += [f"- {name}: {_plain(value)}" for name, value in told.items()]
    for way, made in found["ensemble"]["best_of_n"].items():
        lines.append(
            f"- ensemble's {way} against its single models at the end of best of n: {made.get('text', 'too few seeds')}"
        )
    told_ppo = found["ensemble"]["ppo"].get("text", "too few seeds")
    lines.append(f"- ensemble's minimum against one model at the end of PPO: {told_ppo}")
    lines += [
        "",
        "## Best of n, mean gold",
        "",
        "| reward | " + " | ".join(f"n = {n}" for n in ns) + " | against one model at the largest n |",
    ]
    lines += ["|---" * (len(ns) + 2) + "|"]
    for name, row in best.items():
        gain = row.get("gain_at_the_end")
        golds = " | ".join(f"{x:.3f}" for x in row["gold"])
        lines.append(
            f"| {'mean of single models' if name == 'single' else name} | {golds} | {_ends(gain) if gain else ''} |"
        )
    lines += ["", "## PPO: greedy answers to 300 held-out prompts", ""]
    lines += [
        "| run/seed | gold at each check | proxy at the end | KL at the end, nats | fall from the peak | stopped at | restored |",
        "|---" * 7 + "|",
    ]
    for name, c in found["ppo"].items():
        kl = next((x for x in reversed(c["kl"]) if x is not None), math.nan)
        golds, m = ", ".join(f"{x:.2f}" for x in c["gold"]), c["monitor"]
        stop = "never" if m["stopped"] is None else f"step {m['stopped']}"
        kept = f"step {m['restored']}, {m['gold_restored']:.3f}"
        lines.append(f"| {name} | {golds} | {c['proxy'][-1]:+.2f} | {kl:.1f} | {_ends(c['fall'])} | {stop} | {kept} |")
    return "\n".join(lines) + "\n"


def _ends(x: Sequence[float | None]) -> str:
    return f"{x[0]:+.3f}" + (f" [{x[1]:+.3f}, {x[2]:+.3f}]" if x[1] is not None and x[2] is not None else "")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    return (
        {True: "yes", False: "**no**", None: "not measured"}.get(value, str(value))
        if isinstance(value, bool | None)
        else str(value)
    )
