"""What an input is: an image, a row of a table, a text as tokens. Mechanisms ask the space, never a data set's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from guardclash.checks import within


class Space(Protocol):
    """The inputs of a data set."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""

    @property
    def dtype(self) -> type:
        """Of the arrays that a reader returns."""

    def wrong(self, x: NDArray[Any]) -> str | None:
        """What is wrong with values of the right shape and type; None: nothing."""


@dataclass(frozen=True)
class Images:
    """Pixels: numbers in [0, 1] to a model."""

    shape: tuple[int, int, int]
    """Channels, height and width."""
    floats: bool = False
    """Whether files and arrays hold float32 in [0, 1], instead of bytes."""

    def __post_init__(self) -> None:
        channels, height, width = self.shape
        within("images", ">= 1", channels=channels, height=height, width=width)

    @property
    def dtype(self) -> type:
        """Bytes, or single precision."""
        return np.float32 if self.floats else np.uint8

    def wrong(self, x: NDArray[Any]) -> str | None:
        """A number outside [0, 1]; every byte is a pixel."""
        inside = not self.floats or not x.size or (x.min() >= 0 and x.max() <= 1)  # NaN is neither
        return None if inside else "a pixel is not a number in [0, 1]"


@dataclass(frozen=True)
class Rows:
    """Rows of a table as float32: numbers, scaled as a model should see them, then categories.

    Of a category there is one column for each of its values: 1 in that of the row's value, 0 in the others.
    """

    columns: tuple[str, ...]
    """Their names."""
    categories: tuple[tuple[str, int], ...] = ()
    """By category its name and its number of values: these are the last columns."""

    def __post_init__(self) -> None:
        within("rows", ">= 1", columns=len(self.columns))
        within("rows", ">= 0", numbers=self.numbers)

    @property
    def numbers(self) -> int:
        """How many columns are numbers: the first ones."""
        return len(self.columns) - sum(values for _, values in self.categories)

    @property
    def shape(self) -> tuple[int]:
        """One number for each column."""
        return (len(self.columns),)

    @property
    def dtype(self) -> type:
        """Single precision."""
        return np.float32

    def wrong(self, x: NDArray[Any]) -> str | None:
        """A value that is missing or infinite."""
        return None if np.isfinite(x).all() else "a value is not a finite number"


@dataclass(frozen=True)
class Tokens:
    """Texts of a fixed length as numbers of a vocabulary, int64."""

    length: int
    vocabulary: int
    """Tokens are 0 to vocabulary - 1."""
    padding: int | None = None
    """The token that fills places behind shorter texts, if there is one."""

    def __post_init__(self) -> None:
        within("texts", ">= 1", length=self.length, vocabulary=self.vocabulary)

    @property
    def shape(self) -> tuple[int]:
        """One number for each place."""
        return (self.length,)

    @property
    def dtype(self) -> type:
        """Indices."""
        return np.int64

    def wrong(self, x: NDArray[Any]) -> str | None:
        """A token outside the vocabulary."""
        inside = not x.size or (x.min() >= 0 and x.max() < self.vocabulary)
        return None if inside else f"a token is not one of 0 to {self.vocabulary - 1}"


def called(space: Space) -> str:
    """What inputs are called in reports: "images", "rows", "texts"; those of a space of somebody else's by its name."""
    names = {Images: "images", Rows: "rows", Tokens: "texts"}
    return names.get(type(space)) or f"inputs of the kind {type(space).__name__}"


def same_form(one: Space, other: Space) -> bool:
    """Whether a model for inputs of one space can be asked about those of another.

    Images of bytes and of floats are the same to a model.
    """
    both_images = isinstance(one, Images) and isinstance(other, Images)
    return one.shape == other.shape if both_images else one == other


def unmoved(space: Space) -> str:
    """Why inputs cannot be moved a little, as attacks and walks move them; "": they can.

    Example:
        >>> unmoved(Tokens(length=8, vocabulary=100))
        'tokens cannot be moved a little'
        >>> unmoved(Rows(("age",)))
        ''
    """
    if isinstance(space, Tokens):
        return "tokens cannot be moved a little"
    if isinstance(space, Rows) and not space.numbers:
        return "this task has no column that is a number"
    return "" if isinstance(space, Images | Rows) else "nobody knows how far they may be moved"


def movable(space: Space) -> int | None:
    """How many of the first columns may be moved, where not all may be: categories stay as they are; None: all."""
    return space.numbers if isinstance(space, Rows) and space.categories else None
