"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from types import ModuleType

import pytest

import guardclash

FOREIGN = {"guardclash.trackers.mlflow": "mlflow", "guardclash.trackers.tensorboard": "tensorboard"}
"""Modules that cannot be imported without a package that is not among the dependencies."""
NAMES = [module.name for module in pkgutil.walk_packages(guardclash.__path__, "guardclash.")]


def module(name: str) -> ModuleType:
    if name in FOREIGN:
        pytest.importorskip(FOREIGN[name])
    return importlib.import_module(name)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("__main__")])
def test_examples_are_true(name: str) -> None:
    assert doctest.testmod(module(name)).failed == 0


def test_there_are_examples() -> None:
    found = doctest.DocTestFinder(exclude_empty=True)
    known = [name for name in NAMES if name not in FOREIGN and not name.endswith("__main__")]
    assert sum(bool(test.examples) for name in known for test in found.find(module(name))) > 20
