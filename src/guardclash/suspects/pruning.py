"""The victim with small weights taken out."""

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
class Pruned:
    """Sets the smallest share of every weight tensor to zero; biases and norms, of one dimension, are left alone."""

    sparsity: float

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network with its own weights, the smallest of each tensor zero."""
        with torch.no_grad():
            for parameter in network.parameters():
                count = round(self.sparsity * parameter.numel())
                if parameter.dim() > 1 and count:
                    small = torch.zeros(parameter.numel(), dtype=torch.bool, device=parameter.device)
                    small[parameter.abs().flatten().argsort(stable=True)[:count]] = True
                    parameter.masked_fill_(small.reshape(parameter.shape), 0)
        return network


@dataclass(frozen=True)
class Pruning(Suspect):
    """Pruning: the victim's weights, the smallest of each layer set to zero (Han et al. 2015); nothing is trained."""

    kind: ClassVar[str] = "pruning"

    sparsity: float = 0.5
    """Share of each weight tensor that becomes zero."""

    def __post_init__(self) -> None:
        within("pruning", "> 0, < 1", sparsity=self.sparsity)

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The victim's network, pruned."""
        return changed(victim, unprotected, Pruned(self.sparsity))
