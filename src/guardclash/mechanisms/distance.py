"""Model distance: how close the answers of two models are, on images of four kinds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from guardclash.checks import within
from guardclash.data.space import Images, Rows, Space, Tokens
from guardclash.judging.criteria import Metric
from guardclash.mechanism import Curve, Mechanism
from guardclash.plan.deployed import Deployed
from guardclash.plan.made import noise
from guardclash.plan.members import members_of
from guardclash.plan.plan import Context, Plan, Source
from guardclash.plan.sources import Drawn
from guardclash.suspect import disjoint
from guardclash.training.trained import Trained

CLOSENESS = {
    "cosine": "cosine similarity",
    "one_minus_l1": "1 − L₁",
    "one_minus_l2": "1 − L₂",
    "fidelity": "fidelity",
}
"""Ways to compare two answers, in the order of `closeness`; the talk plots 1 - L_p "to be visually consistent"."""
IMAGES = {
    "members": "images the owner trained on",
    "others": "images the owner does not have",
    "test": "test images",
    "random": "random noise",
}
POINTS = 25
"""Of a curve, before those that fall on the same number of images are merged."""


def closeness(one: Tensor, other: Tensor) -> Tensor:
    """How close two models' answers are, image by image.

    Args:
        one: Logits of a model, [N, classes].
        other: Those of another for the same images, [N, classes].

    Returns:
        Of their probabilities, [4, N]: cosine similarity in [0, 1], 1 - L1 in [-1, 1], 1 - L2 in [1 - sqrt(2), 1], and
        whether both name the same class, 0 or 1.
    """
    p, q = (functional.softmax(logits.double(), 1) for logits in (one, other))
    cosine = functional.cosine_similarity(p, q, dim=1)
    same = (p.argmax(1) == q.argmax(1)).double()
    return torch.stack([cosine, 1 - (p - q).norm(p=1, dim=1), 1 - (p - q).norm(p=2, dim=1), same])


def cumulative(values: Tensor) -> Curve:
    """The mean of the first n of some values, for numbers n from 1 to all of them at equal ratios.

    Example:
        >>> cumulative(torch.tensor([1.0, 0.0]))
        ((1.0, 1.0), (2.0, 0.5))
    """
    means = values.double().cumsum(0) / torch.arange(1, len(values) + 1)
    numbers = np.unique(np.geomspace(1, len(values), POINTS).round().astype(int)).tolist()
    return tuple((float(number), means[number - 1].item()) for number in numbers)


@dataclass(frozen=True)
class Compared:
    """Two models on given images: what is kept of a comparison."""

    version: ClassVar[int] = 2  # 1 had no fidelity

    suspect: Deployed
    victim: Deployed
    images: tuple[tuple[str, Drawn], ...]
    noise: int
    """Number of random images."""
    weights: tuple[str, str]
    """Of both models, the suspect's first: plans alone would give a foreign network another one's answers."""


@dataclass(frozen=True)
class ModelDistance(Mechanism):
    """Model distance: are the answers of a stolen model closer to the owner's than those of an innocent one?

    It changes no training. On training images of the owner, images that the owner does not have, test images and
    random noise it compares the probabilities of suspect and victim: mean cosine similarity, 1 - mean L1, 1 - mean
    L2 distance, and fidelity, the share of images of which both name the same class. Fingerprinting by dataset is
    feasible only if these tell models of the same data from models of other data of the same distribution. Nothing
    is claimed and nothing judged: values on suspects are reported, with their running means over the number of
    images as curves. A model's distance to itself says nothing, so none is measured.
    """

    name: ClassVar[str] = "distance"
    title: ClassVar[str] = "the model distance"
    version: ClassVar[int] = 2  # 1 had no fidelity
    spaces: ClassVar[tuple[type[Space], ...]] = (Images, Rows, Tokens)
    one_class: ClassVar[bool] = True
    concern: ClassVar[str] = "model fingerprinting"
    paper: ClassVar[str] = "Szyller and Asokan, talk on conflicts between protections"
    metrics: ClassVar[tuple[Metric, ...]] = tuple(
        Metric(f"{how}_{images}", f"{words}, {images}", None, decimals=3, title=f"{words} on {where}")
        for how, words in CLOSENESS.items()
        for images, where in IMAGES.items()
    )

    images: int = 1000
    """Of each kind at most; drawn anew for every seed."""
    others: Source | None = None
    """Images that the owner does not have; None: as many as the owner's that follow them. From Python only."""

    def __post_init__(self) -> None:
        within("distance", ">= 1", images=self.images)

    def bind(self, unprotected: Plan) -> ModelDistance:
        """With images that the owner does not have."""
        return replace(self, others=self.others or disjoint(unprotected.task.source))

    def verify(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, float]:
        """The means over all images; nothing if the models answer different questions."""
        return {name: curve[-1][1] for name, curve in self.curves(suspect, victim, context).items()}

    def curves(self, suspect: Trained, victim: Trained, context: Context) -> dict[str, Curve]:
        """The means over the first images, by metric."""
        if suspect.plan.question != victim.plan.question:
            return {}
        drawn = tuple(self._drawn(victim.plan))
        weights = suspect.weights, victim.weights
        identity = Compared(suspect.deployed, victim.deployed, drawn, self.images, weights)

        def compare() -> dict[str, Tensor]:
            inputs = {name: context.data(images).x for name, images in drawn}
            rng = context.rng("distance", "random")
            inputs["random"] = noise(victim.plan.judged_by.space, self.images, rng)
            return {name: closeness(suspect.predict(x), victim.predict(x)) for name, x in inputs.items()}

        found = context.kept(identity, compare)  # so that metrics and curves ask the models once
        return {
            f"{how}_{name}": cumulative(row) for name in IMAGES for how, row in zip(CLOSENESS, found[name], strict=True)
        }

    def _drawn(self, plan: Plan) -> Iterator[tuple[str, Drawn]]:
        """The images of every kind but noise."""
        own = members_of(plan)
        others = self.others or disjoint(own)
        sources = {"members": own, "others": others, "test": plan.judged_by.test}
        for name, source in sources.items():
            yield name, Drawn(source, min(self.images, source.size), f"distance/{name}")
