"""How inputs lie in memory: in which layout convolutions are fast, and how many at a time."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 2**22
"""Numbers in the inputs of a batch: 1,000 images of CIFAR-10 are below, 27 of 3x224x224 as well."""


def fast(x: Tensor) -> Tensor:
    """Inputs [N, ...] as a network wants them: images with their channels last, anything else as it lies."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()


def at_a_time(x: Tensor, most: int) -> int:
    """How many inputs [N, ...] a network takes at a time where no training depends on it: fewer of large ones."""
    return max(1, min(most, LARGEST // max(1, x[:1].numel())))
