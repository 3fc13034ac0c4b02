"""Tables: columns of texts become rows of numbers, as their training rows say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardclash.data.space import Rows
from guardclash.errors import UserError, suggestion

Column = NDArray[np.str_]
Columns = Mapping[str, Column]
"""By name, in order: a text for each row."""
MISSING = frozenset(("", "?", "na", "n/a", "nan", "null", "none"))
"""What stands where a value is missing, in lower case."""
MOST = 1_000
"""Values of a category; one with more is a name or a number of its row."""
CLASSES = 1_000
"""Values of a target; more are numbers."""
SHOWN = 8


@dataclass(frozen=True)
class Numbers:
    """A column of numbers."""

    name: str
    mean: float
    deviation: float
    """1 where the column never changes."""

    def encode(self, column: Column, where: str) -> NDArray[np.float64]:
        """Scaled, [N, 1]; a value that is missing becomes the mean.

        Raises:
            UserError: A value is no number, or so far from those of the training rows that no float32 holds it.
        """
        values = [self.mean if value.lower() in MISSING else number_of(value) for value in column.tolist()]
        wrong = next((row for row, value in enumerate(values) if value is None), None)
        if wrong is not None:
            place, mend = f"{where}, row {wrong + 2}", f'Mend it, or say categories = ["{self.name}"].'
            raise UserError(f"a value of {self.name!r} is no number", where=place, got=str(column[wrong]), mend=mend)
        with np.errstate(over="ignore"):
            scaled = (np.array(values, np.float64) - self.mean) / self.deviation
        far = np.flatnonzero(np.abs(scaled) > np.finfo(np.float32).max)
        if len(far):
            place, what = f"{where}, row {far[0] + 2}", f"a value of {self.name!r} is too far from those in training"
            raise UserError(what, where=place, got=str(column[far[0]]))
        return scaled[:, None]


@dataclass(frozen=True)
class Category:
    """A column of values without an order."""

    name: str
    values: tuple[str, ...]
    """Those of the training rows, in order."""

    def encode(self, column: Column) -> NDArray[np.float64]:
        """[N, values], 1 in the column of its value; nowhere for a value that no training row has."""
        return (column[:, None] == np.array(self.values)[None]).astype(np.float64)


def number_of(value: str) -> float | None:
    """The finite number that a text says; None: it says none."""
    try:
        found = float(value)
    except ValueError:
        return None
    return found if np.isfinite(found) else None


@dataclass(frozen=True, eq=False)
class Encoding:
    """How rows become numbers: as the training rows of a table say."""

    numbers: tuple[Numbers, ...]
    categories: tuple[Category, ...]

    @property
    def space(self) -> Rows:
        """What a row is: numbers first, then the values of each category."""
        values = [f"{one.name}={value}" for one in self.categories for value in one.values]
        sizes = tuple((one.name, len(one.values)) for one in self.categories)
        return Rows((*(one.name for one in self.numbers), *values), sizes)

    def encode(self, columns: Columns, where: str) -> NDArray[np.float32]:
        """Rows [N, columns of `space`].

        Raises:
            UserError: A column is missing, or a value is no number.
        """
        for name in (*(one.name for one in self.numbers), *(one.name for one in self.categories)):
            if name not in columns:
                raise UserError(f"there is no column {name!r}", where=where, mend=suggestion(name, columns))
        parts = [one.encode(columns[one.name], where) for one in self.numbers]
        parts += [one.encode(columns[one.name]) for one in self.categories]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def unknown(self, columns: Columns) -> int:
        """How many rows have a value that no training row has."""
        new = [~np.isin(columns[one.name], one.values) for one in self.categories]
        return int(np.any(new, axis=0).sum()) if new else 0


def encoding_of(train: Columns, categories: Sequence[str], where: str) -> Encoding:
    """What each column is: a number if all of its values are numbers, else a category.

    Args:
        train: The training rows, without the target.
        categories: Columns that are categories although they hold numbers.
        where: The table, for messages.

    Raises:
        UserError: A named column is not there, nothing is left, or a category has too many values.
    """
    for name in categories:
        if name not in train:
            raise UserError(f"there is no column {name!r}", where=where, mend=suggestion(name, train))
    numbers, others = [], []
    for name, column in train.items():
        there = [value for value in column.tolist() if value.lower() not in MISSING]
        found = [number_of(value) for value in there]
        if there and name not in categories and None not in found:
            numbers.append(_scaled(name, np.array(found, np.float64), where))
            continue
        distinct = tuple(np.unique(column).tolist())
        if len(distinct) > MOST:
            mend = "Leave the column out of the table: it names rows, and tells nothing of others."
            raise UserError(f"{name!r} has too many values for a category", where=where, got=len(distinct), mend=mend)
        others.append(Category(name, distinct))
    if not numbers and not others:
        raise UserError("a table without columns beside the target", where=where)
    return Encoding(tuple(numbers), tuple(others))


def _scaled(name: str, values: NDArray[np.float64], where: str) -> Numbers:
    if values.min() == values.max():  # its deviation is not always 0: the mean of many 0.1 is not quite 0.1
        return Numbers(name, float(values[0]), 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = float(values.mean()), float(values.std())
    if not (np.isfinite(mean) and np.isfinite(deviation) and deviation > 0):
        got = f"{values.min():g} to {values.max():g}"
        raise UserError(f"{name!r} has numbers that cannot be scaled", where=where, got=got)
    return Numbers(name, mean, deviation)


def notes_of(found: Encoding, train: Columns, others: Mapping[str, Columns]) -> tuple[str, ...]:
    """What is done to the rows, in sentences."""
    notes, size = [], len(next(iter(train.values())))
    if found.numbers:
        how = f"scaled by mean and standard deviation of {size:,} training rows"
        notes.append(f"{len(found.numbers)} columns of numbers, {how}.")
    still = [one.name for one in found.numbers if not one.encode(train[one.name], "train").any()]
    if still:
        notes.append(f"All training rows have one value of {', '.join(still)}, which tells nothing.")
    if found.categories:
        values = sum(len(one.values) for one in found.categories)
        notes.append(f"{len(found.categories)} categories as {values} columns, one for each of their values.")
    every = {"train": train, **others}
    missing = {
        one.name: sum(value.lower() in MISSING for columns in every.values() for value in columns[one.name].tolist())
        for one in found.numbers
    }
    filled = {name: count for name, count in missing.items() if count}
    notes += [f"{count:,} missing values of {name} became the training mean." for name, count in filled.items()]
    unknown = sum(found.unknown(columns) for columns in others.values())
    if unknown:
        notes.append(f"{unknown:,} test rows have a value that no training row has.")
    return tuple(notes)


def classes_of(train: Column, target: str, where: str) -> tuple[str, ...]:
    """The classes of a target column: whole numbers from 0 on as they are, else all values in order.

    Raises:
        UserError: A value is missing, all are one, or they are no classes.
    """
    missing = next((row for row, value in enumerate(train.tolist()) if value.lower() in MISSING), None)
    if missing is not None:
        raise UserError(f"a row without {target!r}", where=f"{where}, row {missing + 2}", mend="Leave the row out.")
    names = np.unique(train).tolist()
    if len(names) < 2:
        raise UserError(f"all rows have one value of {target!r}", where=where, got=names[0])
    if len(names) > CLASSES:
        mend = "Only classes can be told; cut numbers into parts."
        raise UserError(f"{target!r} has too many values for classes", where=where, got=len(names), mend=mend)
    numbers = [number_of(name) for name in names]
    if None not in numbers:
        if len(set(numbers)) < len(numbers):
            mend = "Write each class in one way."
            raise UserError(
                f"a class of {target!r} is written in two ways", where=where, got=", ".join(names), mend=mend
            )
        names = [name for _, name in sorted(zip(numbers, names, strict=True), key=lambda pair: float(pair[0] or 0))]
    return tuple(names)


def labels_of(column: Column, classes: tuple[str, ...], target: str, where: str) -> NDArray[np.int64]:
    """Classes as numbers.

    Raises:
        UserError: A value is none of the classes of the training rows.
    """
    place = {name: number for number, name in enumerate(classes)}
    wrong = next((row for row, value in enumerate(column.tolist()) if value not in place), None)
    if wrong is not None:
        what = f"a value of {target!r} that no training row has"
        allowed = ", ".join(classes[:SHOWN]) + ("" if len(classes) <= SHOWN else ", ...")
        raise UserError(what, where=f"{where}, row {wrong + 2}", got=str(column[wrong]), allowed=allowed)
    return np.array([place[value] for value in column.tolist()], np.int64)


def without(columns: Columns, name: str, where: str) -> tuple[Columns, Column]:
    """The other columns, and one of them.

    Raises:
        UserError: There is none of that name.
    """
    if name not in columns:
        raise UserError(f"there is no column {name!r}", where=where, mend=suggestion(name, columns))
    return {other: column for other, column in columns.items() if other != name}, columns[name]


def taken(columns: Columns, chosen: NDArray[Any]) -> Columns:
    """Some of the rows."""
    return {name: column[chosen] for name, column in columns.items()}
