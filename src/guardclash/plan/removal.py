"""Rewrites by which a thief makes a stolen network its own before it trains on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from guardclash.numerics.features import classifier


@dataclass(frozen=True)
class LastLayer:
    """The last linear layer forgets what it has learnt, or is the only one that goes on learning."""

    forget: bool = False
    """Draw its weights anew."""
    alone: bool = False
    """Let no other parameter be trained; running statistics of normalisation still move."""

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network, changed in place.

        Raises:
            UserError: If it has no linear layer.
        """
        last = classifier(network)
        if self.alone:
            own = set(map(id, last.parameters()))
            for parameter in network.parameters():
                parameter.requires_grad_(id(parameter) in own)
        if self.forget:
            last.reset_parameters()
        return network
