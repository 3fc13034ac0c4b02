"""Student's t in the forms that verdicts need, from replicates or printed summaries (paper, section 4.2).

Every test starts from an `Estimate`: value, standard error and degrees of freedom. Fewer than two replicates show no
spread: their tests and intervals are nan, which is never below a level, so nothing is decided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import fmean, stdev

from guardclash.errors import UserError

TOLERANCE = 1e-9
"""Differences below this share of the numbers compared are rounding: 0.97 - 0.67 is 0.30."""


@dataclass(frozen=True)
class Sample:
    """The replicates of one metric, or the summary that a paper prints of them.

    Args:
        values: The replicates, in the order of their seeds.
        summary: Mean, standard deviation and count; for a sample of which no more is known. See `Sample.of`.

    Raises:
        UserError: A value is nan or -inf, a deviation negative, a count below one, or a seed missing. A value of inf is
            a quantity without any bound, such as the epsilon of a training without privacy: mean inf, no spread.

    Example:
        >>> Sample((0.25, 0.5, 0.75)).mean
        0.5
        >>> Sample.of(0.97, 0.01, 5).n
        5
    """

    values: tuple[float, ...] = ()
    summary: tuple[float, float, int] | None = None
    seeds: tuple[int, ...] = ()
    """Of the values, in their order; empty: not known, so that no seed can be set against the same seed elsewhere."""
    mean: float = field(init=False, compare=False)
    """nan of no values."""
    std: float = field(init=False, compare=False)
    """With n - 1 in the denominator; nan of fewer than two values."""
    n: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        values = tuple(float(value) for value in self.values)
        if not all(math.isfinite(value) or value == math.inf for value in values):
            raise UserError("a sample holds numbers only, or inf", got=values, mend="Build it by Metric.sample")
        if self.seeds and len(self.seeds) != len(values):
            raise UserError("a sample has one seed for each value", got=self.seeds, allowed=f"{len(values)} seeds")
        mean, std, n = self.summary or _summary(values)
        vars(self).update(values=values, mean=mean, std=std if n > 1 else math.nan, n=n)  # it is frozen

    @classmethod
    def of(cls, mean: float, std: float, n: int) -> Sample:
        """A sample of which only mean, standard deviation (of one replicate: ignored) and count are known."""
        std = std if n > 1 else 0.0
        if not (math.isfinite(mean) and 0 <= std < math.inf and n >= 1):
            raise UserError("no such sample", got=(mean, std, n), allowed="a finite mean, 0 <= std < inf, n >= 1")
        return cls((), (float(mean), float(std), n))

    def minus(self, other: Sample) -> Sample:
        """The differences from another sample, seed by seed, of the seeds that both have.

        Example:
            >>> Sample((3.0, 5.0), seeds=(0, 1)).minus(Sample((1.0, 2.0), seeds=(1, 2))).values
            (4.0,)
        """
        return _by_seed(((1.0, self), (-1.0, other)))

    def without(self, index: int) -> Sample:
        """The sample without one of its values."""
        left = tuple(value for place, value in enumerate(self.values) if place != index)
        return Sample(left, seeds=tuple(seed for place, seed in enumerate(self.seeds) if place != index))

    def scaled(self, factor: float) -> Sample:
        """Every replicate multiplied by `factor`."""
        if not self.values:
            return Sample.of(self.mean * factor, self.std * abs(factor), self.n) if self.n else self
        return Sample(tuple(value * factor for value in self.values), seeds=self.seeds)


@lru_cache(100_000)  # the same are held against many
def _summary(values: tuple[float, ...]) -> tuple[float, float, int]:
    if math.inf in values:
        return math.inf, math.nan, len(values)
    mean = fmean(values) if values else math.nan
    return mean, stdev(values) if len(values) > 1 else math.nan, len(values)


@dataclass(frozen=True)
class Estimate:
    """What replicates say about a quantity."""

    value: float
    error: float
    """Standard error, in the units of the value; 0 if the replicates do not vary, nan if they are too few."""
    df: float
    """Degrees of freedom of the standard error; inf when it is 0."""


Terms = tuple[tuple[float, Sample], ...]
"""Samples with their weights in a sum of means."""


def estimate_mean(sample: Sample) -> Estimate:
    """The mean of a sample, with Student's standard error."""
    return contrast(((1.0, sample),))


