"""Examples by groups: which group each belongs to, and sources that say so or weigh by it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guardclash.checks import one_of
from guardclash.errors import UserError
from guardclash.numerics.fairness import balance, cells, reweighing
from guardclash.plan.condition import viewing
from guardclash.plan.examples import Data, class_indices
from guardclash.plan.plan import Context, Source

GROUP = "group"
"""What a recipe's conditions call the group of an example."""
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """How examples are put into groups."""

    attribute: str | None = None
    """The name of what is known about examples; None: the groups of the recipe (`about["group"]`), and where it has
    none the classes."""
    by_label: bool = False
    """Whether those of one group with different labels are groups of their own."""

    def named(self, data: Data) -> Labels | None:
        """The group of each example, [N]; None: nothing is known, so that the classes are the groups.

        Raises:
            UserError: The attribute is not known of these examples, or is no whole number.
        """
        name = GROUP if self.attribute is None else self.attribute
        found = data.about.get(name)
        if found is None:
            if self.attribute is None:
                return None
            allowed = ", ".join(sorted(data.about)) or "none: nothing is known about these examples"
            raise UserError("no such attribute of the examples", where=GROUP, got=name, allowed=allowed)
        if found.dim() != 1 or found.is_floating_point():
            allowed = "one whole number per example"
            raise UserError("this tells no groups", where=GROUP, got=f"{name}: {found.dtype}", allowed=allowed)
        return cells(found.long().numpy())

    def of(self, data: Data) -> Labels:
        """The group of each example, [N], dense from 0 on."""
        named, labels = self.named(data), class_indices(data.y).numpy()
        if named is None:
            return cells(labels)
        return cells(labels, named) if self.by_label else named


def by_label(attribute: str | None, asked: bool | None, classes: int) -> bool:
    """Whether labels split groups: as asked, else where a named attribute meets two classes.

    There a model is accurate on a whole group by never telling the rarer class.
    """
    return asked if asked is not None else attribute is not None and classes == 2


@dataclass(frozen=True)
class Weighted:
    """Examples of another source that count by how many there are of their group."""

    images: Source
    groups: Groups
    scheme: str = "balance"
    """"balance": all groups count alike; "reweighing": label and group are independent."""

    def __post_init__(self) -> None:
        one_of("", ("balance", "reweighing"), scheme=self.scheme)

    @property
    def size(self) -> int:
        """As many."""
        return self.images.size

    def load(self, context: Context) -> Data:
        """The examples with their weights, multiplied by those that they had.

        Raises:
            UserError: Label and group shall be independent, and no groups are known.
        """
        data = context.data(self.images)
        if self.scheme == "reweighing":
            named = self.groups.named(data)
            if named is None:
                what, mend = "label and group cannot be made independent without groups", 'Use scheme = "balance".'
                raise UserError(what, where="scheme", got=self.scheme, mend=mend)
            found = reweighing(class_indices(data.y).numpy(), named)
        else:
            found = balance(self.groups.of(data))
        weight = torch.from_numpy(found).float()
        before = data.about.get("weight")
        return replace(data, about={**data.about, "weight": weight if before is None else before * weight})


MEMBER, SIZES = "group_of", "group_sizes"
"""What `Numbered` says about an example: its group, and how many examples every group has."""


@dataclass(frozen=True)
class Numbered:
    """Examples of another source that say to which group they belong, and how large all groups are."""

    images: Source
    groups: Groups

    @property
    def size(self) -> int:
        """As many."""
        return self.images.size

    def load(self, context: Context) -> Data:
        """The examples; sizes are [N, groups], the same for all."""
        data = context.data(self.images)
        return _numbered(data, torch.from_numpy(self.groups.of(data)))

    def pretended(self, data: Data) -> Data:
        """As many examples, by turns of two groups: what a step costs depends little on how many there are."""
        return _numbered(data, torch.arange(len(data.x)) % 2)


def _numbered(data: Data, own: Tensor) -> Data:
    sizes = torch.bincount(own).expand(len(own), -1)
    return replace(data, about={**data.about, MEMBER: own, SIZES: sizes.contiguous()})


def in_every_view(test: Any, data: Data) -> Data:
    """Test examples as every group's, where a condition of the recipe can show them so, else as they are.

    Else a small group would be judged on few examples.

    Args:
        test: Where they come from.
        data: What it holds.
    """
    condition = viewing(test)
    return data if condition is None else condition.views(data)
