"""The report as an HTML page: well-formed, self-contained, escaped, and of the same numbers as the JSON."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committed import COMMITTED, LARGEST, RECORDS, committed
from guardclash.judging.criteria import ACCURACY, Ceiling, Floor, MaxDrop, MaxGrowth, Metric
from guardclash.judging.rules import OUTCOMES, RULES
from guardclash.judging.stats import Sample
from guardclash.reporting import claims as claims_module
from guardclash.reporting.export import to_json
from guardclash.reporting.page import render_html
from guardclash.reporting.page_parts import accounts, words
from guardclash.reporting.page_parts.charts import LEFT, RIGHT, WIDTH, Dot, Label, Line, Outline, plain, ticks
from guardclash.reporting.page_parts.curves import Curve, curves
from guardclash.reporting.page_parts.plan_tree import plan_tree
from guardclash.reporting.page_parts.strips import Guide, arm, strip
from guardclash.reporting.page_parts.study_text import study_text
from guardclash.reporting.tables import number, p_value
from guardclash.studies.results import Results
from guardclash.studies.store import SCHEMA
from guardclash.studies.study import Cell, Named, Study, Suspected
from guardclash.studies.study_file import read_study, study_from

ROOT = Path(__file__).parents[1]
PARTS = files("guardclash.reporting").joinpath("page_parts")
BLOCKS = {"td", "th", "dt", "dd", "li", "p", "div", "h2", "h3", "caption", "button"}
VOID = {"meta", "link", "br", "wbr", "hr", "img", "input"}

MARK = Metric("mark", "φ_MARK", MaxDrop(0.30), title="how many marks are found")
EXTRA = Metric("extra", "χ", None)
COST = Metric("cost", "ζ", MaxGrowth(1.5), higher_is_better=False, decimals=1)
PRINT = Metric("print", "φ_P", Ceiling(-3), False, 1, log10=True, controls=("framed",))
FRAMED = Metric("framed", "framed", None, False, 1, log10=True)
TRACE = Metric("trace", "φ_T", Floor(0.01), decimals=3)
METRICS: dict[str | None, tuple[Metric, ...]] = {
    None: (ACCURACY,),
    "a": (MARK, EXTRA),
    "b": (COST,),
    "c": (),
    "p": (PRINT, FRAMED),
    "q": (TRACE,),
}
Value = Callable[[tuple[str, ...], str | None, str, int], float | None]
EVIL = "<script>alert(1)</script>"
"""As a name, it must stay text."""
QUOTED = "\" onload='alert(1)' x=\""
"""As an attribute, it must stay one value."""


# A study with everything in it


def study(*combinations: list[Any], **keys: Any) -> Study:
    wanted = [{"mechanisms": mechanisms} for mechanisms in combinations or (["a", "b"],)]
    table = {"recipes": [{"dataset": "digits", "scale": "smoke"}], "replicates": {"alone": 4, "together": 5}}
    return study_from({**table, "combinations": wanted, **keys})


def value_of(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float | None:
    """b breaks the mark of a; {b, c} is noisy; the prints of p are not credible; q has no trace even alone."""
    wobble = 0.01 * math.sin(3 * seed + len(names))
    if metric == "accuracy":
        return 0.9 + (0.3 * math.cos(2 * seed) if names == ("b", "c") else wobble)
    if metric in ("print", "framed"):
        return -9.0 + wobble if "p" in names else -0.5
    if metric == "mark":
        return (0.2 if "b" in names or "a" not in names else 0.95) + wobble
    return {"cost": 3.0, "trace": -0.5 + wobble, "extra": seed + wobble}[metric]


def plan_of(names: tuple[str, ...]) -> dict[str, Any]:
    gradient = {"type": "Noisy", "clip": 1} if "b" in names else {"type": "Mean"}
    streams = [{"type": "Stream", "name": "task", "gradient": gradient, "maps": []}]
    streams += [{"type": "Stream", "name": "trigger", "gradient": gradient, "maps": []}] if "a" in names else []
    return {"type": "Plan", "epochs": 2, "streams": streams, "rewrites": []}


def trial_of(wanted: Study, cell: Cell, seed: int, value: Value) -> dict[str, Any]:
    names, found = tuple(named.name for named in cell.combination), []
    for of in (None, *(wanted.measured_in(cell) if not cell.suspect else cell.combination)):
        given = {m.name: value(names, of and of.name, m.name, seed) for m in METRICS.get(of and of.name, ())}
        kept = {name: number for name, number in given.items() if number is not None}
        found.append(
            {"of": of and of.to_dict(), "values": kept, "warnings": [f"beware of {seed % 2}"] * (len(names) > 1)}
        )
    return {"seed": seed, "trial": f"{'-'.join(names)}-{seed}", "seconds": 61.5 + seed, "measurements": found}


def cell_of(wanted: Study, cell: Cell, value: Value, clash: str | None = None) -> dict[str, Any]:
    names = tuple(named.name for named in cell.combination)
    recipe = {"dataset": "digits", "scale": "smoke", "epochs": 2, "protected_epochs": None, "examples": 256}
    recipe |= {"test_examples": None, "model": "cnn4-small", "norm": "batch", "batch_size": 64}
    measured = (None, *(wanted.measured_in(cell) if not cell.suspect else cell.combination))
    measures = [
        {"of": of and of.to_dict(), "metrics": [metric.to_dict() for metric in METRICS.get(of and of.name, ())]}
        for of in measured
    ]
    suspect = (
        {"suspect": cell.suspect.to_dict(), "stolen": cell.suspect.kind.name == "extraction"} if cell.suspect else {}
    )
    return {
        **suspect,
        "key": cell.key,
        "recipe": recipe,
        "combination": [named.to_dict() for named in cell.combination],
        "clash": clash,
        "plan": None if clash else "+".join(names) or "bare",
        "composed": None if clash else plan_of(names),
        "facts": {"b": {"cost of task": "3 (δ = 1e-05)"}} if "b" in names and not clash else {},
        "measures": measures,
        "trials": [] if clash else [trial_of(wanted, cell, seed, value) for seed in wanted.seeds(cell)],
    }


def results(wanted: Study, value: Value = value_of, clashing: tuple[str, ...] | None = None) -> Results:
    """A results file as a run writes it; values of None are not there."""

    def clash(cell: Cell) -> str | None:
        return "both want the gradient" if tuple(one.name for one in cell.combination) == clashing else None

    cells = [cell_of(wanted, cell, value, clash(cell)) for cell in (*wanted.cells(), *wanted.suspect_cells())]
    content = {
        "schema": SCHEMA,
        "study": wanted.name,
        "written": "2026-01-02T03:04:05Z",
        "environments": [{"guardclash": "0.1.0", "processor": "none", "commit": "abc123"}],
        "cells": cells,
    }
    return Results(json.loads(json.dumps(content)))


PAIRS = (["a", "b"], ["a", "c"], ["b", "c"], ["p", "c"], ["q", "c"], ["p", "q"])
EXPECTED = ("conflict", "compatible", "undecided", "not credible", "ineffective", "clash")


def everything() -> tuple[Study, Results]:
    suspects = [{"kind": "extraction"}, {"kind": "independent"}]
    wanted = study(*PAIRS, ["a", "b", "c"], ["p"], suspects=suspects)
    return wanted, results(wanted, clashing=("p", "q"))


# Reading a page


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    parent: Element | None
    content: list[Element | str] = field(default_factory=list)

    def walk(self) -> Iterator[Element]:
        yield self
        for part in self.content:
            if isinstance(part, Element):
                yield from part.walk()

    @property
    def text(self) -> str:
        inner = "".join(part if isinstance(part, str) else part.text for part in self.content)
        return f" {inner} " if self.tag in BLOCKS else inner

    @property
    def said(self) -> str:
        """The text with its blanks made one."""
        return " ".join(self.text.split())

    def all(self, tag: str, **attributes: str) -> list[Element]:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            one
            for one in self.walk()
            if one.tag == tag
            and all(value in (one.attributes.get(name) or "").split() for name, value in wanted.items())
        ]


class Reader(HTMLParser):
    """A tree; an element that is closed in the wrong order or not at all fails the test."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = self.at = Element("", {}, None)
        self.feed(text)
        self.close()
        assert self.at is self.root, f"<{self.at.tag}> is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute stands twice in <{tag}>: {attrs}"
        made = Element(tag, dict(attrs), self.at)
        self.at.content.append(made)
        if tag not in VOID:
            self.at = made

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at.content.append(Element(tag, dict(attrs), self.at))

    def handle_endtag(self, tag: str) -> None:
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.content.append(data)


