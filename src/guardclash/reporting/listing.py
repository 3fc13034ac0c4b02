"""What can be used by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from rich import box
from rich.console import Group
from rich.table import Table

from guardclash.reporting.screen import literal

if TYPE_CHECKING:
    from guardclash.data.dataset import Dataset
    from guardclash.mechanism import Mechanism
    from guardclash.tasks.task import Task

WRITTEN = (bool, int, float, str, Path, NoneType)
"""What values in study files are made of."""


def listing(
    mechanisms: Iterable[type[Mechanism]],
    others: Mapping[str, Mapping[str, type]],
    datasets: Iterable[Dataset],
    tasks: Mapping[str, Task],
) -> Group:
    """Tables of what studies can name: mechanisms, other things by kind, data sets with their tasks.

    Options are those that a study file can give.
    """
    tables = (_others(title, found) for title, found in others.items())
    return Group(_mechanisms(mechanisms), *tables, _datasets(datasets, tasks))


def _mechanisms(mechanisms: Iterable[type[Mechanism]]) -> Table:
    table = Table(
        "name",
        "concern",
        "metrics",
        "options and defaults",
        "what it is",
        title="Mechanisms",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for cls in sorted(mechanisms, key=lambda cls: cls.name):
        metrics = ", ".join(_symbols(cls)) or "-"
        table.add_row(*map(literal, (cls.name, cls.concern, metrics, _options(cls), _card(cls))))
    return table


def _symbols(cls: type[Mechanism]) -> list[str]:
    return list(dict.fromkeys(metric.symbol for measure in measures_of(cls) for metric in measure.metrics))


def measures_of(cls: Any) -> tuple[Any, ...]:
    """All that shows that a mechanism works, with its defaults; a measure itself."""
    try:
        return tuple(cls().measures())
    except Exception:  # of a plugin that needs arguments, and of what is no mechanism: its own metrics are told
        return (cls,)


def _others(title: str, found: Mapping[str, type]) -> Table:
    columns = "name", "options and defaults", "what it is"
    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name, cls in sorted(found.items()):
        table.add_row(*map(literal, (name, _options(cls) or "-", _card(cls))))
    return table


def _options(cls: Any) -> str:
    hints = get_type_hints(cls)  # the annotations of fields are texts
    fields = [field for field in dataclasses.fields(cls) if in_study_files(hints[field.name])]
    return ", ".join(f"{field.name}={written(field.default)}" for field in fields)


def written(default: Any) -> str:
    """A default as a listing shows it."""
    return repr(str(default) if isinstance(default, Path) else default)


def in_study_files(hint: Any) -> bool:
    """Whether a study file can give such a value; a plan or a source comes from Python only."""
    if get_origin(hint) is Literal:
        return True
    parts = [part for part in get_args(hint) if part is not ...]  # of tuple[int, ...]
    return all(map(in_study_files, parts)) if parts else hint in WRITTEN


def _card(cls: type) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def _datasets(datasets: Iterable[Dataset], tasks: Mapping[str, Task]) -> Table:
    table = Table(
        "name",
        "inputs",
        "classes",
        "train / test",
        "triggers from",
        "scales",
        title="Data sets",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for dataset in datasets:
        sizes = dict(dataset.sizes)
        counts = " / ".join(f"{sizes[split]:,}" if split in sizes else "-" for split in ("train", "test"))
        task = tasks.get(dataset.name)
        scales = ", ".join(recipe.scale for recipe in task.recipes) if task else "-"
        inputs = f"{type(dataset.space).__name__.lower()} {'x'.join(map(str, dataset.shape))}"
        near = task.purpose().neighbour.title if task and task.purpose().neighbour else "-"
        table.add_row(*map(literal, (dataset.name, inputs, dataset.classes, counts, near, scales)))
    return table
