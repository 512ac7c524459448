"""Pages: what they show, what they count, and that nothing hostile gets through."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from posttrain.report import write_pipeline_report, write_report
from posttrain.report.run import charts, series_of
from tests.report.made import digest, metrics, run_directory, summary

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Reader(HTMLParser):
    """Tags, attributes, ids and text of a page; fails on a tag that is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data) -> None:
        if "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def run_html(tmp_path_factory) -> str:
    return write_report(run_directory(tmp_path_factory.mktemp("runs") / "dpo")).read_text()


@pytest.fixture(scope="module")
def pipe_html(tmp_path_factory) -> str:
    return write_pipeline_report(tmp_path_factory.mktemp("pipe"), summary()).read_text()


def test_pages_are_self_contained_and_their_policy_allows_only_their_own_sheet(run_html: str, pipe_html: str) -> None:
    for html in (run_html, pipe_html):
        page = Reader(html)
        names = {name for name, _ in page.tags}
        assert not names & {"script", "link", "img", "iframe", "object", "form", "base"}
        policy = next(a["content"] for n, a in page.tags if n == "meta" and a.get("http-equiv"))
        sheet = re.search(r"<style>(.*?)</style>", html, re.S)
        assert sheet and policy
        want = base64.b64encode(hashlib.sha256(sheet[1].encode()).digest()).decode()
        assert policy.startswith("default-src 'none'") and f"style-src 'sha256-{want}'" in policy
        for name, attributes in page.tags:
            assert "style" not in attributes, f"<{name}> has an inline style, which the policy blocks"
            assert not [k for k in attributes if k.startswith("on")]
            assert not str(attributes.get("href") or "").lower().startswith(("http", "javascript", "data", "//"))
        assert "url(" not in sheet[1] and "@import" not in sheet[1]


def test_pages_read_well_for_people_who_listen(run_html: str, pipe_html: str) -> None:
    for html in (run_html, pipe_html):
        page = Reader(html)
        count = [n for n, _ in page.tags].count
        assert count("h1") == 1 and count("h2") >= 5 and count("main") == 1 and count("nav") == 1
        levels = [int(n[1]) for n, _ in page.tags if re.fullmatch("h[1-4]", n)]
        assert all(b <= a + 1 or b == 4 for a, b in itertools.pairwise(levels))
        for name, attributes in page.tags:
            if name == "svg":
                assert attributes.get("aria-label") or attributes.get("aria-hidden"), attributes
            if name == "th":
                assert attributes.get("scope") in ("row", "col")
        ids = [a["id"] for _, a in page.tags if "id" in a]
        assert len(ids) == len(set(ids))
        links = [str(a["href"])[1:] for n, a in page.tags if n == "a" and str(a.get("href")).startswith("#")]
        assert links and set(links) <= set(ids)
        assert dict(page.tags)["html"]["lang"] == "en"


def test_the_run_page_shows_every_part(run_html: str) -> None:
    text = Reader(run_html).text
    for word in (
        "Training loss",
        "Held-out loss",
        "duplicate 61",
        "empty answer 12",
        "1,893",
        "Truncated",
        "Divergence",
    ):
        assert word in text, word
    for name in ("policy", "pairs", "model", "base", "sft"):
        assert digest(name) in text, f"hash of {name}"
    for word in (
        "17",
        "5.23.0",
        "beta: 0.1",
        "longer than 256 tokens",
        "61 prompts appear twice",
        "Set data.dedup: exact.",
    ):
        assert word in text, word
    assert "24 prompts. Scores rose on 21, fell on 3, stayed on 0." in text
    assert "<del>41.</del>" in run_html and "<ins>42.</ins>" in run_html


def test_curves_share_a_chart_with_their_twin() -> None:
    grouped = {key: [s.name for s in group] for key, group in charts(series_of(metrics(24)))}
    assert grouped["loss"] == ["loss", "eval_loss"] and next(iter(grouped)) == "loss"
    assert grouped["reward_chosen and rejected"] == ["reward_chosen", "reward_rejected"]
    assert list(grouped)[-1] in ("lr", "tokens", "grad_norm")
    assert len(series_of(metrics(24))["eval_loss"].y) == 13


