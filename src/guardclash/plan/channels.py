"""Channels of the last convolution, and a layer that takes some of them out."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from guardclash.errors import UserError
from guardclash.plan.plan import Model, Plan, Rewrite
from guardclash.plan.structure import skeleton


class ChannelMask(nn.Module):
    """Sets some channels to zero, and leaves the others as they are."""

    kept: Tensor
    """[channels]: 1 where a channel is kept, 0 where it is not."""

    def __init__(self, channels: int, device: torch.device | None = None):
        super().__init__()
        # Among the stored weights: which channels these are follows from a trained network.
        self.register_buffer("kept", torch.ones(channels, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps [B, channels, ...] without those of the channels that are not kept."""
        return x * self.kept.view(1, -1, *[1] * (x.dim() - 2))


class Place(NamedTuple):
    """Where the channels of a network can be taken out."""

    name: str
    """Of the layer after which they are."""
    channels: int


def last_channels(network: nn.Module) -> Place | None:
    """The last convolution over images, or the norm right behind it: what is 0 there, a following ReLU leaves silent.

    None where there is no convolution inside of the network. "Last" and "behind" are told by the order in which the
    network holds its layers.
    """
    layers = [(name, module) for name, module in network.named_modules() if name and not list(module.children())]
    place = max((at for at, (_, module) in enumerate(layers) if isinstance(module, nn.Conv2d)), default=None)
    if place is None:
        return None
    channels = int(layers[place][1].out_channels)
    behind = layers[place + 1][1] if place + 1 < len(layers) else None
    widths = {_BatchNorm: "num_features", nn.GroupNorm: "num_channels"}
    norm = any(isinstance(behind, kind) and getattr(behind, width) == channels for kind, width in widths.items())
    return Place(layers[place + norm][0], channels)


@lru_cache
def _has_channels(model: Model, rewrites: tuple[Rewrite, ...]) -> bool:
    return last_channels(skeleton(model, rewrites)) is not None


def has_channels(plan: Plan) -> bool:
    """Whether the network of a plan has a convolution whose channels can be taken out."""
    return _has_channels(plan.model, plan.all_rewrites)


def masked(network: nn.Module) -> tuple[nn.Module, ChannelMask]:
    """A network with a mask over the channels of its last convolution, all of them kept.

    Raises:
        UserError: If it has no convolution.
    """
    place = last_channels(network)
    if place is None:
        raise UserError("a network without convolutions has no channels to take out", got=type(network).__name__)
    layer = network.get_submodule(place.name)
    outside, _, own = place.name.rpartition(".")
    mask = ChannelMask(place.channels, next(network.parameters()).device)
    setattr(network.get_submodule(outside), own, nn.Sequential(layer, mask).train(network.training))
    return network, mask
