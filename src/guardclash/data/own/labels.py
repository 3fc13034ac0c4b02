"""Labels that somebody brings: classes from 0 on, or several labels for each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardclash.errors import UserError

Array = NDArray[Any]
SHOWN = 5
"""Names or numbers in a message."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels by split."""

    classes: int
    splits: Mapping[str, Array]
    several: bool = False
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def of(self, split: str, size: int) -> Array:
        """Those of a split; of inputs without labels, all are 0."""
        shape = (size, self.classes) if self.several else (size,)
        empty: Array = np.zeros(shape, np.float32 if self.several else np.int64)
        return self.splits.get(split, empty)

    def check_test(self, y: Array, where: str) -> None:
        """Every class must have a test example, or nobody could say how well it is told.

        Raises:
            UserError: One has none.
        """
        there = np.flatnonzero(y.any(0)) if self.several else np.unique(y)
        missing = sorted(set(range(self.classes)) - set(there.tolist()))
        if missing:
            shown = ", ".join(self.names[one] if self.names else str(one) for one in missing[:SHOWN])
            mend = "Give each class some test examples, or leave the class out."
            raise UserError("classes without a test example", where=where, got=shown, mend=mend)


def labelled(given: Mapping[str, Array], where: str) -> Labels:
    """Labels of splits, checked.

    Raises:
        UserError: They are no labels, or those of the test are others than those of the training examples.
    """
    return _vectors(given, where) if given["train"].ndim == 2 else _indices(given, where)


def _indices(given: Mapping[str, Array], where: str) -> Labels:
    splits = {split: _whole(y, f"y_{split}", where) for split, y in given.items()}
    train = splits["train"]
    low, high = int(train.min()), int(train.max())
    there = np.unique(train)
    if low != 0:
        mend = (
            f"Subtract {low}: y - {low}."
            if low > 0 and len(there) == high - low + 1
            else "Number the classes from 0 on."
        )
        raise UserError("labels begin at 0", where=where, got=f"y_train from {low} to {high}", mend=mend)
    if len(there) != high + 1:
        missing = next(one for one in range(high) if one not in there)
        mend = "Number the classes without gaps: np.unique(y, return_inverse=True)[1]."
        raise UserError("a class has no training example", where=where, got=f"class {missing}", mend=mend)
    if high == 0:
        raise UserError("all examples have one label", where=where, got="class 0", allowed="two classes or more")
    for split, y in splits.items():
        if not 0 <= y.min() <= y.max() <= high:
            got = int(y.max() if y.max() > high else y.min())
            what = f"y_{split} has a label that no training example has"
            raise UserError(what, where=where, got=got, allowed=f"0 to {high}")
    return Labels(high + 1, splits)


def _whole(y: Array, name: str, where: str) -> Array:
    if y.ndim != 1:
        raise UserError(f"{name} is not one label per example", where=where, got=y.shape, allowed="[N] or [N, classes]")
    if y.dtype.kind not in "iub":
        kind = "texts" if y.dtype.kind in "US" else str(y.dtype)
        mend = "np.unique(y, return_inverse=True)[1] numbers them." if kind == "texts" else f"{name}.astype(np.int64)."
        raise UserError(f"{name} holds no whole numbers", where=where, got=kind, mend=mend)
    return y.astype(np.int64)


def _vectors(given: Mapping[str, Array], where: str) -> Labels:
    width = given["train"].shape[1]
    for split, y in given.items():
        if y.ndim != 2 or y.shape[1] != width:
            what = f"y_{split} has vectors of another length"
            raise UserError(what, where=where, got=y.shape, allowed=f"[N, {width}]")
        if y.dtype.kind not in "iubf" or not np.isin(y, (0, 1)).all():
            raise UserError(f"y_{split} has vectors of other numbers than 0 and 1", where=where)
    if width < 2:
        raise UserError("vectors of one label", where=where, got=f"y_train {given['train'].shape}", mend="y[:, 0].")
    if all((y.sum(1) == 1).all() for y in given.values()):  # a class each, in another form
        found = _indices({split: y.argmax(1) for split, y in given.items()}, where)
        notes = ("Labels were vectors with a single 1 each, and became classes.",)
        return Labels(found.classes, found.splits, notes=notes)
    splits = {split: y.astype(np.float32) for split, y in given.items()}
    empty = np.flatnonzero(~splits["train"].any(0))
    if len(empty):
        raise UserError("a label that no training example has", where=where, got=f"label {int(empty[0])}")
    return Labels(width, splits, several=True, notes=(f"Each example may have several of {width} labels.",))


def coded(given: Sequence[Array]) -> tuple[tuple[str, ...], list[Array]]:
    """Groups, whatever they are called, as numbers from 0 on.

    Returns:
        Their names in order, and int64 [N] for each array.
    """
    names, codes = np.unique(np.concatenate(list(given)), return_inverse=True)
    ends = np.cumsum([len(one) for one in given])[:-1]
    return tuple(map(str, names)), [part.astype(np.int64) for part in np.split(codes.reshape(-1), ends)]
