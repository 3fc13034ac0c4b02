"""What somebody brings: a folder with a network, data and a study, for the tests of such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NETS = (Path(__file__).parent / "resnets.py").read_text(encoding="utf-8")
"""A ResNet18 in torchvision's manner."""
TRAINING = {"epochs": 1, "batch_size": 64, "optimizer": "adamw", "learning_rate": 1e-3}
QUICK = (
    "wm",
    {"name": "advtr", "steps": 2, "test_examples": 40},
    "dpsgd",
    {"name": "raddata", "iterations": 2, "held_out": 20},
    {"name": "di", "images": 12, "walks": 2, "scale": 1},
)
"""All five mechanisms of the paper, in little time."""
STUDY = """
replicates = { alone = 1, together = 1 }

[[tasks]]
name = "signs"
data = "signs.npz"
model = "nets.py:build"
utility = "accuracy"
[tasks.training]
epochs = 1
batch_size = 64
optimizer = "adamw"
learning_rate = 1e-3

[[recipes]]
dataset = "signs"
"""
COMBINATION = """
[[combinations]]
mechanisms = [
    "wm",
    { name = "advtr", steps = 2, test_examples = 40 },
    "dpsgd",
    { name = "raddata", iterations = 2, held_out = 20 },
    { name = "di", images = 12, walks = 2, scale = 1 },
]
"""
SMALL = """
[[combinations]]
mechanisms = ["wm", "dpsgd-control"]
"""


def signs(seed: int = 0, train: int = 140, test: int = 105) -> dict[str, NDArray[Any]]:
    """Images 3x40x24 of 7 classes, each a pattern of its own under noise."""
    rng = np.random.default_rng(seed)
    patterns = rng.integers(0, 256, (7, 3, 40, 24))

    def images(count: int) -> tuple[NDArray[Any], NDArray[Any]]:
        y = np.arange(count) % 7
        return ((patterns[y] + rng.integers(0, 256, (count, 3, 40, 24))) // 2).astype(np.uint8), y

    x, y = images(train)
    xt, yt = images(test)
    return {"x_train": x, "y_train": y, "x_test": xt, "y_test": yt}


def write(folder: Path, study: str = STUDY + COMBINATION, nets: str = NETS, **changed: NDArray[Any] | None) -> Path:
    """Writes nets.py, signs.npz and study.toml; some arrays changed, or left out where they are None."""
    arrays = {**signs(), **changed}
    np.savez(folder / "signs.npz", **{name: values for name, values in arrays.items() if values is not None})
    (folder / "nets.py").write_text(nets)
    path = folder / "study.toml"
    path.write_text(study)
    return path
