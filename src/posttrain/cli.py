"""The command line: one verb per job, from the generated `schema.json`, so that help needs neither torch nor pydantic.

``posttrain dpo --model runs/sft --data prefs.jsonl --beta 0.2`` builds the same job as the recipe and the Python call. Jobs are imported
after parsing. Exit codes: 0 done, 1 a user's error or a failed check, 2 usage, 3 a non-finite gradient, 130 interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, NoReturn

HEADINGS = {
    "learn": "learn",
    "use": "use a model",
    "people": "what people think",
    "recipe": "recipes and data",
    "room": "the reading room, a simulated library with known answers",
}
EXAMPLES = """examples:
  posttrain sft --model DIR_OR_HUB_ID --data demos.jsonl --out runs/sft
  posttrain dpo --model runs/sft --data prefs.jsonl --beta 0.1 --out runs/dpo
  posttrain run recipe.yaml dpo.method.beta=0.2
  posttrain show prefs.jsonl --model runs/sft

`posttrain VERB --help` lists what a verb takes."""


class UsageError(Exception):
    """A command that cannot be understood: one line, exit code 2."""


def read_schema() -> dict[str, Any]:
    """The generated description of all verbs. Regenerate with ``python -m posttrain.jobs.schema``."""
    return json.loads((Path(__file__).parent / "schema.json").read_text(encoding="utf-8"))


def width() -> int:
    """Columns to write help in: the terminal's, between 60 and 100."""
    return max(60, min(shutil.get_terminal_size().columns, 100))


def overview(schema: Mapping[str, Any]) -> str:
    """``posttrain --help``."""
    lines = ["usage: posttrain VERB [options]", "", f"posttrain {version()}: {schema['summary']}"]
    column = max(map(len, schema["verbs"])) + 4
    for group, title in HEADINGS.items():
        lines += ["", f"{title}:"]
        for name, verb in schema["verbs"].items():
            if verb["group"] == group:
                first = f"  {name}".ljust(column)
                lines += textwrap.wrap(verb["title"], width(), initial_indent=first, subsequent_indent=" " * column)
    return "\n".join([*lines, "", EXAMPLES])


