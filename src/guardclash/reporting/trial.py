"""One trial, for reading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text
from rich.tree import Tree

from guardclash.errors import UserError
from guardclash.reporting.screen import literal
from guardclash.studies.store import read_json
from guardclash.words import cut, shown

TRACE = 20_000
"""Letters of a failure that are shown: many frames of a traceback."""


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
    error = [Text(shown(f"failed:\n{cut(read_json(failure)['error'], TRACE)}"))] if failure.is_file() else []
    if fitting[0] not in finished:
        return Group(*error)
    path = folder / "trials" / fitting[0]
    record = read_json(path / "record.json")
    history = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
    facts = {name: record[name] for name in ("seed", "seconds", "finished", "execution", "environment")}
    if record.get("data"):
        facts["kept images"] = record["data"]
    return Group(
        *error,
        tree(f"trial {fitting[0]}", facts),
        tree("plan", record["plan"]),
        tree("measurements", _measurements(fitting[0], folder)),
        tree("mean loss by epoch", {f"epoch {line.pop('epoch')}": line for line in history}),
    )


def _measurements(key: str, folder: Path) -> dict[str, Any]:
    # Names tell the seed only; so all of that seed are read, and those of other trials left out below.
    found = [read_json(path) for path in sorted((folder / "measurements").glob(f"*-{key.rsplit('-', 1)[1]}.json"))]
    return {
        f"{entry['measure']['type']} ({number})": entry["metrics"]
        for number, entry in enumerate(found, 1)
        if entry["trial"] == key
    }


def tree(title: str, content: Any) -> Tree:
    """JSON data as an indented tree."""
    branch = Tree(literal(title), guide_style="dim")
    _grow(branch, content)
    return branch


def _grow(branch: Tree, content: Any) -> None:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in items:
        if isinstance(value, dict | list) and value and not _flat(value):
            kind = value.get("type", "") if isinstance(value, dict) else ""
            _grow(branch.add(literal(f"{name}: {kind}" if kind else str(name))), value)
        elif name != "type":
            branch.add(literal(f"{name}: {_line(value)}"))


def _flat(value: dict[str, Any] | list[Any]) -> bool:
    return not any(isinstance(item, dict | list) for item in (value.values() if isinstance(value, dict) else value))


def _line(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{name}={item}" for name, item in value.items() if name != "type")
        return f"{value['type']}({inside})" if "type" in value else inside
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
