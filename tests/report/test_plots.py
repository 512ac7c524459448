"""Plots, token shifts and terminal tables: positions and numbers, not looks."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from posttrain.core.finding import Finding
from posttrain.report.axes import Scale, nice_ticks, number, tick_text
from posttrain.report.dots import dot_plot, dumbbell, part_bar
from posttrain.report.plot import Series, histogram, line_chart, reliability_diagram, scatter, smooth
from posttrain.report.samples import difference, said
from posttrain.report.terminal import findings_table, rendered, stages_table
from posttrain.report.tokens import token_shifts, visible
from posttrain.stats import Interval, reliability
from tests.report.made import summary


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0, 1), (0.013, 0.69), (-3.2, 8.1), (0, 2.4e6), (1e-6, 5e-5)):
        ticks, step = nice_ticks(low, high)
        assert 3 <= len(ticks) <= 7 and low <= ticks[0] and ticks[-1] <= high + 1e-12
        assert re.fullmatch(r"(1|2|2\.5|5)e[+-]\d+", f"{step:.1e}".replace(".0e", "e"))
    assert [tick_text(v, 0.2) for v in (0, 0.2, 1.0)] == ["0", "0.2", "1.0"]
    assert tick_text(2e6, 1e6) == "2M" and tick_text(4e-5, 2e-5) == "4e-5"
    assert [number(v) for v in (0.12345, 1234.5, 5e-5, 0, 3)] == ["0.1235", "1,234", "5e-5", "0", "3"]


def test_scales() -> None:
    assert Scale(0, 10, 50, 150)(5) == 100 and Scale(0, 10, 200, 0)(10) == 0
    assert Scale(1, 100, 0, 100, log=True)(10) == pytest.approx(50)
    assert [t for _, t in Scale(0.05, 200, 0, 1, log=True).ticks()] == ["0.1", "1", "10", "100"]


def test_smoothing_starts_at_the_first_value_and_keeps_constants() -> None:
    assert smooth([3.0] * 20, 0.9) == pytest.approx([3.0] * 20)
    assert smooth([1.0, 2.0], 0.0) == [1.0, 2.0]
    assert smooth([5.0, 0.0], 0.5) == pytest.approx([5.0, 5.0 / 3])


def test_a_line_chart_draws_points_where_they_are() -> None:
    drawing = line_chart([Series("loss", [0, 5, 10], [4.0, 2.0, 0.0])], "loss")
    root = ElementTree.fromstring(drawing)
    path = next(e for e in root.iter("path") if e.get("class") == "curve c0")
    points = [tuple(map(float, p.split())) for p in path.get("d")[1:].split("L")]
    assert points[0][0] == 50 and points[2][0] == 408 and points[1][0] == pytest.approx(229, abs=0.1)
    assert points[1][1] == pytest.approx((points[0][1] + points[2][1]) / 2, abs=0.1) and points[0][1] < points[2][1]
    titles = [e.text for e in root.iter("title")]
    assert titles[0] == "loss" and "step 5\nloss 2" in titles


def test_long_curves_become_a_band_and_stay_small() -> None:
    values = [math.sin(i) for i in range(50_000)]
    drawing = line_chart([Series("x", range(50_000), values)], "x")
    assert 'class="band c0"' in drawing and len(drawing) < 60_000 and drawing.count('class="hover"') <= 60


def test_curves_without_noise_are_not_smoothed() -> None:
    ramp = [min(i, 50) / 50 for i in range(200)]
    drawn = re.search(r'd="M([^"]+)" class="curve', line_chart([Series("lr", range(200), ramp)], "lr"))
    ys = [float(p.split()[1]) for p in drawn[1].split("L")]
    assert ys[50] == min(ys), "the corner of a warmup stays where it is"


def test_nothing_to_draw_says_so() -> None:
    for drawing in (
        line_chart([Series("x", [1], [float("nan")])], "x"),
        histogram([("x", [])], "x"),
        dot_plot([], "x"),
        dumbbell([], "x", "y"),
        scatter([], "x", "a", "b"),
        part_bar([("kept", 0)], "x"),
    ):
        assert 'class="empty"' in drawing and "<svg" not in drawing
    assert "<circle" in line_chart([Series("x", [1], [2.0])], "x"), "one point is a dot"


def test_histograms_show_shares_of_their_own_set() -> None:
    drawing = histogram([("a", [1, 1, 2, 3]), ("b", [3] * 100)], "h")
    assert "a: 50.0% in" in drawing and "b: 100.0% in" in drawing


def test_dots_dumbbells_bars_and_diagrams_are_whole() -> None:
    rows = [("a<b", Interval(0.5, 0.4, 0.6, 300, "t")), ("c", Interval(0.7, math.nan, math.nan, 0, "none"))]
    drawings = [
        dot_plot(rows, "dots", reference=0.5),
        scatter([(n, float(i), v) for i, (n, v) in enumerate(rows)], "s", "kl", "gold"),
        dumbbell([("a", 1.0, 2.0), ("b", 3.0, 0.0)], "d", "per 1,000"),
        part_bar([("kept", 90), ("tie", 10)], "rows"),
        reliability_diagram(reliability([0.1, 0.2, 0.8, 0.9] * 20, [0, 0, 1, 1] * 20, bins=4), "r"),
    ]
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    assert "0.500 [0.400, 0.600]" in drawings[0] and "a&lt;b" in drawings[0] and "no interval" in drawings[0]
    widths = [float(w) for w in re.findall(r'<rect x="[\d.]+" y="0" width="([\d.]+)"', drawings[3])]
    assert widths[0] + 1.5 == pytest.approx(9 * (widths[1] + 1.5))


def test_names_in_a_scatter_do_not_cover_each_other() -> None:
    here = Interval(0.7, 0.68, 0.72, 300, "t")
    points = [("base", 0.0, here), ("best of 16", 1.84, here), ("grpo", 2.0, here)]
    drawing = ElementTree.fromstring(scatter(points, "s", "kl", "gold"))
    spots = {
        e.text: (e.get("x"), e.get("y"), e.get("text-anchor"))
        for e in drawing.iter("text")
        if e.get("class") == "t strong"
    }
    assert spots["best of 16"][2] != spots["grpo"][2] or spots["best of 16"][1] != spots["grpo"][1]


def test_token_shifts() -> None:
    same = token_shifts({"a": 5, "b": 5}, {"a": 50, "b": 50})
    assert same.divergence == 0 and same.totals == (10, 100)
    apart = token_shifts({"a": 5}, {"b": 7})
    assert apart.divergence == pytest.approx(1.0) and apart.distinct == (1, 1)
    some = token_shifts({"the": 500, "sorry": 10, "x": 1}, {"the": 480, "sorry": 60, "x": 2})
    assert some.tokens[0].token == "sorry" and some.tokens[0].after == pytest.approx(60 / 542)
    with pytest.raises(ValueError, match=r"token_counts.after"):
        token_shifts({"a": 1}, {})
    assert visible("\u0120the") == "␣the" and visible("\n\x1b") == "↵\\x1b"


def test_differences_between_answers() -> None:
    left, right = difference("The sum is 41.", "The sum is <42>.")
    assert left == "The sum is <del>41.</del>" and right == "The sum is <ins>&lt;42&gt;.</ins>"
    assert difference("one two three", "completely other words here") == (
        "one two three",
        "completely other words here",
    )
    assert said([{"role": "user", "content": "hi"}]) == "hi"
    assert (
        said([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]) == "user: hi\n\nassistant: yo"
    )


def test_terminal_tables_fit_eighty_columns() -> None:
    text = rendered(stages_table(summary()["stages"]))
    assert "grpo" in text and "0.718 [0.691, 0.746]" in text and "rejection sampling" in text
    found = [
        Finding(
            "D4",
            "warning",
            "61 of 2,000 prompts appear twice with the same answers, which counts them twice",
            "Set dedup.",
            "q7",
        ),
        Finding("T1", "error", "[red]no template\x1b[31m", "Name one."),
    ]
    told = rendered(findings_table(found))
    assert told.index("T1") < told.index("D4"), "errors first"
    assert (
        "[red]no template\\x1b[31m" in told and "\x1b" not in told and "row q7" in told and "1 error, 1 warning" in told
    )
    assert max(map(len, (text + told).splitlines())) <= 80
    assert "No findings" in rendered(findings_table([]))
