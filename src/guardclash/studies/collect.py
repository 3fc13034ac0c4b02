"""From the store to a study's results file."""

from __future__ import annotations

import json
from typing import Any

from guardclash.mechanism import Mechanism
from guardclash.plan.identity import describe, fingerprint
from guardclash.plan.plan import Plan
from guardclash.studies.evidence import kept_pictures
from guardclash.studies.store import SCHEMA, Store, now
from guardclash.studies.study import Study
from guardclash.studies.trials import ComposedCell, Probe, Trial


def collect(study: Study, composed: tuple[ComposedCell, ...], store: Store) -> dict[str, Any]:
    """All that the store holds of a study, as JSON data; what is missing is left out, never guessed."""
    environments: dict[str, dict[str, str]] = {}
    cells = [_cell(entry, store, environments) for entry in composed]
    return {
        "schema": SCHEMA,
        "study": study.name,
        "written": now(),
        "environments": list(environments.values()),
        "cells": cells,
    }


def keep_results(study: Study, composed: tuple[ComposedCell, ...], store: Store) -> dict[str, Any]:
    """Collects and writes them into the store, where reports look."""
    content = json.loads(json.dumps(collect(study, composed, store)))
    store.keep_json(f"studies/{study.name}.json", content)
    return dict(content)


def _cell(entry: ComposedCell, store: Store, environments: dict[str, dict[str, str]]) -> dict[str, Any]:
    trials = [_trial(entry, trial, store, environments) for trial in entry.trials()]
    recipe = {name: value for name, value in describe(entry.recipe, full=True).items() if name != "type"}
    evidence = kept_pictures(entry, store)
    suspect = {"suspect": entry.cell.suspect.to_dict(), "stolen": entry.stolen} if entry.cell.suspect else {}
    return {
        **suspect,
        "key": entry.cell.key,
        "recipe": recipe,
        "combination": [named.to_dict() for named in entry.cell.combination],
        "clash": entry.clash,
        "plan": fingerprint(entry.plan) if entry.plan else None,
        "composed": describe(entry.plan, full=True) if entry.plan else None,
        "facts": _facts(entry),
        "measures": [
            {"of": named and named.plain.to_dict(), "metrics": [metric.to_dict() for metric in measure.metrics]}
            for named, measure in entry.measures
        ],
        "trials": [trial for trial in trials if trial],
        **({"evidence": evidence} if evidence else {}),
    }


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
) -> dict[str, Any] | None:
    record, failure = store.record(trial.key), store.failure(trial.key)
    if record is None:
        return _failed(trial, failure) if failure else None
    environment = _environment(record)
    environments.setdefault(json.dumps(environment, sort_keys=True), environment)
    error = {"error": failure["error"]} if failure else {}
    measured = [
        {
            "of": named and named.plain.to_dict(),
            "values": found["metrics"],
            "warnings": found.get("warnings", []),
            **({"curves": found["curves"]} if found.get("curves") else {}),
            **({"scatter": found["scatter"]} if found.get("scatter") and trial.seed == entry.seeds[0] else {}),
        }
        for named, measure in entry.measures
        if (found := store.measurement(_probe(entry, trial, measure).key))
    ]
    made = {"seed": trial.seed, "trial": trial.key, "seconds": record["seconds"], "losses": store.losses(trial.key)}
    return {**made, **error, "measurements": measured}


def _environment(record: dict[str, Any]) -> dict[str, str]:
    """Where a trial was trained; before accelerators had their name in records, it is said that there was one."""
    device, known = record["execution"]["device"], dict(record["environment"])
    return known if device == "cpu" else {"accelerator": device, **known}


def _failed(trial: Trial, failure: dict[str, Any]) -> dict[str, Any]:
    """Of a training that never ended, or ended in no numbers."""
    diverged = {"diverged": True} if failure.get("diverged") else {}
    return {"seed": trial.seed, "trial": trial.key, "error": failure["error"], **diverged, "measurements": []}


def _probe(entry: ComposedCell, trial: Trial, measure: Any) -> Probe:
    return next(probe for probe in entry.probes(trial) if probe.measure is measure)