def estimate_difference(a: Sample, b: Sample, paired: bool = False) -> Estimate:
    """mean(a) - mean(b), see `contrast`."""
    return contrast(((1.0, a), (-1.0, b)), paired)


def contrast(terms: Terms, paired: bool = False) -> Estimate:
    """A weighted sum of means.

    Args:
        terms: Weight and sample of each; one sample that occurs twice has its weights added up.
        paired: Seed by seed, with the seeds that all samples have: where values of one seed share their chance. Else
            the samples count as independent, with the standard error and the degrees of freedom of Welch and
            Satterthwaite.

    Example:
        >>> round(contrast(((1.0, Sample.of(0.9, 0.01, 5)), (-1.0, Sample.of(0.7, 0.02, 5)))).value, 3)
        0.2
    """
    if paired and len(terms) > 1:
        return contrast(((1.0, _by_seed(terms)),))
    # By identity: an arm that occurs twice is one set of replicates, two arms with equal values are two.
    arms = {id(sample): sample for _, sample in terms}
    weights = {arm: sum(weight for weight, sample in terms if id(sample) == arm) for arm in arms}
    summed = [(weights[arm], sample) for arm, sample in arms.items() if weights[arm]]
    value = sum(weight * sample.mean for weight, sample in summed)
    if any(sample.n < 2 or not math.isfinite(sample.mean) for _, sample in summed):
        return Estimate(value, math.nan, math.nan)
    errors = [abs(weight) * sample.std / math.sqrt(sample.n) for weight, sample in summed]
    error, scale = math.hypot(*errors), max((abs(sample.mean) for _, sample in summed), default=0.0)
    if error <= TOLERANCE * scale:
        return Estimate(0.0 if abs(value) <= TOLERANCE * scale else value, 0.0, math.inf)
    # As shares of the variance, because the squares of tiny variances would underflow.
    shares = ((one / error) ** 2 for one in errors)
    df = 1 / sum(share**2 / (sample.n - 1) for share, (_, sample) in zip(shares, summed, strict=True))
    return Estimate(value, error, df)


def _by_seed(terms: Terms) -> Sample:
    values = [dict(zip(sample.seeds, sample.values, strict=False)) for _, sample in terms]
    shared = [seed for seed in values[0] if all(seed in other for other in values)]
    weights = [weight for weight, _ in terms]
    parts = ([w * other[seed] for w, other in zip(weights, values, strict=True)] for seed in shared)
    return Sample(tuple(map(_sum, parts)), seeds=tuple(shared))


def _sum(parts: Sequence[float]) -> float:
    total = sum(parts)  # what is nothing but the rounding of its parts would decide against a bound of 0
    return 0.0 if abs(total) <= TOLERANCE * max(map(abs, parts)) else total


@dataclass(frozen=True)
class TTest:
    """A t test of one quantity against one value. All is nan when there are too few replicates."""

    t: float
    df: float
    p: float
    """Two-sided: small when the quantity differs from the value."""
    p_less: float
    """One-sided: small when the quantity lies below the value."""
    p_greater: float
    """One-sided: small when the quantity lies above the value."""


