"""Finds mechanisms by name: the built-in ones, installed packages' entry points, and single files.

No other module names a mechanism, and this one names only the folder: a new mechanism is one new file.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from guardclash import mechanisms
from guardclash.data.catalog import Dataset, register
from guardclash.errors import UserError, suggestion
from guardclash.mechanism import Mechanism

GROUP = "guardclash.mechanisms"
"""Entry-point group of other packages: each entry names a module that defines mechanisms or data sets."""


@cache
def find_mechanisms(plugins: tuple[Path, ...] = ()) -> Mapping[str, type[Mechanism]]:
    """All mechanisms by name.

    Args:
        plugins: Single-file plugins, as absolute paths.

    Raises:
        UserError: If two have one name, or a plugin cannot be imported.
    """
    found: dict[str, type[Mechanism]] = {}
    for module in [*_built_in(), *_installed(), *(_load_file(path) for path in plugins)]:
        for cls in _defined_in(module):
            first = found.setdefault(cls.name, cls)
            if first is not cls:
                raise UserError(
                    f"two mechanisms are called {cls.name!r}: in {first.__module__} and in {cls.__module__}",
                    mend="Rename one (its class attribute `name`).",
                )
    return found


def find_mechanism(name: str, plugins: tuple[Path, ...] = ()) -> type[Mechanism]:
    """One mechanism by name.

    Raises:
        UserError: If there is none, with the nearest name.
    """
    known = find_mechanisms(plugins)
    if name not in known:
        raise UserError(f"unknown mechanism {name!r}", mend=suggestion(name, known))
    return known[name]


def _built_in() -> Iterator[ModuleType]:
    for module in pkgutil.iter_modules(mechanisms.__path__, mechanisms.__name__ + "."):
        yield importlib.import_module(module.name)


def _installed() -> Iterator[ModuleType]:
    for entry in entry_points(group=GROUP):
        try:
            module = entry.load()
            if not isinstance(module, ModuleType):
                raise TypeError(f"{entry.value} is not a module")
        except Exception as error:
            raise UserError(
                f"the installed plugin {entry.name!r} cannot be imported: {_told(error)}", where=entry.value
            ) from error
        _register_datasets(module)
        yield module


@cache
def _load_file(path: Path) -> ModuleType:
    """Imports a single-file plugin under its stem, with the hash of its source as part of its classes' identity."""
    name = f"guardclash_plugin_{path.stem}"  # a file called json.py must not become the module json
    if name in sys.modules:
        raise UserError(f"a module called {name!r} is loaded already", where=path, mend="Rename the plugin's file.")
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UserError("no such plugin", where=path, allowed="a Python file, relative to the study file")
    module = importlib.util.module_from_spec(spec)
    module.__guardclash_source__ = hashlib.sha256(path.read_bytes()).hexdigest()[:12]  # type: ignore[attr-defined]
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"the plugin cannot be imported: {_told(error)}", where=_line(path, error)) from error
    if not _register_datasets(module) and not _defined_in(module):
        del sys.modules[name]
        raise UserError("the plugin holds no mechanism", where=path, mend="See docs/add-a-mechanism.md.")
    return module


def _defined_in(module: ModuleType) -> list[type[Mechanism]]:
    """Concrete mechanisms that a module defines, not those that it imports."""
    classes = (
        value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__
    )
    found = [cls for cls in classes if issubclass(cls, Mechanism) and isinstance(getattr(cls, "name", None), str)]
    for cls in found:
        if not isinstance(getattr(cls, "concern", None), str):
            raise UserError(
                "a mechanism must say which concern it is for", where=f"{module.__name__}.{cls.__name__}.concern"
            )
    return found


def _register_datasets(module: ModuleType) -> int:
    """Makes a module's data sets known; returns how many there are."""
    datasets = [value for value in vars(module).values() if isinstance(value, Dataset)]
    for dataset in datasets:
        register(dataset)
    return len(datasets)


def _told(error: BaseException) -> str:
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _line(path: Path, error: BaseException) -> str:
    """The place in the file from which an error came, as far as it is known."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    lines += [error.lineno] if isinstance(error, SyntaxError) and error.filename == str(path) else []
    return f"{path}, line {lines[-1]}" if lines else str(path)
