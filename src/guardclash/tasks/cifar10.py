"""CIFAR-10 as in the paper, with traffic signs as its neighbour."""

from __future__ import annotations

from dataclasses import replace

from guardclash.data.sets.cifar10 import CIFAR10
from guardclash.tasks.recipe import Recipe
from guardclash.tasks.task import Task

_FULL = Recipe(
    "cifar10",
    "paper",
    epochs=100,
    protected_epochs=200,
    model="resnet20",
    learning_rate=0.1,
    first_learning_rate=0.005,
    augmentation="flip-resized-crop",
)
_SMALLER = replace(_FULL, protected_epochs=None, augmentation="flip-shift")
TASK = Task(
    CIFAR10,
    recipes=(
        _FULL,
        replace(_SMALLER, scale="reduced", epochs=15, examples=20_000, batch_size=128),
        replace(_SMALLER, scale="smoke", epochs=1, examples=256, test_examples=128),
    ),
    neighbour="gtsrb",
)
