"""Tests of an ownership claim by marked answers."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import gammaln, logsumexp

from guardclash.errors import UserError


def log10_verification_p(errors: int, triggers: int, classes: int) -> float:
    """log10 of the chance that a guesser makes at most so many errors on the trigger set (equation 3).

    Args:
        errors: Wrong answers on the trigger set, counted: floor(e * |D_T|) is off by one in floating point.
        triggers: Size of the trigger set.
        classes: Number of classes m; the guesser is right with probability 1 / m.

    Returns:
        log10 V, 0 or below. The paper calls V a confidence and prints 1 - V; it is a p-value.

    Raises:
        UserError: Unless 0 <= errors <= triggers and classes >= 2.

    Example:
        >>> round(log10_verification_p(errors=3, triggers=100, classes=10), 5)
        -91.92708
    """
    if not 0 <= errors <= triggers or classes < 2:
        raise UserError(
            "no such watermark test",
            got=(errors, triggers, classes),
            allowed="0 <= errors <= triggers, classes >= 2",
        )
    i = np.arange(errors + 1)
    choose = gammaln(triggers + 1) - gammaln(i + 1) - gammaln(triggers - i + 1)
    terms = choose + i * math.log((classes - 1) / classes) - (triggers - i) * math.log(classes)
    return min(0.0, float(logsumexp(terms)) / math.log(10))


def log10_binomial_p(hits: int, draws: int, rate: float) -> float:
    """log10 of the chance of at least so many hits where each draw hits with a known rate, independently.

    Args:
        hits: Counted.
        draws: Of which they are.
        rate: At most which one an innocent model has, in [0, 1].

    Returns:
        0 or below; -inf where no hit was possible.

    Raises:
        UserError: Unless 0 <= hits <= draws and the rate is one.

    Example:
        >>> round(log10_binomial_p(hits=12, draws=100, rate=0.0362), 4)
        -3.5596
    """
    if not 0 <= hits <= draws or not 0 <= rate <= 1:
        what, allowed = "no such binomial test", "0 <= hits <= draws, 0 <= rate <= 1"
        raise UserError(what, got=(hits, draws, rate), allowed=allowed)
    if hits == 0 or rate == 1:
        return 0.0
    if rate == 0:
        return -math.inf
    i = np.arange(hits, draws + 1)
    choose = gammaln(draws + 1) - gammaln(i + 1) - gammaln(draws - i + 1)
    terms = choose + i * math.log(rate) + (draws - i) * math.log1p(-rate)
    return min(0.0, float(logsumexp(terms)) / math.log(10))
