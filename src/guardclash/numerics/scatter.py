"""Images as points of a plane, for figures of marks: what `planes.py` finds and records keep. No numpy, no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Points = tuple[tuple[float, float], ...]
"""Points (x, y)."""
MOST = 40
"""Points of a group in the records."""


@dataclass(frozen=True)
class Scatter:
    """Clean images against marks, in a plane."""

    caption: str
    """What a reader should look for, in a few sentences."""
    axes: tuple[str, str]
    """What is along x and y: the projection, with its share of the variance where there is one."""
    clean: Mapping[str, Points]
    """Images without marks, by the name of their group."""
    marks: Mapping[str, Points]
    """Images that carry marks, or are marks, by the name of their group."""

    def to_dict(self) -> dict[str, Any]:
        """JSON data: of each group at most `MOST` points, evenly taken, four digits each; empty groups are left out.

        Raises:
            ValueError: A point is no pair of numbers.
        """
        groups = {"clean": self.clean, "marks": self.marks}
        kept = {
            kind: {name: _kept(name, points) for name, points in of.items() if points} for kind, of in groups.items()
        }
        return {"caption": self.caption, "axes": list(self.axes), **kept}


def scatter_from(record: Mapping[str, Any]) -> Scatter:
    """The scatter of which `to_dict` gave the data."""
    clean, marks = (
        {name: tuple(zip(points["x"], points["y"], strict=True)) for name, points in record[kind].items()}
        for kind in ("clean", "marks")
    )
    x, y = record["axes"]
    return Scatter(record["caption"], (x, y), clean, marks)


def _kept(name: str, points: Points) -> dict[str, list[float]]:
    """In two lists, which take less room than pairs."""
    count = min(MOST, len(points))
    taken = [points[round(place * (len(points) - 1) / max(1, count - 1))] for place in range(count)]
    if not all(len(point) == 2 and all(map(math.isfinite, point)) for point in taken):
        raise ValueError(f"the group {name!r} of a scatter has points that are no pairs of numbers")
    xs, ys = ([float(f"{value:.4g}") for value in values] for values in zip(*taken, strict=True))
    return {"x": xs, "y": ys}
