"""Whether the trainings of a report were made with different versions of what numbers depend on, and which by which."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from guardclash.records.cells import Cell
from guardclash.records.results import Results
from guardclash.reporting.tables import models_of
from guardclash.studies.study import Study

PACKAGES = "guardclash", "torch", "numpy", "opacus", "python"
"""Whose versions may change a number. Machines are told elsewhere."""


def mixed(results: Results) -> str | None:
    """In one sentence, which versions took part; None where all trainings were made with the same."""
    apart = _apart(results)
    if not apart:
        return None
    told = "; ".join(dict.fromkeys(_versions(one, apart) for one in results.environments))
    trials = [trial for cell in results.cells.values() for trial in cell.trials if trial.seconds is not None]
    known = all(_place(results, trial.environment) for trial in trials)
    which = "" if known else " Which seeds by which is not recorded of all."
    return f"Trained with different versions: {told}. A difference may be one of versions.{which}"


def made_with(study: Study, results: Results, cells: Collection[Cell]) -> Iterator[tuple[str, str, str]]:
    """A recipe, models on it, and which seeds were trained with which versions, where versions are mixed."""
    apart = _apart(results)
    for cell in cells if apart else ():
        found: dict[str, list[int]] = {}
        entry = results.cell(cell)
        for trial in entry.trials if entry else ():
            made = _place(results, trial.environment)
            if made:
                found.setdefault(_versions(made, apart), []).append(trial.seed)
        for versions, seeds in found.items():
            named = f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
            yield study.recipe_label(cell.recipe), models_of(study, cell), f"{named} trained with {versions}."


def _apart(results: Results) -> tuple[str, ...]:
    return tuple(name for name in PACKAGES if len({one.get(name) for one in results.environments}) > 1)


def _place(results: Results, number: int | None) -> Mapping[str, str] | None:
    """An environment by its number; None if there is none, as in a damaged file."""
    there = number is not None and 0 <= number < len(results.environments)
    return results.environments[number or 0] if there else None


def _versions(made: Mapping[str, str], apart: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {made.get(name, 'unknown')}" for name in apart)
