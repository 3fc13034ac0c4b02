"""Inversion: what images a network gives away, by its answers to classes and by the gradient of one step.

Class inversion asks a finished network what a class looks like: it looks for an image that the network is sure of
(Fredrikson et al. 2015, without a generator). Gradient inversion asks the gradient of one example for the example
(Geiping et al. 2020). What they find is judged by neighbours among real images, by SSIM and by PSNR.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.checks import one_of, within
from guardclash.numerics.layout import at_a_time, fast
from guardclash.numerics.radioactive import psnr
from guardclash.telling import counted

LOSSES = ("margin", "cross_entropy")
START = (-3.0, 0.5)
"""Mean and standard deviation of what a sigmoid makes the first images of: dark ones."""
DECAYS = (3 / 8, 5 / 8, 7 / 8)
"""Shares of the steps of a gradient inversion after which its rate is a tenth (Geiping et al. 2020)."""
NOBODY = -1
"""The class of an image that no neighbours tell."""
CLOSEST = 1e-10
"""The least mean squared error that is told apart: 100 dB."""


def total_variation(x: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, down and across added up, of each image [N, C, H, W]: [N]."""
    down, across = x.diff(dim=2).abs().flatten(1), x.diff(dim=3).abs().flatten(1)
    # An image of one row or column has no neighbours there.
    return sum((part.mean(1) for part in (down, across) if part.shape[1]), x.new_zeros(len(x)))


def margins(logits: Tensor, classes: Tensor) -> Tensor:
    """How far the logit of a class is above the largest other one, [N].

    Args:
        logits: [N, C], C >= 2.
        classes: int64 [N].
    """
    chosen = classes.view(-1, 1)
    return logits.gather(1, chosen).squeeze(1) - logits.scatter(1, chosen, -math.inf).amax(1)


def median_margin(logits: Tensor) -> float:
    """The median over images of how far the first answer is ahead of the second, from logits [N, C], C >= 2: >= 0.

    It says in which unit a network counts.
    """
    first, second = logits.double().topk(2, 1).values.T
    return (first - second).median().item()


