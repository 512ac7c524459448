"""The page of a comparison, from its comparison.json: for a reader who was not there.

The first section says in words what was found; tables and plots follow. Every figure carries its interval, every pair the smallest
difference that the sample could have seen. Reads plain values only; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from posttrain.core.files import write_text
from posttrain.report.axes import node, number
from posttrain.report.generalisation import forgotten, gains_apart, texts, where_it_holds
from posttrain.report.method_table import method_table
from posttrain.report.origins import rows_behind
from posttrain.report.page import Cell, Section, as_interval, card, duration, figure, page, table
from posttrain.report.plot import Series, line_chart, scatter
from posttrain.stats import Interval

COLUMNS = {
    "capability": "Capability: what the model could do",
    "performance": "Performance: how well it does",
    "alignment": "Alignment: whether it does what people want",
}
DOWN = " (lower is better)"
POINTS = 100


def write_comparison(directory: Path, told: Mapping[str, Any]) -> Path:
    """Write report.html beside comparison.json."""
    path = directory / "report.html"
    write_text(path, comparison_page(told))
    return path


def comparison_page(told: Mapping[str, Any]) -> str:
    """The whole page."""
    found = [
        ("findings", "What was found", _findings(told)),
        ("models", "Models and their cost", _models(told)),
        ("rows", "Where the rows came from", rows_behind(told)),
        ("methods", "Methods side by side", _methods(told)),
        ("duels", "Who wins, prompt by prompt", _duels(told)),
        ("people", "What people prefer", _people(told)),
        ("figures", "All figures", _figures(told)),
        ("front", "Trade-offs", _front(told)),
        ("tax", "What alignment cost", _tax(told)),
        ("readers", "Are readers answered alike", _readers(told)),
        ("generalisation", "Where it holds", where_it_holds(told)),
        ("texts", "What was learned of each kind of text", texts(told)),
        ("tasks", "What was forgotten", forgotten(told)),
        ("answers", "Where the models differ most", _apart(told)),
    ]
    sections = [Section(anchor, title, body) for anchor, title, body in found if body]
    names = ", ".join(told["models"])
    rows = next(iter(told["about"].values()))["rows"]
    intro = node(
        "p",
        escape(
            f"Compared: {names}. The same {rows:,} prompts for each; every comparison is paired by prompt. The figure that decides is "
            f"{told['main']}: {told['means']}."
        ),
    )
    return page(told["title"], f"{len(told['models'])} models side by side", intro, sections, f"seed {told['seed']}")


def value_of(told: Mapping[str, Any], name: str, main: str) -> Interval | None:
    """A model's figure as an interval."""
    found = next((x["value"] for x in told["lines"][name] if x["name"] == main), None)
    return None if found is None else interval(found)


def interval(value: Mapping[str, Any]) -> Interval:
    """An interval from its JSON form."""
    return as_interval(dict(value), "comparison.json")


def ruling(made: Mapping[str, Any]) -> str:
    """A duel in words, from the interval of its difference."""
    low, high = made["difference"]["low"], made["difference"]["high"]
    if low is None or high is None:
        return "cannot be told: no interval"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "not told apart"


def _findings(told: Mapping[str, Any]) -> str:
    main, lines = told["main"], []
    for made in told["duels"]:
        change, least = made["difference"], made["smallest"]
        shown = f"{change['estimate']:+.3f} [{_short(change['low'])}, {_short(change['high'])}]"
        words = {"better": "is better than", "worse": "is worse than"}.get(ruling(made), "could not be told apart from")
        line = f"{made['model']} {words} {made['other']} on {main}: {shown}, n = {made['n']:,}."
        if ruling(made) == "not told apart":
            line += f" A difference of {least:.3f} or more would most likely have been seen."
        lines.append(line)
    lines += [_gain(told), *gains_apart(told)]
    lost = [t for t in told["tax"] if not t["kept"] and (t["change"]["high"] or 0) < 0]
    for item in lost:
        lines.append(f"{item['model']} lost {-item['change']['estimate']:.3f} of {item['figure']} against the base.")
    body = "".join(node("li", escape(line)) for line in lines if line)
    note = "These are intervals over prompts at 95%, of one training seed each: another seed would give other models."
    return node("ul", body) + node("p", escape(note), class_="muted small")


