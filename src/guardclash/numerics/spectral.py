"""Outliers among the features of a class: what a filter against poisoned training data looks for."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from guardclash.errors import UserError

SAMPLED = 5000
"""Points of which the silhouette is taken at most: it looks at all their pairs."""
STARTS = 10
"""Of the 2-means; the best one counts."""


def outlier_scores(features: Tensor, centred: bool = True) -> Tensor:
    """Squared projections on the direction of largest spread (Tran et al. 2018, algorithm 1).

    Args:
        features: [n, features], of the examples of one class; n may be 0.
        centred: Project what lies beyond the mean. False: project the features themselves, as a published
            implementation does; an outlier can then get the lowest score. For comparison only.

    Returns:
        [n], float64, in squared units of the features; the higher, the further out. They do not change under
        rotations and translations of the features.
    """
    values = features.detach().cpu().double()
    if not len(values):
        return values.new_zeros(0)
    beyond = values - values.mean(0)
    direction = torch.linalg.svd(beyond, full_matrices=False).Vh[0]
    return ((beyond if centred else values) @ direction) ** 2


def most_outlying(features: Tensor, labels: Tensor, classes: int, count: int) -> Tensor:
    """The examples of every class that lie furthest out.

    Args:
        features: [N, features].
        labels: Class indices, [N].
        classes: How many classes there are.
        count: Of each class.

    Returns:
        Whether each is one of them, bool [N]; of equal ones the first.

    Raises:
        UserError: If a class would be left without examples.
    """
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(classes):
        own = (labels == label).nonzero().flatten()
        if len(own) <= count:
            what, got = "a class would be left without examples", f"{len(own)} of class {label}"
            mend = "Expect less poison, or use more examples."
            raise UserError(what, where="a filter of outliers", got=got, allowed=f"more than {count}", mend=mend)
        order = outlier_scores(features[own]).argsort(descending=True, stable=True)
        chosen[own[order[:count]]] = True
    return chosen


def outlying_cluster(features: Tensor, components: int, most: float, apart: float) -> Tensor:
    """The smaller one of two clusters of a class, if it is small and lies apart (Chen et al. 2018).

    Args:
        features: [n, features], of the examples of one class.
        components: Principal components that clusters are looked for in.
        most: The share of the class, in (0, 0.5], below which the cluster must be.
        apart: The mean silhouette, in [-1, 1], above which the two must be.

    Returns:
        Whether each example is in it, bool [n]; none where nothing lies apart.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    none = torch.zeros(len(features), dtype=torch.bool)
    values = features.detach().cpu().double()
    if len(values) < 3 or bool((values == values[0]).all()):
        return none
    left, spread, _ = torch.linalg.svd(values - values.mean(0), full_matrices=False)
    points = (left * spread)[:, :components].numpy()
    told = KMeans(2, n_init=STARTS, random_state=0).fit(points).labels_
    if len(np.unique(told)) < 2:
        return none
    sampled = SAMPLED if len(points) > SAMPLED else None
    separation = float(silhouette_score(points, told, sample_size=sampled, random_state=0))
    smaller = torch.from_numpy(told == np.bincount(told, minlength=2).argmin())
    return smaller if smaller.double().mean() < most and separation > apart else none


def outlying_clusters(
    features: Tensor, labels: Tensor, classes: int, components: int, most: float, apart: float
) -> Tensor:
    """The small clusters of all classes that lie apart, bool [N]; the arguments are those of the functions above."""
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(classes):
        own = labels == label
        chosen[own] = outlying_cluster(features[own], components, most, apart)
    return chosen
