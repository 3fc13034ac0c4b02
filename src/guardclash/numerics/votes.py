"""Labels by noisy votes (PATE, Papernot et al. 2018): which are released, and how much noise a budget takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from guardclash.numerics.accounting import rounded_up
from guardclash.numerics.vote_privacy import (
    divergences,
    gaussian_epsilon,
    log_other,
    log_rarer,
    renyi_epsilon,
    vote_mu,
)

THRESHOLD, SIGMA1, SIGMA2 = 0.8, 0.6, 0.16
"""As shares of the number of teachers: those of the published 200, 150 and 40 votes of 250 teachers."""


class Released(NamedTuple):
    """What became of the queries."""

    queries: Tensor
    """The places of those that were answered, int64 [at most `answers`], in order."""
    labels: Tensor
    """What they were answered, int64."""
    asked: int
    """How many were asked, until the last answer was given or none was left."""


@dataclass(frozen=True)
class Voting:
    """How votes become labels: the class with most of them under noise, where that is sure enough."""

    answers: int
    """Labels released at most."""
    queries: int
    """Inputs that teachers are asked about at most, one after another."""
    sigma2: float
    """Standard deviation of the noise on the count of every class, in votes."""
    threshold: float | None = None
    """Votes that the first class must reach under noise, so that there is an answer; None: every query is answered."""
    sigma1: float = math.inf
    """Standard deviation of that noise, in votes."""

    @property
    def mu(self) -> float:
        """Of the Gaussian mechanism that it amounts to, whatever the votes."""
        return vote_mu(self.answers, self.sigma2, 0 if self.threshold is None else self.queries, self.sigma1)

    def epsilon(self, delta: float) -> float:
        """What the labels cost an example of a teacher, whatever the votes: all answers and all checks are paid."""
        return gaussian_epsilon(self.mu, delta)

    def __call__(self, votes: Tensor, rng: torch.Generator) -> Released:
        """Releases labels.

        Args:
            votes: Counts of every class, [queries, classes]; of more queries the first ones are asked.
            rng: Of the noise.
        """
        counts = votes[: self.queries].double()
        noise = torch.randn(counts.shape, generator=rng, dtype=torch.float64)
        chosen = torch.arange(len(counts))
        if self.threshold is not None:
            checks = torch.randn(len(counts), generator=rng, dtype=torch.float64)
            # Not rounded, as published code does: the noise is on the count itself.
            chosen = chosen[counts.max(1).values + self.sigma1 * checks >= self.threshold]
        chosen = chosen[: self.answers]
        asked = int(chosen[-1]) + 1 if len(chosen) == self.answers else len(counts)
        return Released(chosen, (counts + self.sigma2 * noise)[chosen].argmax(1), asked)

    def seen_epsilon(self, votes: Tensor, released: Released, delta: float) -> float:
        """What was spent as the votes fell. It tells of the votes itself, and must not be released.

        Args:
            votes: As they were given to the call.
            released: What came of it.
            delta: In (0, 1).
        """
        counts = votes.double().numpy()
        answered = log_other(counts[released.queries.numpy()], self.sigma2)
        spent = divergences(answered, self.sigma2).sum(0)
        asked = 0 if self.threshold is None else released.asked
        if self.threshold is not None:
            checks = log_rarer(counts[:asked], self.threshold, self.sigma1)
            spent = spent + divergences(checks, math.sqrt(2) * self.sigma1).sum(0)
        # Both bounds hold.
        exactly = gaussian_epsilon(vote_mu(len(answered), self.sigma2, asked, self.sigma1), delta)
        return min(renyi_epsilon(spent, delta), exactly)


class Wanted(NamedTuple):
    """What is asked of a voting; None: by a rule."""

    answers: int | None = None
    queries: int | None = None
    threshold: float | None = None
    sigma1: float | None = None
    sigma2: float | None = None


def voting(teachers: int, classes: int, available: int, mu: float, wanted: Wanted, confident: bool) -> Voting | None:
    """The voting that a budget pays for.

    Noise that nobody asked for is the usual share of the teachers; where the budget would then pay for fewer answers
    than were asked for, or than there are classes, it is as much as that takes. Of noise that was asked for two answers
    are enough.

    Args:
        teachers: Their number.
        classes: Likewise.
        available: Inputs that there are to ask about.
        mu: What may be spent: see `vote_mu`.
        wanted: What was asked for.
        confident: Whether there is a threshold. Twice as many inputs are then asked about as are answered, if nothing
            else was asked for.

    Returns:
        The voting; None: the budget does not pay for it.
    """
    most = wanted.queries or available
    least = wanted.answers or min(classes if wanted.sigma2 is None else 2, most)
    asked = wanted.queries or min(2 * least, most)
    noisy = _noise(teachers, least, asked if confident else 0, mu, wanted)
    if noisy is None:
        return None
    sigma1, sigma2 = noisy
    found = [(least, asked)]
    if wanted.answers is None:
        found.append(_paid(mu, noisy, available, wanted.queries, confident))
    answers, queries = max(found)
    if not confident:
        return Voting(answers, answers, sigma2)
    level = THRESHOLD * teachers if wanted.threshold is None else wanted.threshold
    return Voting(answers, queries, sigma2, level, sigma1)


def _paid(
    mu: float, noisy: tuple[float, float], available: int, queries: int | None, confident: bool
) -> tuple[int, int]:
    """Answers that a budget pays for, and queries, by both noises."""
    check, each = 1 / noisy[0] ** 2 if confident else 0.0, 2 / noisy[1] ** 2
    pairs = math.floor(mu**2 / (each + 2 * check))
    if confident and queries is None and 2 * pairs <= available:
        return pairs, 2 * pairs
    asked = available if queries is None else queries
    return min(math.floor((mu**2 - check * asked) / each), asked), asked


def _noise(teachers: int, answers: int, checks: int, mu: float, wanted: Wanted) -> tuple[float, float] | None:
    """Both noises for so many answers and checks of the threshold; None: there are none."""
    fixed = free = 0.0
    for cost, own, share in ((checks, wanted.sigma1, SIGMA1), (2 * answers, wanted.sigma2, SIGMA2)):
        fixed += 0.0 if own is None else cost / own**2
        free += 0.0 if own is not None else cost / (share * teachers) ** 2
    left = mu**2 - fixed
    if left < 0 or (free and left == 0):
        return None
    scale = math.sqrt(free / left) if free else 1.0

    def by_rule(share: float) -> float:
        usual = share * teachers
        return usual if scale <= 1 else rounded_up(scale * usual)

    sigma1, sigma2 = (
        by_rule(share) if own is None else own for own, share in ((wanted.sigma1, SIGMA1), (wanted.sigma2, SIGMA2))
    )
    return sigma1, sigma2
