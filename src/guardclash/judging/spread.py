"""What a mean and its interval hide: single seeds that lie apart, and failures too rare to be seen."""

from __future__ import annotations

import math

from guardclash.judging.stats import TOLERANCE, Sample

CRITICAL = (
    *(0.970, 0.829, 0.710, 0.625, 0.568, 0.526, 0.493, 0.466, 0.444),
    *(0.426, 0.410, 0.396, 0.384, 0.374, 0.365, 0.356, 0.349, 0.342),
)
"""Of Dixon's ratio at 95 %, for 3 to 20 values; the last serves for more (Rorabacher, Anal. Chem. 63, 1991)."""


def apart(sample: Sample) -> int | None:
    """The place of the value that lies far from all others by Dixon's test; None where there is none.

    Dixon's ratio is the gap to the nearest value over the whole range. For normal values it exceeds its critical value
    in 5 % of the cases; where single trainings collapse, it nearly always does once one of them is among the values.

    Example:
        >>> apart(Sample((0.97, 0.96, 0.98, 0.55, 0.97)))
        3
    """
    values = sample.values
    if len(values) < 3 or math.inf in values:
        return None
    order = sorted(range(len(values)), key=values.__getitem__)
    low, second, before, high = (values[order[place]] for place in (0, 1, -2, -1))
    whole = high - low
    if whole <= TOLERANCE * max(abs(low), abs(high)):
        return None
    below, above = second - low, high - before
    critical = CRITICAL[min(len(values), len(CRITICAL) + 2) - 3]
    if max(below, above) <= critical * whole:
        return None
    return order[0] if below > above else order[-1]


def unseen(failures: int, n: int, alpha: float) -> float:
    """The largest share of failing trainings that so many failures among n leave possible (Clopper and Pearson 1934).

    Args:
        failures: Seen, 0 to n.
        n: Trainings, at least 1.
        alpha: One minus the confidence of the bound.

    Example:
        >>> round(unseen(0, 3, 0.05), 2), round(unseen(0, 10, 0.05), 2)
        (0.63, 0.26)
    """
    if failures >= n:
        return 1.0
    from scipy.special import betaincinv

    return float(betaincinv(failures + 1, n - failures, 1 - alpha))


def at_least(times: int, n: int, chance: float) -> float:
    """The chance of at least so many events among n independent ones; 1 of none, whatever the chance.

    Example:
        >>> round(at_least(1, 45, 1e-3), 3)
        0.044
    """
    if not times:
        return 1.0
    from scipy.special import betainc

    return float(betainc(times, n - times + 1, chance))
