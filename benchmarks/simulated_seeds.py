"""Seeds whose true means are known: how they may scatter, for `verdict_errors.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from guardclash.judging.stats import Sample

Seeds = tuple[int, int]
"""How many, alone and together."""
Draw = Callable[[np.random.Generator, tuple[int, int], float], np.ndarray]
"""Values of a shape, around a mean."""


def generator(*cell: object) -> np.random.Generator:
    """The chance of a cell, from its name alone."""
    return np.random.default_rng(list(repr(cell).encode()))


def first(sample: Sample, n: int) -> Sample:
    """The first values of a sample."""
    return Sample(sample.values[:n])


def normal(std: float) -> Draw:
    return lambda rng, shape, mean: rng.normal(mean, std, shape)


def beta(std: float) -> Draw:
    def draw(rng: np.random.Generator, shape: tuple[int, int], mean: float) -> np.ndarray:
        both = mean * (1 - mean) / std**2 - 1
        return rng.beta(mean * both, (1 - mean) * both, shape)

    return draw


def tail(std: float, side: int) -> Draw:
    """Exponential, with its long tail above (1) or below (-1)."""
    return lambda rng, shape, mean: mean + side * std * (rng.exponential(size=shape) - 1)


def collapse(share: float, by: float = 0.4, std: float = 0.01) -> Draw:
    """A share of the runs lose so much."""
    return lambda rng, shape, mean: rng.normal(mean + share * by, std, shape) - by * (rng.random(shape) < share)


def counted(items: int) -> Draw:
    return lambda rng, shape, mean: rng.binomial(items, mean, shape) / items


def rounded(std: float) -> Draw:
    return lambda rng, shape, mean: np.round(rng.normal(mean, std, shape), 2)


@dataclass(frozen=True)
class Spread:
    """How seeds scatter around their true means, alone and together."""

    alone: Draw
    together: Draw
    mean: float = 0.9
    """Alone."""
    within: bool = False
    """Whether every value is a share, so that the rule "bounded" can judge it."""

    def drawn(self, rng: np.random.Generator, runs: int, seeds: Seeds, loss: float) -> Iterator[tuple[Sample, Sample]]:
        """Samples alone and together."""
        alone = self.alone(rng, (runs, seeds[0]), self.mean).tolist()
        together = self.together(rng, (runs, seeds[1]), self.mean - loss).tolist()
        yield from ((Sample(tuple(a)), Sample(tuple(b))) for a, b in zip(alone, together, strict=True))


SPREADS = {
    "normal .03/.03": Spread(normal(0.03), normal(0.03)),
    "normal .005/.05": Spread(normal(0.005), normal(0.05)),
    "normal .05/.005": Spread(normal(0.05), normal(0.005)),
    "beta .02/.02": Spread(beta(0.02), beta(0.02), 0.97, True),
    "beta .01/.08": Spread(beta(0.01), beta(0.08), 0.97, True),
    "tail below, together .005/.05": Spread(normal(0.005), tail(0.05, -1)),
    "tail below, alone .05/.005": Spread(tail(0.05, -1), normal(0.005)),
    "tail above, together .005/.05": Spread(normal(0.005), tail(0.05, 1)),
    "20 % of the runs lose .4": Spread(normal(0.01), collapse(0.2), 0.6, True),
    "80 % of the runs lose .4": Spread(normal(0.01), collapse(0.8), 0.6, True),
    "100 items": Spread(counted(100), counted(100), 0.9, True),
    "20 items": Spread(counted(20), counted(20), 0.9, True),
    "rounded to .01, sd .004": Spread(rounded(0.004), rounded(0.004)),
}
"""By name; standard deviations alone/together."""
NORMAL = tuple(SPREADS)[:3]