def read(text: str) -> Element:
    return Reader(text).root


@pytest.fixture(scope="module")
def whole() -> Element:
    return read(render_html(*everything(), "strict"))


def section(page: Element, id: str) -> Element:
    (found,) = [one for one in page.walk() if one.attributes.get("id") == id]
    return found


def row_with(page: Element, *cells: str) -> Element:
    """The only row of a table that begins with these texts."""
    rows = [
        row
        for row in page.all("tr")
        if [one.said for one in row.content if isinstance(one, Element)][: len(cells)] == [*cells]
    ]
    (found,) = rows
    return found


def sound(page: Element) -> None:
    """What holds for every page."""
    ids = [one.attributes["id"] for one in page.walk() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    for one in page.walk():
        for name in ("aria-controls", "aria-labelledby", "aria-describedby", "for"):
            assert all(id in ids for id in (one.attributes.get(name) or "").split()), one.attributes
        for name in ("href", "src", "xlink:href", "action", "data", "poster", "srcset"):
            address = one.attributes.get(name)
            if one.tag == "img" and name == "src":
                assert (address or "").startswith("data:image/png;base64,iVBORw0KGgo")
                assert one.attributes["alt"], "a picture says what it shows"
                continue
            assert address is None or address == "data:," or address.startswith("#"), (one.tag, address)
            assert address in (None, "data:,") or address[1:] in ids, address
        assert not [name for name in one.attributes if name.startswith("on")], one.attributes
        assert "style" not in one.attributes, "the page's policy forbids it"
    assert all("url(" not in style.text and "@import" not in style.text for style in page.all("style"))
    assert len(page.all("script")) == 1
    assert page.all("script")[0].text == PARTS.joinpath("page.js").read_text(encoding="utf-8")
    levels = [int(one.tag[1]) for one in page.walk() if re.fullmatch("h[1-6]", one.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), levels
    for table in page.all("table"):
        assert table.all("caption")[0].said
        assert all(one.attributes.get("scope") in ("row", "col", "rowgroup", "colgroup") for one in table.all("th"))
    for chart in page.all("svg", class_="chart"):
        assert (chart.attributes["xmlns"], chart.attributes["role"]) == ("http://www.w3.org/2000/svg", "img")
        assert chart.attributes["aria-label"]
    charts, buttons = page.all("svg", class_="chart"), page.all("button", class_="download")
    assert len(charts) == len(buttons)
    names = [button.attributes["data-name"] for button in buttons]
    assert len(names) == len(set(names)), "files would replace each other"


# The whole page


@pytest.mark.parametrize("rule", RULES)
def test_a_page_is_well_formed_and_refers_to_nothing_outside(rule):
    sound(read(render_html(*everything(), rule)))


@pytest.mark.parametrize("name", COMMITTED)
def test_pages_of_the_committed_studies(name):
    wanted, found = committed(name)
    text = render_html(wanted, found, wanted.rule)
    page = read(text)
    sound(page)
    assert page.all("h1")[0].said == wanted.name
    assert len(text.encode()) < 5_000_000
    charts = re.findall(r"<svg class=\"chart\".*?</svg>", text, re.DOTALL)
    assert charts
    assert len(charts) == len(set(charts)), "a chart stands in the page twice"


def test_the_largest_study_is_fast_and_small():
    wanted, found = committed(LARGEST)
    begun = time.process_time()
    text = render_html(wanted, found, "strict")
    assert time.process_time() - begun < 3
    assert len(text.encode()) < 2_000_000
    records = RECORDS[LARGEST].read_text(encoding="utf-8")
    longest = max(len(part) for one in read(text).walk() for part in one.content if isinstance(part, str))
    assert longest < len(records) / 20, "no records are kept in the page as such"


def test_the_same_records_give_the_same_bytes():
    """In processes that order sets differently."""
    code = "import hashlib, sys; from pathlib import Path; from guardclash.reporting.page import render_html;"
    code += "from guardclash.studies.results import read_results; from guardclash.studies.study_file import read_study;"
    code += "study, found = read_study(sys.argv[1]), read_results(Path(sys.argv[2]));"
    code += "print(hashlib.sha256(render_html(study, found, 'strict').encode()).hexdigest());"
    code += "print([name for name in ('torch', 'matplotlib', 'pandas') if name in sys.modules])"
    paths = str(ROOT / "studies/raddata-wm.toml"), str(ROOT / "results/raddata-wm/results.json")
    said = [
        subprocess.run(
            [sys.executable, "-c", code, *paths],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.split("\n")
        for seed in ("1", "2")
    ]
    expected = hashlib.sha256(render_html(*committed("raddata-wm"), "strict").encode()).hexdigest()
    assert said == [[expected, "[]", ""]] * 2


def test_the_head_says_how_it_was_judged(whole):
    head = {one.all("dt")[0].said: one.all("dd")[0].said for one in whole.all("dl", class_="head")[0].all("div")}
    assert head["Rule"].startswith("strict")
    assert head["Level of the tests"] == "α = 0.05, correction for their number: none"
    assert head["Seeds"] == "4 alone, 5 together and 5 of each suspect, from 0 on"
    assert head["Recipes"] == "digits/smoke"
    assert head["Scale"].startswith("smoke scale")
    assert head["Records of"] == "2026-01-02 03:04:05 UTC"
    paper = read(render_html(*everything(), "paper")).all("dl", class_="head")[0].said
    assert "the study itself asks for strict" in paper


# Verdicts


def test_the_matrix_says_every_outcome_by_word_symbol_and_colour(whole):
    table = whole.all("table", class_="matrix")[0]
    found = {}
    for link in table.all("a"):
        word, place = link.said.split(" : ")
        found[place] = re.match(r"[a-z ]+", word).group().strip()
        look = words.look(found[place])
        assert {one.attributes["href"] for one in link.all("use")} == {f"#icon-{look}"}
        assert look in link.parent.attributes["class"].split()
        assert link.attributes["href"] == f"#{link.attributes['aria-controls']}"
    places = [f"{{{', '.join(pair)}}} on digits/smoke" for pair in PAIRS]
    assert found == dict(zip(places, EXPECTED, strict=True))
    assert sorted(EXPECTED) == sorted(OUTCOMES)
    assert table.all("td", class_="quiet")[0].said == "not asked"
    assert [one.said for one in table.all("th", scope="row")] == ["a", "b", "c", "p"]
    assert [one.said for one in table.all("th", scope="col")] == ["b", "c", "p", "q"]
    assert row_with(table, "b", "the same mechanism", "undecided : {b, c} on digits/smoke", "not asked", "not asked")
    assert row_with(table, "c", "see the other half", "the same mechanism")
    broken = next(link for link in table.all("a") if "{a, b}" in link.said)
    assert broken.all("span", class_="because")[0].said == "φMARK"


def test_the_words_that_occur_are_explained(whole):
    key = {one.all("dt")[0].said: one.all("dd")[0].said for one in whole.all("dl", class_="key")[0].all("div")}
    assert list(key.items()) == list(words.MEANINGS.items())
    assert (*list(words.MEANINGS)[:-1],) == tuple(sorted(OUTCOMES, key=list(words.MEANINGS).index))
    small = read(render_html(study(), results(study()), "strict"))
    assert [one.said for one in small.all("dl", class_="key")[0].all("dt")] == ["conflict"]


def test_larger_combinations_stand_below_the_matrix(whole):
    (table,) = whole.all("table", class_="list")
    assert row_with(table, "{a, b, c}", "digits/smoke").all("a")[0].said.startswith("conflict φMARK")


@pytest.mark.parametrize(("recipes", "across"), [(2, True), (4, False)])
def test_recipes_stand_side_by_side_until_they_are_too_many(recipes, across):
    scales = [{"dataset": "digits", "scale": "smoke", "epochs": epochs} for epochs in range(1, recipes + 1)]
    wanted = study(["a", "c"], ["b", "c"], ["a", "b"], recipes=scales)
    page = read(render_html(wanted, results(wanted), "strict"))
    sound(page)
    table = page.all("table", class_="matrix")[0]
    assert len(table.all("a")) == 3 * recipes
    assert bool(table.all("th", scope="colgroup")) == across
    assert bool(table.all("th", scope="rowgroup")) == (not across)
    grid = [
        sum(int(one.attributes.get("colspan") or 1) for one in row.content if isinstance(one, Element))
        for row in table.all("tr")
    ]
    assert len(set(grid[2:])) <= 2, "rows are of equal width, but for the rowgroup's head"


def test_variants_of_a_mechanism_are_told_apart_and_never_combined():
    wanted = study([{"name": "a", "sweep": {"size": [1, 2]}}, {"name": "a2", "x": 1}], ["c", {"name": "a", "size": 2}])
    page = read(render_html(wanted, results(wanted), "strict"))
    table = page.all("table", class_="matrix")[0]
    assert [one.said for one in table.all("th", scope="row")] == ["a(size=1)", "a(size=2)"]
    assert [one.said for one in table.all("th", scope="col")] == ["a2", "c"]
    assert row_with(table, "a(size=1)").all("td", class_="quiet")[0].said == "not asked"
    pair = study(["c", "a"], [{"name": "a", "size": 2}, "b"])
    assert (
        "the same mechanism" in read(render_html(pair, results(pair), "strict")).all("table", class_="matrix")[0].said
    )


def test_both_orders_of_a_pair_share_a_slot():
    wanted = study(["a", "b"], ["b", "a"])
    page = read(render_html(wanted, results(wanted), "strict"))
    sound(page)
    links = page.all("table", class_="matrix")[0].all("a")
    assert [link.attributes["href"] for link in links] == ["#digits-smoke-a-b", "#digits-smoke-b-a"]


def test_a_study_without_combinations_has_no_matrix():
    wanted = study(["a"], ["b"])
    page = read(render_html(wanted, results(wanted), "strict"))
    sound(page)
    assert not page.all("table", class_="matrix")
    assert "so there are no verdicts" in page.said
    assert "φMARK" in section(page, "digits-smoke-a").said


# Details agree with the JSON


@pytest.mark.parametrize("name", ["everything", "wm-dpsgd-mnist", "raddata-pairs"])
@pytest.mark.parametrize("rule", RULES)
def test_details_and_json_say_the_same(name, rule):
    wanted, found = everything() if name == "everything" else committed(name)
    page, content = read(render_html(wanted, found, rule)), to_json(wanted, found, rule)
    for verdict in content["verdicts"]:
        label = "{" + ", ".join(verdict["combination"]) + "}"
        body = section(page, words.slug(" ".join((verdict["recipe"], *verdict["combination"]))))
        (summary,) = [one for one in body.parent.content if isinstance(one, Element) and one.tag == "summary"]
        assert summary.said.startswith(f"{verdict['recipe']} {label} {verdict['outcome']}")
        other = next(one for one in RULES if one != rule)
        same = verdict["outcomes"][rule] == verdict["outcomes"][other]
        assert f"{'Also' if same else 'But'} {verdict['outcomes'][other]} by the rule {other}." in body.said
        if verdict["clash"]:
            assert verdict["clash"] in body.said
            continue
        rows = body.all("table")[0].all("tr")[2:]
        for row, entry in zip(rows, verdict["judgements"], strict=True):
            assert_row_agrees(row, entry)
        charts = len(body.all("svg", class_="chart"))
        assert charts == len(verdict["judgements"])


def assert_row_agrees(row: Element, entry: dict[str, Any]) -> None:
    metric = Metric(entry["metric"], entry["symbol"], None, decimals=entry["definition"]["decimals"])
    cells = [one.said for one in row.content if isinstance(one, Element)]
    for arm_name, said in (("alone", cells[1]), ("together", cells[2])):
        numbers = entry[arm_name]
        assert said == "-" if not numbers["n"] else said.startswith(number(metric, numbers["mean"]))
        assert said == "-" or said.endswith(f"(n={numbers['n']})")
    assert cells[3].startswith(number(metric, entry["difference"]))
    if entry["interval"]:
        assert cells[3].endswith(f"[{number(metric, entry['interval'][0])}, {number(metric, entry['interval'][1])}]")
    decisive = entry["adjusted"] or entry
    names = ("p_difference", "p_equivalence", "p_noninferior", "p_inferior")
    assert [said.split(" ")[0] for said in cells[5:9]] == [p_value(decisive[name]) for name in names]
    for said, outcome in zip(cells[9:11], entry["outcomes"].values(), strict=True):
        assert said.startswith(outcome)
    needed = entry["replicates_needed"] and entry["outcomes"]["strict"] == "undecided"
    assert ("would probably decide" in cells[9] + cells[10]) == bool(needed)


def test_corrected_p_values_stand_beside_the_raw_ones():
    wanted = study(["a", "b"], ["a", "c"], correction="holm")
    page, content = read(render_html(wanted, results(wanted), "strict")), to_json(wanted, results(wanted), "strict")
    entry = content["verdicts"][0]["judgements"][1]
    row = next(row for row in section(page, "digits-smoke-a-b").all("tr") if row.said.startswith("φMARK"))
    adjusted, raw = entry["adjusted"]["p_difference"], entry["p_difference"]
    assert adjusted != raw
    assert f" {p_value(adjusted)} raw {p_value(raw)} " in row.said


def test_why_a_verdict_is_what_it_is(whole):
    def first(*names: str) -> str:
        return section(whole, f"digits-smoke-{'-'.join(names)}").all("ul", class_="sentences")[0].said

    assert "φMARK breaks its limit (drop 0.3): 0.95 alone, 0.20 together." in first("a", "b")
    assert "φACC and φMARK stay within their limits." in first("a", "c")
    assert re.search(
        r"φACC is undecided \(limit: drop 0.1\): .*; \d+ replicates in each arm would prob", first("b", "c")
    )
    assert "φP is met, but so is its control framed." in first("p", "c")
    assert "φT misses its limit (≥ 0.01) already alone" in first("q", "c")
    assert first("p", "q").startswith("The mechanisms cannot be built together: both want the gradient.")


def test_a_chart_shows_every_seed_the_limit_and_the_band(whole):
    body = section(whole, "digits-smoke-a-b")
    (chart,) = [one for one in body.all("svg", class_="chart") if one.attributes["aria-label"].startswith("φ_MARK")]
    dots = [one.said for one in chart.all("title")]
    values = [value_of(("a",), "a", "mark", seed) for seed in range(4)]
    values += [value_of(("a", "b"), "a", "mark", seed) for seed in range(5)]
    assert dots == [f"seed {seed}: {value:.6g}" for seed, value in zip([*range(4), *range(5)], values, strict=True)]
    assert [one.said for one in chart.all("text", class_="name")] == ["alone", "together", "difference"]
    assert len(chart.all("rect", class_="band")) == len(chart.all("line", class_="limit")) == 1
    limit = sum(values[:4]) / 4 - 0.3
    assert chart.all("text", class_="small")[0].said == f"limit {limit:.2f}"
    assert (
        "alone (a) 0.95±0.01 (n=4), together 0.20±0.01 (n=5), limit: drop 0.3."
        in chart.attributes["aria-label"].lower()
    )
    heads = " ".join(one.said for one in reversed(chart.all("text", class_="head")))
    assert heads == "φ_MARK, digits/smoke {a, b}: conflict"


def test_plans_are_trees_that_mark_what_the_mechanisms_changed(whole):
    body = section(whole, "digits-smoke-a-b")
    (tree,) = body.all("div", class_="plan")
    changed = [one.said for one in tree.all("li", class_="changed")]
    assert "gradient Noisy(clip=1) (changed)" in changed
    assert "name trigger (changed)" in changed
    assert "epochs 2" in [one.said for one in tree.all("li")]
    assert "a+b, 4 lines changed by the mechanisms" in body.said


def test_a_plan_without_a_counterpart_is_compared_with_nothing():
    tree = plan_tree({"composed": plan_of(("a",)), "plan": "x"}, None)
    assert tree is not None
    assert (tree.compared, tree.summary) == (False, "")
    assert plan_tree({"composed": None, "plan": None}, None) is None


def test_circumstances_stand_in_the_details(whole):
    said = section(whole, "digits-smoke-a-b").said
    assert "b: cost of task 3 (δ = 1e-05)" in said
    assert "beware of 0 (seeds 0, 2 and 4)" in said
    assert "beware of 1 (seeds 1 and 3)" in said
    assert "5 trainings (seeds 0 to 4): 1 min 4 s each on average, 5 min 18 s in all." in said
    assert "With and without each mechanism" in said


def test_controls_and_claims_agree_with_the_json(whole):
    content = to_json(*everything(), "strict")
    body = section(whole, "digits-smoke-p-c")
    (table,) = [one for one in body.all("table") if "Ownership claims" in one.said]
    for claim in content["claims"]:
        if claim["combination"] == ["p", "c"]:
            row = row_with(table, claim["suspect"])
            assert row.said.endswith(claim["outcome"])
            assert f"{len(claim['claimed'])} of {len(claim['seeds'])}" in row.said
    assert row_with(table, "control: framed").said.endswith("fires")
    overview = section(whole, "claims").parent
    assert row_with(overview, "digits/smoke {p, c}", "φP").said.endswith("not credible not credible false claim")
    control = next(one for one in content["controls"] if one["combination"] == ["a", "b"] and one["metric"] == "mark")
    (beside,) = [one for one in section(whole, "digits-smoke-a-b").all("table") if "With and without" in one.said]
    assert row_with(beside, "φMARK how many marks are found").said.split()[-3] == number(MARK, control["difference"])


# Records


def test_raw_values_are_all_there_in_full(whole):
    shown = [one.attributes["value"] for one in section(whole, "values").parent.all("data")]
    wanted, found = everything()
    kept = []
    for cell in (*wanted.cells(), *wanted.suspect_cells()):
        for trial in found.cell(cell)["trials"]:
            kept += [repr(trial["seconds"])]
            kept += [repr(value) for one in trial["measurements"] for value in one["values"].values()]
    assert sorted(shown) == sorted(kept)


def test_a_half_finished_study_says_what_is_missing():
    wanted = study(["a", "b"], ["a", "c"])
    found = results(wanted)
    cells = found.content["cells"]
    for entry in cells:
        if len(entry["combination"]) == 2 and entry["combination"][1]["name"] == "b":
            entry["trials"] = entry["trials"][:3]
            entry["trials"][2] = {
                "seed": 2,
                "trial": "x",
                "error": "Traceback\nOSError: no <b>luck</b>\n",
                "measurements": [],
            }
    page = read(render_html(wanted, found, "strict"))
    sound(page)
    banner = section(page, "unfinished").parent
    assert "This study is not finished" in banner.said
    assert "23 of 26 replicates are trained and measured" in banner.said
    assert row_with(banner, "digits/smoke {a, b}", "2 of 5", "seed 2: OSError: no <b>luck</b>")
    assert not banner.all("b")
    assert "undecided unfinished" in page.all("table", class_="matrix")[0].said
    assert "Still to be measured: accuracy, together: 2 of 5" in section(page, "digits-smoke-a-b").said
    assert not [
        one
        for one in read(render_html(wanted, results(wanted), "strict")).walk()
        if one.attributes.get("id") == "unfinished"
    ]


def test_nothing_is_measured_yet():
    wanted = study(["a", "b"], ["a"], suspects=[{"kind": "extraction"}])
    for found in (
        Results({"schema": SCHEMA, "study": "study", "cells": []}),
        results(wanted, lambda *asked: None),
        Results({**results(wanted).content, "cells": results(wanted).content["cells"][:1]}),
    ):
        page = read(render_html(wanted, found, "strict"))
        sound(page)
        assert "undecided" in page.all("table", class_="matrix")[0].said
    assert "Nothing is trained yet." in read(render_html(wanted, Results({"cells": []}), "strict")).said


def test_studies_are_written_so_that_they_can_be_read_again():
    paths = [path for path in sorted((ROOT / "studies").rglob("*.toml")) if path.name != "common.toml"]
    assert paths
    for path in paths:
        wanted = read_study(path)
        again = study_from(tomllib.loads(study_text(wanted)))
        assert replace(again, reference=None) == replace(wanted, reference=None, records=None), path
    criteria = {"mark": {"max_drop": 0.2}, "print": {"ceiling": -5}}
    rest = {"criteria": criteria, "first_seed": 3, "rule": "paper", "alpha": 0.01, "correction": "holm"}
    suspects = [{"kind": "extraction", "answers": "labels", "mechanisms": ["b", {"name": "c", "x": [1, 2]}]}]
    wanted = study(
        ["a", {"name": "b", "on": ["task"], "size": 0.5, "flag": True}], name="x y", suspects=suspects, **rest
    )
    assert study_from(tomllib.loads(study_text(wanted))) == wanted
    assert set(vars(wanted)) == {"name", "recipes", "combinations", "alone", "together", "suspects", "suspected"} | {
        *(
            "first_seed",
            "rule",
            "alpha",
            "correction",
            "criteria",
            "plugins",
            "readings",
            "start",
            "reference",
            "notes",
        ),
        *("reference_tables", "records"),  # records are a folder of whoever ran it, and not written
    }, "a new field of a study must be written too"


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=20).filter(lambda text: text.isprintable()), st.text(min_size=1, max_size=8), st.booleans())
def test_whatever_an_option_is_called_it_is_written_so_that_it_can_be_read(text, name, many):
    if name in ("name", "sweep") or not name.isprintable():
        return
    value = (text, 1, 2.5, True) if many else text
    wanted = Study("s", (Named("digits", (("scale", "smoke"),)),), ((Named("a", ((name, value),)),),))
    assert study_from(tomllib.loads(study_text(wanted))) == wanted


def test_seeds_that_are_added_step_by_step():
    """Verdicts rest on the look that decided; charts show its seeds, at its level."""
    wanted = study(
        replicates={"start": 3, "most": 6}, notes=[{"mechanisms": ["a", "b"], "metric": "mark", "text": EVIL}]
    )
    assert study_from(tomllib.loads(study_text(wanted))) == wanted
    page = read(render_html(wanted, results(wanted), "strict"))
    sound(page)
    head = page.all("dl", class_="head")[0].said
    assert "3 at first, more while a verdict is undecided, at most 6" in head
    assert "α = 0.05 in all, 0.017 at each of 3 looks" in head
    body = section(page, "digits-smoke-a-b")
    (chart,) = [one for one in body.all("svg", class_="chart") if one.attributes["aria-label"].startswith("φ_MARK")]
    assert [one.said[:6] for one in chart.all("title")] == ["seed 0", "seed 1", "seed 2"] * 2
    assert "its 97 % interval" in body.said.replace("\N{NO-BREAK SPACE}", " ")
    assert f"φMARK: {EVIL}" in body.said, "what is known of published numbers"
    assert "is not finished" not in page.said
    early = results(wanted)
    for entry in early.content["cells"]:
        entry["trials"] = entry["trials"][:2]
    banner = section(read(render_html(wanted, early, "strict")), "unfinished").parent
    assert "8 of 12 replicates" in banner.said


def test_plugins_are_named_without_their_folder(tmp_path):
    text = study_text(replace(study(), plugins=(tmp_path / "mine.py",)))
    assert 'plugins = ["mine.py"]' in text
    assert str(tmp_path) not in render_html(
        replace(study(), plugins=(tmp_path / "mine.py",)), results(study()), "strict"
    )


# Sweeps


def test_a_swept_number_gives_curves():
    swept = {"name": "a", "sweep": {"strength": [1, 2, 10]}}
    wanted = study([swept, "b"], [swept, "c"])

    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float | None:
        return value_of(names, of, metric, seed)

    page = read(render_html(wanted, results(wanted, value), "strict"))
    sound(page)
    body = section(page, "sweep-a-strength")
    (chart,) = [
        one for one in body.all("svg", class_="chart") if one.attributes["aria-label"].startswith("φ_MARK of a over")
    ]
    assert [one.said for one in chart.all("text", class_="name")] == ["a alone", "{a, b}", "{a, c}", "strength of a"]
    assert [one.said for one in chart.all("text", class_="middle") if "tick" in one.attributes["class"]] == [
        "1",
        "2",
        "10",
    ]
    assert len(chart.all("path", class_="curve")) == 3
    assert len(chart.all("line", class_="interval")) == 9
    link = section(page, "digits-smoke-a-strength-1-b").all("a", href="#sweep-a-strength")
    assert link[0].said == "Sweep of a: strength"
    assert "sweep-" not in render_html(study(), results(study()), "strict")


def test_a_swept_recipe_gives_curves_of_all_its_models():
    wanted = study(["a", "b"], recipes=[{"dataset": "digits", "scale": "smoke", "sweep": {"epochs": [1, 2, 4]}}])
    page = read(render_html(wanted, results(wanted), "strict"))
    sound(page)
    charts = section(page, "sweep-epochs").all("svg", class_="chart")
    (chart,) = [one for one in charts if one.attributes["aria-label"].startswith("φ_MARK of a over epochs")]
    assert [one.said for one in chart.all("text", class_="name")] == ["a alone", "{a, b}", "epochs"]


def test_options_that_are_no_numbers_are_not_swept():
    wanted = study([{"name": "a", "sweep": {"kind": ["x", "y"], "flag": [True, False]}}, "b"])
    assert 'id="sweep-' not in render_html(wanted, results(wanted), "strict")


# Geometry

FINITE = st.floats(-1e12, 1e12)


@settings(deadline=None, max_examples=100)
@given(st.lists(FINITE, min_size=1, max_size=8), st.lists(FINITE, min_size=1, max_size=8), FINITE, st.floats(1e-6, 1e6))
def test_whatever_the_values_a_strip_stays_inside(alone, together, limit, width):
    arms = [arm("x", Sample(tuple(values)), range(9), 0.05, "t") for values in (alone, together)]
    height, shapes = strip(arms, Guide(limit, "limit", (limit - width, math.inf)), alone[0])
    for shape in shapes:
        if isinstance(shape, Line | Dot):
            xs = (shape.x1, shape.x2) if isinstance(shape, Line) else (shape.x,)
            assert all(LEFT - 1e-6 <= x <= WIDTH - RIGHT + 1e-6 for x in xs)
        if isinstance(shape, Label):
            assert 0 <= shape.x <= WIDTH
            assert 0 <= shape.y <= height
    dots = [shape for shape in shapes if isinstance(shape, Dot)]
    assert len(dots) == len(alone) + len(together)
    order = sorted(range(len(together)), key=together.__getitem__)
    places = [dots[len(alone) + number].x for number in order]
    assert all(before <= after + 1e-6 for before, after in itertools.pairwise(places))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), FINITE), min_size=2, max_size=6, unique_by=lambda point: point[0]))
