"""Searches for one record that earns most for every source: hill climbing with field-level edits, run long by hand, short in tests.

Run: ``python tests/rewards/unimarc/unimarc_universal.py 10000`` prints the mean reward on 50 development sources and on held-out ones.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from posttrain.rewards.unimarc.fields import Field, Record
from posttrain.rewards.unimarc.record import read
from posttrain.rewards.unimarc.reward import UnimarcReward

Row = tuple[Record, str]


def clean_rows() -> list[Row]:
    """Records of records.jsonl without planted faults, shuffled once, each with its source."""
    text = Path(__file__).with_name("records.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    out = [(read(row["record"]), row["source"]) for row in rows if not row["issues"]]
    random.Random(1).shuffle(out)
    return out


def mean(reward: UnimarcReward, record: Record, rows: Sequence[Row]) -> float:
    """Mean reward of one record over sources."""
    values = [reward.of(record, gold, source).value or 0.0 for gold, source in rows]
    return sum(values) / len(values)


def _edit(record: Record, pool: Sequence[Field], rng: random.Random) -> Record:
    """Add, drop, replace or splice one field."""
    fields = list(record.fields)
    way = rng.randrange(4)
    if way == 0 or len(fields) < 3:
        fields.append(rng.choice(pool))
    elif way == 1:
        fields.pop(rng.randrange(len(fields)))
    elif way == 2:
        fields[rng.randrange(len(fields))] = rng.choice(pool)
    else:
        i = rng.randrange(len(fields))
        if fields[i].subfields:
            code, value = rng.choice([s for f in pool if f.subfields for s in f.subfields])
            kept = [s for s in fields[i].subfields if rng.random() < 0.7] or list(fields[i].subfields)
            fields[i] = replace(fields[i], subfields=(*kept, (code, value)) if rng.random() < 0.5 else tuple(kept))
    return Record(record.leader, tuple(fields))


def search(reward: UnimarcReward, rows: Sequence[Row], steps: int, seed: int = 0) -> tuple[Record, float]:
    """The best record found on these sources, and its mean reward there. Starts from one of their gold records."""
    rng = random.Random(seed)
    pool = [f for gold, _ in rows for f in gold.fields]
    best = rows[0][0]
    value = mean(reward, best, rows)
    for step in range(steps):
        tried = _edit(best, pool, rng)
        got = mean(reward, tried, rows)
        if got > value:
            best, value = tried, got
        if (step + 1) % 500 == 0:
            print(f"step {step + 1}: {value:.3f}", flush=True)
    return best, value


if __name__ == "__main__":
    rows = clean_rows()
    found, at = search(UnimarcReward(), rows[:50], int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
    print(f"development {at:.3f}, held out {mean(UnimarcReward(), found, rows[50:]):.3f}")
    print(found)
