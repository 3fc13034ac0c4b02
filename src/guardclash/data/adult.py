"""UCI Adult: a text file of rows, one of them a comment in the test file, whose labels end in a full stop there.

Format: https://archive.ics.uci.edu/dataset/2/adult (adult.names)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guardclash.data.examples import Examples
from guardclash.data.files import Place
from guardclash.data.table import Column, Columns, Encoding
from guardclash.handed import content_of

COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)
MOST_BYTES = 20_000_000
"""Of a file; the official one has 3,974,305."""
POOR, RICH = "<=50K", ">50K"


@dataclass(frozen=True)
class AdultReader:
    """Reads Adult from `adult/adult.data` and `adult/adult.test`.

    Args:
        encoding: How rows become numbers.
        sizes: Number of rows of each split.
        groups: Columns that also say groups, with their values in order; the first one is also called "group".
    """

    encoding: Encoding
    sizes: tuple[tuple[str, int], ...]
    groups: tuple[tuple[str, tuple[str, ...]], ...]

    def __call__(self, split: str, folder: Path) -> Examples:
        """Reads one split.

        Args:
            split: "train" or "test".
            folder: The data folder.

        Raises:
            UserError: A file is missing or unreadable, or not what the format and the counts demand.
        """
        place, path = Place("adult", folder), folder / "adult" / f"adult.{'data' if split == 'train' else 'test'}"
        with place.reading(path):
            lines = content_of(path, MOST_BYTES).decode("ascii").splitlines()
            cells = [[value.strip() for value in line.split(",")] for line in lines]
        rows = [row for row in cells if len(row) == len(COLUMNS)]  # others are a comment and an empty line
        count = dict(self.sizes)[split]
        if len(rows) != count:
            raise place.error("the file holds another number of rows", path, got=len(rows), allowed=str(count))
        columns: Columns = dict(zip(COLUMNS, map(np.array, zip(*rows, strict=True)), strict=True))
        income = np.char.rstrip(columns["income"], ".")
        strange = not np.isin(income, (POOR, RICH)).all() or not all(_finite(columns[name]) for name in self._numbers)
        if strange or self.encoding.unknown(columns):
            raise place.error("a value that the data set does not have", path)
        y = (income == RICH).astype(np.int64)
        about = {name: np.searchsorted(values, columns[name]).astype(np.int64) for name, values in self.groups}
        first = self.groups[0][0]
        return Examples(self.encoding.encode(columns, str(path)), y, {"group": about[first], **about})

    @property
    def _numbers(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.encoding.numbers)


def _finite(column: Column) -> bool:
    """Whether all values are numbers; Adult misses none, so `?` is a damage here and no mean."""
    try:
        return bool(np.isfinite(column.astype(np.float64)).all())
    except ValueError:
        return False
