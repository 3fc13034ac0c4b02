"""What a study says, found once: every form of a report tells this value and looks at nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from guardclash.judging.criteria import Metric
from guardclash.judging.rules import Rule
from guardclash.judging.stats import Sample
from guardclash.judging.verdict import Verdict
from guardclash.records.cells import Cell, Named
from guardclash.records.results import Results
from guardclash.reporting.claims import Claim, claims
from guardclash.reporting.controls import Control, controls
from guardclash.reporting.entries import Column, Entry, columns_of, entry_of, mean_interval
from guardclash.reporting.missing import missing, unfinished
from guardclash.reporting.pairs import Pairs, pairs_of
from guardclash.reporting.swept import Sweep, sweeps
from guardclash.studies.side_effects import SideEffect, side_effects
from guardclash.studies.study import Study
from guardclash.studies.verdicts import sample, verdicts, wanted


@dataclass(frozen=True)
class Findings:
    """All that is judged of a study under one rule. A part is found when a form first asks for it, and kept."""

    study: Study
    """Under the rule that decides."""
    results: Results
    own_rule: Rule
    """That the study itself asks for."""

    @property
    def rule(self) -> Rule:
        """Which decides."""
        return self.study.rule

    # A frozen value can keep these: `cached_property` writes into `__dict__` itself, past the refusing `__setattr__`.
    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """On every combination of two or more mechanisms, in the study's order."""
        return verdicts(self.study, self.results)

    @cached_property
    def by_cell(self) -> Mapping[str, Verdict]:
        """The verdicts by the key of their cell."""
        return {verdict.cell: verdict for verdict in self.verdicts}

    @cached_property
    def cells(self) -> Mapping[str, Cell]:
        """Of the study, by key."""
        return {cell.key: cell for cell in self.study.cells()}

    @cached_property
    def side_effects(self) -> tuple[SideEffect, ...]:
        """On the measures that the study lists."""
        return side_effects(self.study, self.results)

    @cached_property
    def controls(self) -> tuple[Control, ...]:
        """Each metric with and without its mechanism."""
        return controls(self.study, self.results)

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """Of ownership, on suspects."""
        return claims(self.study, self.results)

    @cached_property
    def needed(self) -> Mapping[str, int]:
        """Seeds that a cell needs now, by its key."""
        return wanted(self.study, self.results)

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """What still lacks seeds, a line for each."""
        return missing(self.study, self.results, self.needed)

    @property
    def unfinished(self) -> str | None:
        """In one sentence, how much is missing; None if nothing is."""
        return unfinished(self.study, self.missing)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The metrics that are judged somewhere, utilities first."""
        return columns_of(self.study, self.results)

    @cached_property
    def pairs(self) -> Pairs | None:
        """Mechanisms by mechanisms; None where the study combines no two."""
        return pairs_of(self.study)

    @cached_property
    def sweeps(self) -> tuple[Sweep, ...]:
        """Every metric over every number that the study gives several values of."""
        return sweeps(self.study, self.results, self.by_cell)

    def labels(self, cell: Cell) -> tuple[str, tuple[str, ...]]:
        """Of a cell's recipe and combination, by which controls and claims name it."""
        return self.study.recipe_label(cell.recipe), tuple(map(self.study.label, cell.combination))

    def entry(self, cell: Cell, column: Column) -> Entry:
        """A judged metric in a cell."""
        entry = entry_of(self.study, self.results, self.by_cell, cell, column)
        # Seeds that are needed now: where seeds are added step by step, a decided verdict waits for no more.
        return replace(entry, asked=self.needed[cell.key] if entry.asked else 0)

    def interval(self, values: Sample) -> tuple[float, float] | None:
        """Of a mean, at the confidence of the study; None of fewer than two values."""
        return mean_interval(values, self.study.level)

    def sample(self, cell: Cell, of: Named | None, metric: Metric) -> Sample:
        """The replicates of a metric in a cell, of a mechanism, a measure or (None) the task."""
        return sample(self.study, self.results, cell, of, metric)


def find(study: Study, results: Results, rule: Rule | None = None) -> Findings:
    """What results say of a study.

    Args:
        study: What was asked.
        results: What is measured so far.
        rule: Which rule decides; None: the study's own.

    Raises:
        UserError: If the study cannot be judged by that rule.
    """
    return Findings(study.under(rule or study.rule), results, study.rule)