def test_whatever_the_values_curves_stay_inside(points):
    found = Curve("a", tuple((x, y, (y - abs(y), y + abs(y))) for x, y in sorted(points)))
    height, shapes = curves([found], "x", (points[0][1], "bound"))
    lines = [shape for shape in shapes if isinstance(shape, Line)]
    assert lines
    assert all(0 <= line.x1 <= WIDTH and 0 <= line.y1 <= height and 0 <= line.y2 <= height for line in lines)
    assert not any("nan" in shape.path or "inf" in shape.path for shape in shapes if isinstance(shape, Outline))


@settings(deadline=None, max_examples=200)
@given(FINITE, st.floats(1e-6, 1e12))
def test_ticks_are_few_round_and_inside(low, span):
    high = low + max(span, 1e-9 * abs(low))
    found = ticks(low, high)
    values = [value for value, _ in found]
    assert 1 <= len(found) <= 6
    assert values == sorted(set(values))
    assert all(low - 1e-6 * (high - low) <= value <= high + 1e-6 * (high - low) for value in values)
    assert all(float(text) == pytest.approx(value, abs=1e-6 * (high - low)) for value, text in found)


def test_places_are_short():
    assert [plain(value) for value in (12.0, 3.14159, -0.01, 0.05)] == ["12", "3.1", "0", "0.1"]


