"""Marks in the weights of a layer: where they are put, how they are learnt and read, and channels put back in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.numerics.layout import at_a_time, fast

FILTERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
MOST_CHANNELS = 2048
"""Beyond as many, matching takes longer than it is worth: it grows with their third power."""
TIE = 1e-6
"""How much a channel that stays where it is may gain: which of equal ones it is, nobody knows."""


class Key(NamedTuple):
    """What the owner keeps to itself."""

    rows: Tensor
    """[bits, weights], standard normal."""
    message: Tensor
    """[bits], of 0 and 1. Random: only so is the chance of a bit in an unmarked layer one half."""


def drawn(rng: torch.Generator, bits: int, weights: int) -> Key:
    """A key for a mean filter of so many weights."""
    return Key(torch.randn(bits, weights, generator=rng), torch.randint(2, (bits,), generator=rng))


def weight_of(layer: nn.Module) -> Tensor:
    """The weights of a convolution or linear layer: [outputs, inputs, ...]."""
    weight: Any = layer.weight
    return weight


def weight_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Convolutions and linear layers by name, as the network holds them."""
    return {name: one for name, one in network.named_modules() if isinstance(one, (*FILTERS, nn.Linear))}


def usual_place(network: nn.Module) -> int | None:
    """Which of the weight layers is marked where nobody says it, from 0; None: the network has none that can be.

    The second convolution; with fewer, the second layer, else the first. Never the last layer of all: to add one vector
    to the weights of every class changes no most likely class, so a mark there would be erased for nothing.
    """
    hidden = list(weight_layers(network).values())[:-1]
    convolutions = [place for place, one in enumerate(hidden) if isinstance(one, FILTERS)]
    if len(convolutions) > 1:
        return convolutions[1]
    return min(1, len(hidden) - 1) if hidden else None


def filters(network: nn.Module) -> list[nn.Module]:
    """The layers whose weights are filters: convolutions; of a network without any, linear layers but the last."""
    layers = list(weight_layers(network).values())
    return [one for one in layers if isinstance(one, FILTERS)] or layers[:-1]


def mean_filter(weight: Tensor) -> Tensor:
    """The mean over the outputs of a weight tensor [outputs, inputs, ...]: [inputs, ...]."""
    return weight.mean(0)


def mark_loss(mean: Tensor, key: Tensor, message: Tensor) -> Tensor:
    """The embedding loss of Uchida et al. (2017), equation (3): the sum over bits of the binary cross entropy in nats.

    Args:
        mean: The mean filter, [M] when flat.
        key: The secret, [bits, M].
        message: [bits], of 0 and 1.

    Returns:
        A scalar.
    """
    return functional.binary_cross_entropy_with_logits(key @ mean.flatten(), message.to(mean.dtype), reduction="sum")


def bits_right(mean: Tensor, key: Tensor, message: Tensor) -> int:
    """How many bits of a message are read right: a bit is 1 where its row of the key times the mean filter is >= 0."""
    read = key.double() @ mean.detach().flatten().double() >= 0
    return int((read == (message > 0.5)).sum())


class _Seen(Exception):
    """What a layer is given is known: the rest of the network need not run."""


@contextmanager
def _inputs_of(layer: nn.Module, seen: list[Tensor]) -> Iterator[None]:
    def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0])
        raise _Seen

    handle = layer.register_forward_pre_hook(note)
    try:
        yield
    finally:
        handle.remove()


def inputs_by_channel(network: nn.Module, layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """The map from inputs [N, ...] to what a layer of a network is given of them: [channels, values], on the CPU."""

    @torch.no_grad()
    def inputs(x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        with _inputs_of(layer, seen):
            try:
                network(fast(x.to(next(network.parameters()).device)))
            except _Seen:
                pass
        found = seen[0].cpu().double()
        axis = found.dim() - 1 if isinstance(layer, nn.Linear) else 1
        return found.movedim(axis, 0).flatten(1)

    return inputs


def matched_channels(
    ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], images: Tensor
) -> Tensor | None:
    """Which channel of another network is which of ours: the assignment of the largest sum of correlations.

    Args:
        ours: From inputs to the values of each of our channels, as `inputs_by_channel`.
        theirs: The same of the other network.
        images: Inputs [N, ...].

    Returns:
        For each of our channels the number of theirs, int64 [channels]; channels that say nothing stay where they are.
        None where there are not as many on either side, or too many.
    """
    from scipy.optimize import linear_sum_assignment  # slow to load

    sums: list[Tensor] | None = None
    for batch in images.split(at_a_time(images, 250)):
        a, b = ours(batch), theirs(batch)
        if a.shape != b.shape or len(a) > MOST_CHANNELS:
            return None
        found = [a.sum(1), b.sum(1), a.square().sum(1), b.square().sum(1), a @ b.T, torch.tensor(float(a.shape[1]))]
        sums = found if sums is None else [one + other for one, other in zip(sums, found, strict=True)]
    if sums is None:
        return None
    a, b, aa, bb, ab, count = sums
    spread = ((aa - a.square() / count).clamp(min=0).sqrt()).outer((bb - b.square() / count).clamp(min=0).sqrt())
    correlations = torch.where(spread > 0, (ab - a.outer(b) / count) / spread, 0.0).nan_to_num(0.0, 0.0, 0.0)
    _, places = linear_sum_assignment(-(correlations + TIE * torch.eye(len(a))).numpy())
    return torch.as_tensor(places)
