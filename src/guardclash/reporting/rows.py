"""The measured values as one tidy table, a row per value: as CSV, as Parquet and as a pandas DataFrame."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardclash.errors import UserError
from guardclash.records.cells import Cell, braces
from guardclash.records.results import CellRecord, Results
from guardclash.reporting.findings import Findings, find
from guardclash.studies.held import held
from guardclash.studies.study import Study
from guardclash.words import shown

if TYPE_CHECKING:
    from pandas import DataFrame

TEXT, WHOLE, FLAG, NUMBER = "text", "whole number", "flag", "number"
RECIPE = {
    "dataset": TEXT,
    "scale": TEXT,
    "examples": WHOLE,
    "test_examples": WHOLE,
    "epochs": WHOLE,
    "protected_epochs": WHOLE,
    "model": TEXT,
    "norm": TEXT,
    "parameters": WHOLE,
    "batch_size": WHOLE,
    "optimizer": TEXT,
    "learning_rate": NUMBER,
    "augmentation": TEXT,
}
"""Fields of a recipe that are columns; of `examples`, nothing means all of the split."""
COLUMNS = {
    "study": TEXT,
    "recipe": TEXT,
    **RECIPE,
    "combination": TEXT,
    "options": TEXT,
    "suspect": TEXT,
    "stolen": FLAG,
    "mechanism": TEXT,
    "metric": TEXT,
    "symbol": TEXT,
    "seed": WHOLE,
    "value": NUMBER,
    "trial": TEXT,
    "plan": TEXT,
    "warnings": TEXT,
}
"""Columns and their types, in order; docs/studies.md says what they hold. Each may hold nothing."""
PANDAS = {TEXT: "string", WHOLE: "Int64", FLAG: "boolean", NUMBER: "float64"}  # numpy's have no missing integer or flag
FORMULA = "=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"
"""Whatever a text begins with that a spreadsheet takes for a formula, the wide forms of these signs among it."""
MEND = "Install it: pip install {0}, or guardclash with its extra: guardclash[tables]."


def rows(found: Findings) -> Iterator[dict[str, Any]]:
    """A row for every value that was measured of what the study asks for, in its order; keys are `COLUMNS`."""
    study = found.study
    for cell in (*study.cells(), *study.suspect_cells()):
        entry = found.results.cell(cell)
        if entry:
            yield from _cell_rows(study, cell, entry)


def _cell_rows(study: Study, cell: Cell, entry: CellRecord) -> Iterator[dict[str, Any]]:
    labels = {named.text: study.label(named) for named in study.mechanisms()}  # a measure has none and goes by its name
    symbols = {(of, metric.name): metric.symbol for of, metrics in entry.measures.items() for metric in metrics}
    about = {
        "study": study.name,
        "recipe": study.recipe_label(cell.recipe),
        **{field: _typed(entry.recipe.get(field), kind) for field, kind in RECIPE.items()},
        "combination": braces(map(study.label, cell.combination)),
        "options": json.dumps([named.to_dict() for named in entry.combination], ensure_ascii=False),
        "suspect": study.suspect_label(cell.suspect) if cell.suspect else None,
        "stolen": entry.stolen,
        "plan": entry.plan,
    }
    for trial in entry.among(study.seeds(cell)):
        for of, measurement in trial.measurements.items():
            for metric, value in measurement.values.items():
                found = {
                    **about,
                    "mechanism": measurement.of and labels.get(of, measurement.of.name),  # empty of the utility
                    "metric": metric,
                    "symbol": symbols.get((of, metric), metric),
                    "seed": trial.seed,
                    "value": value,
                    "trial": trial.key,
                    "warnings": "; ".join(measurement.warnings) or None,
                }
                yield {column: found[column] for column in COLUMNS}  # in the order of the head, which CSV relies on


def _typed(value: Any, kind: str) -> Any:
    """A recipe's field; a learning rate of 1 is a whole number in records."""
    return float(value) if kind == NUMBER and value is not None else value


def to_csv(found: Findings) -> str:
    """The table as CSV after RFC 4180; numbers are read back as they were, an empty field is nothing.

    Texts are fit for any program that opens them: letters without a shape are marks, and what a spreadsheet would
    compute begins with an apostrophe.
    """
    content = io.StringIO(newline="")
    writer = csv.writer(content, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows(found):
        writer.writerow(map(_field, row.values()))
    return content.getvalue()


def _field(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    text = shown(value)
    return "'" * text.startswith(FORMULA) + text


def to_parquet(found: Findings) -> bytes:
    """The table as a Parquet file, with types.

    Raises:
        UserError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError("Parquet needs pyarrow, which is not installed", mend=MEND.format("pyarrow")) from error
    types = {TEXT: pyarrow.string(), WHOLE: pyarrow.int64(), FLAG: pyarrow.bool_(), NUMBER: pyarrow.float64()}
    # Given, not guessed from the rows: a column without values would have another type than in other studies.
    schema = pyarrow.schema([(column, types[kind]) for column, kind in COLUMNS.items()])
    content = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows(found)), schema), content)
    return bytes(content.getvalue())


def frame(study: Study, results: Results | str | Path = "runs") -> DataFrame:
    """The table as a pandas DataFrame, with types; what is not there is missing, never 0 or "".

    Args:
        study: What was asked.
        results: What is measured so far, or the store's folder to read it from.

    Raises:
        UserError: pandas is not installed, or there are no results.

    Example, after `guardclash run studies/digits.toml`::

        frame(read_study("studies/digits.toml")).groupby(["combination", "symbol"])["value"].mean()
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise UserError("a DataFrame needs pandas, which is not installed", mend=MEND.format("pandas")) from error
    if not isinstance(results, Results):
        found = held(study, results)
        if found is None:
            raise UserError("no results yet", where=results, mend="Run the study first: guardclash run STUDY.")
        results = found
    types = {column: PANDAS[kind] for column, kind in COLUMNS.items()}
    return DataFrame(list(rows(find(study, results))), columns=list(COLUMNS)).astype(types)
