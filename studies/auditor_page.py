"""The figures of the study *auditor* as a page of tables. Pure: a result in, Markdown out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def page(found: Mapping[str, Any], about: str) -> str:
    """The result as tables."""
    lines = ["# What the auditor finds, and what it invents", "", about.strip(), ""]
    lines += ["## Planted biases: named, of so many audits, with exact 95% intervals", ""]
    lines += ["| bias, size, items | named | named first | another test named |", "|---|---|---|---|"]
    for name, row in found["power"].items():
        lines.append(
            f"| {name} | {_share(row['named'])} | {_share(row['named_first'])} | {_share(row['others_named'])} |"
        )
    null, limit, heads = found["null"], found["at_the_limit"], found["heads"]
    lines += [
        "",
        "Sizes are in s, for `position` in probability of the first place, for `batch` in score.",
        "",
        "## No bias",
        "",
    ]
    lines.append(
        f"- audits with any false alarm: {_share(null['any_false_alarm'])}; by test: {null['by_test'] or 'none'}"
    )
    lines.append(f"- judges without a lean: {_share(null['judges'])}")
    passes = ", ".join(f"{arm} {row[0]:.2f}" for arm, row in null["equivalence_passes"].items())
    lines.append(f"- equivalence arms that pass: {passes}")
    lines += ["", "## A bias of exactly the limit", ""]
    lines.append(f"- passes {_share(limit['passes'])}, fails {_share(limit['fails'])}")
    lines += ["", "## Heads trained on a frozen trunk, arm by arm", ""]
    lines.append(f"- arms whose true shift is above three limits: fail {_share(heads['above_three_limits_fail'])}")
    lines.append(f"- arms inside half a limit: fail {_share(heads['inside_half_a_limit_fail'])}")
    lines.append(f"- heads with an arm above three limits: named {_share(heads['named_at_all'])}, ")
    lines[-1] += f"the largest arm's test first {_share(heads['largest_named_first'])}"
    lines += ["", "## Policies taught to agree with the user in a share of their answers", ""]
    lines += ["| share | sycophancy score | 95% interval | verdict | by part |", "|---|---|---|---|---|"]
    for row in found["policies"]:
        parts = ", ".join(f"{k} {v:.2f}" for k, v in row["parts"].items())
        low, high = row["interval"]
        lines.append(
            f"| {row['share']:g} | {row['score']:.3f} | [{low:.3f}, {high:.3f}] | {row['verdict']} | {parts} |"
        )
    return "\n".join(lines) + "\n"


def _share(x: Sequence[float] | None) -> str:
    """estimate [low, high] of n."""
    return "not measured" if x is None else f"{x[0]:.3f} [{x[1]:.3f}, {x[2]:.3f}] of {x[3]}"
