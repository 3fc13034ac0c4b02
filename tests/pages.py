"""A study with everything in it, and a reader of pages: shared by the tests of the HTML report."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from guardclash.judging.criteria import ACCURACY, Ceiling, Floor, MaxDrop, MaxGrowth, Metric
from guardclash.records.cells import Cell
from guardclash.records.plain import results_from
from guardclash.records.results import Results
from guardclash.reporting.findings import find
from guardclash.reporting.page import render_html
from guardclash.studies.store import SCHEMA
from guardclash.studies.study import Study
from guardclash.studies.study_file import study_from

ROOT = Path(__file__).parents[1]
PARTS = files("guardclash.reporting").joinpath("page_parts")
BLOCKS = {"td", "th", "dt", "dd", "li", "p", "div", "h2", "h3", "caption", "button"}
VOID = {"meta", "link", "br", "wbr", "hr", "img", "input"}

MARK = Metric("mark", "φ_MARK", MaxDrop(0.30), title="how many marks are found")
EXTRA = Metric("extra", "χ", None)
COST = Metric("cost", "ζ", MaxGrowth(1.5), higher_is_better=False, decimals=1, gain=False)
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
        return 0.7 + (0.29 * math.cos(2 * seed) if names == ("b", "c") else wobble)
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
    return results_from(json.loads(json.dumps(content)))


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
    return read(render_html(find(*everything(), "strict")))


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


def head_of(chart: Element) -> str:
    """What a chart is called where it is a file of its own."""
    return (chart.attributes["aria-label"] or "")[: int(chart.attributes["data-head"] or 0)]


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
        assert chart.attributes["role"] == "img"
        assert head_of(chart)
    names = [
        (body.attributes["id"], chart.attributes["data-name"])
        for body in page.all("div", class_="body")
        for chart in body.all("svg", class_="chart")
    ]
    assert len(names) == len(set(names)) == len(page.all("svg", class_="chart")), "files would replace each other"
