"""The command line: fast help, one line per mistake, exit codes, and the same job as the recipe and the Python call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from posttrain import cli
from posttrain.core.recipe import RecipeError, build_spec
from posttrain.jobs.catalogue import Train, build_job
from posttrain.jobs.recipe_text import parse as parse_yaml
from posttrain.methods import DPO
from posttrain.objectives.links import IPO, Conservative

SCHEMA = cli.read_schema()
BASE = ["--model", "m", "--data", "d.jsonl", "--out", "o"]


def built(*words: str) -> Any:
    """The job of a train command."""
    _, values = cli.parse(words, SCHEMA)
    return build_spec(Train, values)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    root = Path(cli.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from posttrain.cli import main\n"
        "assert main(['--help']) == 0\n"
        "try: main(['dpo', '--help'])\n"
        "except SystemExit as e: assert e.code == 0\n"
        "heavy = {'torch', 'transformers', 'pydantic', 'numpy', 'rich', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    seconds = []  # of CPU: a busy machine must not fail this
    for _ in range(3):
        before = os.times()
        done = python(code)
        after = os.times()
        seconds.append(after.children_user - before.children_user + after.children_system - before.children_system)
        assert done.returncode == 0, done.stderr
    assert min(seconds) < 0.7


@pytest.mark.parametrize("verb", sorted(SCHEMA["verbs"]))
def test_help_fits_80_columns_and_names_every_option(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert max(map(len, text.splitlines())) <= 80
    for section in SCHEMA["verbs"][verb]["sections"]:
        for option in section["options"]:
            assert option["flags"][0].removeprefix("--") in text
            assert option["help"], f"{option['dest']} has no help line"


def test_overview_names_every_verb_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"  {verb}" in text for verb in SCHEMA["verbs"])


def test_command_yaml_and_python_build_the_same_job() -> None:
    command = built("dpo", *BASE, "--beta", "0.2", "--steps", "7", "--optimizer.lr", "1e-4", "--lora.rank", "4")
    yaml_text = "{method: {name: dpo, beta: 0.2}, model: m, data: d.jsonl, out: o, steps: 7, optimizer: {lr: 1e-4}, lora: {rank: 4}}"
    recipe = build_job(parse_yaml(yaml_text, "test"))
    call = Train(
        model="m",
        method=DPO(beta=0.2),
        source="d.jsonl",
        out="o",
        steps=7,
        optimizer={"lr": 1e-4},
        lora={"rank": 4},
    )
    assert command == recipe == call


def test_short_long_underscored_and_repeated_options() -> None:
    job = built(
        "sft",
        *BASE,
        "--lr",
        "3e-5",
        "--max_tokens=64",
        "--accept",
        "M3",
        "--accept",
        "[T1, T2]",
        "--no-trust-remote-code",
    )
    assert job.optimizer.lr == 3e-5
    assert job.max_tokens == 64
    assert job.accept == ("M3", "T1", "T2")
    assert job.trust_remote_code is False
    assert built("sft", *BASE, "--trust-remote-code").trust_remote_code is True
    assert built("sft", *BASE, "--data", "{path: e.jsonl, weight: 2}").data[1].weight == 2
    assert built("sft", *BASE, "--validation", "0.1").validation == 0.1
    assert built("sft", *BASE, "--validation", "held.jsonl").validation == "held.jsonl"
    assert built("sft", *BASE, "--lora").lora is not None
    assert built("sft", *BASE, "--log-to", "[]").log_to == ()
    assert built("sft", "--model", "7", "--data", "d", "--out", "o").model == "7"


def test_a_member_by_name_or_by_its_fields() -> None:
    assert built("dpo", *BASE, "--link", "ipo").method.link == IPO()
    assert built("dpo", *BASE, "--link", "{name: conservative, flips: 0.2}").method.link == Conservative(flips=0.2)
    assert built("train", *BASE, "--method", "{name: dpo, beta: 0.3}").method == DPO(beta=0.3)


def test_nodes_and_lists_of_members_inside_a_method() -> None:
    job = built("dpo", *BASE, "--moving.every", "64", "--modifiers", "wpo", "--modifiers", "{name: ld, alpha: 0.5}")
    assert job.method.moving.every == 64
    assert [m.name for m in job.method.modifiers] == ["wpo", "ld"]
    assert built("apo-zero-unpaired", *BASE).method.name == "apo_zero_unpaired"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["dpoo"], "did you mean dpo?"),
        (["dpo", *BASE, "--bet", "1"], "did you mean --beta?"),
        (["dpo", *BASE, "--optimizer.lrr", "1"], "did you mean --optimizer.lr?"),
        (["sft", *BASE, "--steps", "ten"], "--steps: 'ten' is not a whole number"),
        (["sft", *BASE, "--mask", "first"], "accepted: all, last"),
        (["sft", "--model", "m"], "--data, --out are required"),
        (["sft", *BASE, "stray"], "'stray' is not understood"),
        (["run"], "RECIPE"),
    ],
)
def test_a_command_that_cannot_be_understood_is_one_line_and_2(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("posttrain: ")
    assert error.count("\n") == 1


def test_users_errors_are_one_line_and_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", str(tmp_path / "none.yaml")]) == 1
    assert capsys.readouterr().err == f"posttrain: {tmp_path}/none.yaml: no such recipe\n"
    assert cli.main(["sft", *BASE, "--lr", "-1"]) == 1
    error = capsys.readouterr().err
    assert "optimizer.lr" in error
    assert "greater than 0" in error
    assert error.count("\n") == 1


def test_an_unknown_field_of_a_recipe_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("{method: dpo, model: m, data: d, out: o, betaa: 1, stepz: 3}")
    assert cli.main(["run", str(recipe)]) == 2
    assert "stepz: unknown field; did you mean `steps`?" in capsys.readouterr().err


def test_a_traceback_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTTRAIN_DEBUG", "1")
    with pytest.raises(RecipeError):
        cli.main(["run", "/nowhere/at/all.yaml"])


class Stop:
    """A job that ends as told."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, verb: Any, values: Any) -> int:
        raise self.error


