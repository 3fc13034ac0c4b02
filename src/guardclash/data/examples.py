"""What every reader of a data set returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


# Without ==, which arrays answer entry by entry.
@dataclass(frozen=True, eq=False)
class Examples:
    """The inputs of one split and their classes, in the data set's own order; unpacks as `x, y`."""

    x: NDArray[Any]
    """[N, *shape] in the type of the data set's space: images as bytes 0 to 255, or as float32 in [0, 1]."""
    y: NDArray[Any]
    """Class indices, int64 [N], 0 to classes - 1; or, where an example may have several labels, float32 [N, classes] of
    0 and 1."""
    about: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """What else is known about each example, by name, [N]: `group` and the like, as int64."""

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Inputs and labels."""
        return iter((self.x, self.y))
