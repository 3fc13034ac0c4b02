"""Results files: one JSON object, a line for each cell, so that what changed can be seen line by line."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardclash.errors import UserError
from guardclash.records.packing import packed, unpacked
from guardclash.records.plain import DAMAGE, results_from, to_plain
from guardclash.records.results import Results

SCHEMA = 2
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
    if not path.is_file():
        raise UserError("no results yet", where=path, mend="Run the study first: guardclash run STUDY.")
    content = _loaded(path)
    if not {"study", "cells"} <= set(content):
        raise UserError("not a results file of guardclash", where=path)
    if content.get("schema", 1) == SCHEMA:
        try:
            content = unpacked(content, lambda name: _picture(name, path.parent))
        except DAMAGE as error:
            what = f"a damaged results file: {type(error).__name__}: {error}"
            raise UserError(what, where=path, mend="Run the study again: it is made anew.") from error
    return results_from(content, path)


def _loaded(path: Path) -> Mapping[str, Any]:
    mend = "Run the study again: it is made anew."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"a results file cannot be read: {error}", where=path, mend=mend) from error
    schema = content.get("schema", 1) if isinstance(content, dict) else None
    if type(schema) is not int or schema < 1:
        raise UserError("a damaged results file", where=path, got=schema, mend=mend)
    if schema > SCHEMA:
        raise UserError("results of a newer version of guardclash", where=path, mend="Update guardclash.")
    return dict(content)


def _picture(name: str, folder: Path) -> str | None:
    """A picture that files share, base64."""
    found = shared_pictures(folder)
    path = found / f"{name}.png" if found and name.isalnum() else None
    return base64.b64encode(path.read_bytes()).decode() if path and path.is_file() else None


def shared_pictures(folder: Path) -> Path | None:
    """The folder of shared pictures that is nearest to a folder of results; None if there is none."""
    near = (folder, *folder.resolve().parents[:2])
    return next((one / PICTURES for one in near if (one / PICTURES).is_dir()), None)