def test_interrupts_and_non_finite_gradients_have_their_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from posttrain.engine.optimizer import NonFiniteGradient

    words = ["sft", "--model", "m", "--data", "d", "--out", str(tmp_path)]
    (tmp_path / "checkpoints" / "000010").mkdir(parents=True)
    monkeypatch.setattr(cli, "execute", Stop(KeyboardInterrupt()))
    assert cli.main(words) == 130
    assert f"the same command goes on from the last checkpoint in {tmp_path}" in capsys.readouterr().err
    monkeypatch.setattr(cli, "execute", Stop(NonFiniteGradient(["w"])))
    assert cli.main(words) == 3
    assert "non-finite gradient" in capsys.readouterr().err
    monkeypatch.setattr(cli, "execute", Stop(OSError(28, "No space left on device")))
    assert cli.main(words) == 1
    assert "No space left on device" in capsys.readouterr().err
    monkeypatch.setattr(cli, "execute", Stop(RuntimeError("ours")))
    with pytest.raises(RuntimeError):
        cli.main(words)


def test_the_environment_of_the_user_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "TRANSFORMERS_VERBOSITY", "TRANSFORMERS_NO_ADVISORY_WARNINGS"):
        monkeypatch.delenv(name, raising=False)
    cli.settle_environment()
    assert os.environ["GOMP_SPINCOUNT"] == "30000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    cli.settle_environment()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    cli.settle_environment()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_data_is_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    from posttrain.jobs.job import Context

    Context().say("[red]not a colour[/red] [link=x]y[/link]")
    assert "[red]not a colour[/red] [link=x]y[/link]" in capsys.readouterr().err


def test_version_and_a_reader_that_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("posttrain ")
