"""Data sets of the lessons by short name: ``hub:alpaca`` knows where the set lies, its split, its columns, and where it comes from.

A preset says what a person would have to look up: the repository, the split to learn from, how its columns are read, who wrote the answers
(people or which model), languages and licence as the set's own card states them. Origin rides in the facts of every group, so that a report
can say it. Local copies of the same shape are read with ``shape``; nothing here downloads by itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posttrain.core.chat import Message
from posttrain.core.group import Group, Preference, Response, Score


@dataclass(frozen=True, slots=True)
class Preset:
    """One data set. repository, config, split: on the hub. columns: our name to the set's. origin: who wrote the answers.

    assemble: rows that only together make groups (trees); None where a row is a group.
    """

    repository: str
    split: str
    origin: str
    languages: tuple[str, ...]
    licence: str
    teaches: str
    config: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    assemble: Callable[[Iterable[Mapping[str, Any]]], list[Group]] | None = None

    @property
    def source(self) -> str:
        """What the reader takes: ``hub:owner/name[:config]``."""
        return f"hub:{self.repository}" + (f":{self.config}" if self.config else "")

    @property
    def facts(self) -> dict[str, Any]:
        """What every group of the set is told about itself."""
        return {"source": self.repository, "origin": self.origin, "licence": self.licence}


def trees(rows: Iterable[Mapping[str, Any]]) -> list[Group]:
    """OpenAssistant's message trees as groups: every prompter turn with ranked replies is a group, its replies in order of rank.

    A reply whose parent is not there is an error; deleted messages and replies without text are left out.
    """
    kept = [r for r in rows if "message_id" in r and not r.get("deleted") and str(r.get("text", "")).strip()]
    by_id = {r["message_id"]: r for r in kept}
    children: dict[str, list[Mapping[str, Any]]] = {}
    for row in kept:
        parent = row.get("parent_id")
        if parent is not None and parent in by_id:
            children.setdefault(parent, []).append(row)
        elif parent is not None and row["role"] == "assistant":
            continue  # its prompt was deleted, and so nothing is answered
    return [
        _asked(r, by_id, children[r["message_id"]])
        for r in kept
        if r["role"] == "prompter" and r["message_id"] in children
    ]


def _asked(
    row: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]], replies: Sequence[Mapping[str, Any]]
) -> Group:
    path: list[Mapping[str, Any]] = []
    here: Mapping[str, Any] | None = row
    while here is not None:
        path.append(here)
        here = by_id.get(here.get("parent_id") or "")
    names = {"prompter": "user", "assistant": "assistant"}
    prompt = tuple(Message(names[r["role"]], r["text"]) for r in reversed(path))
    ordered = sorted(replies, key=lambda r: (r.get("rank") is None, r.get("rank") or 0))
    ranks = [r.get("rank") for r in ordered]
    responses = tuple(Response(turns=(Message("assistant", r["text"]),), by="human") for r in ordered)
    facts = {"id": row["message_id"], "lang": row.get("lang"), "tree": row.get("message_tree_id")}
    known = all(r is not None for r in ranks) and len(ranks) > 1
    ranking = tuple((i,) for i in range(len(ordered))) if known else None
    return Group(prompt, responses, ranking=ranking, facts={k: v for k, v in facts.items() if v is not None})


def rated(rows: Iterable[Mapping[str, Any]]) -> list[Group]:
    """UltraFeedback's instructions with several rated completions: scores are the overall ratings; equal ratings are ties."""
    out = []
    for n, row in enumerate(rows):
        responses, values = [], []
        for made in row["completions"]:
            value = made.get("overall_score")
            score = Score(None if value is None else float(value), _aspects(made), made.get("critique") or "")
            responses.append(
                Response(turns=(Message("assistant", made["response"]),), score=score, by=made.get("model"))
            )
            values.append(score.value)
        levels = sorted({v for v in values if v is not None}, reverse=True)
        tiers = tuple(tuple(i for i, v in enumerate(values) if v == level) for level in levels)
        pairs = () if len(tiers) < 2 else tuple(Preference(i, j) for i in tiers[0] for j in tiers[-1])
        fields: dict[str, Any] = (
            {"ranking": tiers} if len(tiers) > 1 and all(v is not None for v in values) else {"preferences": pairs}
        )
        facts = {"id": f"ultrafeedback:{n}", "from": row.get("source")}
        out.append(Group((Message("user", row["instruction"]),), tuple(responses), facts=facts, **fields))
    return out


