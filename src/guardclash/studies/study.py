"""A study: which combinations of mechanisms, on which recipes, with how many replicates, judged how.

This module knows names and tables only, neither torch nor the mechanisms, so that a report of finished results opens
at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from guardclash.errors import UserError
from guardclash.judging.criteria import Criterion
from guardclash.judging.rules import Rule, beside
from guardclash.judging.verdict import Correction
from guardclash.records.cells import Cell, Named, Note, Options, Suspected, short, without
from guardclash.studies.varying import varying


@dataclass(frozen=True)
class Study:
    """A frozen study; see docs/studies.md for the file format."""

    name: str
    recipes: tuple[Named, ...]
    """Data sets with their options, among them `scale`."""
    combinations: tuple[tuple[Named, ...], ...]
    alone: int = 5
    """Replicates of the unprotected model and of each mechanism alone (the paper's 5)."""
    together: int = 10
    """Replicates of each combination (the paper's 10)."""
    measures: tuple[Named, ...] = ()
    """What is measured of all its models beside what their mechanisms measure, to see what a mechanism does to it."""
    suspects: tuple[Suspected, ...] = ()
    """Models that may be stolen from each of the combinations; each is tested for every claim of ownership there."""
    suspected: int | None = None
    """Replicates of each suspect; None: as many as of its victim."""
    start: int | None = None
    """Replicates to begin with, where seeds are added only as long as a verdict is undecided, up to `together`; None:
    all replicates are asked for from the beginning."""
    first_seed: int = 0
    rule: Rule = "strict"
    alpha: float = 0.05
    correction: Correction = "verdict"
    criteria: tuple[tuple[str, Criterion], ...] = ()
    """Overrides by name of metric."""
    plugins: tuple[Path, ...] = ()
    """Single-file mechanisms, absolute."""
    readings: tuple[tuple[str, tuple[tuple[str, str | None, Options], ...]], ...] = ()
    """By name: options by mechanism, for every data set (None) and then for some, that a recipe with this `reading`
    lays under those of its combinations."""
    reference: Path | None = None
    """A file of published numbers, absolute."""
    reference_tables: tuple[str, ...] = ()
    """Of which of its tables; none: of all."""
    records: Path | None = None
    """The folder, absolute, in which exported records of this and other studies are kept, each under its name."""
    notes: tuple[Note, ...] = ()
    tasks: tuple[Any, ...] = ()
    """Tasks of its own: as a file names them (`guardclash.data.own.task.OwnTask`), or open (`guardclash.Task`)."""
    file: Path | None = field(default=None, compare=False)
    """The study file, absolute; None: it was made from Python."""
    folder: Path = field(default=Path(), compare=False)
    """Which files that options name are relative to: that of the study file."""

    def __post_init__(self) -> None:
        if self.rule == "paper" and (self.start is not None or self.correction == "holm"):
            asked = "seeds that are added step by step" if self.start is not None else 'correction = "holm"'
            raise UserError(
                f"the paper's rule does not go with {asked}: that lowers the level of single tests, and its "
                '"no difference" is a test that does not reject, so that every loss would pass more easily',
                where=f"study {self.name}, rule",
                got=self.rule,
                allowed="strict, bounded",
                mend='Use rule = "strict", or fixed replicates and correction = "verdict".',
            )

    @property
    def rules(self) -> tuple[Rule, Rule]:
        """Its own rule and the one that reports show beside it."""
        return beside(self.rule)

    @property
    def level(self) -> float:
        """Of each test: alpha, or its share where there are several looks at the results."""
        return self.stages()[0].alpha

    @property
    def confidence(self) -> float:
        """Of every interval that is shown: one-sided tests at `level` can be read off."""
        return 1 - 2 * self.level

    def under(self, rule: Rule) -> Study:
        """This study judged by another rule.

        Raises:
            UserError: It cannot be.
        """
        return self if rule == self.rule else replace(self, rule=rule)

    def cells(self) -> tuple[Cell, ...]:
        """All that is trained: per recipe the unprotected model, each mechanism alone, each combination; once each."""
        return tuple(self._cells.values())

    def cell(self, recipe: Named, combination: tuple[Named, ...]) -> Cell | None:
        """The cell of a combination on a recipe; None if the study has none."""
        return self._cells.get(Cell(recipe, combination, 0).key)

    @cached_property
    def _cells(self) -> dict[str, Cell]:
        """Kept, since a report asks for it hundreds of times; with this very study, for True == 1 would mix up two."""
        cells: dict[str, Cell] = {}
        for recipe in self.recipes:
            alone = [(mechanism.plain,) for combination in self.combinations for mechanism in combination]
            for combination in [(), *alone, *self.combinations]:
                replicates = self.together if len(combination) > 1 else self.alone
                cell = Cell(recipe, combination, replicates)
                cells.setdefault(cell.key, cell)
        return cells

    def suspect_cells(self) -> tuple[Cell, ...]:
        """Every suspect of every combination that is asked for."""
        return self._suspect_cells

    @cached_property
    def _suspect_cells(self) -> tuple[Cell, ...]:
        return tuple(
            replace(cell, replicates=min(self.suspected or cell.replicates, cell.replicates), suspect=suspect)
            for cell in self.cells()
            if self.asks_for(cell.combination)
            for suspect in self.suspects
        )

    def asks_for(self, combination: tuple[Named, ...]) -> bool:
        """Whether a combination is one of its own, not only implied by one."""
        return combination in self._asked

    @cached_property
    def _asked(self) -> frozenset[tuple[Named, ...]]:
        return frozenset(self.combinations)

    def stages(self) -> tuple[Study, ...]:
        """The study at each of its looks at the results, with fixed replicates; itself if it has only one.

        Looks come at about 1.5 times the replicates of the one before. Each tests at an equal share of alpha, so that
        the chance of a wrong verdict at any of them stays below alpha whatever their dependence (Bonferroni; a group
        sequential rule with equal spending). Pocock's boundary, which presumes normal statistics, would exceed alpha at
        so few replicates (docs/design/judging.md).
        """
        if self.start is None:
            return (self,)
        looks = [self.start]
        while looks[-1] < self.together:
            looks.append(min(self.together, math.ceil(1.5 * looks[-1])))
        return tuple(replace(self, alone=n, together=n, start=None, alpha=self.alpha / len(looks)) for n in looks)

    def seeds(self, cell: Cell) -> range:
        """The seeds of a cell's replicates: consecutive, so that alone and together share the first ones."""
        return range(self.first_seed, self.first_seed + cell.replicates)

    def mechanisms(self) -> tuple[Named, ...]:
        """Every mechanism of the study, with its options, once."""
        return self._mechanisms

    @cached_property
    def _mechanisms(self) -> tuple[Named, ...]:
        """Kept, as the cells are."""
        return tuple(dict.fromkeys(mechanism.plain for combination in self.combinations for mechanism in combination))

    def measured_in(self, cell: Cell) -> tuple[Named, ...]:
        """Whose metrics are measured in a cell: of its mechanisms, and of each that it is the control for."""
        if not cell.combination:
            return self.mechanisms()
        controls = self._controlled.get(cell.combination, ())
        return tuple(dict.fromkeys(named.plain for named in (*cell.combination, *controls)))

    @cached_property
    def _controlled(self) -> dict[tuple[Named, ...], list[Named]]:
        """The mechanisms that a combination is the control for, by combination."""
        found: dict[tuple[Named, ...], list[Named]] = {}
        for other in self.combinations:
            for named in other:
                found.setdefault(without(other, named), []).append(named)
        return found

    def read(self, mechanism: Named, recipe: Named) -> Named:
        """A mechanism with the options of the recipe's reading under its own."""
        reading = dict(recipe.options).get("reading", "")
        options: dict[str, Any] = {}
        for of, dataset, under in dict(self.readings).get(reading, ()):
            if of == mechanism.name and dataset in (None, recipe.name):
                options |= dict(under)
        return Named(mechanism.name, tuple(sorted({**options, **dict(mechanism.options)}.items())))

    def label(self, mechanism: Named) -> str:
        """A mechanism's name, with those options by which the study tells its variants apart."""
        return mechanism.label(self._shown[mechanism.name])

    @cached_property
    def _shown(self) -> Mapping[str, set[str]]:
        return varying(self.mechanisms())

    def suspect_label(self, suspect: Suspected) -> str:
        """A suspect's kind with those options by which the study tells its variants apart, and its mechanisms."""
        kinds = varying(other.kind for other in self.suspects)
        others = varying(named for other in self.suspects for named in other.mechanisms)
        label = suspect.kind.label(kinds[suspect.kind.name])
        own = [named.label(others[named.name]) for named in suspect.mechanisms]
        return label + (f" with {', '.join(own)}" if own else "")

    def recipe_label(self, recipe: Named) -> str:
        """Data set and scale, such as "mnist/reduced", with the options by which the study tells recipes apart."""
        shown = self._swept[recipe.name] - {"scale"} | {"conditions"}  # the world that all is true of
        scale = dict(recipe.options)["scale"]
        options = [f"{name}={short(value)}" for name, value in recipe.options if name in shown]
        return f"{recipe.name}/{scale}" + (f" ({', '.join(options)})" if options else "")

    @cached_property
    def _swept(self) -> Mapping[str, set[str]]:
        return varying(self.recipes)
