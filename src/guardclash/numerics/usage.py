"""How much of a set of examples a model was trained on, by guesses of membership whose errors are known.

A guess is right and wrong at rates that reference models tell, of which it is known what they were trained on; so the
share that is guessed says what the share is (Tong et al. 2025, "How much of my dataset did you use?").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardclash.numerics.membership import Floats, auc, rmia, rmia_offline

LEAST_GAP = 0.05
"""Below this difference of rates nothing is inferred: the estimate of 1,000 examples would have a deviation of 0.19."""
DRAWS = 1000
LEVEL = 0.95
LINES = tuple(step / 10 for step in range(11))
"""How much lower a probability is without its example (`rmia_offline`), to choose from."""
Counts = NDArray[np.int64]


class Margins(NamedTuple):
    """What a model answers to examples in question and to a population that no model has seen: phi [N] and [Z]."""

    x: Floats
    z: Floats


class Asked(NamedTuple):
    """A model, and what those that have seen none of its examples answer to the same: phi [S, N] and [S, Z]."""

    model: Margins
    innocent: Margins

    def scores(self, a: float, gamma: float = 1.0) -> Floats:
        """RMIA's scores of the examples, [N] in [0, 1]."""
        x, z = (rmia_offline(own, out, a) for own, out in zip(self.model, self.innocent, strict=True))
        return rmia(x, z, gamma)


class Reference(NamedTuple):
    """A model of which it is known what it was trained on."""

    asked: Asked
    known: NDArray[np.bool_]
    """[N]: the examples that it was trained on."""


class Rates(NamedTuple):
    """How often a guess is yes of members and of others."""

    right: float
    wrong: float

    @property
    def gap(self) -> float:
        """By how much members are guessed more often."""
        return self.right - self.wrong


class Used(NamedTuple):
    """The share of the examples that a model was trained on, as far as guesses tell it, in [0, 1]."""

    share: float | None
    """None: the rates do not differ enough."""
    low: float
    """Lower and upper bound at 95 %: of resampled examples and reference models. 0 and 1 where nothing is inferred."""
    high: float
    gap: float


def line(references: Sequence[Reference]) -> float:
    """The `a` of `LINES` by which members of the reference models are told best (mean AUC), the first of equal ones."""

    def told(a: float) -> float:
        found = [(one.asked.scores(a), one.known) for one in references]
        return float(np.mean([auc(scores[known], scores[~known]) for scores, known in found]))

    return max(LINES, key=told)


def share_of(guessed: float, rates: Rates) -> float:
    """The share of members among examples of which so many are guessed to be one: not within [0, 1] by itself."""
    return (guessed - rates.wrong) / rates.gap


def used(asked: Asked, references: Sequence[Reference], rng: np.random.Generator) -> Used:
    """How much of the examples that a model is asked about it was trained on.

    The threshold of a guess is where right and wrong rate of the reference models differ most. Members and others of a
    model are resampled apart from the target's, which takes their errors for independent; they are alike if anything,
    and the interval is then too wide, not too short.

    Args:
        asked: The model.
        references: One or more, asked about examples of their own, part of which they have seen.
        rng: Of the resampling.
    """
    a = line(references)
    levels = asked.model.z.size
    target = _counted(asked.scores(a), levels)
    scored = [(one.asked.scores(a), one.known) for one in references]
    members = np.stack([_counted(scores[known], levels) for scores, known in scored])
    others = np.stack([_counted(scores[~known], levels) for scores, known in scored])
    threshold, rates = _calibrated(members.sum(0), others.sum(0))
    if rates.gap < LEAST_GAP:
        return Used(None, 0.0, 1.0, rates.gap)
    shares = [_share(*_again((target, members, others), rng)) for _ in range(DRAWS)]
    low, high = np.quantile(shares, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    found = share_of(_above(target, threshold), rates)
    return Used(min(1.0, max(0.0, found)), float(low), float(high), rates.gap)


def _counted(scores: Floats, levels: int) -> Counts:
    """How many scores are k / levels, for k from 0: scores are shares of the population."""
    return np.bincount(np.rint(scores * levels).astype(np.int64), minlength=levels + 1)


def _calibrated(members: Counts, others: Counts) -> tuple[int, Rates]:
    """The first level above which a guess is yes, and the rates there."""
    right, wrong = (1 - np.cumsum(one) / one.sum() for one in (members, others))
    threshold = int((right - wrong).argmax())
    return threshold, Rates(float(right[threshold]), float(wrong[threshold]))


def _above(counts: Counts, threshold: int) -> float:
    return float(counts[threshold + 1 :].sum() / counts.sum())


def _again(counts: tuple[Counts, Counts, Counts], rng: np.random.Generator) -> tuple[Counts, Counts, Counts]:
    """Target, members and others of reference models, drawn with replacement; the latter's sums."""
    target, members, others = counts
    models = rng.integers(len(members), size=len(members))
    sums = (_redrawn(one[models], rng).sum(0) for one in (members, others))
    return _redrawn(target[None], rng)[0], *sums


def _redrawn(counts: Counts, rng: np.random.Generator) -> Counts:
    return np.stack([rng.multinomial(one.sum(), one / one.sum()) for one in counts])


def _share(target: Counts, members: Counts, others: Counts) -> float:
    threshold, rates = _calibrated(members, others)
    return min(1.0, max(0.0, share_of(_above(target, threshold), rates))) if rates.gap > 0 else 0.0
