"""TOML files that may extend others."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardclash.errors import UserError
from guardclash.handed import path_in, text_of
from guardclash.studies.limits import EXTENDED, check_form, check_keys


def read_table(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file's table over that of the file which it extends; lists are taken whole from one of them.

    Args:
        path: A TOML file, with or without a key `extends`: the path of another, relative to this one.
        seen: The files that extend this one.

    Raises:
        UserError: If a file is missing, is not TOML or too large, one extends itself, or too many extend each other.
    """
    table = _table(path)
    base = table.get("extends")
    if not isinstance(base, str):
        return table  # what is wrong with it is said with all other mistakes
    other = path_in(path.parent, base, f"{path}: extends")
    if other in seen:
        raise UserError("a study file extends itself", where=path, got=base)
    if len(seen) >= EXTENDED:
        raise UserError("too many files extend each other", where=path, allowed=f"at most {EXTENDED}")
    return _over(read_table(other, (*seen, path.resolve())), table)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        name: _over(below[name], above[name]) for name in below.keys() & above.keys() if _tables(below, above, name)
    }
    return {**below, **above, **both}


def _tables(below: Mapping[str, Any], above: Mapping[str, Any], name: str) -> bool:
    return isinstance(below[name], dict) and isinstance(above[name], dict)


def _table(path: Path) -> dict[str, Any]:
    try:
        text = text_of(path)
        check_keys(text, path)
        table = tomllib.loads(text)
    except RecursionError as error:
        raise UserError("nested too deeply", where=path) from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(
            "no such study file",
            got=str(path),
            mend="Give the path of a TOML file, such as studies/digits.toml.",
        ) from error
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise UserError(f"not a TOML file: {error}", where=path) from error
    except OSError as error:
        raise UserError(f"the study file cannot be read: {error.strerror}", where=path) from error
    check_form(table, path)
    return table
