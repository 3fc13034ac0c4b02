"""Recipes: how the unprotected model of a data set is trained, at three scales.

`paper` is Table 1 of the paper, `reduced` takes minutes on two cores, `smoke` seconds; a scale says nothing about
quality beyond that, and every record and table carries it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

from guardclash.data.catalog import Dataset, find_dataset
from guardclash.errors import UserError, suggestion
from guardclash.plan.maps import FlipAndResizedCrop, FlipAndShift
from guardclash.plan.models import CNN, Norm, ResNet
from guardclash.plan.optimizers import SGD, Adam, OneCycle
from guardclash.plan.plan import BatchMap, Model, Optimizer, Plan, Stream
from guardclash.plan.samplers import Shuffled
from guardclash.plan.sources import Split

Scale = Literal["paper", "reduced", "smoke"]
AUGMENTATIONS: dict[str, tuple[BatchMap, ...]] = {
    "none": (),
    "flip-shift": (FlipAndShift(),),
    "flip-resized-crop": (FlipAndResizedCrop(),),
}


@dataclass(frozen=True)
class Recipe:
    """How the unprotected model of a data set is trained. A study may override each field."""

    dataset: str
    scale: Scale
    epochs: int
    protected_epochs: int | None = None
    """Epochs as soon as a mechanism is there (Table 1: 25 baseline, 100 protected); None: the same."""
    model: Literal["cnn4", "cnn4-small", "resnet20"] = "cnn4"
    """The published 4-layer CNN; a small one of the same kind without dropout; ResNet20 with option A shortcuts."""
    norm: Norm = "batch"
    examples: int | None = None
    """Training examples, the first ones of the split; None: all."""
    test_examples: int | None = None
    """Test examples, likewise."""
    batch_size: int = 64
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: float = 0.005
    """The largest of the one-cycle schedule."""
    first_learning_rate: float = 0.001
    weight_decay: float = 5e-4
    augmentation: Literal["none", "flip-shift", "flip-resized-crop"] = "none"

    def __post_init__(self) -> None:
        for name in ("epochs", "protected_epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1", where=f"recipe {self.dataset}", got=value, allowed=">= 1")
        hints = get_type_hints(Recipe)
        for name in ("model", "norm", "optimizer", "augmentation"):
            got, allowed = getattr(self, name), get_args(hints[name])
            if got not in allowed:
                where = f"recipe {self.dataset}.{name}"
                raise UserError("unknown choice", where=where, got=got, allowed=", ".join(allowed))
        if not 0 < self.first_learning_rate <= self.learning_rate:
            raise UserError(
                "the first learning rate must be positive and at most the largest",
                where=f"recipe {self.dataset}",
                got=self.first_learning_rate,
                allowed=f"> 0, <= learning_rate = {self.learning_rate:g}",
            )

    def plan(self, protected: bool = False) -> Plan:
        """The plan of the unprotected training: one stream, "task"."""
        source = Split(self.dataset, "train", self.examples)
        task = Stream("task", source, Shuffled(self.batch_size), maps=AUGMENTATIONS[self.augmentation])
        return Plan(
            model=self._model(find_dataset(self.dataset)),
            streams=(task,),
            epochs=(self.protected_epochs or self.epochs) if protected else self.epochs,
            optimizer=self._optimizer(),
            schedule=OneCycle(start=self.first_learning_rate / self.learning_rate),
        )

    def test(self) -> Split:
        """Where accuracy is measured."""
        return Split(self.dataset, "test", self.test_examples)

    def _model(self, data: Dataset) -> Model:
        if self.model == "resnet20":
            return ResNet(data.shape, data.classes, data.mean, data.std, norm=self.norm)
        network = CNN(data.shape, data.classes, data.mean, data.std, norm=self.norm)
        small = self.model == "cnn4-small"
        return replace(network, widths=(16, 32), hidden=128, dropout=0.0) if small else network

    def _optimizer(self) -> Optimizer:
        if self.optimizer == "adam":
            return Adam(self.learning_rate, weight_decay=self.weight_decay)
        return SGD(self.learning_rate, weight_decay=self.weight_decay)


def _grey(dataset: str) -> tuple[Recipe, ...]:
    paper = Recipe(dataset, "paper", epochs=25, protected_epochs=100)
    small = replace(paper, model="cnn4-small", learning_rate=0.1, first_learning_rate=0.02, protected_epochs=None)
    return (
        # Table 1 counts 50,000 MNIST images, the data set's own split is 60,000; all are used.
        paper,
        replace(small, scale="reduced", epochs=6, examples=20_000, batch_size=256),
        replace(small, scale="smoke", epochs=1, examples=1_000, test_examples=500, batch_size=64),
    )


_CIFAR10 = Recipe(
    "cifar10",
    "paper",
    epochs=100,
    protected_epochs=200,
    model="resnet20",
    learning_rate=0.1,
    first_learning_rate=0.005,
    augmentation="flip-resized-crop",
)
_DIGITS = Recipe(
    "digits",
    "paper",
    epochs=25,
    protected_epochs=100,
    model="cnn4-small",
    learning_rate=0.1,
    first_learning_rate=0.02,
)
RECIPES: dict[tuple[str, str], Recipe] = {
    (recipe.dataset, recipe.scale): recipe
    for recipe in (
        *_grey("mnist"),
        *_grey("fmnist"),
        _CIFAR10,
        replace(
            _CIFAR10,
            scale="reduced",
            epochs=15,
            protected_epochs=None,
            examples=20_000,
            batch_size=128,
            augmentation="flip-shift",
        ),
        replace(
            _CIFAR10,
            scale="smoke",
            epochs=1,
            protected_epochs=None,
            examples=256,
            test_examples=128,
            augmentation="flip-shift",
        ),
        _DIGITS,  # not in the paper: its protocol on the bundled data
        replace(_DIGITS, scale="reduced", epochs=20, protected_epochs=None),
        replace(_DIGITS, scale="smoke", epochs=2, protected_epochs=None, examples=256, test_examples=128),
    )
}


def recipe(dataset: str, scale: str = "reduced", **overrides: Any) -> Recipe:
    """The recipe of a data set at a scale.

    Args:
        dataset: Name of a data set.
        scale: "paper", "reduced" or "smoke".
        overrides: Fields of `Recipe` to change.

    Raises:
        UserError: If there is no such data set, recipe or field.

    Example:
        >>> recipe("mnist", "reduced", epochs=2).epochs
        2
    """
    find_dataset(dataset)
    if (dataset, scale) not in RECIPES:
        known = sorted({f"{name}/{level}" for name, level in RECIPES})
        raise UserError(f"there is no recipe {dataset}/{scale}", mend=suggestion(f"{dataset}/{scale}", known))
    fields = {field.name for field in dataclasses.fields(Recipe)}
    for name in overrides:
        if name not in fields:
            raise UserError(f"unknown key {name!r}", where=f"recipe {dataset}", mend=suggestion(name, fields))
    return replace(RECIPES[dataset, scale], **overrides)
