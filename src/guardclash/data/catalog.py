"""The data sets by name: the built-in ones, one file each in `sets/`, and those of plugins."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from guardclash.data import sets
from guardclash.data.dataset import Dataset
from guardclash.errors import UserError, suggestion


@cache
def datasets() -> dict[str, Dataset]:
    """All data sets by name; `register` adds those of plugins."""
    modules = (
        importlib.import_module(f"{sets.__name__}.{found.name}") for found in pkgutil.iter_modules(sets.__path__)
    )
    built_in = [value for module in modules for value in vars(module).values() if isinstance(value, Dataset)]
    return {dataset.name: dataset for dataset in built_in}


def public() -> list[str]:
    """The names by which studies may call one, but for their own."""
    return [name for name, dataset in datasets().items() if dataset.label == name]


def register(dataset: Dataset) -> None:
    """Adds the data set of a plugin; adding it again changes nothing.

    Raises:
        UserError: Another data set has that name.
    """
    if datasets().setdefault(dataset.name, dataset) != dataset:
        raise UserError("two data sets have the same name", where="name", got=dataset.name, mend="Rename one.")


def adopt(dataset: Dataset) -> None:
    """Adds somebody's own data set, in the place of one with the same name, which has the same content."""
    datasets()[dataset.name] = dataset


def find_dataset(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        UserError: There is none.
    """
    known = datasets()
    if name not in known:
        mend = f"{suggestion(name, public())} Data of your own are a [[tasks]] of the study: docs/own-model.md."
        raise UserError("unknown data set", where="dataset", got=name, mend=mend)
    return known[name]
