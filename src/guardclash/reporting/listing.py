"""What can be used by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from guardclash.data.catalog import Dataset
    from guardclash.mechanism import Mechanism


def listing(
    mechanisms: Iterable[type[Mechanism]], datasets: Iterable[Dataset], recipes: Mapping[tuple[str, str], Any]
) -> Group:
    """Tables of mechanisms with their options and metrics, of data sets, and of recipes."""
    return Group(_mechanisms(mechanisms), _datasets(datasets, recipes))


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
        options = ", ".join(f"{field.name}={field.default!r}" for field in dataclasses.fields(cls))
        metrics = ", ".join(metric.symbol for metric in cls.metrics) or "-"
        card = (cls.__doc__ or "").strip().splitlines()[0]
        table.add_row(*map(escape, (cls.name, cls.concern, metrics, options, card)))
    return table


def _datasets(datasets: Iterable[Dataset], recipes: Mapping[tuple[str, str], Any]) -> Table:
    table = Table(
        "name",
        "images",
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
        scales = ", ".join(scale for name, scale in recipes if name == dataset.name) or "-"
        shape = "x".join(map(str, dataset.shape))
        table.add_row(dataset.name, shape, str(dataset.classes), counts, dataset.out_of_distribution or "-", scales)
    return table
