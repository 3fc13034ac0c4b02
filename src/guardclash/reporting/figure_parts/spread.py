"""How far axes of figures reach for the intervals of means that are drawn in them."""

from __future__ import annotations

from collections.abc import Iterable

from guardclash.judging.stats import Sample

ENOUGH = 3
"""Replicates. The interval of two is so wide (6.3 standard errors at 90 %) that it would hide all else."""


def held(values: Sample, ends: tuple[float, float] | None) -> tuple[float, ...]:
    """What an axis must hold of a sample: its interval, or the values alone where they are too few."""
    return ends if ends and values.n >= ENOUGH else values.values


def within(ends: tuple[float, float], numbers: Iterable[float], margin: float) -> tuple[float, float]:
    """The ends of an axis that holds all numbers, and what goes beyond them as far as a third of what they span.

    Args:
        ends: What would hold everything that is drawn, with the margin.
        numbers: What must be seen; at least one.
        margin: Around it, as a share of the span.
    """
    found = sorted(numbers)
    span = found[-1] - found[0] or abs(found[0]) or 1.0  # an axis needs a length, also where all are equal
    beyond = (1 / 3 + margin) * span
    return max(ends[0], found[0] - beyond), min(ends[1], found[-1] + beyond)
