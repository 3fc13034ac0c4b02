"""Arrays of what Python programs hold: pairs of arrays or tensors, and map-style data sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardclash.data.own.brought import LARGEST
from guardclash.errors import UserError

Array = NDArray[Any]


def arrays_of(given: Any, where: str) -> dict[str, Array]:
    """Arrays by name.

    Args:
        given: Arrays by name, as `from_arrays` takes them; or what `pair` takes, for training; or a tuple of two such,
            for training and testing.
        where: What it is called in messages.

    Raises:
        UserError: It is of another form.
    """
    if isinstance(given, Mapping):
        return {str(name): array(values, f"{where}, {name}") for name, values in given.items()}
    if isinstance(given, tuple) and len(given) == 2 and all(map(_is_pair, given)):
        train, test = (pair(one, where) for one in given)
        return {"x_train": train[0], "y_train": train[1], "x_test": test[0], "y_test": test[1]}
    x, y = pair(given, where)
    return {"x_train": x, "y_train": y}


def _is_pair(given: Any) -> bool:
    return (isinstance(given, tuple | list) and len(given) == 2) or _is_dataset(given)


def _is_dataset(given: Any) -> bool:
    return hasattr(given, "__getitem__") and hasattr(given, "__len__") and not hasattr(given, "dtype")


def pair(given: Any, where: str) -> tuple[Array, Array]:
    """Inputs and labels.

    Args:
        given: (x, y), arrays or tensors; or a map-style data set, of which each example is (x, y) and is read once.
        where: What it is called in messages.

    Raises:
        UserError: It is of another form, or too large.
    """
    if isinstance(given, tuple | list) and len(given) == 2 and all(hasattr(one, "shape") for one in given):
        return array(given[0], f"{where}, inputs"), array(given[1], f"{where}, labels")
    if _is_dataset(given) and not isinstance(given, tuple | list | str | bytes | Mapping):
        return _read(given, where)
    allowed = "a pair of arrays (x, y), or a data set with __len__ and __getitem__"
    raise UserError("no inputs and labels", where=where, got=type(given).__name__, allowed=allowed)


def array(values: Any, where: str) -> Array:
    """An array or a tensor as an array.

    Raises:
        UserError: It is none, or holds objects.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise UserError(f"no array: {error}", where=where) from error
    if found.dtype == object:
        raise UserError("an array holds objects", where=where, got=type(values).__name__, allowed="numbers")
    return found


def _read(dataset: Any, where: str) -> tuple[Array, Array]:
    """All examples of a map-style data set."""
    count = len(dataset)
    if not count:
        raise UserError("a data set without examples", where=where)
    first = _example(dataset, 0, where)
    if first[0].nbytes * count > LARGEST:
        got = f"{count} examples of {first[0].nbytes} bytes"
        raise UserError("so large a data set is not held in memory", where=where, got=got, allowed="4 GiB in all")
    x = np.empty((count, *first[0].shape), first[0].dtype)
    y = np.empty((count, *first[1].shape), first[1].dtype)
    for number in range(count):
        one = _example(dataset, number, where)
        if one[0].shape != first[0].shape or one[1].shape != first[1].shape:
            what = f"example {number} has another shape than the first"
            raise UserError(what, where=where, got=(one[0].shape, one[1].shape))
        x[number], y[number] = one
    return x, y


def _example(dataset: Any, number: int, where: str) -> tuple[Array, Array]:
    try:
        found = dataset[number]
    except Exception as error:
        raise UserError(f"example {number} cannot be read: {type(error).__name__}: {error}", where=where) from error
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise UserError(f"example {number} is no pair of input and label", where=where, got=type(found).__name__)
    x, y = (array(part, f"{where}, example {number}") for part in found)
    return x, y
