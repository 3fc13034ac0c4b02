"""How inputs lie in memory: in which layout convolutions are fast, and how many at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LARGEST = 2**22
"""Numbers in the inputs of a batch: 1,000 images of CIFAR-10 are below, 27 of 3x224x224 as well."""


def fast(x: Tensor) -> Tensor:
    """Inputs [N, ...] as a network wants them: images with their channels last, anything else as it lies."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()


def channels_last(network: nn.Module, device: torch.device | str | None = None) -> nn.Module:
    """The network, changed in place, on a device and in the layout in which its convolutions are fast.

    Convolutions of single pixels that leave pixels out, of fewer than 16 channels, stay in the other layout: with
    channels last oneDNN's gradient of their weights writes past its memory on processors with AVX2 (oneDNN issue 6035),
    which ends the process or gives wrong gradients.
    """
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _overwrites(module):
            module.weight.data = _first(module.weight.data)
            if channels_first not in module._forward_pre_hooks.values():
                module.register_forward_pre_hook(channels_first)
    return network


def _overwrites(module: nn.Conv2d) -> bool:
    return module.kernel_size == (1, 1) and module.stride != (1, 1) and module.in_channels // module.groups < 16


def channels_first(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A forward pre-hook: the module's first input with its channels first in memory."""
    return (_first(inputs[0]), *inputs[1:])


def _first(x: Tensor) -> Tensor:
    # Of one channel or one pixel both layouts are "contiguous", but torch goes by the strides.
    return x.clone(memory_format=torch.contiguous_format)


def at_a_time(x: Tensor, most: int) -> int:
    """How many inputs [N, ...] a network takes at a time where no training depends on it: fewer of large ones."""
    return max(1, min(most, LARGEST // max(1, x[:1].numel())))
