"""Files of tables: what is in them, as texts; how large they may be."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np

from guardclash.data.table import Column, Columns
from guardclash.errors import UserError
from guardclash.handed import open_regular, text_of

MOST_BYTES = 1 << 29
"""Of a table's file; its texts are held in memory, with about ten times as many bytes."""
LARGEST = 4 * 2**30
"""Bytes of a column."""
MOST_COLUMNS = 10_000
MOST_CELLS = 100_000_000
LONGEST = 10_000
"""Letters of a value: every value of a column is given the room of its longest."""


def read_columns(path: Path) -> Columns:
    """Reads a `.csv` file (comma, semicolon or tab; UTF-8) or a `.parquet` file.

    Raises:
        UserError: It cannot be read, is too large, has no rows, two columns of one name, or rows of different lengths.
    """
    names, rows = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        raise UserError("two columns have one name", where=path, got=twice)
    if "" in names:
        mend = "Name it in the first row, or leave it out; an index without a name tells nothing of other rows."
        raise UserError("a column without a name", where=path, got=f"column {names.index('') + 1}", mend=mend)
    if not rows:
        raise UserError("a table without rows", where=path)
    return {name: _column(name, values, path) for name, values in zip(names, zip(*rows, strict=True), strict=True)}


def _column(name: str, values: tuple[str, ...], path: Path) -> Column:
    longest = max(values, key=len)
    if len(longest) > LONGEST or 4 * len(longest) * len(values) > LARGEST:
        got, mend = f"{len(longest):,} letters, {longest[:20]!r}...", "Leave the column out: it holds texts."
        raise UserError(f"values of {name!r} are too long", where=path, got=got, mend=mend)
    if any("\0" in value for value in values):  # numpy would leave it out at the end of a text
        row = next(row for row, value in enumerate(values, 2) if "\0" in value)
        raise UserError(f"a value of {name!r} holds a NUL", where=f"{path}, row {row}", mend="Save the table as UTF-8.")
    return np.array(values, dtype=np.str_)


def _check_size(columns: int, rows: int, path: Path) -> None:
    if columns > MOST_COLUMNS or columns * rows > MOST_CELLS:
        got, allowed = f"{columns:,} columns, {rows:,} rows", f"{MOST_COLUMNS:,} columns, {MOST_CELLS:,} values in all"
        raise UserError("so large a table is not held in memory", where=path, got=got, allowed=allowed)


def _csv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        text = text_of(path, MOST_BYTES)
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
        rows = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        raise UserError(f"no UTF-8 text: {error}", where=path, mend="Save it as UTF-8.") from error
    except csv.Error as error:
        raise UserError(f"no table: {error}", where=path) from error
    except OSError as error:
        raise UserError(f"the table cannot be read: {error.strerror}", where=path) from error
    if not rows:
        raise UserError("an empty table", where=path)
    names = [name.strip() for name in rows[0][1]]
    _check_size(len(names), len(rows), path)
    for line, row in rows[1:]:
        if len(row) != len(names):
            got, allowed = f"{len(row)} values", f"{len(names)}, as there are columns"
            raise UserError("a row of another length", where=f"{path}, line {line}", got=got, allowed=allowed)
    return names, [[value.strip() for value in row] for _, row in rows[1:]]


def _parquet(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        mend = "Install it: pip install 'guardclash[tables]'; or save the table as .csv."
        raise UserError("a .parquet file needs the library pyarrow", where=path, mend=mend) from error
    try:
        with open_regular(path) as stream, pyarrow.parquet.ParquetFile(stream) as file:
            _check_size(file.metadata.num_columns, file.metadata.num_rows, path)
            table = file.read()
        _check_size(table.num_columns, table.num_rows, path)
        columns = [["" if value is None else str(value) for value in column.to_pylist()] for column in table.columns]
    except (OSError, ValueError, OverflowError, pyarrow.ArrowException) as error:
        raise UserError(f"no .parquet file, or a damaged one: {error}", where=path) from error
    return [str(name) for name in table.column_names], [list(row) for row in zip(*columns, strict=True)]
