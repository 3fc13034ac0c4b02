"""From the store to a study's results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from guardclash.data.catalog import find_dataset
from guardclash.mechanism import Mechanism
from guardclash.plan.condition import origin
from guardclash.plan.factory import Factory
from guardclash.plan.identity import describe, fingerprint
from guardclash.plan.plan import Plan
from guardclash.plan.structure import looks_of
from guardclash.records.cells import Named
from guardclash.records.plain import joined, measurement_from
from guardclash.records.results import UTILITY, CellRecord, Evidence, Measurement, Results, TrialRecord
from guardclash.studies import snapshot
from guardclash.studies.code_since import code_since
from guardclash.studies.evidence import kept_pictures
from guardclash.studies.store import Store, now
from guardclash.studies.study import Study
from guardclash.studies.trials import ComposedCell, Trial


def collect(study: Study, composed: tuple[ComposedCell, ...], store: Store) -> Results:
    """All that the store holds of a study; what is missing is left out, never guessed."""
    environments: dict[str, dict[str, str]] = {}
    cells = [_cell(entry, store, environments) for entry in composed]
    damaged = tuple(f"{name}: {why}" for name, why in store.damaged.items())
    changed = code_since(composed, store)
    by_key = {cell.key: cell for cell in cells}
    return Results(study.name, now(), tuple(environments.values()), by_key, damaged, _titles(composed), changed)


def _titles(composed: tuple[ComposedCell, ...]) -> dict[str, str]:
    """What people call the mechanisms of a study, where they are called something else than their name."""
    found = {one.name: one.title for entry in composed for one in entry.combination}
    return {name: title for name, title in sorted(found.items()) if title}


def keep_results(study: Study, composed: tuple[ComposedCell, ...], store: Store) -> Results:
    """Collects and writes them into the store, where reports look."""
    before = snapshot.state(store)
    results = collect(study, composed, store)
    snapshot.keep(study, results, before, store)
    return results


def _cell(entry: ComposedCell, store: Store, environments: dict[str, dict[str, str]]) -> CellRecord:
    declared: dict[str, Any] = {}
    for named, measure in entry.measures:
        of = _text(named)
        declared[of] = (*declared.get(of, ()), *measure.metrics)
    trials = (_trial(entry, trial, store, environments) for trial in entry.trials())
    return CellRecord(
        key=entry.cell.key,
        recipe=_recipe(entry),
        combination=entry.cell.combination,
        clash=entry.clash,
        plan=fingerprint(entry.plan) if entry.plan else None,
        composed=describe(entry.plan, full=True) if entry.plan else None,
        facts=_facts(entry),
        measures=declared,
        trials=tuple(trial for trial in trials if trial),
        suspect=entry.cell.suspect.to_dict() if entry.cell.suspect else None,
        stolen=entry.stolen if entry.cell.suspect else None,
        evidence=tuple(Evidence(**one) for one in kept_pictures(entry, store)),
        data=_data(entry),
    )


def _recipe(entry: ComposedCell) -> dict[str, Any]:
    """Every field of a recipe as people call it, and how large the network is that was trained."""
    fields = {name: value for name, value in describe(entry.recipe, full=True).items() if name != "type"}
    network = looks_of(entry.plan.model, entry.plan.all_rewrites) if entry.plan else None
    size = {"parameters": network.parameters, "trainable": network.trainable} if network else {}
    size |= _left(entry)
    model, own = entry.recipe.model, {}
    if isinstance(model, Factory):
        kind = looks_of(model, ()).kind
        own = {"model": f"{kind} by {model.code.called}", "norm": None, "code": model.code.source}
        own |= {"weights": model.weights[:20]} if model.weights else {}
    return {**fields, "dataset": entry.cell.recipe.name, **own, **size}


def _left(entry: ComposedCell) -> dict[str, int]:
    """How many examples the recipe's conditions leave, where it is not all that it says."""
    unprotected = entry.recipe.plan().task.source
    left = unprotected.size
    return {} if left == origin(unprotected).size else {"trained_on": left}


