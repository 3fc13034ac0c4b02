"""What is said of a combination in words: why its verdict is what it is, warnings, facts, times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from guardclash.judging.rules import Rule
from guardclash.judging.verdict import Verdict
from guardclash.records.results import CellRecord, TrialRecord
from guardclash.reporting.findings import Findings
from guardclash.reporting.notes import failure
from guardclash.reporting.page_parts.words import listed, plural, prose, shown, symbol
from guardclash.reporting.reasons import Symbol, reasons, warnings
from guardclash.reporting.sentences import sentences
from guardclash.reporting.tables import duration
from guardclash.studies.study import Study
from guardclash.words import cut


def alone_sentence(entry: CellRecord) -> tuple[Markup, ...]:
    """Of a mechanism deployed alone."""
    if entry.clash:
        return (prose("It cannot be built: {}.", cut(entry.clash)),)
    return (prose("Deployed alone, beside the unprotected model: there is nothing to be in conflict with."),)


def verdict_sentences(study: Study, verdict: Verdict, rule: Rule) -> Iterator[Markup]:
    """What decides, metric by metric, and what it does not cover."""
    judged = [one for one in verdict.judgements if one.metric.criterion is not None]
    if verdict.outcome(rule) == "compatible":
        yield prose("{} stay within their limits.", listed(symbol(one.symbol) for one in judged))
    for said in (*reasons(verdict, rule), *warnings(study, verdict, rule)):
        parts = (symbol(part) if isinstance(part, Symbol) else part for part in said.parts)
        yield prose(said.template, *parts)


class Spoken(NamedTuple):
    """A verdict as a sentence, and the address of its section."""

    outcome: str
    recipe: str
    text: Markup
    id: str


def spoken(found: Findings, ids: Mapping[str, str]) -> tuple[Spoken, ...]:
    """Every verdict that there is something to tell of, as a sentence.

    Args:
        found: The study.
        ids: Addresses of sections by key of cell.
    """
    return tuple(
        Spoken(one.outcome, one.verdict.recipe, Markup("").join(map(_set, one.pieces)), ids[one.verdict.cell])
        for one in sentences(found)
        if one.begun
    )


def _set(piece: str) -> Markup:
    return symbol(piece) if isinstance(piece, Symbol) else Markup.escape(shown(piece))


def facts_of(entry: CellRecord) -> tuple[tuple[str, str, str], ...]:
    """Mechanism, what it says of the plan, and its value."""
    return tuple((name, fact, cut(str(value))) for name, facts in entry.facts.items() for fact, value in facts.items())


def warnings_of(entry: CellRecord, seeds: range) -> Iterator[tuple[str, str]]:
    """Each warning once, failed trainings among them, and under which seeds."""
    found: dict[str, list[int]] = {}
    for trial in entry.among(seeds):
        for text in _said(trial):
            found.setdefault(text, []).append(trial.seed)
    for text, where in found.items():
        unique = list(dict.fromkeys(where))  # two mechanisms may warn alike under one seed
        yield text, "every seed" if len(unique) == len(seeds) > 1 else seed_names(unique)


def _said(trial: TrialRecord) -> Iterator[str]:
    if trial.error:
        yield f"failed: {failure(trial.error)}"
    for measurement in trial.measurements.values():
        yield from map(cut, measurement.warnings)


def seed_names(seeds: Sequence[int]) -> str:
    """Seeds in a sentence, consecutive ones by the first and the last.

    Example:
        >>> seed_names([0, 1, 2]), seed_names([1, 4])
        ('seeds 0 to 2', 'seeds 1 and 4')
    """
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"{'seeds' if len(seeds) > 1 else 'seed'} {listed(map(str, seeds))}"


def effort_of(entry: CellRecord, seeds: range) -> str:
    """How many trainings there are, of which seeds, and how long they took."""
    trained = [trial for trial in entry.among(seeds) if trial.seconds is not None]
    if not trained:
        return ""
    times = [trial.seconds or 0.0 for trial in trained]
    mean, total = sum(times) / len(trained), sum(times)
    which = seed_names([trial.seed for trial in trained])
    return f"{plural(len(trained), 'training')} ({which}): {duration(mean)} each on average, {duration(total)} in all."
