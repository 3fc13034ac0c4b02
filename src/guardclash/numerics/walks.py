"""How far images are from a network's decision boundary: the embeddings of dataset inference (Maini et al. 2021).

A blind walk needs labels only, descent (MinGD) gradients. Both walk from every image, in each of three norms, until the
label changes; that of images that were trained on changes later, so the claim goes. All in pixel space: images in
[0, 1], networks that normalise by themselves and are in evaluation mode, so that no label depends on a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from guardclash.checks import within
from guardclash.errors import UserError

NORMS = ("linf", "l2", "l1")
"""The order of the last axis of every embedding."""
GROUP = 200
"""Images whose walks are in memory at once."""


class Embedding(NamedTuple):
    """Distances to the decision boundary.

    Fields:
        distances: [N, K, 3], in the norms linf, l2 and l1; K walks, or K classes.
        lengths: [N, K, 3], steps until the label changed; those of classes in the order of the classes.
        censored: Share of the walks in each norm that ended without a change of label. Their distances say how far
            they were allowed to go, nothing about the network.
        forwards: Images put through the network.
    """

    distances: Tensor
    lengths: Tensor
    censored: tuple[float, float, float]
    forwards: int


@dataclass(frozen=True)
class BlindWalk:
    """Walks from an image along straight random directions until the label is wrong.

    A walk evaluates clamp(x + k b, 0, 1) for k = 1, 2, ... with one noise image b. Its distance is the norm of
    clip(k b, -x, 1 - x) at the first k with a wrong label; a walk whose label is still right at k = `steps` is censored
    and has the distance of k = `steps` + 1, as published.
    """

    scale: float = 1.0
    """Of all noise below. The published values suit colour images; on grey ones nearly all walks would be censored."""
    steps: int = 50
    walks: int = 10
    """From each image in each norm."""
    linf: float = 0.005
    """Uniform noise within plus and minus this."""
    l2: float = 0.005
    """Standard deviation of normal noise."""
    l1: float = 0.01
    """Scale of Laplace noise."""

    def __post_init__(self) -> None:
        within("", "> 0, finite", scale=self.scale, linf=self.linf, l2=self.l2, l1=self.l1)
        within("", "whole, >= 1", steps=self.steps, walks=self.walks)

    @torch.no_grad()
    def __call__(
        self,
        predict_label: Callable[[Tensor], Tensor],
        x: Tensor,
        y: Tensor,
        rng: torch.Generator,
        batch: int = 1000,
        chunk: int = 5,
    ) -> Embedding:
        """Embeds images.

        All walks advance together, those that are over leave; the result is that of one walk after the other.

        Args:
            predict_label: From images [B, C, H, W] to labels [B]; each of its own image alone.
            x: Images [N, C, H, W] in [0, 1].
            y: True labels [N]. Where the label is wrong at k = 1, as for most misclassified images, the length is 1.
            rng: For the noise, drawn on the CPU image by image. From the same seed, every model gets the same noise for
                the same image, whatever comes after it.
            batch: Images per forward pass.
            chunk: Magnitudes of a walk tried in one pass, at most, when few walks are left: fewer passes for up to
                `chunk - 1` more images per walk.
        """
        _check_images(x, batch)
        if y.shape != x.shape[:1] or chunk < 1:
            raise UserError("blind walks need a label per image and a chunk", got=(tuple(y.shape), chunk))
        groups = (
            self._walk(predict_label, images, labels, self._noise(images, rng), batch, chunk)
            for images, labels in zip(x.split(GROUP), y.split(GROUP), strict=True)
        )
        lengths, distances, forwards = zip(*groups, strict=True)
        found = torch.cat(lengths)
        return _embedding(torch.cat(distances), found, found > self.steps, sum(forwards))

    def _noise(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """The noise image of every walk, [N, walks, 3, C, H, W]."""
        shape = (self.walks, *x.shape[1:])
        drawn = []
        for _ in range(len(x)):
            uniform = 2 * torch.rand(shape, generator=rng) - 1
            normal = torch.randn(shape, generator=rng)
            one, other = torch.log1p(-torch.rand((2, *shape), generator=rng))
            laplace = one - other  # as a difference of two exponentials is distributed
            drawn.append(torch.stack([self.linf * uniform, self.l2 * normal, self.l1 * laplace], 1))
        return (self.scale * torch.stack(drawn)).to(x)

    def _walk(
        self, predict_label: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, noise: Tensor, batch: int, chunk: int
    ) -> tuple[Tensor, Tensor, int]:
        """Lengths and distances [N, walks, 3], and the images evaluated."""
        base = noise.flatten(0, 2)
        image = torch.arange(len(x), device=x.device).repeat_interleave(3 * self.walks)
        length = torch.full((len(base),), self.steps + 1, device=x.device)
        active, k, forwards = torch.arange(len(base), device=x.device), 1, 0
        while len(active) and k <= self.steps:
            ahead = min(chunk, max(1, batch // len(active)), self.steps + 1 - k)
            tried = torch.arange(k, k + ahead, device=x.device)
            walks, magnitudes = active.repeat_interleave(ahead), tried.repeat(len(active))
            wrong = []
            for walk, magnitude in zip(walks.split(batch), magnitudes.split(batch), strict=True):
                start = x[image[walk]]
                wrong.append(predict_label(start + _clipped(start, base[walk], magnitude)) != y[image[walk]])
            length[active] = torch.where(torch.cat(wrong).view(-1, ahead), tried, self.steps + 1).amin(1)
            forwards += len(active) * ahead
            active = active[length[active] > self.steps]
            k += ahead
        change = _clipped(x[image], base, length).view_as(noise)
        return length.view(noise.shape[:3]), _distances(change), forwards


def _clipped(x: Tensor, base: Tensor, magnitude: Tensor) -> Tensor:
    return (magnitude.view(-1, 1, 1, 1) * base).clamp(-x, 1 - x)


def _distances(moved: Tensor) -> Tensor:
    """Norms [N, K, 3] of changes [N, K, 3, C, H, W], each in the norm that it was made for."""
    flat = moved.flatten(3)
    return torch.stack([flat[:, :, 0].abs().amax(2), flat[:, :, 1].norm(dim=2), flat[:, :, 2].abs().sum(2)], 2)


@dataclass(frozen=True)
class MinGD:
    """Descends from an image to each class, until it is predicted, along the gradient of the margin to it.

    The margin is the greatest logit minus that of the class; x + delta is clipped to [0, 1] after every step. A class
    that is predicted from the start has the distance 0.
    """

    steps: int = 500
    """At most; a class not reached by then is censored."""
    linf: float = 0.001
    """Step of all pixels, by the sign of the gradient."""
    l2: float = 0.01
    """Length of a step along the gradient."""
    l1: float = 0.01
    """Step of the `top` pixels with the greatest gradients, by their signs."""
    top: int = 100
    gap: float = 0.001
    """In l1, a pixel does not count among the `top` when it is at 0 or 1, or within this of where it would leave."""
    sort: bool = True
    """Each norm's distances in ascending order, as published, not in the order of the classes."""

    def __post_init__(self) -> None:
        within("", "> 0, finite", linf=self.linf, l2=self.l2, l1=self.l1, gap=self.gap)
        within("", "whole, >= 1", steps=self.steps, top=self.top)

    def __call__(self, logits: Callable[[Tensor], Tensor], x: Tensor, classes: int, batch: int = 1000) -> Embedding:
        """Embeds images.

        All descents advance together, those that are over leave; one forward pass both tells the label and gives the
        gradient, which is taken of the images only. `batch` does not change the result.

        Args:
            logits: From images [B, C, H, W] to logits [B, classes], with gradients; each of its own image alone. Run
                inside `attacked(network)`, so that parameters take no gradient.
            x: Images [N, C, H, W] in [0, 1].
            classes: Number of classes.
            batch: Images per forward pass.
        """
        _check_images(x, batch)
        if classes < 2:
            raise UserError("a margin is between classes", got=classes, allowed=">= 2")
        runs = (self._descend(logits, x, classes, norm, batch) for norm in NORMS)
        changes, lengths, forwards = zip(*runs, strict=True)
        distances, taken = _distances(torch.stack(changes, 2)), torch.stack(lengths, 2)
        if self.sort:
            distances = distances.sort(1).values
        return _embedding(distances, taken, taken >= self.steps, sum(forwards))

    def _descend(
        self, logits: Callable[[Tensor], Tensor], x: Tensor, classes: int, norm: str, batch: int
    ) -> tuple[Tensor, Tensor, int]:
        """Changes [N, classes, C, H, W], steps taken [N, classes], and the images evaluated."""
        target = torch.arange(classes, device=x.device).repeat(len(x))
        point = x.repeat_interleave(classes, 0)
        length = torch.zeros_like(target)
        active, forwards = torch.arange(len(target), device=x.device), 0
        for _ in range(self.steps):
            left = []
            for rows in active.split(batch):
                descent, wrong = _descent(logits, point[rows], target[rows])
                rest = rows[wrong]
                point[rest] = (point[rest] + self._step(point[rest], descent[wrong], norm)).clamp(0, 1)
                left.append(rest)
            forwards += len(active)
            active = torch.cat(left)
            length[active] += 1
            if not len(active):
                break
        shape = (len(x), classes)
        return (point - x.repeat_interleave(classes, 0)).unflatten(0, shape), length.view(shape), forwards

    def _step(self, point: Tensor, descent: Tensor, norm: str) -> Tensor:
        if norm == "linf":
            return self.linf * descent.sign()
        if norm == "l2":
            return self.l2 * descent / descent.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
        leaving = ((descent < 0) & (point <= self.gap)) | ((descent > 0) & (point >= 1 - self.gap))
        free = descent.masked_fill(leaving | (point <= 0) | (point >= 1), 0).flatten(1)
        top = free.abs().topk(min(self.top, free.shape[1])).indices
        return self.l1 * torch.zeros_like(free).scatter(1, top, free.gather(1, top).sign()).view_as(point)


