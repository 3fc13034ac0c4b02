"""What a client's queries tell of private examples, as a price, and the work that is asked for it.

A query's nearest training examples vote by their labels, and its price is what a noisy vote would cost in privacy
(Dziedzic et al. 2022): nothing where they agree, much where they do not, as for inputs of other kinds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from guardclash.numerics.vote_privacy import ORDERS, Floats, divergences, log_other, renyi_epsilon

SLOWEST = 2948.47
"""Seconds for a batch at most: 32 bits of a hashcash puzzle."""
AT_ONCE = 500
"""Queries whose neighbours are looked for together."""


def neighbour_votes(own: Tensor, labels: Tensor, asked: Tensor, count: int, classes: int) -> Floats:
    """How often each class is among the nearest examples of a query, [Q, classes].

    Args:
        own: Features of the examples, [N, D].
        labels: Their classes, [N].
        asked: Features of the queries, [Q, D].
        count: How many neighbours vote, at most N.
        classes: How many classes there are.
    """
    votes = []
    for some in asked.split(AT_ONCE):
        near = torch.cdist(some, own).topk(count, largest=False).indices
        votes.append(torch.nn.functional.one_hot(labels[near], classes).sum(1))
    return torch.cat(votes).double().numpy()


def prices(votes: Floats, sigma: float, delta: float, batch: int) -> Floats:
    """What all queries so far would cost, as epsilon, after each batch of a session, [batches].

    Args:
        votes: Of each query, in order, [Q, classes].
        sigma: Standard deviation of the noise that is thought of, in votes.
        delta: Of the guarantee that is thought of.
        batch: Queries for which work is asked together; a last one that is not full counts for none.
    """
    spent = divergences(log_other(votes, sigma), sigma).cumsum(0)
    return np.array([renyi_epsilon(one, delta, ORDERS) for one in spent[batch - 1 :: batch]])


class Expected(NamedTuple):
    """What honest sessions cost: a line over the number of batches."""

    start: float
    slope: float

    @staticmethod
    def of(sessions: list[Floats]) -> Expected:
        """The least squares line through the prices of some honest sessions, [batches] each."""
        places = np.concatenate([np.arange(1, len(one) + 1) for one in sessions])
        if len(np.unique(places)) < 2:
            return Expected(float(np.mean(np.concatenate(sessions))), 0.0)
        slope, start = np.polyfit(places, np.concatenate(sessions), 1)
        return Expected(float(start), float(slope))

    def beyond(self, session: Floats, absolute: bool) -> Floats:
        """By how much a session's prices exceed it, [batches]; absolute: or fall short of it."""
        excess = session - (self.start + self.slope * np.arange(1, len(session) + 1))
        return np.abs(excess) if absolute else np.maximum(excess, 0)


def base_of(beyond: list[Floats], most: float) -> float:
    """The base at which 99 % of honest batches take at most `most` times as long: `most` = base^excess."""
    excess = float(np.quantile(np.concatenate(beyond), 0.99))
    # Where honest clients never exceed the line, a hundredth of a unit more is too much.
    return float(most ** (1 / max(excess, 0.01)))


def slowdown(beyond: Floats, base: float) -> float:
    """How many times as long a session takes, on average over its batches of a second each."""
    with np.errstate(over="ignore"):
        return float(np.minimum(np.power(base, beyond), SLOWEST).mean())
