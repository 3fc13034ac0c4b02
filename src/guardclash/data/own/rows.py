"""A table that somebody brings as a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from guardclash.data.examples import Examples
from guardclash.data.own.arrays import set_apart
from guardclash.data.own.brought import Brought
from guardclash.data.own.labels import Labels, coded
from guardclash.data.table import (
    MISSING,
    SHOWN,
    Columns,
    classes_of,
    encoding_of,
    labels_of,
    notes_of,
    number_of,
    taken,
    without,
)
from guardclash.errors import UserError


def from_table(
    train: Columns, test: Columns | None, target: str, group: str | None, categories: Sequence[str], where: str
) -> Brought:
    """A data set of the rows of a table.

    Args:
        train: All rows, or those to train on.
        test: Those to judge on; None: some of the training rows are set apart.
        target: The column that is to be told.
        group: The column that says the group of a row; it stays an input.
        categories: Columns that are categories although they hold numbers.
        where: The table, for messages.

    Raises:
        UserError: A column is missing, or a value is not what it must be.
    """
    rows, told = without(train, target, where)
    _check_kinds(rows, categories, where)
    classes = classes_of(told, target, where)
    y = labels_of(told, classes, target, where)
    notes: list[str] = []
    if test is None:
        rest, apart, said = set_apart(y)
        rows, tests = taken(rows, rest), taken(rows, apart)
        labels, notes = {"train": y[rest], "test": y[apart]}, [said]
    else:
        tests, other = without(test, target, f"{where}, test")
        more = [name for name in tests if name not in rows]
        notes += [f"Left out, as only test rows have it: {name}." for name in more]
        labels = {"train": y, "test": labels_of(other, classes, target, f"{where}, test")}
    encoding = encoding_of(rows, categories, where)
    splits = {"train": rows, "test": tests}
    encoded = {split: encoding.encode(columns, f"{where}, {split}") for split, columns in splits.items()}
    about = _groups(splits, group, where, notes)
    Labels(len(classes), labels, names=classes).check_test(labels["test"], where)
    made = {split: Examples(encoded[split], labels[split], about.get(split, {})) for split in splits}
    head = f"{target!r} is told: {', '.join(classes[:SHOWN])}{', ...' if len(classes) > SHOWN else ''}."
    every = (head, *notes_of(encoding, rows, {"test": tests}), *notes)
    return Brought(encoding.space, len(classes), made, every, names=classes)


def _check_kinds(columns: Columns, categories: Sequence[str], where: str) -> None:
    """That no column is a category because of a few values that should have been numbers.

    It wants all rows, before any are set apart: what a column is must not depend on where its odd value falls.

    Args:
        columns: All rows of a table, without the target.
        categories: Columns that are categories although they hold numbers.
        where: The table, for messages.

    Raises:
        UserError: More than half of a column's values are numbers, and not all.
    """
    for name, column in columns.items():
        there = [(row, value) for row, value in enumerate(column.tolist(), 2) if value.lower() not in MISSING]
        odd = [(row, value) for row, value in there if number_of(value) is None]
        if odd and name not in categories and 2 * len(odd) < len(there):
            (row, value), what = odd[0], f"{name!r} holds numbers, and {len(odd):,} of {len(there):,} values are none"
            mend = f'Mend them, leave them empty, or say categories = ["{name}"].'
            raise UserError(what, where=f"{where}, row {row}", got=value, mend=mend)


def _groups(
    splits: Mapping[str, Columns], group: str | None, where: str, notes: list[str]
) -> dict[str, dict[str, NDArray[np.int64]]]:
    if group is None:
        return {}
    names, codes = coded([without(columns, group, where)[1] for columns in splits.values()])
    notes.append(f"Groups by {group!r}, which stays an input: {', '.join(names[:SHOWN])}.")
    return {split: {"group": one} for split, one in zip(splits, codes, strict=True)}
