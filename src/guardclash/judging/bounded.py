"""Tests of means that presume nothing about a distribution but its range: no normality, no absence of rare failures.

A bettor who stakes a fixed share of the own wealth on every replicate against "the mean is at most u" has, if that is
true, no more wealth on average than at the start. So wealth W >= 1 / p has chance at most p (Ville 1939), for any
distribution on the range and any number of replicates. Wealth is averaged over shares, which makes it independent of
the order of the replicates (Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, 2024).
Two independent samples' wealths multiply.

The price: to exclude that one training in five fails badly, enough trainings must be seen. Three never suffice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from guardclash.judging.rules import PValues
from guardclash.judging.stats import Sample

if TYPE_CHECKING:
    from numpy import ndarray

GRID = 401
"""Candidate means between the ends of the range; p is the largest over them."""
SHARES = 20
"""Stakes that wealth is averaged over."""


def mean_above(sample: Sample, value: float, span: tuple[float, float]) -> float:
    """p-value, small when the mean of a sample lies above a value.

    Args:
        sample: Its values, all in `span`.
        value: What the mean is held against.
        span: The least and the largest possible value.

    Example:
        >>> mean_above(Sample((0.9,) * 12), 0.6, (0.0, 1.0)) < 0.05
        True
    """
    import numpy as np

    return float(min(1.0, 1 / _wealth(sample, np.array([value]), span)[0]))


def difference_above(a: Sample, b: Sample, gap: float, span: tuple[float, float]) -> float:
    """p-value, small when mean(a) - mean(b) > gap; arguments as `mean_above`.

    Whatever the mean of b, one candidate of a grid is next to it; wealth is taken on the cautious side of each cell.
    """
    import numpy as np

    low, high = span
    edges = np.linspace(low, high, GRID)
    mirrored = Sample(tuple(low + high - value for value in b.values))
    above = _wealth(a, edges[1:] + gap, span)  # against the larger mean of each cell
    below = _wealth(mirrored, low + high - edges[:-1], span)  # and against the smaller one
    return float(min(1.0, (1 / (above * below)).max()))


def of_a_drop(
    together: Sample, alone: Sequence[Sample], unprotected: Sample, drop: float, span: tuple[float, float]
) -> PValues:
    """p-values, small when a mean stays within a drop, or breaks it; more is better.

    Args:
        together: The combination.
        alone: Every baseline; a drop is broken against all of them, and kept against one.
        unprotected: What the combination must better, if it has values.
        drop: The largest admissible one.
        span: The least and the largest possible value.
    """
    within = min(difference_above(together, one, -drop, span) for one in alone) * len(alone)
    beyond = max(difference_above(one, together, drop, span) for one in alone)
    kept = difference_above(together, unprotected, 0.0, span) if unprotected.values else 0.0
    return PValues(noninferior=min(1.0, max(within, kept)), inferior=beyond)


def _wealth(sample: Sample, values: ndarray, span: tuple[float, float]) -> ndarray:
    """Wealth [V] from betting that the mean lies above each of the values [V]; inf where it cannot but."""
    import numpy as np

    low, _ = span
    room, rounding = values - low, 1e-9 * (span[1] - low)
    inside = room > rounding
    gains = (np.asarray(sample.values)[:, None] - values) / np.where(inside, room, 1.0)
    shares = (np.arange(SHARES) + 0.5) / SHARES
    logs = np.log1p(shares[:, None, None] * gains).sum(1)
    wealth = np.exp(np.clip(logs, -340, 340)).mean(0)
    # No mean lies below the range, and one at its end leaves no other value.
    certain = np.where((room < -rounding) | (max(sample.values) > low), 1e147, 1.0)
    return np.asarray(np.where(inside, wealth, certain))
