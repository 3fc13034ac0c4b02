"""The paper's protocol on the bundled digits; not in the paper."""

from __future__ import annotations

from dataclasses import replace

from guardclash.data.sets.digits import DIGITS
from guardclash.tasks.recipe import Recipe
from guardclash.tasks.task import Task

_FULL = Recipe(
    "digits",
    "paper",
    epochs=25,
    protected_epochs=100,
    model="cnn4-small",
    learning_rate=0.1,
    first_learning_rate=0.02,
)
TASK = Task(
    DIGITS,
    recipes=(
        _FULL,
        replace(_FULL, scale="reduced", epochs=20, protected_epochs=None),
        replace(_FULL, scale="smoke", epochs=2, protected_epochs=None, examples=256, test_examples=128),
    ),
    neighbour="photo-patches",
    mark_radius=64,
)
