"""Curves on the page: losses by epoch, and what was recorded of suspects."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committed import LARGEST, committed
from guardclash.records.cells import Cell
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Results
from guardclash.reporting.figure_parts.distances import COLUMNS, NEAREST, ROWS, band
from guardclash.reporting.findings import find
from guardclash.reporting.page import render_html
from guardclash.reporting.page_parts.charts import TOP, WIDTH, Label, Outline, log_ticks
from guardclash.reporting.page_parts.curves import PLOT
from guardclash.reporting.page_parts.learning import EPOCHS, learning_charts
from guardclash.reporting.page_parts.lines import Bundle, Scales, lines, span_of
from guardclash.reporting.page_parts.recorded import recorded_charts
from guardclash.studies.study import Study
from pages import EVIL, QUOTED, Element, everything, head_of, read, results, section, sound, study

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def page_of(*given: Any) -> Element:
    page = read(render_html(find(*given, "strict")))
    sound(page)
    return page


def changed(found: Results, change: Callable[[dict[str, Any], list[str]], None]) -> Results:
    """A copy of records, each cell changed; given with it, the names of its mechanisms."""
    content = json.loads(json.dumps(to_plain(found)))
    for cell in content["cells"]:
        change(cell, [named["name"] for named in json.loads(cell["key"])[1]])
    return results_from(content)


def paths(chart: Element, look: str) -> list[list[tuple[float, float]]]:
    """The lines of a look, as their points."""
    found = [one.attributes["d"] or "" for one in chart.all("path") if look in (one.attributes["class"] or "").split()]
    numbers = [[float(number) for number in NUMBER.findall(path)] for path in found]
    return [list(zip(one[::2], one[1::2], strict=True)) for one in numbers]


def names_in(chart: Element) -> list[str]:
    """The legend."""
    return [one.said for one in chart.all("text", class_="start") if "name" in (one.attributes["class"] or "")]


# Losses


def learnt(names: list[str], seed: int, epochs: int = 4) -> dict[str, list[float]]:
    """The task is learnt everywhere, a's marks only without b."""
    task = [2 / epoch + 0.01 * seed for epoch in range(1, epochs + 1)]
    return {"task": task, **({"marks": task if "b" not in names else task[::-1]} if "a" in names else {})}


def with_losses(study: Study, found: Results, losses: Callable[..., Any] = learnt) -> tuple[Study, Results]:
    def change(cell: dict[str, Any], names: list[str]) -> None:
        for trial in cell["trials"]:
            trial["losses"] = losses(names, trial["seed"])

    return study, changed(found, change)


@pytest.fixture(scope="module")
def learning() -> Element:
    return page_of(*with_losses(*everything()))


def loss_charts(page: Element, id: str) -> list[Element]:
    body = section(page, f"digits-smoke-{id}")
    (found,) = [one for one in body.all("details", class_="more") if one.all("summary")[0].said.startswith("Loss by")]
    return found.all("figure")


def test_losses_are_drawn_together_and_alone_a_line_for_each_seed(learning):
    task, marks = loss_charts(learning, "a-b")
    assert task.all("figcaption")[0].said == "loss of task by epoch"
    assert marks.all("figcaption")[0].said == "loss of marks by epoch"
    assert names_in(task) == ["together (5 seeds)", "a alone (4 seeds)", "b alone (4 seeds)"]
    assert names_in(marks) == ["together (5 seeds)", "a alone (4 seeds)"]
    assert [len(line) for line in paths(task, "seed")] == [4] * 13
    own = paths(marks, "seed")
    assert all(line[-1][1] < line[0][1] for line in own[-5:]), "together, marks are not learnt: drawn last, on top"
    assert all(line[-1][1] > line[0][1] for line in own[:-5])
    assert {x for line in own for x, _ in line} == {x for x, _ in own[0]}, "an epoch has one place"
    label = marks.all("svg")[0].attributes["aria-label"] or ""
    assert "together (5 seeds) from 0.52 to 2.02 on average; a alone (4 seeds) from 2.01 to 0.515 on average" in label
    chart = task.all("svg")[0]
    assert chart.attributes["data-name"] == "loss-task"
    assert head_of(chart) == "Loss of task by epoch, digits/smoke {a, b}"


def test_a_mechanism_alone_stands_beside_the_unprotected_model(learning):
    (task,) = loss_charts(learning, "p")
    assert names_in(task) == ["protected (4 seeds)", "unprotected (4 seeds)"]


def test_a_clash_has_nothing_of_its_own_to_draw(learning):
    (task,) = loss_charts(learning, "p-q")
    assert names_in(task) == ["p alone (4 seeds)", "q alone (4 seeds)"]


def test_equal_trainings_are_drawn_once():
    wanted, found = with_losses(*everything())

    def change(cell: dict[str, Any], names: list[str]) -> None:
        if names == ["a"]:
            cell["plan"] = "a+c"

    (task, marks) = loss_charts(page_of(wanted, changed(found, change)), "a-c")
    assert names_in(task) == ["together = a alone (5 seeds)", "c alone (4 seeds)"]
    assert len(paths(marks, "seed")) == 5