def t_test(estimate: Estimate, value: float = 0.0) -> TTest:
    """Tests an estimate against a value.

    Without any spread the point decides: p is 0 for the side on which the estimate lies and 1 for the other;
    an estimate on the value itself is neither below nor above nor different (all p = 1).
    """
    gap = estimate.value - value
    if estimate.error == 0:
        on = abs(gap) <= TOLERANCE * max(abs(estimate.value), abs(value))
        t = 0.0 if on else math.copysign(math.inf, gap)
        return TTest(t, estimate.df, float(on), float(t >= 0), float(t <= 0))
    # Imported where it is used: it takes longer than all else that reading a report needs.
    from scipy.special import stdtr

    t = gap / estimate.error
    less, greater = float(stdtr(estimate.df, t)), float(stdtr(estimate.df, -t))
    return TTest(t, estimate.df, 2 * min(less, greater), less, greater)


def welch(a: Sample, b: Sample) -> TTest:
    """Welch's t test of mean(a) - mean(b) against 0: equal means, unequal variances (paper, section 4.2)."""
    return t_test(estimate_difference(a, b))


def one_sample(sample: Sample, value: float) -> TTest:
    """Student's t test of mean(sample) against a fixed value."""
    return t_test(estimate_mean(sample), value)


@dataclass(frozen=True)
class Tost:
    """Two one-sided tests; `p` is the larger of both, small when the difference lies between the bounds."""

    p: float
    p_low: float
    """Small when the difference lies above the lower bound."""
    p_high: float
    """Small when the difference lies below the upper bound."""


def tost(a: Sample, b: Sample, low: float, high: float) -> Tost:
    """Two one-sided Welch tests that low < mean(a) - mean(b) < high (paper, section 4.2).

    Example:
        >>> round(tost(Sample.of(0.97, 0.02, 5), Sample.of(0.67, 0.04, 10), -0.3, 0.3).p, 6)
        0.5
    """
    difference = estimate_difference(a, b)
    p_low, p_high = t_test(difference, low).p_greater, t_test(difference, high).p_less
    return Tost(max(p_low, p_high), p_low, p_high)


def interval(estimate: Estimate, alpha: float = 0.05) -> tuple[float, float]:
    """The two-sided interval of confidence 1 - 2 alpha.

    Twice alpha, so that one-sided tests at level alpha can be read off it: the estimate is significantly
    above a value exactly when the whole interval is, and TOST shows equivalence exactly when the interval
    lies between its bounds.
    """
    if estimate.error == 0:
        return estimate.value, estimate.value
    from scipy.special import stdtrit

    half = float(stdtrit(estimate.df, 1 - alpha)) * estimate.error
    return estimate.value - half, estimate.value + half


def replicates_needed(
    distance: float, stds: Sequence[float], alpha: float = 0.05, power: float = 0.8, most: int = 1000
) -> int | None:
    """How many replicates would let a one-sided test decide, if means and spreads stay as they are.

    Args:
        distance: From the estimate to the value tested against, in the units of the metric, of either sign.
        stds: The standard deviation of each arm: two for a difference, one for a mean.
        alpha: Level of the test.
        power: Wanted chance of deciding, by the noncentral t distribution.
        most: Beyond this the answer is None.

    Returns:
        The smallest number of replicates in each arm (all arms of equal size), at least 2; None when the
        estimate sits on the value, when more than `most` would be needed, or when a spread is unknown.
    """
    variances = [std**2 for std in stds]
    total = sum(variances)
    if not distance or not math.isfinite(total):
        return None
    if math.sqrt(total) <= TOLERANCE * abs(distance):
        return 2
    from scipy.special import nctdtr, stdtrit

    def decides(n: int) -> bool:
        df = (n - 1) / sum((variance / total) ** 2 for variance in variances)
        noncentrality = abs(distance) / math.sqrt(total / n)
        missed = nctdtr(df, noncentrality, stdtrit(df, 1 - alpha))
        return not missed > 1 - power  # nan where the chance of missing underflows

    if not decides(most):
        return None
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjustment: rejecting where adjusted p < alpha keeps the family-wise error at alpha.

    It holds whatever the dependence between the tests, so shared baselines do no harm. The order is kept.

    Example:
        >>> holm((0.01, 0.04, 0.03))
        (0.03, 0.06, 0.06)
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)
