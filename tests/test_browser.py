"""The report's page in a real browser: cells open, charts are there, nothing leaves the page, names stay text.

The browser is the system's own, headless (chromium of Debian and others); without one, all this is skipped.
"""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from committed import committed
from guardclash.records.cells import Named
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Results
from guardclash.reporting.findings import find
from guardclash.reporting.page import render_html
from guardclash.studies.study import Study

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOUND = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(FOUND is None, reason="no browser is installed: apt-get install chromium")
EVIL = "<script>alert(1)</script>"
SVG = "{http://www.w3.org/2000/svg}"
CELL = "#mnist-reduced-wm-dpsgd"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=FOUND, timeout=120_000)
        yield started
        started.close()


class Visit:
    """A page that is open, and all that went wrong in it."""

    def __init__(self, browser: Any, path: Path, fragment: str = "", **options: Any) -> None:
        self.problems: list[str] = []
        self.requests: list[str] = []
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(60_000)
        self.page = context.new_page()
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.problems.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = path.as_uri()
        self.page.goto(self.address + fragment)

    def close(self) -> None:
        """Asserts that nothing went wrong and nothing was asked for but the page itself."""
        asked = {url.split("#")[0] for url in self.requests if not url.startswith(("data:", "blob:"))}
        assert asked == {self.address}
        assert self.problems == []
        self.page.context.close()

    def is_open(self, cell: str) -> bool:
        return bool(self.page.locator(f"details:has(> {cell})").evaluate("one => one.open"))


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    made: list[Visit] = []

    def start(*arguments: Any, **options: Any) -> Visit:
        made.append(Visit(browser, *arguments, **options))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The page of a committed study as a file."""
    folder = tmp_path_factory.mktemp("pages")

    def made(name: str) -> Path:
        path = folder / f"{name}.html"
        if not path.exists():
            path.write_text(render_html(find(*committed(name), "strict")), encoding="utf-8")
        return path

    return made


def test_a_click_on_a_cell_opens_its_details_with_their_charts(visit, page_of):
    here = visit(page_of("wm-dpsgd-mnist"))
    link = here.page.locator(f'.matrix a[href="{CELL}"]')
    assert link.get_attribute("aria-expanded") == "false"
    assert not here.page.locator(CELL).is_visible()
    link.click()
    here.page.locator(CELL).wait_for(state="visible")
    here.page.wait_for_selector(f'.matrix a[href="{CELL}"][aria-expanded="true"]')
    assert here.page.url.endswith(CELL)
    charts = here.page.locator(f"{CELL} > .charts svg.chart")
    assert charts.count() == 3
    for chart in charts.all():
        assert chart.is_visible()
        box, dots = chart.bounding_box(), [dot.bounding_box() for dot in chart.locator("circle").all()]
        assert box["width"] > 250
        assert len(dots) == 15, "5 seeds alone, 10 together"
        assert all(box["x"] <= dot["x"] and dot["x"] + dot["width"] <= box["x"] + box["width"] for dot in dots)
        assert all(box["y"] <= dot["y"] and dot["y"] + dot["height"] <= box["y"] + box["height"] for dot in dots)
    table = here.page.locator(f"{CELL} table").first
    assert "conflict" in table.inner_text()
    here.page.locator(f"details:has(> {CELL}) > summary").click()
    here.page.locator(CELL).wait_for(state="hidden")
    here.page.wait_for_selector(f'.matrix a[href="{CELL}"][aria-expanded="false"]')


def test_chips_leave_only_what_has_an_outcome(visit, page_of):
    here = visit(page_of("wm-dpsgd-mnist"))
    said, sections = here.page.locator(".said li"), here.page.locator("section > details.cell")
    before = sections.count()
    chip = here.page.locator('[data-value="compatible"]')
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    assert [one.get_attribute("data-outcome") for one in said.all() if one.is_visible()] == ["compatible"]
    assert not here.page.locator(CELL).is_visible()
    assert here.page.locator(".matrix td.apart").count() == 1
    chip.press("Enter")
    assert not here.page.locator("[data-outcome][hidden]").count() and sections.count() == before


def test_an_address_opens_what_it_names(visit, page_of):
    here = visit(page_of("wm-dpsgd-mnist"), CELL)
    here.page.locator(CELL).wait_for(state="visible")
    assert here.is_open(CELL)
    assert not here.is_open(f"{CELL}-on-task")
    here.page.locator(f'{CELL} a[href="#matrix"]').click()
    here.page.locator(f'.matrix a[href="{CELL}"]').click()
    assert here.is_open(CELL)
    here.page.get_by_role("button", name="Open all").click()
    assert here.is_open(f"{CELL}-on-task")
    here.page.get_by_role("button", name="Close all").click()
    assert not here.is_open(CELL)


def test_without_scripts_a_cell_opens_as_well(visit, page_of):
    here = visit(page_of("wm-dpsgd-mnist"), java_script_enabled=False)
    here.page.locator(f'.matrix a[href="{CELL}"]').click()
    here.page.locator(CELL).wait_for(state="visible")
    assert not here.page.locator("button").first.is_visible(), "what needs a script is not offered"


def test_the_keyboard_suffices(visit, page_of):
    here = visit(page_of("wm-dpsgd-mnist"))
    keys, active = here.page.keyboard, "document.activeElement"
    keys.press("Tab")
    assert here.page.evaluate(f"{active}.textContent") == "To the verdicts"
    assert here.page.evaluate(f"{active}.getBoundingClientRect().width") > 50, "it is seen once it has the focus"
    keys.press("Enter")
    for _ in range(2):  # what chooses among the outcomes
        keys.press("Tab")
        assert here.page.evaluate(f"{active}.getAttribute('aria-pressed')") == "false"
    keys.press("Tab")
    assert here.page.evaluate(f"{active}.getAttribute('href')") == CELL
    assert here.page.evaluate(f"getComputedStyle({active}).outlineStyle") == "solid"
    keys.press("Enter")
    here.page.locator(CELL).wait_for(state="visible")
    assert here.page.evaluate(f"{active}.tagName") == "SUMMARY"
    keys.press("Tab")
    assert here.page.evaluate(f"{active}.textContent") == "Download SVG"
    keys.press("Shift+Tab")
    keys.press("Enter")
    here.page.locator(CELL).wait_for(state="hidden")


def test_a_chart_is_downloaded_as_a_file_that_stands_alone(visit, page_of, browser, tmp_path):
    here = visit(page_of("wm-dpsgd-mnist"), CELL, accept_downloads=True)
    with here.page.expect_download() as waiting:
        here.page.locator(f"{CELL} button.download").nth(1).click()
    assert waiting.value.suggested_filename == "wm-dpsgd-mnist-mnist-reduced-wm-dpsgd-wm-wm-accuracy.svg"
    waiting.value.save_as(tmp_path / "chart.svg")
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    assert root.tag == f"{SVG}svg"
    assert len(root.findall(f".//{SVG}circle[@r]")) == 15
    assert ".chart .limit" in (root.find(f"{SVG}style").text or "")
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert "φ_WM, mnist/reduced {wm, dpsgd}: conflict" in texts
    alone = Visit(browser, tmp_path / "chart.svg")
    boxes = [text.bounding_box() for text in alone.page.locator("text").all()]
    width, height = float(root.get("width") or 0), float(root.get("height") or 0)
    assert all(0 <= box["x"] and box["x"] + box["width"] <= width + 1 for box in boxes)
    assert all(-1 <= box["y"] and box["y"] + box["height"] <= height + 2 for box in boxes)
    assert alone.page.locator(".limit").evaluate("one => getComputedStyle(one).stroke") == "rgb(36, 41, 46)"
    alone.close()


def test_tables_are_sorted_by_a_click_on_a_heading(visit, page_of):
    here = visit(page_of("theft"))
    table = here.page.locator("#alone ~ .scroll table")
    shown = "table => [...table.tBodies[0].rows].map((row) => row.cells[3].textContent)"
    before = table.evaluate(shown)
    head = table.locator("th", has_text="alone")
    head.locator("button").click()
    up = table.evaluate(shown)
    numbers = [float(re.match(r"-?[\d.]+", text)[0]) for text in up if re.match(r"-?\d", text)]
    assert numbers == sorted(numbers)
    assert up != before
    assert sorted(up) == sorted(before)
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    assert table.evaluate(shown)[0] != up[0]
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert table.evaluate(shown) == before
    assert head.get_attribute("aria-sort") is None


def test_every_sentence_is_printed(visit, page_of, tmp_path):
    here = visit(page_of("table9-adult"))
    sentence = here.page.locator("details.more .said li").first
    assert not sentence.is_visible()
    here.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert sentence.is_visible()
    here.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not sentence.is_visible()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
@pytest.mark.parametrize("name", ["table9-adult", "theft"])
def test_an_auditor_of_accessibility_finds_nothing(browser, page_of, name, width, scheme):
    """By axe-core, with everything open."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python").Axe()
    context = browser.new_context(bypass_csp=True, viewport={"width": width, "height": 900}, color_scheme=scheme)
    here = context.new_page()
    here.goto(page_of(name).as_uri())
    here.evaluate("() => { for (const one of document.querySelectorAll('details')) one.open = true; }")
    found = axe.run(here).response
    assert len(found["passes"]) > 30
    assert not [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]]
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_its_ground(visit, page_of, scheme):
    """A white "clash" once stood on white paper: its colour is for the dark ground that it has elsewhere."""
    here = visit(page_of("table9-adult"), color_scheme=scheme)
    here.page.evaluate("() => { for (const one of document.querySelectorAll('details')) one.open = true; }")
    found = here.page.evaluate(CONTRASTS)
    assert {"clash", "conflict", "ineffective"} <= {word for word, _ in found}
    assert not [(word, ratio) for word, ratio in found if ratio < 4.5]


