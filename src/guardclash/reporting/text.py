"""The report as text: verdicts, what they rest on, the mechanisms alone, and claims on suspects."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from rich.table import Table

from guardclash.judging.judgement import Judgement
from guardclash.judging.rules import Rule
from guardclash.judging.verdict import Verdict
from guardclash.records.cells import Cell, Named, braces
from guardclash.reporting.claims_text import claim_tables
from guardclash.reporting.controls import Control
from guardclash.reporting.findings import Findings
from guardclash.reporting.looks import look_of
from guardclash.reporting.notes import notes
from guardclash.reporting.reasons import ruling
from guardclash.reporting.screen import literal
from guardclash.reporting.sentences import claim_sentences, sentences, unbegun
from guardclash.reporting.stacked import NARROW, Terminal
from guardclash.reporting.tables import failing, limit, number, p_value, styled, summary, titled, utility_head

WIDTH = 140


def render(found: Findings, width: int = WIDTH) -> str:
    """The whole report as plain text, `width` columns wide."""
    return plain(told(found, narrow=width < NARROW), width)


def plain(parts: Iterable[Any], width: int = WIDTH) -> str:
    """Tables and lines for a terminal as plain text, `width` columns wide."""
    console = Terminal(file=io.StringIO(), width=width, color_system=None)
    for part in parts:
        console.print(part)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines) + "\n"  # tables are padded to their width


def told(found: Findings, narrow: bool = False) -> Iterator[Any]:
    """Verdicts, judgements, side effects, mechanisms alone, claims on suspects and notes, for a terminal.

    Args:
        found: The study.
        narrow: Tell of each metric only what fits into 80 columns.
    """
    study = found.study
    yield f"[bold]{literal(study.name)}[/]"
    yield from sentence_tables(found)
    yield verdict_table(found.verdicts, study.rules)
    for table in judgement_tables(found.verdicts, study.rules, narrow):
        yield table
        yield ""
    yield from other_tables(found)
    yield literal(f"Judged by {ruling(study)}.")
    yield from map(literal, notes(found))


def sentence_tables(found: Findings) -> Iterator[Any]:
    """Every verdict as a sentence, by recipe."""
    told = sentences(found)
    recipes = dict.fromkeys(one.verdict.recipe for one in told if one.begun)
    for recipe in recipes:
        yield literal(f"On {recipe}:")
        table = Table.grid(padding=(0, 1))
        for one in told:
            look = look_of(one.outcome)
            if one.begun and one.verdict.recipe == recipe and look:
                table.add_row(f"[{look.terminal}]{look.symbol}[/]", literal(one))
        yield table
    if lacking := unbegun(told):
        yield lacking
    for line in claim_sentences(found):
        yield literal(line)
    if told or found.claims:
        yield ""


def other_tables(found: Findings) -> Iterator[Table]:
    """What stands beside verdicts.

    Side effects, the mechanisms alone, each metric with and without its mechanism, claims on suspects.
    """
    if found.side_effects:
        yield effect_table(found)
    yield _alone_table(found)
    judged = [control for control in found.controls if control.metric.criterion]  # the JSON has all
    if judged:
        yield _control_table(judged)
    yield from claim_tables(found.claims)


def effect_table(found: Findings) -> Table:
    """What each mechanism does to the measures that the study lists for all its models."""
    study, (rule, other) = found.study, found.study.rules
    columns = "recipe", "mechanism", "metric", "unprotected", "with it", "difference", "limit"
    table = titled("Side effects of each mechanism alone", *columns, f"effect ({rule})", f"rule {other}")
    for one in found.side_effects:
        judged, metric = one.judgement, one.judgement.metric
        table.add_row(
            literal(study.recipe_label(one.cell.recipe)),
            literal(study.label(one.cell.combination[0])),
            literal(metric.symbol),
            summary(metric, judged.alone),
            summary(metric, judged.together),
            literal(changed(judged)),
            limit(metric),
            styled(one.effect(rule)),
            one.effect(other),
        )
    return table


def judgement_tables(found: Iterable[Verdict], rules: tuple[Rule, Rule], narrow: bool = False) -> Iterator[Table]:
    """A table for every combination of which anything is measured: its metrics, alone and together."""
    measured = (verdict for verdict in found if any(one.together.n for one in verdict.judgements))
    return (_short_table(one, rules[0]) if narrow else _judgement_table(one, rules) for one in measured)


def _short_table(verdict: Verdict, rule: Rule) -> Table:
    """A line for each metric: what it is alone and together, the difference, the word with the limit."""
    table = Table.grid(padding=(0, 2))
    table.title, table.title_justify = literal(f"{verdict.recipe} {braces(verdict.combination)}"), "left"
    for one in verdict.judgements:
        both = f"{number(one.metric, one.alone.mean)} → {number(one.metric, one.together.mean)}"
        demanded = f" ({limit(one.metric)})" if one.metric.criterion else ""
        word = styled(one.outcome(rule)) + literal(demanded)
        table.add_row(literal(one.symbol), literal(both), literal(changed(one)), word)
    return table


def verdict_table(found: Iterable[Verdict], rules: tuple[Rule, Rule]) -> Table:
    """A row for every combination: its verdict and what broke, or why it cannot be built."""
    rule, other = rules
    table = titled("Verdicts", "recipe", "combination", f"verdict ({rule})", "broken metric", f"rule {other}")
    for verdict in found:
        symbols = {judgement.metric.name: judgement.symbol for judgement in verdict.judgements}
        broken = ", ".join(symbols[name] for name in verdict.broken(rule)) or verdict.clash or "-"
        label = literal(verdict.recipe), literal(braces(verdict.combination))
        table.add_row(*label, styled(verdict.outcome(rule)), literal(broken), verdict.outcome(other))
    return table


def _judgement_table(verdict: Verdict, rules: tuple[Rule, Rule]) -> Table:
    """Within and beyond: p-values of the rule that decides; failing: how many seeds break the limit by themselves."""
    columns = "metric", "alone", "together", "difference", "within", "beyond", "limit", "failing", *rules
    table = titled(literal(f"{verdict.recipe} {braces(verdict.combination)}"), *columns)
    for judgement in verdict.judgements:
        row = [judgement.symbol, *_numbers(judgement, rules[0])]
        table.add_row(*map(literal, row), *(styled(judgement.outcome(rule)) for rule in rules))
        if judgement.others:  # of the utility only: equation 9 takes the lowest of all alone
            others = ", ".join(f"{name} {number(judgement.metric, mean)}" for name, mean in judgement.others)
            table.caption = literal(f"{judgement.metric.symbol} alone: {judgement.against}, the lowest; {others}.")
    return table


def _numbers(judgement: Judgement, rule: Rule) -> list[str]:
    metric, p = judgement.metric, judgement.decisive(rule)
    return [
        summary(metric, judgement.alone),
        summary(metric, judgement.together),
        changed(judgement),
        p_value(p.noninferior),
        p_value(p.inferior),
        limit(judgement.metric),
        failing(judgement),
    ]


def changed(judgement: Judgement) -> str:
    """The difference, with its interval."""
    metric, interval = judgement.metric, judgement.interval
    spread = f" [{number(metric, interval[0])}, {number(metric, interval[1])}]" if interval else ""
    return number(metric, judgement.difference) + spread


def _alone_table(found: Findings) -> Table:
    study = found.study
    table = titled(
        "Alone (and what the unprotected model scores by chance)",
        "recipe",
        "mechanism",
        utility_head(found.results),
        "own metrics",
        "unprotected",
    )
    for recipe in study.recipes:
        rows = list(_alone(found, recipe))
        if any(accuracy != "-" for _, accuracy, *_ in rows):  # else nothing of the recipe is run yet
            for row in rows:
                table.add_row(*map(literal, (study.recipe_label(recipe), *row)))
            table.add_section()
    return table


def _alone(found: Findings, recipe: Named) -> Iterator[tuple[str, str, str, str]]:
    """Of the unprotected model and of each mechanism: accuracy, own metrics, and these of the unprotected model."""
    study, utility = found.study, found.results.utility
    unprotected = Cell(recipe, (), study.alone)

    def accuracy(cell: Cell) -> str:
        return summary(utility(cell), found.sample(cell, None, utility(cell)))

    yield "none", accuracy(unprotected), "-", "-"
    for named in study.mechanisms():
        cell = Cell(recipe, (named,), study.alone)
        own, by_chance = _own(found, cell, named), _own(found, unprotected, named)
        yield study.label(named), accuracy(cell), own, by_chance


def _control_table(found: Iterable[Control]) -> Table:
    title = "With and without each mechanism (a score that does not change is no evidence)"
    table = titled(title, "recipe", "combination", "metric", "with it", "without it", "difference")
    for control in found:
        metric, ends = control.metric, control.interval
        spread = f" [{number(metric, ends[0])}, {number(metric, ends[1])}]" if ends else ""
        table.add_row(
            literal(control.recipe),
            literal(braces(control.combination)),
            literal(f"{metric.symbol} of {control.mechanism}"),
            summary(metric, control.present),
            summary(metric, control.absent),
            literal(number(metric, control.difference) + spread),
        )
    return table


def _own(found: Findings, cell: Cell, named: Named) -> str:
    own = [(metric, found.sample(cell, named, metric)) for metric in found.results.metrics(cell, named)]
    return "\n".join(f"{metric.symbol} {summary(metric, values)}" for metric, values in own if values.n) or "-"
