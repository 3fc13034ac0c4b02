"""Planes in a network's feature space, in which figures show marks. No torch.

The planes are linear and follow from the network, clean images and the owner's secrets; marked images are only
projected onto them, so that no mark decides where it is seen. Maps that are fitted to the points they show, such as
t-SNE, find clusters in what has none, and distances in them mean nothing (Wattenberg et al. 2016, "How to use t-SNE
effectively").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardclash.numerics.scatter import Points

TINY = 1e-12
"""What is divided by is at least this, where a direction or a spread vanishes."""


@dataclass(frozen=True, eq=False)
class Plane:
    """An affine map from features to a plane."""

    axes: tuple[str, str]
    across: NDArray[np.float64]
    """[d, 2]."""
    shift: NDArray[np.float64]
    """[2]."""

    def points(self, features: NDArray[np.float64]) -> Points:
        """Features [N, d] as points."""
        return tuple((float(x), float(y)) for x, y in features @ self.across + self.shift)


def boundary_plane(
    features: NDArray[np.float64], weight: NDArray[np.float64], bias: NDArray[np.float64], labels: tuple[int, int]
) -> Plane:
    """The plane in which a linear classifier decides between two labels.

    x is the signed distance to the boundary between them, w_a f + b_a = w_b f + b_b: above 0 the classifier prefers
    the first. y is the first principal component of what clean features have beside it.

    Args:
        features: Of clean images, [N, d], N >= 1.
        weight: w [classes, d].
        bias: b [classes].
        labels: a and b.
    """
    first, second = labels
    normal = weight[first] - weight[second]
    length = max(float(np.linalg.norm(normal)), TINY)
    normal = normal / length
    mean = features.mean(0)
    centred = features - mean
    rest = centred - np.outer(centred @ normal, normal)
    component = np.linalg.svd(rest, full_matrices=False)[2][0]
    component = component * np.sign(component[np.abs(component).argmax()])  # else its sign would be chance
    across = np.stack([normal, component], axis=1)
    x, y = _shares(centred @ across, centred)
    axes = (
        f"signed distance to the boundary between labels {first} and {second}, {x}",
        f"first principal component beside it, {y}",
    )
    return Plane(axes, across, np.array([(bias[first] - bias[second]) / length, -mean @ component]))


def carrier_planes(
    marking_features: NDArray[np.float64],
    features: NDArray[np.float64],
    labels: NDArray[np.int64],
    weight: NDArray[np.float64],
    carriers: NDArray[np.float64],
) -> tuple[Plane, ...]:
    """For each class the plane of its carrier and of what its weights have beside the carrier.

    The carrier lies in the features of the marking network. It is brought into those of another network by the linear
    map between the two (Sablayrolles et al. 2020, their alignment of subspaces), as in the white-box test. The plane
    then holds the class's weights whole, so that its logit, up to what all classes share, is read off x and y. Both are
    taken from the mean of the class, in standard deviations of clean images about theirs, so that all classes fit into
    one picture. Compare the decomposition of classifiers by the same authors into a semantic and a carrier direction.

    Args:
        marking_features: P [N, d], of clean images, by the marking network.
        features: Q [N, d'], of the same images, by the network that is looked at.
        labels: Of the same images, [N].
        weight: The class weights of that network, [classes, d'].
        carriers: Unit rows [classes, d].
    """
    alignment, *_ = np.linalg.lstsq(marking_features, features, rcond=np.finfo(np.float64).eps * len(features))
    evidence = weight - weight.mean(0)
    across = np.empty((len(weight), weight.shape[1], 2))
    means = np.zeros_like(weight, dtype=np.float64)
    centred = np.empty_like(features)
    for label in range(len(weight)):
        along = _unit(carriers[label] @ alignment)
        across[label] = np.stack([along, _unit(evidence[label] - (evidence[label] @ along) * along)], axis=1)
        own = labels == label
        means[label] = features[own].mean(0) if own.any() else features.mean(0)
        centred[own] = features[own] - means[label]
    seen = np.einsum("nd,ndk->nk", centred, across[labels])
    x, y = _shares(seen, centred)
    axes = f"along the carrier of the class, {x}", f"along its weights, beside the carrier, {y}"
    across = across / np.maximum(seen.std(0), TINY)
    return tuple(Plane(axes, own, -mean @ own) for own, mean in zip(across, means, strict=True))


def in_planes(planes: Sequence[Plane], features: NDArray[np.float64], labels: NDArray[np.int64]) -> Points:
    """Features [N, d] as points, each in the plane of its label [N]."""
    return tuple(planes[label].points(row[None])[0] for row, label in zip(features, labels, strict=True))


def _unit(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    return direction / max(float(np.linalg.norm(direction)), TINY)


def _shares(seen: NDArray[np.float64], centred: NDArray[np.float64]) -> list[str]:
    """What part of the variance of features is seen along each axis, in words."""
    total = max(float(np.square(centred).sum()), TINY)
    return [f"{part / total:.0%} of the variance" for part in np.square(seen).sum(0)]
