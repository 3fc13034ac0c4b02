"""The form of schema 2: every plan, picture and declaration of a metric once, with references to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

PLAN = "Plan"
"""The type of a plan in a description; plans hold plans, such as that of a marking network."""
KEY = "$plan"
"""In the place of a plan: where in the table it is."""


def packed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Packs JSON data of results (`guardclash.records.plain.to_plain`).

    Returns:
        The same with three tables: `plans` and `pictures` by digest, `metrics` as a list.
    """
    plans: dict[str, Any] = {}
    pictures: dict[str, str] = {}
    metrics: dict[str, int] = {}
    cells = [_packed_cell(cell, plans, pictures, metrics) for cell in content["cells"]]
    tables = {"metrics": [json.loads(text) for text in metrics], "plans": plans, "pictures": pictures}
    return {**content, **tables, "cells": cells}


def _packed_cell(
    cell: Mapping[str, Any], plans: dict[str, Any], pictures: dict[str, str], metrics: dict[str, int]
) -> dict[str, Any]:
    measures = [
        {**one, "metrics": [metrics.setdefault(_text(metric), len(metrics)) for metric in one["metrics"]]}
        for one in cell["measures"]
    ]
    places = {_text(one["of"]): place for place, one in enumerate(cell["measures"])}
    trials = [
        {**trial, "measurements": [{**one, "of": places[_text(one["of"])]} for one in trial["measurements"]]}
        for trial in cell["trials"]
    ]
    found = {**cell, "composed": _packed_plans(cell["composed"], plans), "measures": measures, "trials": trials}
    if "evidence" in cell:
        found["evidence"] = [_packed_picture(one, pictures) for one in cell["evidence"]]
    return found


def _packed_plans(value: Any, plans: dict[str, Any]) -> Any:
    """A description with every plan in it, the innermost first, moved to the table."""
    if isinstance(value, list):
        return [_packed_plans(item, plans) for item in value]
    if not isinstance(value, Mapping):
        return value
    inner = {name: _packed_plans(item, plans) for name, item in value.items()}
    if inner.get("type") != PLAN:
        return inner
    digest = _digest(_text(inner))
    plans[digest] = inner
    return {KEY: digest}


def _packed_picture(one: Mapping[str, Any], pictures: dict[str, str]) -> dict[str, Any]:
    if "png" not in one:
        return dict(one)
    digest = _digest(one["png"])
    pictures[digest] = one["png"]
    return {**one, "png": digest}


def unpacked(content: Mapping[str, Any], picture: Callable[[str], str | None]) -> dict[str, Any]:
    """Undoes `packed`.

    Args:
        content: A file of schema 2.
        picture: Finds a picture that the file does not hold, base64, by its digest; None: it is nowhere.

    Raises:
        KeyError, TypeError, IndexError, AttributeError, ValueError: A reference leads nowhere, or a part is of another
            form.
    """
    tables = content["plans"], content["pictures"], content["metrics"]
    opened: dict[str, Any] = {}
    cells = [_unpacked_cell(cell, tables, opened, picture) for cell in content["cells"]]
    rest = {name: value for name, value in content.items() if name not in ("plans", "pictures", "metrics")}
    return {**rest, "cells": cells}


def _unpacked_cell(
    cell: Mapping[str, Any], tables: Any, opened: dict[str, Any], picture: Callable[[str], str | None]
) -> dict[str, Any]:
    plans, pictures, metrics = tables
    measures = [{**one, "metrics": [_at(metrics, place) for place in one["metrics"]]} for one in cell["measures"]]
    trials = [
        {**trial, "measurements": [{**one, "of": _at(measures, one["of"])["of"]} for one in trial["measurements"]]}
        for trial in cell["trials"]
    ]
    found = {**cell, "measures": measures, "trials": trials, "composed": _opened(cell.get("composed"), plans, opened)}
    if "evidence" in cell:
        found["evidence"] = [
            {**one, "png": pictures.get(one["png"]) or picture(one["png"])} if "png" in one else one
            for one in cell["evidence"]
        ]
    return found


def _at(table: Any, place: Any) -> Any:
    if type(place) is not int or place < 0:  # a negative one would count from the end
        raise TypeError(f"{place!r} is no place in a table")
    return table[place]


def _opened(value: Any, plans: Mapping[str, Any], opened: dict[str, Any], inside: tuple[str, ...] = ()) -> Any:
    if isinstance(value, list):
        return [_opened(item, plans, opened, inside) for item in value]
    if not isinstance(value, Mapping):
        return value
    if KEY not in value:
        return {name: _opened(item, plans, opened, inside) for name, item in value.items()}
    digest = value[KEY]
    if digest in inside:
        raise ValueError(f"the plan {digest} holds itself")
    if digest not in opened:
        opened[digest] = _opened(plans[digest], plans, opened, (*inside, digest))
    return opened[digest]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
