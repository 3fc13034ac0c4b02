"""The report as one HTML page: self-contained, readable without a network, by keyboard and by screen reader.

Python prepares frozen values, the templates in `page_parts` lay them out; docs/design/reports.md says why.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from guardclash.judging.rules import Rule
from guardclash.records.cells import Cell
from guardclash.reporting.findings import Findings
from guardclash.reporting.notes import notes
from guardclash.reporting.page_parts.accounts import Spoken, spoken
from guardclash.reporting.page_parts.charts import plain
from guardclash.reporting.page_parts.claim_tables import ClaimOverview, overview
from guardclash.reporting.page_parts.details import Detail, asked, detail
from guardclash.reporting.page_parts.matrix import Matrix, matrix
from guardclash.reporting.page_parts.pictures import shown_once
from guardclash.reporting.page_parts.plan_tree import PlanTree, unprotected_plans
from guardclash.reporting.page_parts.records import (
    Progress,
    RawCell,
    Table,
    environment_table,
    progress,
    raw_values,
    recipe_table,
)
from guardclash.reporting.page_parts.study_text import study_text
from guardclash.reporting.page_parts.sweeps import SweepSection, sweeps
from guardclash.reporting.page_parts.words import (
    CLAIMS,
    MEANINGS,
    RULES_IN_WORDS,
    SCALES,
    broken,
    listed,
    look,
    plural,
    shown,
    slug,
    symbol,
    unique,
)
from guardclash.reporting.sentences import claim_sentences
from guardclash.reporting.tables import limit, percent, summary
from guardclash.reporting.text import changed
from guardclash.studies.study import Study

SECTIONS = (
    "matrix",
    "details",
    "sweeps",
    "effects",
    "alone",
    "claims",
    "judged",
    "notes",
    "scale",
    "machines",
    "repeat",
    "values",
)
"""Addresses of the parts of a page; no combination gets one of them."""


@dataclass(frozen=True)
class AloneRow:
    """A metric of a mechanism alone, and what the unprotected model scores."""

    recipe: str
    mechanism: str
    metric: str
    alone: str
    unprotected: str


@dataclass(frozen=True)
class EffectRow:
    """What a mechanism does to a metric of a measure that the study lists."""

    recipe: str
    mechanism: str
    metric: str
    unprotected: str
    alone: str
    difference: str
    limit: str
    effect: str
    other: str
    """By the other rule."""


@dataclass(frozen=True)
class Page:
    """All that the templates lay out."""

    study: Study
    rule: Rule
    other_rule: str
    head: tuple[tuple[str, str], ...]
    progress: Progress
    spoken: tuple[Spoken, ...]
    """Verdicts as sentences."""
    claimed: tuple[str, ...]
    """Ownership claims as sentences."""
    counts: tuple[tuple[str, int], ...]
    """Verdicts by outcome."""
    key: tuple[tuple[str, str], ...]
    """What the words mean that the verdicts use."""
    matrix: Matrix | None
    pairs: tuple[Detail, ...]
    larger: tuple[Detail, ...]
    """Combinations of three mechanisms or more."""
    singles: tuple[Detail, ...]
    sweeps: tuple[SweepSection, ...]
    effects: tuple[EffectRow, ...]
    alone: tuple[AloneRow, ...]
    claims: ClaimOverview
    notes: tuple[str, ...]
    recipes: Table
    plans: tuple[tuple[str, PlanTree], ...]
    """Those of the unprotected models, by recipe."""
    machines: Table
    study_text: str
    commits: str
    seeds: tuple[int, ...]
    values: tuple[RawCell, ...]

    @property
    def many_recipes(self) -> bool:
        """Whether a sentence must say of which recipe it is."""
        return len(self.study.recipes) > 1

    @property
    def recipe_labels(self) -> tuple[str, ...]:
        """Of all recipes."""
        return tuple(map(self.study.recipe_label, self.study.recipes))


def render_html(found: Findings) -> str:
    """The whole report as the text of one HTML file; the same records give the same text."""
    environment = Environment(
        loader=PackageLoader("guardclash.reporting", "page_parts"),
        autoescape=True,
        finalize=shown,  # every text, wherever it is put in
        undefined=StrictUndefined,  # a misspelt name in a template is an error, not a gap
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"look": look, "symbol": symbol, "broken": broken, "place": plain, "percent": percent}
    environment.filters["plural"] = plural
    environment.filters["slug"] = slug
    texts = {"style": _text("page.css"), "figure_style": _text("figure.css"), "script": _text("page.js")}
    # Only our own files are not escaped; the hashes must be of these very texts, or a browser refuses them.
    given: dict[str, Any] = {name: Markup(text) for name, text in texts.items()}
    hashes = {name: _hash(text) for name, text in texts.items()}
    return environment.get_template("page.html").render(
        page=_page(found), rules=found.study.rules, claim_words=CLAIMS, hashes=hashes, **given
    )


@cache
def _text(name: str) -> str:
    return files("guardclash.reporting").joinpath("page_parts", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """By which the page allows its own script and styles and no others."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _page(found: Findings) -> Page:
    study, results, swept = found.study, found.results, sweeps(found)
    details = _details(found, swept)
    pairs = matrix(found, {cell.key: one for cell, one in details.items()})
    counts = _counts(verdict.outcome(found.rule) for verdict in found.verdicts)
    words = {word for word, _ in counts} | ({"not asked"} if pairs and pairs.gaps else set())
    seeds, values = raw_values(study, results)
    return Page(
        study=study,
        rule=found.rule,
        other_rule=study.rules[1],
        head=_head(found),
        progress=progress(found),
        spoken=spoken(found, {cell.key: one.id for cell, one in details.items()}),
        claimed=claim_sentences(found),
        counts=counts,
        key=tuple((word, meaning) for word, meaning in MEANINGS.items() if word in words),
        matrix=pairs,
        pairs=tuple(one for cell, one in details.items() if len(cell.combination) == 2),
        larger=tuple(one for cell, one in details.items() if len(cell.combination) > 2),
        singles=tuple(one for cell, one in details.items() if len(cell.combination) == 1),
        sweeps=swept,
        effects=_effects(found),
        alone=_alone(found),
        claims=overview(table for one in details.values() for table in one.claims),
        notes=tuple(notes(found)),
        recipes=recipe_table(study, results),
        plans=tuple(unprotected_plans(study, results)),
        machines=environment_table(results),
        study_text=study_text(study),
        # Sorted, for sets have no order, and the same records give the same bytes.
        commits=listed(sorted({str(one["commit"]) for one in results.environments if one.get("commit")})),
        seeds=seeds,
        values=values,
    )


