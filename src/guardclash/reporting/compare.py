"""A study beside published numbers: every cell that both have, and whether the conclusions agree. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from rich.table import Table

from guardclash.judging.criteria import ACCURACY, Metric
from guardclash.judging.judgement import Judgement
from guardclash.judging.rules import Rule, combined
from guardclash.judging.stats import Sample
from guardclash.judging.verdict import Verdict
from guardclash.records.cells import Cell, Named, Note, braces
from guardclash.records.results import Results
from guardclash.reporting.findings import Findings
from guardclash.reporting.reference import Published
from guardclash.reporting.screen import literal
from guardclash.reporting.tables import number, styled, summary, titled
from guardclash.studies.study import Study

VERDICT = Metric("verdict", "verdict", None)
"""Stands for the conclusion on a combination as a whole, which no single number carries."""
Agreement = Literal["agrees", "disagrees", "open", "missing", ""]


@dataclass(frozen=True)
class Ours:
    """What a study has for a published number, on one of its recipes."""

    recipe: str
    cell: Cell
    metric: Metric
    said: str
    """Mean, spread and replicates of the metric; of a verdict, what is broken; "missing": nothing is measured yet."""
    outcome: str | None
    """Of the metric in the combination; None where nothing is judged (alone, suspects)."""
    unfinished: bool
    """Whether replicates are missing, so that the outcome is not known yet."""

    def agreement(self, published: Published) -> Agreement:
        """Whether the conclusions agree: "open" if ours is neither a conflict nor that there is none."""
        if self.unfinished:
            return "missing"
        if published.conflict is None or self.outcome is None:
            return ""
        word = combined([self.outcome])  # a rule has words of its own, such as "no difference"
        if word not in ("conflict", "compatible"):
            return "open"
        return "agrees" if (word == "conflict") == published.conflict else "disagrees"


@dataclass(frozen=True)
class BesidePublished:
    """A published number and ours, on each recipe of its data set (scales, readings)."""

    published: Published
    combination: tuple[str, ...]
    suspect: str
    ours: tuple[Ours, ...]


def compare(found: Findings, reference: Iterable[Published]) -> tuple[BesidePublished, ...]:
    """A row for every published number that a cell of the study fits, whether it is measured yet or not."""
    return tuple(row for published in reference for row in _rows(published, found))


def _rows(published: Published, found: Findings) -> Iterator[BesidePublished]:
    """One for each variant of the combination that fits."""
    study = found.study
    fitting: dict[tuple[tuple[Named, ...], Any], list[Cell]] = {}
    for cell in (*study.cells(), *study.suspect_cells()):
        if published.fits(cell):
            fitting.setdefault((cell.combination, cell.suspect), []).append(cell)
    for (combination, suspect), cells in fitting.items():
        labels = tuple(study.label(named) for named in combination)
        suspected = study.suspect_label(suspect) if suspect else ""
        ours = tuple(_ours(published.metric, cell, found) for cell in cells)
        yield BesidePublished(published, labels, suspected, ours)


def _ours(name: str, cell: Cell, found: Findings) -> Ours:
    recipe, rule = found.study.recipe_label(cell.recipe), found.rule
    verdict = None if cell.suspect else found.by_cell.get(cell.key)
    # A clash answers for every metric: there are no values to set beside the published one.
    if verdict and (verdict.clash or name == VERDICT.name):
        return Ours(recipe, cell, VERDICT, _reasons(verdict, rule), verdict.outcome(rule), bool(verdict.missing))
    of, metric = _metric(name, cell, found.results)
    judgement = next((j for j in verdict.judgements if j.metric.name == name), None) if verdict else None
    values = found.sample(cell, of, metric)
    return Ours(
        recipe,
        cell,
        metric,
        _said(metric, values, judgement) if values.n else "missing",
        judgement.outcome(rule) if judgement else None,
        bool(judgement.missing) if judgement else not values.n,  # what is not judged stands with the seeds there are
    )


def _said(metric: Metric, values: Sample, judgement: Judgement | None) -> str:
    """What a metric is; of a net one also what the mechanism adds, for that is what is judged."""
    net = f"; net {summary(metric, judgement.together)}" if metric.net and judgement and judgement.together.n else ""
    return summary(metric, values) + net


def _reasons(verdict: Verdict, rule: Rule) -> str:
    """What a verdict rests on: the metrics that made it, or why nothing can be built."""
    outcome = verdict.outcome(rule)
    symbols = [judgement.symbol for judgement in verdict.judgements if judgement.outcome(rule) == outcome]
    return "missing" if verdict.missing else verdict.clash or ", ".join(symbols)


def _metric(name: str, cell: Cell, results: Results) -> tuple[Named | None, Metric]:
    """A metric by name, and whose it is."""
    for of in (None, *cell.combination):
        for metric in results.metrics(cell, of):
            if metric.name == name:
                return of, metric
    return None, Metric(name, ACCURACY.symbol if name == ACCURACY.name else name, None)  # not measured yet


def counts(rows: Iterable[BesidePublished]) -> dict[str, dict[Agreement, int]]:
    """How many conclusions agree, by recipe."""
    counted: dict[str, dict[Agreement, int]] = {}
    for row in rows:
        for ours in row.ours:
            if row.published.conflict is not None:
                found = counted.setdefault(ours.recipe, {})
                agreement = ours.agreement(row.published)
                found[agreement] = found.get(agreement, 0) + 1
    return counted


def compare_tables(found: Findings, reference: Iterable[Published]) -> Iterator[Any]:
    """The comparison for the terminal: a table for each data set, agreements counted, disagreements explained."""
    rows = compare(found, reference)
    for dataset in dict.fromkeys(row.published.dataset for row in rows):
        yield _table([row for row in rows if row.published.dataset == dataset], dataset)
    yield from (literal(_counted(recipe, counted)) for recipe, counted in counts(rows).items())
    yield from map(literal, _disagreements(found.study, rows))


def _counted(recipe: str, counted: dict[Agreement, int]) -> str:
    """Such as "mnist/reduced: of 3 conclusions 2 agree, 1 disagrees."."""
    found = [(counted[word], word) for word in ("agrees", "disagrees", "open", "missing") if word in counted]
    words = ", ".join(f"{n} {word if n == 1 else word.removesuffix('s')}" for n, word in found)
    total = sum(counted.values())
    return f"{recipe}: of {total} conclusion{'s' * (total != 1)} {words}."


LONG = 30
"""Letters of names in a table; longer ones are broken into lines."""
BESIDE = 2
"""So many recipes of a data set stand beside each other; more stand below each other."""


def _table(rows: list[BesidePublished], dataset: str) -> Table:
    heads = {ours.recipe: _head(ours) for row in rows for ours in row.ours}
    beside = len(heads) <= BESIDE
    columns = [column for head in heads.values() for column in (head, "says")] if beside else ["recipe", "here", "says"]
    title = literal(f"{dataset}: published, and measured here")
    table = titled(title, "models", "metric", "table", "published", "says", *columns)
    table.columns[0].no_wrap = True  # names are broken here, between mechanisms
    for row in rows:
        by_recipe = {ours.recipe: _cells(ours, row.published) for ours in row.ours}
        if beside:
            table.add_row(*_published(row), *(cell for recipe in heads for cell in by_recipe.get(recipe, ("-", "-"))))
        else:
            for number, (recipe, cells) in enumerate(by_recipe.items()):
                table.add_row(*(("",) * 5 if number else _published(row)), literal(heads[recipe]), *cells)
    return table


def _published(row: BesidePublished) -> tuple[str, ...]:
    # One that is measured knows symbol and decimals, by which the published number is written as well.
    metric = next((ours.metric for ours in row.ours if ours.said != "missing"), row.ours[0].metric)
    said = {True: styled("conflict"), False: "no conflict", None: "-"}[row.published.conflict]
    models = _models(row)
    broken = models.replace("), ", "),\n ") if len(models) > LONG else models
    return literal(broken), literal(metric.symbol), literal(row.published.table), _printed(metric, row.published), said


def _models(row: BesidePublished) -> str:
    return f"{row.suspect} of " * bool(row.suspect) + braces(row.combination)


def _head(ours: Ours) -> str:
    """What tells the recipe from others of its data set, such as "sound reading": the table names the data set."""
    options = ours.recipe.partition("(")[2].removesuffix(")").split(", ")
    words = [f"{option[8:]} reading" if option.startswith("reading=") else option for option in options]
    return ", ".join(words) or ours.recipe


def _cells(ours: Ours, published: Published) -> tuple[str, str]:
    if ours.unfinished or ours.outcome is None:
        return literal(ours.said), "missing" if ours.unfinished and ours.said != "missing" else "-"
    agreement = ours.agreement(published)
    return literal(ours.said), styled(ours.outcome) + f" ({agreement})" * bool(agreement)


def _printed(metric: Metric, published: Published) -> str:
    if published.mean is None:
        return f"< {published.below:g}" if published.below is not None else "-"
    spread = f"±{published.std:.{metric.decimals}f}" if published.std is not None else ""
    return number(metric, published.mean) + spread + (f" (n={published.n})" if published.n else "")


def _disagreements(study: Study, rows: Iterable[BesidePublished]) -> Iterator[str]:
    """A line for every published conclusion that is not confirmed, with what the notes know of it."""
    # Sentences that are the same are said once, of all their combinations.
    alike: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        found = [ours for ours in row.ours if ours.agreement(row.published) in ("disagrees", "open")]
        if found:
            said = "a conflict" if row.published.conflict else "no conflict"
            here = "; ".join(f"{ours.recipe}: {ours.outcome}" for ours in found)
            texts = [note.text for note in study.notes if any(_speaks(note, ours) for ours in found)]
            known = " ".join(texts) or "No note explains it yet."
            text = f"published ({_printed_in(row.published)}): {said}; here: {here}. {known}"
            alike.setdefault((found[0].metric.symbol, text), []).append(_models(row))
    yield from (f"{', '.join(models)} {symbol}: {text}" for (symbol, text), models in alike.items())


def _printed_in(published: Published) -> str:
    return f"table {published.table}" if published.table.isdigit() else published.table


def _speaks(note: Note, ours: Ours) -> bool:
    """Whether a note is about what ours says; of a verdict, all notes about its mechanisms are."""
    return note.about(ours.cell, note.metric if ours.metric == VERDICT else ours.metric.name)
