"""Mistakes that a dry run finds, and in whose line they are."""

from __future__ import annotations

import sysconfig
import traceback
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from guardclash.registry import GROUP

OURS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mistake:
    """Something that would have failed."""

    text: str
    """What, and in which file and line."""
    where: str
    """The first cell in which it was met."""

    def __str__(self) -> str:
        return f"{self.text} ({self.where})"


def line_of(error: BaseException) -> str:
    """Where an error came from: the innermost line of somebody's own file, else of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [frame for frame in frames if not _is_library(Path(frame.filename))]
    frame = (foreign or [one for one in frames if Path(one.filename).is_relative_to(OURS)] or list(frames))[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"


def _is_library(path: Path) -> bool:
    """Whether a file is nobody's own: of ours, of Python, or installed; but for packages that announce plugins."""
    installed = [Path(sysconfig.get_paths()[kind]) for kind in ("purelib", "platlib")]
    place = next((path.relative_to(folder).parts[0] for folder in installed if path.is_relative_to(folder)), None)
    if place is not None:
        return place.removesuffix(".py") not in {entry.value.partition(".")[0] for entry in entry_points(group=GROUP)}
    ours = path.is_relative_to(OURS) or path.is_relative_to(sysconfig.get_paths()["stdlib"])
    return ours or str(path).startswith("<")