@pytest.mark.parametrize(
    "losses",
    [
        None,
        {},
        {"task": []},
        {"task": [2.0]},
        {"task": [2.0, float("inf")]},
    ],
)
def test_records_without_losses_show_no_trace_of_them(losses):
    wanted, found = everything()
    text = render_html(find(*with_losses(wanted, found, lambda *_: losses), "strict"))
    assert text == render_html(find(wanted, found, "strict"))
    assert "Loss by epoch" not in text


def test_old_seeds_without_losses_are_left_out():
    page = page_of(*with_losses(*everything(), lambda names, seed: learnt(names, seed) if seed else {}))
    assert names_in(loss_charts(page, "b-c")[0]) == ["together (4 seeds)", "b alone (3 seeds)", "c alone (3 seeds)"]


def test_long_trainings_are_thinned_and_say_so():
    wanted, found = with_losses(*everything(), lambda names, seed: learnt(names, seed, epochs=500))
    cell = next(cell for cell in wanted.cells() if len(cell.combination) == 2)
    (task, _) = learning_charts(wanted, found, cell)
    drawn = [shape for shape in task.chart.shapes if isinstance(shape, Outline)]
    assert {shape.path.count("L") + 1 for shape in drawn} == {EPOCHS}
    assert f"Of 500 epochs, {EPOCHS} are drawn." in task.chart.notes
    assert "from 2.02 to 0.024" in task.chart.told, "the last epoch is among them"


def test_streams_named_like_scripts_stay_text():
    page = page_of(*with_losses(*everything(), lambda *_: {EVIL: [1.0, 0.5], QUOTED: [1.0, 0.5]}))
    assert [one.all("figcaption")[0].said for one in loss_charts(page, "a-b")] == [
        f"loss of {EVIL} by epoch",
        f"loss of {' '.join(QUOTED.split())} by epoch",
    ]


# Curves of suspects


def recorded_study(*curves: str, seeds: int = 3) -> tuple[Study, Results]:
    """Suspects of {a, b}, of which a recorded curves; the innocent one is farther away."""
    wanted = study(["a", "b"], suspects=[{"kind": "extraction"}, {"kind": "independent"}])

    def change(cell: dict[str, Any], names: list[str]) -> None:
        for trial in cell["trials"] if "suspect" in cell else []:
            far = 0.1 if cell["stolen"] else 0.4
            for one in trial["measurements"]:
                if one["of"] == {"name": "a"} and trial["seed"] < seeds:
                    points = [[float(x), 1 - far - 0.01 * trial["seed"] - 1 / x] for x in (2, 10, 20, 40, 160)]
                    one["curves"] = {name: points for name in curves}

    return wanted, changed(results(wanted), change)


def curve_charts(page: Element, id: str) -> list[Element]:
    """The figures below the heading, up to what comes next."""
    found: list[Element] = []
    inside = False
    for part in section(page, id).content:
        if isinstance(part, Element):
            inside = part.said == "Curves of suspects" if part.tag == "h4" else inside and not found
            found += part.all("figure") if inside else []
    return found


def test_curves_of_suspects_are_means_in_bands():
    page = page_of(*recorded_study("closeness"))
    (figure,) = curve_charts(page, "digits-smoke-a-b")
    assert figure.all("figcaption")[0].said == "closeness as a recorded it"
    assert names_in(figure) == ["extraction (stolen), 3 of 5 seeds", "independent (innocent), 3 of 5 seeds"]
    independent, extraction = paths(figure, "curve")[:2]
    assert len(independent) == len(extraction) == 5
    assert all(near < far for (_, near), (_, far) in zip(extraction, independent, strict=True)), "y grows downwards"
    bands = paths(figure, "spread")
    assert [len(one) for one in bands] == [10, 10]
    for line, points in zip((independent, extraction), bands, strict=True):
        for (x, y), (left, top), (right, bottom) in zip(line, points[:5], points[:4:-1], strict=True):
            assert left == right == x
            assert top - 0.2 <= y <= bottom + 0.2
    (dashed,) = [one for one in figure.all("path") if "dashed" in (one.attributes["class"] or "")]
    assert paths(figure, "dashed") == [independent], dashed
    label = figure.all("svg")[0].attributes["aria-label"] or ""
    assert "At 160: extraction (stolen), 3 of 5 seeds 0.884; independent (innocent), 3 of 5 seeds 0.584." in label


