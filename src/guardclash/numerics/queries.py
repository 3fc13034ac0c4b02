"""Whether a session of queries looks synthetic: PRADA (Juuti et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import shapiro
from torch import Tensor

ENOUGH = 100
"""Distances, after outliers are dropped, of which more are needed before anything is said."""
PER_CLASS = 10
"""Distances of a class, of which fewer are left out."""
OUTLIERS = 3.0
"""Standard deviations from the mean beyond which distances are dropped."""
MOST = 5000
"""Distances of which the test is known to be accurate; of more the last ones are looked at."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Session:
    """The distances of a client's queries from those before."""

    distances: Floats
    """Of each query from the nearest one of the growing set of its class, [N]; NaN of the first of a class."""
    classes: NDArray[np.int64]
    """What the model told of each, [N]."""

    def normality(self, upto: int) -> float:
        """Shapiro-Wilk's W of the distances of the first queries; NaN while there are too few."""
        seen, own = self.distances[:upto], self.classes[:upto]
        parts = [seen[(own == one) & ~np.isnan(seen)] for one in np.unique(own)]
        pooled = np.concatenate([part for part in parts if len(part) >= PER_CLASS] or [np.empty(0)])
        kept = pooled[np.abs(pooled - pooled.mean()) <= OUTLIERS * pooled.std()] if len(pooled) else pooled
        if len(kept) <= ENOUGH or np.ptp(kept) == 0:
            return float("nan")
        return float(shapiro(kept[-MOST:]).statistic)

    def curve(self, every: int) -> Iterator[tuple[int, float]]:
        """W after so many queries each, where it says anything."""
        for upto in range(every, len(self.distances) + 1, every):
            found = self.normality(upto)
            if not np.isnan(found):
                yield upto, found


def session_of(x: Tensor, classes: Tensor, leading_zero: bool = True) -> Session:
    """The distances of queries, in their order.

    A growing set of each class holds queries that are new there: further than a threshold, which is the mean less the
    standard deviation of the distances at which members joined, from all members.

    Args:
        x: Queries [N, ...].
        classes: What the model tells of each, int64 [N].
        leading_zero: Count the first member of a set as one that joined at distance 0, as published: the threshold is
            then lower, and sets grow.
    """
    flat = x.detach().cpu().double().flatten(1)
    told = classes.cpu().numpy()
    found = np.full(len(flat), np.nan)
    for one in np.unique(told):
        places = np.flatnonzero(told == one)
        found[places] = _distances(flat[torch.from_numpy(places)], leading_zero)
    return Session(found, told)


def _distances(queries: Tensor, leading_zero: bool) -> Floats:
    members = torch.empty_like(queries)
    members[0], count = queries[0], 1
    joined, threshold = [0.0] if leading_zero else [], 0.0
    found = np.full(len(queries), np.nan)
    for place in range(1, len(queries)):
        distance = (members[:count] - queries[place]).norm(dim=1).min().item()
        found[place] = distance
        if distance > threshold:
            members[count], count = queries[place], count + 1
            joined.append(distance)
            threshold = max(threshold, float(np.mean(joined) - np.std(joined)))
    return found
