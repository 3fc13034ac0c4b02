"""What every reader of a data set returns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Examples(NamedTuple):
    """The inputs of one split and their classes, in the data set's own order."""

    x: NDArray[Any]
    """[N, *shape] in the type of the data set's space: images as bytes 0 to 255."""
    y: NDArray[np.int64]
    """[N], 0 to classes - 1."""
