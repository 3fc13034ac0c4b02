"""What labels by noisy votes cost in privacy (PATE, Papernot et al. 2018): told beforehand, and seeing the votes.

An example is with one teacher, so another example in its place moves one vote: it changes the counts of the classes by
sqrt(2) in l2, and the largest count by 1. Gaussian noise on both is all that is released of them.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ORDERS: Floats = np.concatenate(
    [np.arange(1.1, 2, 0.1), np.arange(2, 100, 0.5), np.arange(100, 501), np.geomspace(525, 1e5, 110)]
)
"""Of Renyi divergences: those of the published analysis, and some beyond on either side for other budgets."""


# --- told beforehand: a Gaussian mechanism ----------------------------------------------------------------------------


def vote_mu(answers: int, sigma2: float, queries: int = 0, sigma1: float = math.inf) -> float:
    """The mu of the one Gaussian mechanism that answers and checks of the threshold amount to.

    Whether a query is answered hangs on what was released before; that the squares add up holds for steps chosen so as
    well, as long as their number is bounded beforehand (Smith and Thakurta 2022; Koskela et al. 2023).

    Args:
        answers: Labels released at most.
        sigma2: Standard deviation of the noise on each count, in votes.
        queries: Checks of the largest count against the threshold, at most.
        sigma1: Standard deviation of the noise of a check.
    """
    return math.sqrt(2 * answers / sigma2**2 + queries / sigma1**2)


def gaussian_delta(epsilon: float, mu: float) -> float:
    """The least delta of a Gaussian mechanism at an epsilon, exactly (Balle and Wang 2018, theorem 8).

    Args:
        epsilon: >= 0.
        mu: Sensitivity over standard deviation, > 0.
    """
    from scipy.special import log_ndtr  # slow to load

    above, below = (float(log_ndtr(side * mu / 2 - epsilon / mu)) for side in (1, -1))
    # As one factor: the difference of the two would lose digits.
    return math.exp(above) * -math.expm1(min(0.0, epsilon + below - above))


@lru_cache(maxsize=1024)
def gaussian_epsilon(mu: float, delta: float) -> float:
    """The least epsilon of a Gaussian mechanism at a delta, exactly.

    Args:
        mu: Sensitivity over standard deviation, >= 0.
        delta: In (0, 1).
    """
    from scipy.optimize import brentq  # slow to load

    if mu == 0 or gaussian_delta(0.0, mu) <= delta:
        return 0.0
    high = 1.0
    while gaussian_delta(high, mu) > delta:
        high *= 2
    return float(brentq(lambda epsilon: gaussian_delta(epsilon, mu) - delta, 0.0, high, xtol=1e-12))


@lru_cache(maxsize=1024)
def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu of a Gaussian mechanism that is (epsilon, delta)-private.

    Args:
        epsilon: > 0.
        delta: In (0, 1).
    """
    from scipy.optimize import brentq  # slow to load

    low = high = 1.0
    while gaussian_delta(epsilon, low) > delta:
        low /= 2
    while gaussian_delta(epsilon, high) <= delta:
        high *= 2
    return float(brentq(lambda mu: gaussian_delta(epsilon, mu) - delta, low, high, xtol=1e-13, rtol=1e-14))


# --- seeing the votes: Renyi divergences ------------------------------------------------------------------------------


def log_other(votes: Floats, sigma2: float) -> Floats:
    """The logarithm of a bound on the chance that the noise makes another class win than the one with most votes.

    Args:
        votes: Counts, [N, classes].
        sigma2: Standard deviation of the noise on each, in votes.

    Returns:
        [N], at most ln(1 - 1 / classes).
    """
    from scipy.special import log_ndtr, logsumexp  # slow to load

    tops = votes.argmax(1)[:, None]
    gaps = np.take_along_axis(votes, tops, 1) - votes
    logs = log_ndtr(-gaps / (math.sqrt(2) * sigma2))
    np.put_along_axis(logs, tops, -np.inf, 1)
    return np.asarray(np.minimum(logsumexp(logs, axis=1), math.log1p(-1 / votes.shape[1])))


def log_rarer(votes: Floats, threshold: float, sigma1: float) -> Floats:
    """The logarithm of the chance of the rarer outcome of a check of the largest count against the threshold, [N]."""
    from scipy.special import log_ndtr  # slow to load

    return np.asarray(log_ndtr(-np.abs(votes.max(1) - threshold) / sigma1))


def divergences(log_q: Floats, sigma: float, orders: Floats = ORDERS) -> Floats:
    """Renyi divergences of releases of which an outcome is likely (Papernot et al. 2018, theorem 6).

    Args:
        log_q: ln of the chance of any other outcome, [N].
        sigma: Of the noise, so that order / sigma^2 bounds the divergence whatever the votes: `sigma2` of answers, and
            of a check, which one vote moves by 1 and not sqrt(2), sqrt(2) times `sigma1`.
        orders: > 1, [A].

    Returns:
        [N, A], never more than whatever the votes.
    """
    usual = np.broadcast_to(orders / sigma**2, (len(log_q), len(orders)))
    with np.errstate(all="ignore"):  # where the theorem does not hold, which is looked at last
        lower = sigma * np.sqrt(-log_q)[:, None]  # the order mu_2; mu_1 is one more
        e_upper, e_lower = (lower + 1) / sigma**2, lower / sigma**2
        log_q, log_p = log_q[:, None], np.log1p(-np.exp(log_q))[:, None]
        log_a = log_p - np.log1p(-np.exp((log_q + e_lower) * (lower - 1) / lower))
        log_b = e_upper - log_q / lower
        found = np.logaddexp(log_p + (orders - 1) * log_a, log_q + (orders - 1) * log_b) / (orders - 1)
        most = (lower - 1) * e_lower - lower * (np.log1p(1 / lower) + np.log(lower / (lower - 1)))
        holds = (lower > 1) & (log_q <= most) & (-log_q > e_lower) & (orders < lower + 1)
    return np.where(holds, np.fmin(found, usual), usual)


def renyi_epsilon(divergence: Floats, delta: float, orders: Floats = ORDERS) -> float:
    """The least epsilon over all orders (Balle et al. 2020, theorem 21).

    Args:
        divergence: Of everything that was released, [A].
        delta: In (0, 1).
        orders: > 1, [A].
    """
    found = divergence - (math.log(delta) + np.log(orders)) / (orders - 1) + np.log1p(-1 / orders)
    return max(0.0, float(found.min()))
