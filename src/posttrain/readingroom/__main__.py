"""``python -m posttrain.readingroom write DIR --seed S``: the world as plain files, as users have them; ``show`` prints samples.

DIR gets demos.jsonl (messages with an answer), prompts-train.jsonl, prompts-held-out.jsonl, prompts-ood.jsonl (messages and facts, no
answer), preferences.jsonl (chosen and rejected, from simulated annotators) and about.json (version, seed, counts, the simulation note).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posttrain.core.files import write_json, write_text
from posttrain.core.group import Group
from posttrain.readingroom.annotators import Annotator, annotate
from posttrain.readingroom.room import ReadingRoom
from posttrain.readingroom.tasks import TASKS
from posttrain.readingroom.vocabulary import LANGS, SPLITS


def demonstration_row(group: Group) -> dict[str, Any]:
    """One conversation: ``messages`` ends with the answer."""
    turns = [*group.prompt, *group.responses[0].turns]
    return {
        "id": group.id,
        "messages": [m.to_json() for m in turns],
        "by": group.responses[0].by,
        "facts": dict(group.facts),
    }


def prompt_row(group: Group) -> dict[str, Any]:
    """A prompt without an answer."""
    return {"id": group.id, "messages": [m.to_json() for m in group.prompt], "facts": dict(group.facts)}


def preference_row(group: Group) -> dict[str, Any]:
    """A pair with its prompt; `by` names the simulated annotator."""
    pair = group.preferences[0]
    return {
        "id": group.id,
        "prompt": [m.to_json() for m in group.prompt],
        "chosen": [m.to_json() for m in group.responses[pair.i].turns],
        "rejected": [m.to_json() for m in group.responses[pair.j].turns],
        "by": group.facts["annotator"],
        "facts": dict(group.facts),
    }


def write(room: ReadingRoom, out: Path, demos: int, prompts: int, preferences: int, quality: float) -> dict[str, int]:
    """Write the files; returns rows per file. Preferences use rows of `train` after those of the demonstrations."""

    def lines(rows: Sequence[dict[str, Any]]) -> str:
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    files = {"demos.jsonl": [demonstration_row(g) for g in room.demonstrations(demos, quality=quality)]}
    for split in SPLITS:
        files[f"prompts-{split}.jsonl"] = [prompt_row(g) for g in room.prompts(split, prompts)]
    pairs = room.candidates(room.prompts("train", preferences, start=demos), k=2)
    chosen = annotate([g for g in pairs if len(g.responses) == 2], [Annotator()], seed=room.seed)
    files["preferences.jsonl"] = [preference_row(g) for g in chosen]
    for name, rows in files.items():
        write_text(out / name, lines(rows))
    counts = {name: len(rows) for name, rows in files.items()}
    write_json(
        out / "about.json",
        {"world": room.version, "simulation": room.simulation, "seed": room.seed, "quality": quality, "rows": counts},
    )
    return counts


def show(room: ReadingRoom, split: str, tasks: Sequence[str] | None) -> None:
    """Print two rows of each task and language with the gold answer."""
    print(f"{room.version}: {room.simulation}")
    for task in tasks or TASKS:
        for lang in TASKS[task].langs:
            for row in room.prompts(split, 2, [task], [lang]):
                print(
                    f"\n--- {task} {lang} {split} ({row.facts['behaviour']})\n{row.facts['source']}\n>> {row.facts['gold']['answer']}"
                )


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m posttrain.readingroom", description=f"The reading room ({ReadingRoom.simulation})."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    writer = verbs.add_parser("write", help="write demonstrations, prompts and preferences as plain files")
    writer.add_argument("out", type=Path)
    writer.add_argument("--seed", type=int, default=0)
    writer.add_argument("--demos", type=int, default=4000)
    writer.add_argument("--prompts", type=int, default=1000, help="rows of each split")
    writer.add_argument(
        "--preferences",
        type=int,
        default=2000,
        help="rows annotated; rows with fewer than two distinct answers are left out",
    )
    writer.add_argument("--quality", type=float, default=0.6, help="share of demonstrations that are the gold answer")
    shower = verbs.add_parser("show", help="print samples of every task")
    shower.add_argument("--seed", type=int, default=0)
    shower.add_argument("--split", choices=SPLITS, default="train")
    shower.add_argument("--task", choices=tuple(TASKS), action="append")
    given = parser.parse_args(arguments)
    room = ReadingRoom(given.seed)
    if given.verb == "show":
        show(room, given.split, given.task)
        return
    for name, rows in write(room, given.out, given.demos, given.prompts, given.preferences, given.quality).items():
        print(f"{given.out / name}: {rows} rows")
    print(f"{room.version}, languages {', '.join(LANGS)}: {room.simulation}")


if __name__ == "__main__":
    main()
