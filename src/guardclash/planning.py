"""What a study would train, and how far it is; nothing is trained here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.table import Table

from guardclash.judging.rules import Rule
from guardclash.plan.identity import describe, fingerprint
from guardclash.plan.structure import looks_of
from guardclash.reporting.findings import find
from guardclash.reporting.screen import literal
from guardclash.reporting.tables import duration
from guardclash.reporting.trial import tree
from guardclash.studies.activity import notes
from guardclash.studies.collect import changed_since, collect
from guardclash.studies.composing import compose_study, unusual_data
from guardclash.studies.engines import Inline
from guardclash.studies.estimating import estimates, trials_of
from guardclash.studies.jobs import Site
from guardclash.studies.read_once import ReadOnce
from guardclash.studies.run import needed_now, waves
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.trials import ComposedCell
from guardclash.watching.board import Board
from guardclash.watching.tasks import combination, tasks
from guardclash.watching.view import view
from guardclash.words import cut


def planned(study: Study, site: Site, workers: int, full: bool = False) -> Iterator[Any]:
    """Tables of what each cell still needs, what they share, clashes, and the time that the whole will take."""
    composed = compose_study(study, site.data_folder)
    store = ReadOnce(site.store.folder)
    yield from map(literal, (*unusual_data(composed), *changed_since(study, composed, store)))
    jobs = waves(composed, store)
    missing = trials_of(jobs, store)
    seconds = estimates(missing.values(), site, Inline())
    yield literal(f"Study {study.name}")
    yield from _cells(study, composed, seconds)
    yield from _shared(study, composed)
    for entry in composed:
        if entry.clash:
            yield literal(f"Clash: {_named(study, entry)}: {cut(entry.clash)}. Nothing is trained for it.")
    probes = sum(len(job.probes) for wave in jobs for job in wave)
    total = sum(seconds.values())
    yield (
        f"To train: {len(missing)} models. To measure: {probes} values. About {duration(total)} of one core, "
        f"{duration(total / workers)} with {workers} at a time; loading and measuring come on top."
    )
    if full:
        for entry in composed:
            yield tree(_name(study, entry), describe(entry.plan, full=True) if entry.plan else {"clash": entry.clash})


def _cells(study: Study, composed: tuple[ComposedCell, ...], seconds: dict[str, float]) -> Iterator[Table]:
    """A table for each recipe, which is named once."""
    shown: set[str] = set()
    for recipe in dict.fromkeys(entry.cell.recipe for entry in composed):
        heads = "combination", "plan", "parameters", "streams", "seeds", "in store", "to train", "time"
        title = literal(study.recipe_label(recipe))
        table = Table(*heads, title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for entry in (one for one in composed if one.cell.recipe == recipe):
            keys = [trial.key for trial in entry.trials()]
            # A training that serves several cells is counted in the first of them.
            new = [key for key in keys if key in seconds and key not in shown]
            done = sum(key not in seconds for key in keys)
            shown.update(keys)
            streams = ", ".join(stream.name for stream in entry.plan.streams) if entry.plan else "clash"
            time = duration(sum(seconds[key] for key in new)) if new else "-"
            size = f"{looks_of(entry.plan.model, entry.plan.all_rewrites).parameters:,}" if entry.plan else "-"
            plan = fingerprint(entry.plan)[:8] if entry.plan else "-"
            counts = str(len(keys)), str(done), str(len(new))
            table.add_row(*map(literal, (combination(study, entry), plan, size, streams, *counts, time)))
        yield table


def _shared(study: Study, composed: tuple[ComposedCell, ...]) -> Iterator[str]:
    by_plan: dict[str, list[str]] = {}
    for entry in composed:
        if entry.plan:
            by_plan.setdefault(fingerprint(entry.plan), []).append(_named(study, entry))
    for names in by_plan.values():
        if len(names) > 1:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield literal(f"One training serves {' and '.join(names[:3])}{more}.")


def _named(study: Study, entry: ComposedCell) -> str:
    """A cell; the recipe only where there are several."""
    name = combination(study, entry)
    return name if len(study.recipes) == 1 else f"{study.recipe_label(entry.cell.recipe)} {name}"


def _name(study: Study, entry: ComposedCell) -> str:
    return f"{study.recipe_label(entry.cell.recipe)} {combination(study, entry)}"


def standing(study: Study, site: Site, rule: Rule) -> Iterator[Any]:
    """Every cell with the keys that `show` takes, then what a run of the study shows on its terminal."""
    store, study = ReadOnce(site.store.folder), study.under(rule)
    composed = compose_study(study, site.data_folder)
    yield from map(literal, (*unusual_data(composed), *changed_since(study, composed, store)))
    yield _cells_standing(study, composed, store)
    results = collect(study, composed, store)
    yield from (literal(f"Note: {words}.") for words in results.changed)
    yield from (literal(f"Damaged and left out: {flaw}; the next run makes it anew.") for flaw in results.damaged)
    board = Board(study.name, tasks(study, needed_now(study, composed, results)), store)
    yield view(board.standing(), find(study, results).verdicts, rule)


def _cells_standing(study: Study, composed: tuple[ComposedCell, ...], store: Store) -> Table:
    """Finished, running and failed trainings of every cell."""
    names = ("recipe", "combination", "trained", "measured", "failed", "running", "first key")
    table = Table(*names, title=literal(f"Study {study.name}"), title_justify="left", box=box.SIMPLE_HEAD)
    training, measuring = notes(store, "progress"), notes(store, "measuring")
    have, failures = store.measurement_keys(), store.failure_keys()
    for entry in composed:
        trials = entry.trials()
        trained = sum(store.trial(trial.key) is not None for trial in trials)
        probes = [probe for trial in trials for probe in entry.probes(trial)]
        measured = sum(probe.key in have for probe in probes)
        failed = sum(trial.key in failures for trial in trials)
        now = [
            f"seed {trial.seed}: epoch {training[trial.key]['epoch']} of {training[trial.key]['epochs']}"
            for trial in trials
            if trial.key in training
        ]
        now += [f"seed {probe.trial.seed}: measuring" for probe in probes if probe.key in measuring]
        label = study.recipe_label(entry.cell.recipe), combination(study, entry)
        counts = f"{trained} of {len(trials)}", f"{measured} of {len(probes)}", str(failed or "-")
        table.add_row(*map(literal, (*label, *counts, "; ".join(now) or "-", trials[0].key if trials else "clash")))
    return table
