"""Recipes: how the unprotected model of a task is trained, at three scales.

`paper` is Table 1 of the paper, `reduced` takes minutes on two cores, `smoke` seconds; a scale says nothing about
quality beyond that, and every record and table carries it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, cast, get_args, get_type_hints

from guardclash.checks import given, one_of, within
from guardclash.data.catalog import find_dataset
from guardclash.data.dataset import Dataset, label_of
from guardclash.data.space import Images, Rows, Space, Tokens
from guardclash.errors import UserError, suggestion
from guardclash.plan.condition import bound_in, tested, under
from guardclash.plan.maps import FlipAndResizedCrop, FlipAndShift
from guardclash.plan.models import CNN, Norm, ResNet, Shape
from guardclash.plan.networks import MLP, MeanEmbedding
from guardclash.plan.objectives import BinaryCrossEntropy
from guardclash.plan.optimizers import SGD, Adam, AdamW, OneCycle
from guardclash.plan.parts import BatchMap, Optimizer
from guardclash.plan.plan import Model, Plan, Source, Stream
from guardclash.plan.samplers import Shuffled
from guardclash.plan.sources import Split
from guardclash.tasks.catalog import find_task


@dataclass(frozen=True)
class Network:
    """An architecture by name."""

    space: type[Space]
    """What inputs it takes."""
    of: Callable[[Dataset, Norm], Model]
    """It for a data set, with a kind of normalisation."""
    small: bool = False
    """Whether it is the one for data sets that nobody has written recipes for."""


def _cnn(data: Dataset, norm: Norm) -> CNN:
    return CNN(cast(Shape, data.shape), data.classes, data.mean, data.std, norm=norm)


NETWORKS = {
    "cnn4": Network(Images, _cnn),
    "cnn4-small": Network(
        Images, lambda data, norm: replace(_cnn(data, norm), widths=(16, 32), hidden=128, dropout=0.0), small=True
    ),
    "resnet20": Network(
        Images, lambda data, norm: ResNet(cast(Shape, data.shape), data.classes, data.mean, data.std, norm=norm)
    ),
    "mlp": Network(Rows, lambda data, norm: MLP(data.shape, data.classes, norm=norm), small=True),
    "mean-embedding": Network(
        Tokens, lambda data, norm: MeanEmbedding(cast(Tokens, data.space), data.classes), small=True
    ),
}
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
    model: Any = field(default="cnn4", metadata={"option": True})
    """For images "cnn4", the published 4-layer CNN, "cnn4-small", a small one of the same kind without dropout, or
    "resnet20", ResNet20 with option A shortcuts; for rows "mlp"; for tokens "mean-embedding". From Python also a frozen
    value with `build()` (see `guardclash.plan.plan.Model`)."""
    norm: Norm = "batch"
    examples: int | None = None
    """Training examples, the first ones of the split; None: all."""
    test_examples: int | None = None
    """Test examples, likewise."""
    batch_size: int = 64
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float = 0.005
    """The largest of the one-cycle schedule."""
    first_learning_rate: float = 0.001
    weight_decay: float = 5e-4
    augmentation: Literal["none", "flip-shift", "flip-resized-crop"] = "none"
    conditions: tuple[Any, ...] = ()
    """`guardclash.plan.condition.Condition`s under which all models are trained, the first one nearest to the data."""

    def __post_init__(self) -> None:
        where = f"recipe {label_of(self.dataset)}"
        counts = {"epochs": self.epochs, "protected_epochs": self.protected_epochs, "batch_size": self.batch_size}
        within(where, ">= 1", **given(**counts))
        for name, allowed in _choices().items():
            one_of(where, allowed, **{name: getattr(self, name)})
        if isinstance(self.model, str) or not hasattr(self.model, "build"):
            one_of(where, NETWORKS, model=self.model)
        if not 0 < self.first_learning_rate <= self.learning_rate:
            raise UserError(
                "the first learning rate must be positive and at most the largest",
                where=where,
                got=self.first_learning_rate,
                allowed=f"> 0, <= learning_rate = {self.learning_rate:g}",
            )

    def plan(self, protected: bool = False) -> Plan:
        """The plan of the unprotected training: one stream, "task"."""
        data, source = find_dataset(self.dataset), Split(self.dataset, "train", self.examples)
        task = Stream("task", source, Shuffled(self.batch_size), maps=self._augmentation(data))
        if data.several_labels:
            task = replace(task, objectives=(BinaryCrossEntropy(),))
        plan = Plan(
            purpose=find_task(self.dataset).purpose(),
            model=self._model(data),
            streams=(task,),
            epochs=(self.protected_epochs or self.epochs) if protected else self.epochs,
            optimizer=self._optimizer(),
            schedule=OneCycle(start=self.first_learning_rate / self.learning_rate),
        )
        return under(plan, self.conditions)

    def test(self) -> Source:
        """Where the utility is measured."""
        test: Source = Split(self.dataset, "test", self.test_examples)
        source = self.plan().task.source
        for condition in bound_in(source):
            test = tested(test, condition)
        return test

    def _augmentation(self, data: Dataset) -> tuple[BatchMap, ...]:
        if self.augmentation != "none" and not isinstance(data.space, Images):
            got, allowed = f"{self.augmentation} for {data.space}", "none"
            where = f"recipe {self.dataset}.augmentation"
            raise UserError("an augmentation of images", where=where, got=got, allowed=allowed)
        return AUGMENTATIONS[self.augmentation]

    def _model(self, data: Dataset) -> Model:
        if not isinstance(self.model, str):
            return cast(Model, self.model)
        network = NETWORKS[self.model]
        if not isinstance(data.space, network.space):
            fitting = [name for name, other in NETWORKS.items() if isinstance(data.space, other.space)]
            got, allowed = f"{self.model} for {data.space}", ", ".join(fitting)
            raise UserError(
                "a network for other inputs", where=f"recipe {label_of(self.dataset)}.model", got=got, allowed=allowed
            )
        return network.of(data, self.norm)

    def _optimizer(self) -> Optimizer:
        rule = {"sgd": SGD, "adam": Adam, "adamw": AdamW}[self.optimizer]
        return rule(self.learning_rate, weight_decay=self.weight_decay)


@cache
def _choices() -> dict[str, tuple[str, ...]]:
    """By field, what its text may be."""
    hints = get_type_hints(Recipe)
    return {name: get_args(hints[name]) for name in ("norm", "optimizer", "augmentation")}


def grey(dataset: str) -> tuple[Recipe, ...]:
    """The paper's training of MNIST and FashionMNIST, and what is left of it at the other scales."""
    paper = Recipe(dataset, "paper", epochs=25, protected_epochs=100)
    small = replace(paper, model="cnn4-small", learning_rate=0.1, first_learning_rate=0.02, protected_epochs=None)
    return (
        # Table 1 counts 50,000 MNIST images, the data set's own split is 60,000; all are used.
        paper,
        replace(small, scale="reduced", epochs=6, examples=20_000, batch_size=256),
        replace(small, scale="smoke", epochs=1, examples=1_000, test_examples=500, batch_size=64),
    )


