"""Tasks and studies without a file: what somebody in a notebook writes, as the same values that a study file gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from guardclash.code import code_of
from guardclash.data.own.memory import array, pair
from guardclash.data.own.origins import Memory
from guardclash.data.own.task import OwnTask
from guardclash.errors import UserError
from guardclash.registry import adopt_tasks
from guardclash.studies import study
from guardclash.studies.study_file import study_from
from guardclash.tasks import task
from guardclash.tasks.own import open_task, origin_of, refuse, task_of

Brought = Any
"""(x, y), arrays or tensors, or a map-style data set, which is read once into memory."""


def Task(  # noqa: PLR0913  (stands where a class would; named arguments are its keys)
    name: str,
    *,
    data: str | None = None,
    train: Brought = None,
    test: Brought = None,
    ood: Any = None,
    groups: Any = None,
    model: str | Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    **more: Any,
) -> task.Task:
    """A task of somebody's own, as `[[tasks]]` of a study file is.

    Args:
        name: How reports call it.
        data: A file or folder, relative to the working folder; or nothing, and `train`.
        train: Training examples: (x, y), arrays or tensors, or a map-style data set. Images are uint8 or floats in
            [0, 1], [N, C, H, W]; rows floats [N, columns]; tokens integers [N, length]. Labels are integers from 0 on.
        test: Test examples likewise; None: one of five training examples is set apart.
        ood: Inputs [N, ...] of the same form that are no examples of the task, or None.
        groups: Groups of the training and of the test examples, two arrays; of a table, the name of a column.
        model: A function or class that gives an `nn.Module`, called with `classes` and `shape` as far as it takes
            them, or "file.py:function"; or one of our networks by name; None: the smallest of ours.
        options: What the function is called with beside these.
        training: How the unprotected model is trained, such as `{"epochs": 5, "optimizer": "adamw"}`.
        more: Other keys of `[[tasks]]`, such as `utility`, `weights`, `neighbour`.

    Returns:
        The task, for `Study`.

    Raises:
        UserError: Data or network cannot be used; the message says why.
    """
    tables = {"options": options, "training": training}
    given: dict[str, Any] = {key: tuple(sorted((table or {}).items())) for key, table in tables.items()}
    text = model if isinstance(model, str) or model is None else None
    column = groups if isinstance(groups, str) else None
    own = OwnTask(name, data or "", model=text, groups=column, **given, **_plain(more), folder=Path.cwd())
    code = None if model is None or isinstance(model, str) else code_of(model, options)
    if data is None:
        refuse(own, "a pair of arrays", "target", "categories", "groups", "size", "test")
        arrays = _arrays(name, train, test, ood, groups)
        found = task_of(own, Memory(arrays, f"task {name}", own.vocabulary), code)
    elif train is not None or test is not None or ood is not None:
        raise UserError("data come from one place", where=f"task {name}", allowed="data, or train and test")
    else:
        found = open_task(own) if code is None else task_of(own, origin_of(own), code)
    adopt_tasks((found,))  # so that its recipes are plans at once, without a study
    return found


def _plain(more: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in more.items()}


def _arrays(name: str, train: Brought, test: Brought, ood: Any, groups: Any) -> dict[str, Any]:
    if train is None:
        raise UserError("a task needs examples to train on", where=f"task {name}", allowed="train=(x, y), or data=...")
    x, y = pair(train, f"task {name}, train")
    found = {"x_train": x, "y_train": y}
    if test is not None:
        found["x_test"], found["y_test"] = pair(test, f"task {name}, test")
    if ood is not None:
        found["x_ood"] = array(ood, f"task {name}, ood")
    if groups is not None:
        parts = groups if isinstance(groups, tuple | list) and test is not None else (groups,)
        splits = zip(("group_train", "group_test"), parts, strict=False)
        found |= {split: array(part, f"task {name}, groups") for split, part in splits}
    return found


def Study(
    tasks: task.Task | Sequence[task.Task],
    combinations: Iterable[Sequence[str | Mapping[str, Any]] | Mapping[str, Any]],
    *,
    name: str = "study",
    scale: str = "reduced",
    recipe: Mapping[str, Any] | None = None,
    **more: Any,
) -> study.Study:
    """A study of one's own tasks, as a study file describes it.

    Args:
        tasks: One or several.
        combinations: Each the mechanisms of one, by name or as a table with options:
            `["wm", {"name": "dpsgd", "epsilon": 3}]`.
        name: Under which its results are kept.
        scale: "paper" and "reduced" train as the task says, "smoke" on few examples.
        recipe: What else the recipes say, such as conditions.
        more: Other keys of a study file, such as `replicates`, `suspects`, `measures`, `rule`.

    Returns:
        The study, for `run_study`, `verdicts` and reports.

    Raises:
        UserError: Something is unknown or not allowed.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.random((40, 1, 8, 8)), np.arange(40) % 2
        >>> Study(Task("noise", train=(x, y)), [["wm", "dpsgd"]]).recipes[0].name
        'noise'
    """
    given = tuple(tasks) if isinstance(tasks, Sequence) else (tasks,)
    table = {
        "recipes": [{"dataset": one.data.label, "scale": scale, **(recipe or {})} for one in given],
        "combinations": [one if isinstance(one, Mapping) else {"mechanisms": list(one)} for one in combinations],
        **more,
    }
    return replace(study_from(table, name=name), tasks=given)
