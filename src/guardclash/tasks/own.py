"""Tasks of somebody's own: data and a network from outside, trained and judged as the built-in ones."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from guardclash.code import Code, code_from
from guardclash.data.dataset import Dataset
from guardclash.data.own.keeping import dataset_of
from guardclash.data.own.origins import ArrayFile, Function, ImageFolder, Origin, TableFile
from guardclash.data.own.task import OwnTask
from guardclash.data.space import Tokens
from guardclash.errors import UserError
from guardclash.handed import path_in
from guardclash.options import built
from guardclash.plan.factory import Factory, check_factory
from guardclash.plan.foreign import weights_file
from guardclash.tasks.recipe import NETWORKS, Recipe, standard
from guardclash.tasks.task import Task

FIXED = ("dataset", "scale", "model", "conditions", "protected_epochs")
"""Fields of a recipe that are not said under `training`."""
TRAINED = {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.01, "epochs": 10}
"""How somebody's own network is trained where nothing is said."""


def open_task(own: OwnTask) -> Task:
    """The task that a study names, its data looked at and its network tried.

    Raises:
        UserError: Data or network cannot be used; the message says why.
    """
    where = f"task {own.name}"
    try:
        return task_of(own, origin_of(own), None)
    except UserError as error:
        raise error if own.name in str(error) else UserError(f"{where}: {error}") from error


def task_of(own: OwnTask, origin: Origin, code: Code | None) -> Task:
    """A task of data and, if the network is built by a function that is at hand, of that."""
    data = dataset_of(own.name, origin, **_given(mean=own.mean, std=own.std))
    return Task(data, _recipes(own, data, code), neighbour=own.neighbour, **_given(utility=own.utility))


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def origin_of(own: OwnTask) -> Origin:
    """Where a task's data come from.

    Raises:
        UserError: Nothing is there, or it is of no known kind.
    """
    where = f"task {own.name}.data"
    path = path_in(own.folder, own.data, where)
    if path.is_dir():
        refuse(own, "a folder", "target", "categories", "groups", "vocabulary", "test")
        size = (own.size, own.size) if isinstance(own.size, int) else own.size
        return ImageFolder(path, size)
    if path.suffix in (".csv", ".parquet"):
        return _table(own, path)
    if path.suffix == ".npz":
        refuse(own, "a .npz file", "target", "categories", "size", "test")
        return ArrayFile(_there(path, where), own.vocabulary, own.groups)
    if ":" in own.data:
        refuse(own, "a function", "target", "categories", "groups", "size", "test")
        return Function(code_from(own.data, own.folder), own.vocabulary)
    allowed = 'a folder, a .npz, .csv or .parquet file, or "module:function"'
    raise UserError("no data that can be read", where=where, got=own.data, allowed=allowed)


def _there(path: Path, where: str) -> Path:
    if not path.is_file():
        raise UserError("there is no such file", where=where, got=str(path))
    return path


def refuse(own: OwnTask, kind: str, *names: str) -> None:
    """Refuses keys that say nothing about such data, and would be silently without effect.

    Raises:
        UserError: One of them is given.
    """
    for name in names:
        if getattr(own, name) not in (None, ()):
            raise UserError(f"{kind} has no {name}", where=f"task {own.name}.{name}", got=getattr(own, name))


def _table(own: OwnTask, path: Path) -> Origin:
    where = f"task {own.name}"
    refuse(own, "a table", "size", "vocabulary")
    if own.target is None:
        mend = 'Name the column that is to be told: target = "income".'
        raise UserError("a table needs a target", where=f"{where}.target", mend=mend)
    test = _there(path_in(own.folder, own.test, f"{where}.test"), f"{where}.test") if own.test else None
    return TableFile(_there(path, f"{where}.data"), own.target, own.groups, own.categories, test)


def _recipes(own: OwnTask, data: Dataset, code: Code | None) -> tuple[Recipe, ...]:
    """How the unprotected model is trained: at full scale, and as far as it takes seconds."""
    where = f"task {own.name}.training"
    fixed = next((name for name, _ in own.training if name in FIXED), None)
    if fixed:
        raise UserError(f"{fixed} is not said here", where=f"{where}.{fixed}", mend="See docs/own-model.md.")
    model = _model(own, data, code)
    usual = {field.name: getattr(standard(data)[0], field.name) for field in dataclasses.fields(Recipe)}
    usual |= {"model": model, "norm": "batch"}
    given = dict(own.training)
    if "norm" in given and isinstance(model, Factory):
        raise UserError("only networks of ours can be built with another norm", where=f"{where}.norm")
    usual |= TRAINED if isinstance(model, Factory) else {}
    # From a tenth of the largest rate, where only that is said; what is no rate is told by its own key.
    rate = given.get("learning_rate", usual["learning_rate"])
    usual["first_learning_rate"] = rate / 10 if isinstance(rate, int | float) else usual["learning_rate"]
    full = built(Recipe, given, where, usual)
    few, tested = min(1_000, data.size("train")), min(500, data.size("test"))
    smoke = replace(full, scale="smoke", epochs=min(2, full.epochs), examples=few, test_examples=tested)
    return full, replace(full, scale="reduced"), smoke


def _model(own: OwnTask, data: Dataset, code: Code | None) -> Any:
    where = f"task {own.name}"
    if code is None and (own.model is None or ":" not in own.model):
        if own.options or own.weights:
            mend = 'Name a function: model = "nets.py:build".'
            raise UserError("only a network of one's own has options and weights", where=where, mend=mend)
        if own.model is not None and own.model not in NETWORKS:
            allowed = f'"file.py:function", or one of ours: {", ".join(NETWORKS)}'
            raise UserError("unknown network", where=f"{where}.model", got=own.model, allowed=allowed)
        return own.model or standard(data)[0].model
    code = code or code_from(cast(str, own.model), own.folder, dict(own.options))
    return factory(code, data, own.weights, own.folder)


def factory(code: Code, data: Dataset, weights: str | None = None, folder: Path = Path()) -> Factory:
    """The network of a function for a data set, tried.

    Raises:
        UserError: It cannot be built, does not take such inputs, or gives something else than logits.
    """
    tokens = (data.space.vocabulary, data.space.padding) if isinstance(data.space, Tokens) else ()
    found = Factory(code, data.shape, data.classes, *tokens)
    if weights:
        path = path_in(folder, weights, "weights")
        found = replace(found, weights=weights_file(path).sha256, weights_at=path)
    check_factory(found)
    return found