def test_hostile_text_is_shown_and_never_read_as_markup(tmp_path: Path) -> None:
    evil = "</title></style><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
    run = run_directory(tmp_path / "run", 12)
    held = json.loads((run / "manifest.json").read_text())
    held |= {"name": evil, "method": evil, "notes": [evil], "seeds": {evil: evil}, "extra": {evil: [evil]}}
    held["inputs"] = [{"name": evil, "path": evil, "hash": evil}]
    held["data"]["dropped"] = {evil: 107}
    held["token_counts"] = {"before": {evil: 3, "a": 1}, "after": {evil: 1, "b": 5}}
    (run / "manifest.json").write_text(json.dumps(held))
    rows = [{"id": evil, "prompt": evil, "before": evil, "after": evil + "x", evil: evil, "score_before": evil}]
    (run / "samples.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (run / "metrics.jsonl").write_text(json.dumps({"step": 1, evil: 1.0}) + "\n")
    (run / "recipe.yaml").write_text(evil)
    (run / "check.json").write_text(json.dumps([{"id": evil, "severity": evil, "message": evil, "fix": evil}]))
    made = summary() | {"title": evil, "notes": [evil], "tasks": {evil: {"base": 0.5}}}
    made["stages"][0] |= {"method": evil, "note": evil, "report": "javascript:alert(1)"}
    made["samples"] = [{"id": evil, "prompt": evil, "answers": {evil: evil}, "scores": {evil: 1.0}}]
    for html in (write_report(run).read_text(), write_pipeline_report(tmp_path, made).read_text()):
        names = {n for n, _ in Reader(html).tags}
        assert not names & {"script", "img"} and evil in Reader(html).text
        assert "javascript:" not in html


def test_missing_parts_are_named_and_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("job: train\n")
    text = Reader(write_report(tmp_path).read_text()).text
    for word in (
        "wrote no metrics.jsonl",
        "wrote no rows to samples.jsonl",
        "does not describe the data",
        "no token counts",
    ):
        assert word in text, word


def test_values_that_cannot_be_drawn_and_rows_that_vanish_are_counted(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", 30)
    rows = metrics(30)
    rows[4]["loss"] = float("nan")
    rows[9]["loss"] = float("inf")
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    held = json.loads((run / "manifest.json").read_text())
    held["data"] = {"rows": 100, "kept": 90, "dropped": {"tie": 6}, "truncated": 0}
    (run / "manifest.json").write_text(json.dumps(held))
    text = Reader(write_report(run).read_text()).text
    assert "2 values are not finite and not drawn" in text
    assert "not accounted for 4 (4.0%)" in text and "nothing truncated" in text


def test_what_training_writes_is_understood(tmp_path: Path) -> None:
    """Several sources, alerts, findings in the manifest, the data's own answer, counts that ride on the first row."""
    run = run_directory(tmp_path / "run", 30)
    (run / "check.json").unlink()
    held = json.loads((run / "manifest.json").read_text())
    source = {
        "name": "a",
        "path": "a.jsonl",
        "hash": digest("a"),
        "shape": "pairs",
        "rows": 50,
        "kept": 40,
        "weight": 1.0,
    }
    held |= {
        "data": [
            source | {"dropped": {"tie": 10}, "truncated": 3, "notes": {}},
            source | {"name": "b", "kept": 50, "dropped": {}},
        ],
        "parameters": {"trainable": 1_000_000, "all": 6_000_000},
        "alerts": {"grad_norm": "step 9: gradient norm 140"},
        "findings": [{"id": "M3", "severity": "warning", "message": "the mask is odd", "fix": "Look.", "row": None}],
    }
    (run / "manifest.json").write_text(json.dumps(held))
    rows = [
        {
            "id": "1",
            "prompt": "p",
            "before": "x",
            "after": "y",
            "data": "the written answer",
            "tokens_before": {"zzq": 9},
        }
    ]
    (run / "samples.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    text = Reader(write_report(run).read_text()).text
    for word in (
        "2 sources",
        "tie 10 (20.0%)",
        "90of 100",
        "6.00 M",
        "1.00 M trained",
        "Alert: step 9",
        "the mask is odd",
    ):
        assert word in text, word
    assert "in the data" in text and "the written answer" in text and "zzq" not in text


def test_many_samples_are_cut_with_a_count(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run", 12)
    row = {"prompt": "p", "before": "a", "after": "b"}
    (run / "samples.jsonl").write_text("".join(json.dumps(row | {"id": i}) + "\n" for i in range(250)))
    html = write_report(run).read_text()
    assert "The first 100 of 250; all are in samples.jsonl" in html and html.count("<article") == 100


def test_the_pipeline_page_says_simulation_and_one_seed(pipe_html: str) -> None:
    text = Reader(pipe_html).text
    assert "The reading room is a simulation" in text
    assert "ahead in one seed" in text and "better" in text and "not separated" in text
    for name in ("base", "sft", "reward model", "grpo", "best of 16", "recall", "over 0.6"):
        assert name in text
    assert 'href="dpo/report.html"' in pipe_html
    stage = summary()["stages"][0]["gold"]
    assert str(stage) in text, "gold with its interval"


def test_numbers_may_come_as_json(tmp_path: Path) -> None:
    made = {
        "stages": [
            {"name": "base", "gold": {"estimate": 0.5, "low": 0.4, "high": 0.6, "n": 300}},
            {"name": "sft", "gold": 0.7},
        ]
    }
    text = Reader(write_pipeline_report(tmp_path, json.loads(json.dumps(made))).read_text()).text
    assert "0.500 [0.400, 0.600]" in text and "0.700" in text and "no interval" in text


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ({}, "summary.stages is missing"),
        ({"stages": [{"method": "dpo"}]}, r"stages\[0\] lacks a name"),
        ({"stages": [{"name": "a", "gold": "high"}]}, "a.gold must be a number"),
        ({"stages": [{"name": "a", "gold": {"low": 1}}]}, "a.gold lacks 'estimate'"),
    ],
)
def test_bad_summaries_are_one_clear_line(tmp_path: Path, made: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        write_pipeline_report(tmp_path, made)


def test_bad_run_directories_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no run directory"):
        write_report(tmp_path)
    (tmp_path / "manifest.json").write_text("{\n nope")
    with pytest.raises(ValueError, match=r"manifest.json:2: not JSON"):
        write_report(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="must hold a JSON object"):
        write_report(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnope\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl:2"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
