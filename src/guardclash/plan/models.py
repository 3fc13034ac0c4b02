"""Architectures as values. Normalisation is each network's first layer, so that inputs are in [0, 1] everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.checks import one_of
from guardclash.errors import UserError

Norm = Literal["batch", "group", "none"]
Shape = tuple[int, int, int]


class Normalize(nn.Module):
    """(x - mean) / std per channel, with fixed buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        # Not among the stored weights: they follow from the plan.
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises images [B, C, H, W] in [0, 1]."""
        return (x - self.mean) / self.std


def group_norm(channels: int, each: int = 1) -> nn.GroupNorm:
    """The group norm that takes batch norm's place: min(32, channels) groups, as Opacus replaces it.

    Where 32 does not divide the channels, the largest number of groups below it that does.
    """
    groups = next(groups for groups in range(min(32, max(1, channels // each)), 0, -1) if channels % groups == 0)
    return nn.GroupNorm(groups, channels)


def norm_layer(norm: Norm, channels: int, flat: bool = False) -> nn.Module:
    """The normalisation layer for `channels` feature maps, or features if `flat`."""
    one_of("", get_args(Norm), norm=norm)
    if norm == "batch":
        return nn.BatchNorm1d(channels) if flat else nn.BatchNorm2d(channels)
    return group_norm(channels, 4 if flat else 1) if norm == "group" else nn.Identity()


@dataclass(frozen=True)
class CNN:
    """5x5 convolutions, each followed by max pooling by 2, ReLU, normalisation and dropout; then two linear layers.

    With its defaults and inputs of 1x28x28 this is the paper's "4-layer CNN" (1,664,586 parameters; Table 1).
    """

    shape: Shape
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    widths: tuple[int, ...] = (32, 64)
    hidden: int = 512
    kernel: int = 5
    dropout: float = 0.5
    norm: Norm = "batch"

    def build(self) -> nn.Module:
        """A fresh network, initialised from torch's global generator."""
        channels, height, width = self.shape
        layers: list[nn.Module] = [Normalize(self.mean, self.std)]
        for out in self.widths:
            convolution = nn.Conv2d(channels, out, self.kernel, padding=self.kernel // 2)
            layers += [convolution, nn.MaxPool2d(2), nn.ReLU(), norm_layer(self.norm, out), *self._dropout()]
            channels, height, width = out, height // 2, width // 2
        if height * width == 0:
            raise UserError("the images are too small for this many poolings", where="CNN.widths", got=self.shape)
        hidden = nn.Linear(channels * height * width, self.hidden)
        layers += [
            nn.Flatten(),
            hidden,
            norm_layer(self.norm, self.hidden, flat=True),
            nn.ReLU(),
            *self._dropout(),
        ]
        return nn.Sequential(*layers, nn.Linear(self.hidden, self.classes))

    def _dropout(self) -> list[nn.Module]:
        return [nn.Dropout(self.dropout)] if self.dropout else []


@dataclass(frozen=True)
class ResNet:
    """ResNet for 32x32 images with parameter-free shortcuts (He et al. 2016, section 4.2, option A).

    `blocks=3` is ResNet20 (269,722 parameters with batch norm), the paper's CIFAR-10 architecture.
    """

    shape: Shape
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    blocks: int = 3
    width: int = 16
    norm: Norm = "batch"

    def build(self) -> nn.Module:
        """A fresh network, initialised from torch's global generator."""
        channels, width = self.shape[0], self.width
        stem = [nn.Conv2d(channels, width, 3, padding=1, bias=False), norm_layer(self.norm, width), nn.ReLU()]
        layers: list[nn.Module] = [Normalize(self.mean, self.std), *stem]
        previous = width
        for stage in range(3):
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(_Block(previous, width << stage, stride, self.norm))
                previous = width << stage
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(previous, self.classes))
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        return network


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut that drops every second pixel and pads the channels with zeros."""

    def __init__(self, channels: int, out: int, stride: int, norm: Norm):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm_layer(norm, out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = norm_layer(norm, out)
        self.stride, self.extra = stride, out - channels

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps [B, C, H, W] to [B, out, H / stride, W / stride]."""
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return functional.relu(y + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if not self.extra:
            return x
        before = self.extra // 2
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.extra - before))