class Help(argparse.HelpFormatter):
    """Options with one metavar, help beside them, texts wrapped to the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=width())

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        shown = action.option_strings[:1] if action.dest != "help" else action.option_strings
        if isinstance(action, argparse.BooleanOptionalAction):
            return "--[no-]" + shown[0].removeprefix("--")
        metavar = "" if action.nargs == 0 else f" {action.metavar}"
        return ", ".join(shown) + metavar


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def build_parser(name: str, verb: Mapping[str, Any]) -> Parser:
    """The parser of one verb."""
    needed = [o for s in verb["sections"] for o in s["options"] if o["required"] and o["flags"]]
    usage = " ".join(
        [
            f"posttrain {name}",
            *(o["usage"] for o in verb["positional"]),
            *(f"{o['flags'][0]} {o['metavar']}" for o in needed),
        ]
    )
    parser = Parser(
        prog=f"posttrain {name}",
        usage="\n".join(textwrap.wrap(f"{usage} [options]", width() - 7, subsequent_indent=" " * 9)).replace("%", "%%"),
        description=verb["about"].replace("%", "%%"),
        formatter_class=Help,
        allow_abbrev=False,
        add_help=False,
    )
    if verb["positional"]:
        group = parser.add_argument_group("arguments")
        for option in verb["positional"]:
            nargs = "*" if option["sort"] == "list" else None if option["required"] else "?"
            group.add_argument(option["dest"], metavar=option["metavar"], nargs=nargs, help=_help(option))
    for section in verb["sections"]:
        group = parser.add_argument_group(section["title"])
        for option in section["options"]:
            _add(group, option)
    parser.add_argument_group("help").add_argument("-h", "--help", action="store_true", help="show this text")
    return parser


def _help(option: Mapping[str, Any]) -> str:
    default = f" (default: {option['default']})" if option["default"] else ""
    return f"{option['help']}{default}".replace("%", "%%")


def _add(group: argparse._ArgumentGroup, option: Mapping[str, Any]) -> None:
    settings: dict[str, Any] = {"dest": option["dest"], "default": argparse.SUPPRESS, "help": _help(option)}
    if option["sort"] == "flag":
        group.add_argument(*option["flags"], action=argparse.BooleanOptionalAction, **settings)
        return
    settings["metavar"] = option["metavar"]
    if option["sort"] in ("list", "data"):
        settings["action"] = "append"
    if option["sort"] == "spec":
        settings |= {"nargs": "?", "const": "{}", "metavar": f"[{option['metavar']}]"}
    group.add_argument(*option["flags"], **settings)


def parse(argv: Sequence[str], schema: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(verb, plain recipe values) of a command. Raises UsageError; prints help and exits for ``--help``."""
    name = argv[0] if argv[0] in schema["verbs"] else argv[0].replace("-", "_")
    if name not in schema["verbs"]:
        name = argv[0]
        raise UsageError(f"unknown verb {name!r}{nearest(name, schema['verbs'])}")
    verb = schema["verbs"][name]
    parser = build_parser(name, verb)
    words = [_hyphens(a) for a in argv[1:]]
    if "-h" in words or "--help" in words:
        print(parser.format_help())
        raise SystemExit(0)
    options = {o["dest"]: o for s in verb["sections"] for o in s["options"]} | {
        o["dest"]: o for o in verb["positional"]
    }
    given = vars(_given(parser, verb, words))
    values: dict[str, Any] = json.loads(json.dumps(verb["preset"]))
    for dest, text in given.items():
        if dest not in options or text is None or text == []:
            continue
        option = options[dest]
        _put(values, option["path"], _value(option, text))
    missing = [
        o
        for o in options.values()
        if o["required"]
        and o["dest"] not in given
        and not _has(values, o["path"])
        # a part that is left out asks for nothing; one that is begun has to be whole
        and (len(o["path"]) == 1 or _has(values, o["path"][:-1]))
    ]
    if missing:
        names = ", ".join(o["flags"][0] if o["flags"] else o["metavar"] for o in missing)
        raise UsageError(f"{names} {'is' if len(missing) == 1 else 'are'} required; see posttrain {name} --help")
    return name, values


def _hyphens(word: str) -> str:
    """`--max_tokens` and `--max-tokens` are the same option."""
    if not word.startswith("--"):
        return word
    head, equals, tail = word.partition("=")
    return head.replace("_", "-") + equals + tail


def _given(parser: Parser, verb: Mapping[str, Any], words: Sequence[str]) -> argparse.Namespace:
    known = {f for s in verb["sections"] for o in s["options"] for f in o["flags"]}
    for word in words:
        flag = word.partition("=")[0]
        if flag == "--":
            break
        bare = flag.replace("--no-", "--", 1)
        if flag.startswith("--") and flag not in known and bare not in known:
            raise UsageError(f"unknown option {flag}{nearest(flag, known)}")
    try:
        given, rest = parser.parse_known_intermixed_args(list(words))
    except TypeError:
        given, rest = parser.parse_known_args(list(words))
    if rest:
        raise UsageError(f"{rest[0]!r} is not understood; options begin with --, see {parser.prog} --help")
    return given


def nearest(name: str, known: Mapping[str, Any] | set[str]) -> str:
    """``; did you mean ...`` for an unknown verb or option."""
    match = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]}?" if match else "; see --help for what is known"


def _has(values: Mapping[str, Any], path: Sequence[str]) -> bool:
    here: Any = values
    for step in path:
        if not isinstance(here, Mapping) or step not in here:
            return False
        here = here[step]
    return True


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    here = values
    for step in path[:-1]:
        inside = here.get(step)
        if isinstance(inside, str):  # a member given by its name gets fields: {name: dpo, beta: 0.2}
            here[step] = inside = {"name": inside}
        elif not isinstance(inside, dict):
            here[step] = inside = {}
        here = inside
    old = here.get(path[-1])
    here[path[-1]] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value


