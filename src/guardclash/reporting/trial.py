"""One trial, for reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text
from rich.tree import Tree

from guardclash.errors import UserError
from guardclash.reporting.screen import literal
from guardclash.studies.store import Store
from guardclash.words import cut, shown

TRACE = 20_000
"""Letters of a failure that are shown: many frames of a traceback."""

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
    store = Store(folder)
    finished = store.trial_keys()
    keys = sorted(finished | store.failure_keys())
    # A whole key is meant as it is: that of seed 1 is also the beginning of that of seed 10.
    fitting = [key for key in keys if key == prefix] or [key for key in keys if key.startswith(prefix)]
    if len(fitting) != 1:
        found = f"{len(fitting)} of the {len(keys)} trials fit" if fitting else f"none of the {len(keys)} trials fits"
        raise UserError(f"{found}", where=folder, got=prefix, mend="`guardclash status STUDY` lists the keys.")
    parts = list(_parts(fitting[0], store))
    damage = {name: why for name, why in store.damaged.items() if fitting[0] in name or name.startswith("measurements")}
    told = [tree("damaged, to be made anew by the next run", damage)] if damage else []
    return Group(*told, *parts)


def _parts(key: str, store: Store) -> Iterator[Any]:
    failure, record = store.failure(key), store.record(key)
    if failure:  # also of a finished trial, if measuring failed
        yield Text(shown(f"failed:\n{cut(failure['error'], TRACE)}"))
    if record is None:
        return
    facts = {name: record[name] for name in FACTS}
    if record.get("data"):
        facts["kept images"] = record["data"]
    yield tree(f"trial {key}", facts)
    yield tree("plan", record["plan"])
    yield tree("measurements", _measurements(key, store))
    losses = [{**line, "epoch": int(line.get("epoch", 0))} for line in store.history(key)]
    yield tree("mean loss by epoch", {f"epoch {line.pop('epoch')}": line for line in losses})


def _measurements(key: str, store: Store) -> dict[str, Any]:
    # Names tell the seed only; so all of that seed are read, and those of other trials left out below.
    ending = f"-{key.rsplit('-', 1)[1]}"
    keys = (name for name in sorted(store.measurement_keys()) if name.endswith(ending))
    found = [one for name in keys if (one := store.measurement(name))]
    return {
        f"{entry['measure'].get('type')} ({number})": entry["metrics"]
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