def _gain(told: Mapping[str, Any]) -> str:
    """Did training gain anything that examples or facts in the prompt would not have?"""
    main = told["main"]
    untrained = [n for n, m in told["models"].items() if not m["trained"]]
    trained = [n for n, m in told["models"].items() if m["trained"]][1:]
    values = {n: value_of(told, n, main) for n in [*untrained, *trained]}
    known = {n: v for n, v in values.items() if v is not None}
    if not untrained or not trained or not all(n in known for n in untrained):
        return ""
    best, rival = max(trained, key=lambda n: known[n].estimate), max(untrained, key=lambda n: known[n].estimate)
    a, b = known[best], known[rival]
    clear = a.known and b.known and a.low > b.high
    verb = "gained" if clear else "did not surely gain"
    return (
        f"Training {verb} over what the prompt alone can do: {best} {a.estimate:.3f} against {rival} {b.estimate:.3f}."
    )


def _short(value: float | None) -> str:
    return "?" if value is None else f"{value:+.3f}"


def _models(told: Mapping[str, Any]) -> str:
    rows: list[list[Cell | str]] = []
    for name, model in told["models"].items():
        cost, about = told["cost"].get(name) or {}, told["about"][name]
        said = about.get("cost") or {}
        shape = about.get("model") or {}
        rows.append(
            [
                Cell(name, sub="" if model["trained"] else "untrained baseline"),
                cost.get("method") or "",
                _count(shape.get("parameters")),
                _count(cost.get("labels")),
                duration(cost["seconds"]) if cost.get("seconds") is not None else "",
                _count(cost.get("tokens")),
                "" if cost.get("memory") is None else f"{cost['memory']:.1f} GiB",
                f"{said['tokens'] / said['answers']:.0f}" if said.get("answers") else "",
                f"{1000 * said['seconds'] / said['answers']:.0f} ms" if said.get("answers") else "",
            ]
        )
    head = (
        "model",
        "method",
        "parameters",
        "labels",
        "training time",
        "trained tokens",
        "memory",
        "tokens per answer",
        "time per answer",
    )
    note = "Labels are rows that people or models wrote or judged for it. Empty cells: not trained here, or not recorded by the run."
    return table(head, rows, numeric=range(2, 9)) + node("p", note, class_="muted small")


def _methods(told: Mapping[str, Any]) -> str:
    """What each trained model needed, cost and gave, one column a model; nothing where none was trained here."""
    trained = [n for n, cost in told["cost"].items() if cost.get("method") is not None]
    return method_table(told, trained) if trained else ""


def _count(value: Any) -> str:
    return "" if value is None else f"{int(value):,}"


def _duels(told: Mapping[str, Any]) -> str:
    rows: list[list[Cell | str]] = []
    for made in told["duels"]:
        same = made["equal_length"]
        rows.append(
            [
                Cell(f"{made['model']} against {made['other']}"),
                Cell(ruling(made), class_="strong"),
                f"{made['win']:.0%} / {made['tie']:.0%} / {made['loss']:.0%}",
                _rate(made["rate"]),
                "" if same is None else _rate(same),
                f"{made['difference']['estimate']:+.3f} [{_short(made['difference']['low'])}, {_short(made['difference']['high'])}]",
                f"{made['smallest']:.3f}",
                f"{made['n']:,}",
            ]
        )
    head = (
        "pair",
        "verdict",
        "win / tie / loss",
        "win rate",
        "at equal length",
        f"difference of {told['main']}",
        "could see",
        "prompts",
    )
    note = (
        "Win rate counts ties half. At equal length: what a logistic regression on the difference in length says of equally long "
        "answers. Could see: the smallest true difference that this many prompts find four times in five."
    )
    return table(head, rows, numeric=range(2, 8)) + node("p", escape(note), class_="muted small")