CONTRASTS = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const [r, g, b, a = 1] = rgb(getComputedStyle(one).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  return [...document.querySelectorAll(".mark")].map((one) => {
    const [low, high] = [rgb(getComputedStyle(one).color).slice(0, 3), ground(one)].map(light).sort((a, b) => a - b);
    return [one.textContent.trim(), high / low];
  });
}"""
"""Of every word for an outcome: how much it stands out from what is behind it (WCAG 2)."""


@pytest.mark.parametrize("name", ["batchnorm-wm-advtr", "raddata-signal", "raddata-pairs"])
@pytest.mark.parametrize("width", [1280, 400, 320])
def test_pages_fit_into_windows(visit, page_of, name, width):
    here = visit(page_of(name), viewport={"width": width, "height": 900})
    here.page.evaluate("() => { for (const one of document.querySelectorAll('details')) one.open = true; }")
    assert here.page.evaluate("document.documentElement.scrollWidth") == width
    wide = "() => [...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth)"
    here.page.wait_for_function(f"({wide})().every((one) => one.tabIndex === 0 && one.role === 'region')")
    if width < 1280:
        assert here.page.evaluate(f"({wide})().length") > 0


def test_themes_and_print(visit, page_of):
    here = visit(page_of("wm-dpsgd-mnist"), color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert here.page.evaluate(ground) == "rgb(21, 24, 27)"
    here.page.emulate_media(color_scheme="light")
    assert here.page.evaluate(ground) == "rgb(255, 255, 255)"
    assert here.page.locator("nav").is_visible()
    here.page.emulate_media(media="print", color_scheme="dark")
    assert here.page.evaluate(ground) == "rgb(255, 255, 255)", "paper is white"
    assert not here.page.locator("nav").is_visible()
    here.page.emulate_media(media="screen", reduced_motion="reduce")
    moving = "one => getComputedStyle(one, '::before').transitionDuration"
    assert here.page.locator("details.cell > summary").first.evaluate(moving) == "0s"


def renamed(study: Study, found: Results, old: str, new: str) -> tuple[Study, Results]:
    """The same study and results, with a mechanism called otherwise."""

    def name(named: Named) -> Named:
        return replace(named, name=new) if named.name == old else named

    combinations = tuple(tuple(map(name, combination)) for combination in study.combinations)
    evil = replace(study, name=new, combinations=combinations)
    content = json.loads(json.dumps(to_plain(found)).replace(f'"name": "{old}"', f'"name": {json.dumps(new)}'))
    keys = {before.key: after.key for before, after in zip(study.cells(), evil.cells(), strict=True)}
    cells = [
        {**entry, "key": keys[before["key"]]}
        for entry, before in zip(content["cells"], to_plain(found)["cells"], strict=True)
    ]
    return evil, results_from({**content, "cells": cells})


def test_a_study_and_a_mechanism_named_like_scripts_stay_text(visit, tmp_path):
    path = tmp_path / "evil.html"
    path.write_text(render_html(find(*renamed(*committed("wm-dpsgd-mnist"), "wm", EVIL), "strict")), encoding="utf-8")
    here = visit(path)
    assert here.page.locator("h1").inner_text() == EVIL
    assert here.page.locator(".matrix tbody th").inner_text() == EVIL
    here.page.locator(".matrix a").first.click()
    cell = here.page.locator("details.cell[open] .body").first
    assert EVIL in cell.inner_text()
    assert EVIL in (cell.locator("svg.chart").nth(1).get_attribute("aria-label") or "")
    assert here.page.locator("script").count() == 1


@pytest.mark.slow
def test_a_foreign_script_would_not_run(browser, page_of, tmp_path):
    """Should escaping ever fail, the page's policy lets only its own script run, and nothing be fetched."""
    path = tmp_path / "injected.html"
    foreign = "<script>window.foreign = true</script><img src='https://example.invalid/a.png'>"
    text = page_of("wm-dpsgd-mnist").read_text(encoding="utf-8")
    path.write_text(text.replace("<main>", f"<main>{foreign}"), encoding="utf-8")
    here = Visit(browser, path)
    assert here.page.evaluate("window.foreign === undefined")
    assert len([problem for problem in here.problems if "Content Security Policy" in problem]) == 2
    here.page.locator(f'.matrix a[href="{CELL}"]').click()
    here.page.locator(CELL).wait_for(state="visible")
    here.page.context.close()
