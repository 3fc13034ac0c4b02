"""The binary version of CIFAR-10.

Each file is a row of records: one byte of label, then 3,072 bytes of pixels (the red, green and blue plane of
32x32, row by row). Format: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guardclash.data.examples import Examples
from guardclash.data.files import Place
from guardclash.errors import UserError
from guardclash.handed import open_regular

DIRECTORY = "cifar-10-batches-bin"
PYTHON_DIRECTORY = "cifar-10-batches-py"
BATCHES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32


@dataclass(frozen=True)
class CifarReader:
    """Reads CIFAR-10 from `cifar-10-batches-bin/`.

    Args:
        dataset: Name of the data set, for messages.
        records: Images in each file.
        classes: Number of classes.
    """

    dataset: str = "cifar10"
    records: int = 10_000
    classes: int = 10

    def __call__(self, split: str, folder: Path) -> Examples:
        """Reads one split, its files one after the other.

        Args:
            split: "train" or "test".
            folder: The data folder.

        Raises:
            UserError: A file is missing, unreadable or of the wrong length, a label is out of range, or the
                folder has only the version of pickles.
        """
        place = Place(self.dataset, folder)
        _refuse_pickles(place)
        batches = BATCHES[split]
        x = np.empty((len(batches) * self.records, *SHAPE), np.uint8)
        y = np.empty(len(x), np.int64)
        for number, name in enumerate(batches):
            rows = slice(number * self.records, (number + 1) * self.records)
            x[rows], y[rows] = self._batch(folder / DIRECTORY / name, place)
        return Examples(x, y)

    def _batch(self, path: Path, place: Place) -> Examples:
        size = self.records * RECORD
        with place.reading(path), open_regular(path) as stream:
            values = stream.read(size + 1)
        place.demand_length(values, size, path)
        table = np.frombuffer(values, np.uint8).reshape(self.records, RECORD)
        return Examples(table[:, 1:].reshape(-1, *SHAPE), place.labels(table[:, 0], self.classes, path))


def _refuse_pickles(place: Place) -> None:
    if os.path.isdir(place.folder / PYTHON_DIRECTORY) and not os.path.exists(place.folder / DIRECTORY):
        raise UserError(
            f"{place.dataset}: only the Python version is here, and its files are pickles, which guardclash "
            "never loads because they can run any code",
            where=place.folder / PYTHON_DIRECTORY,
            allowed=f"the binary version, {DIRECTORY}/",
            mend=f"{place.mend()} Fetching gets cifar-10-binary.tar.gz.",
        )
