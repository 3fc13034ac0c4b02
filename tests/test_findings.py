"""Every form of a report says the same of every cell: the same word, the same means, the same intervals."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import matplotlib as mpl
import pytest

from committed import COMMITTED, RECORDS, committed
from guardclash.judging.criteria import Metric
from guardclash.judging.rules import Rule
from guardclash.judging.verdict import Verdict
from guardclash.records.cells import braces
from guardclash.records.plain import results_from, to_plain
from guardclash.reporting.figure_parts.sweep import sweep
from guardclash.reporting.figures import STYLE, draw
from guardclash.reporting.findings import Findings, find
from guardclash.reporting.forms import FORMS
from guardclash.reporting.looks import LOOKS
from guardclash.reporting.page_parts import words
from guardclash.reporting.tables import number
from guardclash.reporting.text import render
from guardclash.studies.study_file import study_from
from pages import Element, read, results, study

JUDGED = [name for name in COMMITTED if any(len(cell.combination) > 1 for cell in committed(name.values[0])[0].cells())]
"""Studies that have verdicts."""


class Numbers(NamedTuple):
    """What a form prints of a metric in a combination."""

    alone: str
    together: str
    difference: str
    """With its interval."""
    outcome: str


class Told(NamedTuple):
    """What a form says of a combination."""

    outcome: str
    metrics: dict[str, Numbers]
    """By symbol; empty where nothing is measured."""


Tables = dict[str, list[list[str]]]
"""Rows of texts by title."""
By = dict[tuple[str, str], Told]
"""By recipe and combination."""


def of_text(found: Findings) -> Tables:
    """The tables of the text report, which is so wide that no cell is folded."""
    tables: Tables = {}
    lines = render(found, width=1000).splitlines()
    for position, line in enumerate(lines):
        if set(line.strip()) == {"─"}:
            rows = []
            for row in lines[position + 1 :]:
                if not row.strip() or "  " not in row.strip():
                    break
                rows.append(re.split(r"\s{2,}", row.strip()))
            tables[lines[position - 3]] = rows
    return tables


def of_markdown(found: Findings) -> Tables:
    def plain(text: str) -> str:
        return html.unescape(re.sub(r"\\(.)", r"\1", text.strip().strip("*")))

    tables: Tables = {}
    for part in FORMS["md"](found).decode().split("\n## ")[1:]:
        title, *lines = part.splitlines()
        rows = [line for line in lines if line.startswith("| ")][2:]
        tables[plain(title)] = [[plain(cell) for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    return tables


def told_in(tables: Tables) -> By:
    told: By = {}
    for recipe, combination, outcome, *_ in tables.get("Verdicts", []):
        rows = tables.get(f"{recipe} {combination}", [])
        metrics = {row[0].replace("_", ""): Numbers(row[1], row[2], row[3], row[8]) for row in rows}
        told[recipe, combination] = Told(outcome, metrics)
    return told


def in_json(found: Findings) -> By:
    told: By = {}
    for verdict in json.loads(FORMS["json"](found))["verdicts"]:
        metrics = {}
        for one in verdict["judgements"]:
            metric = Metric("", "", None, decimals=one["definition"]["decimals"])
            ends = one["interval"]
            spread = f" [{number(metric, ends[0])}, {number(metric, ends[1])}]" if ends else ""
            arms = (_arm(metric, one[name]) for name in ("alone", "together"))
            difference = number(metric, one["difference"]) + spread
            metrics[one["symbol"].replace("_", "")] = Numbers(*arms, difference, one["outcome"])
        measured = any(one["together"]["n"] for one in verdict["judgements"])
        key = verdict["recipe"], braces(verdict["combination"])
        told[key] = Told(verdict["outcome"], metrics if measured else {})
    return told


def _arm(metric: Metric, sample: dict[str, object]) -> str:
    if not sample["n"]:
        return "-"
    std = "" if sample["std"] is None else f"±{sample['std']:.{metric.decimals}f}"
    return f"{number(metric, float(str(sample['mean'])))}{std} (n={sample['n']})"


def on_page(found: Findings) -> By:
    page = read(FORMS["html"](found).decode())
    sections = {one.all("h3")[0].said: one for one in page.all("details", class_="cell")}
    told: By = {}
    for verdict in found.verdicts:
        recipe, combination = verdict.recipe, braces(verdict.combination)
        body = sections[f"{recipe} {combination}" if len(found.study.recipes) > 1 else combination]
        metrics = {}
        if any(one.together.n for one in verdict.judgements):
            for row in body.all("table")[0].all("tr")[2:]:
                cells = [one for one in row.content if isinstance(one, Element)]
                symbol = cells[0].all("span", class_="symbol")[0].said
                outcome = cells[10].all("span", class_="mark")[0].said
                metrics[symbol] = Numbers(cells[1].said, cells[2].said, cells[3].said, outcome)
        told[recipe, combination] = Told(body.all("summary")[0].all("span", class_="mark")[0].said, metrics)
    return told


@pytest.mark.parametrize("rule", ["strict", "paper"])
@pytest.mark.parametrize("name", JUDGED)
def test_every_form_says_the_same_of_every_cell(name: str, rule: Rule) -> None:
    wanted, known = committed(name)
    if rule == "paper" and (wanted.start is not None or wanted.correction == "holm"):
        pytest.skip("the study refuses the paper's rule")
    found = find(wanted, known, rule)
    told = in_json(found)
    assert len(told) == len(found.verdicts) > 0
    assert told_in(of_text(found)) == told
    assert told_in(of_markdown(found)) == told
    assert on_page(found) == told


@pytest.mark.parametrize("name", JUDGED)
def test_figures_and_latex_say_so_too(name: str) -> None:
    found = find(*committed(name))
    said = svg_texts(draw("matrix", found, "svg"))
    drawn = [verdict.outcome(found.rule) for verdict in _as_drawn(found)]
    marks = {f"{look.symbol} {word}": word for word, look in LOOKS.items()}
    assert [marks[text] for text in said if text in marks] == drawn
    report = FORMS["tex"](found).decode()
    assert "U+" not in report, "every letter of our own has a command"
    # From the first combination on: the table of all verdicts has no values (tests/test_latex_overview.py).
    printed = report[report.index(r"\caption{\textbf{\{") :].partition("Each mechanism alone: mean")[0]
    values = re.findall(r"(\\gc(?:Kept|Conflict|Undecided|NotCredible|Ineffective))\{(\$[^$]*\$)\}", printed)
    # Where a pair is wider than a page, the task's own metric stands in the table of each mechanism.
    assert set(values) == set(_in_latex(found))
    counted, once = Counter(values), Counter(_in_latex(found))
    assert all(counted[one] >= times for one, times in once.items())


def _as_drawn(found: Findings) -> list[Verdict]:
    """Recipe by recipe, or side by side; row by row, column by column; then the larger ones."""
    pairs, larger = found.pairs, [one for one in found.study.combinations if len(one) > 2]
    shown = []
    if pairs:
        places = range(len(pairs.recipes))
        groups = [places] if len(places) * len(pairs.columns) <= 5 else [[place] for place in places]
        shown = [
            way.cell.key
            for group in groups
            for row in pairs.rows
            for by_recipe in row.pairs
            for place in group
            for way in by_recipe[place].ways
        ]
    shown += [found.study.cell(recipe, one).key for one in larger for recipe in found.study.recipes]
    assert sorted(shown) == sorted(found.by_cell), "every verdict once"
    return [found.by_cell[key] for key in shown]


def _in_latex(found: Findings) -> list[tuple[str, str]]:
    """The command of every judged metric that has all its seeds, around its mean and deviation."""
    fields = []
    for verdict in found.verdicts:
        for one in verdict.judgements:
            if one.metric.criterion is None or one.together.n < found.needed[verdict.cell]:
                continue
            mean = number(one.metric, one.together.mean)
            value = r"$\infty$" if mean == "∞" else rf"${mean}{{\pm}}{one.together.std:.{one.metric.decimals}f}$"
            word = one.outcome(found.rule)
            like = {"no difference": "compatible", "difference": "conflict"}
            fields.append((LOOKS[like.get(word, word)].command, value))
    return fields


# Order

WAYS = ["at once", "wm → advtr", "advtr → wm"]


def test_a_matrix_says_in_which_order_a_pair_is_trained() -> None:
    found = find(*committed("order"))
    expected = {
        (verdict.recipe, way): verdict.outcome("strict")
        for verdict in found.verdicts
        for way in [braces(verdict.combination)[1:-1].replace(", ", " & ")]
    }
    page = read(FORMS["html"](found).decode())
    wm = page.all("table", class_="matrix")[0].all("tbody")[0].all("tr")[0]
    for cell, recipe in zip(wm.all("td"), ("mnist/reduced", "fmnist/reduced"), strict=False):
        links = cell.all("a", class_="way")
        assert [link.all("span", class_="words")[0].said for link in links] == WAYS
        told = [link.all("span", class_="mark")[0].said for link in links]
        assert told == [expected[recipe, way] for way in ("wm & advtr", *WAYS[1:])]
        looks = [words.look(word) for word in told]
        assert all(look in link.attributes["class"] for look, link in zip(looks, links, strict=True))
    said = svg_texts(draw("matrix", found, "svg"))
    others = ["wm → dpsgd", "dpsgd → wm"], ["raddata → advtr", "advtr → raddata"]
    in_order = [*WAYS, *(way for other in others for way in ("at once", *other))]
    assert [text for text in said if text in in_order] == in_order * len(found.study.recipes)
    assert "a → b: b is trained on the weights that a left" in " ".join(said)


def test_a_study_that_trains_everything_at_once_has_no_word_for_it() -> None:
    found = find(*committed("raddata-pairs"))
    assert "at once" not in FORMS["html"](found).decode().lower()
    assert "at once" not in " ".join(svg_texts(draw("matrix", found, "svg"))).lower()


def test_studies_with_sequences_have_all_figures() -> None:
    found = find(*committed("order"))
    assert {"{wm, advtr}", "{wm → advtr}", "{advtr → wm}"} <= set(svg_texts(draw("metrics", found, "svg")))
    assert "{advtr → wm}" in " ".join(svg_texts(draw("pareto", found, "svg"))).replace("\N{NO-BREAK SPACE}", " ")


def svg_texts(svg: bytes) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("}text")]


def test_latex_says_in_which_order_a_pair_is_trained() -> None:
    found = find(*committed("order"))
    captions = re.findall(r"\\textbf\{(\\\{.*?\\\})\}\.", FORMS["tex"](found).decode())
    expected = [braces(one.combination) for one in found.verdicts if one.recipe == found.verdicts[0].recipe]
    plain = [one.replace("$\\to$", "→").replace("\\", "") for one in dict.fromkeys(captions)]
    assert plain == expected and len(plain) == 9


# Sweeps


def test_what_is_trained_in_another_order_is_another_line_of_a_sweep() -> None:
    swept = {"name": "b", "sweep": {"strength": [1, 3]}}
    wanted = study_from(
        {
            "recipes": [{"dataset": "digits", "scale": "smoke"}],
            "combinations": [{"mechanisms": ["a", swept], "orders": True}],
            "replicates": {"alone": 3, "together": 3},
        }
    )
    found = find(wanted, results(wanted))
    lines = {
        line.label: [point.option for point in line.points] for one in found.sweeps[0].metrics for line in one.lines
    }
    assert {"{a, b}", "{a → b}", "{b → a}"} <= set(lines)
    assert all(values == [1, 3] for values in lines.values())


def test_a_sweep_has_the_same_numbers_in_the_figure_and_on_the_page() -> None:
    """Means and the ends of intervals, read off what is drawn."""
    swept = {"name": "a", "sweep": {"strength": [1, 2, 10]}}
    wanted = study([swept, "b"])
    for alpha in (0.05, 0.01):
        found = find(replace(wanted, alpha=alpha), results(wanted))
        drawn, charted = in_figure(found, "φ_MARK of a"), in_chart(found, "φ_MARK of a over")["{a, b}"]
        (line,) = [
            line
            for one in found.sweeps[0].metrics
            if one.metric.name == "mark"
            for line in one.lines
            if line.label == "{a, b}"
        ]
        told = [(point.values.mean, *(point.interval or ())) for point in line.points]
        assert all(high - low > 0.01 for _, low, high in told)
        assert drawn == [pytest.approx(point) for point in told]
        assert charted == [pytest.approx(point, abs=0.002) for point in told], "places have one decimal"


def in_figure(found: Findings, title: str) -> list[tuple[float, float, float]]:
    """Mean and interval at each value of the option, of the first line in a panel."""
    with mpl.rc_context():
        mpl.rcParams.update(STYLE)
        figure = sweep(found)
        (axes,) = [axes for axes in figure.axes if axes.get_title().strip() == title]
        lines = [line for line in axes.lines if line.get_marker() == "o"]
        bars = [one for one in axes.collections if type(one).__name__ == "LineCollection"]
        ends = [[y for _, y in segment] for one in bars for segment in one.get_segments()]
        means = list(lines[0].get_ydata())
    own = [min(ends, key=lambda both: abs(sum(both) / 2 - mean)) for mean in means]
    return [(mean, *both) for mean, both in zip(means, own, strict=True)]


def in_chart(found: Findings, head: str) -> dict[str, list[tuple[float, float, float]]]:
    """Of each curve in a chart of the page: mean and interval at each value of the option."""
    page = read(FORMS["html"](found).decode())
    (chart,) = [one for one in page.all("svg", class_="chart") if one.attributes["aria-label"].startswith(head)]
    ticks = [
        (float(one.said), float(one.attributes["y"]) - 4)
        for one in chart.all("text", class_="tick")
        if "end" in one.attributes["class"]
    ]
    (low, at), *_, (high, top) = ticks
    names = [one.said for one in chart.all("text", class_="name") if "start" in one.attributes["class"]]

    def value(y: float) -> float:
        return low + (y - at) * (high - low) / (top - at)

    told: dict[str, list[tuple[float, float, float]]] = {}
    for hue, name in enumerate(names):
        bars = [one for one in chart.all("line", class_=f"hue-{hue}") if "interval" in one.attributes["class"]]
        means = [one for one in chart.all("path", class_=f"hue-{hue}") if "mean" in one.attributes["class"]]
        heights = [float(re.match(r"M\S+ ([-\d.]+)", one.attributes["d"])[1]) for one in means]
        ends = [sorted(value(float(one.attributes[name])) for name in ("y1", "y2")) for one in bars]
        told[name] = [(value(y), *both) for y, both in zip(heights, ends, strict=False)]
    return told


# Tasks that are judged by other utilities


def test_every_form_calls_the_utility_of_a_task_by_its_name() -> None:
    recipes = [{"dataset": "digits", "scale": "smoke"}, {"dataset": "mnist", "scale": "smoke"}]
    swept = {"name": "b", "sweep": {"strength": [1, 2]}}
    wanted = study(["a", swept], ["p", "b"], recipes=recipes)
    content = to_plain(results(wanted))
    renamed = [
        json.loads(json.dumps(cell).replace('"accuracy"', '"auroc"').replace("\\u03c6_ACC", "AUC"))
        if cell["key"] in [one.key for one in wanted.cells() if one.recipe.name == "mnist"]
        else cell
        for cell in content["cells"]
    ]
    found = find(wanted, results_from({**content, "cells": renamed}))
    assert [metric.name for metric in found.results.utilities] == ["accuracy", "auroc"]
    said = svg_texts(draw("pareto", found, "svg"))
    axes = [text.split()[0] for text in said if text.startswith(("φ_ACC (", "AUC ("))]
    assert axes and axes.count("φ_ACC") == axes.count("AUC"), "as many panels of each"
    assert any("utility against other judged metrics" in text for text in said)
    page = read(FORMS["html"](found).decode())
    heads = [
        (section.all("h3")[0].said.split("/")[0], table.all("thead")[0].all("th")[4].said)
        for section in page.all("details", class_="cell")
        for table in section.all("table")
        if any(caption.said.startswith("Ownership claims") for caption in table.all("caption"))
    ]
    assert set(heads) == {("digits", "φACC"), ("mnist", "AUC")}
    for claim in found.claims:
        assert claim.to_dict()["utility"]["metric"] == ("auroc" if claim.recipe.startswith("mnist") else "accuracy")
    told = {one.recipe: {judged.metric.symbol for judged in one.judgements} for one in found.verdicts}
    assert "AUC" in told["mnist/smoke"] and "AUC" not in told["digits/smoke"]
    tables = of_text(found)
    for title in (title for title in tables if title.startswith("mnist/smoke ")):
        assert tables[title][0][0] == "AUC"


# Size


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDS)
def test_pages_can_be_mailed(name: str) -> None:
    assert len(FORMS["html"](find(*committed(name)))) < 3_000_000
