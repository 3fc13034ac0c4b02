"""The fingerprint of dataset inference: embeddings of images, what is learnt from them, and the test on any model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from guardclash.numerics.attacks import attacked
from guardclash.numerics.distinguisher import Evidence, Normalisation, evidence, layout, train_distinguisher
from guardclash.numerics.layout import fast
from guardclash.numerics.walk_scale import calibrated
from guardclash.numerics.walks import BlindWalk, MinGD
from guardclash.plan.deployed import Deployed
from guardclash.plan.examples import class_indices
from guardclash.plan.plan import Context, Source
from guardclash.plan.sources import Drawn
from guardclash.training.trained import Trained

SPARE = 50
"""Test images on which the scale of the noise is chosen, and nothing else is done."""
LADDER = (1, 2, 4, 8, 16, 32)
CENSORED = 0.2
"""Share of the walks of a norm that may end without a change of label; the choice of the scale keeps below it."""


@dataclass(frozen=True)
class Embedded:
    """Embeddings of images by a model: what is kept of the only dear part."""

    model: Deployed
    images: Drawn
    walk: BlindWalk | MinGD
    precision: str
    weights: str
    """Of the model: its plan alone would give a foreign network another one's embeddings."""


class Group(NamedTuple):
    """Images of one kind: those that the distinguisher learns from, and others to verify with."""

    learnt: Drawn
    tested: Drawn


def group(images: Source, size: int, purpose: str, start: int) -> Group:
    """Twice `size` images of a source, drawn anew for every seed."""
    return Group(Drawn(images, size, f"di/{purpose}", start), Drawn(images, size, f"di/{purpose}", start + size))


@dataclass(frozen=True, eq=False)
class Exam:
    """One victim's fingerprint under one seed: its images, walks and arrangement."""

    victim: Trained
    context: Context
    groups: tuple[Group, Group, Group]
    walk: BlindWalk | MinGD
    arrangement: str
    precision: str

    def fingerprint(self, low: Group, high: Group) -> Callable[[Trained], Evidence]:
        """Learns on the victim to tell two groups apart; the test of that on any model."""
        learnt = [self.embedding(self.victim, images)["distances"] for images in low]
        normal = Normalisation.of(torch.cat(learnt) if self.arrangement == "published" else learnt[0])
        members, others = (self._rows(self.victim, group, normal, 0) for group in (low, high))
        distinguisher = train_distinguisher(members, others, self.context.rng("di", "distinguisher"))

        def test(model: Trained) -> Evidence:
            members, others = (distinguisher.score(self._rows(model, group, normal, 1)) for group in (low, high))
            return evidence(members, others, self.context.rng("di", "samples"))

        return test

    def _rows(self, model: Trained, group: Group, normal: Normalisation, part: int) -> Tensor:
        """Rows to learn from (part 0) or to verify with (1)."""
        if self.arrangement == "per_image":
            return layout(normal(self.embedding(model, group[part])["distances"]))
        both = torch.cat([self.embedding(model, images)["distances"] for images in group])
        return layout(normal(both), self.arrangement).chunk(2)[part]

    def embedding(self, model: Trained, images: Drawn) -> dict[str, Tensor]:
        """Distances and lengths [N, K, 3] of images on a model, kept in the store."""
        identity = Embedded(model.deployed, images, self.walk, self.precision, model.weights)
        return self.context.kept(identity, lambda: self._embed(model, images))

    def _embed(self, model: Trained, images: Drawn) -> dict[str, Tensor]:
        device = next(model.network.parameters()).device
        x, y = self._labelled(images, device)
        with attacked(model.network, precision=self.precision):
            if isinstance(self.walk, MinGD):
                found = self.walk(_logits(model.network), x, self.victim.plan.model.classes)
            else:
                rng = self.context.rng("di", "walks", images.purpose, images.start)
                found = self.walk(_labels(model), x, y, rng)
        return {"distances": found.distances.float().cpu(), "lengths": found.lengths.short().cpu()}

    def _labelled(self, images: Drawn, device: torch.device) -> tuple[Tensor, Tensor]:
        data = self.context.data(images)
        return data.x.to(device), class_indices(data.y).to(device)

    def censored(self, model: Trained, groups: tuple[Group, ...]) -> float:
        """Share of a model's walks without a change of label, in the worst norm."""
        lengths = torch.cat([self.embedding(model, group.tested)["lengths"] for group in groups])
        longest = self.walk.steps + isinstance(self.walk, BlindWalk)
        return (lengths >= longest).double().mean((0, 1)).max().item()

    def calibrated(self, walk: BlindWalk) -> Exam:
        """This exam with the smallest noise that leaves few walks of the victim censored; it is kept in the store."""
        images = Drawn(self.groups[2].tested.images, SPARE, "di/others", 4 * self.groups[2].tested.size)
        identity = Embedded(self.victim.deployed, images, walk, self.precision, self.victim.weights)
        found = self.context.kept(identity, lambda: {"scale": torch.tensor(self._scale(images, walk))})
        return replace(self, walk=replace(walk, scale=found["scale"].item()))

    def _scale(self, images: Drawn, walk: BlindWalk) -> float:
        x, y = self._labelled(images, next(self.victim.network.parameters()).device)
        with attacked(self.victim.network, precision=self.precision):
            found = calibrated(walk, _labels(self.victim), x, y, self.context.rng("di", "scale"), LADDER, CENSORED)
        return float(found.walk.scale)


def _labels(model: Trained) -> Callable[[Tensor], Tensor]:
    return lambda x: model.predict(x).argmax(1).to(x.device)


def _logits(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: network(fast(x)).float()