def _people(told: Mapping[str, Any]) -> str:
    """Blind verdicts of people on pairs of models, where the comparison was given a ledger."""
    rows: list[list[Cell | str]] = []
    for made in told.get("people", ()):
        pair = Cell(f"{made['first']} against {made['second']}")
        if made["rate"] is None:
            rows.append([pair, "nobody has judged yet", "", "", ""])
            continue
        said = f"{made['wins']} / {made['ties'] + made['both_bad']} / {made['losses']}"
        rows.append([pair, _rate(made["rate"]), said, f"{made['rate']['n']:,}", f"{made['people']}"])
    if not rows:
        return ""
    note = (
        "Shown blind, in an order drawn for every task; ties and `both bad` count half. The interval resamples prompts."
    )
    head = ("pair", "human win rate", "win / tie / loss", "prompts", "people")
    return table(head, rows, numeric=range(1, 5)) + node("p", escape(note), class_="muted small")


def _rate(made: Mapping[str, Any]) -> str:
    low, high = made["low"], made["high"]
    return f"{made['estimate']:.2f}" + (f" [{low:.2f}, {high:.2f}]" if low is not None else "")


def _figures(told: Mapping[str, Any]) -> str:
    names = list(told["models"])
    out = []
    by_name = {n: {x["name"]: x for x in told["lines"][n]} for n in names}
    every = dict.fromkeys(x["name"] for n in names for x in told["lines"][n])
    order = [x for x in every if not x.startswith("bias/")]  # readers have a section of their own
    for column, title in COLUMNS.items():
        rows: list[list[Cell | str]] = []
        part = ""
        for name in order:
            here = next(by_name[n][name] for n in names if name in by_name[n])
            if here["where"]["column"] != column:
                continue
            sub = here["where"]["means"] + (DOWN if here["where"]["better"] == "down" else "")
            label = Cell(name, sub=(f"{here['where']['part']}: " if here["where"]["part"] != part else "") + sub)
            part = here["where"]["part"]
            rows.append([label, *(_figure(by_name[n].get(name)) for n in names)])
        if column == "capability":
            rows = [*_shape(told, names), *rows]
        if rows:
            out.append(card(title, table(("figure", *names), rows, numeric=range(1, len(names) + 1))))
    return "".join(out)


SHAPE = {
    "parameters": "all weights",
    "layers": "depth",
    "context": "longest sequence, in tokens",
    "flops": "work of one token at full context",
}


def _shape(told: Mapping[str, Any], names: Sequence[str]) -> list[list[Cell | str]]:
    """What the models are, before they say anything."""
    shapes = {n: told["about"][n].get("model") or {} for n in names}
    kept = [k for k in SHAPE if any(shapes[n].get(k) is not None for n in names)]
    return [[Cell(k, sub=SHAPE[k]), *(Cell(_count(shapes[n].get(k)), class_="n") for n in names)] for k in kept]


def _three(value: float) -> str:
    """Three decimals: more than any of these samples could tell."""
    return f"{value:.3f}" if abs(value) < 100 else number(value)


def _figure(line: Mapping[str, Any] | None) -> Cell:
    if line is None:
        return Cell("")
    value = line["value"]
    sub = "no interval" if value["low"] is None else f"[{_three(value['low'])}, {_three(value['high'])}]"
    return Cell(_three(value["estimate"]), sub=sub, class_="n")


def _front(told: Mapping[str, Any]) -> str:
    main = told["main"]
    values = {n: v for n in told["models"] if (v := value_of(told, n, main)) is not None}
    out: list[str] = []
    kept = ", ".join(told["front"])
    words = f"No other model is at least as good on all of {', '.join(told['objectives'])} and better on one: {kept}."
    if len(told["objectives"]) > 1:
        second = told["objectives"][1]
        points = [(_mark(n, told), p[1], values[n]) for n, p in told["points"].items() if n in values]
        down = any(x["name"] == second and x["where"]["better"] == "down" for x in next(iter(told["lines"].values())))
        axis = f"minus {second}" if down else second
        out.append(figure(f"{main} against {axis} (higher is better on both)", scatter(points, main, axis, main)))
    spent, total = {}, 0.0
    for name in told["cost"]:
        total += (told["cost"][name].get("seconds") or 0.0) / 60
        spent[name] = total
    timed = [(_mark(n, told), spent[n], values[n]) for n in spent if n in values]
    if total > 0:
        out.append(figure(f"{main} against training time so far", scatter(timed, main, "minutes of training", main)))
    far = [(_mark(n, told), kl["estimate"], values[n]) for n, kl in told["kl"].items() if n in values]
    if far:
        out.append(figure(f"{main} against KL spent", scatter(far, main, "nats an answer", main)))
    for method, made in told["curve"].items():
        xs, ys = [r for r, *_ in made], [v["estimate"] for *_, v in made]
        out.append(figure(f"{main} of {method} by rows", line_chart([Series(method, xs, ys)], main, "rows")))
    return node("p", escape(words)) + node("div", "".join(out), class_="pair")


