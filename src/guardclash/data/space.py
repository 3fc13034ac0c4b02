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
    """Pixels: bytes in files and arrays, numbers in [0, 1] to a model."""

    shape: tuple[int, int, int]
    """Channels, height and width."""

    def __post_init__(self) -> None:
        channels, height, width = self.shape
        within("images", ">= 1", channels=channels, height=height, width=width)

    @property
    def dtype(self) -> type:
        """Bytes."""
        return np.uint8

    def wrong(self, x: NDArray[Any]) -> str | None:
        """Nothing: every byte is a pixel."""
        return None


@dataclass(frozen=True)
class Rows:
    """Rows of a table: float32 numbers, scaled as a model should see them, categories as one column for each."""

    columns: tuple[str, ...]
    """Their names."""

    def __post_init__(self) -> None:
        within("rows", ">= 1", columns=len(self.columns))

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
