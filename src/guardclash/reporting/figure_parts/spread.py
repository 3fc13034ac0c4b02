"""How far replicates are spread around their mean, as one figure draws it throughout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from guardclash.judging.stats import Sample, estimate_mean, interval
from guardclash.reporting.tables import percent

ENOUGH = 3
"""Replicates. The interval of two is so wide (12.7 standard errors) that it would hide all else."""


@dataclass(frozen=True)
class Spread:
    """Either intervals of means, or the smallest and the largest replicate."""

    intervals: bool
    level: float
    """Of the one-sided tests that can be read off the intervals."""

    def ends(self, values: Sample) -> tuple[float, float]:
        """Of one sample, which has values; one value has no spread."""
        if values.n < 2:
            return values.mean, values.mean
        if self.intervals:
            return interval(estimate_mean(values), self.level)
        return min(values.values), max(values.values)

    @property
    def words(self) -> str:
        """What is drawn, for a caption."""
        if self.intervals:
            return f"{percent(1 - 2 * self.level)} intervals of the means"
        return f"from the smallest to the largest seed (some means are of fewer than {ENOUGH})"


def spread_of(samples: Iterable[Sample], level: float) -> Spread:
    """Intervals if every sample has enough replicates for them; of none, whatever there is."""
    return Spread(all(values.n >= ENOUGH for values in samples), level)
