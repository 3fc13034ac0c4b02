"""Ownership claims as tables of a page: one for each combination, and an overview of all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from guardclash.records.cells import braces
from guardclash.reporting.claims import ITSELF, TRUTH, Claim, Proof
from guardclash.reporting.tables import bound, summary


@dataclass(frozen=True)
class ClaimRow:
    """A suspect, or a control, held against the bound of a claim."""

    suspect: str
    stolen: str
    value: str
    counted: str
    """Under how many seeds it is claimed."""
    useful: str
    """How good it is at the task."""
    outcome: str
    control: bool = False


@dataclass(frozen=True)
class ClaimTable:
    """What one metric of a combination claims."""

    recipe: str
    combination: str
    symbol: str
    mechanism: str
    bound: str
    utility: str
    """The symbol of what the task is judged by."""
    rows: tuple[ClaimRow, ...]


@dataclass(frozen=True)
class ClaimOverview:
    """A row for every metric of every combination, a column for every suspect."""

    suspects: tuple[tuple[str, str], ...]
    """Label, and whether it is stolen."""
    rows: tuple[tuple[ClaimTable, tuple[str, ...]], ...]
    """With the outcome for each suspect; "not asked" where there is none."""

    @property
    def words(self) -> frozenset[str]:
        """The outcomes that occur."""
        return frozenset(word for _, outcomes in self.rows for word in outcomes)


def claim_tables(found: Iterable[Claim]) -> tuple[ClaimTable, ...]:
    """One for every metric of a combination that claims models."""
    groups = groupby(found, lambda claim: (claim.recipe, claim.combination, claim.mechanism, claim.finding.metric.name))
    return tuple(_table(list(group)) for _, group in groups)


def _table(group: Sequence[Claim]) -> ClaimTable:
    first, metric = group[0], group[0].finding.metric
    rows: list[ClaimRow] = []
    told: set[object] = set()
    for claim in group:
        rows.append(_row(claim))
        for control in claim.controls:
            if not control.told <= told:  # suspects of the same seeds share the victim's controls
                rows.append(_control(control))
            told |= control.told
    limit = bound(metric.claimed_at) if metric.claimed_at else "-"
    return ClaimTable(
        first.recipe,
        braces(first.combination),
        metric.symbol,
        first.mechanism,
        limit,
        first.utility.symbol,
        tuple(rows),
    )


def _row(claim: Claim) -> ClaimRow:
    return ClaimRow(
        claim.suspect,
        _stolen(claim),
        summary(claim.finding.metric, claim.finding.sample),
        _counted(claim.finding),
        summary(claim.utility, claim.useful),
        claim.outcome,
    )


def _control(control: Proof) -> ClaimRow:
    word = "fires" if control.claimed else "silent"
    value = summary(control.metric, control.sample)
    return ClaimRow(f"control: {control.metric.symbol}", "no", value, _counted(control), "", word, control=True)


def _stolen(claim: Claim) -> str:
    return "the owner's own" if claim.suspect == ITSELF else TRUTH[claim.stolen]


def _counted(finding: Proof) -> str:
    return f"{len(finding.claimed)} of {len(finding.seeds)}" if finding.seeds else "-"


def overview(tables: Iterable[ClaimTable]) -> ClaimOverview:
    """What every claim says of every suspect."""
    every = list(tables)
    suspects = tuple(
        dict.fromkeys((row.suspect, row.stolen) for table in every for row in table.rows if not row.control)
    )
    rows = []
    for table in every:
        outcomes = {row.suspect: row.outcome for row in table.rows if not row.control}
        rows.append((table, tuple(outcomes.get(suspect, "not asked") for suspect, _ in suspects)))
    return ClaimOverview(suspects, tuple(rows))
