"""Rows from tables and collections: Parquet, `datasets` directories, folders of files, and data sets of the hub.

Nothing of a data set is executed: only its files are read. Leaves out pictures and sound (columns of such types go to facts as they come).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from posttrain.data.files import READERS, Bad, Found, kind_of

HUB = re.compile(r"hub:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?\Z")
SPLITS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
          "dev": "validation", "test": "test", "testing": "test", "eval": "test"}  # fmt: skip


def rows(source: str, split: str | None = None) -> Iterator[Found | Bad]:
    """Rows of a file, a directory or ``hub:owner/name[:config][@revision]``, in their order.

    split: which split of a directory or hub data set; ``train`` where nothing is said and there is one. Raises ValueError.
    """
    if source.startswith("hub:"):
        yield from _hub(source, split)
        return
    path = Path(source)
    if path.is_dir():
        yield from _directory(path, split)
    elif path.is_file():
        if split is not None:
            raise ValueError(f"{source}: a single file has no splits; drop split={split!r} or name the directory")
        yield from _file(path, path.name)
    else:
        hint = f"; for a data set of the hub write hub:{source}" if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else ""
        raise ValueError(f"{source}: no such file or directory{hint}")


def _file(path: Path, shown: str) -> Iterator[Found | Bad]:
    form = kind_of(path)
    if form == "parquet":
        return _parquet(path, shown)
    if form not in READERS:
        raise ValueError(
            f"{path}: format {path.suffix or '(no ending)'} is not read; accepted: .jsonl, .json, .csv, .tsv, .txt (also .gz), .parquet"
        )
    return READERS[form](path, shown)


def _parquet(path: Path, shown: str) -> Iterator[Found | Bad]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        names = table.schema_arrow.names
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"column {twice[0]!r} stands twice; rename one of them")
        number = 0
        for batch in table.iter_batches(1024):
            for row in batch.to_pylist():
                number += 1
                yield Found(_filled(row), f"{shown}:{number}")
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise ValueError(f"{shown}: cannot be read as Parquet ({line}); write it again") from None


def _filled(value: Any) -> Any:
    """A table's row without the nulls that a table adds inside objects for keys that other rows have."""
    if isinstance(value, dict):
        return {k: _inner(v) for k, v in value.items()}
    return value


def _inner(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _inner(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_inner(v) for v in value]
    return value


def _directory(path: Path, split: str | None) -> Iterator[Found | Bad]:
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        yield from _saved(path, split)
        return
    found: dict[str, list[Path]] = {}
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if (
            not file.is_file()
            or any(p.startswith(".") for p in inside.parts)
            or kind_of(file) not in (*READERS, "parquet")
        ):
            continue
        if kind_of(file) == "txt" and file.stem.lower() in ("readme", "license", "licence", "notice"):
            continue
        word = re.split(r"[-_.]", file.name.lower())[0]
        folder = next((SPLITS[p.lower()] for p in inside.parts[:-1] if p.lower() in SPLITS), "")
        found.setdefault(SPLITS.get(word) or folder or "", []).append(file)
    if not found:
        raise ValueError(
            f"{path}: the directory holds no data files; accepted: .jsonl, .json, .csv, .tsv, .txt, .parquet or datasets' save_to_disk"
        )
    for file in found[_choose(found, split, str(path))]:
        yield from _file(file, file.relative_to(path).as_posix())


def _choose(found: Any, split: str | None, shown: str) -> str:
    """The split that was asked for, the only one, or train."""
    names = list(found)
    if split is not None:
        wanted = split if split in names else SPLITS.get(split, split)
        if wanted not in names:
            raise ValueError(
                f"{shown}: no split {split!r}; found: {', '.join(n or '(files without a split name)' for n in names)}"
            )
        return wanted
    if len(names) == 1:
        return names[0]
    if "train" in names:
        return "train"
    raise ValueError(
        f"{shown}: several splits ({', '.join(n or '(no split name)' for n in names)}); name one with split="
    )


def _saved(path: Path, split: str | None) -> Iterator[Found | Bad]:
    import datasets

    try:
        held = datasets.load_from_disk(str(path))
    except Exception as error:
        raise ValueError(
            f"{path}: cannot be read as a datasets directory ({str(error).splitlines()[0]}); save it again"
        ) from None
    name = ""
    if isinstance(held, datasets.DatasetDict):
        name = _choose(held, split, str(path))
        held = held[name]
    shown = f"{path.name}/{name}" if name else path.name
    for number, row in enumerate(held, 1):
        yield Found(_filled(dict(row)), f"{shown}:{number}")


def _hub(source: str, split: str | None, load: Callable[..., Any] | None = None) -> Iterator[Found | Bad]:
    match = HUB.match(source)
    if match is None:
        raise ValueError(f"{source}: expected hub:owner/name, hub:owner/name:config or hub:owner/name@revision")
    if load is None:
        import datasets

        load = datasets.load_dataset
    wanted = {k: v for k, v in (("name", match["config"]), ("revision", match["revision"])) if v}
    number = 0
    try:
        for number, row in enumerate(load(match["name"], split=split or "train", streaming=True, **wanted), 1):
            yield Found(_filled(dict(row)), f"{match['name']}/{split or 'train'}:{number}")
    except GeneratorExit:
        raise
    except Exception as error:  # the client raises many types; all mean that the data cannot be had
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{source}: cannot be read after row {number} ({line}); check the name, the split and the network"
        ) from None
