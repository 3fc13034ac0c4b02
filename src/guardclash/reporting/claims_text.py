"""Ownership claims as tables, and what must be said beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.table import Table

from guardclash.records.cells import Cell, braces
from guardclash.records.results import Results
from guardclash.reporting.claims import ITSELF, TRUTH, Claim, Proof, claiming, suspects_of, victims
from guardclash.reporting.screen import literal
from guardclash.reporting.tables import bound, place, styled, summary, titled
from guardclash.studies.study import Study
from guardclash.words import cut


def claim_tables(found: Iterable[Claim]) -> Iterator[Table]:
    """A table for each combination on each recipe: its own model, the controls, its suspects."""
    for (recipe, combination), group in groupby(found, lambda claim: (claim.recipe, claim.combination)):
        yield _table(f"Ownership claims: {recipe} {braces(combination)}", group)


def _table(title: str, found: Iterable[Claim]) -> Table:
    found = tuple(found)
    utility = found[0].utility.symbol
    columns = "suspect", "stolen", "metric", "value", "claim at", "claims", utility, "outcome"
    table = titled(literal(title), *columns)
    # Neighbours suffice for groups: `claims` goes by combination, mechanism and metric.
    for _, rows in groupby(found, lambda claim: (claim.mechanism, claim.finding.metric.name)):
        told: set[object] = set()
        for claim in rows:
            _add_claim(table, claim)
            for control in claim.controls:
                if not control.told <= told:  # suspects of the same seeds share the victim's controls
                    _add_control(table, control)
                told |= control.told
        table.add_section()
    return table


def _add_claim(table: Table, claim: Claim) -> None:
    metric = claim.finding.metric
    stolen = "-" if claim.suspect == ITSELF else TRUTH[claim.stolen]
    limit = bound(metric.claimed_at) if metric.claimed_at else "-"
    value, counted = summary(metric, claim.finding.sample), _counted(claim.finding)
    row = claim.suspect, stolen, metric.symbol, value, limit, counted, summary(claim.utility, claim.useful)
    table.add_row(*map(literal, row), styled(claim.outcome))


def _add_control(table: Table, control: Proof) -> None:
    label = f"control: {control.metric.symbol}"
    row = label, "no", "", summary(control.metric, control.sample), "", _counted(control), ""
    table.add_row(*map(literal, row), styled("fires" if control.claimed else "silent"))


def _counted(finding: Proof) -> str:
    return f"{len(finding.claimed)} of {len(finding.seeds)}" if finding.seeds else "-"


def claim_notes(study: Study, results: Results) -> list[str]:
    """Which mechanisms are measured on suspects without ever claiming one, and which suspects cannot be built."""
    return [line for victim in victims(study) for line in _victim_notes(study, results, victim)]


def _victim_notes(study: Study, results: Results, victim: Cell) -> Iterator[str]:
    known = results.cell(victim)
    if known is None or known.clash:
        return
    suspects = suspects_of(study, victim)
    for named in victim.combination:
        measured = any(results.metrics(cell, named) for cell in suspects)
        if measured and not claiming(study, results, victim, named):
            silent = f"no metric of {study.label(named.plain)} has a value from which on it claims a model"
            yield f"{place(study, victim)}: {silent}, so it is not among the ownership claims."
    for cell in suspects:
        entry = results.cell(cell)
        if entry and entry.clash:
            yield f"{place(study, cell)} cannot be built: {cut(entry.clash)}."
