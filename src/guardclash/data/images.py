"""What every reader of a data set returns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Images(NamedTuple):
    """The images of one split and their classes, in the data set's own order."""

    x: NDArray[np.uint8]
    """[N, C, H, W], 0 to 255."""
    y: NDArray[np.int64]
    """[N], 0 to classes - 1."""
