"""What can be told of a network from its structure: on the meta device where possible, where nothing is computed."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import nn

from guardclash.errors import UserError
from guardclash.plan.plan import Model, Rewrite
from guardclash.plan.rewrites import WithoutDropout, dropouts_left


def check_network(model: Model, rewrites: tuple[Rewrite, ...]) -> None:
    """Checks a rewritten network.

    Raises:
        UserError: If a group norm makes it constant, or dropout is left that was to be switched off.
    """
    if norm := _over_one_value(model, rewrites):
        raise UserError(
            "a group norm over single values makes the network constant",
            where=f"layer {norm}",
            got=f"images of {model.shape}",
            mend="Use fewer poolings or larger images, or a model with fewer groups.",
        )
    if left := _dropout_left(model, rewrites):
        raise UserError(
            "dropout that is called as a function cannot be switched off",
            where=type(model).__name__,
            got=", ".join(left),
            mend="Use layers (torch.nn.Dropout), or give the model no dropout.",
        )


@lru_cache
def has_batch_norm(model: Model, rewrites: tuple[Rewrite, ...]) -> bool:
    """Whether a rewritten network has batch norm of any kind."""
    network = skeleton(model, rewrites)
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


@lru_cache
def has_embedding(model: Model, rewrites: tuple[Rewrite, ...]) -> bool:
    """Whether a rewritten network has an embedding, such as of tokens."""
    with torch.device("meta"):
        network = model.build()
        for rewrite in rewrites:
            network = rewrite(network)
    return any(isinstance(module, nn.Embedding) for module in network.modules())


@lru_cache
def _over_one_value(model: Model, rewrites: tuple[Rewrite, ...]) -> str | None:
    """The group norm of which a group holds one value, if there is any: its output says nothing of its input."""
    network = skeleton(model, rewrites)
    with torch.no_grad():
        norms = {module: name for name, module in network.named_modules() if isinstance(module, nn.GroupNorm)}
        found: list[str] = []

        def look(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            if isinstance(module, nn.GroupNorm) and given[0][0].numel() <= module.num_groups:
                found.append(norms[module])

        for module in norms:
            module.register_forward_pre_hook(look)
        if norms:
            # A network that cannot run without numbers cannot be looked at either.
            with contextlib.suppress(NotImplementedError, RuntimeError):
                network.eval()(_inputs(model, network))
    return next(iter(found), None)


@lru_cache
def _dropout_left(model: Model, rewrites: tuple[Rewrite, ...]) -> tuple[str, ...]:
    """Calls of dropout that are left where it was to be switched off."""
    if WithoutDropout() not in rewrites:
        return ()
    network = skeleton(model, rewrites)
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # as above
        return tuple(dropouts_left(network, _inputs(model, network)))
    return ()


class Looks(NamedTuple):
    """What a network is."""

    kind: str
    """The name of its class."""
    parameters: int
    """Numbers in its parameters; shared ones count once."""
    trainable: int
    """How many of them a training moves."""


@lru_cache
def looks_of(model: Model, rewrites: tuple[Rewrite, ...]) -> Looks:
    """What a network is, as it is trained."""
    network = skeleton(model, rewrites)
    sizes = [(one.numel(), one.requires_grad) for one in network.parameters()]
    return Looks(type(network).__name__, sum(size for size, _ in sizes), sum(size for size, moves in sizes if moves))


@lru_cache
def recurrent_layers(model: Model, rewrites: tuple[Rewrite, ...]) -> tuple[str, ...]:
    """The layers of a rewritten network that go through a sequence step by step: their names and types."""
    found = skeleton(model, rewrites).named_modules()
    return tuple(f"{name} ({type(module).__name__})" for name, module in found if isinstance(module, nn.RNNBase))


def skeleton(model: Model, rewrites: tuple[Rewrite, ...]) -> nn.Module:
    """A rewritten network that is only looked at, without weights where it can be built so."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return _rewritten(model, rewrites)
        except (NotImplementedError, RuntimeError, UserError):
            return _rewritten(model, rewrites)  # some compute with numbers while they are built


def _rewritten(model: Model, rewrites: tuple[Rewrite, ...]) -> nn.Module:
    network = model.build()
    for rewrite in rewrites:
        network = rewrite(network)
    return network


def _inputs(model: Model, network: nn.Module) -> torch.Tensor:
    """Two inputs of a network, where it lies; zeros, which are tokens as well."""
    device = next((one.device for one in network.parameters()), torch.device("cpu"))
    kind = torch.int64 if getattr(model, "vocabulary", None) else torch.float32
    return torch.zeros(2, *model.shape, dtype=kind, device=device)
