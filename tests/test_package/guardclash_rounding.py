"""A mechanism and a data set in a package of somebody else's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from guardclash.checks import within
from guardclash.data.dataset import Dataset
from guardclash.data.examples import Examples
from guardclash.data.space import Images
from guardclash.judging.criteria import MaxDrop, Metric
from guardclash.mechanism import Mechanism
from guardclash.plan.plan import Context, Plan, Predict
from guardclash.plan.sources import Split
from guardclash.training.trained import Trained


def read_dots(split: str, folder: Path) -> Examples:
    """Eight bright dots, one per class."""
    x = np.zeros((8, 1, 8, 8), dtype=np.uint8)
    x[range(8), 0, range(8), range(8)] = 255
    return Examples(x, np.arange(8, dtype=np.int64))


DOTS = Dataset("dots", "Dots", Images((1, 8, 8)), 8, (("train", 8), ("test", 8)), read_dots)


@dataclass(frozen=True)
class Rounding(Mechanism):
    """Rounded answers: a thief who queries the model learns less from each answer."""

    name: ClassVar[str] = "rounding"
    concern: ClassVar[str] = "model extraction"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("rounded", "φ_ROUND", MaxDrop(0.1)),)

    decimals: int = 1
    dots: Any = None
    """What answers are counted on. From Python only."""

    def __post_init__(self) -> None:
        within("rounding", ">= 0", decimals=self.decimals)

    def bind(self, unprotected: Plan) -> Rounding:
        return replace(self, dots=self.dots or Split("dots", "test"))

    def serve(self, predict: Predict, trained: Trained, context: Context) -> Predict:
        def rounded(x: Tensor) -> Tensor:
            return predict(x).softmax(1).round(decimals=self.decimals)

        return rounded

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        answers = trained.predict(context.data(self.dots).x)
        return {"rounded": (answers == answers.round(decimals=self.decimals)).double().mean().item()}
