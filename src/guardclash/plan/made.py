"""Inputs that are made where a task names no others: patches of photographs, noise, rows that nobody is, random texts.

All are the same under every seed; who draws among them draws anew. Each says a `title` and a number of `classes`, so
that an innocent party can train a model on them: their labels are something that can be told of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guardclash.data.bundled import patches
from guardclash.data.space import Images, Rows, Space, Tokens
from guardclash.plan.examples import Data
from guardclash.plan.plan import Context, Source

MADE = 10_000
"""As many as trigger sets are drawn from, and as many again to train on."""
HELD = 2**28
"""Bytes of made-up images that are held in memory at a time: of large ones there are fewer."""
NOISE = 1_000
"""Images of noise to draw from: fewer, for those of some tasks are large, and one is like another."""
BEYOND = (0.1, 0.5)
"""How far beyond the edge of its column's range a number is, in ranges."""


class _Some:
    """So many inputs of a fixed order."""

    def first(self, count: int) -> Self:
        """At most so many of them."""
        one: Any = self
        return cast(Self, replace(one, size=min(count, one.size)))


@dataclass(frozen=True)
class Patches(_Some):
    """Patches of the two photographs that scikit-learn brings along: natural textures in any size."""

    shape: tuple[int, ...]
    """Channels, height and width; one channel is grey, three are the colours, others repeat grey."""
    size: int
    start: int = 0
    """How many others of the same fixed order come before these."""
    title: ClassVar[str] = "two photographs"
    classes: ClassVar[int] = 2

    def load(self, context: Context) -> Data:
        """The patches, the same under every seed; labelled by their photograph."""
        x, y = _made(self.shape, self.start + self.size)
        return Data(x[self.start :].clone(), y[self.start :].clone())


@lru_cache(maxsize=2)
def _made(shape: tuple[int, ...], count: int) -> tuple[Tensor, Tensor]:
    x, y = patches(shape, count)
    return torch.tensor(np.ascontiguousarray(x)).float().div_(255), torch.tensor(y)


