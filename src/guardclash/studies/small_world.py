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
from guardclash.errors import UserError
from guardclash.records.cells import Named
from guardclash.studies.composing import compose_study
from guardclash.studies.study import Study
from guardclash.studies.trials import ComposedCell

SIZES = (256, 1024, 4096)
"""Examples of each split: the first number with which the study can be composed, for mechanisms may ask for more."""


@dataclass(frozen=True)
class _First:
    """Reads the first examples of a split."""

    whole: Dataset
    count: int

    def __call__(self, split: str, folder: Path) -> Examples:
        found, few = load(self.whole, split, folder), slice(self.count)
        return Examples(found.x[few], found.y[few], {name: values[few] for name, values in found.about.items()})


@contextmanager
def small_world(study: Study) -> Iterator[tuple[ComposedCell, ...]]:
    """The cells of a study on few examples, or on all where it cannot be composed on few.

    As long as it lasts, all data sets of this process are as short.

    Args:
        study: An open study that can be composed.
    """
    known = datasets()
    whole = dict(known)
    try:
        for count in SIZES:
            known.update({name: _short(dataset, count) for name, dataset in whole.items()})
            try:
                composed = compose_study(_cut(study, count))
            except UserError:  # a mechanism asks for more than there is
                continue
            break
        else:
            known.update(whole)
            composed = compose_study(study)
        yield composed
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
