"""A network as features and a linear classifier on top of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from guardclash.errors import UserError
from guardclash.numerics.layout import at_a_time, fast


def classifier(network: nn.Module) -> nn.Linear:
    """The last linear layer: weight [classes, features].

    Raises:
        UserError: If the network has none.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UserError("a network without a linear layer has no features to align", got=type(network).__name__)
    return layers[-1]


def reads_out(network: nn.Module, classes: int) -> bool:
    """Whether the last linear layer has a row of weights for each class."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return bool(layers) and layers[-1].out_features == classes


def penultimate(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The map from images [N, C, H, W] to what the classifier sees of them [N, features], with gradients.

    The network is read in the mode that it is in.
    """
    last = classifier(network)

    def features(x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            network(x)
        finally:
            handle.remove()
        return seen[0]

    return features


def hidden_outputs(network: nn.Module, x: Tensor, count: int | None = None) -> list[Tensor]:
    """What the last layers with weights before the classifier make of inputs, with gradients.

    Layers count in the order in which they run, norms are left out, and so is what gives no row for each input.

    Args:
        network: Read in the mode that it is in.
        x: Inputs [N, ...].
        count: How many layers, at most; None: all.

    Returns:
        Of each layer [N, features], before what follows it; none of a network that is a classifier alone.
    """
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    seen: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        found = output[0] if isinstance(output, tuple) else output
        if isinstance(found, Tensor) and found.dim() > 1 and len(found) == len(x):
            seen.append(found.flatten(1))

    handles = [
        module.register_forward_hook(look)
        for module in network.modules()
        if module not in linear[-1:] and any(own.dim() > 1 for own in module.parameters(recurse=False))
    ]
    try:
        network(x)
    finally:
        for handle in handles:
            handle.remove()
    return seen if count is None else seen[-count:]


@torch.no_grad()
def features_of(network: nn.Module, x: Tensor, batch_size: int = 1000) -> Tensor:
    """What the classifier sees of images [N, C, H, W], N >= 1, without gradients and on the CPU: [N, features]."""
    device, features = next(network.parameters()).device, penultimate(network)
    batches = (fast(batch.to(device)) for batch in x.split(at_a_time(x, batch_size)))
    return torch.cat([features(batch).cpu() for batch in batches])


@dataclass(frozen=True, eq=False)
class Readout:
    """A network as a linear classifier of its features, which are given for some images."""

    weight: NDArray[np.float64]
    """[classes, features]."""
    bias: NDArray[np.float64]
    """[classes]."""
    features: tuple[NDArray[np.float64], ...]
    """Of each batch of images, [N, features]."""


def linear_readout(network: nn.Module, classes: int, images: Sequence[Tensor]) -> Readout | None:
    """The features of several batches of images [N, C, H, W], N >= 1, and how classes are read off them.

    Returns:
        None where they cannot be: without a last linear layer over the classes, or where a training that diverged left
        no finite numbers.
    """
    if not reads_out(network, classes):
        return None
    last = classifier(network)
    bias = last.weight.new_zeros(classes) if last.bias is None else last.bias
    values = [last.weight, bias, *(features_of(network, batch) for batch in images)]
    if not all(value.isfinite().all() and value.ndim <= 2 for value in values):
        return None
    weight, offset, *features = (value.detach().cpu().double().numpy() for value in values)
    return Readout(weight, offset, tuple(features))