# Names that bite


def evil_study() -> tuple[Study, Results]:
    named = Named(EVIL, (("option", QUOTED), ("size", 1)))
    other, more = Named("b", (("size", 2),)), Named(EVIL, (("option", EVIL), ("size", 2)))
    recipe = Named("digits", (("scale", EVIL),))
    suspect = Suspected(Named(EVIL, (("option", QUOTED),)))
    wanted = Study(EVIL, (recipe,), ((named, other), (more, other), (named,)), alone=2, together=2, suspects=(suspect,))
    metric = replace(PRINT, name=EVIL, symbol=f"φ_{EVIL}", title=QUOTED, controls=(QUOTED,))
    control = replace(FRAMED, name=QUOTED, symbol=EVIL)
    METRICS_OF = {None: (ACCURACY,), EVIL: (metric, control), "b": (COST,)}

    def cell(asked: Cell) -> dict[str, Any]:
        owners = (None, *asked.combination)
        trial = {
            "trial": EVIL,
            "seconds": 1.0,
            "measurements": [
                {
                    "of": of and json.loads(json.dumps(of.to_dict())),
                    "values": {one.name: -5.0 for one in METRICS_OF[of and of.name]},
                    "warnings": [EVIL, QUOTED],
                }
                for of in owners
            ],
        }
        measures = [
            {"of": of and of.to_dict(), "metrics": [one.to_dict() for one in METRICS_OF[of and of.name]]}
            for of in owners
        ]
        recipe = {"dataset": EVIL, "scale": QUOTED, "epochs": 1, "protected_epochs": None, "examples": None}
        recipe |= {"test_examples": 3, "model": EVIL, "norm": QUOTED, "batch_size": 1}
        failed = {"seed": 1, "trial": "x", "error": f"Error: {EVIL}", "measurements": []}
        return {
            **({"suspect": asked.suspect.to_dict(), "stolen": True} if asked.suspect else {}),
            "key": asked.key,
            "recipe": recipe,
            "combination": [],
            "clash": f"{EVIL}{QUOTED}" if asked.combination[:1] == (more,) and len(asked.combination) > 1 else None,
            "plan": EVIL,
            "composed": {"type": EVIL, EVIL: {"type": EVIL, QUOTED: [{"type": EVIL, "a": [1]}]}, "x": EVIL},
            "facts": {EVIL: {EVIL: QUOTED}},
            "measures": measures,
            "trials": [{"seed": 0, **trial}, failed],
        }

    cells = [cell(asked) for asked in (*wanted.cells(), *wanted.suspect_cells())]
    content = {"study": EVIL, "written": EVIL, "environments": [{EVIL: QUOTED, "commit": EVIL}], "cells": cells}
    return wanted, Results(json.loads(json.dumps(content)))


