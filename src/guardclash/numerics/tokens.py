"""What stands between tokens, which cannot be moved a little, and a network: the embedding, whose output can.

Miyato et al. (2017) attack it: a text stays what it is, and the vectors of its tokens are shifted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from guardclash.errors import UserError
from guardclash.numerics.attacks import PGD


@contextmanager
def shifted(network: nn.Module, tokens: Tensor, shift: Tensor) -> Iterator[None]:
    """The network with the vectors of some tokens shifted, in all its passes over them.

    Args:
        network: The network; its first embedding that is given these very tokens counts, and so none of places.
        tokens: [B, length].
        shift: Of the embedding's output, [B, length, width].

    Raises:
        UserError: If no embedding was given them, so that nothing was shifted.
    """
    reached, found = False, False

    def begin(module: nn.Module, inputs: object) -> None:
        nonlocal found
        found = False

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        nonlocal reached, found
        if found or inputs[0].shape != tokens.shape or not torch.equal(inputs[0], tokens):
            return None
        reached = found = True
        return output + shift.to(output)

    layers = [module for module in network.modules() if isinstance(module, nn.Embedding)]
    handles = [network.register_forward_pre_hook(begin, prepend=True)]
    handles += [layer.register_forward_hook(add) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if not reached:
        raise UserError("no embedding of the network is given the tokens, so they cannot be shifted")


def embedding_of(network: nn.Module, tokens: Tensor) -> nn.Embedding:
    """The first embedding of a network that is given some tokens, [B, length]; its mode and its weights stay.

    Raises:
        UserError: If there is none.
    """
    found: list[nn.Module] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if inputs[0].shape == tokens.shape and torch.equal(inputs[0], tokens):
            found.append(module)

    layers = [module for module in network.modules() if isinstance(module, nn.Embedding)]
    handles = [layer.register_forward_hook(look) for layer in layers]
    try:
        with torch.no_grad():
            network(tokens)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise UserError("the network has no embedding of tokens", got=type(network).__name__)
    layer = found[0]
    if not isinstance(layer, nn.Embedding):
        raise TypeError("hooks were put on embeddings only")
    return layer


def worst_shift(
    attack: PGD,
    network: nn.Module,
    losses: Callable[[], Tensor],
    tokens: Tensor,
    rng: torch.Generator,
    padding: int | None = None,
) -> Tensor:
    """The shift of the tokens' vectors that an attack finds, [B, length, width]; each text has a ball of its own.

    Args:
        attack: In units of the embedding, without bounds.
        network: Inside of `attacked(network)`.
        losses: Runs the network on the tokens and gives a loss for each text, [B].
        tokens: [B, length].
        rng: For the random start.
        padding: The token of empty places, whose vectors stay.
    """
    origin, real = _origin(network, tokens, padding)

    def under(point: Tensor) -> Tensor:
        with shifted(network, tokens, point * real):
            return losses()

    return attack(under, origin, rng) * real


def random_shift(
    attack: PGD, network: nn.Module, tokens: Tensor, rng: torch.Generator, padding: int | None = None
) -> Tensor:
    """A random shift within an attack's balls, as `worst_shift` starts from."""
    origin, real = _origin(network, tokens, padding)
    return attack.start(origin, rng) * real


def _origin(network: nn.Module, tokens: Tensor, padding: int | None) -> tuple[Tensor, Tensor]:
    """No shift, and which places may have one, [B, length, 1]."""
    weight = embedding_of(network, tokens[:1]).weight
    real = torch.ones_like(tokens) if padding is None else tokens != padding
    return weight.new_zeros(*tokens.shape, weight.shape[1]), real.unsqueeze(-1).to(weight.dtype)
