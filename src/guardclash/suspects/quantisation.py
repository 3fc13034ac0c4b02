"""The victim with coarse weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from guardclash.checks import within
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Plan
from guardclash.suspect import Suspect, changed


@dataclass(frozen=True)
class Quantised:
    """Rounds every weight to the nearest of 2^bits values, evenly from the least to the largest of its tensor.

    Biases and norms, of one dimension, are left alone. (The published toolbox of Lukas et al. 2022 takes the midpoint
    of the two values around a weight instead, which moves weights that need not move.)
    """

    bits: int

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network with its own weights, rounded."""
        with torch.no_grad():
            for parameter in network.parameters():
                low, high = parameter.min(), parameter.max()
                step = (high - low) / (2**self.bits - 1)
                if parameter.dim() > 1:
                    nearest = low + ((parameter - low) / step).round() * step
                    parameter.copy_(torch.where(step > 0, nearest, parameter))  # a constant tensor stays
        return network


@dataclass(frozen=True)
class Quantisation(Suspect):
    """Quantisation: the victim's weights, each rounded to few bits; nothing is trained."""

    kind: ClassVar[str] = "quantisation"

    bits: int = 5
    """Of each weight."""

    def __post_init__(self) -> None:
        within("quantisation", ">= 1, <= 16", bits=self.bits)

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The victim's network, rounded."""
        return changed(victim, unprotected, Quantised(self.bits))
