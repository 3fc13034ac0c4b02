"""The page of raw values, of what is missing, and of sweeps; its charts stay inside whatever the values."""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash.judging.stats import Sample
from guardclash.records.cells import Named
from guardclash.records.plain import results_from, to_plain
from guardclash.reporting.findings import find
from guardclash.reporting.page import render_html
from guardclash.reporting.page_parts.charts import LEFT, RIGHT, WIDTH, Dot, Label, Line, Outline, plain, ticks
from guardclash.reporting.page_parts.curves import Curve, curves
from guardclash.reporting.page_parts.strips import Guide, arm, strip
from guardclash.reporting.page_parts.study_text import study_text
from guardclash.studies.store import SCHEMA
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study, study_from
from pages import EVIL, ROOT, everything, read, results, row_with, section, sound, study, value_of

# Records


def test_raw_values_are_all_there_in_full(whole):
    shown = [one.attributes["value"] for one in section(whole, "values").parent.all("data")]
    wanted, found = everything()
    kept = []
    for cell in (*wanted.cells(), *wanted.suspect_cells()):
        for trial in found.cell(cell).trials:
            kept += [repr(trial.seconds)]
            kept += [repr(value) for one in trial.measurements.values() for value in one.values.values()]
    assert sorted(shown) == sorted(kept)


def test_what_has_no_bound_is_shown_and_judged_but_not_drawn():
    """Such as ε of a training that nothing bounds, which records write as a text."""
    wanted = study(["a", "b"], ["b", "c"])
    found = results(wanted)
    content = to_plain(found)
    for entry in content["cells"]:
        if [one["name"] for one in entry["combination"]] == ["b", "c"]:
            for one in (one for trial in entry["trials"] for one in trial["measurements"] if "cost" in one["values"]):
                one["values"]["cost"] = "inf"
    found = results_from(content)
    page = read(render_html(find(wanted, found, "strict")))
    sound(page)
    body = section(page, "digits-smoke-b-c")
    assert "ζ breaks its limit (× 1.5): 3.0 alone, ∞ together." in body.said
    row = next(row for row in body.all("tr") if row.said.startswith("ζ"))
    assert row.said.startswith("ζ 3.0±0.0 (n=4) ∞ (n=5) - × 1.5 5 of 5")
    (chart,) = [one for one in body.all("svg", class_="chart") if one.attributes["aria-label"].startswith("ζ")]
    assert [one.said for one in chart.all("text", class_="name")] == ["alone"]
    assert [one.attributes["value"] for one in section(page, "values").parent.all("data")].count("inf") == 5


def test_a_half_finished_study_says_what_is_missing():
    wanted = study(["a", "b"], ["a", "c"])
    found = results(wanted)
    content = to_plain(found)
    for entry in content["cells"]:
        if len(entry["combination"]) == 2 and entry["combination"][1]["name"] == "b":
            entry["trials"] = entry["trials"][:3]
            entry["trials"][2] = {
                "seed": 2,
                "trial": "x",
                "error": "Traceback\nOSError: no <b>luck</b>\n",
                "measurements": [],
            }
    found = results_from(content)
    page = read(render_html(find(wanted, found, "strict")))
    sound(page)
    banner = section(page, "unfinished").parent
    assert "This study is not finished" in banner.said
    assert "23 of 26 replicates are trained and measured" in banner.said
    assert row_with(banner, "digits/smoke {a, b}", "2 of 5", "seed 2: OSError: no <b>luck</b>")
    assert not banner.all("b")
    said = page.all("table", class_="matrix")[0].said
    assert re.search(r"undecided [^:]*unfinished : \{a, b\}", said)
    assert "Still to be measured: accuracy, together: 2 of 5" in section(page, "digits-smoke-a-b").said
    assert not [
        one
        for one in read(render_html(find(wanted, results(wanted), "strict"))).walk()
        if one.attributes.get("id") == "unfinished"
    ]


def test_nothing_is_measured_yet():
    wanted = study(["a", "b"], ["a"], suspects=[{"kind": "extraction"}])
    for found in (
        results_from({"schema": SCHEMA, "study": "study", "cells": []}),
        results(wanted, lambda *asked: None),
        results_from({**to_plain(results(wanted)), "cells": to_plain(results(wanted))["cells"][:1]}),
    ):
        page = read(render_html(find(wanted, found, "strict")))
        sound(page)
        assert "undecided" in page.all("table", class_="matrix")[0].said
    assert "Nothing is trained yet." in read(render_html(find(wanted, results_from({"cells": []}), "strict"))).said


def is_a_part(path: Path) -> bool:
    """Whether a file is there to be extended: it says not what is trained, or not which combinations."""

    def all_keys(file: Path) -> set[str]:
        table = tomllib.loads(file.read_text())
        return set(table) | (all_keys(file.parent / table["extends"]) if "extends" in table else set())

    return not {"recipes", "combinations"} <= all_keys(path)


