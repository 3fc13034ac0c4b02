"""Steps in which layers compute inexactly, and draw chance for it; and when they must not.

A layer that rounds does so in the steps of its training, with a generator that the trainer hands over, and not where a
network is only looked at: what finds out by numbers whose row is whose must not find rounding instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_CHANCE: ContextVar[torch.Generator | None] = ContextVar("chance of inexact layers", default=None)
_EXACT: ContextVar[bool] = ContextVar("inexact layers are exact", default=False)


@contextmanager
def inexactly(rng: torch.Generator) -> Iterator[None]:
    """One step of a training whose layers may draw from a generator."""
    before = _CHANCE.set(rng)
    try:
        yield
    finally:
        _CHANCE.reset(before)


@contextmanager
def exactly() -> Iterator[None]:
    """While it lasts, layers give what they would without rounding, in a step as well."""
    before = _EXACT.set(True)
    try:
        yield
    finally:
        _EXACT.reset(before)


def is_exact() -> bool:
    """Whether layers must not round."""
    return _EXACT.get()


def step_chance() -> torch.Generator | None:
    """What inexact layers of the step under way draw from; None outside of such steps, and where they are exact."""
    return None if is_exact() else _CHANCE.get()
