"""What can be told of a network from its structure: on the meta device where possible, where nothing is computed."""

from __future__ import annotations

import contextlib
import math
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import TorchFunctionMode

from guardclash.errors import UserError
from guardclash.numerics.clipping_checks import BufferState, buffers_of, moved
from guardclash.numerics.features import hidden_outputs
from guardclash.plan.plan import Model, Rewrite
from guardclash.plan.rewrites import WithoutDropout, dropouts_left

NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, _InstanceNorm)
UNSEEN = (NotImplementedError, RuntimeError, ValueError)
"""What networks raise that cannot run without numbers, or on these ones."""


def check_network(model: Model, rewrites: tuple[Rewrite, ...]) -> None:
    """Checks a rewritten network.

    Raises:
        UserError: If a norm makes it constant, or dropout is left that was to be switched off.
    """
    if found := _over_one_value(model, rewrites):
        kind, name = found
        raise UserError(
            f"a {kind} norm over single values makes the network constant",
            where=f"layer {name}",
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
    return any(isinstance(module, _BatchNorm) for module in network.modules())


@lru_cache
def has_embedding(model: Model, rewrites: tuple[Rewrite, ...]) -> bool:
    """Whether a rewritten network has an embedding, such as of tokens."""
    with torch.device("meta"):
        network = model.build()
        for rewrite in rewrites:
            network = rewrite(network)
    return any(isinstance(module, nn.Embedding) for module in network.modules())


@lru_cache
def moved_statistics(model: Model, rewrites: tuple[Rewrite, ...]) -> tuple[str, ...]:
    """Buffers that a forward pass in training mode changes, batch norm's left out; as far as that can be told."""
    network = skeleton(model, rewrites)

    def others() -> dict[str, BufferState]:
        own = {id(buffer) for one in network.modules() if isinstance(one, _BatchNorm) for buffer in one.buffers()}
        found = ((name, one) for name, one in buffers_of(network, whole=True).items() if id(one.tensor) not in own)
        return dict(found)

    before = others()
    if before:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), contextlib.suppress(*UNSEEN):
            network.train()(_inputs(model, network))
    return tuple(moved(before, others()))


def _each(module: nn.Module, x: torch.Tensor) -> tuple[str, float]:
    """What kind of norm a module is, and over how many values of an input it takes a mean; infinity of other ones."""
    if isinstance(module, nn.GroupNorm):
        return "group", x[0].numel() / module.num_groups
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return "layer", math.prod(module.normalized_shape)
    if isinstance(module, _InstanceNorm) and x.dim() > 2 and (module.training or not module.track_running_stats):
        return "instance", x[0, 0].numel()
    return "", math.inf


@lru_cache
def _over_one_value(model: Model, rewrites: tuple[Rewrite, ...]) -> tuple[str, str] | None:
    """Kind and name of a norm over a single value, if there is any: its output says nothing of its input."""
    network = skeleton(model, rewrites)
    found: list[tuple[str, str]] = []

    def look(name: str, module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        kind, values = _each(module, given[0])
        if values <= 1:
            found.append((kind, name))

    norms = {name: one for name, one in network.named_modules() if isinstance(one, NORMS)}
    for name, module in norms.items():
        module.register_forward_pre_hook(partial(look, name))
    if norms:
        # A network that cannot run without numbers cannot be looked at either.
        with torch.no_grad(), contextlib.suppress(*UNSEEN):
            network.eval()(_inputs(model, network))
    return next(iter(found), None)


@lru_cache
def _dropout_left(model: Model, rewrites: tuple[Rewrite, ...]) -> tuple[str, ...]:
    """Calls of dropout that are left where it was to be switched off."""
    if WithoutDropout() not in rewrites:
        return ()
    network = skeleton(model, rewrites)
    with contextlib.suppress(*UNSEEN):  # as above
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


@lru_cache
def layers_before_classifier(model: Model, rewrites: tuple[Rewrite, ...]) -> int:
    """How many layers with weights a rewritten network has before its classifier; 0 where that cannot be told."""
    network = skeleton(model, rewrites).eval()
    with torch.no_grad(), contextlib.suppress(*UNSEEN):
        return len(hidden_outputs(network, _inputs(model, network)))
    return 0


class Operation(NamedTuple):
    """One function of torch that a network calls in evaluation mode."""

    name: str
    """Such as "conv2d" or "relu", whether a layer calls it or code does."""
    inputs: tuple[torch.Size, ...]
    """The shapes of its tensors, in order, for a batch of `TRIED` inputs: of a convolution the input and the weight."""
    output: torch.Size


TRIED = 2
"""Inputs that a network is looked at with."""


class _Operations(TorchFunctionMode):
    """Notes which functions are called on what; those inside of others are parts of them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Operation] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        output = func(*args, **(kwargs or {}))
        if isinstance(output, torch.Tensor):
            given = (*args, *(kwargs or {}).values())
            shapes = tuple(one.shape for one in given if isinstance(one, torch.Tensor))
            self.found.append(Operation(getattr(func, "__name__", ""), shapes, output.shape))
        return output


@lru_cache
def operations(model: Model, rewrites: tuple[Rewrite, ...]) -> tuple[Operation, ...]:
    """What a rewritten network computes, in order; as far as it runs without numbers."""
    network, mode = skeleton(model, rewrites).eval(), _Operations()
    inputs = _inputs(model, network)
    with torch.no_grad(), contextlib.suppress(*UNSEEN), mode:
        network(inputs)
    return tuple(mode.found)


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
    return torch.zeros(TRIED, *model.shape, dtype=kind, device=device)
