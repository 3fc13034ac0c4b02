"""Attacks of a single step, for training: far cheaper than projected gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from guardclash.checks import given, within
from guardclash.numerics.layout import fast


@dataclass(frozen=True)
class NoisyStep:
    """Noise, then a step along the sign of the gradient there (de Jorge et al. 2022): nothing is projected back.

    Inputs so leave the ball that the network is to withstand, by up to `noise` times its radius, which is what keeps
    single steps from training a network that is robust against single steps alone.
    """

    radius: float
    """Of the ball, in units of `scale`."""
    noise: float = 2.0
    """Half the width of the uniform noise, in radii."""
    step: float = 1.0
    """Length of the step, in radii."""
    clamp: bool = True
    """Keep what comes out in [0, 1]."""
    scale: tuple[float, ...] = (1.0,)
    """Pixels per unit, for all channels or for each; (1,) means that units are pixels."""
    free: int | None = None
    """How many entries of the last axis, the first ones, may be moved; None: all."""

    def __post_init__(self) -> None:
        within("", ">= 0, finite", radius=self.radius, noise=self.noise)
        within("", "> 0, finite", step=self.step)
        within("", ">= 1", **given(free=self.free))

    def __call__(self, losses: Callable[[Tensor], Tensor], x: Tensor, rng: torch.Generator) -> Tensor:
        """Moved inputs.

        Args:
            losses: Loss per input, [B], of inputs shaped as x.
            x: Floats [B, ...]; images [B, C, H, W] in [0, 1].
            rng: Of the noise; drawn on the CPU.

        Returns:
            Of x's shape, at most (noise + step) radii away in every entry.
        """
        if not len(x) or not self.radius:
            return x
        unit = self.radius * torch.tensor(self.scale, dtype=x.dtype, device=x.device).view(1, -1, *(1,) * (x.dim() - 2))
        noise = (2 * torch.rand(x.shape, generator=rng, dtype=x.dtype) - 1) * self.noise
        moving = torch.ones(x.shape[-1], dtype=x.dtype, device=x.device)
        moving[self.free :] = 0 if self.free is not None else 1
        start = (x + fast(noise.to(x.device)) * unit * moving).requires_grad_()
        (gradient,) = torch.autograd.grad(losses(start).sum(), start)
        moved = start.detach() + self.step * gradient.sign() * unit * moving
        return moved.clamp(0, 1) if self.clamp else moved
