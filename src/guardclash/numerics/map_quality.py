"""How good saliency maps are, and how alike those of two models; `guardclash.numerics.saliency` says what a map is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.numerics.layout import at_a_time, fast
from guardclash.numerics.saliency import logits_of, split

PARTS = 28
"""In how many parts an input is taken away, at most: the rows of an image of MNIST."""


def ordered(maps: Tensor, rng: torch.Generator) -> Tensor:
    """The places of each map by how much they say, whatever their sign, the most first.

    Args:
        maps: [N, ...].
        rng: Orders places that say as much: a map of zeros gives a random order.

    Returns:
        Indices, int64 [N, places].
    """
    weight = maps.flatten(1).abs()
    mixed = torch.rand(weight.shape, generator=rng).argsort(1)
    # Black places of an image say 0 under many a method, and would be taken from top to bottom.
    return mixed.gather(1, weight.gather(1, mixed).argsort(stable=True, dim=1, descending=True))


@torch.no_grad()
def taken_away(network: nn.Module, x: Tensor, y: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Deletion and insertion curves (Petsiuk et al. 2018) of inputs.

    Args:
        network: In evaluation mode.
        x: [N, ...].
        y: Labels, int64 [N].
        order: [N, places], from `ordered`.

    Returns:
        The shares of places taken so far, float64 [points] from 0 to 1; the label's probability with these places set
        to 0, float64 [N, points]; and with all others set to 0, likewise.
    """
    device, places = next(network.parameters()).device, order.shape[1]
    parts = min(PARTS, places)
    cuts = (torch.arange(parts + 1) * places / parts).round().long()
    form = (len(x), 1, *x.shape[2:]) if x.dim() == 4 else x.shape
    rank = order.argsort(1).view(form)
    deleted, inserted = [], []
    for cut in cuts.tolist():
        taken = rank < cut
        deleted.append(_probabilities(network, x * ~taken, y, device))
        inserted.append(_probabilities(network, x * taken, y, device))
    return cuts.double() / places, torch.stack(deleted, 1), torch.stack(inserted, 1)


def _probabilities(network: nn.Module, x: Tensor, y: Tensor, device: torch.device) -> Tensor:
    logits = torch.cat([network(fast(some.to(device))).cpu() for some in x.split(at_a_time(x, 1000))])
    return functional.softmax(logits.double(), 1).gather(1, y.view(-1, 1))[:, 0]


def area(shares: Tensor, curves: Tensor) -> Tensor:
    """The area under curves [N, points] over shares [points], by the trapezoid rule: [N].

    Example:
        >>> shares = torch.linspace(0, 1, 5, dtype=torch.float64)
        >>> round(area(shares, torch.tensor([[0.9, 0.6, 0.3, 0.1, 0.1]], dtype=torch.float64)).item(), 6)
        0.375
    """
    return torch.trapezoid(curves, shares, dim=1)


def nearby(x: Tensor, radius: float, rng: torch.Generator, free: int | None) -> Tensor:
    """Inputs moved by uniform noise.

    Args:
        x: Images [N, C, H, W], which stay in [0, 1]; or rows [N, columns].
        radius: How far an entry moves at most.
        rng: Of the noise; drawn on the CPU.
        free: How many of the first columns move; None: all.
    """
    noise = (2 * torch.rand(x.shape, generator=rng, dtype=x.dtype) - 1) * radius
    if free is not None:
        noise[..., free:] = 0
    return (x + noise).clamp(0, 1) if x.dim() == 4 else x + noise


def max_sensitivity(maps: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Max-sensitivity (Yeh et al. 2019): the largest change of a map, relative to its length.

    Args:
        maps: [N, ...].
        others: Those of the same inputs moved a little, for each move.

    Returns:
        Its largest length over moves, [N], over that of the map; NaN where a map is 0 everywhere.
    """
    length = maps.flatten(1).norm(dim=1)
    change = torch.stack([(other - maps).flatten(1).norm(dim=1) for other in others]).amax(0)
    return torch.where(length > 0, change / length, torch.nan)


def rank_correlation(one: Tensor, other: Tensor, counted: Tensor) -> Tensor:
    """Spearman's rank correlation of two maps of each input, with their signs.

    Args:
        one: [N, ...].
        other: Likewise.
        counted: Which places count, bool, likewise. With a baseline of 0, all methods that multiply by the input say 0
            where it is 0, so that places that are 0 would make any two maps alike.

    Returns:
        float64 [N], in [-1, 1]; NaN where a map says the same of all counted places.
    """
    from scipy.stats import rankdata

    found = np.full(len(one), np.nan)
    for place, (a, b, here) in enumerate(zip(one.numpy(), other.numpy(), counted.numpy(), strict=True)):
        ranks = [rankdata(values[here]) for values in (a, b)]
        if all(len(np.unique(rank)) > 1 for rank in ranks):
            found[place] = np.corrcoef(ranks)[0, 1]
    return torch.from_numpy(found)


def strength(maps: Tensor) -> Tensor:
    """The size of each entry, relative to the largest of its map: [N, ...] in [0, 1]."""
    size = maps.abs()
    largest = size.flatten(1).amax(1).view(-1, *(1,) * (maps.dim() - 1))
    return torch.where(largest > 0, size / largest, 0.0)


@torch.no_grad()
def incompleteness(network: nn.Module, x: Tensor, y: Tensor, maps: Tensor) -> float:
    """By how much maps miss what they should sum up to: F(x) - F(0), the rise of the label's logit.

    Returns:
        Mean |sum of the map - rise| over mean |rise|: a ratio of means, since single rises may be about 0. NaN where no
        logit rises or falls.
    """
    device = next(network.parameters()).device
    parts = zip(*split(x, y), strict=True)
    rises = [
        (
            logits_of(network, fast(some.to(device)), own)
            - logits_of(network, fast(torch.zeros_like(some).to(device)), own)
        )
        for some, own in parts
    ]
    rise = torch.cat(rises).double().cpu()
    missed, whole = (maps.flatten(1).double().sum(1) - rise).abs().mean(), rise.abs().mean()
    return (missed / whole).item() if whole > 0 else float("nan")
