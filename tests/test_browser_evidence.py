"""Pictures and curves of the page in a real browser; see test_browser.py."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

import test_browser
from committed import committed
from guardclash.reporting.findings import find
from guardclash.reporting.page import render_html
from pages import everything
from test_page_curves import with_losses
from test_page_evidence import picture, png, with_pictures

browser, visit = test_browser.browser, test_browser.visit  # fixtures
Visit, SVG = test_browser.Visit, test_browser.SVG
pytestmark = pytest.mark.skipif(test_browser.FOUND is None, reason="no browser is installed: apt-get install chromium")
CELL = "#digits-smoke-a-b"
DISTANCES = "#fmnist-reduced-distance"
STROKE = "one => getComputedStyle(one).stroke"
INSIDE = """chart => {
  const frame = chart.getBoundingClientRect();
  const boxes = [...chart.querySelectorAll("text:not(.head, .note), path")].map((one) => one.getBoundingClientRect());
  return boxes.length > 20 && boxes.every((box) => box.left >= frame.left - 1 && box.right <= frame.right + 1);
}"""
"""Whether nothing of a chart lies beyond its sides."""
FILL = "one => [getComputedStyle(one).fill, getComputedStyle(one).stroke]"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With pictures, one of them wider than a phone, and losses."""
    own = {"a": [picture(png(200, 120), "Triggers of a.", width=600)], "p": [picture(png(), "Prints of p.", width=24)]}
    given = with_pictures(*with_losses(*everything()), lambda name: own.get(name, []))
    path = tmp_path_factory.mktemp("pages") / "evidence.html"
    path.write_text(render_html(find(*given, "strict")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def distances(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "distances.html"
    path.write_text(render_html(find(*committed("model-distances"), "strict")), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [1280, 400])
def test_pictures_are_drawn_in_sharp_squares_and_fit(visit: Callable[..., Visit], page: Path, width: int) -> None:
    here = visit(page, CELL, viewport={"width": width, "height": 900})
    image = here.page.locator(f"{CELL} img")
    image.wait_for(state="visible")
    assert image.evaluate("one => [one.complete, one.naturalWidth, one.naturalHeight]") == [True, 200, 120]
    assert image.evaluate("one => getComputedStyle(one).imageRendering") == "pixelated"
    box = image.bounding_box()
    assert box is not None
    assert 0 <= box["x"] and box["x"] + box["width"] <= width
    assert (box["width"] == 600) == (width == 1280), "the size that it was drawn for, or all there is"
    assert box["height"] == pytest.approx(box["width"] * 0.6, abs=1)
    assert here.page.get_by_role("img", name="Triggers of a.").count() == 1, "closed sections are not read aloud"
    assert here.page.evaluate("document.documentElement.scrollWidth") == width
    here.page.emulate_media(media="print")
    assert image.is_visible()


def test_losses_open_by_keyboard_and_are_downloaded(visit: Callable[..., Visit], page: Path, tmp_path: Path) -> None:
    here = visit(page, CELL, accept_downloads=True)
    more = here.page.locator(f"{CELL} details.more", has_text="Loss by epoch")
    assert not more.locator("svg.chart").first.is_visible()
    more.locator("summary").focus()
    here.page.keyboard.press("Enter")
    task = more.locator("svg.chart").first
    task.wait_for(state="visible")
    assert task.locator("path.seed").count() == 13
    assert here.page.get_by_role("img", name="Loss of task by epoch").count() == 1
    with here.page.expect_download() as waiting:
        more.locator("button.download").first.click()
    assert waiting.value.suggested_filename == "study-digits-smoke-a-b-loss-task.svg"
    waiting.value.save_as(tmp_path / "chart.svg")
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    assert len([one for one in root.findall(f"{SVG}path") if "seed" in (one.get("class") or "")]) == 13
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert {"epoch", "together (5 seeds)", "Loss of task by epoch, digits/smoke {a, b}"} <= set(texts)


def test_curves_of_suspects_in_both_themes(visit: Callable[..., Visit], distances: Path) -> None:
    here = visit(distances, DISTANCES)
    charts = here.page.locator(f"{DISTANCES} > .charts svg.chart:has(.spread)")
    assert charts.count() == 12
    assert charts.evaluate_all(f"charts => charts.every({INSIDE})")
    first = charts.first
    light = first.locator("path.curve.hue-0").evaluate(STROKE)
    assert light == "rgb(0, 114, 178)"
    assert first.locator("path.spread.hue-0").evaluate(FILL) == [light, "none"]
    assert first.locator("path.dashed").first.evaluate("one => getComputedStyle(one).strokeDasharray") == "5px, 2.5px"
    here.page.emulate_media(color_scheme="dark")
    dark = first.locator("path.curve.hue-0").evaluate(STROKE)
    assert dark == "rgb(95, 179, 232)"
    assert first.locator("path.spread.hue-0").evaluate(FILL) == [dark, "none"]
    here.page.emulate_media(media="print", color_scheme="dark")
    assert first.locator("path.curve.hue-0").evaluate(STROKE) == light


@pytest.mark.parametrize("width", [1280, 400, 320])
def test_curves_fit_into_windows(visit: Callable[..., Visit], distances: Path, width: int) -> None:
    here = visit(distances, viewport={"width": width, "height": 900})
    here.page.evaluate("() => { for (const one of document.querySelectorAll('details')) one.open = true; }")
    assert here.page.evaluate("document.documentElement.scrollWidth") == width
