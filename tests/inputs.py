"""Small data sets of every kind of input, whose classes can be told apart: what tests of tasks train on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from guardclash.data.catalog import datasets
from guardclash.data.dataset import Dataset
from guardclash.data.examples import Examples
from guardclash.data.space import Images, Rows, Space, Tokens
from guardclash.tasks.catalog import tasks
from guardclash.tasks.recipe import standard
from guardclash.tasks.task import Task

TRAIN, TEST = 192, 160


@dataclass(frozen=True)
class Made:
    """Reads examples of a space whose classes can be told apart."""

    space: Space
    classes: int
    several: bool = False

    def __call__(self, split: str, folder: Path) -> Examples:
        chance = np.random.default_rng(len(split))
        size = TRAIN if split == "train" else TEST
        y = np.arange(size, dtype=np.int64) % self.classes
        labels = (chance.random((size, self.classes)) < 0.4).astype(np.float32) if self.several else y
        return Examples(self._inputs(y, chance), labels)

    def _inputs(self, y, chance):
        space, size = self.space, len(y)
        if isinstance(space, Images):
            x = chance.random((size, *space.shape)) * 0.5 + 0.5 * (y / self.classes)[:, None, None, None]
            return x.astype(np.float32) if space.floats else (255 * x).astype(np.uint8)
        if isinstance(space, Rows):
            numbers = chance.normal(size=(size, space.numbers)) + y[:, None]
            blocks = [np.eye(count)[chance.integers(count, size=size)] for _, count in space.categories]
            return np.concatenate([numbers, *blocks], 1).astype(np.float32)
        x = chance.integers(1, space.vocabulary // self.classes, (size, space.length))
        x = x + (y * (space.vocabulary // self.classes))[:, None]
        if space.padding is not None:
            x[np.arange(space.length) >= chance.integers(2, space.length + 1, (size, 1))] = space.padding
        return x.astype(np.int64)


COLUMNS = ("age", "hours", "red", "green", "blue", "yes", "no")
CATEGORIES = (("colour", 3), ("married", 2))
SPACES = {
    "grey": Images((1, 8, 8)),
    "colour": Images((3, 8, 8)),
    "two-channel": Images((2, 8, 8)),
    "float": Images((1, 8, 8), floats=True),
    "row": Rows(COLUMNS, CATEGORIES),
    "number": Rows(("a", "b", "c")),
    "category": Rows(COLUMNS[2:], CATEGORIES),
    "text": Tokens(6, 40, padding=0),
    "unpadded": Tokens(6, 40),
    "several": Rows(COLUMNS, CATEGORIES),
    "several-images": Images((1, 8, 8)),
}


def dataset(kind: str) -> Dataset:
    space, several = SPACES[kind], kind.startswith("several")
    classes = 4 if several else 3
    sizes = (("train", TRAIN), ("test", TEST))
    read = Made(space, classes, several)
    return Dataset(name_of(kind), kind, space, classes, sizes, read, several_labels=several)


def name_of(kind: str) -> str:
    """The name of its data set."""
    return f"{kind}s-of-spaces"


@pytest.fixture(scope="module", autouse=True)
def every_space() -> Iterator[None]:
    found = {data.name: data for data in map(dataset, SPACES)}
    datasets().update(found)
    tasks().update({name: Task(data, standard(data)) for name, data in found.items()})
    yield
    for name in found:
        del datasets()[name], tasks()[name]
