"""Radioactive data: marking images, and the tests that find the marks in a model (Sablayrolles et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import special
from torch import Tensor

from guardclash.checks import given, one_of, within
from guardclash.errors import UserError

LN10 = math.log(10)
ROUND_EVERY = 10
"""Iterations between roundings to whole pixel values: marks that live in fractions of one would be lost."""


@dataclass(frozen=True)
class Marking:
    """How images are moved towards their class's carrier.

    Each image x of class c, with carrier u_c and features phi, becomes the x~ that minimises

        -(phi(x~) - phi(x)) u_c + feature_penalty ||phi(x~) - phi(x)|| + image_penalty ||(x~ - x) / std||^2

    within |x~ - x| <= radius; pixel values that were whole (`whole`) are so at the end. Images do not interact, so all
    of a batch are marked at once.
    """

    radius: int
    """Largest change of a pixel, in 1/255."""
    iterations: int = 100
    optimizer: str = "adam"
    """"adam", or "sgd" without momentum, as in the published recipe."""
    step: float | None = None
    """Learning rate; None: for Adam a quarter of the radius, in pixels of [0, 1]; for SGD the published 1.0, in units
    of the standard deviation that the network divides by."""
    image_penalty: float = 5e-4
    feature_penalty: float = 0.01
    augmentation: str = "none"
    """Of the images at each iteration, so that marks survive it: "none", or "shift" by up to 2 pixels."""
    whole: bool = True
    """Whether pixel values are whole multiples of 1/255, and must be so again."""

    def __post_init__(self) -> None:
        one_of("marking", ("adam", "sgd"), optimizer=self.optimizer)
        one_of("marking", ("none", "shift"), augmentation=self.augmentation)
        within("marking", ">= 1, <= 255", radius=self.radius)  # in 1/255 of the pixel range
        within("marking", ">= 1", iterations=self.iterations)
        within("marking", "> 0, finite", **given(step=self.step))
        within("marking", ">= 0, finite", image_penalty=self.image_penalty, feature_penalty=self.feature_penalty)

    @property
    def learning_rate(self) -> float:
        """The optimizer's, `step` or its default."""
        if self.step is not None:
            return self.step
        return self.radius / 255 / 4 if self.optimizer == "adam" else 1.0

    def __call__(
        self,
        features: Callable[[Tensor], Tensor],
        x: Tensor,
        carrier: Tensor,
        std: Tensor,
        rng: torch.Generator,
    ) -> Tensor:
        """Marks a batch.

        Args:
            features: phi, from images [B, C, H, W] to [B, d]; each row a function of its own image alone.
            x: Clean images, float32 in [0, 1], in steps of 1/255 if these are `whole`.
            carrier: u, one unit vector per image, [B, d].
            std: What the network divides each channel by, [C]: the unit of the image penalty.
            rng: For the augmentation.

        Returns:
            Marked images [B, C, H, W], likewise.
        """
        unit = std.to(x).view(1, -1, 1, 1)
        with torch.no_grad():
            anchor = features(x).float()
        marked = x.clone().requires_grad_()
        rule = torch.optim.Adam if self.optimizer == "adam" else torch.optim.SGD
        state = rule([marked], lr=self.learning_rate)
        for iteration in range(self.iterations):
            moved = features(self._augmented(marked, rng)).float() - anchor
            loss = (
                -(moved * carrier).sum()
                + self.feature_penalty * torch.linalg.vector_norm(moved, dim=1).sum()
                + self.image_penalty * ((marked - x) / unit).square().sum()
            )
            (marked.grad,) = torch.autograd.grad(loss, [marked])
            if self.optimizer == "sgd":
                marked.grad *= unit.square()  # a step in x / std, as published
            state.step()
            self._project(marked, x, round_off=iteration % ROUND_EVERY == 0)
        self._project(marked, x, round_off=True)
        return marked.detach()

    @torch.no_grad()
    def _project(self, marked: Tensor, x: Tensor, round_off: bool) -> None:
        radius = self.radius / 255
        marked.clamp_(x - radius, x + radius).clamp_(0, 1)
        if round_off and self.whole:
            marked.mul_(255).round_().div_(255)

    def _augmented(self, x: Tensor, rng: torch.Generator) -> Tensor:
        if self.augmentation == "none":
            return x
        down, right = torch.randint(-2, 3, (2,), generator=rng).tolist()
        return torch.roll(x, (down, right), (2, 3))  # borders of these images are empty or alike


def carriers(classes: int, features: int, rng: torch.Generator) -> Tensor:
    """One random direction per class: unit rows [classes, features], uniform on the sphere. The owner's secret."""
    drawn = torch.randn(classes, features, generator=rng)
    return drawn / torch.linalg.vector_norm(drawn, dim=1, keepdim=True)


