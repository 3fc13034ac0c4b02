"""Groups by construction: a minority whose images are shown rotated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from guardclash.checks import within
from guardclash.data.space import Images, Space
from guardclash.errors import UserError
from guardclash.plan.condition import Condition
from guardclash.plan.examples import Data
from guardclash.plan.plan import Context, Plan


@dataclass(frozen=True)
class RotatedMinority(Condition):
    """A minority by construction: a random share of the images is shown rotated by a quarter turn.

    Its task is as hard, but it looks different and is seldom seen. Who belongs to it is a property of an image and not
    of a training: all replicates share it. Training and test images have the same share; `about["group"]` is 1 for the
    minority and 0 for the others.
    """

    name: ClassVar[str] = "rotated-minority"
    spaces: ClassVar[tuple[type[Space], ...]] = (Images,)

    share: float = 0.05
    """Of the images that is rotated, at least one."""

    def __post_init__(self) -> None:
        within(self.name, "> 0, < 1", share=self.share)

    def bind(self, unprotected: Plan) -> RotatedMinority:
        """This condition, once it is known that a turned image has the form of an image."""
        height, width = unprotected.model.shape[-2:]
        if height != width:
            what, allowed = "a quarter turn changes the form of images that are not square", "square images"
            raise UserError(what, where=self.name, got=f"{height} x {width}", allowed=allowed)
        return self

    def train(self, data: Data, context: Context) -> Data:
        """The training images, some of them rotated."""
        return self._grouped(data, context, "train")

    def test(self, data: Data, context: Context) -> Data:
        """The test images, the same share of them rotated."""
        return self._grouped(data, context, "test")

    def _grouped(self, data: Data, context: Context, split: str) -> Data:
        count = max(1, round(self.share * len(data.x)))
        order = torch.randperm(len(data.x), generator=context.under(0).rng(self.name, split))
        group = torch.zeros(len(data.x), dtype=torch.int64)
        group[order[:count]] = 1
        x = data.x.clone()
        x[group == 1] = turned(x[group == 1])
        return replace(data, x=x, about={**data.about, "group": group})

    def views(self, data: Data) -> Data:
        """Every image once as the majority's and once as the minority's, so that both groups have as many.

        Args:
            data: [N] images under this condition.

        Returns:
            [2 N]: all of them upright, then all of them rotated; `about["group"]` says which.
        """
        upright = torch.where((data.about["group"] == 1).view(-1, 1, 1, 1), turned(data.x, -1), data.x)
        return Data(
            torch.cat([upright, turned(upright)]),
            torch.cat([data.y, data.y]),
            {
                **{name: torch.cat([tensor, tensor]) for name, tensor in data.about.items()},
                "group": torch.arange(2).repeat_interleave(len(upright)),
            },
        )


def turned(x: Tensor, quarters: int = 1) -> Tensor:
    """Images [N, C, H, W] turned by quarters of a full turn, counter-clockwise."""
    return torch.rot90(x, quarters, (2, 3))
