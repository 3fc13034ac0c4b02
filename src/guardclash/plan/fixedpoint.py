"""Training in fixed point: the arithmetic, and the rewrites that make a network compute in it. All of it simulated.

Layers are changed by hooks, so that names, types and order of a network's modules are as without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from guardclash.checks import one_of, within
from guardclash.errors import UserError
from guardclash.numerics.approximations import SOFTMAXES, CrypTen, functions_of, told_as
from guardclash.numerics.fixedpoint import TRUNCATIONS, added_length, rounded, straight
from guardclash.numerics.inexact import is_exact, step_chance
from guardclash.plan.identity import substituted
from guardclash.plan.plan import Plan

NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
LAYERS = (_ConvNd, nn.Linear, *NORMS)
"""What products are cut back behind."""
MOST_BITS = 31
"""More leave no bit of a ring of 64 before the point of a product."""


@dataclass(frozen=True)
class FixedPoint:
    """Numbers with so many fractional bits: gradients, weights and optimizer states on a grid of 2^-bits."""

    bits: int = 16
    truncation: str = "probabilistic"
    examples: bool = False
    """Whether each example's clipped gradient is rounded before they are added up, and not their sum alone."""

    def __post_init__(self) -> None:
        within("", f"whole, >= 1, <= {MOST_BITS}", bits=self.bits)
        one_of("", TRUNCATIONS, truncation=self.truncation)

    @property
    def each(self) -> FixedPoint | None:
        """This one, if each example's gradient is rounded."""
        return self if self.examples else None

    def store(self, tensor: Tensor, rng: torch.Generator) -> Tensor:
        """The tensor on the grid."""
        return rounded(tensor, self.bits, self.truncation, rng)

    def added(self, numbers: int) -> float:
        """By how much rounding may lengthen a vector of so many numbers."""
        return added_length(numbers, self.bits, self.truncation)


@dataclass(frozen=True)
class _Rounding:
    """Behind a layer: cuts back what it gives. In a step of the training also the gradient on its way back.

    Outside of a step nothing is drawn by chance, so that a model answers alike each time, and gradients pass: an
    attack on the finished model finds what rounding would hide.
    """

    bits: int
    truncation: str

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        # An attack that computes in narrower floats has a coarser grid of its own.
        if is_exact() or not isinstance(output, Tensor) or not output.is_floating_point() or output.element_size() < 4:
            return output
        rng = step_chance()
        if rng is not None:
            return straight(output, self.bits, self.truncation, self.truncation, rng)
        return straight(output, self.bits, "nearest" if self.truncation == "probabilistic" else self.truncation, None)


@dataclass(frozen=True)
class _RoundedInputs:
    """Before the first layer: inputs are shared once, to the nearest."""

    bits: int

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x, *rest = inputs
        whole = is_exact() or not isinstance(x, Tensor) or not x.is_floating_point() or x.element_size() < 4
        return inputs if whole else (straight(x, self.bits, "nearest", None), *rest)


@dataclass(frozen=True)
class RoundedLayers:
    """Cuts back to fixed point what every convolution, linear and norm layer gives, and the gradients on the way back.

    What code computes between layers stays as it is.
    """

    bits: int = 16
    truncation: str = "probabilistic"

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network with roundings behind its layers."""
        network.register_forward_pre_hook(_RoundedInputs(self.bits))
        for module in network.modules():
            if isinstance(module, LAYERS):
                module.register_forward_hook(_Rounding(self.bits, self.truncation))
        return network


@dataclass(frozen=True)
class _TakenAs:
    """Behind the network, in a step: gives logits whose softmax is the approximated one of its own."""

    softmax: str
    bits: int
    several_labels: bool

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        if step_chance() is None or not isinstance(output, Tensor):
            return output
        # An attack may compute in floats too narrow for (1 + x / 256)^256.
        logits = output.detach().float() if output.element_size() < 4 else output.detach()
        told = told_as(logits, functions_of(self.softmax, self.bits), self.several_labels)
        # The gradient passes: of cross entropy it is then softmax - label.
        return output + (told - logits).to(output.dtype)


@dataclass(frozen=True)
class ApproximatedSoftmax:
    """In the steps of the training, whatever takes a softmax of the logits gets the approximated one.

    So any loss has the gradient that it has in such a system: cross entropy the approximated probabilities minus the
    label, whatever numbers this holds. The finished model's logits are its own.
    """

    softmax: str = "crypten"
    bits: int = 16
    several_labels: bool = False

    def __post_init__(self) -> None:
        one_of("", SOFTMAXES, softmax=self.softmax)

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network, its answers taken so."""
        network.register_forward_hook(_TakenAs(self.softmax, self.bits, self.several_labels))
        return network