@pytest.mark.parametrize("rule", RULES)
def test_names_of_scripts_stay_text(rule):
    text = render_html(*evil_study(), rule)
    page = read(text)
    sound(page)
    assert page.all("h1")[0].said == EVIL
    assert page.all("title")[0].said.startswith(EVIL)
    matrix = page.all("table", class_="matrix")[0]
    assert any(f"{EVIL}(option=" in one.said for one in matrix.all("th"))
    charts = page.all("svg", class_="chart")
    assert any(EVIL in one.said for chart in charts for one in chart.all("text"))
    assert any(EVIL in (chart.attributes["aria-label"] or "") for chart in charts)
    known = {
        "",
        "html",
        "head",
        "meta",
        "link",
        "title",
        "style",
        "body",
        "svg",
        "symbol",
        "path",
        "use",
        "a",
        "header",
        "p",
    }
    known |= {"h1", "h2", "h3", "h4", "dl", "div", "dt", "dd", "nav", "ul", "li", "main", "section", "table", "caption"}
    known |= {"thead", "tbody", "tr", "th", "td", "span", "sub", "wbr", "details", "summary", "figure", "figcaption"}
    known |= {"button", "rect", "line", "circle", "text", "pre", "code", "data", "script"}
    assert {one.tag for one in page.walk()} == known
    assert text.count("<script>") == text.count("</script>") == 1


