"""Negative label smoothing: labels beyond certainty, against inversion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from guardclash.checks import within
from guardclash.mechanisms.inversion import AgainstInversion
from guardclash.plan.maps import SmoothedLabels
from guardclash.plan.plan import Plan, Stream


@dataclass(frozen=True)
class NegativeLabelSmoothing(AgainstInversion):
    """Negative label smoothing (Struppek et al. 2024): the label weighs more than 1, all other classes less than 0.

    The model learns to be surer than sure, which leaves little in its answers for an attack that follows them. Its loss
    has no lower bound, so logits grow; the median margin is reported. A map on labels and not a loss: whatever else
    changes labels, losses or gradients stacks with it.
    """

    name: ClassVar[str] = "negls"
    title: ClassVar[str] = "negative label smoothing"
    paper: ClassVar[str] = "Struppek et al. 2024"

    alpha: float = -0.05
    """Share of the even distribution in the labels. Below 0 as published; above 0 it is ordinary smoothing, which makes
    models easier to invert."""
    from_share: float = 0.5
    """How much of the training is done before it begins; labels are untouched until then."""
    ramp: bool = True
    """As published: grow to half of alpha in the first half of what is left, then be whole. False: whole at once."""

    def __post_init__(self) -> None:
        AgainstInversion.__post_init__(self)
        within(self.name, "< 1, finite", alpha=self.alpha)
        within(self.name, ">= 0, < 1", from_share=self.from_share)

    def batch(self, stream: Stream, plan: Plan) -> Stream:
        """Adds the map to the stream's others."""
        labels = SmoothedLabels(self.alpha, plan.model.classes, self.from_share, self.ramp)
        return replace(stream, maps=(*stream.maps, labels))

    def facts(self, plan: Plan) -> dict[str, str]:
        """What the labels become."""
        classes = plan.model.classes
        weights = (1 - self.alpha + self.alpha / classes, self.alpha / classes)
        begins = f"from {self.from_share:.0%} of the training on" if self.from_share else "from the start"
        grows = ", by degrees" if self.ramp else ""
        return {"labels": f"{weights[0]:.4g} for the class, {weights[1]:.4g} for each other, {begins}{grows}"}
