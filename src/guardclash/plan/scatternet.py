"""A network on scattering features, which are not trained."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from guardclash.checks import one_of
from guardclash.errors import UserError
from guardclash.numerics.scattering import Scattering

SCALES = 2
MOST = 12_000
"""Images whose features are kept while a network is trained: 190 MB of 28x28 ones."""


class Remembered(nn.Module):
    """A layer without parameters, whose outputs for training images are kept from epoch to epoch.

    Only in training, and not where gradients go to the images: attacks and evaluation see ever new ones. What is kept
    is the very output.
    """

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        self._kept: dict[bytes, Tensor] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Remembered:
        """Without what is kept."""
        return Remembered(self.inner).train(self.training)

    def train(self, mode: bool = True) -> Remembered:
        """Forgets where training ends."""
        if not mode:
            self._kept.clear()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer does."""
        if not self.training or x.requires_grad or not len(x):
            found: Tensor = self.inner(x)
            return found
        plain = x.detach().cpu().contiguous()
        keys = [hashlib.blake2b(one.numpy().tobytes(), digest_size=16).digest() for one in plain]
        new = [place for place, key in enumerate(keys) if key not in self._kept]
        made: dict[bytes, Tensor] = {}
        if new:
            with torch.no_grad():
                outputs = self.inner(x[new])
            made = {keys[place]: output for place, output in zip(new, outputs, strict=True)}
            room = max(0, MOST - len(self._kept))
            self._kept.update({key: made[key].clone() for key in list(made)[:room]})
        return torch.stack([made[key] if key in made else self._kept[key] for key in keys])


@dataclass(frozen=True)
class ScatterNet:
    """Scattering features of 2 scales and 8 angles, normalised by groups of channels, and a small head.

    As Tramer and Boneh (2021) have it: 39,700 parameters for 28x28 images with the linear head.
    """

    shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    """Of the recipe's network; features are of the pixels as they are."""
    std: tuple[float, ...]
    head: str = "linear"
    """"linear", or "cnn": two convolutions and two linear layers with tanh."""
    groups: int = 27
    """Of channels that are normalised together, without parameters."""

    def __post_init__(self) -> None:
        one_of("", ("linear", "cnn"), head=self.head)
        channels, height, width = self.shape
        if height % 2**SCALES or width % 2**SCALES or min(height, width) < 8:
            allowed = "sides of 8 pixels or more, divisible by 4"
            raise UserError("images have no scattering features", where="ScatterNet", got=self.shape, allowed=allowed)
        if 81 * channels % self.groups:
            allowed = f"divisors of {81 * channels}"
            raise UserError("features do not make so many groups", where="groups", got=self.groups, allowed=allowed)

    def build(self) -> nn.Module:
        """A fresh network, initialised from torch's global generator."""
        channels, height, width = self.shape
        layer = Scattering((height, width), SCALES)
        features, places = layer.channels * channels, (height // 2**SCALES) * (width // 2**SCALES)
        layers: list[nn.Module] = [Remembered(layer), nn.GroupNorm(self.groups, features, affine=False)]
        if self.head == "linear":
            return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features * places, self.classes))
        rows, columns = (-(-side // 2**SCALES // 2) for side in (height, width))
        layers += [
            nn.Conv2d(features, 16, 3, stride=2, padding=1),
            nn.Tanh(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(32 * rows * columns, 32),
            nn.Tanh(),
        ]
        return nn.Sequential(*layers, nn.Linear(32, self.classes))
