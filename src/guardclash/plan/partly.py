"""Examples of which a part is somebody's, and nobody else knows which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from guardclash.errors import UserError
from guardclash.plan.examples import Data
from guardclash.plan.plan import Context, Source


@dataclass(frozen=True)
class Partly:
    """As many examples as a source has: some of them, drawn anew for every seed, and the rest of another source."""

    images: Source
    others: Source
    share: float
    """Of `images`, in (0, 1)."""

    def __post_init__(self) -> None:
        if self.others.size < self.size - self.count:
            got, allowed = f"{self.others.size} others", f"{self.size - self.count} at least"
            raise UserError("too few other examples to fill up with", where="share", got=got, allowed=allowed)

    @property
    def size(self) -> int:
        """As many as `images` has."""
        return self.images.size

    @property
    def count(self) -> int:
        """How many are of `images`."""
        return round(self.share * self.size)

    def chosen(self, context: Context) -> Tensor:
        """Which of `images` are among them under the context's seed: a mask, bool [size]."""
        order = torch.randperm(self.size, generator=context.rng("partly", self.share))
        return torch.zeros(self.size, dtype=torch.bool).index_fill(0, order[: self.count], True)

    def load(self, context: Context) -> Data:
        """The chosen examples, then the first others."""
        chosen = context.data(self.images).take(self.chosen(context))
        others = context.data(self.others).take(slice(self.size - self.count))
        return joined(chosen, others)


def joined(first: Data, second: Data) -> Data:
    """The examples of both; of `about`, what is known of both. Who has no weight has 1."""
    both = [_weighted(one) if "weight" in {*first.about, *second.about} else one for one in (first, second)]
    join: Callable[..., Tensor] = torch.cat
    about = {name: join([one.about[name] for one in both]) for name in both[0].about if name in both[1].about}
    return Data(join([one.x for one in both]), join([one.y for one in both]), about)


def _weighted(data: Data) -> Data:
    return Data(data.x, data.y, {"weight": torch.ones(len(data.x)), **data.about})