def variances(module: nn.Module, x: Tensor) -> Tensor | None:
    """What a norm layer divides by the root of, its epsilon included, shaped to be multiplied with its output.

    Args:
        module: A layer of `NORMS`; of any other one there are none.
        x: Its input, [B, channels, ...], or [..., features] of layer norm.
    """
    if isinstance(module, _BatchNorm):
        kept = None if module.training else module.running_var
        axes = [axis for axis in range(x.dim()) if axis != 1]
        found = x.var(axes, unbiased=False) if kept is None else kept
        return found.view(1, -1, *(1,) * (x.dim() - 2)) + module.eps
    if isinstance(module, nn.GroupNorm):
        found = x.reshape(len(x), module.num_groups, -1).var(2, unbiased=False)
        each = found.repeat_interleave(module.num_channels // module.num_groups, 1)
        return each.view(len(x), -1, *(1,) * (x.dim() - 2)) + module.eps
    if isinstance(module, nn.LayerNorm):
        return x.var([-1 - axis for axis in range(len(module.normalized_shape))], unbiased=False, keepdim=True) + (
            module.eps
        )
    return None


@dataclass(frozen=True)
class _Rooted:
    """Behind a norm: scales what it gives as the approximated inverse root does."""

    bits: int

    def __call__(self, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        found = variances(module, inputs[0].detach())
        if found is None:
            return output
        ratio = CrypTen(self.bits).inverse_root(found) * found.sqrt()
        if module.bias is None:
            return output * ratio
        shift = module.bias
        if not isinstance(module, nn.LayerNorm):
            shift = shift.view(1, -1, *(1,) * (output.dim() - 2))
        return shift + ratio * (output - shift)


@dataclass(frozen=True)
class ApproximatedRoots:
    """Normalises by CrypTen's inverse root of the variance, which is wrong outside of about 0.1 to 150."""

    bits: int = 16

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network whose batch, group and layer norms do so."""
        for module in network.modules():
            if isinstance(module, NORMS):
                module.register_forward_hook(_Rooted(self.bits))
        return network


class Polynomial(nn.Module):
    """0.125 x^2 + 0.5 x + 0.25: a polynomial in ReLU's place, which products do."""

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return 0.125 * torch.square(x) + 0.5 * x + 0.25


POOLS = {
    nn.MaxPool1d: nn.AvgPool1d,
    nn.MaxPool2d: nn.AvgPool2d,
    nn.MaxPool3d: nn.AvgPool3d,
}


@dataclass(frozen=True)
class PolynomialActivations:
    """ReLU layers become a polynomial, and max pooling averages: nothing is compared (as under encryption)."""

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network without those layers.

        Raises:
            UserError: If a max pooling is none that an average can take the place of.
        """
        for name, module in list(_children(network)):
            if isinstance(module, nn.ReLU):
                setattr(*name, Polynomial())
            elif type(module) in POOLS:
                setattr(*name, _average(module))
        return network


def _children(network: nn.Module) -> Iterator[tuple[tuple[nn.Module, str], nn.Module]]:
    """Every module below another one, by that one and its place in it, also where it stands in several."""
    for parent in network.modules():
        for place, child in parent._modules.items():
            if child is not None:
                yield (parent, place), child


def _average(pool: Any) -> nn.Module:
    dilation = (pool.dilation,) if isinstance(pool.dilation, int) else pool.dilation
    if pool.return_indices or set(dilation) != {1}:
        raise UserError("a max pooling that no average can stand for", got=pool, allowed="no dilation, no indices")
    return POOLS[type(pool)](pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)


PARTS = (RoundedLayers, ApproximatedSoftmax, ApproximatedRoots, PolynomialActivations)
"""The rewrites of a training in fixed point."""


def floated(plan: Plan) -> Plan:
    """The float twin of a plan: the training without fixed point, and of all that it goes on from or uses."""

    def change(value: Any) -> Any:
        if not isinstance(value, Plan):
            return value
        rewrites = tuple(rewrite for rewrite in value.rewrites if not isinstance(rewrite, PARTS))
        arithmetic = None if isinstance(value.arithmetic, FixedPoint) else value.arithmetic
        same = arithmetic is value.arithmetic and rewrites == value.rewrites
        return value if same else replace(value, arithmetic=arithmetic, rewrites=rewrites)

    return substituted(plan, change)


def in_fixed_point(plan: Plan) -> bool:
    """Whether a training, or one that it goes on from, is in fixed point."""
    return isinstance(plan.arithmetic, FixedPoint) or (plan.initial is not None and in_fixed_point(plan.initial))
