"""Every text of the interface in every language, and pages without a word of English left over."""

from __future__ import annotations

import ast
import html
import re
from pathlib import Path

import pytest

import posttrain.feedback
from posttrain.core.group import group
from posttrain.feedback import accounts, judging, queues
from posttrain.feedback.ranking_text import HINTS, RankingError
from posttrain.feedback.server.words import LANGUAGES, SENTENCES, TEXTS, Words
from tests.feedback.made import client, ledger
from tests.feedback.test_ledger import say, take

HERE = Path(posttrain.feedback.__file__).parent
OURS = set(
    "posttrain Krippendorff Kendall Kemeny Cohen Fleiss Gwet alpha kappa JSONL CSV AC Enter Alt English Français ann bob cy nord main ok "
    "queue".lower().split()
)
"""Names, in any language."""


def test_every_text_is_there_in_every_language() -> None:
    keys = set(TEXTS["en"])
    for language, texts in TEXTS.items():
        assert set(texts) == keys and all(t.strip() for t in texts.values()), language
        assert {k for k in keys if "{n}" in texts[k]} == {k for k in keys if "{n}" in TEXTS["en"][k]}, language
    for _, row in SENTENCES:
        holes = [sorted(re.findall(r"\{\d\}", row[name])) for name in LANGUAGES]
        assert all(h == holes[0] for h in holes) and all(row.values()), row["en"]


def test_templates_name_only_texts_that_exist() -> None:
    for path in (HERE / "server/templates").glob("*.html"):
        source = path.read_text(encoding="utf-8").replace("body_class %}working{%", "body_class %}{%")
        named = set(re.findall(r"\bw\.(?!get|said|script|language)(\w+)", source)) | set(
            re.findall(r'\bw\("(\w+)"', source)
        )
        assert named <= set(TEXTS["en"]), path.name
        bare = re.sub(r"\{[{%#].*?[%}#]\}|<style.*?</style>|<kbd>.*?</kbd>", " ", source, flags=re.DOTALL)
        bare = re.sub(r"<[^>]*>", " ", bare)
        assert not re.search(r"[A-Za-z]{3,}", bare.replace("posttrain", "")), (
            path.name,
            re.findall(r"[A-Za-z]{3,}", bare),
        )


def refusals() -> list[str]:
    """Every sentence of a `Refused` in the code, with 7 for what varies."""
    out = []
    for path in HERE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refused" and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    out.append(str(first.value))
                elif isinstance(first, ast.JoinedStr) and any(
                    isinstance(v, ast.Constant) and len(v.value) > 4 for v in first.values
                ):
                    out.append("".join(str(v.value) if isinstance(v, ast.Constant) else "7" for v in first.values))
    return out


def test_what_the_server_refuses_is_said_in_the_reader_s_language() -> None:
    sentences = refusals() + [str(RankingError(kind, 3, "x" if kind.split("_")[0] in ("bad", "unknown", "duplicate", "missing") else ""))  # type: ignore[arg-type]
                              for kind in HINTS if kind != "tie"]  # fmt: skip
    assert len(sentences) > 40
    for language in ("fr", "ru", "zh"):
        assert [s for s in sentences if Words(language).said(s) == s] == [], language


def words_of(page: str) -> list[str]:
    """ASCII words that a reader sees or hears: text, labels, placeholders; keys of the keyboard and data apart."""
    page = re.sub(r"<(script|kbd|option|style)\b.*?</\1>|data-words='.*?'", " ", page, flags=re.DOTALL)
    heard = re.findall(r'(?:aria-label|placeholder|title|alt)="([^"]*)"', page)
    text = html.unescape(re.sub(r"<[^>]*>", " ", page) + " " + " ".join(heard))
    return [w for w in re.findall(r"[A-Za-zÀ-ÿ]{2,}", text) if w.lower() not in OURS]


@pytest.mark.parametrize("language", ["fr", "ru", "zh"])
def test_pages_speak_one_language(tmp_path: Path, language: str) -> None:
    said = [group(f"{i} + {i}", f"{2 * i}", f"{i - 1}", f"{3 * i + 1}") for i in range(32)]
    opened, queue = ledger(tmp_path, said, overlap=3, most=4)
    orders = (((0,), (1,), (2,)), ((0,), (1, 2)), ((2,), (1,), (0,)))
    for k, name in enumerate(("ann", "bob", "cy")):
        for turn in range(32):
            kind = (
                judging.Answer("both_bad")
                if (turn, k) == (3, 1)
                else judging.Answer("ranking", orders[k if turn % 3 else 0], seconds=9)
            )
            say(opened, name, take(opened, queue, name, team="nord" if k else ""), kind)
    owner, _ = client(opened, "ann", "annotator")
    with opened.write() as connection:
        queues.make(connection, "main", queue.settings)
        person = accounts.named(connection, "olga", "owner")
        secret = accounts.open_session(connection, person.id)
    OURS.add("olga")
    owner.cookies.set("posttrain_session", secret)
    owner.cookies.set("lang", language)
    english = {t for k, t in TEXTS["en"].items() if len(t) > 8 and t != TEXTS[language][k] and "{" not in t}
    for path in ("/", "/dashboard", "/people", "/review", "/guidelines", "/join/nothing"):
        made = owner.get(path)
        assert f'<html lang="{language}">' in made.text and made.status_code in (200, 410), path
        if language == "fr":
            shown = html.unescape(re.sub(r"<(script)\b.*?</\1>|data-words='.*?'", " ", made.text, flags=re.DOTALL))
            assert [
                t for t in english if re.search(rf"(?:>|label=\"|title=\"|holder=\")\s*{re.escape(t)}\s*[<\"]", shown)
            ] == [], path
        else:
            assert words_of(made.text) == [], path
    owner.cookies.clear()
    owner.cookies.set("lang", language)
    assert language == "fr" or words_of(owner.get("/login").text) == []
