"""The trainings that a value holds: what must be finished before it can be used, and what else reads its examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from guardclash.plan.identity import parts
from guardclash.plan.plan import OtherSeed, Plan


def reads(value: Any) -> tuple[Any, ...]:
    """What a value reads: what its `needed()` says, where it has one, else all that it is made of."""
    needed = None if isinstance(value, type) else getattr(value, "needed", None)
    return tuple(needed()) if needed else parts(value)


def trainings(value: Any, seed: int = 0) -> Iterator[tuple[Plan, int]]:
    """The trainings that a value holds, itself left out, with the seed of each, the innermost first.

    Args:
        value: A plan, or what holds plans: a source, a measure.
        seed: The replicate's.
    """
    for part in reads(value):
        inner, under = (part.plan, part.seed(seed)) if isinstance(part, OtherSeed) else (part, seed)
        yield from trainings(inner, under)
        if isinstance(inner, Plan):
            yield inner, under
