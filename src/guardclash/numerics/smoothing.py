"""Randomised smoothing: what votes under Gaussian noise certify (Cohen et al. 2019; Lecuyer et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import beta, norm
from torch import Tensor

AT_ONCE = 2000
"""Noisy copies that a network is asked about at a time."""
DELTAS = np.linspace(1e-4, 0.3, 3000)
"""Where the best bound of PixelDP is looked for."""


def noisy(x: Tensor, sigma: float, free: int | None, rng: torch.Generator) -> Tensor:
    """Inputs with Gaussian noise, which may leave [0, 1].

    Args:
        x: Floats [N, ...].
        sigma: Standard deviation, in the units of the inputs.
        free: How many entries of the last axis, the first ones, get any; None: all.
        rng: Of the noise; drawn on the CPU.
    """
    noise = torch.randn(x.shape, generator=rng, dtype=x.dtype)
    if free is not None:
        noise[..., free:] = 0
    return x + sigma * noise.to(x.device)


def votes(
    predict: Callable[[Tensor], Tensor], x: Tensor, count: int, sigma: float, free: int | None, rng: torch.Generator
) -> Tensor:
    """How often each class is told of one input [1, ...] under noise: int64 [classes], with sum `count`."""
    total: Tensor | int = 0
    for start in range(0, count, AT_ONCE):
        copies = x.expand(min(AT_ONCE, count - start), *x.shape[1:])
        logits = predict(noisy(copies, sigma, free, rng))
        total = total + torch.bincount(logits.argmax(1), minlength=logits.shape[1])
    return torch.as_tensor(total)


def lower_bound(hits: int, draws: int, alpha: float) -> float:
    """The one-sided Clopper-Pearson bound of a share, which is below it with a chance of 1 - alpha.

    Example:
        >>> round(lower_bound(990, 1000, 0.001), 8)
        0.97603619
    """
    return float(beta.ppf(alpha, hits, draws - hits + 1)) if hits else 0.0


def upper_bound(hits: int, draws: int, alpha: float) -> float:
    """The same from above: the share of misses is bounded from below."""
    return 1 - lower_bound(draws - hits, draws, alpha)


def certified_radius(hits: int, draws: int, sigma: float, alpha: float) -> float | None:
    """How far in l2 an input may be moved without another class winning (Cohen et al. 2019); None: nothing is certain.

    Args:
        hits: Votes for the class, which was chosen by other votes.
        draws: All votes.
        sigma: Of the noise.
        alpha: Chance of being wrong, for each input.

    Example:
        >>> round(certified_radius(990, 1000, 0.25, 0.001), 8), certified_radius(549, 1000, 0.25, 0.001)
        (0.4945024, None)
    """
    share = lower_bound(hits, draws, alpha)
    return sigma * float(norm.ppf(share)) if share > 0.5 else None


def pixeldp_radius(first: float, second: float, sigma: float) -> float:
    """The l2 radius by PixelDP's theorem (Lecuyer et al. 2019) of the same noise on the input; 0: none.

    Args:
        first: A lower bound of the share of votes for the class.
        second: An upper bound of that of every other class, above 0.
        sigma: Of the noise.

    Returns:
        The best over all budgets (epsilon <= 1, delta) that the votes are certain enough for.
    """
    # Of first >= e^{2 eps} second + (1 + e^eps) delta the largest e^eps is the root of a quadratic.
    inside = DELTAS**2 + 4 * second * (first - DELTAS)
    root: NDArray[np.float64] = (np.sqrt(np.maximum(inside, 0)) - DELTAS) / (2 * second)
    budgets = np.where(inside > 0, np.log(np.clip(root, 1.0, math.e)), 0.0)
    return sigma * float((budgets / np.sqrt(2 * np.log(1.25 / DELTAS))).max())
