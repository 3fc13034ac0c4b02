"""Model distance: hand-computed closeness, which images are compared, curves from model to figure."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from guardclash.errors import UserError
from guardclash.mechanisms.distance import CLOSENESS, IMAGES, ModelDistance, closeness, cumulative
from guardclash.mechanisms.wm import Watermark
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import Plan
from guardclash.plan.sources import Split
from guardclash.records.cells import Cell, Named, Suspected
from guardclash.records.file import read_results
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Results
from guardclash.reporting.figure_parts.distances import COLUMNS, FIRST, ROWS, band
from guardclash.reporting.figures import draw
from guardclash.reporting.findings import find
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.studies.jobs import Site
from guardclash.studies.measuring import _kept_curve
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study, study_from
from guardclash.studies.verification import Verification
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.trained import Trained
from running import ran

STUDY = Path(__file__).parent.parent / "studies" / "model-distances.toml"
NAMES = [metric.name for metric in ModelDistance.metrics]


def logits(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()


class Fake:
    """A model that gives every image one answer, and remembers what it was asked."""

    def __init__(self, plan: Plan, answer: Tensor):
        self.asked: list[Tensor] = []
        self.answer = answer
        self.trained = Trained(plan, 0, nn.Identity(), self.predict)

    def predict(self, x: Tensor) -> Tensor:
        self.asked.append(x)
        return self.answer.expand(len(x), -1)


def ten(first: float) -> Tensor:
    """Probabilities of ten classes: the first one's, the second one's the rest."""
    return torch.cat([logits(first, 1 - first), torch.full((8,), -torch.inf, dtype=torch.float64)])


# Two answers


def test_closeness_by_hand():
    same, far = torch.stack([logits(0.8, 0.2), logits(0.8, 0.2)]), torch.stack([logits(0.8, 0.2), logits(0.4, 0.6)])
    cosine, l1, l2, fidelity = closeness(same, far).tolist()
    assert cosine == pytest.approx([1, 0.44 / math.sqrt(0.68 * 0.52)])
    assert l1 == pytest.approx([1, 1 - 0.8])
    assert l2 == pytest.approx([1, 1 - math.sqrt(0.32)])
    assert fidelity == [1, 0]


def test_opposite_answers_are_as_far_apart_as_can_be():
    found = closeness(torch.tensor([[1000.0, 0, 0]]), torch.tensor([[0, 1000.0, 0]])).flatten().tolist()
    assert found == pytest.approx((0, -1, 1 - math.sqrt(2), 0))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 20), st.integers(2, 12), st.floats(0.01, 100), st.integers(0, 2**31))
def test_closeness_is_symmetric_and_in_range(n: int, classes: int, scale: float, seed: int):
    rng = torch.Generator().manual_seed(seed)
    one, other = (scale * torch.randn((n, classes), generator=rng) for _ in range(2))
    found = closeness(one, other)
    assert found.shape == (4, n)
    assert found.dtype == torch.float64
    assert torch.allclose(found, closeness(other, one))
    for row, low in zip(found, (0, -1, 1 - math.sqrt(2), 0), strict=True):
        assert (row >= low - 1e-9).all()
        assert (row <= 1 + 1e-9).all()
    assert torch.allclose(closeness(one, one + 3), torch.ones(4, n, dtype=torch.float64), atol=1e-5), "softmax"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=2000))
def test_a_curve_is_of_running_means_and_ends_at_the_mean_of_all(values: list[float]):
    curve = cumulative(torch.tensor(values, dtype=torch.float64))
    numbers = [x for x, _ in curve]
    assert (numbers[0], numbers[-1]) == (1, len(values))
    assert numbers == sorted(set(numbers))
    assert len(numbers) <= 25
    for x, y in curve:
        assert y == pytest.approx(math.fsum(values[: int(x)]) / x, abs=1e-9)


def test_a_long_curve_has_points_at_equal_ratios():
    numbers = [x for x, _ in cumulative(torch.zeros(1000))]
    assert len(numbers) >= 20
    assert numbers[-3:] == [562, 750, 1000]


# Two models


def test_the_metrics_of_two_models(base, context):
    victim, suspect = Fake(base, ten(0.8)), Fake(base, ten(0.4))
    mechanism = ModelDistance(images=40).bind(base)
    found = mechanism.verify(suspect.trained, victim.trained, context(0))
    assert set(found) == set(NAMES)
    for images in IMAGES:
        assert found[f"cosine_{images}"] == pytest.approx(0.44 / math.sqrt(0.68 * 0.52))
        assert found[f"one_minus_l1_{images}"] == pytest.approx(0.2)
        assert found[f"one_minus_l2_{images}"] == pytest.approx(1 - math.sqrt(0.32))
    assert mechanism.measure(victim.trained, context(0)) == {}, "a model's distance to itself says nothing"


def test_equal_models_are_at_distance_0(base, context):
    victim = Fake(base, ten(0.8)).trained
    found = ModelDistance(images=20).verify(victim, victim, context(0))
    assert found == {name: pytest.approx(1) for name in NAMES}


def test_both_models_see_the_same_images_of_four_kinds(base, context):
    victim, suspect = Fake(base, ten(0.8)), Fake(base, ten(0.4))
    ModelDistance(images=50).bind(base).verify(suspect.trained, victim.trained, context(0))
    assert all(torch.equal(one, other) for one, other in zip(victim.asked, suspect.asked, strict=True))
    members, others, test, noise = victim.asked
    assert [len(x) for x in victim.asked] == [50] * 4
    whole = context(0).examples("digits", "train").x
    assert within(members, whole[:256])
    assert within(others, whole[256:512])
    assert within(test, context(0).examples("digits", "test").x)
    assert noise.shape[1:] == (1, 8, 8)
    assert noise.min() >= 0
    assert noise.max() <= 1
    assert noise.mean() == pytest.approx(0.5, abs=0.05)
    ModelDistance(images=50).verify(suspect.trained, victim.trained, context(1))
    assert not any(torch.equal(one, other) for one, other in zip(victim.asked[:4], victim.asked[4:], strict=True))


def within(x: Tensor, of: Tensor) -> bool:
    return bool((x.flatten(1)[:, None] == of.flatten(1)[None]).all(2).any(1).all())


def test_members_are_what_the_victim_was_trained_on_and_others_follow_the_task(base, context):
    """A victim's mechanisms may replace its images; who has which images is the task's affair."""
    marked = replace(base, streams=(replace(base.task, source=Split("digits", "train", 30, 700)), *base.streams[1:]))
    victim = Fake(marked, ten(0.8))
    ModelDistance().bind(base).verify(victim.trained, victim.trained, context(0))
    whole = context(0).examples("digits", "train").x
    assert len(victim.asked[0]) == 30
    assert within(victim.asked[0], whole[700:730])
    assert within(victim.asked[2], whole[256:512])
    assert len(victim.asked[2]) == 256, "as many as there are"


def test_curves_end_at_the_metrics(base, context):
    class Uneven(Fake):
        def predict(self, x: Tensor) -> Tensor:
            return torch.cat([x.flatten(1)[:, :9], x.sum((1, 2, 3))[:, None]], 1)

    victim, suspect = Uneven(base, ten(0.8)).trained, Fake(base, ten(0.4)).trained
    mechanism = ModelDistance(images=60).bind(base)
    curves = mechanism.curves(suspect, victim, context(0))
    metrics = mechanism.verify(suspect, victim, context(0))
    assert set(curves) == set(NAMES)
    assert {name: curve[-1] for name, curve in curves.items()} == {name: (60, value) for name, value in metrics.items()}
    assert len({y for _, y in curves["one_minus_l2_random"]}) > 5, "the models differ from image to image"


def test_models_of_other_questions_are_not_compared(base, context):
    victim = Fake(base, ten(0.8))
    model: Any = base.model
    suspect = Fake(replace(base, model=replace(model, classes=2)), logits(0.8, 0.2))
    assert ModelDistance().verify(suspect.trained, victim.trained, context(0)) == {}
    assert ModelDistance().curves(suspect.trained, victim.trained, context(0)) == {}
    assert not victim.asked


def test_models_are_asked_once_for_metrics_and_curves(base, tmp_path):
    site = Site(Store(tmp_path / "runs"), tmp_path / "data")
    victim, suspect = Fake(base, ten(0.8)), Fake(base, ten(0.4))
    mechanism = ModelDistance(images=20).bind(base)
    metrics = mechanism.verify(suspect.trained, victim.trained, site.context(0))
    curves = mechanism.curves(suspect.trained, victim.trained, site.context(0))
    assert len(suspect.asked) == len(victim.asked) == 4
    assert curves["cosine_test"][-1][1] == metrics["cosine_test"]
    mechanism.curves(suspect.trained, replace(victim.trained, serving=(Watermark(),)), site.context(0))
    ModelDistance(images=21).bind(base).curves(suspect.trained, victim.trained, site.context(0))
    mechanism.curves(suspect.trained, victim.trained, site.context(1))
    assert len(suspect.asked) == 16, "another model as served, other images, another seed"


def test_its_metrics_are_reported_and_never_judged():
    assert NAMES == [f"{how}_{images}" for how in CLOSENESS for images in IMAGES]
    assert all(metric.criterion is metric.claim is None and metric.higher_is_better for metric in ModelDistance.metrics)


def test_mistakes(base):
    with pytest.raises(UserError, match=r"distance\.images.*got 0"):
        ModelDistance(images=0)
    with pytest.raises(UserError, match="too few train images of digits are left"):
        ModelDistance().bind(recipe("digits", "reduced").plan())


# Studies


SMALL = """
replicates = { alone = 2 }
recipes = [{ dataset = "digits", scale = "smoke" }]
combinations = [{ mechanisms = [{ name = "distance", images = 30 }] }]
suspects = [{ kind = "retraining" }, { kind = "independent" }]
"""


def study() -> Study:
    return study_from(tomllib.loads(SMALL), name="far")


def test_curves_go_from_models_to_the_figure(tmp_path):
    wanted = study()
    ran(wanted, Site(Store(tmp_path), tmp_path / "data"), Inline())
    results = read_results(tmp_path / "studies" / "far.json")
    named = wanted.mechanisms()[0]
    for cell in wanted.suspect_cells():
        for metric in results.metrics(cell, named):
            values = results.values(cell, named, metric.name, range(2))
            curves = results.curves(cell, named, metric.name, range(2))
            assert [curve[-1] for curve in curves] == [(30, pytest.approx(value, abs=1e-5)) for value in values]
            assert len(values) == 2
            assert results.curves(cell, named, metric.name, range(1, 2)) == curves[1:]
    for path in (tmp_path / "measurements").glob("*.json"):
        content = json.loads(path.read_text())
        assert ("curves" in content) == (content["measure"]["type"] == "Verification")
    for cell in wanted.cells():
        assert not results.curves(cell, named, NAMES[0], range(2))
        assert not any(one.curves for trial in results.cell(cell).trials for one in trial.measurements.values())
    found = texts(draw("distances", find(wanted, results, "strict"), "svg"))
    assert {"retraining (stolen)", "independent (innocent)"} <= set(found)


def test_other_mechanisms_have_no_curves(base, context):
    victim = Fake(base, ten(0.8)).trained
    served = RunContext(0, Path("nowhere"), lambda plan, seed: victim)
    assert Verification(Watermark(), Deployed(base)).curves(victim, served) == {}
    own = Verification(ModelDistance(images=10).bind(base), Deployed(base))
    assert own.curves(victim, served)["cosine_random"][-1] == (10, pytest.approx(1))


def test_a_curve_is_of_numbers():
    assert _kept_curve("a", ((1, 1 / 3), (1_000_001, 2.0))) == [[1, 0.333333], [1_000_001, 2]]
    with pytest.raises(ValueError, match="the curve a "):
        _kept_curve("a", ((1, math.nan),))


def test_the_study_of_the_talk_can_be_composed():
    wanted = read_study(STUDY)
    composed = compose_study(wanted)
    assert [study_of.plan is not None for study_of in composed] == [True] * (2 * (2 + 6))
    assert {entry.stolen for entry in composed if entry.cell.suspect} == {True, False}
    assert {entry.plan.task.source.size for entry in composed if entry.plan} == {10_000}
    assert len({wanted.suspect_label(suspect) for suspect in wanted.suspects}) == 6


# The figure


def curve(end: float) -> list[list[float]]:
    return [[n, end - 1 / n] for n in (1, 5, 10, 100, 1000)]


def made_up(wanted: Study, without: tuple[str, ...] = ()) -> Results:
    """A results file as a run writes it, for kinds of suspects but those left out."""

    def entry(cell: Cell) -> dict[str, Any]:
        kind = cell.suspect.kind.name if cell.suspect else ""
        curves = {f"{row}_{column}": curve(len(kind) / 30) for row in ROWS for column in COLUMNS}
        found = {"curves": curves} if kind and kind not in without else {}
        measured = [{"of": of.to_dict(), "values": {}, **found} for of in cell.combination]
        trials = [{"seed": seed, "trial": "0", "measurements": measured} for seed in wanted.seeds(cell)]
        own = {"key": cell.key, "recipe": {}, "clash": None, "facts": {}, "measures": [], "trials": trials}
        return {**own, "stolen": kind not in ("independent", "unrelated")}

    cells = [entry(cell) for cell in (*wanted.cells(), *wanted.suspect_cells())]
    return results_from(json.loads(json.dumps({"study": wanted.name, "cells": cells})))


def texts(svg: bytes) -> list[str]:
    """What a viewer writes, line by line; the parser refuses what is not well-formed."""
    root = ElementTree.fromstring(svg)
    return ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("}text")]


def test_the_figure_says_what_it_shows():
    wanted = read_study(STUDY)
    found = texts(draw("distances", find(wanted, made_up(wanted), wanted.rule), "svg"))
    assert {"fmnist/reduced", "mnist/reduced", *ROWS.values(), *COLUMNS.values()} <= set(found)
    assert found.count("1 − cosine similarity") == 2, "a grid for each recipe"
    assert found.count("number of images") == 8
    assert {"10", "100", "1,000"} <= set(found)
    assert {"retraining (stolen)", "independent (innocent)", "unrelated (innocent)"} <= set(found)
    assert {"extraction(answers=labels) (stolen)", "extraction(answers=probabilities) (stolen)"} <= set(found)
    assert not any(line.startswith("Not there") for line in found)


def test_the_figure_says_what_is_missing():
    wanted = study()
    found = texts(draw("distances", find(wanted, made_up(wanted, ("independent",)), "strict"), "svg"))
    assert "retraining (stolen)" in found
    assert "independent (innocent)" not in found
    assert "Not there: independent on digits/smoke (0 of 2 seeds)." in found


def test_a_grid_for_each_combination_and_odd_names_stay_text():
    wanted = replace(study(), combinations=((Named("$x^2$"),), (Named("<b>"), Named("wm"))), together=2)
    found = texts(draw("distances", find(wanted, made_up(wanted), "strict"), "svg"))
    assert {"digits/smoke {$x^2$}", "digits/smoke {<b>, wm}"} <= set(found)


def test_bands_reach_from_the_least_to_the_greatest_seed():
    assert FIRST == 10
    assert band([((10, 0.0), (20, 1.0)), ((10, 1.0), (20, 1.0))]) == [(10, 0.5, 0, 1), (20, 1, 1, 1)]
    long = tuple((float(n), 1.0) for n in (1, 5, 10, 50))
    assert [x for x, *_ in band([long])] == [10, 50], "means of few images are left out"
    assert [x for x, *_ in band([long[:2]])] == [5], "unless there are no more"
    assert band([]) == []


def test_many_suspects_differ_in_colour_and_marker():
    kinds = tuple(Suspected(Named("extraction", (("queries", str(n)),))) for n in range(20))
    wanted = replace(study(), suspects=kinds)
    found = texts(draw("distances", find(wanted, made_up(wanted), "strict"), "svg"))
    assert {f"extraction(queries={n}) (stolen)" for n in range(20)} <= set(found)


def test_a_study_without_curves_is_refused():
    wanted = study()
    for results in (made_up(wanted, ("retraining", "independent")), results_from({"study": "none", "cells": []})):
        with pytest.raises(UserError, match="no curves of distances"):
            draw("distances", find(wanted, results, "strict"), "svg")
    with pytest.raises(UserError, match="no curves of distances"):
        draw("distances", find(replace(wanted, suspects=()), made_up(wanted), "strict"), "svg")


def test_the_same_records_give_the_same_bytes_without_torch(tmp_path):
    (tmp_path / "far.toml").write_text(SMALL)
    wanted = read_study(tmp_path / "far.toml")
    (tmp_path / "results.json").write_text(json.dumps(to_plain(made_up(wanted))))
    expected = draw("distances", find(wanted, made_up(wanted), wanted.rule), "svg")
    code = (
        "import contextlib, sys\n"
        "from guardclash.cli.app import main\n"
        "sys.argv = ['guardclash', 'figure', 'distances', 'far.toml', '--results', 'results.json', '-o', 'a.svg']\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main()\n"
        "print([name for name in ('torch', 'sklearn', 'matplotlib.pyplot') if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ran.stdout.strip() == "[]"
    assert (tmp_path / "a.svg").read_bytes() == expected
