"""The trainings of a study and what is measured of each, under names that people read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guardclash.plan.identity import describe
from guardclash.records.cells import braces
from guardclash.studies.study import Study
from guardclash.studies.trials import ComposedCell


@dataclass(frozen=True)
class Asked:
    """One measurement of a trial."""

    key: str
    of: str
    """The mechanism's label, or the name of the task's utility."""
    kinds: tuple[str, ...]
    """What it is, from the narrowest to the widest: durations are alike within these."""


@dataclass(frozen=True)
class Followed:
    """One trial of a study."""

    key: str
    plan: str
    """Fingerprint of its plan."""
    seed: int
    recipe: str
    what: str
    """The combination, the suspect of one, or for which of them it is needed."""
    entry: ComposedCell
    """The first cell that it serves."""
    asked: tuple[Asked, ...] = ()

    @property
    def label(self) -> str:
        """Such as "digits/reduced {wm, dpsgd}, seed 3"."""
        return f"{self.recipe} {self.what}, seed {self.seed}"


def tasks(study: Study, composed: tuple[ComposedCell, ...]) -> dict[str, Followed]:
    """All trials of a study by key, those that others need among them; one that serves several cells is one task."""
    first: dict[str, tuple[int, str, str, ComposedCell]] = {}
    asked: dict[str, dict[str, Asked]] = {}
    for entry in composed:
        recipe, what = study.recipe_label(entry.cell.recipe), combination(study, entry)
        labels = [study.label(named) if named else measure.metrics[0].name for named, measure in entry.measures]
        kinds = [measurement_kinds(describe(measure, full=True)) for _, measure in entry.measures]
        for trial in entry.trials():
            first.setdefault(trial.key, (trial.seed, recipe, what, entry))
            these = asked.setdefault(trial.key, {})
            for probe, of, kind in zip(entry.probes(trial), labels, kinds, strict=True):
                these[probe.key] = Asked(probe.key, of, (_narrowest(probe.key), *kind))
    # After all cells: a training that some cell asks for is called after that cell, not after what needs it.
    for entry in composed:
        recipe, what = study.recipe_label(entry.cell.recipe), f"for {combination(study, entry)}"
        for trial in entry.trials():
            for needed in entry.needed(trial):
                first.setdefault(needed.key, (needed.seed, recipe, what, entry))
    return {
        key: Followed(key, _narrowest(key), *serving, tuple(asked.get(key, {}).values()))
        for key, serving in first.items()
    }


def combination(study: Study, entry: ComposedCell) -> str:
    """The combination of a cell, or the suspect of it."""
    own = braces(study.label(named) for named in entry.cell.combination)
    suspect = entry.cell.suspect
    return f"{study.suspect_label(suspect)} of {own}" if suspect else own


def learnt_kinds(key: str, measurement: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds of a measurement in the store; those of `Asked.kinds`."""
    return _narrowest(key), *measurement_kinds(measurement["measure"])


def measurement_kinds(measure: Mapping[str, Any]) -> tuple[str, str]:
    """The same measure of another model, and the same sort of measure with other settings.

    Args:
        measure: Its full description.
    """
    mechanism = measure.get("mechanism")  # of a test for ownership
    sort = f"{measure['type']} {mechanism['type']}" if isinstance(mechanism, Mapping) else str(measure["type"])
    return json.dumps(measure, sort_keys=True), sort


def _narrowest(key: str) -> str:
    """The same measure of the same plan, under any seed."""
    return key.rpartition("-")[0]
