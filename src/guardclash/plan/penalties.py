"""Losses of the weights alone, and the gradient that they add to a step: marks in weights, pulls towards others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from guardclash.errors import UserError
from guardclash.plan.gradients import trainable

Chances = Callable[..., torch.Generator]
"""From a purpose to a generator of its own, as `Context.rng`."""


class Penalty(Protocol):
    """A loss of the weights alone.

    It looks at parameters, never at what a network remembers of examples (running statistics): its gradient is added
    past the bound on what one example does, and must not carry any.
    """

    def __call__(self, network: nn.Module) -> Tensor:
        """A scalar, with gradients to parameters of the network."""


@runtime_checkable
class SecretPenalty(Protocol):
    """A penalty with secrets of the seed, which are in no plan.

    It is handed chance and no data, so that what it adds can hang on no example.
    """

    def start(self, rng: Chances) -> Penalty:
        """The penalty with its secrets, drawn once for a training; `rng` is that of the training's party."""


# Asked for every stream that is made, and all parts of a class have one answer.
@lru_cache
def _fits(kind: type) -> bool:
    if hasattr(kind, "start"):
        return True
    call: Any = kind.__call__
    try:
        inspect.signature(call).bind(None, None)  # in the places of self and network
    except TypeError:
        return False
    return True


def refuse_no_penalties(parts: Iterable[object], where: str) -> None:
    """Checks how penalties are called.

    Raises:
        UserError: If one can neither be called with a network nor started, such as a loss of examples.
    """
    for part in parts:
        if not (callable(part) or hasattr(part, "start")) or not _fits(type(part)):  # type: ignore[arg-type]
            mend = "Write __call__(self, network) -> scalar, or start(self, rng) -> penalty if it has secrets."
            raise UserError("a penalty that cannot be called with a network", where=where, got=part, mend=mend)


def started(penalties: Iterable[Penalty | SecretPenalty], rng: Chances) -> tuple[Penalty, ...]:
    """Penalties with their secrets."""
    return tuple(one.start(rng) if isinstance(one, SecretPenalty) else one for one in penalties)


def with_penalties(
    gradient: dict[str, Tensor], network: nn.Module, penalties: Sequence[Penalty], where: str = ""
) -> dict[str, Tensor]:
    """A gradient with that of penalties added.

    Args:
        gradient: By parameter name.
        network: At the weights at which they are taken.
        penalties: With their secrets.
        where: Their place, for messages.

    Returns:
        Gradients by parameter name; the given one where there are no penalties, or none that a training can lower.

    Raises:
        UserError: If a penalty is no scalar.
    """
    if not penalties:
        return gradient
    values = [penalty(network) for penalty in penalties]
    wrong = [list(value.shape) for value in values if value.shape != ()]
    if wrong:
        raise UserError("a penalty is one number", where=where, got=f"shape {wrong[0]}", allowed="a scalar")
    total = torch.stack(values).sum()
    if not total.requires_grad:  # the layers that it looks at are not trained
        return gradient
    named = trainable(network)
    found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    added = {name: own for name, own in zip(named, found, strict=True) if own is not None}
    return {**gradient, **{name: gradient[name] + own if name in gradient else own for name, own in added.items()}}
