"""The trainings that a value holds: what must be finished before it can be used, and what else reads its examples."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

from guardclash.plan.identity import Remembered, parts
from guardclash.plan.plan import OtherSeed, Plan

Held = tuple[tuple[Plan, tuple[OtherSeed, ...]], ...]
"""Plans, each with what leads from a replicate's seed to its own, the outermost first."""


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
    return seeded(held(value), seed)


def seeded(found: Held, seed: int) -> Iterator[tuple[Plan, int]]:
    """Trainings with their seeds, for a replicate's."""
    for plan, others in found:
        yield plan, reduce(lambda own, other: other.seed(own), others, seed)


def made_of(source: Any) -> Iterator[Any]:
    """A source and all that it is made of, itself first; other trainings are left out."""
    if not isinstance(source, Plan | OtherSeed):
        yield source
        for part in parts(source):
            yield from made_of(part)


def _held(value: Any) -> Iterator[tuple[Plan, tuple[OtherSeed, ...]]]:
    for part in reads(value):
        inner, others = (part.plan, (part,)) if isinstance(part, OtherSeed) else (part, ())
        yield from ((plan, (*others, *further)) for plan, further in held(inner))
        if isinstance(inner, Plan):
            yield inner, others


def _depth(value: Any) -> int:
    return max((depth(plan) + 1 for plan, _ in held(value)), default=0)


held: Remembered[Held] = Remembered(lambda value: tuple(_held(value)))
"""The trainings that a value holds, whatever the seed: the same for all replicates."""
depth: Remembered[int] = Remembered(_depth)
"""How many trainings must come one after another before a plan, or what holds plans, can be used."""
