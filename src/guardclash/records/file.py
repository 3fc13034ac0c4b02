"""Results files: one JSON object, a line for each cell, so that what changed can be seen line by line."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardclash.errors import UserError
from guardclash.records.fields import Misfit
from guardclash.records.packing import packed, unpacked
from guardclash.records.plain import MEND, results_from, to_plain
from guardclash.records.results import Results

SCHEMA = 2
LARGEST = 512 * 2**20
"""Bytes of a results file; ten thousand trials take five million."""
LARGEST_PICTURE = 16 * 2**20
"""Bytes of a picture; what records hold is far smaller."""
DIGITS = 64
"""Of the name of a picture."""
PICTURES = "pictures"
"""The folder of pictures that files share: beside a results file or up to two folders above."""


def results_text(results: Results, pictures: bool = True) -> str:
    """Results as the text of a file.

    Args:
        results: What is measured.
        pictures: Whether the file holds its pictures; else it names them (see `pictures_of`).
    """
    content = packed(to_plain(results))
    tables = {name: content.pop(name) for name in ("metrics", "plans", "pictures", "cells")}
    lines = [_line(cell) for cell in tables["cells"]]
    head = {"schema": SCHEMA, **content, "metrics": tables["metrics"], "plans": tables["plans"]}
    head["pictures"] = tables["pictures"] if pictures else {}
    parts = [f"{json.dumps(name)}:{_line(value)}" for name, value in head.items()]
    return "{\n" + ",\n".join(parts) + ',\n"cells":[\n' + ",\n".join(lines) + "\n]}\n"


def pictures_of(results: Results) -> dict[str, bytes]:
    """The pictures of results, PNG, by the name that their file calls them."""
    return {name: base64.b64decode(png) for name, png in packed(to_plain(results))["pictures"].items()}


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_results(path: str | Path) -> Results:
    """Reads a results file, of this schema or of an older one.

    Raises:
        UserError: If it is not there, is not one, is of a newer version, or is damaged; the message says where.
    """
    path = Path(path)
    if path.is_dir():
        path /= "results.json"
    content = _loaded(path)
    if not {"study", "cells"} <= set(content):
        raise UserError("not a results file of guardclash", where=path)
    if content.get("schema", 1) == SCHEMA:
        try:
            content = unpacked(content, lambda name: _picture(name, path.parent))
        except Misfit as error:
            raise error.told(path, MEND) from None
    return results_from(content, path)


def _loaded(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(_text(path), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, OSError, RecursionError, MemoryError) as error:
        why = "tables and lists too deep inside each other" if isinstance(error, RecursionError) else error
        raise UserError(f"a results file cannot be read: {why}", where=path, mend=MEND) from error
    schema = content.get("schema", 1) if isinstance(content, dict) else None
    if type(schema) is not int or schema < 1:
        raise Misfit(schema, "a table with a schema, 1 or more").told(path, MEND)
    if schema > SCHEMA:
        raise UserError("results of a newer version of guardclash", where=path, mend="Update guardclash.")
    return dict(content)


def _text(path: Path) -> str:
    """What stands in a file; one that never ends, or fills the memory, is not begun."""
    if not path.exists():
        raise UserError("no results yet", where=path, mend="Run the study first: guardclash run STUDY.")
    if not path.is_file():  # a pipe or a device may have no end
        raise UserError("not a file, so no results are read from it", where=path)
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)  # not by the size that the system tells, which may grow
    if len(content) > LARGEST:
        raise UserError("a results file is too large", where=path, allowed=f"at most {LARGEST // 2**20} MiB")
    return content.decode("utf-8-sig")  # a mark at the beginning is none of the content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A table; of two values under one name, one would be lost without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:60]!a} stands twice in a table")
    return found


def _no_number(token: str) -> Any:
    raise ValueError(f"{token} is no number of JSON")


def _picture(name: str, folder: Path) -> str | None:
    """A picture that files share, base64."""
    found = shared_pictures(folder)
    path = found / f"{name}.png" if found and name.isalnum() and len(name) <= DIGITS else None
    if path is None or not path.is_file() or path.stat().st_size > LARGEST_PICTURE:
        return None
    return base64.b64encode(path.read_bytes()).decode()


def shared_pictures(folder: Path) -> Path | None:
    """The folder of shared pictures that is nearest to a folder of results; None if there is none."""
    near = (folder, *folder.resolve().parents[:2])
    return next((one / PICTURES for one in near if (one / PICTURES).is_dir()), None)