def _mark(name: str, told: Mapping[str, Any]) -> str:
    return f"{name} *" if name in told["front"] else name


def _tax(told: Mapping[str, Any]) -> str:
    if not told["tax"]:
        return ""
    rows: list[list[Cell | str]] = []
    for item in told["tax"]:
        change = item["change"]
        verdict = "kept" if item["kept"] else "lost" if (change["high"] or 0) < 0 else "not shown to be kept"
        shown = f"{change['estimate']:+.3f} [{_short(change['low'])}, {_short(change['high'])}]"
        rows.append([Cell(item["model"]), item["figure"], shown, Cell(verdict, class_="strong"), f"{item['p']:.3g}"])
    margin = told["tax"][0]["margin"]
    note = f"Against the first model, in the direction in which more is better. Kept: a loss of {margin:g} or more is ruled out at 5%."
    return table(("model", "figure", "change", "verdict", "p"), rows, numeric=(2, 4)) + node(
        "p", escape(note), class_="muted small"
    )


def _change(value: Mapping[str, Any]) -> str:
    ends = "no interval" if value["low"] is None else f"[{_short(value['low'])}, {_short(value['high'])}]"
    return f"{value['estimate']:+.3f} {ends}"


READ = {"pass": "equal", "fail": "different", "inconclusive": "not decided"}


def _readers(told: Mapping[str, Any]) -> str:
    """The verdicts of equivalence, one row per attribute and one column per model."""
    found = {n: v for n, v in told.get("bias", {}).items() if v}
    if not found:
        return ""
    figures = list(dict.fromkeys(f for v in found.values() for f in v))
    values = {n: {x["name"]: x["value"] for x in told["lines"][n]} for n in found}
    rows: list[list[Cell | str]] = []
    for name in figures:
        attribute, _, of = name.removeprefix("bias/").partition("/")
        cells = []
        for n, verdicts in found.items():
            made, value = verdicts.get(name), values[n].get(name)
            sub = "" if value is None else _change(value)
            cells.append(Cell("" if made is None else READ.get(made["verdict"], made["verdict"]), sub=sub))
        rows.append([Cell(attribute, sub=of or told["main"]), *cells])
    first = next(iter(next(iter(found.values())).values()))
    note = (
        f"Each of {first['n']:,} requests was asked twice, by readers who say different things of themselves. Equal: a difference of "
        f"{first['margin']:g} or more is ruled out at 5%. Different: one is shown. Not decided: too few requests to say either. "
        "A negative difference means that the reader named first (a woman, from far away, of a minority religion, old, with a "
        "disability) is answered worse. Length counts in doublings."
    )
    return table(("attribute", *found), rows) + node("p", escape(note), class_="muted small")


def _text(text: str) -> str:
    return node("p", escape(text), class_="answer") if text else node("span", "empty answer", class_="empty")


def _apart(told: Mapping[str, Any]) -> str:
    cards: list[str] = []
    for item in told["apart"]:
        answers: Sequence[Mapping[str, Any]] = item["said"]
        rows: list[list[Cell | str]] = [
            [Cell(a["model"], sub=f"{told['main']} {a['figure']:.2f}"), Cell(markup=_text(a["answer"]))]
            for a in answers
        ]
        wanted = [] if not item["wanted"] else [node("p", escape(f"Reference: {item['wanted']}"), class_="muted small")]
        cards.append(card(item["id"], _text(item["prompt"]), *wanted, table(("model", "answer"), rows)))
    return "".join(cards)