def test_the_page_draws_distances_as_the_figure_does():
    wanted, found = committed("model-distances")
    page = page_of(wanted, found)
    victims = [cell for cell in wanted.cells() if cell.combination]
    for victim in victims:
        figures = curve_charts(page, wanted.recipe_label(victim.recipe).replace("/", "-") + "-distance")
        captions = [one.all("figcaption")[0].said for one in figures]
        assert captions == [f"{row} {column}" for column in COLUMNS.values() for row in ROWS.values()]
        assert all(len(paths(one, "curve")) == len(wanted.suspects) == len(names_in(one)) for one in figures)
        assert all(len(paths(one, "dashed")) == 2 for one in figures), "the innocent ones"
        drawn = recorded_charts(wanted, found, victim)
        for name, chart in zip((f"{row}_{column}" for column in COLUMNS for row in ROWS), drawn, strict=True):
            for suspect in (cell for cell in wanted.suspect_cells() if cell.recipe == victim.recipe):
                points = band(found.curves(suspect, victim.combination[0], name, wanted.seeds(suspect)))
                last = max(1 - points[-1][1], NEAREST)
                said = f"{wanted.suspect_label(suspect.suspect)} ({'stolen' if stolen(found, suspect) else 'innocent'})"
                assert f"{said} {last:.3g}" in chart.chart.told


def stolen(found: Results, suspect: Cell) -> bool:
    return bool(found.cell(suspect).stolen)


def test_kinds_of_images_share_a_scale_but_for_noise():
    wanted, found = committed("model-distances")
    victim = next(cell for cell in wanted.cells() if cell.combination)
    drawn = recorded_charts(wanted, found, victim)

    def ticks(chart: Any) -> list[tuple[float, str]]:
        shapes = [one for one in chart.chart.shapes if isinstance(one, Label)]
        return [(one.y, one.text) for one in shapes if one.look == "tick" and one.anchor == "end"]

    for row in range(len(ROWS)):
        members, others, test, noise = (ticks(chart) for chart in drawn[row :: len(ROWS)])
        assert members == others == test != noise


def test_a_study_without_curves_shows_no_trace_of_them():
    for records in (everything(), recorded_study(), recorded_study("closeness", seeds=0), committed("theft")):
        assert "Curves of suspects" not in render_html(find(*records, "strict"))


def test_curves_named_like_scripts_stay_text():
    page = page_of(*recorded_study(EVIL, QUOTED))
    captions = [one.all("figcaption")[0].said for one in curve_charts(page, "digits-smoke-a-b")]
    assert captions == [f"{EVIL} as a recorded it", f"{' '.join(QUOTED.split())} as a recorded it"]


# Charts


NUMBERS = st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-9)
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=6, unique_by=lambda point: point[0])


@settings(deadline=None, max_examples=60)
@given(drawn=st.lists(POINTS, min_size=1), log=st.booleans(), whole=st.booleans(), banded=st.booleans())
def test_whatever_the_values_lines_stay_inside(drawn, log, whole, banded):
    if log:
        drawn = [[(abs(x) + 1e-3 * (1 + n), max(abs(y), 1e-6)) for n, (x, y) in enumerate(line)] for line in drawn]
    points = [tuple(sorted(line)) for line in drawn]
    bands = [tuple((x, y, 2 * abs(y) + 1) for x, y in line) for line in points]
    found = [
        Bundle(f"line {number}", number, (line,), both if banded else None, dashed=number % 2 == 1)
        for number, (line, both) in enumerate(zip(points, bands, strict=True))
    ]
    if len({x for line in points for x, _ in line}) < 2:
        return
    height, shapes = lines(found, Scales("x", log, log, whole))
    for one in shapes:
        if isinstance(one, Outline) and one.look.split()[0] in ("curve", "seed", "spread"):
            numbers = [float(number) for number in NUMBER.findall(one.path)]
            assert all(0 <= x <= WIDTH for x in numbers[::2])
            assert all(TOP - 0.1 <= y <= TOP + PLOT + 0.1 for y in numbers[1::2])
        if isinstance(one, Label):
            assert 0 < one.y < height
            assert len(one.text) < 12
    assert len([one for one in shapes if isinstance(one, Label) and one.look == "tick"]) <= 20


@given(low=st.floats(1e-12, 1e9), factor=st.floats(1.2, 1e15))
def test_ticks_by_logarithms_are_few_and_inside(low, factor):
    found = log_ticks(low, low * factor)
    assert 1 <= len(found) <= 8
    assert all(low * (1 - 1e-9) <= value <= low * factor * (1 + 1e-9) for value, _ in found)
    assert all(math.isclose(float(text), value, rel_tol=0.01) for value, text in found)


def test_a_scale_by_logarithms_holds_the_bands():
    one = Bundle("", 0, (((1.0, 0.1), (2.0, 0.2)),), ((1.0, 0.01, 1.0), (2.0, 0.1, 10.0)))
    low, high = span_of([one], log=True)
    assert 0 < low < 0.01
    assert high > 10


def test_the_largest_study_is_fast_and_small_with_losses_of_every_training():
    wanted, found = committed(LARGEST)
    given = with_losses(wanted, found, lambda names, seed: learnt(names, seed, epochs=200))
    begun = time.process_time()
    text = render_html(find(*given, "strict"))
    assert time.process_time() - begun < 3
    assert len(text.encode()) < 4_000_000
