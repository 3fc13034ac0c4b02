"""What steps of DP-SGD cost in epsilon, and the noise that a budget takes: Opacus's accountants within bounds.

Two upper bounds on the same mechanism, the Poisson-subsampled Gaussian under adding or removing one example: "rdp"
(Renyi divergences, Mironov et al. 2019) and "prv" (privacy loss by Fourier transforms on a grid, Gopi et al. 2021).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

History = tuple[tuple[float, float, int], ...]
"""Noise multiplier (0 spends infinitely much), Poisson sampling rate in (0, 1], and number of steps."""

MOST_STEPS = 2**53
"""Up to here a float counts every step; nobody makes more."""
_OPACUS = (*(1 + x / 10 for x in range(1, 100)), *range(12, 64), 64, 96, 128, 256)
_LARGE = (*dict.fromkeys(round(256 * 1.05**power) for power in range(1, 128)), 2**17)
ORDERS = (*_OPACUS, *_LARGE)
"""Opacus's own orders and larger ones: the best order is about 2 log(1/delta) / epsilon."""
MUCH_NOISE = 30.0
"""From here on, orders that are not whole are integrated."""
GRID = 3 * 2**20
"""Points of a grid of "prv": 1.5 GB and some seconds. The paper's settings at epsilon 3 take 1 to 3 million."""
FARTHEST = 700.0
"""Privacy loss up to which a grid of "prv" may reach: its exponential must be a float."""
PRV_ERROR = 0.01
"""What "prv" adds to epsilon for its own error, as in Opacus; less where the budget is small."""
LEAST_SHOWN = 1e-9
"""Share of a budget below which less spent is not told apart, so that logarithms stay finite."""


class Bound(NamedTuple):
    """An upper bound on epsilon."""

    epsilon: float
    """At least 0."""
    accountant: str
    """Which one gave it: the smaller bound of the two where "prv" was asked for, as both hold."""
    reason: str = ""
    """Why it is not the one that was asked for; "" where it is."""


def epsilon_spent(noise_multiplier: float, rate: float, steps: int, delta: float, accountant: str = "rdp") -> float:
    """Epsilon of so many equal steps of the subsampled Gaussian mechanism: see `epsilon_bound`."""
    return composed_epsilon(((noise_multiplier, rate, steps),), delta, accountant)


def composed_epsilon(history: History, delta: float, accountant: str = "rdp") -> float:
    """Epsilon of steps of the subsampled Gaussian mechanism on the same examples: see `epsilon_bound`."""
    return epsilon_bound(history, delta, accountant).epsilon


@lru_cache(maxsize=4096)
def epsilon_bound(history: History, delta: float, accountant: str = "rdp") -> Bound:
    """A bound on epsilon of steps of the subsampled Gaussian mechanism on the same examples.

    It takes at most 2 GB and some seconds, whatever is asked: where the grid of "prv" would be larger, the bound
    is that of "rdp", and says so.

    Args:
        history: Noise multiplier (0 spends infinitely much), Poisson sampling rate in (0, 1], and number of steps, at
            most `MOST_STEPS`.
        delta: Probability in (0, 1).
        accountant: "rdp" (Renyi; the paper's time) or "prv" (tighter, slower).
    """
    if any(noise * noise == 0 for noise, _, _ in history):
        return Bound(math.inf, accountant)
    renyi = _by_renyi(history, delta)
    if accountant == "rdp":
        return Bound(renyi, "rdp")
    # A tenth where the whole error would eat the budget.
    numerical = _by_grid(history, delta, min(PRV_ERROR, renyi / 10))
    if isinstance(numerical, str):
        return Bound(renyi, "rdp", numerical)
    return Bound(numerical, "prv") if numerical <= renyi else Bound(renyi, "rdp", 'its bound is below that of "prv"')


@lru_cache(maxsize=1024)
def calibrated_noise(epsilon: float, rate: float, steps: int, delta: float, accountant: str = "rdp") -> float:
    """The smallest noise multiplier of 5 digits that spends at most epsilon; never one that spends more.

    Returns:
        Noise from about 1e-6 to 1e6; infinity where no such noise reaches the budget.
    """

    def excess(log_noise: float) -> float:
        spent = epsilon_spent(math.exp(log_noise), rate, steps, delta, accountant)
        return math.log(max(spent / epsilon, LEAST_SHOWN))

    if accountant == "rdp":
        low, high = math.log(0.3), 0.0
    else:
        # Never dearer, and far from little noise, whose grids are the largest.
        high = math.log(calibrated_noise(epsilon, rate, steps, delta, "rdp"))
        low = high - 0.25
    while excess(high) > 0:
        low, high = high, high + 1
        if high > 14:
            return math.inf
    while excess(low) <= 0:
        low, high = low - 1, low
        if low < -14:
            return math.exp(high)  # hardly any noise is needed
    from scipy.optimize import brentq  # slow to load

    noise = rounded_up(math.exp(brentq(excess, low, high, rtol=1e-5)))
    while epsilon_spent(noise, rate, steps, delta, accountant) > epsilon:
        noise = rounded_up(noise * (1 + 1e-5))
    return noise


