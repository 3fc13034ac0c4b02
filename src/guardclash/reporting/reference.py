"""Numbers that somebody published, to stand beside ours: read from a JSON file that a study names. No torch."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from guardclash.checks import LARGEST_WHOLE
from guardclash.errors import UserError
from guardclash.handed import text_of
from guardclash.records.cells import Cell, Named
from guardclash.studies.study import Study


class Published(BaseModel):
    """One published number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    table: str
    """Where it is printed."""
    dataset: str
    combination: dict[str, dict[str, Any]]
    """Mechanisms with those options by which the publication tells their variants apart."""
    suspect: dict[str, Any] | None = None
    """Kind and options of the suspect whose number it is; None: of the combination's own model."""
    metric: str
    """Its name, or "verdict": the conclusion on the combination as a whole."""
    mean: float | None = None
    std: float | None = Field(None, ge=0)
    below: float | None = None
    """Printed as a bound instead of a mean."""
    n: int | None = Field(None, ge=1, le=LARGEST_WHOLE)
    """Replicates."""
    conflict: bool | None = None
    """What the publication concludes from it; None: nothing."""
    note: str = ""

    def fits(self, cell: Cell) -> bool:
        """Whether a cell of a study measures the same: the same mechanisms, in the published variant."""
        return (
            cell.recipe.name == self.dataset
            and len(cell.combination) == len(self.combination)
            and all(_fits(self.combination.get(named.name), named) for named in cell.combination)
            and (self.suspect is None) == (cell.suspect is None)
            and (cell.suspect is None or _suspected(self.suspect or {}, cell.suspect.kind))
        )


_NUMBERS = TypeAdapter(tuple[Published, ...])
VARIANTS = ("on", "placement")
"""Options that make a variant of their own; a number for none of them is not one for a relaxed deployment."""


def _fits(published: dict[str, Any] | None, named: Named) -> bool:
    if published is None:
        return False
    options = _plain(named)
    # What the publication does not name may be anything; a variant that it does not name must not be there.
    asked = {name: value for name, value in options.items() if name in {*VARIANTS, *published}}
    return asked == published


def _suspected(published: dict[str, Any], kind: Named) -> bool:
    return published == {"kind": kind.name, **_plain(kind)}


def _plain(named: Named) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in named.options}


def reference_of(study: Study) -> tuple[Published, ...]:
    """The published numbers that a study names, of those tables that it names.

    Raises:
        UserError: If it names none, they cannot be read, or there is no such table.
    """
    if study.reference is None:
        mend = 'Name a file in the study: reference = "paper.json". See docs/studies.md.'
        raise UserError("the study names no published numbers", where=study.name, mend=mend)
    numbers = read_reference(study.reference)
    tables = {published.table for published in numbers}
    for table in study.reference_tables:
        if table not in tables:
            where = f"{study.name}: reference_tables"
            raise UserError("no such published table", where=where, got=table, allowed=", ".join(sorted(tables)))
    return tuple(one for one in numbers if not study.reference_tables or one.table in study.reference_tables)


def read_reference(path: Path) -> tuple[Published, ...]:
    """Reads published numbers.

    Raises:
        UserError: If the file is missing or is not a list of such numbers; the message says where.
    """
    try:
        text = text_of(path)
        numbers = _NUMBERS.validate_json(text, strict=True)
        json.loads(text, object_pairs_hook=partial(_each_once, path))
        return numbers
    except OSError as error:
        raise UserError(f"the published numbers cannot be read: {error.strerror}", where=path) from error
    except UnicodeDecodeError as error:
        raise UserError(f"no UTF-8 text: {error}", where=path, mend="Save it as UTF-8.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{path}: {'.'.join(str(part) for part in first['loc'])}" if first["loc"] else str(path)
        if first["type"] == "json_invalid":
            raise UserError(f"not a JSON file: {first['ctx']['error']}", where=path) from None
        raise UserError(first["msg"][:1].lower() + first["msg"][1:], where=where, got=first["input"]) from None


def _each_once(path: Path, pairs: list[tuple[str, Any]]) -> None:
    """Of two values of one key, the first one would be lost."""
    twice = next((key for key, times in Counter(key for key, _ in pairs).items() if times > 1), None)
    if twice is not None:
        raise UserError("a key stands twice", where=path, got=twice)