def test_letters_without_a_shape_are_made_visible():
    bad = "a\x00\x1b\u202e\ud800b"
    wanted = replace(study(), name=bad, combinations=((Named(bad), Named("b")),))
    text = render_html(wanted, results(wanted), "strict")
    text.encode()
    assert not set(text) & set("\x00\x1b\u202e")
    assert read(text).all("h1")[0].said == "a" + "\N{REPLACEMENT CHARACTER}" * 4 + "b"


def test_addresses_are_unique_whatever_the_labels():
    wanted = study(["a", "b"], ["a", {"name": "b", "x": "!"}], ["a", {"name": "b", "x": "?"}], ["a", "ä"])
    page = read(render_html(wanted, results(wanted), "strict"))
    sound(page)
    ids = [one.attributes["id"] for one in page.all("div", class_="body")]
    assert ids == ["digits-smoke-a-b", "digits-smoke-a-b-x", "digits-smoke-a-b-x-2", "digits-smoke-a"]
    assert list(words.unique(["", "x", "x", "values"], ["values"])) == ["part", "x", "x-2", "values-2"]


# Words and colours


def test_every_outcome_has_a_look_of_its_own():
    looks = {word: words.look(word) for word in OUTCOMES}
    assert len(set(looks.values())) == len(OUTCOMES)
    icons, css = PARTS.joinpath("icons.svg").read_text(), PARTS.joinpath("page.css").read_text()
    paths = dict(re.findall(r'id="icon-([a-z-]+)".*?d="([^"]+)"', icons))
    for look in (*looks.values(), "quiet"):
        assert f".{look} {{ --own: var(--{look});" in css
    assert set(paths) == {*looks.values(), "quiet"}
    assert len(set(paths.values())) == len(paths)
    assert {words.look(word) for word in ("no difference", "equivalent", "improved", "effective")} == {"compatible"}
    assert (*words.CLAIMS,)[:-1] == tuple(sorted(get_args(claims_module.Outcome), key=list(words.CLAIMS).index))
    for word in get_args(claims_module.Outcome):
        assert (words.look(word) == "quiet") == (word == "not measured")


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * one for one in digits) if len(digits) == 3 else digits
    shares = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_texts_can_be_read_in_both_themes():
    assert contrast("#000", "#fff") == pytest.approx(21)
    css = PARTS.joinpath("page.css").read_text()
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    for theme in (light, dark):
        looks = [words.look(word) for word in OUTCOMES]
        pairs = [(theme[look], theme[f"{look}-wash"]) for look in looks]
        pairs += [
            (theme[ink], theme[ground]) for ink in ("ink", "soft", "link", "quiet") for ground in ("paper", "wash")
        ]
        pairs += [(theme[look], theme["paper"]) for look in looks if look != "clash"]
        assert all(contrast(*pair) >= 4.5 for pair in pairs), [(pair, contrast(*pair)) for pair in pairs]
    figure = PARTS.joinpath("figure.css").read_text()
    for block, paper in zip(figure.split("@media"), (light["paper"], dark["paper"]), strict=True):
        inks = re.findall(r"\.chart (?:text|\.tick[^{]*) \{ fill: (#[0-9a-f]{6})", block)
        marks = re.findall(r"(?:\.mean|\.interval|\.limit|\.hue-\d)[^{]*\{ (?:fill|stroke): (#[0-9a-f]{6})", block)
        assert len(inks) == 2
        assert len(marks) > 15
        assert all(contrast(ink, paper) >= 4.5 for ink in inks)
        assert all(contrast(mark, paper) >= 3 for mark in marks), [(mark, contrast(mark, paper)) for mark in marks]


def test_small_words():
    assert words.symbol("φ_WM") == "φ<sub>WM</sub>"
    assert words.symbol("φ_RAD held-out") == "φ<sub>RAD</sub> held-out"
    assert words.symbol("<i>_<b>") == "&lt;i&gt;<sub>&lt;b&gt;</sub>"
    assert words.symbol("ε") == "ε"
    assert words.broken("a(b=<c>)") == 'a(<wbr>b=<wbr class="late">&lt;c&gt;)'
    assert words.broken("/==") == '/<wbr>=<wbr class="late">=<wbr class="late">'
    assert words.broken("x/y (z=1)") == 'x/<wbr>y (z=<wbr class="late">1)'
    assert words.slug("mnist/reduced {wm, dpsgd(on=task)}") == "mnist-reduced-wm-dpsgd-on-task"
    assert (words.listed([]), words.listed(["a"]), words.listed(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert (words.plural(1, "seed"), words.plural(1234, "seed")) == ("1 seed", "1,234 seeds")
    assert accounts.seed_names([0, 1, 2]) == "seeds 0 to 2"
    assert accounts.seed_names([3]) == "seed 3"
    assert accounts.last_line("") == ""
