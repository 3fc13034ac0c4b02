"""From a data set and a folder to arrays."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardclash.data.dataset import Dataset
from guardclash.data.examples import Examples
from guardclash.data.files import Place
from guardclash.errors import UserError

ENVIRONMENT = "GUARDCLASH_DATA"


def data_folder(given: str | Path | None = None) -> Path:
    """The folder in which data sets are looked for, whether it exists or not.

    Args:
        given: What the user asked for; it wins over the environment variable GUARDCLASH_DATA, which wins over
            the user's cache folder.

    Returns:
        An absolute path.
    """
    chosen = given or os.environ.get(ENVIRONMENT)
    if not chosen:
        import pooch

        chosen = pooch.os_cache("guardclash")
    return Path(os.path.abspath(os.path.expanduser(chosen)))


def load(dataset: Dataset, split: str, folder: str | Path | None = None) -> Examples:
    """All examples of one split; kept in memory, so that asking again costs nothing.

    Args:
        dataset: Which data set.
        split: Which of its splits.
        folder: The data folder; None: see `data_folder`.

    Returns:
        Read-only arrays.

    Raises:
        UserError: There is no such split, or a file is missing, unreadable or wrong.
    """
    dataset.size(split)
    chosen = data_folder(folder)
    return _kept(dataset, split, chosen, state(dataset, chosen))


def state(dataset: Dataset, folder: Path) -> tuple[tuple[int, int], ...]:
    """Size and time of change of the files that are there: a process that goes on must see data that are replaced."""
    place = Place(dataset.name, folder)
    paths = [path for download in dataset.files for path, _ in place.expected(download)]
    found = [os.stat(path) for path in paths if os.path.exists(path)]
    return tuple((status.st_size, status.st_mtime_ns) for status in found)


@lru_cache(maxsize=8)
def _kept(dataset: Dataset, split: str, folder: Path, state: object) -> Examples:
    return read(dataset, split, folder)


def read(dataset: Dataset, split: str, folder: Path) -> Examples:
    """As `load`, but always from the files.

    Raises:
        UserError: As `load`; also where a plugin's reader does not return what its `Dataset` says.
    """
    count = dataset.size(split)
    found = dataset.read(split, folder)
    x, y = found
    _demand(dataset, split, "inputs", x, dataset.space.dtype, (count, *dataset.shape))
    several = dataset.several_labels
    _demand(dataset, split, "labels", y, *((np.float32, (count, dataset.classes)) if several else (np.int64, (count,))))
    if several and not np.isin(y, (0, 1)).all():
        raise UserError(f"{dataset.name}: labels are vectors of 0 and 1", where=f"{split} split")
    if count and not several and not 0 <= y.min() <= y.max() < dataset.classes:
        got = (int(y.min()), int(y.max()))
        raise UserError(
            f"{dataset.name}: labels are out of range",
            where=f"{split} split",
            got=got,
            allowed=f"0 to {dataset.classes - 1}",
        )
    wrong = dataset.space.wrong(x)
    if wrong:
        raise UserError(f"{dataset.name}: {wrong}", where=f"{split} split")
    about = {name: _read_only(values) for name, values in found.about.items()}
    for name, values in about.items():
        _demand(dataset, split, name, values, np.int64, (count,))
    return Examples(_read_only(x), _read_only(y), about)


def _demand(dataset: Dataset, split: str, what: str, values: NDArray[Any], dtype: type, shape: tuple[int, ...]) -> None:
    if values.dtype != dtype or values.shape != shape:
        raise UserError(
            f"{dataset.name}: the reader returns {what} of another type or shape",
            where=f"{split} split",
            got=f"{values.dtype} {values.shape}",
            allowed=f"{np.dtype(dtype)} {shape}",
        )


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    kept = np.ascontiguousarray(values).view()
    kept.flags.writeable = False
    return kept
