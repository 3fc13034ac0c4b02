"""A network as features and a linear classifier on top of them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from guardclash.errors import UserError


def classifier(network: nn.Module) -> nn.Linear:
    """The last linear layer: weight [classes, features].

    Raises:
        UserError: If the network has none.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UserError("a network without a linear layer has no features to align", got=type(network).__name__)
    return layers[-1]


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