def _data(entry: ComposedCell) -> dict[str, Any] | None:
    """What is to be known of the data of a recipe; told with its unprotected model."""
    data = find_dataset(entry.recipe.dataset)
    if entry.cell.combination or entry.cell.suspect or not (data.notes or data.parts):
        return None
    return {"sizes": dict(data.sizes), "parts": dict(data.parts), "notes": list(data.notes)}


def changed_since(study: Study, composed: tuple[ComposedCell, ...], store: Store) -> tuple[str, ...]:
    """What of a study's own data and networks is not what its last results were made with, in words."""
    before = snapshot.last(study, store) if study.tasks else None
    if before is None:
        return ()
    found = {}
    for entry in composed:
        old = before.cell(entry.cell)
        changed = sorted(_changed(old, entry)) if old and not (entry.cell.combination or entry.cell.suspect) else []
        if changed:
            found[entry.cell.recipe.name] = ", ".join(changed)
    return tuple(
        f"{name}: changed since the results of {before.written}: {what}. What was made with them before is left aside, "
        "and found again if they come back."
        for name, what in found.items()
    )


def _changed(old: CellRecord, entry: ComposedCell) -> Iterator[str]:
    """Names of the parts of the data, and of the network, that are others than in a record."""
    parts, known = ((data or {}).get("parts", {}) for data in (_data(entry), old.data))
    yield from (name for name in parts.keys() | known.keys() if parts.get(name) != known.get(name))
    now = _recipe(entry)
    yield from (f"{name} of the network" for name in ("code", "weights") if old.recipe.get(name) != now.get(name))


def _text(named: Named | None) -> str:
    return named.text if named else UTILITY


def _facts(entry: ComposedCell) -> dict[str, dict[str, str]]:
    if entry.plan is None:
        return {}
    facts = {mechanism.name: _facts_of(mechanism, entry.plan) for mechanism in entry.combination}
    return {name: found for name, found in facts.items() if found}


def _facts_of(mechanism: Mechanism, plan: Plan) -> dict[str, str]:
    try:
        return mechanism.facts(plan)
    except Exception as error:  # of a plugin: it must not cost the results
        return {"facts() failed": f"{type(error).__name__}: {error}"}


def _trial(
    entry: ComposedCell, trial: Trial, store: Store, environments: dict[str, dict[str, str]]
) -> TrialRecord | None:
    record, failure = store.record(trial.key), store.failure(trial.key)
    error = failure["error"] if failure else None
    if record is None:
        diverged = bool(failure and failure.get("diverged"))
        return TrialRecord(trial.seed, trial.key, error=error, diverged=diverged) if failure else None
    environment = _environment(record)
    text = json.dumps(environment, sort_keys=True)
    environments.setdefault(text, environment)
    measured = _measured(entry, trial, store)
    losses = {name: tuple(values) for name, values in store.losses(trial.key).items()}
    place = list(environments).index(text)
    return TrialRecord(
        trial.seed, trial.key, record["seconds"], losses, error, measurements=measured, environment=place
    )


def _measured(entry: ComposedCell, trial: Trial, store: Store) -> dict[str, Measurement]:
    """What is measured on a trial, by whose it is; the scatter of the first seed only."""
    found: dict[str, Measurement] = {}
    for (named, _), probe in zip(entry.measures, entry.probes(trial), strict=True):
        kept = store.measurement(probe.key)
        if kept is None:
            continue
        of, scatter = named and named.plain.to_dict(), kept.get("scatter") if trial.seed == entry.seeds[0] else None
        one = measurement_from({**kept, "of": of, "values": kept["metrics"], "scatter": scatter})
        found[_text(named)] = joined(found[_text(named)], one) if _text(named) in found else one
    return found


def _environment(record: dict[str, Any]) -> dict[str, str]:
    """Where a trial was trained; before accelerators had their name in records, it is said that there was one."""
    device, known = record["execution"]["device"], dict(record["environment"])
    return known if device == "cpu" else {"accelerator": device, **known}
