"""The figures matrix, sweep and pareto: what they show of committed and made-up studies, and when they refuse."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from scipy import stats

from committed import COMMITTED, committed
from guardclash.errors import UserError
from guardclash.judging.criteria import ACCURACY, Floor, MaxDrop, MaxGrowth, Metric
from guardclash.judging.judgement import plain
from guardclash.judging.rules import OUTCOMES
from guardclash.judging.stats import Sample
from guardclash.records.cells import Cell, Named
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Results
from guardclash.reporting import looks
from guardclash.reporting.entries import Column, mean_interval
from guardclash.reporting.figure_parts import style
from guardclash.reporting.figure_parts.matrix import LOOKS, _pairs
from guardclash.reporting.figure_parts.pareto import ParetoPanel, ParetoPoint, front
from guardclash.reporting.figure_parts.spread import held, within
from guardclash.reporting.figure_parts.sweep import _strips
from guardclash.reporting.figures import METADATA, draw
from guardclash.reporting.findings import find
from guardclash.reporting.page_parts import words
from guardclash.studies.study import Study

ROOT = Path(__file__).parent.parent
DRAWN = {
    "matrix": {"batchnorm-wm-advtr", "di-pairs", "raddata-pairs", "raddata-wm", "wm-dpsgd-mnist"},
    "sweep": {"raddata-signal"},
    "pareto": {"batchnorm-wm-advtr", "di-pairs", "raddata-pairs", "raddata-signal", "wm-dpsgd-mnist"},
}
"""At least these; what else is on record is drawn or refused."""
REFUSED = {
    "matrix": ("raddata-signal", "no combinations"),
    "sweep": ("wm-dpsgd-mnist", "no measured sweep"),
    "pareto": ("model-distances", "nothing to draw against the utility"),
}
OWN = {
    "a": (Metric("mark", "φ_MARK", MaxDrop(0.30)),),
    "b": (Metric("cost", "ζ", MaxGrowth(1.5), higher_is_better=False, gain=False),),
}
Value = Callable[[Cell, str, int], float]
A, C, PLAIN = Named("a"), Named("c"), Named("b")
NOISES, CLIPS = (0.1, 1, 4), (1, 2)


def b(noise: float, clip: float = 1) -> Named:
    return Named("b", (("noise", noise), ("clip", clip)))


def study_of(*combinations: tuple[Named, ...], seeds: int = 3, **keys: Any) -> Study:
    return Study("small", (Named("digits", (("scale", "smoke"),)),), combinations, seeds, seeds, **keys)


def value(cell: Cell, metric: str, seed: int) -> float:
    """The mark, which only a makes, suffers from noise, the more the higher the clip; cost grows with noise."""
    options = next((dict(named.options) for named in cell.combination if named.name == "b"), {})
    noise, clip = options.get("noise", 0), options.get("clip", 1)
    mark = 0.9 - 0.075 * noise * clip if A in cell.combination else 0.2
    return {"cost": 3 + noise / 4, "mark": mark}.get(metric, 0.9 - 0.02 * noise) + 0.01 * seed


def measured(study: Study, seeds: int = 99, own: dict[str, tuple[Metric, ...]] = OWN, value: Value = value) -> Results:
    """A results file as a run writes it, of so many seeds at most."""

    def trial(cell: Cell, seed: int) -> dict[str, Any]:
        shared = {"of": None, "values": {ACCURACY.name: value(cell, ACCURACY.name, seed)}}
        owners = study.measured_in(cell)
        values = [
            {metric.name: plain(value(cell, metric.name, seed)) for metric in own.get(of.name, ())} for of in owners
        ]
        others = [{"of": of.to_dict(), "values": found} for of, found in zip(owners, values, strict=True)]
        return {"seed": seed, "trial": "0", "measurements": [shared, *others]}

    def entry(cell: Cell) -> dict[str, Any]:
        measures = [
            {"of": of.to_dict(), "metrics": [metric.to_dict() for metric in own.get(of.name, ())]}
            for of in cell.combination
        ]
        trials = [trial(cell, seed) for seed in list(study.seeds(cell))[:seeds]]
        return {"key": cell.key, "recipe": {}, "clash": None, "facts": {}, "measures": measures, "trials": trials}

    return results_from(json.loads(json.dumps({"study": study.name, "cells": list(map(entry, study.cells()))})))


def texts(svg: bytes) -> list[str]:
    found = [node for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("}text")]
    return [" ".join("".join(node.itertext()).replace("\N{NO-BREAK SPACE}", " ").split()) for node in found]


def shown(name: str, study: Study, results: Results) -> list[str]:
    return texts(draw(name, find(study, results, "strict"), "svg"))


# On record


@pytest.mark.parametrize("figure", DRAWN)
@pytest.mark.parametrize("name", COMMITTED)
def test_every_committed_study_is_drawn_or_refused(figure: str, name: str):
    study, results = committed(name)
    try:
        svg = draw(figure, find(study, results, study.rule), "svg")
    except UserError as refused:
        assert study.name in str(refused)
        assert name not in DRAWN[figure]
    else:
        assert any(text.startswith(study.name) for text in texts(svg))


@pytest.mark.parametrize("figure", DRAWN)
def test_what_cannot_be_drawn_says_why(figure: str):
    name, why = REFUSED[figure]
    with pytest.raises(UserError, match=why):
        draw(figure, find(*committed(name), "strict"), "svg")


@pytest.mark.slow
@pytest.mark.parametrize(("figure", "name"), [(figure, max(names)) for figure, names in DRAWN.items()])
def test_the_same_records_give_the_same_bytes(figure: str, name: str):
    study, results = committed(name)
    for form in METADATA:
        assert draw(figure, find(study, results, "strict"), form) == draw(figure, find(study, results, "strict"), form)


def test_the_matrix_of_a_committed_study():
    found = shown("matrix", *committed("raddata-pairs"))
    assert {"✗ conflict", "? undecided", "not asked", "φ_RAD net", "ε", "fmnist/reduced", "raddata", "dpsgd"} <= set(
        found
    )
    assert {"conflict (4)", "undecided (2)", "compatible (0)", "not asked (6)"} <= set(found)
    side_by_side = shown("matrix", *committed("wm-dpsgd-mnist"))
    assert {"compatible (1)", "conflict (1)"} <= set(side_by_side)


def test_the_sweep_of_a_committed_study():
    found = shown("sweep", *committed("raddata-signal"))
    assert {"fmnist/reduced {raddata}", "mnist/reduced {raddata}", "raddata alone", "radius of raddata"} <= set(found)
    assert {"10", "25", "40", "64", "96"} <= set(found)
    assert any("90 % intervals of the means" in text for text in found), "also of two seeds, as on the page"


def test_the_front_of_a_committed_study():
    found = " ".join(shown("pareto", *committed("wm-dpsgd-mnist")))
    for said in ("φ_WM of wm (more is better)", "ε of dpsgd (less is better)", "1: unprotected", "{wm, dpsgd}"):
        assert said in found
    assert "90 % intervals" in found


# Made up


def test_every_outcome_has_a_look_of_its_own():
    """A symbol each, and a colour but for two rare ones, which have that of the common one whose word they qualify."""
    shared = {word: words.SAME_LOOK[word] for word in OUTCOMES if word in words.SAME_LOOK}
    assert set(LOOKS) == set(looks.LOOKS) == set(OUTCOMES)
    assert len({look.symbol for look in LOOKS.values()}) == len(LOOKS)
    for colours in (
        {word: look.fill for word, look in LOOKS.items()},
        {word: look.terminal for word, look in looks.LOOKS.items()},
    ):
        assert len(set(colours.values())) == len(OUTCOMES) - len(shared)
        assert all(colours[word] == colours[other] for word, other in shared.items())
    of_metrics = [*(word for word in OUTCOMES if word not in ("clash", "does not train together")), ""]
    assert sorted(style.LOOKS) == sorted(of_metrics)
    assert len({(look.colour, look.marker) for look in style.LOOKS.values()}) == len(of_metrics)
    assert set(style.RARE) < set(of_metrics)
    study = study_of((A, b(0.1)), (A, b(4)))
    results = measured(study)
    assert {"✓ compatible", "? undecided"} <= set(shown("matrix", study, results))
    clash = {**to_plain(results)["cells"][-1], "clash": "cannot be", "trials": []}
    found = shown(
        "matrix", study, results_from({**to_plain(results), "cells": [*to_plain(results)["cells"][:-1], clash]})
    )
    assert "⊘ clash" in found
    assert "clash (1)" in found


def test_larger_combinations_stand_below_the_pairs():
    study = study_of((A, PLAIN), (A, PLAIN, C))
    found = shown("matrix", study, measured(study))
    assert {"combinations of three or more", "{a, b, c}", "digits/smoke"} <= set(found)
    alone = study_of((A, PLAIN, C))
    assert "{a, b, c}" in shown("matrix", alone, measured(alone))


def test_recipes_stand_side_by_side_while_there_is_room():
    few = replace(study_of((A, PLAIN)), recipes=tuple(Named(name, (("scale", "smoke"),)) for name in ("x", "y")))
    assert [block.heads for block in _pairs(find(few, measured(few)))] == [("b on x/smoke", "b on y/smoke")]
    many = replace(study_of((A, PLAIN), (A, C), (A, Named("d"))), recipes=few.recipes)
    assert [(block.title, len(block.heads)) for block in _pairs(find(many, measured(many)))] == [
        ("x/smoke", 3),
        ("y/smoke", 3),
    ]


def test_a_sweep_of_two_options_has_a_line_for_each_value_of_the_second():
    study = study_of(*((A, b(noise, clip)) for noise in NOISES for clip in CLIPS))
    (strip,) = _strips(find(study, measured(study)))
    accuracy, mark, cost = strip.panels
    assert (strip.title, strip.option) == ("digits/smoke {a, b}", "noise of b")
    assert [line.label for line in mark.lines] == ["{a, b(clip=1)}", "{a, b(clip=2)}"]
    point = mark.lines[1].points[2]
    assert (point.option, point.values.mean) == (4, pytest.approx(0.9 - 0.6 + 0.01))
    assert (point.reference.mean, point.limit) == (pytest.approx(0.91), pytest.approx(0.91 - 0.3))
    assert cost.lines[0].points[0].limit == pytest.approx(1.5 * 3.035)
    assert accuracy.lines[0].points[2].reference.mean == pytest.approx(0.83), "the lowest of all alone"
    found = shown("sweep", study, measured(study))
    assert {"φ_ACC", "φ_MARK of a", "ζ of b", "{a, b(clip=2)}", "0.1", "4"} <= set(found)
    assert any("90 % intervals of the means" in text for text in found)


def test_a_sweep_shows_what_is_judged():
    """Of a net metric what its mechanism adds, beside what it adds alone and the limit of that."""
    net = {**OWN, "a": (Metric("mark", "φ_MARK", MaxDrop(0.30), net=True),)}
    study = study_of(*((A, b(noise)) for noise in NOISES))
    (strip,) = _strips(find(study, measured(study, own=net)))
    (line,) = strip.panels[1].lines
    assert strip.panels[1].column.metric.symbol == "φ_MARK net"
    assert [point.values.mean for point in line.points] == pytest.approx([0.7 - 0.075 * noise for noise in NOISES])
    assert [point.reference.mean for point in line.points] == pytest.approx([0.7] * 3)
    assert [point.limit for point in line.points] == pytest.approx([0.4] * 3)
    assert "φ_MARK net of a" in shown("sweep", study, measured(study, own=net))


@pytest.mark.parametrize("figure", DRAWN)
def test_what_has_no_bound_is_not_drawn(figure: str):
    """ε is inf where nothing bounds it; the other points of its line are drawn."""

    def unbounded(cell: Cell, metric: str, seed: int) -> float:
        infinite = metric == "cost" and A in cell.combination and b(4) in cell.combination
        return math.inf if infinite else value(cell, metric, seed)

    study = study_of(*((A, b(noise)) for noise in NOISES))
    results = measured(study, value=unbounded)
    assert shown(figure, study, results)
    if figure == "matrix":
        assert "✗ conflict" in shown(figure, study, results)
    if figure == "sweep":
        (strip,) = _strips(find(study, results))
        assert [len(panel.lines[0].points) for panel in strip.panels] == [3, 3, 2]


def test_a_mechanism_swept_alone_is_held_against_the_unprotected_model():
    study = study_of(*((b(noise),) for noise in NOISES), criteria=(("accuracy", Floor(0.5)),))
    (strip,) = _strips(find(study, measured(study)))
    assert [point.reference.mean for point in strip.panels[0].lines[0].points] == [pytest.approx(0.91)] * 3
    assert {point.limit for point in strip.panels[0].lines[0].points} == {0.5}


def test_a_swept_recipe_is_an_axis_of_its_own():
    def longer(epochs: int, **options: Any) -> Named:
        return Named("digits", (*options.items(), ("epochs", epochs), ("scale", "smoke")))

    recipes = tuple(longer(epochs, reading=reading) for reading in ("one", "two") for epochs in (5, 20, 10))
    study = replace(study_of((A, PLAIN)), recipes=recipes)
    strips = list(_strips(find(study, measured(study))))
    assert [strip.title for strip in strips] == [f"digits/smoke (reading={name}) {{a, b}}" for name in ("one", "two")]
    (line,) = strips[0].panels[1].lines
    assert (strips[0].option, line.label) == ("epochs", "{a, b}")
    assert [point.option for point in line.points] == [5, 10, 20]
    assert {"epochs", "5", "10", "20"} <= set(shown("sweep", study, measured(study)))


def test_the_front_is_what_nothing_surpasses():
    def point(accuracy: float, metric: float, deployed: bool = True) -> ParetoPoint:
        return ParetoPoint(1, Sample((accuracy,)), Sample((metric,)), None, None, "", deployed)

    points = (point(0.9, 1), point(0.8, 3), point(0.7, 2), point(0.8, 2), point(0.99, 9, deployed=False))
    panel = ParetoPanel("x", Column("a", OWN["a"][0]), Column(None, ACCURACY), points)
    assert front(panel) == [(0.8, 3), (0.9, 1)]
    assert front(replace(panel, column=Column("b", OWN["b"][0]))) == [(0.9, 1)], "less is better"
    assert front(replace(panel, points=())) == []


def test_an_axis_does_not_reach_for_the_interval_of_two_seeds():
    three, two = Sample((1.0, 2.0, 3.0)), Sample((1.0, 2.0))
    for level, confidence in ((0.05, 0.9), (0.01, 0.98)):
        expected = stats.t.interval(confidence, 2, three.mean, three.std / 3**0.5)
        assert held(three, mean_interval(three, level)) == pytest.approx(expected)
    assert held(two, mean_interval(two, 0.05)) == (1, 2)
    assert held(Sample((7.0,)), None) == (7,)
    assert within((-9, 9), (1, 4), 0.1) == pytest.approx((1 - 1.3, 4 + 1.3))
    assert within((0.5, 4.5), (1, 4), 0.1) == (0.5, 4.5), "nothing goes beyond"
    assert within((-9, 9), (3,), 0) == (2, 4)


@pytest.mark.parametrize("figure", DRAWN)
def test_a_half_finished_study_says_so(figure: str):
    study = study_of(*((A, b(noise)) for noise in NOISES))
    found = shown(figure, study, measured(study, seeds=1))
    assert any("Not finished: 8 of 8 cells still lack seeds." in text for text in found)
    nothing = results_from({"study": "none", "cells": []})
    if figure == "matrix":
        assert "undecided (3)" in shown(figure, study, nothing)
    else:
        with pytest.raises(UserError):
            shown(figure, study, nothing)


@pytest.mark.parametrize("figure", DRAWN)
def test_odd_names_stay_text(figure: str):
    odd = "<b>$x^2$</b>&"
    study = replace(study_of(*((A, b(noise), Named(odd)) for noise in NOISES), (A, Named(odd))), name=f"{odd}\x00")
    svg = draw(figure, find(study, measured(study), "strict"), "svg")
    assert not [node.tag for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("}b")]
    found = " ".join(texts(svg))
    assert f"{odd}\N{REPLACEMENT CHARACTER}" in found
    assert f"{odd}}}" in found or f"a, b, {odd}" in found
