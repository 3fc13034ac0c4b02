"""Results as JSON data and back: each thing where it belongs, however often (the form of schema 1)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from guardclash.errors import UserError
from guardclash.judging.criteria import Metric
from guardclash.records.cells import named_from
from guardclash.records.fields import (
    Misfit,
    called,
    count,
    data,
    duration,
    field,
    flag,
    given,
    key,
    listed,
    named,
    number,
    said,
    table,
    text,
)
from guardclash.records.parts import (
    Shared,
    cloud_from,
    curve_from,
    data_from,
    declared_from,
    pictures_from,
    readers,
    recipe_from,
)
from guardclash.records.results import UTILITY, CellRecord, Evidence, Measurement, Results, TrialRecord

Declared = Mapping[str, tuple[Metric, ...]]
"""Metrics by the text of whose they are."""
MEND = "Run the study again: it is made anew."


def results_from(content: Mapping[str, Any], where: object = "results") -> Results:
    """Reads results from JSON data.

    Args:
        content: As `to_plain` gives it, or a file of schema 1 holds it; what is left out is empty.
        where: The place for messages.

    Raises:
        UserError: A part is missing or of another form; its place is named, with what stands there and what may.
    """
    try:
        return _results(content)
    except Misfit as error:
        raise error.told(where, MEND) from None


def _results(content: Mapping[str, Any]) -> Results:
    known = readers()
    cells = given(content, "cells", lambda found: listed(found, lambda cell: _cell(cell, known)), ())
    by_key: dict[str, CellRecord] = {}
    for place, cell in enumerate(cells):
        if by_key.setdefault(cell.key, cell) != cell:
            raise Misfit(cell.key, "every cell once").within(f".cells[{place}].key")
    environments = given(content, "environments", lambda found: listed(found, lambda one: named(one, said)), ())
    titles = given(content, "titles", lambda found: named(found, said), {})
    study, written = given(content, "study", text, ""), given(content, "written", text, None)
    return Results(study, written, environments, by_key, titles=titles)


def _cell(value: Any, known: Shared) -> CellRecord:
    cell = table(value)
    declared = field(cell, "measures", lambda measures: declared_from(measures, known))
    return CellRecord(
        key=field(cell, "key", key),
        recipe=given(cell, "recipe", recipe_from, {}),
        combination=given(cell, "combination", lambda found: listed(found, named_from), ()),
        clash=given(cell, "clash", text, None),
        plan=given(cell, "plan", called, None),
        composed=given(cell, "composed", known.plan, None),
        facts=given(cell, "facts", lambda facts: named(facts, lambda of: named(of, said)), {}),
        measures=declared,
        trials=field(cell, "trials", lambda trials: _trials(trials, declared, known)),
        suspect=given(cell, "suspect", lambda suspect: data(table(suspect)), None),
        stolen=given(cell, "stolen", flag, None),
        evidence=given(cell, "evidence", pictures_from, ()),
        data=given(cell, "data", data_from, None),
    )


def _trials(value: Any, declared: Declared, known: Shared) -> tuple[TrialRecord, ...]:
    """A seed that stood there twice would count as two replicates."""
    seeds: set[int] = set()

    def one(value: Any) -> TrialRecord:
        trial = _trial(value, declared, known)
        if trial.seed in seeds:
            raise Misfit(trial.seed, "every seed once").within(".seed")
        seeds.add(trial.seed)
        return trial

    return listed(value, one)


def _trial(value: Any, declared: Declared, known: Shared) -> TrialRecord:
    trial = table(value)
    return TrialRecord(
        seed=field(trial, "seed", count),
        key=given(trial, "trial", called, ""),
        seconds=given(trial, "seconds", duration, None),
        losses=given(trial, "losses", lambda losses: named(losses, lambda epochs: listed(epochs, number)), {}),
        error=given(trial, "error", text, None),
        diverged=given(trial, "diverged", flag, False),
        measurements=field(trial, "measurements", lambda found: _measurements(found, declared, known)),
        environment=given(trial, "environment", count, None),
    )


def _measurements(value: Any, declared: Declared, known: Shared) -> dict[str, Measurement]:
    found: dict[str, Measurement] = {}

    def one(value: Any) -> None:
        measured = _measurement(value, known)
        of = measured.of.text if measured.of else UTILITY
        _check(measured.values, declared.get(of, ()))
        if of in found and not found[of].values.keys().isdisjoint(measured.values):
            raise Misfit(list(measured.values), "one value of each metric").within(".values")
        found[of] = joined(found[of], measured) if of in found else measured

    listed(value, one)
    return found


def _check(values: Mapping[str, float], metrics: Iterable[Metric]) -> None:
    """What a metric refuses as a value, such as an accuracy of 5.1."""
    for metric in metrics:
        if metric.name in values:
            try:
                metric.checked(values[metric.name])
            except UserError as error:
                raise Misfit(..., "", str(error)).within(f".values.{metric.name}") from None


def measurement_from(data: Any, where: object = "a measurement") -> Measurement:
    """Reads one measurement; of several measures of one mechanism see `joined`.

    Raises:
        UserError: A part is missing or of another form.
    """
    try:
        return _measurement(data, readers())
    except Misfit as error:
        raise error.told(where, MEND) from None


def _measurement(value: Any, known: Shared) -> Measurement:
    one = table(value)
    return Measurement(
        of=field(one, "of", known.of),
        values=field(one, "values", lambda values: named(values, number)),
        warnings=given(one, "warnings", lambda warnings: listed(warnings, text), ()),
        curves=given(one, "curves", lambda curves: named(curves, curve_from), {}),
        scatter=given(one, "scatter", cloud_from, None),
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


def to_plain(results: Results) -> dict[str, Any]:
    """Results as JSON data."""
    return {
        "study": results.study,
        "written": results.written,
        "environments": [dict(one) for one in results.environments],
        **({"titles": dict(results.titles)} if results.titles else {}),
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
