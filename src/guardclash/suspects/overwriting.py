"""The victim with a second mark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from guardclash.suspects.fine_tuning import FineTuning


@dataclass(frozen=True)
class Overwriting(FineTuning):
    """Overwriting: the victim, fine-tuned with marks of the thief's own, of the kinds that it bears.

    The thief draws its own secrets, such as trigger images, so that two parties then claim the model.
    """

    kind: ClassVar[str] = "overwriting"
    overwrites: ClassVar[bool] = True
