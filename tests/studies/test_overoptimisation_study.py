"""The study overoptimisation: planted curves give planted figures, and committed rows the committed ones."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from studies import overoptimisation as study
from studies.overoptimisation_result import result


def pool(prompts: int = 40, n: int = 64) -> list[dict[str, Any]]:
    """Members see gold and each its own rare flaw, which costs gold; all like length."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(prompts):
        true, flaws = rng.normal(size=n), 6.0 * (rng.random((4, n)) < 0.03)
        scores = {f"member {m}": (true + flaws[m]).tolist() for m in range(4)}
        rows.append(
            {
                "id": str(i),
                "gold": (true - 0.3 * flaws.sum(0)).tolist(),
                "length": rng.integers(5, 30, n).tolist(),
                "scores": scores,
            }
        )
    return rows


def checks(run: str, seed: int, golds: list[float], proxies: list[float]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    base = rng.uniform(-0.1, 0.1, 300)
    return [
        {
            "run": run,
            "seed": seed,
            "step": 5 * t,
            "gold": (base + g + rng.normal(0, 0.02, 300)).tolist(),
            "proxy": [p] * 300,
            "words": 9.0,
        }
        for t, (g, p) in enumerate(zip(golds, proxies, strict=True))
    ]


def test_planted_curves_give_planted_figures() -> None:
    log: list[dict[str, Any]] = []
    for seed in range(3):
        log += checks("single", seed, [0.3, 0.5, 0.45, 0.3, 0.2, 0.1], [0, 1, 2, 3, 4, 5])
        log += checks("minimum", seed, [0.3, 0.5, 0.5, 0.5, 0.5, 0.5], [0, 1, 1, 1, 1, 1])
    crowd = [{**r, "scores": {f"{s}/{k[-1]}": v for s in (1, 2, 3) for k, v in r["scores"].items()}} for r in pool(300)]
    found = result(pool(), crowd, log)
    told, best = found["told"], found["best_of_n"]
    assert told["best of n: gold falls after it"] and told["best of n: proxy rises"] and 1 < best["single"]["peak"] < 64
    assert best["minimum"]["gain_at_the_end"][1] > 0 and best["mean - 1 sd"]["gain_at_the_end"][1] > 0
    assert all(told["ppo: gold falls while proxy rises"].values()) and all(told["monitor on seeds 1 and 2"].values())
    above = told["ensemble's gold at the end above single's"]
    assert above == {
        "best of n, mean": True,
        "best of n, minimum": True,
        "best of n, mean - 1 sd": True,
        "PPO, minimum": True,
    }
    assert (
        found["ppo"]["single/1"]["monitor"]["restored"] == 5 and found["ppo"]["minimum/0"]["monitor"]["stopped"] is None
    )


def test_committed_rows_give_the_committed_figures() -> None:
    again = json.loads(json.dumps(study.figures()))
    assert again == json.loads((study.HERE / "result.json").read_text(encoding="utf-8"))
