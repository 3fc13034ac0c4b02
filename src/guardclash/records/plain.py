"""Results as JSON data and back: each thing where it belongs, however often (the form of schema 1)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from guardclash.errors import UserError
from guardclash.judging.criteria import Metric, metric_from
from guardclash.numerics.scatter import scatter_from
from guardclash.records.cells import named_from
from guardclash.records.results import UTILITY, CellRecord, Curve, Evidence, Measurement, Results, TrialRecord

T = TypeVar("T")
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, UserError)
"""What reading a part of another form than it should have raises."""


def results_from(content: Mapping[str, Any], where: object = "results") -> Results:
    """Reads results from JSON data.

    Args:
        content: As `to_plain` gives it, or a file of schema 1 holds it; what is left out is empty.
        where: The place for messages.

    Raises:
        UserError: A part is missing or of another form; its place is named.
    """
    metrics: dict[str, Metric] = {}
    cells = _each(content.get("cells", ()), lambda cell: _cell(cell, metrics), f"{where}, cells")
    environments = _each(content.get("environments", ()), _texts, f"{where}, environments")
    study, written = content.get("study", ""), content.get("written")
    by_key: dict[str, CellRecord] = {}
    for cell in cells:
        by_key.setdefault(cell.key, cell)
    return Results(str(study), written and str(written), environments, by_key)


def _each(parts: Any, read: Callable[[Any], T], where: str) -> tuple[T, ...]:
    """Reads all parts, and says which one is damaged."""
    found = []
    for number, part in enumerate(parts if isinstance(parts, Iterable) and not isinstance(parts, str) else [None]):
        try:
            found.append(read(part))
        except DAMAGE as error:
            what = f"a damaged results file: {type(error).__name__}: {error}"
            raise UserError(what, where=f"{where}[{number}]", mend="Run the study again: it is made anew.") from error
    return tuple(found)


def _cell(data: Mapping[str, Any], metrics: dict[str, Metric]) -> CellRecord:
    declared: dict[str, tuple[Metric, ...]] = {}
    for measure in data["measures"]:
        of = _of(measure["of"])
        declared[of] = (*declared.get(of, ()), *(_metric(one, metrics) for one in measure["metrics"]))
    return CellRecord(
        key=_text(data["key"]),
        recipe=_mapping(data.get("recipe", {})),
        combination=tuple(map(named_from, data.get("combination", ()))),
        clash=_text_or_none(data.get("clash")),
        plan=_text_or_none(data.get("plan")),
        composed=None if data.get("composed") is None else _mapping(data["composed"]),
        facts={_text(name): _texts(facts) for name, facts in _mapping(data.get("facts", {})).items()},
        measures=declared,
        trials=tuple(map(_trial, data["trials"])),
        suspect=None if data.get("suspect") is None else _mapping(data["suspect"]),
        stolen=data.get("stolen"),
        evidence=tuple(found for one in data.get("evidence") or () if (found := _evidence(one))),
        data=None if data.get("data") is None else _data(data["data"]),
    )


def _data(data: Any) -> dict[str, Any]:
    found = _mapping(data)
    return {
        "sizes": {_text(split): _whole(size) for split, size in _mapping(found["sizes"]).items()},
        "parts": _texts(found["parts"]),
        "notes": list(map(_text, found["notes"])),
    }


def _metric(data: Mapping[str, Any], known: dict[str, Metric]) -> Metric:
    text = json.dumps(data, sort_keys=True)  # there are few, each declared in every cell
    if text not in known:
        known[text] = metric_from(data)
    return known[text]


def _trial(data: Mapping[str, Any]) -> TrialRecord:
    found: dict[str, Measurement] = {}
    for one in data["measurements"]:
        of = _of(one["of"])
        found[of] = joined(found[of], measurement_from(one)) if of in found else measurement_from(one)
    seconds, losses = data.get("seconds"), data.get("losses") or {}
    return TrialRecord(
        seed=_whole(data["seed"]),
        key=str(data.get("trial", "")),
        seconds=None if seconds is None else _number(seconds),
        losses={_text(name): tuple(map(_number, values)) for name, values in losses.items()},
        error=_text_or_none(data.get("error")),
        diverged=bool(data.get("diverged")),
        measurements=found,
        environment=None if data.get("environment") is None else _whole(data["environment"]),
    )


def measurement_from(data: Mapping[str, Any]) -> Measurement:
    """Reads one measurement; of several measures of one mechanism see `joined`."""
    scatter = data.get("scatter")
    return Measurement(
        of=named_from(data["of"]) if data["of"] else None,
        values={_text(name): _number(value) for name, value in data["values"].items()},
        warnings=tuple(map(_text, data.get("warnings", ()))),
        curves={_text(name): _curve(points) for name, points in (data.get("curves") or {}).items()},
        scatter=scatter_from(scatter) if scatter else None,
    )


def joined(one: Measurement, other: Measurement) -> Measurement:
    """What several measures of one mechanism found."""
    return Measurement(
        one.of,
        {**one.values, **other.values},
        (*one.warnings, *other.warnings),
        {**one.curves, **other.curves},
        one.scatter or other.scatter,
    )


def _evidence(data: Any) -> Evidence | None:
    """A picture; what is no picture is none, since a report does not hang on it."""
    if not isinstance(data, Mapping):
        return None
    name = str(data.get("name") or "")
    caption, png = str(data.get("caption") or name or "a picture"), data.get("png")
    width, size = (value if type(value) is int else None for value in (data.get("width"), data.get("bytes")))
    return Evidence(name, caption, png if isinstance(png, str) else None, width, size)


def _curve(points: Any) -> Curve:
    return tuple((_number(x), _number(y)) for x, y in points)


def _of(data: Any) -> str:
    return named_from(data).text if data else UTILITY


def _number(value: Any) -> float:
    if isinstance(value, bool) or (isinstance(value, str) and value not in ("inf", "-inf")):
        raise TypeError(f"{value!r} is no number")
    return float(value)  # inf is written as a text


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} is no table")
    return value


def _texts(value: Any) -> dict[str, str]:
    return {_text(name): str(said) for name, said in _mapping(value).items()}


def to_plain(results: Results) -> dict[str, Any]:
    """Results as JSON data."""
    return {
        "study": results.study,
        "written": results.written,
        "environments": [dict(one) for one in results.environments],
        "cells": [_plain_cell(cell) for cell in results.cells.values()],
    }


def _plain_cell(cell: CellRecord) -> dict[str, Any]:
    names = _names(cell)
    maybe = {"suspect": cell.suspect, "stolen": cell.stolen}
    suspect = {name: value for name, value in maybe.items() if value is not None}
    return {
        **suspect,
        "key": cell.key,
        "recipe": dict(cell.recipe),
        "combination": [named.to_dict() for named in cell.combination],
        "clash": cell.clash,
        "plan": cell.plan,
        "composed": cell.composed,
        "facts": {name: dict(facts) for name, facts in cell.facts.items()},
        "measures": [
            {"of": names[of], "metrics": [metric.to_dict() for metric in metrics]}
            for of, metrics in cell.measures.items()
        ],
        "trials": [_plain_trial(trial) for trial in cell.trials],
        **({"evidence": [_plain_evidence(one) for one in cell.evidence]} if cell.evidence else {}),
        **({"data": dict(cell.data)} if cell.data else {}),
    }


def _names(cell: CellRecord) -> dict[str, dict[str, Any] | None]:
    return {of: json.loads(of) if of else None for of in cell.measures}


def _plain_trial(trial: TrialRecord) -> dict[str, Any]:
    ended = {} if trial.seconds is None else {"seconds": trial.seconds, "losses": _lists(trial.losses)}
    failed = {} if trial.error is None else {"error": trial.error}
    diverged = {"diverged": True} if trial.diverged else {}
    made = {} if trial.environment is None else {"environment": trial.environment}
    measured = [_plain_measurement(one) for one in trial.measurements.values()]
    return {"seed": trial.seed, "trial": trial.key, **ended, **failed, **diverged, **made, "measurements": measured}


def _plain_measurement(one: Measurement) -> dict[str, Any]:
    return {
        "of": one.of and one.of.plain.to_dict(),
        "values": {name: _plain_number(value) for name, value in one.values.items()},
        "warnings": list(one.warnings),
        **(
            {"curves": {name: [list(point) for point in curve] for name, curve in one.curves.items()}}
            if one.curves
            else {}
        ),
        **({"scatter": one.scatter.to_dict()} if one.scatter else {}),
    }


def _lists(losses: Mapping[str, tuple[float, ...]]) -> dict[str, list[float | str]]:
    return {name: [_plain_number(value) for value in values] for name, values in losses.items()}


def _plain_number(value: float) -> float | str:
    """Strict JSON has no infinity."""
    return value if math.isfinite(value) else str(value)


def _plain_evidence(one: Evidence) -> dict[str, Any]:
    return {name: value for name, value in vars(one).items() if value is not None}
