"""Finds what studies name (mechanisms, measures, conditions, suspects): built-in, installed, or in single files.

No other module names one, and this one names only the folders: a new one is one new file.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from guardclash import conditions, measures, mechanisms, suspects
from guardclash.data import catalog as data_catalog
from guardclash.data.dataset import Dataset
from guardclash.errors import UserError, suggestion
from guardclash.measure import Measure
from guardclash.mechanism import Mechanism
from guardclash.modules import DIGITS, Fresh, line, module_from, told
from guardclash.plan.condition import Condition
from guardclash.suspect import Suspect
from guardclash.tasks import catalog as task_catalog
from guardclash.tasks.recipe import standard
from guardclash.tasks.task import Task

GROUP = "guardclash.mechanisms"
"""Entry-point group of other packages: each entry names a module that defines what studies name, or data sets."""


T = TypeVar("T")


@dataclass(frozen=True)
class Door(Generic[T]):
    """A kind of things that are found by name."""

    base: type[T]
    """What they are subclasses of."""
    folder: ModuleType
    """The package that holds the built-in ones, one file each."""
    word: str
    """What one is called in messages."""
    named: str = "name"
    """The class attribute by which studies call one."""
    other: tuple[type, ...] = ()
    """Classes whose subclasses come in by doors of their own."""

    def name(self, cls: type) -> Any:
        """How studies call a class."""
        return getattr(cls, self.named, None)

    def let(self, cls: type) -> bool:
        """Whether a class is one of these, and no abstract one."""
        return issubclass(cls, self.base) and not issubclass(cls, self.other) and isinstance(self.name(cls), str)


MECHANISMS: Door[Mechanism] = Door(Mechanism, mechanisms, "mechanism")
MEASURES: Door[Measure] = Door(Measure, measures, "measure", other=(Mechanism,))
CONDITIONS: Door[Condition] = Door(Condition, conditions, "condition")
SUSPECTS: Door[Suspect] = Door(Suspect, suspects, "kind of suspect", named="kind")
DOORS: tuple[Door[Any], ...] = (MECHANISMS, MEASURES, CONDITIONS, SUSPECTS)


@cache
def known(door: Door[T], plugins: tuple[Path, ...] = ()) -> Mapping[str, type[T]]:
    """All things of a kind, by name.

    Args:
        door: Which kind.
        plugins: Single-file plugins, as absolute paths.

    Raises:
        UserError: If two have one name, or a plugin cannot be imported.
    """
    found: dict[str, type[T]] = {}
    for module in [*_built_in(door), *_installed(), *(_load_file(path) for path in plugins)]:
        for cls in _defined_in(module, door):
            first = found.setdefault(door.name(cls), cls)
            if first is not cls:
                raise UserError(
                    f"two {door.word}s are called {door.name(cls)!r}: in {first.__module__} and in {cls.__module__}",
                    mend=f"Rename one (its class attribute `{door.named}`).",
                )
    return found


def find(door: Door[T], name: str, plugins: tuple[Path, ...] = ()) -> type[T]:
    """One thing of a kind, by name.

    Raises:
        UserError: If there is none, with the nearest name.
    """
    there = known(door, plugins)
    if name not in there:
        raise UserError(f"unknown {door.word} {name!r}", mend=suggestion(name, there))
    return there[name]


def find_mechanisms(plugins: tuple[Path, ...] = ()) -> Mapping[str, type[Mechanism]]:
    """All mechanisms by name; see `known`."""
    return known(MECHANISMS, plugins)


def find_mechanism(name: str, plugins: tuple[Path, ...] = ()) -> type[Mechanism]:
    """One mechanism by name; see `find`."""
    return find(MECHANISMS, name, plugins)


def _built_in(door: Door[Any]) -> Iterator[ModuleType]:
    for module in pkgutil.iter_modules(door.folder.__path__, door.folder.__name__ + "."):
        yield importlib.import_module(module.name)


def _installed() -> Iterator[ModuleType]:
    for entry in entry_points(group=GROUP):
        try:
            module = entry.load()
            if not isinstance(module, ModuleType):
                raise TypeError(f"{entry.value} is not a module")
        except Exception as error:
            raise UserError(
                f"the installed plugin {entry.name!r} cannot be imported: {told(error)}", where=entry.value
            ) from error
        _register_tasks(module)
        yield module


@cache
def _load_file(path: Path) -> ModuleType:
    """Imports a single-file plugin under its stem, with the hash of its source as part of its classes' identity."""
    name = f"guardclash_plugin_{path.stem}"  # a file called json.py must not become the module json
    if name in sys.modules:
        raise UserError(f"a module called {name!r} is loaded already", where=path, mend="Rename the plugin's file.")
    loader = Fresh(name, str(path))
    try:
        if path.suffix != ".py":
            raise FileNotFoundError
        source = loader.sha256
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError("no such plugin", where=path, allowed="a Python file, relative to the study file") from error
    except OSError as error:
        raise UserError(f"the plugin cannot be read: {error.strerror}", where=path) from error
    module = module_from(name, loader)
    module.__guardclash_source__ = source[:DIGITS]  # type: ignore[attr-defined]
    # Before it runs: dataclasses look their module up there, and pickles do later.
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        # A module that is half made must not be found by the next try.
        del sys.modules[name]
        raise UserError(f"the plugin cannot be imported: {told(error)}", where=line(path, error)) from error
    if not _register_tasks(module) and not any(_defined_in(module, door) for door in DOORS):
        del sys.modules[name]
        what = "the plugin holds no mechanism, and nothing else that studies could name"
        raise UserError(what, where=path, mend="See docs/extend.md.")
    return module


def _defined_in(module: ModuleType, door: Door[T]) -> list[type[T]]:
    """Concrete things of a kind that a module defines, not those that it imports."""
    classes = (
        value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__
    )
    found = [cast(type[T], cls) for cls in classes if door.let(cls)]
    for cls in found:
        if door is MECHANISMS and not isinstance(getattr(cls, "concern", None), str):
            raise UserError(
                "a mechanism must say which concern it is for", where=f"{module.__name__}.{cls.__name__}.concern"
            )
    return found


def adopt_tasks(tasks: Iterable[Task]) -> None:
    """Makes somebody's own tasks known in this process, by names that say the content of their data.

    Raises:
        UserError: Two of them have one name, or one has that of a built-in task.
    """
    seen: set[str] = set()
    for task in tasks:
        label = task.data.label
        if label in seen or label in task_catalog.tasks() or label in data_catalog.datasets():
            raise UserError("two tasks have one name", where=f"task {label}", got=label, mend="Rename one.")
        seen.add(label)
        data_catalog.adopt(task.data)
        task_catalog.adopt(task)


def _register_tasks(module: ModuleType) -> int:
    """Makes a module's data sets and tasks known; returns how many there are.

    A data set that no task is written for gets the standard recipes, if it can be trained on.
    """
    tasks = [value for value in vars(module).values() if isinstance(value, Task)]
    own = [value for value in vars(module).values() if isinstance(value, Dataset)]
    for dataset in dict.fromkeys((*own, *(task.data for task in tasks))):
        data_catalog.register(dataset)
    bare = [dataset for dataset in own if dataset not in [task.data for task in tasks]]
    for task in (*tasks, *(Task(dataset, standard(dataset)) for dataset in bare if standard(dataset))):
        task_catalog.register(task)
    return len(own) + len(tasks)
