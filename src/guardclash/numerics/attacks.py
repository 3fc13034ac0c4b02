"""Adversarial examples by projected gradient descent (Madry et al. 2018), for training and for measuring.

All in pixel space: images in [0, 1]. A scale per channel lets radius and step be given in another unit, such as the
normalised space in which the published code works: with `scale = std`, the same numbers give the same attack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from guardclash.errors import UserError
from guardclash.numerics.batchnorm import frozen_statistics

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class PGD:
    """Projected gradient ascent on the loss inside a ball around each image."""

    radius: float
    """Of the ball, gamma in the paper, in units of `scale`; 0 leaves the images as they are."""
    step: float
    """Length of a step, alpha, in the same units."""
    steps: int = 25
    norm: str = "linf"
    """"linf" or "l2"."""
    random_start: bool = True
    clamp: bool = True
    """Keep x + delta in [0, 1] after every step."""
    scale: tuple[float, ...] = (1.0,)
    """Pixels per unit, for all channels or for each; (1,) means that units are pixels."""

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise UserError("unknown norm", where="norm", got=self.norm, allowed="linf, l2")
        if not (math.isfinite(self.radius) and self.radius >= 0):
            raise UserError("a radius cannot be negative", where="radius", got=self.radius, allowed=">= 0")
        if not (math.isfinite(self.step) and self.step > 0):
            raise UserError("a step must be positive", where="step", got=self.step, allowed="> 0")
        if self.steps < 1:
            raise UserError("an attack needs a step", where="steps", got=self.steps, allowed=">= 1")

    @property
    def reach(self) -> float:
        """Steps' total length over the ball's diameter: below 1, a random start may not reach the far side."""
        return self.steps * self.step / (2 * self.radius) if self.radius else math.inf

    def __call__(self, losses: Callable[[Tensor], Tensor], x: Tensor, rng: torch.Generator) -> Tensor:
        """Adversarial images.

        Args:
            losses: Loss per image, [B], of images shaped as x; each must depend on its own image only for the attack to
                be one of single images (batch norm in training mode mixes them, as in the published code).
            x: Images [B, C, H, W] in [0, 1].
            rng: For the random start; drawn on the CPU.

        Returns:
            x + delta, of x's shape, with |delta| <= radius in every image.
        """
        if not len(x) or not self.radius:
            return x
        scale = self._pixels(x)
        delta = self._within(x, self._start(x, rng), scale)
        for _ in range(self.steps):
            point = (x + delta * scale).requires_grad_()
            (gradient,) = torch.autograd.grad(losses(point).sum(), point)
            delta = self._within(x, delta + self.step * self._direction(gradient * scale), scale)
        return (x + delta * scale).detach()

    def start(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Random points of the balls around images, or the images themselves without a random start."""
        scale = self._pixels(x)
        return x + self._within(x, self._start(x, rng), scale) * scale

    def _pixels(self, x: Tensor) -> Tensor:
        return torch.tensor(self.scale, dtype=x.dtype, device=x.device).view(1, -1, 1, 1)

    def _start(self, x: Tensor, rng: torch.Generator) -> Tensor:
        if not self.random_start:
            return torch.zeros_like(x)
        if self.norm == "linf":
            start = (2 * torch.rand(x.shape, generator=rng, dtype=x.dtype) - 1) * self.radius
        else:  # uniform in the ball: a direction, and the d-th root of a uniform share of the radius
            start = torch.randn(x.shape, generator=rng, dtype=x.dtype)
            share = torch.rand(len(x), generator=rng, dtype=x.dtype) ** (1 / x[0].numel())
            start *= (self.radius * share / _lengths(start).view(-1)).view(-1, 1, 1, 1)
        return start.to(x.device).contiguous(memory_format=torch.channels_last)

    def _direction(self, gradient: Tensor) -> Tensor:
        if self.norm == "linf":
            return gradient.sign()
        return gradient / _lengths(gradient).clamp(min=1e-12)

    def _within(self, x: Tensor, delta: Tensor, scale: Tensor) -> Tensor:
        if self.norm == "linf":
            delta = delta.clamp(-self.radius, self.radius)
        else:
            delta = delta * (self.radius / _lengths(delta).clamp(min=1e-12)).clamp(max=1)
        return ((x + delta * scale).clamp(0, 1) - x) / scale if self.clamp else delta


def _lengths(delta: Tensor) -> Tensor:
    """l2 norm of each image, [B, 1, 1, 1]."""
    return delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


@contextmanager
def attacked(
    network: nn.Module, training: bool = False, update_statistics: bool = False, precision: str = "float32"
) -> Iterator[None]:
    """The network as an attack sees it, restored afterwards.

    Parameters take no gradient, so that a backward pass goes to the images only.

    Args:
        network: The network.
        training: Attack it in training mode (dropout on, batch norm by batch statistics), as the published code does.
        update_statistics: Let the attack's batches move batch norm's running statistics; only in training mode.
        precision: "float32", "bfloat16", or "auto": bfloat16 where the processor computes in it.
    """
    before = network.training
    moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
    device = next(network.parameters()).device.type
    with ExitStack() as stack:
        if use_bfloat16(precision, device):
            stack.enter_context(torch.autocast(device, torch.bfloat16))
            for module in network.modules():
                if isinstance(module, nn.GroupNorm):  # 20 times slower in bfloat16 when channels come last
                    stack.callback(module.register_forward_pre_hook(_channels_first).remove)
        stack.callback(network.train, before)
        for parameter in moving:
            stack.callback(parameter.requires_grad_, True)
            parameter.requires_grad_(False)
        network.train(training)
        stack.enter_context(frozen_statistics(network, not update_statistics))
        yield


def _channels_first(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0].contiguous(), *inputs[1:])


def use_bfloat16(precision: str, device: str = "cpu") -> bool:
    """Whether an attack computes in bfloat16: where it is asked for and the device has arithmetic for it."""
    if precision not in PRECISIONS:
        raise UserError("unknown precision", where="precision", got=precision, allowed=", ".join(PRECISIONS))
    return precision != "float32" and has_bfloat16(device)


def has_bfloat16(device: str = "cpu") -> bool:
    """Whether the device computes in bfloat16 natively; an emulation would be slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
