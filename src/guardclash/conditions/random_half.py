"""A pool of which every replicate trains on a random half, so that replicates tell members from others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from guardclash.errors import UserError
from guardclash.plan.condition import Condition
from guardclash.plan.examples import Data
from guardclash.plan.plan import Context, Plan


@dataclass(frozen=True)
class RandomHalf(Condition):
    """A random half of the training examples: those of the recipe are a pool, and each replicate trains on half of it.

    Seeds 0 and 1 have complementary halves, as have 2 and 3, and so on; the halves of different pairs are independent.
    So what one replicate has seen another one has not, and the replicates of a study serve as each other's shadow
    models. `about["index"]` says where in the pool an example is.
    """

    name: ClassVar[str] = "random-half"

    def bind(self, unprotected: Plan) -> RandomHalf:
        """This condition, once it is known that there is something to halve."""
        size = unprotected.task.source.size
        if size < 4:
            raise UserError("a pool too small to be halved", where=self.name, got=f"{size} examples", allowed=">= 4")
        return self

    def size(self, size: int) -> int:
        """Half of the pool; of an odd one, one example is left out of both halves."""
        return size // 2

    def train(self, data: Data, context: Context) -> Data:
        """The examples of the replicate's half, in the order of the pool."""
        half = len(data.x) // 2
        pair, place = context.seed - context.seed % 2, context.seed % 2
        order = torch.randperm(len(data.x), generator=context.under(pair).rng("random-half"))
        index = order[place * half : (place + 1) * half].sort().values
        # Told by the pool: an index that came before is that of a pool within it.
        return replace(chosen := data.take(index), about={**chosen.about, "index": index})
