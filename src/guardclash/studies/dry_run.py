"""A dry run: every part of a study on an untrained network and few examples, before hours of training.

What it finds are mistakes that raise: a hook of a plugin, a reader, a network that cannot take a step. Nothing is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from guardclash.errors import UserError
from guardclash.modules import told
from guardclash.numerics.layout import channels_last
from guardclash.plan.identity import fingerprint, plan_key
from guardclash.plan.plan import Plan
from guardclash.records.cells import Cell, braces
from guardclash.studies.composing import opened
from guardclash.studies.jobs import Site
from guardclash.studies.measuring import kept_value, values_of
from guardclash.studies.mistakes import Mistake, line_of
from guardclash.studies.signals import signals_kept
from guardclash.studies.small_world import small_world
from guardclash.studies.study import Study
from guardclash.studies.trials import ComposedCell, Probe, Trial
from guardclash.training.context import RunContext
from guardclash.training.timeline import epoch
from guardclash.training.train import Run, build_network
from guardclash.training.trained import Trained, predictor

EXAMPLES = 8
"""Of the batch with which each stream takes its step."""
SIZES = (96, 256, 1024, None)
"""Examples of each split, one number after another: what fails on few may work on more. None: all."""
LIMIT_S = 60.0
"""Seconds after which what is left is not tried."""


T = TypeVar("T")
Key = tuple[int | None, str]
"""The number of examples, and what was tried on them: a plan does not say how long a data set is."""
Found = list[tuple[Mistake, bool]]
"""What went wrong in a cell, and whether it is a refusal."""


@dataclass(frozen=True)
class DryRun:
    """What was tried of a study."""

    trainings: int
    measurements: int
    mistakes: tuple[Mistake, ...]
    untried: int
    """Trainings and measurements for which no time was left."""
    seconds: float

    def __str__(self) -> str:
        found = f"{len(self.mistakes)} mistakes" if len(self.mistakes) > 1 else "one mistake"
        left = f"; {self.untried} of them were not tried, for want of time" if self.untried else ""
        tried = f"{self.trainings} trainings and {self.measurements} measurements tried on few examples"
        return f"{tried}: {found if self.mistakes else 'no mistake'} found, {self.seconds:.1f} s{left}"


def check_study(
    study: Study,
    site: Site,
    only: Collection[str] | None = None,
    limit: float = LIMIT_S,
    clock: Callable[[], float] = time.monotonic,
) -> DryRun:
    """Tries every distinct training of a study, with one step on a few of its real examples, and every measurement.

    Each measurement is tried once on every form of network, with its mechanism and without.

    Args:
        study: What to try.
        site: Where data lie, and what to compute on; nothing is written into its store.
        only: Keys of the cells that matter, such as those of which something is missing; None: all.
        limit: Seconds after which the rest is left out.
        clock: Seconds.

    Returns:
        What was tried, and every mistake once.

    Raises:
        UserError: The study cannot be composed: something is unknown, or not allowed.
    """
    start, study = clock(), opened(study)
    tried = _Tried(lambda: clock() - start > limit)
    left = [place for place, cell in enumerate(_cells(study)) if only is None or cell.key in only]
    chance = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            for count in SIZES:
                left = _attempt(study, site, count, left, tried) if left else left
    finally:
        np.random.set_state(chance)
    mistakes = tuple({mistake.text: mistake for mistake in reversed(tried.mistakes)}.values())[::-1]
    trainings, measurements = ({key for _, key in found} for found in (tried.trainings, tried.measurements))
    return DryRun(len(trainings), len(measurements), mistakes, tried.untried, clock() - start)


def _attempt(study: Study, site: Site, count: int | None, places: list[int], tried: _Tried) -> list[int]:
    """Tries some cells on so many examples; gives back those that may only have had too few."""
    doubtful = []
    try:
        with small_world(study, count) as composed:
            labels = [_label(study, cell) for cell in _cells(study)]
            attempts = {place: _Attempt(labels[place], site, tried, count, composed[place]) for place in places}
            for step in (_Attempt.train, _Attempt.measure):  # all trainings come first, in case that time runs out
                for attempt in attempts.values():
                    step(attempt)
        for place, attempt in attempts.items():
            if count is not None and not tried.late() and _doubtful(attempt.found, tried.failed.get(place)):
                tried.failed[place] = attempt.found
                doubtful.append(place)
            else:
                tried.mistakes += [mistake for mistake, _ in attempt.found]
    except UserError as error:  # it cannot be composed so
        if count is None or tried.late():
            tried.mistakes.append(Mistake(str(error), "composing the study"))
            return []
        return places
    except Exception as error:
        tried.mistakes.append(Mistake(f"{line_of(error)}: {told(error)}", "composing the study"))
        return []
    return doubtful


def _doubtful(found: Found, before: Found | None) -> bool:
    """Whether what went wrong may go well on more examples: a refusal may, another mistake if it did not repeat."""
    return any(refused for _, refused in found) or (bool(found) and before is None)


def _cells(study: Study) -> tuple[Cell, ...]:
    """The cells in the order in which they are composed, on whatever examples."""
    return (*study.cells(), *study.suspect_cells())


def _label(study: Study, cell: Cell) -> str:
    victim = braces(map(study.label, cell.combination))
    models = f"{study.suspect_label(cell.suspect)} of {victim}" if cell.suspect else victim
    return f"{study.recipe_label(cell.recipe)} {models}"


@dataclass
class _Tried:
    """What a dry run has tried so far."""

    late: Callable[[], bool]
    trainings: dict[Key, bool] = field(default_factory=dict)
    """Whether it went well."""
    measurements: set[Key] = field(default_factory=set)
    kept: dict[Key, dict[str, Tensor]] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    failed: dict[int, Found] = field(default_factory=dict)
    """By place of the cell, what went wrong on fewer examples."""
    untried: int = 0


@dataclass
class _Attempt:
    """One cell on few examples."""

    label: str
    site: Site
    tried: _Tried
    count: int | None
    entry: ComposedCell
    found: Found = field(default_factory=list)

    def train(self) -> None:
        """Tries the training, unless an equal one went well."""
        entry, plan, known = self.entry, self.entry.plan, self.tried.trainings
        if plan is None or not entry.trials():
            return
        key = self.count, plan_key(plan)
        if known.get(key):  # one that failed is tried again, so that this cell waits for more examples with the other
            return
        if self.tried.late():
            self.tried.untried += 1
            return
        known[key] = bool(self._noting("training", lambda: self._stepped(plan)))

    def measure(self) -> None:
        """Tries each measurement on an untrained network, and what else is asked of the mechanisms."""
        entry, plan = self.entry, self.entry.plan
        if plan is None or not entry.trials() or self.found:
            return
        for mechanism in entry.combination:
            self._noting("facts", partial(mechanism.facts, plan))
        for (named, _), probe in zip(entry.measures, entry.probes(entry.trials()[0]), strict=True):
            self._measurement(probe, named.name if named else "utility")
        if len(entry.combination) == 1 and not entry.cell.suspect and not self.tried.late():
            self._noting("evidence", lambda: entry.combination[0].evidence(plan, self._context(entry.seeds[0])))

    def _stepped(self, plan: Plan) -> bool:
        run = Run(plan, self._context(self.entry.seeds[0]), torch.device(self.site.execution.device))
        waiting = {stream.name for stream in plan.streams} if plan.epochs else set()
        turns = epoch(plan, 0, run.rng) if waiting else ()
        for stream, indices, lead, now in turns:  # as a training goes, until each stream had its turn
            if stream.name in waiting and len(indices):
                waiting.remove(stream.name)
                batch = run.examples[stream.name].take(indices[:EXAMPLES].to(run.device))
                if not run.step(stream, batch, lead, now).isfinite():
                    raise ValueError(f"the first loss of stream {stream.name!r} is no number")
            if not waiting:
                break
        run.finish()
        return True

    def _measurement(self, probe: Probe, of: str) -> None:
        plan, own = probe.trial.plan, of in {named.name for named in self.entry.cell.combination}
        # On one network of each form, with its mechanism and without: what it does there, it does in all combinations.
        key = self.count, fingerprint(probe.measure, plan.model, plan.all_rewrites, probe.serving, own)
        if key in self.tried.measurements:
            return
        if self.tried.late():
            self.tried.untried += 1
            return
        self.tried.measurements.add(key)

        def measure() -> None:
            declared = {one.key for one in (probe.trial, *self.entry.needed(probe.trial))}
            context = self._context(probe.trial.seed, declared)
            probe.measure.needs_deployed(probe.model)
            metrics, *_ = values_of(probe, context.trained(plan), context)
            for metric in probe.measure.metrics:
                if metric.name in metrics:
                    kept_value(metric, metrics[metric.name])
            probe.measure.warnings(metrics)

        self._noting(f"measuring {of}", measure)

    def _context(self, seed: int, declared: set[str] | None = None) -> RunContext:
        """Chance and data of a seed; other models are not trained, and what is dear is kept in memory.

        Of other models only those that a run would have trained before, where it is known which these are.
        """

        def untrained(plan: Plan, seed: int) -> Trained:
            if declared is not None and Trial(plan, seed).key not in declared:
                raise LookupError("it reads a training that its `needs` does not name")
            return self._untrained(plan, seed)

        return RunContext(seed, self.site.data_folder, untrained, self._keep)

    def _keep(self, identity: Any, seed: int, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        key = self.count, f"{fingerprint(identity)}-{seed}"
        if key not in self.tried.kept:
            self.tried.kept[key] = make()
        return self.tried.kept[key]

    def _untrained(self, plan: Plan, seed: int) -> Trained:
        network = build_network(plan, self._context(seed)).eval()
        channels_last(network, self.site.execution.device)
        return Trained(plan, seed, network, predictor(network))

    def _noting(self, what: str, act: Callable[[], T]) -> T | None:
        """What an act gives; None where it goes wrong, which is noted."""
        with signals_kept() as interrupted:
            try:
                return act()
            except UserError as error:
                self.found.append((Mistake(str(error), f"{self.label}, {what}"), True))
            except BaseException as error:  # whatever a plugin raises
                if interrupted():
                    raise
                self.found.append((Mistake(f"{line_of(error)}: {told(error)}", f"{self.label}, {what}"), False))
        return None