def test_studies_are_written_so_that_they_can_be_read_again():
    paths = [path for path in sorted((ROOT / "studies").rglob("*.toml")) if not is_a_part(path)]
    assert paths
    for path in paths:
        wanted = read_study(path)
        again = study_from(tomllib.loads(study_text(wanted)))
        assert replace(again, reference=None) == replace(wanted, reference=None, records=None), path
    criteria = {"mark": {"max_drop": 0.2}, "print": {"ceiling": -5}}
    rest = {"criteria": criteria, "first_seed": 3, "alpha": 0.01, "measures": ["m", {"name": "n", "radius": 0.1}]}
    suspects = [{"kind": "extraction", "answers": "labels", "mechanisms": ["b", {"name": "c", "x": [1, 2]}]}]
    for rule, correction in (("paper", "none"), ("paper", "verdict"), ("strict", "none"), ("bounded", "holm")):
        judged = {"rule": rule, "correction": correction, "suspects": suspects, **rest}
        wanted = study(["a", {"name": "b", "on": ["task"], "size": 0.5, "flag": True}], name="x y", **judged)
        assert study_from(tomllib.loads(study_text(wanted))) == wanted
        assert (wanted.rule, wanted.correction) == (rule, correction)
    then = {"mechanisms": ["c", {"name": "d", "size": 2}], "epochs": 3, "learning_rate": 0.5}
    table = {
        "recipes": [{"dataset": "digits", "conditions": ["x", {"name": "backdoor", "rate": 0.1}]}],
        "combinations": [{"mechanisms": ["a", "b"], "orders": True}, {"mechanisms": ["a"], "then": [then]}],
        "notes": [{"mechanisms": ["a"], "metric": "m", "text": "t", "dataset": "digits"}],
    }
    assert study_from(tomllib.loads(study_text(study_from(table)))) == study_from(table)
    assert set(vars(wanted)) == {"name", "recipes", "combinations", "alone", "together", "measures", "suspects"} | {
        "suspected",
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
            "tasks",
        ),
        *("reference_tables", "records", "folder", "file"),  # the latter three are of whoever ran it, and not written
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
    page = read(render_html(find(wanted, results(wanted), "strict")))
    sound(page)
    head = page.all("dl", class_="head")[0].said
    assert "3 at first, more while a verdict is undecided, at most 6" in head
    assert "α = 0.05 in all, 0.017 at each of 3 looks" in head
    body = section(page, "digits-smoke-a-b")
    (chart,) = [one for one in body.all("svg", class_="chart") if one.attributes["aria-label"].startswith("φ_MARK")]
    assert [one.said[:6] for one in chart.all("title")] == ["seed 0", "seed 1", "seed 2"] * 2
    assert "its 96.7 % interval" in body.said.replace("\N{NO-BREAK SPACE}", " ")
    assert f"φMARK: {EVIL}" in body.said, "what is known of published numbers"
    assert "is not finished" not in page.said
    content = to_plain(results(wanted))
    for entry in content["cells"]:
        entry["trials"] = entry["trials"][:2]
    early = results_from(content)
    banner = section(read(render_html(find(wanted, early, "strict"))), "unfinished").parent
    assert "8 of 12 replicates" in banner.said


def test_plugins_are_named_without_their_folder(tmp_path):
    text = study_text(replace(study(), plugins=(tmp_path / "mine.py",)))
    assert 'plugins = ["mine.py"]' in text
    assert str(tmp_path) not in render_html(
        find(replace(study(), plugins=(tmp_path / "mine.py",)), results(study()), "strict")
    )


# Sweeps


def test_a_swept_number_gives_curves():
    swept = {"name": "a", "sweep": {"strength": [1, 2, 10]}}
    wanted = study([swept, "b"], [swept, "c"])

    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float | None:
        return value_of(names, of, metric, seed)

    page = read(render_html(find(wanted, results(wanted, value), "strict")))
    sound(page)
    body = section(page, "sweep-a-strength")
    (chart,) = [
        one for one in body.all("svg", class_="chart") if one.attributes["aria-label"].startswith("φ_MARK of a over")
    ]
    assert [one.said for one in chart.all("text", class_="name")] == ["a alone", "{a, b}", "{a, c}", "strength of a"]
    assert [one.said for one in chart.all("g", class_="middle")[0].all("text")] == [
        "1",
        "2",
        "10",
    ]
    assert len(chart.all("path", class_="curve")) == 3
    assert len(chart.all("line", class_="interval")) == 9
    link = section(page, "digits-smoke-a-strength-1-b").all("a", href="#sweep-a-strength")
    assert link[0].said == "Sweep of a: strength"
    assert "sweep-" not in render_html(find(study(), results(study()), "strict"))


def test_a_swept_recipe_gives_curves_of_all_its_models():
    wanted = study(["a", "b"], recipes=[{"dataset": "digits", "scale": "smoke", "sweep": {"epochs": [1, 2, 4]}}])
    page = read(render_html(find(wanted, results(wanted), "strict")))
    sound(page)
    charts = section(page, "sweep-epochs").all("svg", class_="chart")
    (chart,) = [one for one in charts if one.attributes["aria-label"].startswith("φ_MARK of a over epochs")]
    assert [one.said for one in chart.all("text", class_="name")] == ["a alone", "{a, b}", "epochs"]


def test_options_that_are_no_numbers_are_not_swept():
    wanted = study([{"name": "a", "sweep": {"kind": ["x", "y"], "flag": [True, False]}}, "b"])
    assert 'id="sweep-' not in render_html(find(wanted, results(wanted), "strict"))


# Geometry

FINITE = st.floats(-1e12, 1e12)


@settings(deadline=None, max_examples=100)
@given(st.lists(FINITE, min_size=1, max_size=8), st.lists(FINITE, min_size=1, max_size=8), FINITE, st.floats(1e-6, 1e6))
def test_whatever_the_values_a_strip_stays_inside(alone, together, limit, width):
    arms = [arm("x", Sample(tuple(values), seeds=(*range(len(values)),)), 0.05, "t") for values in (alone, together)]
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