def _aspects(made: Mapping[str, Any]) -> dict[str, float]:
    """Ratings of single aspects, where the annotator gave a number."""
    out = {}
    for name, told in (made.get("annotations") or {}).items():
        value = str((told or {}).get("Rating", ""))
        if value.replace(".", "", 1).isdigit():
            out[name] = float(value)
    return out


def exchanges(rows: Iterable[Mapping[str, Any]]) -> list[Group]:
    """Capybara's conversations of {input, output} exchanges: the first input is the prompt, everything after it the answer."""
    out = []
    for n, row in enumerate(rows):
        said = [
            m
            for t in row.get("conversation") or ()
            for m in (Message("user", t["input"]), Message("assistant", t["output"]))
        ]
        if said:
            facts = {"id": f"capybara:{n}", "from": row.get("source")}
            out.append(Group((said[0],), (Response(turns=tuple(said[1:])),), facts=facts))
    return out


PRESETS: dict[str, Preset] = {
    "alpaca": Preset("tatsu-lab/alpaca", "train", "text-davinci-003", ("en",), "CC BY-NC 4.0", "sft"),
    "dolly": Preset("databricks/databricks-dolly-15k", "train", "human", ("en",), "CC BY-SA 3.0", "sft"),
    "flan": Preset(
        "Muennighoff/flan", "train", "human task sets in templates", ("en",), "mixed, see its tasks", "sft",
        columns={"prompt": "inputs", "completion": "targets"},
    ),
    "sharegpt": Preset(
        "anon8231489123/ShareGPT_Vicuna_unfiltered", "train", "ChatGPT, shared by its users", ("en", "many"), "Apache-2.0", "sft"
    ),
    "oasst": Preset("OpenAssistant/oasst1", "train", "human", ("en", "es", "many"), "Apache-2.0", "reward, sft", assemble=trees),
    "hh-rlhf": Preset("Anthropic/hh-rlhf", "train", "52B model of Anthropic, compared by people", ("en",), "MIT", "reward, dpo"),
    "ultrafeedback": Preset(
        "openbmb/UltraFeedback", "train", "17 models, rated by GPT-4", ("en",), "MIT", "reward, listwise", assemble=rated
    ),
    "gsm8k": Preset("openai/gsm8k", "train", "human", ("en",), "MIT", "sft, grpo", config="main"),
    "openr1-math": Preset(
        "open-r1/OpenR1-Math-220k", "train", "DeepSeek-R1", ("en",), "Apache-2.0", "sft, grpo", config="default"
    ),
    "capybara": Preset("LDJnr/Capybara", "train", "several models, multi-turn", ("en",), "Apache-2.0", "sft", assemble=exchanges),
}  # fmt: skip
"""The sets that the lessons name, by the word that follows ``hub:``."""


def preset(source: str) -> Preset | None:
    """The preset that ``hub:NAME`` names; None for a path or a repository. ValueError with the nearest for an unknown single word."""
    if not source.startswith("hub:"):
        return None
    name = source.removeprefix("hub:")
    if name in PRESETS:
        return PRESETS[name]
    near = [] if "/" in name else difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.75)
    if near:
        raise ValueError(
            f"{source}: no preset of that name; did you mean hub:{near[0]}? A data set of the hub is hub:owner/name"
        )
    return None


def table() -> str:
    """The presets as a Markdown table for the docs."""
    head = "| `--data` | repository | answers by | languages | licence | for |\n|---|---|---|---|---|---|\n"
    return head + "\n".join(
        f"| `hub:{name}` | {p.repository} | {p.origin} | {', '.join(p.languages)} | {p.licence} | {p.teaches} |"
        for name, p in PRESETS.items()
    )
