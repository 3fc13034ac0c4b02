"""Every mechanism on every kind of task composes, trains and measures, or clashes with its reason before training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from guardclash.compose import Clash, compose
from guardclash.data.catalog import datasets
from guardclash.data.dataset import Dataset
from guardclash.data.examples import Examples
from guardclash.data.pictures import PNG
from guardclash.data.space import Images, Rows, Space, Tokens
from guardclash.mechanism import Mechanism
from guardclash.plan.plan import Plan
from guardclash.registry import find_mechanisms
from guardclash.tasks.catalog import tasks
from guardclash.tasks.recipe import recipe, standard
from guardclash.tasks.task import Task
from guardclash.training.train import train

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
FEW = {
    "wm": {"triggers": 20},
    "advtr": {"steps": 2, "test_examples": 40},
    "trades": {"steps": 2, "test_examples": 40},
    "di": {"images": 20, "walks": 2, "steps": 5},
    "distance": {"images": 20},
    "raddata": {"iterations": 2, "held_out": 20},
}
"""Options under which a mechanism takes little time."""


def dataset(kind: str) -> Dataset:
    space, several = SPACES[kind], kind.startswith("several")
    classes = 4 if several else 3
    sizes = (("train", TRAIN), ("test", TEST))
    read = Made(space, classes, several)
    return Dataset(f"{kind}s-of-spaces", kind, space, classes, sizes, read, several_labels=several)


@pytest.fixture(scope="module", autouse=True)
def known() -> Iterator[None]:
    found = {data.name: data for data in map(dataset, SPACES)}
    datasets().update(found)
    tasks().update({name: Task(data, standard(data)) for name, data in found.items()})
    yield
    for name in found:
        del datasets()[name], tasks()[name]


def small(kind: str, examples: int = 96) -> Plan:
    return recipe(f"{kind}s-of-spaces", "smoke", epochs=1, examples=examples, batch_size=32).plan()


def mechanism(name: str, **options: object) -> Mechanism:
    return find_mechanisms()[name](**{**FEW.get(name, {}), **options})


CASES = [
    *itertools.product(SPACES, [(name, {}) for name in sorted(find_mechanisms())]),
    *itertools.product(["text", "unpadded"], [("advtr", {"embeddings": True}), ("trades", {"embeddings": True})]),
    *itertools.product(["row", "category"], [("di", {"embedding": "mingd"})]),
    *itertools.product(SPACES, [("wm", {"made": True})]),
]


@pytest.mark.parametrize(("kind", "named"), CASES, ids=[f"{kind}-{name}{'+' * bool(o)}" for kind, (name, o) in CASES])
def test_it_trains_and_measures_or_clashes_with_its_reason(kind, named, context):
    name, options = named
    plan, one = small(kind), mechanism(name, **options).bind(small(kind))
    try:
        composed = compose(plan, [one])
    except Clash as clash:
        assert not one.fits(plan)
        assert str(clash) == f"{name} {one.misfit(plan)}"
        assert ", and " in str(clash), "what it does, and why this task is not for it"
        return
    assert one.fits(plan)
    trained = train(composed, context(0))
    metrics = {metric.name for metric in one.metrics}
    measured = one.measure(trained, context(0))
    compared = one.verify(trained, trained, context(0))
    # Descents have no noise, and go to no more classes than the unrelated model has.
    absent = {"di_scale", "di_unrelated"} if options.get("embedding") == "mingd" else set()
    assert {*measured, *compared} == metrics - absent
    assert all(math.isfinite(value) for value in (*measured.values(), *compared.values()))
    assert one.measure(trained, context(0)) == measured, "measuring twice gives the same"
    assert all(metric.checked(measured[metric.name]) is not None for metric in one.metrics if metric.name in measured)
    assert all(isinstance(part, str) and part for line in one.facts(composed).items() for part in line)
    one.scatter(trained, context(0))
    assert all(picture.png.startswith(PNG) for picture in one.evidence(composed, context(0)))
