"""A study on few examples of its data: the same data sets, cut short, so that each of its parts is tried in no time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from guardclash.data.catalog import datasets
from guardclash.data.dataset import Dataset
from guardclash.data.examples import Examples
from guardclash.data.loading import load
from guardclash.records.cells import Named
from guardclash.studies.composing import compose_study
from guardclash.studies.study import Study
from guardclash.studies.trials import ComposedCell

OTHERS = 1024
"""Examples of each split of data sets that the study only draws from, such as triggers: of these a mechanism asks for
a number of its own."""


@dataclass(frozen=True)
class _First:
    """Reads the first examples of a split."""

    whole: Dataset
    count: int

    def __call__(self, split: str, folder: Path) -> Examples:
        found, few = load(self.whole, split, folder), slice(self.count)
        return Examples(found.x[few], found.y[few], {name: values[few] for name, values in found.about.items()})


@contextmanager
def small_world(study: Study, count: int | None) -> Iterator[tuple[ComposedCell, ...]]:
    """The cells of a study on few examples; as long as it lasts, all data sets of this process are as short.

    Args:
        study: An open study that can be composed.
        count: Examples of each split of its own data sets; None: all.

    Raises:
        UserError: It cannot be composed on so few: a mechanism asks for more.
    """
    known, own = datasets(), {recipe.name for recipe in study.recipes}
    whole = dict(known)
    try:
        if count is not None:
            known.update({name: _short(one, count if name in own else OTHERS) for name, one in whole.items()})
        yield compose_study(study if count is None else _cut(study, count))
    finally:
        known.clear()
        known.update(whole)


def _short(dataset: Dataset, count: int) -> Dataset:
    sizes = tuple((split, min(size, count)) for split, size in dataset.sizes)
    return replace(dataset, sizes=sizes, read=_First(dataset, count), bundled=True, contents=())


def _cut(study: Study, count: int) -> Study:
    """The study on all examples of short data sets."""
    tasks = tuple(replace(task, data=_short(task.data, count)) for task in study.tasks)
    return replace(study, tasks=tasks, recipes=tuple(map(_on_all, study.recipes)))


def _on_all(recipe: Named) -> Named:
    every: dict[str, Any] = {**dict(recipe.options), "examples": None, "test_examples": None}
    return Named(recipe.name, tuple(sorted(every.items())))
