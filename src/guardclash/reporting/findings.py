"""What a study says, found once: every form of a report tells this value."""

from __future__ import annotations

from dataclasses import dataclass

from guardclash.judging.rules import Rule
from guardclash.judging.verdict import Verdict
from guardclash.records.results import Results
from guardclash.reporting.claims import Claim, claims
from guardclash.reporting.controls import Control, controls
from guardclash.reporting.missing import missing
from guardclash.studies.side_effects import SideEffect, side_effects
from guardclash.studies.study import Study
from guardclash.studies.verdicts import verdicts


@dataclass(frozen=True)
class Findings:
    """All that is judged of a study under one rule."""

    study: Study
    """Under the rule."""
    results: Results
    verdicts: tuple[Verdict, ...]
    side_effects: tuple[SideEffect, ...]
    controls: tuple[Control, ...]
    """Each metric with and without its mechanism."""
    claims: tuple[Claim, ...]
    """Of ownership, on suspects."""
    missing: tuple[str, ...]
    """What still lacks seeds."""

    @property
    def rule(self) -> Rule:
        """Which decides."""
        return self.study.rule


def find(study: Study, results: Results, rule: Rule) -> Findings:
    """What results say of a study under a rule.

    Raises:
        UserError: If the study cannot be judged by that rule.
    """
    study = study.under(rule)
    return Findings(
        study,
        results,
        verdicts(study, results),
        side_effects(study, results),
        tuple(controls(study, results)),
        tuple(claims(study, results)),
        missing(study, results),
    )