def standard(data: Dataset) -> tuple[Recipe, ...]:
    """Recipes for a data set that nobody has written some for: the smallest network for its inputs.

    Returns:
        One for each scale; none if there is nothing to train on.
    """
    if not {"train", "test"} <= set(data.splits):
        return ()
    model = next(name for name, network in NETWORKS.items() if isinstance(data.space, network.space) and network.small)
    large = data.size("train") >= 10_000
    full = Recipe(data.name, "paper", epochs=25, model=model, learning_rate=0.1, first_learning_rate=0.02)
    some = min(20_000, data.size("train"))
    few, tested = min(1_000, data.size("train")), min(500, data.size("test"))
    return (
        full,
        replace(full, scale="reduced", epochs=6 if large else 20, examples=some, batch_size=256 if large else 64),
        replace(full, scale="smoke", epochs=2, examples=few, test_examples=tested),
    )


def recipe(dataset: str, scale: str = "reduced", **overrides: Any) -> Recipe:
    """The recipe of a task at a scale.

    Args:
        dataset: Name of the task's data set.
        scale: "paper", "reduced" or "smoke".
        overrides: Fields of `Recipe` to change.

    Raises:
        UserError: If there is no such task, recipe or field.

    Example:
        >>> recipe("mnist", "reduced", epochs=2).epochs
        2
    """
    found = find_task(dataset)
    scales: dict[str, Any] = {one.scale: one for one in found.recipes}
    if scale not in scales:
        allowed = ", ".join(scales) or "none"
        raise UserError("there is no such recipe", where=f"recipe {label_of(dataset)}", got=scale, allowed=allowed)
    fields = {field.name for field in dataclasses.fields(Recipe)}
    for name in overrides:
        if name not in fields:
            raise UserError(f"unknown key {name!r}", where=f"recipe {dataset}", mend=suggestion(name, fields))
    return cast(Recipe, replace(scales[scale], **overrides))
