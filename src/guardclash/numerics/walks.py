"""How far images are from a network's decision boundary: the embeddings of dataset inference (Maini et al. 2021).

A blind walk needs labels only, descent (MinGD) gradients. Both walk from every image, in each of three norms, until the
label changes; that of images that were trained on changes later, so the claim goes. Images are in pixel space, [0, 1],
and stay there; rows of a table have no bounds, and their categories stay as they are. Networks normalise by themselves
and are in evaluation mode, so that no label depends on a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from guardclash.checks import given, within
from guardclash.errors import UserError
from guardclash.numerics.lengths import SHORT, lengths, tamed
from guardclash.telling import counted

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
    bounded: bool = True
    """Whether inputs stay in [0, 1], as images do; those without bounds walk to x + k b."""
    free: int | None = None
    """How many entries of the last axis, the first ones, are moved; None: all."""

    def __post_init__(self) -> None:
        within("", "> 0, finite", scale=self.scale, linf=self.linf, l2=self.l2, l1=self.l1)
        within("", "whole, >= 1", steps=self.steps, walks=self.walks, **given(free=self.free))

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
            predict_label: From inputs [B, ...] to labels [B]; each of its own input alone.
            x: Floats [N, ...]; images [N, C, H, W] in [0, 1].
            y: True labels [N]. Where the label is wrong at k = 1, as for most misclassified images, the length is 1.
            rng: For the noise, drawn on the CPU image by image. From the same seed, every model gets the same noise for
                the same image, whatever comes after it.
            batch: Images per forward pass.
            chunk: Magnitudes of a walk tried in one pass, at most, when few walks are left: fewer passes for up to
                `chunk - 1` more images per walk.
        """
        _check_inputs(x, batch, self.bounded)
        if y.shape != x.shape[:1] or chunk < 1:
            raise UserError("blind walks need a label per image and a chunk", got=(tuple(y.shape), chunk))
        groups = (
            self._walk(predict_label, images, labels, self._noise(images, rng), batch, chunk)
            for images, labels in counted(tuple(zip(x.split(GROUP), y.split(GROUP), strict=True)))
        )
        lengths, distances, forwards = zip(*groups, strict=True)
        found = torch.cat(lengths)
        return _embedding(torch.cat(distances), found, found > self.steps, sum(forwards))

    def _noise(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """The noise of every walk, [N, walks, 3, ...], each shaped as an input."""
        shape = (self.walks, *x.shape[1:])
        drawn = []
        for _ in range(len(x)):
            uniform = 2 * torch.rand(shape, generator=rng) - 1
            normal = torch.randn(shape, generator=rng)
            one, other = torch.log1p(-torch.rand((2, *shape), generator=rng))
            laplace = one - other  # as a difference of two exponentials is distributed
            drawn.append(torch.stack([self.linf * uniform, self.l2 * normal, self.l1 * laplace], 1))
        noise = (self.scale * torch.stack(drawn)).to(x)
        if self.free is not None:
            noise[..., self.free :] = 0
        return noise

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
                wrong.append(predict_label(start + self._change(start, base[walk], magnitude)) != y[image[walk]])
            length[active] = torch.where(torch.cat(wrong).view(-1, ahead), tried, self.steps + 1).amin(1)
            forwards += len(active) * ahead
            active = active[length[active] > self.steps]
            k += ahead
        change = self._change(x[image], base, length).view_as(noise)
        return length.view(noise.shape[:3]), _distances(change), forwards

    def _change(self, x: Tensor, base: Tensor, magnitude: Tensor) -> Tensor:
        far = magnitude.view(-1, *(1,) * (base.dim() - 1)) * base
        return far.clamp(-x, 1 - x) if self.bounded else far


def _distances(moved: Tensor) -> Tensor:
    """Norms [N, K, 3] of changes [N, K, 3, ...], each in the norm that it was made for."""
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
    bounded: bool = True
    """Whether inputs stay in [0, 1], as images do."""
    free: int | None = None
    """How many entries of the last axis, the first ones, are moved; None: all."""

    def __post_init__(self) -> None:
        within("", "> 0, finite", linf=self.linf, l2=self.l2, l1=self.l1, gap=self.gap)
        within("", "whole, >= 1", steps=self.steps, top=self.top, **given(free=self.free))

    def __call__(self, logits: Callable[[Tensor], Tensor], x: Tensor, classes: int, batch: int = 1000) -> Embedding:
        """Embeds images.

        All descents advance together, those that are over leave; one forward pass both tells the label and gives the
        gradient, which is taken of the images only. `batch` does not change the result.

        Args:
            logits: From inputs [B, ...] to logits [B, classes], with gradients; each of its own input alone. Run
                inside `attacked(network)`, so that parameters take no gradient.
            x: Floats [N, ...]; images [N, C, H, W] in [0, 1].
            classes: Number of classes.
            batch: Images per forward pass.
        """
        _check_inputs(x, batch, self.bounded)
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
        """Changes [N, classes, ...], steps taken [N, classes], and the images evaluated."""
        target = torch.arange(classes, device=x.device).repeat(len(x))
        point = x.repeat_interleave(classes, 0)
        length = torch.zeros_like(target)
        active, forwards = torch.arange(len(target), device=x.device), 0
        for _ in counted(range(self.steps)):
            left = []
            for rows in active.split(batch):
                descent, wrong = _descent(logits, point[rows], target[rows])
                if self.free is not None:
                    descent[..., self.free :] = 0
                rest = rows[wrong]
                moved = point[rest] + self._step(point[rest], descent[wrong], norm)
                point[rest] = moved.clamp(0, 1) if self.bounded else moved
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
            # Of a margin, which does not saturate, a gradient that short is rounding: no way to go.
            descent = tamed(descent, short=False)
            return self.l2 * descent / lengths(descent).clamp(min=SHORT)
        free = descent.flatten(1)
        if self.bounded:
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


def _embedding(distances: Tensor, lengths: Tensor, censored: Tensor, forwards: int) -> Embedding:
    linf, l2, l1 = censored.double().mean((0, 1)).tolist()
    return Embedding(distances, lengths, (linf, l2, l1), forwards)


def _check_inputs(x: Tensor, batch: int, bounded: bool) -> None:
    if x.dim() < 2 or not len(x) or not x.is_floating_point() or batch < 1:
        got, allowed = (x.dtype, tuple(x.shape), batch), "floats [N, ...], N >= 1, and a batch size >= 1"
        raise UserError("inputs are needed, and a batch to put them in", got=got, allowed=allowed)
    if not bounded:
        return
    low, high = x.amin().item(), x.amax().item()
    if not 0 <= low <= high <= 1:  # clipping to the box would move the image itself
        raise UserError("pixels out of range", got=(low, high), allowed="[0, 1]")
