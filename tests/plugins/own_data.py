"""A data set of a user's own, with a task and its neighbour: what lies in own.npz and near.npz of the data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guardclash.data.dataset import Dataset
from guardclash.data.examples import Examples
from guardclash.data.space import Images
from guardclash.tasks.recipe import Recipe
from guardclash.tasks.task import Task


@dataclass(frozen=True)
class Npz:
    """Reads arrays x_train, y_train, x_test, y_test."""

    file: str

    def __call__(self, split: str, folder: Path) -> Examples:
        arrays = np.load(folder / self.file)
        return Examples(arrays[f"x_{split}"], arrays[f"y_{split}"])


SIZES = (("train", 256), ("test", 200))
OWN = Dataset("own", "Own digits", Images((1, 8, 8)), 10, SIZES, Npz("own.npz"))
NEAR = Dataset("near", "Own patches", Images((1, 8, 8)), 2, SIZES, Npz("near.npz"))
TASK = Task(
    OWN,
    recipes=(
        Recipe("own", "smoke", epochs=1, model="cnn4-small", learning_rate=0.1, first_learning_rate=0.02, examples=96),
    ),
    neighbour="near",
    mark_radius=64,
)
