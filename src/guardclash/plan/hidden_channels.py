"""Channels inside of a network whose order nobody outside can see, found by following its structure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from guardclash.plan.channels import ChannelMask

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
ENTRYWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus),
    *(nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Dropout),
)
"""Layers that do the same to every entry. Of these and those below the exact types: a subclass may do anything."""
BY_CHANNEL = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
)
"""Layers that do the same to every feature map."""
ENTRYWISE_CALLS = frozenset("relu relu_ relu6 leaky_relu elu selu gelu silu mish softplus tanh sigmoid dropout".split())
BY_CHANNEL_CALLS = frozenset(
    f"{kind}{dimensions}d"
    for kind in ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "dropout")
    for dimensions in (1, 2, 3)
)
CALLS = {
    getattr(place, name): name
    for name in (*ENTRYWISE_CALLS, *BY_CHANNEL_CALLS, "flatten")
    for place in (torch, nn.functional)
    if hasattr(place, name)
}
"""Functions by what they are, not by what they are called."""
UNTRACEABLE = (fx.proxy.TraceError, ArithmeticError, AttributeError, LookupError, NameError, RuntimeError, TypeError)
"""What code raises whose way hangs on numbers, which a trace does not have; ValueError besides."""


@dataclass(frozen=True)
class Hidden:
    """Channels that one layer makes and that only layers behind it see."""

    maker: str
    """The layer that makes them: a convolution or linear layer."""
    channels: int
    between: tuple[str, ...] = ()
    """Layers with a number for each channel, such as norms."""
    readers: tuple[tuple[str, int], ...] = ()
    """The convolutions and linear layers that see them, with the numbers that each channel has there."""
    together: int = 1
    """So many neighbours must stay neighbours: those that a group norm takes together."""
    flat: bool = False
    """Whether, at this point of the way, there is nothing but channels and, within each, its places."""

    def order(self) -> Tensor:
        """A random order, from torch's global generator: groups change places, and so do channels within each."""
        groups = torch.randperm(self.channels // self.together).tolist()
        rows = [group * self.together + torch.randperm(self.together) for group in groups]
        return torch.cat(rows)


class _Leaves(fx.Tracer):
    """Layers without others inside are one step each, whoever wrote them."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not list(m.children()) or super().is_leaf_module(m, module_qualified_name)


def hidden_channels(network: nn.Module) -> tuple[Hidden, ...]:
    """All hidden channels of a network, in its order.

    What is not understood is left out: channels that meet others in a sum or are padded (residual streams), code whose
    way hangs on numbers, layers that are called twice or share weights.
    """
    try:
        nodes = list(_Leaves().trace(deepcopy(network)).nodes)  # a copy: its code runs, and may keep what it sees
    except (*UNTRACEABLE, ValueError):
        return ()
    plain = _plain_layers(network, nodes)
    found = (_hidden(node, plain) for node in nodes if node.op == "call_module")
    return tuple(one for one in found if one)


def _plain_layers(network: nn.Module, nodes: list[fx.Node]) -> dict[str, nn.Module]:
    """Layers that are called once, by nothing but a call, and share no tensor with another."""
    called = Counter(node.target for node in nodes if node.op == "call_module")
    read = [f"{node.target}." for node in nodes if node.op == "get_attr"]
    holders = Counter(id(one) for _, one in network.named_parameters(remove_duplicate=False))
    plain = {}
    for name, module in network.named_modules(remove_duplicate=False):
        once = called[name] == 1 and not any(one.startswith(f"{name}.") for one in read)
        alone = once and all(holders[id(one)] == 1 for one in module.parameters())
        if alone or not module.state_dict():  # what holds no tensors may well be called more than once
            plain[name] = module
    return plain


def _hidden(node: fx.Node, plain: dict[str, nn.Module]) -> Hidden | None:
    name = str(node.target)
    maker = plain.get(name)
    if type(maker) in CONVOLUTIONS and maker.groups == 1:  # type: ignore[union-attr]
        made = Hidden(name, maker.out_channels)  # type: ignore[union-attr, arg-type]
    elif type(maker) is nn.Linear:
        made = Hidden(name, maker.out_features, flat=True)
    else:
        return None
    if maker is None or not _own(maker):
        return None
    ends = [_followed(user, made, plain, maps=type(maker) in CONVOLUTIONS) for user in node.users]
    if made.channels < 2 or not ends or any(end is None for end in ends):
        return None
    found = [end for end in ends if end]
    sizes = {end.together for end in found} - {1}
    if len(sizes) > 1:  # groups of two sizes: rare, and seldom both could be kept
        return None
    return replace(
        made,
        between=tuple(dict.fromkeys(one for end in found for one in end.between)),
        readers=tuple(one for end in found for one in end.readers),
        together=max(sizes, default=1),
    )


def _own(module: nn.Module) -> bool:
    """Whether its weight is a parameter of its own: not made of others by a hook or a parametrization."""
    return isinstance(module._parameters.get("weight"), nn.Parameter)


def _followed(node: fx.Node, so_far: Hidden, plain: dict[str, nn.Module], maps: bool) -> Hidden | None:
    """The way of channels from a node on, to all who read them; None where it ends in something else."""
    here = _through(node, so_far, plain, maps)
    if here is None or len(here.readers) > len(so_far.readers):
        return here
    for user in node.users:
        end = _followed(user, here, plain, maps)
        if end is None:
            return None
        here = replace(end, flat=here.flat)
    return here if node.users else None


def _through(node: fx.Node, so_far: Hidden, plain: dict[str, nn.Module], maps: bool) -> Hidden | None:
    """What one step does to channels; None: nobody knows."""
    if len(node.all_input_nodes) != 1:
        return None
    if node.op == "call_module":
        name = str(node.target)
        module = plain.get(name)
        return (_treated(name, module, so_far, maps) or _read(name, module, so_far, maps)) if module else None
    if node.op not in ("call_function", "call_method"):
        return None
    called = CALLS.get(node.target, "") if callable(node.target) else node.target
    if called == "flatten":
        first = (node.args[1:], node.kwargs) in (((1,), {}), ((), {"start_dim": 1}))
        return replace(so_far, flat=True) if first else None
    by_channel = maps and not so_far.flat and called in BY_CHANNEL_CALLS
    return so_far if called in ENTRYWISE_CALLS or by_channel else None


def _treated(name: str, module: nn.Module, so_far: Hidden, maps: bool) -> Hidden | None:
    """What a layer between those who make and read channels does to them."""
    kind = type(module)
    if kind in ENTRYWISE or (kind in BY_CHANNEL and maps and not so_far.flat):
        return so_far
    if isinstance(module, nn.Flatten):
        return replace(so_far, flat=True) if (kind, module.start_dim, module.end_dim) == (nn.Flatten, 1, -1) else None
    if not _numbers_by_channel(module, so_far, maps):
        return None
    size = so_far.channels // module.num_groups if isinstance(module, nn.GroupNorm) else 1
    kept = {so_far.together, size} - {1}
    if len(kept) > 1:
        return None
    return replace(so_far, between=(*so_far.between, name), together=max(kept, default=1))


def _read(name: str, module: Any, so_far: Hidden, maps: bool) -> Hidden | None:
    """Channels that a layer makes others of."""
    kind, channels, each = type(module), so_far.channels, 0
    if not _own(module):
        return None
    if kind in CONVOLUTIONS and maps and not so_far.flat:
        each = int(module.groups == 1 and module.in_channels == channels)
    elif kind is nn.Linear and so_far.flat and module.in_features % channels == 0:
        places = module.in_features // channels
        each = places if maps or places == 1 else 0
    return replace(so_far, readers=(*so_far.readers, (name, each))) if each else None


def _numbers_by_channel(module: nn.Module, so_far: Hidden, maps: bool) -> bool:
    """Whether a layer treats channels by numbers of their own, in the form in which they are at that point."""
    if maps and so_far.flat:  # each channel has several places there
        return False
    if isinstance(module, _BatchNorm):
        return type(module) in BATCH_NORMS and module.num_features == so_far.channels
    if isinstance(module, nn.GroupNorm):
        return type(module) is nn.GroupNorm and module.num_channels == so_far.channels
    if isinstance(module, nn.LayerNorm):
        return type(module) is nn.LayerNorm and not maps and module.normalized_shape == (so_far.channels,)
    return isinstance(module, ChannelMask) and maps and len(module.kept) == so_far.channels


@torch.no_grad()
def reorder(network: nn.Module, hidden: Hidden, order: Tensor) -> None:
    """Puts hidden channels of a network into another order, in place, together with all who treat and read them."""
    for tensor in _tensors(network, hidden):
        tensor.copy_(tensor[order.to(tensor.device)].clone())
    for name, each in hidden.readers:
        weight: Any = network.get_submodule(name).weight
        places = (order[:, None] * each + torch.arange(each)).flatten() if each > 1 else order
        weight.copy_(weight[:, places.to(weight.device)].clone())


def _tensors(network: nn.Module, hidden: Hidden) -> Iterator[Tensor]:
    """Those with an entry for each channel."""
    for name in (hidden.maker, *hidden.between):
        module = network.get_submodule(name)
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None and tensor.dim() and len(tensor) == hidden.channels:
                yield tensor