def made_patches(space: Images) -> tuple[Patches, Patches]:
    """Patches in the form of a task's images, and as many others."""
    count = max(200, min(MADE, HELD // (4 * math.prod(space.shape))))
    return Patches(space.shape, count), Patches(space.shape, count, start=count)


@dataclass(frozen=True)
class NoiseImages(_Some):
    """Images of uniform noise, in whole pixel values."""

    shape: tuple[int, ...]
    size: int
    start: int = 0
    """How many others of the same fixed order come before these."""
    classes: ClassVar[int] = 2

    @property
    def title(self) -> str:
        """What they are, for people."""
        return f"{self.size:,} images of uniform noise"

    def load(self, context: Context) -> Data:
        """The images; labelled by whether they are brighter than grey."""
        drawn = _chance().randint(256, size=(self.start + self.size, *self.shape), dtype=np.uint8)
        x = torch.tensor(drawn[self.start :]).float().div_(255)
        return Data(x, (x.flatten(1).mean(1) > 0.5).long())


@dataclass(frozen=True)
class OutsideRows(_Some):
    """Rows whose every number is outside the range that its column has in other rows; categories are drawn at random.

    Those are rows that models are judged on, not trained on: a trigger must not tell of training examples, or a bound
    on what these do to a model would be wrong. Where no column is a number, only the mixture is unusual.
    """

    rows: Source
    space: Rows
    size: int
    start: int = 0
    """How many others of the same fixed order come before these."""
    classes: ClassVar[int] = 2

    @property
    def title(self) -> str:
        """What they are, for people."""
        what = "outside the ranges of the test rows" if self.space.numbers else "of random categories"
        return f"{self.size:,} made-up rows {what}"

    def load(self, context: Context) -> Data:
        """The rows; labelled by the side on which the first number is, or by the half of the first category."""
        # One draw for each column of a row, so that more rows begin with those of fewer.
        draws = _chance().random_sample((self.start + self.size, 2 * self.space.numbers + len(self.space.categories)))
        draws = draws[self.start :]
        numbers = self.space.numbers
        side, far, chosen = draws[:, :numbers] < 0.5, draws[:, numbers : 2 * numbers], draws[:, 2 * numbers :]
        known = context.data(self.rows).x[:, :numbers].double().numpy()
        low, high = known.min(0), known.max(0)
        width = np.where(high > low, high - low, 1.0)
        beyond = (BEYOND[0] + (BEYOND[1] - BEYOND[0]) * far) * width
        columns = [np.where(side, low - beyond, high + beyond), *_one_hot(self.space, chosen)]
        label = side[:, 0] if numbers else chosen[:, 0] < 0.5
        x = np.concatenate(columns, 1).astype(np.float32)
        return Data(torch.tensor(x), torch.tensor(label.astype(np.int64)))


@dataclass(frozen=True)
class RandomTexts(_Some):
    """Texts as long as others, of random tokens."""

    texts: Source
    space: Tokens
    size: int
    start: int = 0
    """How many others of the same fixed order come before these."""
    classes: ClassVar[int] = 2

    @property
    def title(self) -> str:
        """What they are, for people."""
        return f"{self.size:,} texts of random tokens"

    def load(self, context: Context) -> Data:
        """The texts; labelled by whether most of their tokens are of the upper half of the vocabulary."""
        draws = torch.tensor(_chance().random_sample((self.start + self.size, self.space.length + 1))[self.start :])
        x = _tokens(self.space, draws[:, 1:])
        real = torch.ones_like(x, dtype=torch.bool)
        if self.space.padding is not None:
            like = context.data(self.texts).x
            real = like[(draws[:, 0] * len(like)).long()] != self.space.padding
            x = torch.where(real, x, self.space.padding)
        upper = (x >= self.space.vocabulary // 2) & real
        return Data(x, (2 * upper.sum(1) > real.sum(1)).long())


def made_up(space: Space, like: Source, start: bool = False) -> Any:
    """Inputs of a space that are no examples of any task: a source, or None where nobody knows how to make them.

    Args:
        space: What an input is.
        like: Inputs of the task, whose ranges and lengths are looked at.
        start: Others than those that are given without it, as many.
    """
    if isinstance(space, Images):
        return NoiseImages(space.shape, NOISE, NOISE * start)
    if isinstance(space, Rows):
        return OutsideRows(like, space, MADE, MADE * start)
    return RandomTexts(like, space, MADE, MADE * start) if isinstance(space, Tokens) else None


def noise(space: Space, count: int, rng: torch.Generator) -> Tensor:
    """Random inputs [count, ...]: uniform pixels, normal numbers and random categories, uniform tokens."""
    if isinstance(space, Rows):
        numbers = torch.randn((count, space.numbers), generator=rng)
        chosen = torch.rand((count, len(space.categories)), generator=rng).numpy()
        return torch.cat([numbers, *(torch.tensor(one).float() for one in _one_hot(space, chosen))], 1)
    drawn = torch.rand((count, *space.shape), generator=rng)
    return _tokens(space, drawn) if isinstance(space, Tokens) else drawn


def _one_hot(space: Rows, chosen: NDArray[Any]) -> list[NDArray[Any]]:
    """From draws in [0, 1), [N, categories], to the columns of each category, [N, values]."""
    return [np.eye(count)[(chosen[:, place] * count).astype(int)] for place, (_, count) in enumerate(space.categories)]


def _tokens(space: Tokens, drawn: Tensor) -> Tensor:
    """From draws in [0, 1) to tokens, none of which is padding."""
    if space.padding is None or space.vocabulary == 1:
        return (drawn * space.vocabulary).long()
    found = (drawn * (space.vocabulary - 1)).long()
    return found + (found >= space.padding).long()  # those behind it move up


def _chance() -> np.random.RandomState:
    return np.random.RandomState(0)  # numpy promises that its stream never changes
