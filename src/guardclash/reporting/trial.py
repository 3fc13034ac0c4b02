"""One trial, for reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from guardclash.errors import UserError
from guardclash.studies.store import read_json

FACTS = "seed", "seconds", "finished", "execution", "environment"
"""What stands at the top of a page, from the record."""


def trial_page(prefix: str, folder: Path) -> Group:
    """A finished trial's plan, measurements, losses and circumstances, or why one failed.

    Args:
        prefix: The beginning of its key; must fit one trial only.
        folder: The store.

    Raises:
        UserError: If no trial or several fit.
    """
    finished = {path.name for path in (folder / "trials").glob("*")}
    keys = sorted(finished | {path.stem for path in (folder / "failures").glob("*.json")})
    # A whole key is meant as it is: that of seed 1 is also the beginning of that of seed 10.
    fitting = [key for key in keys if key == prefix] or [key for key in keys if key.startswith(prefix)]
    if len(fitting) != 1:
        found = f"{len(fitting)} of the {len(keys)} trials fit" if fitting else f"none of the {len(keys)} trials fits"
        raise UserError(f"{found}", where=folder, got=prefix, mend="`guardclash status STUDY` lists the keys.")
    failure = folder / "failures" / f"{fitting[0]}.json"  # also of a finished trial, if measuring failed
    error = [Text(f"failed:\n{_field(failure, read_json(failure), 'error')}")] if failure.is_file() else []
    if fitting[0] not in finished:
        return Group(*error)
    path = folder / "trials" / fitting[0]
    record = read_json(path / "record.json")
    facts = {name: _field(path / "record.json", record, name) for name in FACTS}
    if record.get("data"):
        facts["kept images"] = record["data"]
    return Group(
        *error,
        tree(f"trial {fitting[0]}", facts),
        tree("plan", _field(path / "record.json", record, "plan")),
        tree("measurements", _measurements(fitting[0], folder)),
        tree("mean loss by epoch", _history(path / "history.jsonl")),
    )


def _field(path: Path, content: dict[str, Any], name: str) -> Any:
    if name not in content:
        raise UserError("a damaged result", where=path, allowed=f"a table with {name!r}")
    return content[name]


def _history(path: Path) -> dict[str, Any]:
    """Mean losses by epoch; what cannot be read is said, since the trial does not hang on it."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {f"epoch {line['epoch']}": {name: line[name] for name in line if name != "epoch"} for line in lines}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return {"cannot be read": f"{path.name}: {type(error).__name__}"}


def _measurements(key: str, folder: Path) -> dict[str, Any]:
    # Names tell the seed only; so all of that seed are read, and those of other trials left out below.
    paths = sorted((folder / "measurements").glob(f"*-{key.rsplit('-', 1)[1]}.json")) if "-" in key else []
    found = [(path, read_json(path)) for path in paths]
    return {
        f"{_type(path, entry)} ({number})": _field(path, entry, "metrics")
        for number, (path, entry) in enumerate(found, 1)
        if entry.get("trial") == key  # what names no trial is not of this one
    }


def _type(path: Path, entry: dict[str, Any]) -> str:
    measure = _field(path, entry, "measure")
    return str(measure.get("type", "?")) if isinstance(measure, dict) else "?"


def tree(title: str, content: Any) -> Tree:
    """JSON data as an indented tree."""
    branch = Tree(escape(title), guide_style="dim")
    _grow(branch, content)
    return branch


def _grow(branch: Tree, content: Any) -> None:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in items:
        if isinstance(value, dict | list) and value and not _flat(value):
            kind = value.get("type", "") if isinstance(value, dict) else ""
            _grow(branch.add(escape(f"{name}: {kind}" if kind else str(name))), value)
        elif name != "type":
            branch.add(escape(f"{name}: {_line(value)}"))


def _flat(value: dict[str, Any] | list[Any]) -> bool:
    return not any(isinstance(item, dict | list) for item in (value.values() if isinstance(value, dict) else value))


def _line(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{name}={item}" for name, item in value.items() if name != "type")
        return f"{value['type']}({inside})" if "type" in value else inside
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
