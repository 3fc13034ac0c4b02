"""Fairness between groups: accuracies, gaps, equalised odds; the weights of examples that even groups out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


def accuracies(right: NDArray[np.bool_], groups: Labels) -> NDArray[np.float64]:
    """The accuracy of each group that has examples, in the order of the groups.

    Args:
        right: Which answers are right, [N].
        groups: Whose examples they are, [N], whole numbers.

    Returns:
        In [0, 1].
    """
    counts, hits = np.bincount(groups), np.bincount(groups, weights=right)
    return hits[counts > 0] / counts[counts > 0]


def cells(*attributes: Labels) -> Labels:
    """One number for every combination of attributes that occurs, [N]: dense, from 0 on, in lexical order."""
    stacked = np.stack(attributes, 1)
    return np.unique(stacked, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def equalised_odds(y: Labels, told: Labels, groups: Labels) -> float | None:
    """The largest difference between two groups in the chance of an answer, given the label (Hardt et al. 2016).

    Of two classes over both answers, so that it is the larger one of the differences of true and of false positive
    rates. Of more classes over the right answer only: the many small cells would be maxima of noise.

    Args:
        y: Labels, [N].
        told: Answers, [N].
        groups: [N].

    Returns:
        In [0, 1]; None if no class has examples of two groups. A maximum is biased upwards by noise.
    """
    differences = []
    for label in np.unique(y):
        of = y == label
        present = np.unique(groups[of])
        if len(present) > 1:
            # The other answer of two has the complementary chance, so that the right one tells both.
            rates = [float((told[of & (groups == group)] == label).mean()) for group in present]
            differences.append(max(rates) - min(rates))
    return max(differences) if differences else None


def parity(told: Labels, groups: Labels) -> float:
    """The largest difference between two groups in the share of the answer 1, in [0, 1]: demographic parity."""
    rates = [float((told[groups == group] == 1).mean()) for group in np.unique(groups)]
    return max(rates) - min(rates)


def balance(groups: Labels) -> NDArray[np.float64]:
    """Weights under which every group counts as much as any other: N / (G n_g), [N], with mean 1."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(len(groups) / (len(counts) * counts[place.reshape(-1)]), dtype=np.float64)


def reweighing(y: Labels, groups: Labels) -> NDArray[np.float64]:
    """Weights under which label and group are independent: P(s) P(y) / P(s, y), [N] (Kamiran and Calders 2012).

    Their mean is 1 where every label occurs in every group, else less.
    """
    own = cells(y, groups)
    share = [np.bincount(values)[values] / len(y) for values in (y, groups, own)]
    return np.asarray(share[0] * share[1] / share[2], dtype=np.float64)
