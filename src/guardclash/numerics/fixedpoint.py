"""Numbers of so many fractional bits: how a product is cut back to them, and what that does. Floats on a grid.

A secret-shared product of two encodings has twice the bits and is cut back: to the nearest, downwards, toward zero, or
probabilistically, which is what local truncation of random shares amounts to (Mohassel and Zhang 2017, theorem 1).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from guardclash.checks import one_of, within
from guardclash.errors import UserError

TRUNCATIONS = ("probabilistic", "nearest", "floor", "toward_zero")
RING = 64
"""Bits of the ring in which encodings are shared."""
BANK = 2**20
"""How many different numbers probabilistic rounding draws from; each comes equally often."""


def rounded(x: Tensor, bits: int, truncation: str, rng: torch.Generator | None = None) -> Tensor:
    """Numbers cut back to a grid of 2^-bits; what is on the grid stays.

    Args:
        x: Floats of any shape, laid out in memory in any way, which the result has too.
        bits: Fractional bits, 1 to 40.
        truncation: "probabilistic": down, or up with a probability of the part that is lost; unbiased to 2^-21 of a
            unit. "nearest" (of two, the even one), "floor" or "toward_zero".
        rng: What "probabilistic" draws from, on the CPU.

    Returns:
        Multiples of 2^-bits, each less than one unit from its number, at most half a unit with "nearest". In float32 a
        number of magnitude 1 has 24 bits of its own, so that from bits = 24 on none below 1 changes.

    Raises:
        UserError: If there is no such truncation, or no chance for it.
    """
    one_of("", TRUNCATIONS, truncation=truncation)
    scaled = x * 2.0**bits
    if truncation == "nearest":
        return scaled.round_().mul_(2.0**-bits)
    if truncation == "floor":
        return scaled.floor_().mul_(2.0**-bits)
    if truncation == "toward_zero":
        return scaled.trunc_().mul_(2.0**-bits)
    if rng is None:
        raise UserError("probabilistic truncation draws chance, and none was handed over", where="rng")
    below = scaled.floor()
    # Not floor(scaled + u): that sum is itself rounded, and would move numbers that are on the grid already.
    up = scaled.sub_(below) > uniform(x, rng)
    return below.add_(up).mul_(2.0**-bits)


@lru_cache(maxsize=4)
def _bank(device: torch.device) -> Tensor:
    """Numbers evenly spread in (0, 1) in one order by chance, twice in a row, so that any window of them is whole."""
    order = torch.randperm(BANK, generator=torch.Generator().manual_seed(BANK), device="cpu").double()
    return ((order + 0.5) / BANK).float().repeat(2).to(device)


def uniform(like: Tensor, rng: torch.Generator) -> Tensor:
    """Uniform numbers in (0, 1), shaped and laid out as a tensor: windows of one fixed list, from places by chance.

    A place of the list is one draw for up to `BANK` numbers, which is what makes it cheap: each number by itself is
    uniform; two of one window are different, and otherwise as good as independent.

    Args:
        like: Any floats.
        rng: On the CPU.
    """
    bank, size = _bank(like.device), like.numel()
    starts = torch.randint(BANK, (max(1, math.ceil(size / BANK)),), generator=rng, device="cpu").tolist()
    windows = [bank.narrow(0, start, min(BANK, size - at * BANK)) for at, start in enumerate(starts)]
    flat = windows[0] if len(windows) == 1 else torch.cat(windows)
    # The order in memory does not matter to chance, but strided access would be slow.
    if like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last):
        count, channels, height, width = like.shape
        return flat.view(count, height, width, channels).permute(0, 3, 1, 2)
    return flat.view(like.shape)


def product(a: Tensor, b: Tensor, bits: int, truncation: str, rng: torch.Generator | None = None) -> Tensor:
    """The product of two public numbers as such a system computes it.

    Both are encoded toward zero, as CrypTen does; the product of the encodings has 2 bits and is cut back.

    Args:
        a: Floats.
        b: Floats that can be multiplied by them; in float64 the encodings' product is exact up to 2^53.
        bits: Fractional bits.
        truncation: How the product is cut back, of `TRUNCATIONS`.
        rng: What "probabilistic" draws from.
    """
    one, other = (rounded(each, bits, "toward_zero") for each in (a, b))
    return rounded(one * other, bits, truncation, rng)


def failure_probability(bits: int, ring: int = RING) -> float:
    """The probability that local truncation of a shared value goes wrong by about 2^ring: 2^(bits + 1 - ring).

    Args:
        bits: Of the value before it is cut back: twice the fractional bits and those before the point.
        ring: Bits of the ring.

    Example:
        >>> failure_probability(2 * 26 + 5)
        0.015625
    """
    within("", ">= 0", bits=bits)
    return min(1.0, 2.0 ** (bits + 1 - ring))


def largest_product(bits: int, ring: int = RING) -> float:
    """From which magnitude on a product no longer fits the ring before it is cut back: 2^(ring - 1 - 2 bits)."""
    return 2.0 ** (ring - 1 - 2 * bits)


def added_length(numbers: int, bits: int, truncation: str) -> float:
    """By how much rounding may lengthen a vector, in the l2 norm: what it adds to a gradient's sensitivity.

    Args:
        numbers: How many numbers the vector has.
        bits: Fractional bits.
        truncation: Of `TRUNCATIONS`. Each number moves by less than a unit, by half of one with "nearest", and never
            away from zero with "toward_zero".

    Example:
        >>> round(added_length(214_000, 16, "nearest"), 6)
        0.003529
    """
    one_of("", TRUNCATIONS, truncation=truncation)
    share = {"nearest": 0.5, "toward_zero": 0.0}.get(truncation, 1.0)
    return math.sqrt(numbers) * share * 2.0**-bits


class _Straight(torch.autograd.Function):
    """Rounds on the way forwards and, otherwise, on the way back; to the gradient rounding is the identity."""

    @staticmethod
    def forward(x: Tensor, bits: int, ahead: str, back: str | None, rng: torch.Generator | None) -> Tensor:
        return rounded(x, bits, ahead, rng)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: Tensor) -> None:
        _, *ctx.how = inputs  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        bits, _, back, rng = ctx.how  # type: ignore[attr-defined]
        # By the same function, so that a gradient of this gradient passes too.
        return gradient if back is None else straight(gradient, bits, back, None, rng), None, None, None, None


def straight(x: Tensor, bits: int, ahead: str, back: str | None, rng: torch.Generator | None = None) -> Tensor:
    """Rounds numbers, and their gradient on its way back.

    Args:
        x: Floats.
        bits: Fractional bits of both.
        ahead: How numbers are cut back, of `TRUNCATIONS`.
        back: How the gradient is; None: it passes as it is.
        rng: What "probabilistic" draws from.
    """
    return _Straight.apply(x, bits, ahead, back, rng)