@dataclass(frozen=True)
class ClassInversion:
    """How images of classes are looked for: loss + smoothness TV(x) + darkness mean(x²), by Adam on the logits of x."""

    loss: str = "margin"
    """"margin": the margin of the class, in units of the network's own; "cross_entropy": -ln p of the class."""
    smoothness: float = 5.0
    darkness: float = 1.0
    steps: int = 200
    rate: float = 0.05

    def __post_init__(self) -> None:
        one_of("", LOSSES, loss=self.loss)
        within("", ">= 0, finite", smoothness=self.smoothness, darkness=self.darkness)
        within("", ">= 1", steps=self.steps)
        within("", "> 0, finite", rate=self.rate)

    def __call__(self, network: nn.Module, classes: Tensor, start: Tensor, unit: float) -> Inversions:
        """The images that are found.

        Args:
            network: The network as it is attacked, in evaluation mode.
            classes: The class of each image to find, int64 [N].
            start: The logits of the first images, [N, C, H, W].
            unit: The network's own margin; where it is not a positive number, 1 is taken.

        Returns:
            The images, and where the network gave no way to go.
        """
        unit = unit if math.isfinite(unit) and unit > 0 else 1.0
        # In double: squares of the gradients of a network that counts in large numbers leave float32.
        point = start.double()
        rule = torch.optim.Adam([point], self.rate)
        still, broken = torch.zeros(len(start)), torch.zeros(len(start), dtype=torch.bool)
        for _ in counted(range(self.steps)):
            x = point.sigmoid()
            told, given = self._told(network, fast(x.float()), classes, unit), self._given(x)
            broken |= ~told.isfinite().flatten(1).all(1).cpu()
            told = told.double().nan_to_num(0.0, 0.0, 0.0)
            still += (told == 0).flatten(1).all(1).cpu()
            point.grad = (told + given) * x * (1 - x)
            rule.step()
        x = point.sigmoid().float()
        x[broken] = math.nan
        return Inversions(x, still / self.steps)

    def _told(self, network: nn.Module, x: Tensor, classes: Tensor, unit: float) -> Tensor:
        x.requires_grad_()
        logits = network(x).float()
        if self.loss == "margin":
            losses = -margins(logits, classes) / unit
        else:
            losses = functional.cross_entropy(logits, classes, reduction="none")
        return torch.autograd.grad(losses.sum(), x)[0]

    def _given(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        wanted = self.smoothness * total_variation(x) + self.darkness * x.square().flatten(1).mean(1)
        return torch.autograd.grad(wanted.sum(), x)[0]


class Inversions(NamedTuple):
    """Images that a class inversion found."""

    x: Tensor
    """[N, C, H, W] in [0, 1]; NaN where the network's gradient was not finite."""
    still: Tensor
    """Share of the steps at which the network's gradient was exactly 0, [N]."""


def first_images(shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Logits of dark random images of a shape [N, C, H, W], drawn on the CPU."""
    return START[0] + START[1] * torch.randn(tuple(shape), generator=rng)


def told_by_neighbours(x: Tensor, others: Tensor, labels: Tensor, count: int = 5) -> Tensor:
    """The class of most of the images that are most alike, by the correlation of pixels.

    No network judges, so nothing can be fooled but the eye. Of equal votes those of the more alike images win.

    Args:
        x: Images [N, C, H, W].
        others: Real images [M, C, H, W], M >= 1.
        labels: Their classes, int64 [M].
        count: How many of them vote, at most all.

    Returns:
        Classes, int64 [N]; `NOBODY` of an image without contrast, or which is no image.
    """
    mine, theirs = _standard(x), _standard(others)
    found = []
    for batch in mine.split(at_a_time(others, 1000)):
        alike, nearest = (batch @ theirs.T).topk(min(count, len(others)), 1)
        votes = torch.zeros(len(batch), int(labels.max()) + 1, dtype=alike.dtype)
        votes.scatter_add_(1, labels[nearest], 1 + alike / (100 * count))
        found.append(votes.argmax(1))
    told = torch.cat(found)
    told[~(mine != 0).any(1)] = NOBODY
    return told


def _standard(x: Tensor) -> Tensor:
    """Images as vectors of mean 0 and length 1, [N, pixels]; zeros where there is no contrast, or a NaN."""
    flat = x.flatten(1).double()
    flat = flat - flat.mean(1, keepdim=True)
    lengths = flat.norm(dim=1, keepdim=True)
    # What rounding leaves of a constant image is no contrast.
    return torch.where(lengths > 1e-6, flat / lengths, 0.0)


def psnrs(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images [N, C, H, W] in [0, 1], one by one, at most 100: [N]. NaN of a NaN.

    Example:
        >>> psnrs(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.1))
        tensor([20.0000], dtype=torch.float64)
    """
    most = -10 * math.log10(CLOSEST)
    return torch.tensor([min(psnr(*pair), most) for pair in zip(x, y, strict=True)], dtype=torch.float64)


def cosine_distance(found: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """1 - cosine of two gradients, given by parameter: a scalar in [0, 2], with the gradient of `found`.

    1 where one of them is 0: it points nowhere.
    """
    largest = [max((part.detach().abs().max().item() for part in parts), default=0.0) for parts in (found, target)]
    if not all(0 < scale < math.inf for scale in largest):
        return sum((part.sum() * 0 for part in found), torch.ones(()))
    # The cosine knows no length, and squares of small numbers are lost.
    own, wanted = ([part / scale for part in parts] for parts, scale in zip((found, target), largest, strict=True))
    product = torch.stack([(one * other).sum() for one, other in zip(own, wanted, strict=True)]).sum()
    squares = [torch.stack([part.square().sum() for part in parts]).sum() for parts in (own, wanted)]
    return 1 - product / (squares[0] * squares[1]).sqrt()


@dataclass(frozen=True)
class GradientMatching:
    """How the image behind a gradient is looked for: cosine distance + smoothness TV(x), by Adam on signs."""

    smoothness: float = 0.01
    steps: int = 300
    rate: float = 0.1

    def __post_init__(self) -> None:
        within("", ">= 0, finite", smoothness=self.smoothness)
        within("", ">= 1", steps=self.steps)
        within("", "> 0, finite", rate=self.rate)

    def __call__(
        self, gradient: Callable[[Tensor], Sequence[Tensor]], target: Sequence[Tensor], start: Tensor
    ) -> tuple[Tensor, float]:
        """The image that is found, and the cosine distance that is left.

        Args:
            gradient: The gradients of the parameters for an image, themselves differentiable by the image.
            target: Those that were released.
            start: The first image, [1, C, H, W] in [0, 1].
        """
        point = start.clone()
        rule = torch.optim.Adam([point], self.rate)
        for step in counted(range(self.steps)):
            rule.param_groups[0]["lr"] = self.rate * 0.1 ** sum(step >= share * self.steps for share in DECAYS)
            x = point.detach().clone().requires_grad_()
            loss = cosine_distance(gradient(x), target) + self.smoothness * total_variation(x).sum()
            point.grad = torch.autograd.grad(loss, x)[0].nan_to_num(0.0).sign()
            rule.step()
            point.clamp_(0, 1)
        left = cosine_distance(gradient(point.requires_grad_()), target)
        return point.detach(), left.item()
