"""Changes to a batch before its loss: augmentations, smoothed labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.plan.examples import Data, Moment


def _flips(count: int, device: torch.device, rng: torch.Generator) -> Tensor:
    """1 or -1 per image: the sign of its horizontal axis."""
    return 1 - 2.0 * (torch.rand(count, generator=rng) < 0.5).float().to(device)


def _resample(x: Tensor, scale: Tensor, shift: Tensor, outside: str) -> Tensor:
    """Images seen through windows, bilinear, zeros outside; scales and shifts [B, 2] (x, y) in half images."""
    # affine_grid refuses an empty batch, and Poisson sampling may draw one.
    if not len(x):
        return x
    theta = torch.zeros(len(x), 2, 3, device=x.device)
    theta[:, 0, 0], theta[:, 1, 1] = scale[:, 0], scale[:, 1]
    theta[:, :, 2] = shift
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode=outside, align_corners=False)


@dataclass(frozen=True)
class FlipAndShift:
    """Random horizontal flip, and a random crop of the image padded by zeros: the usual augmentation of CIFAR-10."""

    padding: int = 4
    flips: bool = True
    """False: shifts alone, for images that are not the same in a mirror, such as digits."""

    def __call__(self, network: nn.Module, batch: Data, rng: torch.Generator, now: Moment) -> Data:
        """Each image flipped and shifted by whole pixels, independently."""
        x = batch.x
        scale = torch.ones(len(x), 2, device=x.device)
        if self.flips:
            scale[:, 0] = _flips(len(x), x.device, rng)
        pixels = torch.randint(-self.padding, self.padding + 1, (len(x), 2), generator=rng).to(x.device)
        size = torch.tensor([x.shape[3], x.shape[2]], device=x.device)
        return replace(batch, x=_resample(x, scale, 2 * pixels / size, "zeros"))


@dataclass(frozen=True)
class FlipAndResizedCrop:
    """Random horizontal flip, and a random crop of varying area and aspect, resized back: the published code's.

    A crop takes `smallest` to all of the area at an aspect ratio of 3/4 to 4/3, cut to fit the image.
    """

    smallest: float = 0.08

    def __call__(self, network: nn.Module, batch: Data, rng: torch.Generator, now: Moment) -> Data:
        """Each image flipped and cropped, independently."""
        x = batch.x
        area, ratio, *place = torch.rand(4, len(x), generator=rng).to(x.device)
        area = self.smallest + (1 - self.smallest) * area
        aspect = torch.exp((2 * ratio - 1) * math.log(4 / 3))
        size = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], 1).clamp_(max=1)
        # So that the window stays within the image.
        shift = (2 * torch.stack(place, 1) - 1) * (1 - size)
        flip = torch.stack([_flips(len(x), x.device, rng), torch.ones(len(x), device=x.device)], 1)
        return replace(batch, x=_resample(x, size * flip, shift, "border"))


@dataclass(frozen=True)
class SmoothedLabels:
    """A batch map: labels mixed with the even distribution, (1 - alpha) y + alpha sum(y) / classes.

    It is linear in the label, so several such maps may come in any order.
    """

    alpha: float
    classes: int
    from_share: float = 0.0
    """How much of the training is done before it begins."""
    ramp: bool = True
    """Grow from 0 to half of alpha in the first half of what is then left, and be whole afterwards."""

    def __call__(self, network: nn.Module, batch: Data, rng: torch.Generator, now: Moment) -> Data:
        """The same examples with labels [B, classes], which are no distribution where alpha is below 0."""
        alpha = self.at(now.share)
        return replace(batch, y=smoothed(batch.y, alpha, self.classes)) if alpha else batch

    def at(self, share: float) -> float:
        """Alpha when so much of the training is done."""
        if share < self.from_share:
            return 0.0
        grown = (share - self.from_share) / (1 - self.from_share)
        return self.alpha * grown if self.ramp and grown < 0.5 else self.alpha


def smoothed(y: Tensor, alpha: float, classes: int) -> Tensor:
    """Labels mixed with the even distribution.

    Args:
        y: Class indices, int64 [B], or vectors, float [B, classes].
        alpha: Share of the even distribution; below 0 the label's weight is above 1, and the others' below 0.
        classes: Number of classes.

    Returns:
        Vectors [B, classes], of the same sums as those of the labels.
    """
    vectors = y if y.dim() > 1 else functional.one_hot(y, classes).float()
    return (1 - alpha) * vectors + alpha * vectors.mean(1, keepdim=True)
