"""A plan as a tree for reading, with what differs from the unprotected training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from guardclash.records.cells import Cell
from guardclash.records.results import UNKNOWN, CellRecord, Results
from guardclash.reporting.page_parts.words import plural
from guardclash.studies.study import Study


@dataclass(frozen=True)
class Node:
    """A part of a plan: a branch with parts of its own, or a line."""

    name: str
    value: str
    changed: bool
    """Whether it differs from the same part of the unprotected training, or has no counterpart there."""
    parts: tuple[Node, ...] = ()
    """None of a branch that is as in the unprotected training, which a page shows once."""


@dataclass(frozen=True)
class PlanTree:
    """The plan of a training."""

    key: str
    """Its fingerprint."""
    parts: tuple[Node, ...]
    changes: int
    """Lines that differ from the unprotected training."""
    compared: bool
    """Whether there was one to compare with."""

    @property
    def summary(self) -> str:
        """How much the mechanisms changed."""
        return f"{plural(self.changes, 'line')} changed by the mechanisms" if self.compared else ""


def plan_tree(entry: CellRecord, unprotected: CellRecord | None) -> PlanTree | None:
    """The plan of a cell of the results, held against that of the unprotected model; None if there is none."""
    composed, bare = entry.composed, (unprotected or UNKNOWN).composed
    if composed is None:
        return None
    parts = tuple(_nodes(composed, bare))
    compared = bare is not None
    return PlanTree(entry.plan or "", parts, sum(map(_changes, parts)) if compared else 0, compared)


def unprotected_plans(study: Study, results: Results) -> Iterator[tuple[str, PlanTree]]:
    """The whole plan without any mechanism, by recipe."""
    for recipe in study.recipes:
        entry = results.cell(Cell(recipe, (), study.alone))
        tree = plan_tree(entry, None) if entry else None
        if tree:
            yield study.recipe_label(recipe), tree


def _nodes(value: Any, bare: Any) -> Iterator[Node]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, part in items:
        if name == "type":
            continue
        other = _part(bare, name)
        same = type(part) is type(other) and part == other  # True == 1
        if _branch(part):
            kind = part.get("type", "") if isinstance(part, dict) else ""
            parts = () if same else tuple(_nodes(part, other))
            yield Node(str(name), f"{kind} unchanged".strip() if same else str(kind), not same, parts)
        else:
            yield Node(str(name), _line(part), not same)


MISSING = object()
"""Equal to no part of a plan."""


def _part(bare: Any, name: Any) -> Any:
    if isinstance(bare, dict):
        return bare.get(name, MISSING)
    # Lists are held against each other by place: after an item that is put in, all that follow differ.
    return bare[name] if isinstance(bare, list) and isinstance(name, int) and name < len(bare) else MISSING


def _branch(value: Any) -> bool:
    """Whether a part has parts that have parts; others fit on a line."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(isinstance(part, dict | list) for part in inside)


def _line(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{name}={_line(part)}" for name, part in value.items() if name != "type")
        return f"{value['type']}({inside})" if "type" in value else inside
    if isinstance(value, list):
        return ", ".join(map(_line, value)) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _changes(node: Node) -> int:
    return sum(map(_changes, node.parts)) if node.parts else int(node.changed)  # lines, not the branches above them
