"""The layout in memory in which convolutions are fast."""

from __future__ import annotations

import torch
from torch import Tensor


def fast(x: Tensor) -> Tensor:
    """Inputs [N, ...] as a network wants them: images with their channels last, anything else as it lies."""
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()
