"""All about one thing that studies can name: what it is, its options, its metrics, an example."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import textwrap
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, get_type_hints

from rich.table import Table

from guardclash.errors import UserError, suggestion
from guardclash.reporting.listing import in_study_files, measures_of, written
from guardclash.reporting.screen import literal
from guardclash.reporting.tables import limit, titled

KINDS = {"Mechanisms": "mechanism", "Measures": "measure", "Conditions": "condition", "Suspects": "suspect"}
"""By the titles under which things are listed."""


def card(name: str, known: Mapping[str, Mapping[str, type]]) -> Iterator[Any]:
    """Everything called so, for a terminal.

    Args:
        name: As a study names it.
        known: Classes by name, by the title under which they are listed.

    Raises:
        UserError: Nothing is called so.
    """
    found = [(title, classes[name]) for title, classes in known.items() if name in classes]
    if not found:
        every = [one for classes in known.values() for one in classes]
        raise UserError("nothing is called so", where="list", got=name, mend=suggestion(name, every))
    for title, cls in found:
        yield from _card(name, KINDS[title], cls)


def _card(name: str, kind: str, cls: Any) -> Iterator[Any]:
    titles = [literal(text) for text in (getattr(cls, "title", ""), getattr(cls, "concern", "")) if text]
    yield f"[bold]{literal(name)}[/]: {', '.join([kind, *titles])}"
    if paper := getattr(cls, "paper", ""):
        yield literal(f"Introduced by {paper}.")
    yield ""
    for paragraph in inspect.cleandoc(cls.__doc__ or "").split("\n\n"):
        yield literal(" ".join(paragraph.split()))
        yield ""
    options = _options(cls)
    if options.row_count:
        yield options
    metrics = _metrics(cls)
    if metrics.row_count:
        yield metrics
    yield "In a study:"
    yield literal(textwrap.indent(_example(name, kind, cls), "  "))


def _options(cls: type) -> Table:
    table, said = titled("Options", "name", "default", "allowed", "what it does"), meanings(cls)
    hints = get_type_hints(cls)  # the annotations of fields are texts
    for field in dataclasses.fields(cls):
        if in_study_files(hints[field.name]):
            told = field.name, _default(field), allowed(cls, field.name, hints[field.name]), said.get(field.name, "")
            table.add_row(*map(literal, told))
    return table


def allowed(cls: type, option: str, hint: Any) -> str:
    """Which values an option may have, as the class itself says when it refuses one; "" where it takes any."""
    if hint is bool:
        return "true, false"
    for refused in (math.nan, "\N{REPLACEMENT CHARACTER}"):
        try:
            cls(**{option: refused})
        except UserError as error:
            if error.allowed and error.where.endswith(f".{option}"):
                return error.allowed
        except (TypeError, ValueError, AttributeError, KeyError):  # it wants other values as well, or another type
            continue
    return ""


def _default(field: dataclasses.Field[Any]) -> str:
    return "must be given" if field.default is dataclasses.MISSING else written(field.default)


def meanings(cls: type) -> dict[str, str]:
    """What the fields of a class mean, by the texts that stand below them in its source and those of its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError, SyntaxError, ValueError):  # no source, such as of a class made by a function
            continue
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for field, text in pairwise(body):
            told = text.value.value if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) else None
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(told, str):
                found[field.target.id] = " ".join(told.split())
    return found


def _metrics(cls: Any) -> Table:
    table = titled("Metrics", "metric", "what it is", "limit")
    for measure in measures_of(cls) if hasattr(cls, "metrics") else ():
        for metric in measure.metrics:
            table.add_row(*map(literal, (metric.symbol, metric.title, limit(metric))))
    return table


def _example(name: str, kind: str, cls: type) -> str:
    option = next((field for field in dataclasses.fields(cls) if _simple(field)), None)
    given = "" if option is None else f", {option.name} = {_toml(option.default)}"
    return {
        "mechanism": f'[[combinations]]\nmechanisms = [{{ name = "{name}"{given} }}]',
        "measure": f'measures = [{{ name = "{name}"{given} }}]',
        "condition": f'[[recipes]]\nconditions = [{{ name = "{name}"{given} }}]',
        "suspect": f'[[suspects]]\nkind = "{name}"' + (given and f"\n{given[2:]}"),
    }[kind]


def _simple(field: dataclasses.Field[Any]) -> bool:
    return isinstance(field.default, bool | int | float | str) and field.default != ""


def _toml(value: object) -> str:
    return (
        {True: "true", False: "false"}[value]
        if isinstance(value, bool)
        else f'"{value}"'
        if isinstance(value, str)
        else repr(value)
    )
