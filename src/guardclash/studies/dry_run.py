"""A dry run: every part of a study on an untrained network and few examples, before hours of training.

What it finds are mistakes that raise: a hook of a plugin, a reader, a network that cannot take a step. Nothing is kept.
"""

from __future__ import annotations

import sysconfig
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guardclash.code import told
from guardclash.errors import UserError
from guardclash.plan.identity import fingerprint, plan_key
from guardclash.plan.plan import Plan
from guardclash.records.cells import braces
from guardclash.studies.composing import opened
from guardclash.studies.jobs import Site, values_of
from guardclash.studies.small_world import small_world
from guardclash.studies.study import Study
from guardclash.studies.trials import ComposedCell, Probe
from guardclash.training.context import RunContext
from guardclash.training.train import Run, build_network
from guardclash.training.trained import Trained, predictor

EXAMPLES = 8
"""Of the batch with which each stream takes its step."""
LIMIT_S = 60.0
"""Seconds after which what is left is not tried."""
OURS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mistake:
    """Something that would have failed."""

    text: str
    """What, and in which file and line."""
    where: str
    """The first cell in which it was met."""

    def __str__(self) -> str:
        return f"{self.text} ({self.where})"


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
    """Tries every distinct training and measurement of a study, with one step on a few of its real examples.

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
    trial = _Attempt(study, site, lambda: clock() - start > limit)
    with trial.noting("composing the study"), small_world(study) as composed, torch.random.fork_rng(devices=[]):
        for before, entry in zip(_cells(study), composed, strict=True):
            if only is None or before in only:
                trial.cell(entry)
    return DryRun(trial.trainings, trial.measurements, tuple(trial.mistakes.values()), trial.untried, clock() - start)


def _cells(study: Study) -> list[str]:
    """The keys of the cells in the order in which they are composed, on whatever examples."""
    return [cell.key for cell in (*study.cells(), *study.suspect_cells())]


@dataclass
class _Attempt:
    """A dry run under way."""

    study: Study
    site: Site
    late: Callable[[], bool]
    mistakes: dict[str, Mistake] = field(default_factory=dict)
    trainings: int = 0
    measurements: int = 0
    untried: int = 0
    _trained: dict[str, Trained | None] = field(default_factory=dict)
    _kept: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    _probed: set[str] = field(default_factory=set)

    def context(self, seed: int) -> RunContext:
        """Chance and data of a seed; other models are not trained, and what is dear is kept in memory."""
        return RunContext(seed, self.site.data_folder, self._untrained, self._keep)

    def _keep(self, identity: Any, seed: int, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        key = f"{fingerprint(identity)}-{seed}"
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _untrained(self, plan: Plan, seed: int) -> Trained:
        network = build_network(plan, self.context(seed)).to(self.site.execution.device).eval()
        return Trained(plan, seed, network, predictor(network))

    def cell(self, entry: ComposedCell) -> None:
        """Tries one cell: its training once, then each of its measurements."""
        if entry.plan is None or not entry.trials():
            return
        label = f"{self.study.recipe_label(entry.cell.recipe)} {self._name(entry)}"
        trained = self._step(entry, label)
        if trained is None:
            return
        probes = entry.probes(entry.trials()[0])
        for mechanism in entry.combination:
            with self.noting(label):
                mechanism.facts(entry.plan)
        for (named, _), probe in zip(entry.measures, probes, strict=True):
            self._probe(probe, trained, f"{label}, {named.name if named else 'utility'}")
        if len(entry.combination) == 1 and not entry.cell.suspect and not self.late():
            with self.noting(label):
                entry.combination[0].evidence(entry.plan, self.context(entry.seeds[0]))

    def _name(self, entry: ComposedCell) -> str:
        victim = braces(map(self.study.label, entry.cell.combination))
        return f"{self.study.suspect_label(entry.cell.suspect)} of {victim}" if entry.cell.suspect else victim

    def _step(self, entry: ComposedCell, label: str) -> Trained | None:
        """The network of a cell after one step of each stream; None where that failed, or no time is left."""
        assert entry.plan is not None
        key = plan_key(entry.plan)
        if key not in self._trained:
            self._trained[key] = None
            if self.late():
                self.untried += 1 + len(entry.measures)
                return None
            with self.noting(label):
                self._trained[key] = self._stepped(entry.plan, entry.seeds[0])
                self.trainings += 1
        return self._trained[key]

    def _stepped(self, plan: Plan, seed: int) -> Trained:
        context = self.context(seed)
        run = Run(plan, context, torch.device(self.site.execution.device))
        for stream in plan.streams if plan.epochs else ():
            run.step(stream, run.examples[stream.name].take(slice(EXAMPLES)), lead=0)
        run.finish()
        return Trained(plan, seed, run.network, predictor(run.network))

    def _probe(self, probe: Probe, trained: Trained, label: str) -> None:
        if probe.key in self._probed:
            return
        self._probed.add(probe.key)
        if self.late():
            self.untried += 1
            return
        with self.noting(label):
            metrics, *_ = values_of(probe, trained, self.context(probe.trial.seed))
            probe.measure.warnings(metrics)
            self.measurements += 1

    @contextmanager
    def noting(self, label: str) -> Iterator[None]:
        """Notes what goes wrong, each mistake where it is first met."""
        try:
            yield
        except UserError as error:
            self._note(str(error), label)
        except Exception as error:
            self._note(f"{_place(error)}: {told(error)}", label)

    def _note(self, text: str, label: str) -> None:
        self.mistakes.setdefault(text, Mistake(text, label))


def _place(error: BaseException) -> str:
    """Where an error came from: the innermost line of somebody's own file, else of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [frame for frame in frames if not _is_library(Path(frame.filename))]
    frame = (foreign or [one for one in frames if Path(one.filename).is_relative_to(OURS)] or list(frames))[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"


def _is_library(path: Path) -> bool:
    folders = (OURS, *(Path(sysconfig.get_paths()[kind]) for kind in ("purelib", "platlib", "stdlib")))
    return str(path).startswith("<") or any(path.is_relative_to(folder) for folder in folders)
