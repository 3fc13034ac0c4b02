"""Side effects: what each mechanism of a study does to the measures that the study lists for all its models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from guardclash.judging.effects import Effect, effect
from guardclash.judging.judge import Look, judge
from guardclash.judging.judgement import Judgement
from guardclash.judging.rules import Rule
from guardclash.judging.verdict import Verdict, corrected
from guardclash.records.cells import Cell, Named
from guardclash.records.results import Results
from guardclash.studies.study import Study
from guardclash.studies.verdicts import sample


@dataclass(frozen=True)
class SideEffect:
    """What is known of one metric of one measure under one mechanism."""

    cell: Cell
    """The mechanism on its own."""
    of: Named
    """The measure."""
    judgement: Judgement
    """Its metric on the mechanism's models (together) against the unprotected ones (alone)."""

    def to_dict(self, study: Study) -> dict[str, Any]:
        """Strictly valid JSON."""
        return {
            "recipe": study.recipe_label(self.cell.recipe),
            "mechanism": study.label(self.cell.combination[0]),
            "measure": self.of.to_dict(),
            "effect": self.effect(study.rule),
            "effects": {rule: self.effect(rule) for rule in study.rules},
            "judgement": self.judgement.to_dict(study.rule),
        }

    def effect(self, rule: Rule) -> Effect:
        """What a rule says."""
        return effect(self.judgement, rule)


def side_effects(study: Study, results: Results) -> tuple[SideEffect, ...]:
    """Of every mechanism alone on every measure that the study lists, in its order.

    Tests are those of verdicts: the criterion of the metric or of the study, and the study's correction, with the
    metrics of one mechanism as one family.
    """
    cells = [cell for cell in study.cells() if len(cell.combination) == 1]
    found = [tuple(_of(study, results, cell)) for cell in cells]
    judged = [Verdict(str(number), (), tuple(one.judgement for one in own)) for number, own in enumerate(found)]
    adjusted = corrected(judged, study.correction, study.rules)
    return tuple(
        replace(one, judgement=judgement)
        for own, verdict in zip(found, adjusted, strict=True)
        for one, judgement in zip(own, verdict.judgements, strict=True)
    )


def _of(study: Study, results: Results, cell: Cell) -> Iterator[SideEffect]:
    unprotected = replace(cell, combination=())
    for of in study.measures:
        for metric in results.metrics(cell, of):
            # Nothing is gained here and nothing left of others: the plain value is held against the limit.
            plain = replace(metric, net=False, gain=False)
            criterion = dict(study.criteria).get(metric.name, metric.criterion)
            for stage in study.stages():
                asked = replace(cell, replicates=stage.alone), replace(unprotected, replicates=stage.alone)
                together, alone = (sample(stage, results, one, of, metric) for one in asked)
                look = Look((stage.alone, stage.alone), study.alpha, stage is study.stages()[-1])
                judged = judge(plain, criterion, alone, together, stage.alpha, against="unprotected", look=look)
                found = SideEffect(cell, of, judged)
                if judged.missing or found.effect(study.rule) != "undecided":
                    break  # the first look that decides; what later seeds would say is not asked
            yield found