def stratified(y: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Indices of `count` examples, ascending, each class in proportion to its share of the labels y [N]."""
    labels, sizes = y.unique(return_counts=True)
    quota = sizes.double() * count / len(y)
    taken = quota.floor().long()
    rest = count - int(taken.sum())
    taken[(quota - taken).argsort(descending=True, stable=True)[:rest]] += 1
    chosen = []
    for label, number in zip(labels, taken, strict=True):
        members = (y == label).nonzero().flatten()
        chosen.append(members[torch.randperm(len(members), generator=rng)[: int(number)]])
    return torch.cat(chosen).sort().values


def psnr(x: Tensor, marked: Tensor) -> float:
    """Peak signal-to-noise ratio in dB between images in [0, 1], from their overall mean squared difference."""
    error = (x - marked).double().square().mean().item()
    return -10 * math.log10(error) if error else math.inf


def log10_paired_p(differences: Tensor) -> float:
    """log10 of the one-sided p-value of Student's paired t test that the mean difference is above 0.

    Args:
        differences: One per image, [N], N >= 2.

    Returns:
        0 or below; -inf where the p-value is 0 (all differences equal and positive).
    """
    values = differences.double()
    mean, error = values.mean().item(), values.std().item() / math.sqrt(len(values))
    if error == 0:
        return -math.inf if mean > 0 else 0.0
    from scipy import stats  # half a second, which commands that only look need not take

    return float(stats.t.logsf(mean / error, len(values) - 1)) / LN10


def log_cosine_p(cosine: ArrayLike, dimension: int) -> NDArray[np.float64]:
    """Ln P(cos >= c) between a fixed direction and a uniform random one: (1/2) I_{1-c^2}((d-1)/2, 1/2) for c >= 0.

    Args:
        cosine: c, clipped to [-1, 1] (rounding can exceed it).
        dimension: d, at least 2.

    Returns:
        Natural logarithms, of the shape of `cosine`; also where the p-value itself would underflow.

    Raises:
        UserError: If d < 2.

    Example:
        >>> float(log_cosine_p(0.0, 64).round(6)) == round(math.log(0.5), 6)
        True
    """
    if dimension < 2:
        raise UserError("a direction needs two dimensions", where="dimension", got=dimension, allowed=">= 2")
    c = np.clip(np.array(cosine, dtype=np.float64, ndmin=1), -1, 1)
    a, b, x = (dimension - 1) / 2, 0.5, 1 - c**2
    tail = special.betainc(a, b, x) / 2
    upper = np.log(np.maximum(tail, 1e-300))
    vanishing = tail < 1e-280
    with np.errstate(divide="ignore"):  # of c = 1, whose p-value is 0
        upper[vanishing] = _log_betainc(a, b, x[vanishing]) - math.log(2)
    return np.where(c >= 0, upper, np.log1p(-tail)).reshape(np.shape(cosine))


def _log_betainc(a: float, b: float, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ln I_x(a, b) by its series x^a (1-x)^b / (a B(a, b)) 2F1(a + b, 1; a + 1; x), for where I underflows (x < 1)."""
    series = special.hyp2f1(a + b, 1, a + 1, x)
    return a * np.log(x) + b * np.log1p(-x) - math.log(a) - special.betaln(a, b) + np.log(series)


def log_fisher(log_p: ArrayLike) -> float:
    """Ln of Fisher's combined p-value of k independent ones, from their natural logarithms [k].

    p = P sum_{i<k} L^i / i! with P the product and L = -ln P, added up in logarithms.

    Raises:
        UserError: If there is none.
    """
    logs = np.asarray(log_p, dtype=np.float64).ravel()
    if not len(logs):
        raise UserError("Fisher's method combines at least one p-value", got=0, allowed=">= 1")
    total = -float(logs.sum())
    if total <= 0 or math.isinf(total):
        return min(0.0, -total)
    i = np.arange(len(logs))
    return min(0.0, -total + float(special.logsumexp(i * math.log(total) - special.gammaln(i + 1))))


def carrier_cosines(
    marking_features: Tensor, suspect_features: Tensor, suspect_weight: Tensor, directions: Tensor
) -> NDArray[np.float64]:
    """How far each class's weights in a suspect point along its carrier.

    The suspect's features Q are aligned with the marking network's P by least squares, A = argmin ||P A - Q||; W A^T
    are then its class weights seen in the space of the carriers.

    Args:
        marking_features: P [N, d], of N images that no one trained on.
        suspect_features: Q [N, d'], of the same images.
        suspect_weight: W [classes, d'].
        directions: Carriers [classes, d], unit rows.

    Returns:
        Cosines [classes], in [-1, 1]; 0 for a class whose weights vanish.
    """
    p, q, w, u = (
        value.detach().cpu().double().numpy()
        for value in (marking_features, suspect_features, suspect_weight, directions)
    )
    alignment, *_ = np.linalg.lstsq(p, q, rcond=np.finfo(np.float64).eps * max(p.shape))
    seen = w @ alignment.T
    length = np.linalg.norm(seen, axis=1)
    return np.clip((seen * u).sum(1) / np.where(length > 0, length, 1), -1, 1)