def _descent(logits: Callable[[Tensor], Tensor], point: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The direction in which the margin falls, shaped as the images, and whether another class is predicted."""
    with torch.enable_grad():
        point = point.detach().requires_grad_()
        found = logits(point)
        margin = found.amax(1) - found.gather(1, target.view(-1, 1)).squeeze(1)
        (gradient,) = torch.autograd.grad(margin.sum(), point)
    return -gradient, found.argmax(1) != target


class Calibration(NamedTuple):
    """A blind walk whose noise suits a network.

    Fields:
        walk: With the chosen scale.
        censored: Share of its censored walks in each norm.
        enough: Whether all are below the limit; if not, the last scale of the ladder was taken.
    """

    walk: BlindWalk
    censored: tuple[float, float, float]
    enough: bool


def calibrated(
    walk: BlindWalk,
    predict_label: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    rng: torch.Generator,
    ladder: Iterable[float] = (1, 2, 4, 8, 16),
    limit: float = 0.2,
) -> Calibration:
    """The smallest scale of a ladder with which fewer than `limit` of the walks are censored in every norm.

    Choose it on an unprotected network and images that take no part in the test, and keep it for all networks compared.
    All scales see the same noise; the other arguments are those of the walk.
    """
    scales = sorted(ladder)
    if not scales:
        raise UserError("a ladder of noise scales needs a rung", where="ladder", got=(), allowed="numbers above 0")
    start = rng.get_state()
    for scale in scales:
        rng.set_state(start)
        tried = replace(walk, scale=scale)
        censored = tried(predict_label, x, y, rng).censored
        if max(censored) < limit:
            break
    return Calibration(tried, censored, max(censored) < limit)


def _embedding(distances: Tensor, lengths: Tensor, censored: Tensor, forwards: int) -> Embedding:
    linf, l2, l1 = censored.double().mean((0, 1)).tolist()
    return Embedding(distances, lengths, (linf, l2, l1), forwards)


def _check_images(x: Tensor, batch: int) -> None:
    if x.dim() != 4 or not len(x) or not x.is_floating_point() or batch < 1:
        got, allowed = (x.dtype, tuple(x.shape), batch), "floats [N, C, H, W], N >= 1, and a batch size >= 1"
        raise UserError("images are needed, and a batch to put them in", got=got, allowed=allowed)
    low, high = x.amin().item(), x.amax().item()
    if not 0 <= low <= high <= 1:  # clipping to the box would move the image itself
        raise UserError("pixels out of range", got=(low, high), allowed="[0, 1]")
