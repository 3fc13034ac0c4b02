"""Adversarial examples by projected gradient descent (Madry et al. 2018), for training and for measuring.

Images are in pixel space, [0, 1], and stay there. A scale per channel lets radius and step be given in another unit,
such as the normalised space in which the published code works: with `scale = std`, the same numbers give the same
attack. Inputs of other kinds, of any rank, have no bounds (`clamp`), and some of them may have to stay (`free`). For
measuring there is also an ensemble of stronger attacks, by the library ART.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from guardclash.checks import given, one_of, within
from guardclash.errors import UserError
from guardclash.numerics.batchnorm import frozen_statistics
from guardclash.numerics.layout import channels_first, fast
from guardclash.numerics.lengths import directions, lengths

PRECISIONS = ("auto", "float32", "bfloat16")
LIBRARY = "adversarial-robustness-toolbox"
ENSEMBLE_STARTS, ENSEMBLE_STEPS, ENSEMBLE_QUERIES = 5, 100, 1000
ENSEMBLE_CLASSES = 3
"""The least that it can do with: the difference of logits is divided by that of the greatest to the third."""


@dataclass(frozen=True)
class PGD:
    """Projected gradient ascent on the loss inside a ball around each input."""

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
    free: int | None = None
    """How many entries of the last axis, the first ones, may be moved; None: all."""

    def __post_init__(self) -> None:
        one_of("", ("linf", "l2"), norm=self.norm)
        within("", ">= 0, finite", radius=self.radius)
        within("", "> 0, finite", step=self.step)
        within("", ">= 1", steps=self.steps, **given(free=self.free))

    @property
    def reach(self) -> float:
        """Steps' total length over the ball's diameter: below 1, a random start may not reach the far side."""
        return self.steps * self.step / (2 * self.radius) if self.radius else math.inf

    def __call__(self, losses: Callable[[Tensor], Tensor], x: Tensor, rng: torch.Generator) -> Tensor:
        """Adversarial inputs.

        Args:
            losses: Loss per input, [B], of inputs shaped as x; each must depend on its own input only for the attack to
                be one of single inputs (batch norm in training mode mixes them, as in the published code).
            x: Floats [B, ...]; images [B, C, H, W] in [0, 1].
            rng: For the random start; drawn on the CPU.

        Returns:
            x + delta, of x's shape, with |delta| <= radius in every input.
        """
        if not len(x) or not self.radius:
            return x
        if self.free is None:
            return self._ascended(losses, x, rng)
        moving, rest = x[..., : self.free], x[..., self.free :]
        found = self._ascended(lambda point: losses(torch.cat([point, rest], -1)), moving, rng)
        return torch.cat([found, rest], -1)

    def _ascended(self, losses: Callable[[Tensor], Tensor], x: Tensor, rng: torch.Generator) -> Tensor:
        scale = self._pixels(x)
        delta = self._within(x, self._start(x, rng), scale)
        for _ in range(self.steps):
            point = self._moved(x, delta, scale).requires_grad_()
            (gradient,) = torch.autograd.grad(losses(point).sum(), point)
            delta = self._within(x, delta + self.step * self._direction(gradient * scale), scale)
        return self._moved(x, delta, scale).detach()

    def start(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Random points of the balls around inputs, or the inputs themselves without a random start."""
        moving = x[..., : self.free]
        scale = self._pixels(moving)
        moved = self._moved(moving, self._within(moving, self._start(moving, rng), scale), scale)
        return moved if self.free is None else torch.cat([moved, x[..., self.free :]], -1)

    def _pixels(self, x: Tensor) -> Tensor:
        return torch.tensor(self.scale, dtype=x.dtype, device=x.device).view(1, -1, *(1,) * (x.dim() - 2))

    def _start(self, x: Tensor, rng: torch.Generator) -> Tensor:
        if not self.random_start:
            return torch.zeros_like(x)
        if self.norm == "linf":
            start = (2 * torch.rand(x.shape, generator=rng, dtype=x.dtype) - 1) * self.radius
        else:  # uniform in the ball: a direction, and the d-th root of a uniform share of the radius
            start = torch.randn(x.shape, generator=rng, dtype=x.dtype)
            share = torch.rand(len(x), generator=rng, dtype=x.dtype) ** (1 / x[0].numel())
            length = lengths(start).view(-1)
            start *= (self.radius * share / torch.where(length > 0, length, 1)).view(-1, *(1,) * (x.dim() - 1))
        return fast(start.to(x.device))

    def _direction(self, gradient: Tensor) -> Tensor:
        if self.norm == "linf":
            return gradient.sign()
        return directions(gradient)

    def _within(self, x: Tensor, delta: Tensor, scale: Tensor) -> Tensor:
        if self.norm == "linf":
            delta = delta.clamp(-self.radius, self.radius)
        else:
            delta = delta * (self.radius / lengths(delta).clamp(min=torch.finfo(delta.dtype).tiny)).clamp(max=1)
        return (self._moved(x, delta, scale) - x) / scale if self.clamp else delta

    def _moved(self, x: Tensor, delta: Tensor, scale: Tensor) -> Tensor:
        moved = x + delta * scale
        return moved.clamp(0, 1) if self.clamp else moved


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
    modes = [(module, module.training) for module in network.modules()]
    moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
    device = next(network.parameters()).device.type
    with ExitStack() as stack:
        if use_bfloat16(precision, device):
            stack.enter_context(torch.autocast(device, torch.bfloat16))
            for module in network.modules():
                if isinstance(module, nn.GroupNorm):  # 20 times slower in bfloat16 when channels come last
                    stack.callback(module.register_forward_pre_hook(channels_first).remove)
        stack.callback(_set_modes, modes)
        for parameter in moving:
            stack.callback(parameter.requires_grad_, True)
            parameter.requires_grad_(False)
        network.train(training)
        stack.enter_context(frozen_statistics(network, not update_statistics))
        yield


