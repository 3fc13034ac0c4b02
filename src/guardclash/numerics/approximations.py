"""Functions as systems for secure computation approximate them, of products and comparisons alone.

Those of CrypTen (Knott et al. 2021; the numbers of steps of its default settings, version 0.4.1) and of SecureML
(Mohassel and Zhang 2017, section 5.1). Each product may be cut back to a number of fractional bits, as it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from guardclash.checks import one_of
from guardclash.numerics.fixedpoint import rounded

SOFTMAXES = ("crypten", "secureml", "exact")
LEAST = 1e-12
"""Below which a probability counts as this one where its logarithm is taken."""


def _kept(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class CrypTen:
    """CrypTen's functions. Where products are cut back, so are the inputs."""

    bits: int | None = None
    """Fractional bits; None: products keep what a float keeps."""
    truncation: str = "nearest"
    """Of each product; "probabilistic" is for those who hand over chance, and this takes none."""

    def __post_init__(self) -> None:
        one_of("", ("nearest", "floor", "toward_zero"), truncation=self.truncation)

    def _cut(self) -> Callable[[Tensor], Tensor]:
        bits = self.bits
        return _kept if bits is None else lambda x: rounded(x, bits, self.truncation)

    def exp(self, x: Tensor, squarings: int = 8) -> Tensor:
        """(1 + x / 2^n)^(2^n): too small everywhere, and a growing number below -2^n."""
        cut = self._cut()
        y = 1 + cut(x / 2**squarings)
        for _ in range(squarings):
            y = cut(y * y)
        return y

    def reciprocal(self, x: Tensor, steps: int = 10) -> Tensor:
        """Newton's steps r <- 2 r - x r^2 from 3 exp(1 - 2 x) + 0.003, for positive x; right from about 0.1 to 200."""
        cut = self._cut()
        r = 3 * self.exp(1 - 2 * x) + 0.003
        for _ in range(steps):
            r = 2 * r - cut(x * cut(r * r))
        return r

    def inverse_root(self, x: Tensor, steps: int = 3) -> Tensor:
        """Newton's steps y <- y (3 - x y^2) / 2 from 2.2 exp(-(x / 2 + 0.2)) + 0.2 - x / 1024, for positive x.

        Right from about 0.1 to 150; too small below, and negative from about 210 on.
        """
        cut = self._cut()
        y = 2.2 * self.exp(-(x / 2 + 0.2)) + 0.2 - cut(x / 1024)
        for _ in range(steps):
            y = cut(y * (3 - cut(x * cut(y * y))) / 2)
        return y

    def softmax(self, logits: Tensor) -> Tensor:
        """Of [..., classes]: exp of what is below the largest, times the reciprocal of their sum."""
        powers = self.exp(logits - logits.amax(-1, keepdim=True))
        return self._cut()(powers * self.reciprocal(powers.sum(-1, keepdim=True)))

    def sigmoid(self, x: Tensor) -> Tensor:
        """1 / (1 + exp(-|x|)), or 1 minus it below 0; Newton's steps from 0.75, of which three do between 1 and 2."""
        cut = self._cut()
        below = 1 + self.exp(-x.abs(), 9)
        r = torch.full_like(x, 0.75)
        for _ in range(3):
            r = 2 * r - cut(below * cut(r * r))
        return torch.where(x < 0, 1 - r, r)


@dataclass(frozen=True)
class SecureML:
    """SecureML's functions, which comparisons do."""

    def softmax(self, logits: Tensor) -> Tensor:
        """Of [..., classes]: the share of each positive logit in their sum; equal shares where there is none."""
        positive = logits.relu()
        total = positive.sum(-1, keepdim=True)
        return torch.where(total > 0, positive / total.where(total > 0, 1), 1 / logits.shape[-1])

    def sigmoid(self, x: Tensor) -> Tensor:
        """A line: x + 1/2, kept in [0, 1]."""
        return (x + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class Exact:
    """Exact functions, which cost much more there."""

    def softmax(self, logits: Tensor) -> Tensor:
        """Of [..., classes]."""
        return logits.softmax(-1)

    def sigmoid(self, x: Tensor) -> Tensor:
        """1 / (1 + exp(-x))."""
        return x.sigmoid()


Functions = CrypTen | SecureML | Exact


def functions_of(name: str, bits: int) -> Functions:
    """The functions by name, of `SOFTMAXES`, where numbers have so many fractional bits."""
    one_of("", SOFTMAXES, softmax=name)
    if name == "crypten":
        return CrypTen(bits)
    return SecureML() if name == "secureml" else Exact()


def told_as(logits: Tensor, functions: Functions, several: bool = False) -> Tensor:
    """Logits whose exact softmax is the approximated one of other logits.

    Args:
        logits: [B, classes].
        functions: The approximated ones.
        several: Whether each class is a question of its own, so that sigmoids are taken.

    Returns:
        [B, classes]; of probabilities that do not add up to 1, those in the same proportions.
    """
    if several:
        p = functions.sigmoid(logits).clamp(LEAST, 1 - 1e-7)
        return p.log() - (1 - p).log()
    # The logarithm of a softmax leaves open what is added to all logits of an example; losses of logits keep theirs.
    return functions.softmax(logits).clamp(min=LEAST).log() + logits.logsumexp(-1, keepdim=True)


def inverse_root_error(x: Tensor) -> Tensor:
    """By which share CrypTen's inverse root of positive numbers is off, without rounding."""
    return (CrypTen().inverse_root(x.double()) * x.double().sqrt() - 1).abs()
