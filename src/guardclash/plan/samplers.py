"""How a pass over a stream is cut into batches. Batches are indices; the examples are tensors in memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from guardclash.checks import within


@dataclass(frozen=True)
class Shuffled:
    """Every example once per pass, in random order. A last batch of one joins the one before: batch norm needs two."""

    batch_size: int

    def __post_init__(self) -> None:
        within("", ">= 1", batch_size=self.batch_size)

    def steps(self, size: int) -> int:
        """Batches in one pass over `size` examples."""
        full, rest = divmod(size, self.batch_size)
        joins = rest == 1 and full > 0
        return full + (rest > 0 and not joins)

    def last(self, size: int) -> int:
        """Examples in the last batch of a pass over `size`, at most one more than `batch_size`."""
        return size - self.batch_size * (self.steps(size) - 1)

    def batches(self, size: int, rng: torch.Generator) -> list[Tensor]:
        """One pass: index tensors of `batch_size` each, the last one shorter (or one longer)."""
        order = torch.randperm(size, generator=rng)
        cut = size - self.last(size)
        return [*order[:cut].split(self.batch_size), order[cut:]] if cut else [order]


@dataclass(frozen=True)
class Poisson:
    """Each example joins each batch independently with probability batch_size / size: what DP accounting assumes.

    A pass has floor(size / batch_size) batches, at least one; batches vary in size and may be empty.
    """

    batch_size: int

    def __post_init__(self) -> None:
        within("", ">= 1", batch_size=self.batch_size)

    def rate(self, size: int) -> float:
        """The probability with which an example joins a batch."""
        return min(size, self.batch_size) / size  # in this order: no float holds every integer

    def steps(self, size: int) -> int:
        """Batches in one pass over `size` examples."""
        return max(1, size // self.batch_size)

    def batches(self, size: int, rng: torch.Generator) -> list[Tensor]:
        """One pass: index tensors of random length."""
        rate = self.rate(size)
        # In float64: 24 random bits would make the true rate differ from the accounted one.
        draws = (torch.rand(size, generator=rng, dtype=torch.float64) for _ in range(self.steps(size)))
        return [(draw < rate).nonzero().flatten() for draw in draws]


@dataclass(frozen=True)
class Halves:
    """Every example once per pass; each batch is half of the first and half of the second half of the source."""

    batch_size: int

    def __post_init__(self) -> None:
        within("", ">= 2", batch_size=self.batch_size)

    @property
    def _half(self) -> Shuffled:
        return Shuffled(self.batch_size // 2)

    def steps(self, size: int) -> int:
        """Batches in one pass over `size` examples, an even number."""
        return self._half.steps(size // 2)

    def batches(self, size: int, rng: torch.Generator) -> list[Tensor]:
        """One pass: index tensors, those of the first half first."""
        first, second = (self._half.batches(size // 2, rng) for _ in range(2))
        return [torch.cat([one, other + size // 2]) for one, other in zip(first, second, strict=True)]