def _set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training


def use_bfloat16(precision: str, device: str = "cpu") -> bool:
    """Whether an attack computes in bfloat16: where it is asked for and the device has arithmetic for it."""
    one_of("", PRECISIONS, precision=precision)
    return precision != "float32" and has_bfloat16(device)


def has_bfloat16(device: str = "cpu") -> bool:
    """Whether the device computes in bfloat16 natively; an emulation would be slower than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    # oneDNN also says yes where it emulates bfloat16 by AVX-512, which takes over twice as long as float32.
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    return platform.machine().lower() not in ("x86_64", "amd64") or bool(native())


def ensemble_version() -> str:
    """The installed version of ART.

    Raises:
        UserError: If it is not installed.
    """
    try:
        return version(LIBRARY)
    except PackageNotFoundError:
        mend = "Install it: pip install 'guardclash[attacks]'."
        raise UserError(f"the ensemble of attacks needs the library {LIBRARY}", mend=mend) from None


def ensemble(
    network: nn.Module, ball: PGD, classes: int, rng: torch.Generator
) -> tuple[Callable[[Tensor, Tensor], Tensor], ...]:
    """Parts of AutoAttack (Croce and Hein 2020) as the library ART has them, in the ball of a PGD.

    Two PGDs that choose their step size by themselves, 100 steps from each of 5 starts, on the cross entropy (APGD-CE)
    and on the difference of logits (APGD-DLR); in a ball of norm linf also a random search of 1000 queries that needs
    no gradient (Square). ART's search in a ball of norm l2 fails on images below 10 pixels a side and cannot be seeded,
    so it is left out.

    Args:
        network: The network; run the attacks inside `attacked(network)`.
        ball: Its radius, norm, scale and clamp count.
        classes: Number of classes, at least `ENSEMBLE_CLASSES`.
        rng: For starts and search.

    Returns:
        Functions of images [B, C, H, W] in [0, 1] that are classified right so far, and their labels, to images in the
        balls around them.

    Raises:
        UserError: If ART is not installed, or there are too few classes.
    """
    within("ensemble", f">= {ENSEMBLE_CLASSES}", classes=classes)
    ensemble_version()
    from art.attacks.evasion import AutoProjectedGradientDescent, SquareAttack

    steps = {"eps_step": 2 * ball.radius, "max_iter": ENSEMBLE_STEPS, "nb_random_init": ENSEMBLE_STARTS}
    losses = ("cross_entropy", "difference_logits_ratio")
    parts: list[Any] = [partial(AutoProjectedGradientDescent, **steps, loss_type=loss) for loss in losses]
    if ball.norm == "linf":
        parts.append(partial(SquareAttack, max_iter=ENSEMBLE_QUERIES))
    return tuple(partial(_by_art, part, network, ball, classes, rng) for part in parts)


def _by_art(
    part: Any, network: nn.Module, ball: PGD, classes: int, rng: torch.Generator, x: Tensor, y: Tensor
) -> Tensor:
    from art.estimators.classification import PyTorchClassifier

    scale = ball._pixels(x)
    model = PyTorchClassifier(
        nn.Sequential(_Units(scale), network),
        nn.CrossEntropyLoss(),
        tuple(x.shape[1:]),
        classes,
        clip_values=(0.0, 1.0) if ball.clamp and ball.scale == (1.0,) else (-math.inf, math.inf),
        device_type="cpu" if x.device.type == "cpu" else "gpu",
    )
    attack = part(model, norm=2 if ball.norm == "l2" else "inf", eps=ball.radius, batch_size=200, verbose=False)
    with _numpy_seeded(rng):
        found = attack.generate((x / scale).cpu().numpy(), y.cpu().numpy())
    moved = torch.from_numpy(found).to(x.device) - x / scale
    return ball._moved(x, ball._within(x, moved, scale), scale)


class _Units(nn.Module):
    """From units to pixels."""

    def __init__(self, scale: Tensor):
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Images in units to images in pixels."""
        return x * self.scale


@contextmanager
def _numpy_seeded(rng: torch.Generator) -> Iterator[None]:
    """Puts numpy's global generator, which ART draws from, under our seed; afterwards it goes on as before."""
    before = np.random.get_state()
    np.random.set_state(np.random.RandomState(int(torch.randint(2**32, (), generator=rng))).get_state())
    try:
        yield
    finally:
        np.random.set_state(before)
