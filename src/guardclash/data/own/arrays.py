"""From arrays by name to a data set: what each of them must be, and what is said where one is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardclash.data.examples import Examples
from guardclash.data.own.brought import LARGEST, Brought
from guardclash.data.own.labels import Labels, coded, labelled
from guardclash.data.space import Images, Rows, Space, Tokens
from guardclash.errors import UserError, suggestion

Array = NDArray[Any]
NAMES = tuple(f"{kind}_{split}" for kind in ("x", "y", "group", "mask") for split in ("train", "test"))
NAMES = (*NAMES, "x_ood")
SIDE = 224
"""Pixels that a side of an image may have."""
SHARE = 5
"""One example of so many becomes a test example, where no test examples are given."""
CHANNELS = (1, 3, 4)
"""How many images usually have, by which it is seen that they come last."""


def from_arrays(arrays: Mapping[str, Array], where: str, vocabulary: int | None = None) -> Brought:
    """A data set of arrays.

    Args:
        arrays: `x_train` and `y_train`; as far as they are there `x_test`, `y_test`, `group_train`, `group_test`,
            `mask_train`, `mask_test`, and `x_ood`, inputs that are no examples of the task. Inputs are images, uint8 or
            floats in [0, 1], [N, C, H, W] or grey [N, H, W]; rows of numbers, floats [N, columns]; or tokens, integers
            [N, length], of which a mask (1 or true where there is a token) may leave the last ones out. Labels are
            integers from 0 on, [N], or vectors [N, classes] of 0 and 1.
        where: What they are called in messages.
        vocabulary: How many tokens there are; None: those up to the largest one.

    Raises:
        UserError: An array is missing, unknown, or not what it must be.
    """
    _check_names(arrays, where)
    parts = [_Part(arrays, split, where) for split in ("train", "test", "ood") if f"x_{split}" in arrays]
    if sum(part.x.nbytes for part in parts) > LARGEST:
        got = f"{sum(part.x.nbytes for part in parts) / 2**30:.1f} GiB"
        mend = "Take fewer examples, smaller images, or bytes in place of floats."
        raise UserError("so large a data set is not held in memory", where=where, got=got, allowed="4 GiB", mend=mend)
    notes: list[str] = []
    space, inputs = _inputs(parts, notes, vocabulary)
    labels = labelled({part.split: part.y for part in parts if part.y is not None}, where)
    notes += labels.notes
    about = _groups(parts, where, notes)
    splits = {
        part.split: Examples(inputs[part.split], labels.of(part.split, len(part.x)), about.get(part.split, {}))
        for part in parts
    }
    if "test" not in splits:
        splits, said = _split(splits, labels)
        notes.append(said)
    order = [split for split in ("train", "test", "ood") if split in splits]
    found = Brought(
        space, labels.classes, {split: splits[split] for split in order}, tuple(notes), labels.several, labels.names
    )
    labels.check_test(found.splits["test"].y, where)
    return found


def _check_names(arrays: Mapping[str, Array], where: str) -> None:
    for name in arrays:
        if name not in NAMES:
            raise UserError(f"an array has the unknown name {name!r}", where=where, mend=suggestion(name, NAMES))
    for name in ("x_train", "y_train"):
        if name not in arrays:
            got = ", ".join(arrays) or "no array"
            raise UserError(f"there is no array {name}", where=where, got=got, allowed=", ".join(NAMES))
    others = [name for name in arrays if name.endswith("_test")]
    if others and "x_test" not in arrays:
        raise UserError(f"there is {others[0]}, and no array x_test", where=where)
    if "x_test" in arrays and "y_test" not in arrays:
        raise UserError("there is x_test, and no array y_test", where=where)


class _Part:
    """The arrays of one split."""

    def __init__(self, arrays: Mapping[str, Array], split: str, where: str):
        self.split, self.where = split, where
        self.x = arrays[f"x_{split}"]
        self.y, self.group, self.mask = (arrays.get(f"{kind}_{split}") for kind in ("y", "group", "mask"))
        if not self.x.ndim or not self.x.size:
            raise UserError(f"x_{split} is empty", where=where, got=self.x.shape)
        for kind, values in (("y", self.y), ("group", self.group), ("mask", self.mask)):
            if values is not None and (not values.ndim or len(values) != len(self.x)):
                what = f"x_{split} and {kind}_{split} are of different lengths"
                raise UserError(what, where=where, got=f"{self.x.shape} and {values.shape}")

    @property
    def name(self) -> str:
        return f"x_{self.split}"


def _inputs(parts: list[_Part], notes: list[str], vocabulary: int | None) -> tuple[Space, dict[str, Array]]:
    train = parts[0]
    for part in parts:
        if part.x.shape[1:] != train.x.shape[1:]:
            got = f"{part.x.shape}, and x_train is {train.x.shape}"
            raise UserError(f"{part.name} has inputs of another shape", where=part.where, got=got)
        if part.x.dtype.kind != train.x.dtype.kind:
            got = f"{part.x.dtype}, and x_train is {train.x.dtype}"
            raise UserError(f"{part.name} is of another type", where=part.where, got=got)
        _check_finite(part)
    if train.x.ndim in (3, 4):
        return _images(parts, notes)
    if train.x.ndim == 2 and train.x.dtype.kind == "f":
        return _rows(parts, notes)
    if train.x.ndim == 2 and train.x.dtype.kind in "iu" and train.x.dtype != np.uint8:
        return _tokens(parts, notes, vocabulary)
    allowed = "images [N, C, H, W] uint8 or float, rows [N, columns] float, tokens [N, length] int64"
    raise UserError(
        "x_train is of no known kind", where=train.where, got=f"{train.x.dtype} {train.x.shape}", allowed=allowed
    )


def _check_finite(part: _Part) -> None:
    if part.x.dtype.kind != "f" or np.isfinite(part.x).all():
        return
    first = int(np.argwhere(~np.isfinite(part.x))[0][0])
    raise UserError(f"{part.name} holds NaN or infinity", where=part.where, got=f"in example {first}, counted from 0")


def _images(parts: list[_Part], notes: list[str]) -> tuple[Space, dict[str, Array]]:
    train = parts[0]
    shape = train.x.shape[1:]
    if len(shape) == 2:
        notes.append("Grey images [N, H, W] were given one channel.")
        inputs = {part.split: part.x[:, None] for part in parts}
        shape = (1, *shape)
    else:
        inputs = {part.split: part.x for part in parts}
    if shape[0] not in CHANNELS and shape[2] in CHANNELS:
        mend = f"Put channels first: {train.name}.transpose(0, 3, 1, 2)."
        raise UserError("images are [N, C, H, W]", where=train.where, got=f"{train.name} {train.x.shape}", mend=mend)
    if max(shape[1:]) > SIDE:
        allowed = f"at most {SIDE} pixels a side"
        raise UserError("the images are too large", where=train.where, got=train.x.shape, allowed=allowed)
    if train.x.dtype.kind == "f":
        for part in parts:
            _check_range(part)
        inputs = {split: x.astype(np.float32) for split, x in inputs.items()}
        if all(map(_whole, inputs.values())):  # the same pictures, whatever holds them
            inputs = {split: np.rint(x * 255).astype(np.uint8) for split, x in inputs.items()}
    elif train.x.dtype != np.uint8:
        mend = f"{train.name}.astype(np.uint8), or floats in [0, 1]."
        raise UserError("pixels are of another type", where=train.where, got=f"{train.name} {train.x.dtype}", mend=mend)
    return Images(shape, floats=inputs["train"].dtype != np.uint8), inputs


def _check_range(part: _Part) -> None:
    low, high = float(part.x.min()), float(part.x.max())
    if low < 0 or high > 1:
        mend = "Divide by 255, or give bytes (uint8); normalising belongs into the model."
        raise UserError(
            f"{part.name} has pixels outside of [0, 1]", where=part.where, got=f"{low:.4g} to {high:.4g}", mend=mend
        )


def _whole(x: Array) -> bool:
    return bool((np.rint(x * 255).astype(np.float32) / np.float32(255) == x).all())


def _rows(parts: list[_Part], notes: list[str]) -> tuple[Space, dict[str, Array]]:
    train = parts[0].x.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = train.mean(0), train.std(0)
    deviation[deviation == 0] = 1  # a column that never changes stays as it is
    notes.append(
        f"{train.shape[1]} columns of numbers, scaled by mean and standard deviation of {len(train):,} training rows."
    )
    with np.errstate(over="ignore", invalid="ignore"):
        scalable = np.isfinite(mean) & np.isfinite(deviation)  # else all of a column would become 0
        deviation[~scalable] = np.nan
        inputs = {part.split: ((part.x - mean) / deviation).astype(np.float32) for part in parts}
    for part in parts:
        if not np.isfinite(inputs[part.split]).all():
            first = np.argwhere(~np.isfinite(inputs[part.split]))[0].tolist()
            got = f"in example {first[0]}, column {first[1]}, counted from 0"
            raise UserError(f"{part.name} has numbers that cannot be scaled", where=part.where, got=got)
    return Rows(tuple(f"column {number}" for number in range(train.shape[1]))), inputs


def _tokens(parts: list[_Part], notes: list[str], vocabulary: int | None) -> tuple[Space, dict[str, Array]]:
    largest = max(int(part.x.max()) for part in parts)
    for part in parts:
        if part.x.min() < 0:
            raise UserError(f"{part.name} has a token below 0", where=part.where, got=int(part.x.min()))
    known = largest + 1 if vocabulary is None else vocabulary
    if largest >= known:
        raise UserError("a token lies outside the vocabulary", where=parts[0].where, got=largest, allowed=f"< {known}")
    masks = {part.split: part.mask.astype(bool) for part in parts if part.mask is not None}
    for part in parts:
        if part.mask is not None and part.mask.shape != part.x.shape:
            what = f"mask_{part.split} is not shaped as {part.name}"
            raise UserError(what, where=part.where, got=f"{part.mask.shape} and {part.x.shape}")
    if not masks:
        return Tokens(parts[0].x.shape[1], known), {part.split: part.x.astype(np.int64) for part in parts}
    padding = _padding(parts, masks)
    if padding is None:
        padding, known = known, known + 1
    notes.append(f"Places behind the end of a text hold the token {padding}.")
    inputs = {}
    for part in parts:
        mask = masks.get(part.split, np.ones(part.x.shape, bool))
        inputs[part.split] = np.where(mask, part.x, padding).astype(np.int64)
    return Tokens(parts[0].x.shape[1], known, padding), inputs


def _padding(parts: list[_Part], masks: Mapping[str, Array]) -> int | None:
    """The token that stands in all places which masks leave out and nowhere else; None: there is none."""
    outside = np.unique(np.concatenate([part.x[~masks[part.split]] for part in parts if part.split in masks]))
    if len(outside) != 1:
        return None
    inside = (part.x[masks[part.split]] if part.split in masks else part.x for part in parts)
    return None if any((values == outside[0]).any() for values in inside) else int(outside[0])


def _groups(parts: list[_Part], where: str, notes: list[str]) -> dict[str, dict[str, Array]]:
    """What is known beside the labels, by split: groups as numbers."""
    given = [part for part in parts if part.group is not None]
    if not given:
        return {}
    missing = [part.split for part in parts if part.group is None and part.split != "ood"]
    if missing:
        raise UserError(f"there are groups, and no array group_{missing[0]}", where=where)
    for part in given:
        if part.group is not None and part.group.ndim != 1:
            raise UserError(f"group_{part.split} is not one number per example", where=where, got=part.group.shape)
    names, codes = coded([part.group for part in given if part.group is not None])
    notes.append(f"Groups: {', '.join(names)}.")
    return {part.split: {"group": one} for part, one in zip(given, codes, strict=True)}


def _split(splits: Mapping[str, Examples], labels: Labels) -> tuple[dict[str, Examples], str]:
    """The training examples in two."""
    whole = splits["train"]
    rest, test, said = set_apart(np.zeros(len(whole.x), np.int64) if labels.several else whole.y)
    return {**splits, "train": _taken(whole, rest), "test": _taken(whole, test)}, said


def set_apart(classes: Array) -> tuple[Array, Array, str]:
    """Which examples are for training and which for testing, where nobody says it.

    Of each class, every fifth one of a fixed random order is for testing.

    Args:
        classes: Of each example, int64 [N].

    Returns:
        The indices of both, in order, and what was done in words.
    """
    # RandomState, not Generator: numpy promises that its stream never changes between releases.
    order = np.random.RandomState(0).permutation(len(classes))
    by_class = order[np.argsort(classes[order], kind="stable")]
    test = np.sort(by_class[SHARE // 2 :: SHARE])
    rest = np.setdiff1d(np.arange(len(order)), test)
    said = (
        f"No test examples were given: one of {SHARE} training examples, drawn evenly over the classes in a fixed "
        f"random order, was set apart ({len(rest):,} to train, {len(test):,} to test)."
    )
    return rest, test, said


def _taken(examples: Examples, chosen: Array) -> Examples:
    about = {name: values[chosen] for name, values in examples.about.items()}
    return replace(examples, x=examples.x[chosen], y=examples.y[chosen], about=about)
