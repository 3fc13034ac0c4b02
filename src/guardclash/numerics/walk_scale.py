"""How large the noise of blind walks should be for a network: so that labels change before the walks end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from guardclash.errors import UserError
from guardclash.numerics.walks import BlindWalk


class Calibration(NamedTuple):
    """A blind walk whose noise suits a network.

    Fields:
        walk: With the chosen scale.
        censored: Share of its censored walks in each norm.
        enough: Whether all are below the limit; if not, the last scale of the ladder was taken.
    """

    walk: BlindWalk
    censored: tuple[float, float, float]
    enough: bool


def calibrated(
    walk: BlindWalk,
    predict_label: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    rng: torch.Generator,
    ladder: Iterable[float] = (1, 2, 4, 8, 16),
    limit: float = 0.2,
) -> Calibration:
    """The smallest scale of a ladder with which fewer than `limit` of the walks are censored in every norm.

    Choose it on an unprotected network and images that take no part in the test, and keep it for all networks compared.
    All scales see the same noise; the other arguments are those of the walk.
    """
    scales = sorted(ladder)
    if not scales:
        raise UserError("a ladder of noise scales needs a rung", where="ladder", got=(), allowed="numbers above 0")
    start = rng.get_state()
    for scale in scales:
        rng.set_state(start)
        tried = replace(walk, scale=scale)
        censored = tried(predict_label, x, y, rng).censored
        if max(censored) < limit:
            break
    return Calibration(tried, censored, max(censored) < limit)
