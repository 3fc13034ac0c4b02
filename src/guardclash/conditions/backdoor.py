"""A poisoner among those who give training data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from guardclash.checks import within
from guardclash.data.space import Images, Space
from guardclash.errors import UserError
from guardclash.plan.condition import Condition
from guardclash.plan.examples import Data, class_indices
from guardclash.plan.plan import Context, Plan


@dataclass(frozen=True)
class Backdoor(Condition):
    """A backdoor in the training data: some images bear a white square and the label that the poisoner wants.

    Drawn anew for every seed among the images of other classes. The test images stay clean; `backdoor_success` measures
    what a model makes of the square. `about["poisoned"]` says which images it is.
    """

    name: ClassVar[str] = "backdoor"
    threat: ClassVar[bool] = True
    spaces: ClassVar[tuple[type[Space], ...]] = (Images,)
    one_class: ClassVar[bool] = True

    rate: float = 0.01
    """Share of the training images that is poisoned, at least one."""
    target: int = 0
    """The class that the square stands for."""
    patch: int = 3
    """Side of the square in pixels, one pixel from the lower right corner (Gu et al. 2017)."""

    def __post_init__(self) -> None:
        within("backdoor", "> 0, < 1", rate=self.rate)
        within("backdoor", ">= 0", target=self.target)
        within("backdoor", ">= 1", patch=self.patch)

    def bind(self, unprotected: Plan) -> Backdoor:
        """This backdoor, once it is known that the task has its target and room for its square."""
        classes, side = unprotected.model.classes, min(unprotected.model.shape[-2:])
        if self.target >= classes:
            raise UserError("no such class", where="backdoor.target", got=self.target, allowed=f"below {classes}")
        if self.patch + 1 > side:
            what, allowed = "the square does not fit into the images", f"at most {side - 1}"
            raise UserError(what, where="backdoor.patch", got=self.patch, allowed=allowed)
        return self

    def train(self, data: Data, context: Context) -> Data:
        """The images, the poisoned ones among them."""
        labels = class_indices(data.y)
        others = (labels != self.target).nonzero().flatten()
        count = max(1, round(self.rate * len(labels)))
        if count > len(others):
            allowed = f"at most {len(others)} of {len(labels)}"
            raise UserError("too few images of other classes", where="backdoor.rate", got=count, allowed=allowed)
        chosen = others[torch.randperm(len(others), generator=context.rng("backdoor"))[:count]]
        poisoned = torch.zeros(len(labels), dtype=torch.bool)
        poisoned[chosen] = True
        x, y = data.x.clone(), data.y.clone()
        x[chosen] = self.stamped(x[chosen])
        y[chosen] = torch.eye(y.shape[1], dtype=y.dtype)[self.target] if y.dim() > 1 else self.target
        return replace(data, x=x, y=y, about={**data.about, "poisoned": poisoned})

    def stamped(self, x: Tensor) -> Tensor:
        """Images [N, C, H, W] with the square."""
        marked = x.clone()
        marked[..., -1 - self.patch : -1, -1 - self.patch : -1] = 1.0
        return marked