def rounded_up(value: float, digits: int = 5) -> float:
    """To significant digits, so that plans and their keys do not hang on an accountant's last bits."""
    place = digits - 1 - math.floor(math.log10(value))
    return math.ceil(value * 10**place) / 10**place


# --- Renyi divergences ------------------------------------------------------------------------------------------------


def _by_renyi(history: History, delta: float) -> float:
    """The least epsilon over all orders, by Balle et al. 2020, theorem 21; 0 where that is negative."""

    def epsilon(place: int) -> float:
        order = ORDERS[place]
        divergence = sum(renyi_divergence(order, noise, rate) * steps for noise, rate, steps in history)
        return float(divergence - (np.log(delta) + np.log(order)) / (order - 1) + np.log((order - 1) / order))

    return max(0.0, epsilon(_lowest(epsilon, len(ORDERS))))


def _lowest(value: Callable[[int], float], size: int) -> int:
    """The place of the least of values that first fall and then rise.

    Epsilon does so over the orders a: (a - 1) times it is a convex function of a, because that is true of Renyi
    divergences (a cumulant) and of what is added to them, and a convex function over a - 1 has no second valley.
    """
    low, high = 0, size - 1
    while low < high:
        middle = (low + high) // 2
        if value(middle) <= value(middle + 1):
            high = middle
        else:
            low = middle + 1
    return low


@lru_cache(maxsize=2**15)
def renyi_divergence(order: float, noise: float, rate: float) -> float:
    """Renyi divergence of one step of the Poisson-subsampled Gaussian mechanism, the larger of both directions.

    Args:
        order: > 1; a whole number or at most 11.
        noise: Noise multiplier, > 0.
        rate: Sampling rate in (0, 1].
    """
    if order > _OPACUS[-1]:
        return _of_whole_order(int(order), noise, rate)
    if order % 1 and noise > MUCH_NOISE:
        return _of_much_noise(order, noise, rate)
    from opacus.accountants.analysis.rdp import compute_rdp  # slow to load

    try:
        found = float(compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=[order])[0])
    except (OverflowError, ValueError):  # a series of fractional order that rounding breaks
        found = math.nan
    # Divergences grow with the order, so that of the next whole one is a bound.
    return found if found >= 0 else _of_whole_order(math.ceil(order), noise, rate)


def _of_whole_order(order: int, noise: float, rate: float) -> float:
    """The same of a whole order (Mironov et al. 2019, section 3.3), as a sum of positive terms: nothing cancels."""
    from scipy.special import gammaln, logsumexp  # slow to load

    if rate == 1:
        return order / (2 * noise * noise)
    k = np.arange(2, order + 1, dtype=np.float64)  # the terms of 0 and 1 add up to 1 with the rest of the binomial
    chances = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    chances += k * math.log(rate) + (order - k) * math.log1p(-rate)
    gains = k * (k - 1) / (2 * noise * noise)
    with np.errstate(divide="ignore"):  # of gains too small for a float
        # log(exp(gain) - 1), for gains small and large
        more = logsumexp(chances + gains + np.log(-np.expm1(-gains)))
    return float(np.logaddexp(0, more)) / (order - 1)


def _of_much_noise(order: float, noise: float, rate: float) -> float:
    """The same of any order up to 11 and much noise, where the integrand is smooth; Opacus's series is long there."""
    from scipy.special import binom  # slow to load

    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    more = rate * np.expm1((nodes - 1 / (2 * noise)) / noise)  # the likelihood ratio less 1, whose mean is 0
    gains = np.expm1(order * np.log1p(more)) - order * more
    if np.abs(more).max() < 1e-3:  # the difference would lose digits; terms of the sixth power are below the last one
        gains = sum(binom(order, power) * more**power for power in range(2, 6))
    return math.log1p(weights @ gains / math.sqrt(2 * math.pi)) / (order - 1)


# --- privacy loss on a grid -------------------------------------------------------------------------------------------


class _TooLarge(Exception):
    """A grid beyond `GRID` or `FARTHEST`."""


def _by_grid(history: History, delta: float, error: float) -> float | str:
    """Epsilon by Opacus's numerical accounting, or why there is none."""
    from opacus.accountants import PRVAccountant

    class Bounded(PRVAccountant):  # type: ignore[misc]
        """Refuses a grid before it is made: Opacus makes any that memory holds."""

        def _get_domain(self, **options):  # type: ignore[no-untyped-def]
            domain = super()._get_domain(**options)
            if domain.size > GRID or domain.t_max > FARTHEST:
                raise _TooLarge
            return domain

    if error <= 0:
        return "nothing is left to be made tighter"
    account = Bounded()
    account.history = list(history)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # of an optimum at the last order, and of integrals that are accounted for
            found = float(account.get_epsilon(delta=delta, eps_error=error))
    except _TooLarge:
        return 'the grid of "prv" would be too large'
    except (ArithmeticError, RuntimeError, ValueError):
        found = math.nan
    return max(0.0, found) if math.isfinite(found) else '"prv" fails here by rounding'