def _details(found: Findings, swept: Sequence[SweepSection]) -> dict[Cell, Detail]:
    """A section for every combination that is asked for, each with an address of its own."""
    cells = asked(found.study)
    reserved = (*SECTIONS, *(sweep.id for sweep in swept))
    ids = unique((slug(" ".join((recipe, *labels))) for recipe, labels in map(found.labels, cells)), reserved)
    sections = [detail(found, swept, cell, id) for cell, id in zip(cells, ids, strict=True)]
    # After all sections are made: only then it is known how much room their pictures take.
    pictures = shown_once(((one.id, f"{one.recipe} {one.combination}"), one.exhibits) for one in sections)
    shown = (replace(one, exhibits=own) for one, own in zip(sections, pictures, strict=True))
    return dict(zip(cells, shown, strict=True))


def _head(found: Findings) -> tuple[tuple[str, str], ...]:
    """By what it was judged."""
    study = found.study
    scales = dict.fromkeys(str(dict(recipe.options)["scale"]) for recipe in study.recipes)
    counts = [f"{study.alone} alone", f"{study.together} together"]
    if study.start is not None:
        counts = [f"{study.start} at first, more while a verdict is undecided, at most {study.together}"]
    counts += [f"{study.suspected or study.together} of each suspect"] if study.suspects else []
    looks = len(study.stages())
    own = "" if study.rule == found.own_rule else f" (the study itself asks for {found.own_rule})"
    alpha = f"α = {study.alpha:g}" + (f" in all, {study.level:.2g} at each of {looks} looks" if looks > 1 else "")
    return (
        ("Rule", RULES_IN_WORDS[study.rule] + own),
        ("Level of the tests", f"{alpha}, correction for their number: {study.correction}"),
        ("Intervals", f"at {percent(study.confidence)}, all of them"),
        ("Seeds", f"{listed(counts)}, from {study.first_seed} on"),
        ("Recipes", listed(map(study.recipe_label, study.recipes))),
        ("Scale", "; ".join(SCALES.get(scale, scale) for scale in scales)),
        ("Records of", str(found.results.written or "unknown time").replace("T", " ").replace("Z", " UTC")),
    )


def _counts(outcomes: Iterable[str]) -> tuple[tuple[str, int], ...]:
    counted = Counter(outcomes)
    return tuple((word, counted[word]) for word in MEANINGS if counted[word])  # not in the order of what came first


def _effects(found: Findings) -> tuple[EffectRow, ...]:
    """What each mechanism does to the study's own measures."""
    study, (rule, other) = found.study, found.study.rules
    return tuple(
        EffectRow(
            study.recipe_label(one.cell.recipe),
            study.label(one.cell.combination[0]),
            one.judgement.metric.symbol,
            summary(one.judgement.metric, one.judgement.alone),
            summary(one.judgement.metric, one.judgement.together),
            changed(one.judgement),
            limit(one.judgement.metric),
            one.effect(rule),
            one.effect(other),
        )
        for one in found.side_effects
    )


def _alone(found: Findings) -> tuple[AloneRow, ...]:
    """The unprotected model and every mechanism deployed by itself, on each recipe."""
    study, results, rows = found.study, found.results, []
    for recipe in study.recipes:
        label, bare = study.recipe_label(recipe), Cell(recipe, (), study.alone)
        for owners in ((), *((named,) for named in study.mechanisms())):
            cell, mechanism = Cell(recipe, owners, study.alone), study.label(owners[0]) if owners else "none"
            for of in (None, *owners):
                # A cell that was not run declares nothing, and still has a row.
                for metric in results.metrics(cell, of) or ((results.utility(cell),) if of is None else ()):
                    values = (summary(metric, found.sample(where, of, metric)) for where in (cell, bare))
                    rows.append(AloneRow(label, mechanism, metric.symbol, *values))
    return tuple(rows)
