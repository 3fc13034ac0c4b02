"""Where somebody's data come from: a file of arrays, a folder of images, a table, a function, or memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from guardclash.code import Code
from guardclash.data.files import DAMAGE
from guardclash.data.own.archive import read_arrays
from guardclash.data.own.arrays import from_arrays
from guardclash.data.own.brought import Brought
from guardclash.data.own.folder import image_arrays, image_files
from guardclash.data.own.memory import arrays_of
from guardclash.data.own.rows import from_table
from guardclash.data.table_files import read_columns
from guardclash.errors import UserError
from guardclash.handed import open_regular

State = tuple[tuple[str, int, int], ...]
"""Of files: name, size and time of change."""


class Origin(Protocol):
    """Where data come from: a frozen value that reads them."""

    def read(self) -> Brought:
        """The data, checked.

        Raises:
            UserError: They cannot be read, or are not what they must be.
        """

    def state(self) -> State | None:
        """What tells that the data are those of before without reading them; None: nothing does."""


def state_of(*paths: Path) -> State:
    """Size and time of change of files."""
    found = ((str(path), path.stat()) for path in paths)
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in found)


@dataclass(frozen=True)
class ArrayFile:
    """A `.npz` file of arrays by name."""

    path: Path
    vocabulary: int | None = None
    groups: str | None = None
    """What the arrays of groups are called, such as "sex" for `sex_train` and `sex_test`; None: "group"."""

    def read(self) -> Brought:
        """The data of its arrays; see `from_arrays`."""
        arrays = self._arrays()
        for split in ("train", "test") if self.groups else ():
            if (name := f"{self.groups}_{split}") in arrays:
                arrays[f"group_{split}"] = arrays.pop(name)
            elif f"x_{split}" in arrays:
                raise UserError(f"there is no array {name}", where=self.path, got=", ".join(arrays))
        return from_arrays(arrays, str(self.path), self.vocabulary)

    def _arrays(self) -> dict[str, Any]:
        try:
            with open_regular(self.path) as stream:
                return read_arrays(stream, self.path)
        except DAMAGE as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> UserError:
        if isinstance(error, MemoryError):
            return UserError("there is not enough memory to read the arrays", where=self.path)
        mend = "Write it with numpy.savez(FILE, x_train=..., y_train=...)."
        return UserError(f"no .npz file of arrays, or a damaged one ({error})", where=self.path, mend=mend)

    def state(self) -> State:
        """Of the file."""
        return state_of(self.path)


@dataclass(frozen=True)
class ImageFolder:
    """A folder with one sub-folder of images for each class, or with `train/` and `test/` of such."""

    path: Path
    size: tuple[int, int] | None = None
    """Height and width to which images are cut and scaled; None: all have one size."""

    def read(self) -> Brought:
        """The images, decoded."""
        arrays, names, notes = image_arrays(self.path, self.size)
        found = from_arrays(arrays, str(self.path))
        return Brought(found.space, found.classes, found.splits, (*notes, *found.notes), names=names)

    def state(self) -> State:
        """Of all its images."""
        return state_of(*(file for split in image_files(self.path).values() for _, file in split))


@dataclass(frozen=True)
class TableFile:
    """A `.csv` or `.parquet` file: a row for each example, a column for each of its properties."""

    path: Path
    target: str
    """The column that is to be told."""
    group: str | None = None
    """The column that says the group of a row."""
    categories: tuple[str, ...] = ()
    """Columns that are categories although they hold numbers."""
    test: Path | None = None
    """The file of the test rows; None: some of the training rows are set apart."""

    def read(self) -> Brought:
        """The rows, numbers scaled and categories as columns; see `guardclash.data.own.rows.from_table`."""
        test = read_columns(self.test) if self.test else None
        return from_table(read_columns(self.path), test, self.target, self.group, self.categories, str(self.path))

    def state(self) -> State:
        """Of its files."""
        return state_of(self.path, *([self.test] if self.test else []))


@dataclass(frozen=True)
class Function:
    """A function that returns arrays by name, pairs of inputs and labels, or map-style data sets."""

    code: Code
    vocabulary: int | None = None

    def read(self) -> Brought:
        """What it returns now."""
        where = f"{self.code.name} of {self.code.place}"
        return from_arrays(arrays_of(self.code.call({}), where), where, self.vocabulary)

    def state(self) -> None:
        """Unknown: it may read anything."""
        return None


@dataclass(frozen=True, eq=False)
class Memory:
    """Arrays that are there already."""

    arrays: Mapping[str, Any] = field(repr=False)
    where: str
    vocabulary: int | None = None

    def read(self) -> Brought:
        """The data of the arrays."""
        return from_arrays(self.arrays, self.where, self.vocabulary)

    def state(self) -> None:
        """Unknown: arrays can be written to."""
        return None


def text_of(state: State) -> str:
    """A state as a short name."""
    return hashlib.sha256(repr(state).encode()).hexdigest()[:20]
