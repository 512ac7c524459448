"""The pages hold: links lead somewhere, every documented command parses and builds, generated tables are fresh (S7 `docs_commands`)."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from posttrain import cli
from posttrain.core.recipe import build_spec
from posttrain.jobs import pipeline
from posttrain.train.monitors import WATCHES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"(!?)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
SCHEMA = cli.read_schema()


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    return {slug(m.group(1)) for m in re.finditer(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    lost = []
    for _, target in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            lost.append(target)
    assert not lost, f"{page.name}: {lost}"


def whole_commands(text: str) -> Iterator[str]:
    """Lines of code blocks, fenced or indented, and of comments in YAML, that begin with our name; continued lines joined."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        found = re.match(r"(?:\$ |#\s+| {2,})?(posttrain [a-z].*)$", line)
        if found:
            yield from (part for part in found.group(1).split(" | ") if part.startswith("posttrain "))


def mentioned(text: str) -> Iterator[str]:
    """Commands inside a sentence: they may leave out what is required."""
    for code in INLINE.findall(FENCED.sub("", text)):
        if re.match(r"posttrain [a-z]", code):
            yield code


def words_of(command: str) -> list[str]:
    """A command without its comment and the brackets of optional parts (`[steps=50 ...]`)."""
    bare = re.split(r" {3,}", command)[0]
    words = shlex.split(re.sub(r"\[([^\]]*)\]|\.\.\.|…", r"\1", bare), comments=True)
    return words[1:]


def told(words: list[str]) -> dict[str, object] | None:
    """The recipe values of a command; None where it asks for help."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return cli.parse(words, SCHEMA)[1]
        except SystemExit:
            return None


def commands() -> list[tuple[str, str]]:
    recipes = sorted((ROOT / "recipes").glob("*.yaml"))
    texts = [(p.name, p.read_text(encoding="utf-8")) for p in [*PAGES, *recipes]]
    texts.append(("posttrain --help", cli.overview(SCHEMA)))
    return [(name, command) for name, text in texts for command in whole_commands(text)]


def test_every_command_parses_and_builds() -> None:
    found = commands()
    assert len([c for name, c in found if name == "README.md"]) >= 6
    wrong = []
    for name, command in found:
        try:
            words = words_of(command)
            values = told(words)
            if values is not None and words:
                module, _, attribute = SCHEMA["verbs"][words[0]]["class"].partition(":")
                build_spec(getattr(import_module(module), attribute), values)
        except (cli.UsageError, ValueError) as error:
            wrong.append(f"{name}: {command}: {error}")
    assert not wrong, "\n".join(wrong)


def test_the_recipe_of_the_readme_builds() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    plan = pipeline.build(yaml.safe_load(text))
    assert list(plan.jobs) == ["sft", "rm", "dpo"]


def test_every_command_in_a_sentence_is_known() -> None:
    wrong = []
    for page in PAGES:
        for command in mentioned(page.read_text(encoding="utf-8")):
            try:
                told(words_of(command))
            except cli.UsageError as error:
                if "required" not in str(error):
                    wrong.append(f"{page.name}: {command}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "command", ["posttrain sftt --model a", "posttrain dpo --betta 1", "posttrain sft --steps many"]
)
def test_a_stale_command_would_be_found(command: str) -> None:
    with pytest.raises(cli.UsageError):
        told(words_of(command))


def test_make_targets_exist() -> None:
    known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        asked = set(re.findall(r"^\s*make ([\w-]+)", text, re.MULTILINE)) | set(re.findall(r"`make ([\w-]+)", text))
        assert asked <= known, f"{page.name}: {asked - known}"


def test_the_table_of_methods_is_fresh() -> None:
    spec = importlib.util.spec_from_file_location("readme_methods", ROOT / "docs" / "readme_methods.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.README.read_text(encoding="utf-8")
    assert module.renewed(text) == text, "run: python docs/readme_methods.py"
    for name in ("lm", "sft", "reward", "dpo"):
        assert f"| [{name}](docs/methods.md#{name}) |" in text


def test_the_preflight_page_has_every_id() -> None:
    """Ids in code and page are the same."""
    page = set(
        re.findall(r"^\| ([TMDLS]\d) \|", (ROOT / "docs/preflight.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    wanted = {
        f"{letter}{n}"
        for letter, last in (("T", 6), ("M", 9), ("D", 6), ("L", 6), ("S", 9))
        for n in range(1, last + 1)
    }
    assert page == wanted
    sources = [*(ROOT / "src/posttrain/train").glob("*.py"), *(ROOT / "src/posttrain/models").glob("*.py")]
    raised = {i for p in sources for i in re.findall(r'"([TMDLS]\d)",', p.read_text(encoding="utf-8"))}
    assert raised and raised <= page


def test_the_alerts_page_names_what_is_raised() -> None:
    raised = {w.alert for w in WATCHES} | {"limit_kl", "limit_ratio", "limit_entropy"}
    page = (ROOT / "docs/monitors.md").read_text(encoding="utf-8")
    assert raised and all(f"| `{name}` |" in page for name in raised)
