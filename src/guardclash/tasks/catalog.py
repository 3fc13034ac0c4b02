"""The tasks by name: the built-in ones, one file each in this folder, and those of plugins."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from guardclash.data.catalog import find_dataset
from guardclash.errors import UserError, suggestion
from guardclash.plan.purpose import Purpose
from guardclash.tasks.task import Task


@cache
def tasks() -> dict[str, Task]:
    """All tasks by name; `register` adds those of plugins."""
    return dict(_built_in())


@cache
def _built_in() -> dict[str, Task]:
    folder = Path(__file__).parent
    package = __name__.rpartition(".")[0]
    modules = (importlib.import_module(f"{package}.{found.name}") for found in pkgutil.iter_modules([str(folder)]))
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Task)]
    return {task.name: task for task in found}


def register(task: Task) -> None:
    """Adds the task of a plugin; adding it again changes nothing.

    Raises:
        UserError: Another task has that name.
    """
    if tasks().setdefault(task.name, task) != task:
        raise UserError("two tasks have the same name", where="name", got=task.name, mend="Rename one.")


def adopt(task: Task) -> None:
    """Adds somebody's own task, in the place of one of the same name: on the same data, perhaps trained otherwise."""
    tasks()[task.name] = task


def find_task(name: str) -> Task:
    """The task of that name.

    Raises:
        UserError: There is none, or it is a data set that nothing is trained on.
    """
    known = tasks()
    if name not in known:
        find_dataset(name)  # an unknown name is an unknown data set
        what = "this data set is a source of other images, and no model is trained for it"
        raise UserError(what, where="dataset", got=name, mend=suggestion(name, known))
    return known[name]


@cache
def _standard() -> frozenset[Purpose]:
    return frozenset(task.purpose() for task in _built_in().values())


def deviation(purpose: Purpose | None) -> tuple[Purpose, ...]:
    """What of a purpose belongs into the key of a measurement: nothing where it is that of a built-in task.

    A measurement reads it (the test set, the neighbour), and so its result is another one where these differ: under a
    condition, on other data, or for a task of somebody else's.
    """
    return () if purpose is None or purpose in _standard() else (purpose,)
