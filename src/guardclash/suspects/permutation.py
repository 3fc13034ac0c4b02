"""The victim with its hidden channels in another order."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from guardclash.errors import UserError
from guardclash.plan.deployed import Deployed
from guardclash.plan.hidden_channels import hidden_channels, reorder
from guardclash.plan.plan import Plan
from guardclash.plan.structure import skeleton
from guardclash.suspect import Suspect, changed

SAME = 1e-3
"""Of the largest logit, or of 1: by so much answers may differ through the order in which sums are taken."""


@dataclass(frozen=True)
class Reordered:
    """Every set of hidden channels in a random order, each layer's own; the function stays what it was."""

    shape: tuple[int, ...]
    """Of one input, on which it is tried that the function is the same."""
    vocabulary: int = 0
    """How many tokens there are, where inputs are tokens; 0: they are numbers."""

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network, its channels reordered.

        Raises:
            UserError: If it answers otherwise then: its code does more than its structure tells.
        """
        before = deepcopy(network)
        for hidden in hidden_channels(network):
            order = hidden.order()
            if not _without_numbers(network):
                reorder(network, hidden, order)
        if not (_without_numbers(network) or self._same(before, network)):
            what = "the network's code depends on the order of channels that only layers behind them should see"
            raise UserError(what, where="permutation", got=type(network).__name__)
        return network

    @torch.no_grad()
    def _same(self, before: nn.Module, after: nn.Module) -> bool:
        chance = torch.Generator().manual_seed(0)
        x: Tensor = torch.rand(4, *self.shape, generator=chance)
        if self.vocabulary:
            x = torch.randint(self.vocabulary, (4, *self.shape), generator=chance)
        x = x.to(next(after.parameters()).device)
        one, other = (deepcopy(network).eval()(x) for network in (before, after))
        return bool(((one - other).abs() <= SAME * one.abs().max().clamp(min=1)).all())


def _without_numbers(network: nn.Module) -> bool:
    return any(one.is_meta for one in network.parameters())  # whose structure is looked at only


@dataclass(frozen=True)
class Permutation(Suspect):
    """Permutation: the victim's hidden channels in a random order, with all that makes, treats and reads them.

    No answer changes, and nothing is trained; weights are no longer where the owner looks for them. Channels are
    reordered where the network's structure shows that only layers behind them see them: between two convolutions or
    linear layers, through norms, activations and pooling. Those of residual streams stay.
    """

    kind: ClassVar[str] = "permutation"

    def plan(self, victim: Deployed, unprotected: Plan) -> Plan:
        """The victim's network, reordered.

        Raises:
            UserError: If none of its channels can be.
        """
        origin = victim.origin
        if not hidden_channels(skeleton(origin.model, origin.all_rewrites)):
            raise UserError(
                "no channels of the network are seen by layers behind them alone, as far as its structure tells",
                where=self.kind,
                got=type(origin.model).__name__,
                allowed="convolutions and linear layers behind one another, through norms, activations and pooling",
            )
        reordered = Reordered(origin.model.shape, getattr(origin.model, "vocabulary", None) or 0)
        return changed(victim, unprotected, reordered)
