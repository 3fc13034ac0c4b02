"""The victim with its filters moved, trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from guardclash.checks import within
from guardclash.numerics.weight_marks import filters, weight_of
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Plan, Rewrite
from guardclash.suspect import changed
from guardclash.suspects.fine_tuning import FineTuning


@dataclass(frozen=True)
class ShiftedFilters:
    """Takes a multiple of a layer's mean filter from each of its filters: beyond 1, what the mean said is turned round.

    Convolutions are moved; of a network without any, linear layers but the last.
    """

    strength: float
    noise: float = 0.0
    """Also noise on each weight, in standard deviations of its tensor."""

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network, its filters moved."""
        with torch.no_grad():
            for layer in filters(network):
                weight = weight_of(layer)
                moved = weight - self.strength * weight.mean(0)
                # Drawn in any case, so that what is drawn later does not hang on the option.
                drawn = torch.randn(weight.shape).to(weight.device)
                weight.copy_(moved + self.noise * weight.std() * drawn if self.noise else moved)
        return network


@dataclass(frozen=True)
class Shifting(FineTuning):
    """Weight shifting (Lukas et al. 2022): the victim's filters, moved away from their mean, then trained on.

    Against marks that lie in the mean of a layer's filters. Its options of training are those of fine-tuning, whose
    training follows; `epochs = 0` leaves it out. The published code also adds noise (`noise = 1`).
    """

    kind: ClassVar[str] = "shifting"
    least_epochs: ClassVar[int] = 0

    strength: float = 1.5
    """How often the mean filter is taken away."""
    noise: float = 0.0
    """On each weight, in standard deviations of its tensor."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self.kind, ">= 0, finite", strength=self.strength, noise=self.noise)

    def rewrites(self) -> tuple[Rewrite, ...]:
        """The shift comes first."""
        return (ShiftedFilters(self.strength, self.noise), *super().rewrites())

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The victim's network, its filters moved, trained on unless there are no epochs."""
        if self.epochs == 0:  # which takes no images
            return changed(victim, unprotected, ShiftedFilters(self.strength, self.noise))
        return super().plan(victim, unprotected)
