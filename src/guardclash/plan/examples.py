"""Labelled examples with what is known about each, and the moment of a training at which a batch of them is used."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from torch import Tensor

from guardclash.errors import UserError


# Without ==, which tensors answer entry by entry.
@dataclass(frozen=True, eq=False)
class Data:
    """Labelled inputs in memory: all of a source, or a batch of them.

    Whoever only reads may unpack it, `x, y = data`. Whoever makes examples of others uses `take`, `each` or
    `dataclasses.replace(data, x=...)`, which hand `about` on.

    Raises:
        UserError: If the tensors are not about the same number of examples, or a weight is not one number.
    """

    x: Tensor
    """Images, float32 [N, C, H, W] in [0, 1]; rows, float32 [N, columns]; tokens, int64 [N, length]."""
    y: Tensor
    """Class indices, int64 [N]; or vectors, float32 [N, classes], such as the probabilities that another model gave.

    A vector need not be a distribution: cross entropy is -sum(y log p), whatever its entries. Of several labels
    (`Purpose.several_labels`) it says 1 of each class that the example has."""
    about: Mapping[str, Tensor] = field(default_factory=dict)
    """What else is known about each example, by name: tensors [N] (or [N, ...]).

    `weight` (float32 [N]) is what a training multiplies the example's loss by; 1 where there is none. Other names, such
    as `group`, `poisoned` or `index`, mean what those who set and read them agree upon."""

    def __post_init__(self) -> None:
        size = len(self.x)
        for name, tensor in (("y", self.y), *((f"about.{name}", tensor) for name, tensor in self.about.items())):
            if tensor.shape[:1] != (size,):
                raise UserError("one entry per example", where=name, got=tuple(tensor.shape), allowed=f"[{size}, ...]")
        weight = self.about.get("weight")
        if weight is not None and not (weight.dim() == 1 and weight.is_floating_point()):
            got = f"{weight.dtype} {list(weight.shape)}"
            raise UserError("a weight is one number per example", where="about.weight", got=got, allowed=f"[{size}]")

    def __iter__(self) -> Iterator[Tensor]:
        """Images and labels."""
        return iter((self.x, self.y))

    def each(self, change: Callable[[Tensor], Tensor]) -> Data:
        """The same change to all tensors."""
        return Data(change(self.x), change(self.y), {name: change(tensor) for name, tensor in self.about.items()})

    def take(self, chosen: Tensor | slice) -> Data:
        """Some of the examples: indices, a mask [N], or a slice."""
        return self.each(lambda tensor: tensor[chosen])


@dataclass(frozen=True)
class Moment:
    """When in a training a batch is used, and what the part that uses it remembers of earlier ones.

    `Moment()` is the first one, with nothing to remember.
    """

    epoch: int = 0
    """From 0."""
    step: int = 0
    """Batches of the same stream before this one, in the whole training."""
    share: float = 0.0
    """How much of the training is done, in [0, 1): in steps of the first stream, as schedules count."""
    memory: dict[str, Tensor] = field(default_factory=dict)
    """Kept from one batch to the next, for this part of this stream in this training alone. What is put in carries the
    influence of examples to later ones, so such a part says `mixes_examples = True`."""


def class_indices(y: Tensor) -> Tensor:
    """Labels as class indices, int64 [N]: a vector stands for its largest entry, the first of equal ones.

    Not for tasks of several labels, whose examples have no class: who calls it says `one_class = True`.
    """
    return y if y.dim() == 1 else y.argmax(1)


def refuse_other_forms(parts: Iterable[object], where: str, named: str, returns: str) -> None:
    """Checks how maps or objectives are called.

    Args:
        parts: What is called with a network and a batch.
        where: Their place.
        named: What else they are given, by name, with commas between.
        returns: What they give back, in words.

    Raises:
        UserError: If one cannot be called so, such as one written before a batch was one value.
    """
    for part in parts:
        if not callable(part) or not _takes(type(part), tuple(named.split(", "))):  # type: ignore[arg-type]
            form = f"__call__(self, network, batch, {named}) -> {returns}"
            mend = f"Write {form}; batch.x and batch.y are images and labels."
            raise UserError("a part that cannot be called with a batch", where=where, got=part, mend=mend)


# Asked for every stream that is made, and all parts of a class have one answer.
@lru_cache
def _takes(kind: type, named: tuple[str, ...]) -> bool:
    call: Any = kind.__call__
    try:
        # In the places of self, network and batch.
        inspect.signature(call).bind(None, None, None, **dict.fromkeys(named))
    except TypeError:
        return False
    return True
