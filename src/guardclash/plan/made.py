"""Images that are made where a task names no others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch

from guardclash.data.bundled import patches
from guardclash.plan.examples import Data
from guardclash.plan.plan import Context


@dataclass(frozen=True)
class Patches:
    """Patches of the two photographs that scikit-learn brings along: natural textures in any size."""

    shape: tuple[int, ...]
    """Channels, height and width; one channel is grey, three are the colours, others repeat grey."""
    size: int
    start: int = 0
    """How many others of the same fixed order come before these."""
    title: ClassVar[str] = "two photographs"
    classes: ClassVar[int] = 2

    def first(self, count: int) -> Patches:
        """At most so many of them."""
        return replace(self, size=min(count, self.size))

    def load(self, context: Context) -> Data:
        """The patches, the same under every seed; labelled by their photograph."""
        x, y = _made(self.shape, self.start + self.size)
        return Data(x[self.start :].clone(), y[self.start :].clone())


@lru_cache(maxsize=2)
def _made(shape: tuple[int, ...], count: int) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = patches(shape, count)
    return torch.tensor(np.ascontiguousarray(x)).float().div_(255), torch.tensor(y)
