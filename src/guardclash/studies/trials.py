"""What is trained and measured: trainings, measurements, and the cells of a study that ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from guardclash.compose import rank
from guardclash.measure import Measure
from guardclash.mechanism import Mechanism
from guardclash.plan.deployed import Deployed
from guardclash.plan.identity import fingerprint, plan_key
from guardclash.plan.plan import OtherSeed, Plan
from guardclash.plan.trainings import Held, depth, held, seeded
from guardclash.records.cells import Cell, Named
from guardclash.studies.verification import Verification
from guardclash.tasks.catalog import deviation
from guardclash.tasks.recipe import Recipe

Asked = Measure | Verification
"""What a probe asks of a trained model."""


@dataclass(frozen=True)
class Trial:
    """One training: a plan and a seed."""

    plan: Plan
    seed: int

    @cached_property
    def key(self) -> str:
        """The name of its result in the store."""
        return f"{plan_key(self.plan)}-{self.seed}"


@dataclass(frozen=True)
class Probe:
    """One measurement of one trial."""

    trial: Trial
    measure: Asked
    serving: tuple[Mechanism, ...] = ()
    """The mechanisms through which the model answers, those of its combination that act at inference."""

    @property
    def model(self) -> Deployed:
        """What is measured."""
        return Deployed(self.trial.plan, self.serving)

    @cached_property
    def key(self) -> str:
        """The name of its result in the store."""
        plan = self.trial.plan
        return f"{fingerprint(plan, self.measure, self.serving, *deviation(plan.purpose))}-{self.trial.seed}"


@dataclass(frozen=True)
class ComposedCell:
    """A cell of a study with its plan, or the clash that there is instead."""

    cell: Cell
    recipe: Recipe
    combination: tuple[Mechanism, ...]
    """Those that its training goes through: a suspect's own."""
    plan: Plan | None
    clash: str | None
    seeds: tuple[int, ...]
    measures: tuple[tuple[Named | None, Asked], ...]
    """What is measured here, with the name in the study of the mechanism that it is for, or of itself (None: the task's
    utility)."""
    stolen: bool | None = None
    """Whether a suspect owes anything to the victim; None: no suspect."""

    def trials(self) -> tuple[Trial, ...]:
        """One trial per seed; none for a clash."""
        return self._trials

    @cached_property
    def _trials(self) -> tuple[Trial, ...]:
        return tuple(Trial(self.plan, seed) for seed in self.seeds) if self.plan else ()

    def probes(self, trial: Trial) -> tuple[Probe, ...]:
        """All measurements of one of its trials."""
        return self._probes[trial.seed]

    @cached_property
    def _probes(self) -> dict[int, tuple[Probe, ...]]:
        serving = self.serving()
        return {
            trial.seed: tuple(Probe(trial, measure, serving) for _, measure in self.measures) for trial in self._trials
        }

    def needed(self, trial: Trial) -> tuple[Trial, ...]:
        """Every other training that must be finished before one of its trials is measured; see `needed_trials`."""
        return _trials_of(self._held, trial.seed) if self._held else ()

    @cached_property
    def _held(self) -> Held:
        return (*held(self.plan), *(found for needs in self._needs for found in held(needs)))

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """For each of its measures, how many trainings must come one after another before it can be made."""
        return tuple(max(depth(self.plan), depth(needs)) for needs in self._needs)

    @cached_property
    def _needs(self) -> tuple[tuple[Any, ...], ...]:
        """For each of its measures, the trainings that it reads, and that are read by those who answer."""
        if self.plan is None:
            return ()
        serving = tuple(need for mechanism in self.serving() for need in mechanism.needs(self.plan))
        asked = (measure.needs_deployed(Deployed(self.plan, self.serving())) for _, measure in self.measures)
        return tuple((*needs, *serving, *self._under_others(needs, serving)) for needs in asked)

    def _under_others(self, needs: tuple[Any, ...], serving: tuple[Any, ...]) -> Iterator[OtherSeed]:
        """What answers for other replicates of this very training, where a measure asks these as they are deployed."""
        for other in needs:
            if isinstance(other, OtherSeed) and other.plan == self.plan:
                yield from (replace(other, plan=need) for need in serving if isinstance(need, Plan))

    def serving(self) -> tuple[Mechanism, ...]:
        """The mechanisms that act at inference."""
        return serving(self.combination)


def serving(combination: tuple[Mechanism, ...]) -> tuple[Mechanism, ...]:
    """The mechanisms among these that act at inference, the first one nearest to the network."""
    found = (mechanism for mechanism in combination if type(mechanism).serve is not Mechanism.serve)
    return tuple(sorted(found, key=rank))  # as in training, whatever the order in which they are named


def needed_trials(trial: Trial) -> tuple[Trial, ...]:
    """Every other training that must be finished before this one, the innermost first, each once."""
    return _trials_of(held(trial.plan), trial.seed)


def _trials_of(found: Held, seed: int) -> tuple[Trial, ...]:
    trials = (Trial(plan, own) for plan, own in seeded(found, seed))
    return tuple({trial.key: trial for trial in trials}.values())