def _value(option: Mapping[str, Any], text: Any) -> Any:
    """What the words after an option mean, by the field's sort. Raises UsageError."""
    flag = option["flags"][0] if option["flags"] else option["metavar"]
    sort = option["sort"]
    if sort == "flag":
        return text
    if sort in ("list", "data"):
        out: list[Any] = []
        for item in [text] if isinstance(text, str) else text:
            value = _yaml(item, flag) if item[:1] in "[{" and item else item
            out += value if isinstance(value, list) else [value]
        return out[0] if sort == "data" and len(out) == 1 else out
    if option["optional"] and text in ("null", "none"):
        return None
    if sort == "choice" and text not in option["choices"]:
        raise UsageError(f"{flag}: {text!r} is unknown; accepted: {', '.join(option['choices'])}")
    if sort in ("int", "number"):
        try:
            return int(text) if sort == "int" else float(text)
        except ValueError:
            raise UsageError(f"{flag}: {text!r} is not a {'whole ' if sort == 'int' else ''}number") from None
    if sort in ("text", "choice"):
        return text
    if sort == "member" and text[:1] != "{":
        return {"name": text}
    return _yaml(text, flag)


def _yaml(text: str, flag: str) -> Any:
    from posttrain.jobs.recipe_text import parse as parse_yaml

    return parse_yaml(text, flag)


def version() -> str:
    """The installed version, or that of the source tree."""
    try:
        return metadata.version("posttrain")
    except metadata.PackageNotFoundError:
        return read_schema()["posttrain"]


def settle_environment() -> None:
    """What must be set before torch is imported; a value that the user gave stays.

    GOMP_SPINCOUNT: idle OpenMP threads stop spinning soon, which on few cores costs more than waking them.
    """
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}
    if "OMP_WAIT_POLICY" not in os.environ:
        quiet["GOMP_SPINCOUNT"] = "30000"
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


def execute(verb: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    """Build the job and run it. Returns the exit code."""
    from posttrain.core.recipe import build_spec

    module, _, attribute = verb["class"].partition(":")
    job = build_spec(getattr(import_module(module), attribute), values)
    from posttrain.jobs.job import Context

    context = Context(bars=sys.stderr.isatty())
    return int(getattr(job.run(context), "exit_code", 0))


def say(text: str) -> None:
    """An error on stderr, every line with our name in front."""
    for line in text.splitlines() or [""]:
        print(f"posttrain: {line}", file=sys.stderr)


def interrupted(values: Mapping[str, Any]) -> str:
    """What a person wants to know after Ctrl-C: what is kept, and how to go on."""
    out = values.get("out")
    if isinstance(out, str) and any(Path(out, "checkpoints").glob("*")):
        return f"interrupted; the same command goes on from the last checkpoint in {out}"
    if values.get("recipe"):
        return "interrupted; the same command reuses what is finished and goes on from the last checkpoint"
    return "interrupted; the same command starts again"


def failure(error: BaseException, values: Mapping[str, Any]) -> int | None:
    """The exit code of an error that a user can act on, after its line is printed; None for a fault of ours."""
    if isinstance(error, KeyboardInterrupt):
        say(interrupted(values))
        return 130
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; say nothing more
        return 0
    if type(error).__name__ == "NonFiniteGradient":
        say(str(error))
        return 3
    if type(error).__name__ == "OutOfMemoryError":
        say("the device has no memory left; lower --token-budget or --batch, or train with --lora")
        return 1
    if isinstance(error, ValueError | OSError):
        text = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:
            text = f"{error.filename}: {error.strerror}"
        say(text or type(error).__name__)
        return 2 if "unknown field" in text and type(error).__name__ == "RecipeError" else 1
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``posttrain``. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    schema = read_schema()
    values: dict[str, Any] = {}
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(overview(schema), flush=True)
            return 0
        if words[0] in ("-V", "--version"):
            print(f"posttrain {version()}")
            return 0
        name, values = parse(words, schema)
        settle_environment()
        return execute(schema["verbs"][name], values)
    except UsageError as error:
        say(f"{words[0]}: {error}" if words[0] in schema["verbs"] else str(error))
        return 2
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("POSTTRAIN_DEBUG") == "1":
            raise
        code = failure(error, values)
        if code is None:
            raise
        return code


if __name__ == "__main__":
    sys.exit(main())
