"""Checks by numbers that clipped gradients are those of single examples; once for each kind of call, not in each step.

A layer may see the rows of each example in order, and its output may still reach the loss of another one: a network
subtracts the mean of the batch from its logits, takes the first row of what was given to each example, or sorts. So the
losses once get uneven weights: a row whose gradient does not grow with the weight of its own example's loss belongs to
somebody else as well. Where that is found, the module around the layer is taken as one and runs on single examples;
where not even the network as a whole gives the same on a single example as in the batch, it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm

from guardclash.errors import UserError

WEIGHTS = 8
"""How many different weights losses have in a check: powers of two, which round nothing."""
SURE = 14.0
"""A kind of call is in order once an order by chance would have passed with a probability of e^-14, one in a million:
after one batch of ten examples, or several smaller ones."""


@dataclass
class Verified:
    """What is known of a network; it only grows, and whoever forgets it finds the same again.

    Fields:
        whole: Names of the modules that are taken as one, "" for the network.
        passed: Kinds of calls whose gradients were found to be those of single examples, with how sure that is.
    """

    whole: set[str] = field(default_factory=set)
    passed: dict[Hashable, float] = field(default_factory=dict)

    def sure_of(self, kinds: Iterable[Hashable]) -> bool:
        """Whether nothing is left to check."""
        return all(self.passed.get(kind, 0.0) >= SURE for kind in kinds)

    def note(self, kind: Hashable, examples: int) -> None:
        """Notes that a kind of call was in order in a batch: one of all the orders of its examples."""
        self.passed[kind] = self.passed.get(kind, 0.0) + math.lgamma(examples + 1)

    def widen(self, network: nn.Module, name: str) -> bool:
        """Takes the module around a unit as one, from now on; False if there is none."""
        while name:
            name = name.rpartition(".")[0]
            # Such lists are never called.
            if not isinstance(network.get_submodule(name), nn.ModuleList | nn.ModuleDict):
                self.whole.add(name)
                return True
        return False


_KNOWN: WeakKeyDictionary[nn.Module, Verified] = WeakKeyDictionary()


def known_of(network: nn.Module) -> Verified:
    """What is known of a network."""
    return _KNOWN.setdefault(network, Verified())


class Misread(Exception):
    """The rows of a unit do not belong to the examples as presumed.

    Args:
        unit: Name of the unit.
        error: What to tell the user if nothing helps.
    """

    def __init__(self, unit: str, error: UserError):
        super().__init__(str(error))
        self.unit, self.error = unit, error


def uneven_weights(losses: Tensor) -> Tensor:
    """A weight for each loss, [B], such that neighbours differ, and those a few places apart."""
    index = torch.arange(len(losses), device=losses.device)
    exponents = (index % WEIGHTS + 3 * (index // WEIGHTS) + index // WEIGHTS**2) % WEIGHTS - WEIGHTS // 2
    return torch.exp2(exponents.to(losses.dtype))


def row_norms(gradient: Tensor) -> Tensor:
    """The norm of each row of a gradient, [rows], in the precision that it has, at least float32."""
    flat = gradient.reshape(len(gradient), -1)
    return torch.linalg.vector_norm(flat.float() if flat.element_size() < 4 else flat, dim=1)


def belong(weighed: Tensor, plain: Tensor, weights: Tensor) -> bool:
    """Whether each row of a gradient comes from the loss of its example alone.

    If it does, it grows with the weight of this loss, by exactly that factor. A row of another example grows by
    another one, and a row that several losses depend on by none of them.

    Args:
        weighed: Norms of the rows, [examples * k], where the losses have `weights`.
        plain: The same where all losses weigh 1.
        weights: [examples].
    """
    wanted = plain * weights.repeat_interleave(len(plain) // len(weights)).to(plain.dtype)
    known = wanted.isfinite() & weighed.isfinite()  # a training that diverges is the trainer's affair
    if not known.any():
        return True
    slack = max(1e-3, 8 * torch.finfo(weights.dtype).eps)
    return bool(((weighed - wanted).abs() <= slack * wanted + 1e-6 * wanted[known].max())[known].all())


def tells(plain: Tensor, examples: int) -> bool:
    """Whether rows of half of the examples are not zero: zeros are in order however they lie."""
    return 2 * int((plain.isfinite() & (plain > 0)).view(examples, -1).any(1).sum()) >= examples


def close(singles: Sequence[Tensor], wanted: Tensor) -> bool:
    """Whether a layer gives the same on single examples as on all of them, up to rounding."""
    if any(single.shape[1:] != wanted.shape[1:] for single in singles):
        return False
    found = torch.cat(list(singles))
    if found.shape != wanted.shape:
        return False
    if not wanted.numel() or not wanted.isfinite().all():
        return True
    slack = max(1e-4, 8 * torch.finfo(wanted.dtype).eps) * float(wanted.abs().max())
    return bool(((found - wanted).abs() <= slack).all())


@dataclass(frozen=True, eq=False)
class BufferState:
    """A buffer as it was.

    The tensor itself and not its `id`, which another tensor may get once this one is gone.
    """

    tensor: Tensor
    version: int
    """How often it had been changed in place."""

    def stays(self, later: BufferState | None) -> bool:
        """Whether it is the same tensor later, unchanged."""
        return later is not None and later.tensor is self.tensor and later.version == self.version


def moved(before: dict[str, BufferState], after: dict[str, BufferState]) -> list[str]:
    """The buffers that were changed between two looks, or are new."""
    return [name for name, state in after.items() if not state.stays(before.get(name))]


def buffers_of(network: nn.Module, whole: bool = False) -> dict[str, BufferState]:
    """By name, which buffers there are and how often each was changed in place; spectral norms' left out.

    Args:
        network: Any network.
        whole: Also those of whole numbers, which may count batches.
    """
    return {
        f"{name}.{key}".lstrip("."): BufferState(buffer, buffer._version)
        for name, module in network.named_modules()
        if not has_spectral_norm(module)
        for key, buffer in module._buffers.items()
        if buffer is not None and (whole or buffer.is_floating_point())
    }


def spectral_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the vectors that spectral norms move with every call in training mode, by name."""
    return {
        f"{name}.{key}".lstrip("."): buffer.clone()
        for name, inner in module.named_modules()
        if inner.training and has_spectral_norm(inner)
        for key, buffer in inner._buffers.items()
        if buffer is not None
    }


def has_spectral_norm(module: nn.Module) -> bool:
    """Whether a module's vectors are those of a spectral norm: they follow from a weight, whatever the examples are."""
    older = (type(hook).__name__ == "SpectralNorm" for hook in module._forward_pre_hooks.values())
    return isinstance(module, _SpectralNorm) or any(older)
