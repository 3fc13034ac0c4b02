"""What all tests share: contexts without files, and the `--plugin` option."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from guardclash.plan.identity import fingerprint
from guardclash.plan.plan import Plan
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.train import train
from guardclash.training.trained import Trained

NOWHERE = Path("nowhere")
pytest_plugins = ["pages", "running"]
"""Fixtures of pages and of runs."""


def pytest_configure() -> None:
    """Ctrl-C is what it is, also where whoever started the tests has it ignored, as shells do in the background."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--plugin",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a single-file plugin whose mechanisms tests/test_every_mechanism.py tests as well; may be repeated",
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read of somebody's own data is kept here, not in the cache of whoever runs the tests."""
    monkeypatch.setenv("GUARDCLASH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs from the command line try nothing first, which would take long; tests/test_dry_run.py asks for it."""
    monkeypatch.setenv("GUARDCLASH_CHECK", "0")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums of floats depend on the number of threads, and some tests compare them to the last bit."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def context() -> Callable[[int], RunContext]:
    """The context of a seed. Plans that a source or a measurement reads are trained when they are asked for."""
    kept: dict[tuple[str, int], Trained] = {}

    def trained(plan: Plan, seed: int) -> Trained:
        key = fingerprint(plan), seed
        if key not in kept:
            kept[key] = train(plan, of_seed(seed))
        return kept[key]

    def of_seed(seed: int = 0) -> RunContext:
        return RunContext(seed, NOWHERE, trained)

    return of_seed


@pytest.fixture(scope="session")
def base() -> Plan:
    """An unprotected training of a fraction of a second: 256 digits, batches of 64, 2 epochs."""
    return recipe("digits", "smoke").plan()


@pytest.fixture(scope="session")
def toy() -> Plan:
    """Two steps on 64 digits."""
    return recipe("digits", "smoke", examples=64, batch_size=32, epochs=1).plan()
