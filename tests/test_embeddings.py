"""Embeddings of marks: the planes they lie in, what is recorded of them, and the figure that shows them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.judging.criteria import Floor, Metric
from guardclash.mechanism import Mechanism
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.raddata import RadioactiveData
from guardclash.mechanisms.wm import Watermark
from guardclash.numerics.features import linear_readout
from guardclash.numerics.planes import Plane, boundary_plane, carrier_planes, in_planes
from guardclash.numerics.scatter import MOST, Scatter, scatter_from
from guardclash.records.cells import Cell, Named
from guardclash.records.file import read_results
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Results
from guardclash.registry import find_mechanisms
from guardclash.reporting.figure_parts.embeddings import CLEAN, MARKS, ONLY
from guardclash.reporting.figures import METADATA, draw
from guardclash.reporting.findings import find
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.studies.jobs import Job, Site, run_job
from guardclash.studies.run import run_study
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study, study_from
from guardclash.studies.trials import Probe, Trial
from guardclash.training.train import build_network, train
from guardclash.training.trained import Trained, predictor
from running import edited

ROOT = Path(__file__).parent.parent
MARKED = ("wm", "raddata")
QUICK = RadioactiveData(ratio=0.25, radius=48, iterations=3, held_out=20)
seeds = st.integers(0, 2**32 - 1)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture(scope="module")
def untrained(base, context) -> Trained:
    """A model that knows nothing, which costs nothing."""
    network = build_network(base, context(0)).eval()
    return Trained(base, 0, network, predictor(network))


# Planes


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_the_boundary_lies_at_0_and_beside_it_is_the_first_principal_component(seed):
    features, weight, bias = normal(seed, 30, 6), normal(seed + 1, 4, 6), normal(seed + 2, 4)
    plane = boundary_plane(features, weight, bias, (2, 0))
    logits = features @ weight.T + bias
    points = np.array(plane.points(features))
    assert ((points[:, 0] > 0) == (logits[:, 2] > logits[:, 0])).all()
    assert points[:, 0] * np.linalg.norm(weight[2] - weight[0]) == pytest.approx(logits[:, 2] - logits[:, 0])
    assert plane.across.T @ plane.across == pytest.approx(np.eye(2), abs=1e-9)
    assert points[:, 1].mean() == pytest.approx(0, abs=1e-9)
    centred = features - features.mean(0)
    rest = centred - np.outer(centred @ plane.across[:, 0], plane.across[:, 0])
    assert points[:, 1].var() == pytest.approx(np.linalg.eigvalsh(rest.T @ rest)[-1] / len(rest))
    share = points.var(0) / centred.var(0).sum()
    assert [f"{part:.0%} of the variance" in axis for part, axis in zip(share, plane.axes, strict=True)] == [True] * 2
    assert "labels 2 and 0" in plane.axes[0]


def test_a_classifier_without_a_preference_and_features_without_a_spread_have_a_plane():
    flat = boundary_plane(np.ones((5, 3)), np.ones((2, 3)), np.ones(2), (0, 1))
    assert np.isfinite(flat.points(np.ones((2, 3)))).all()
    assert "0% of the variance" in flat.axes[1]
    none = carrier_planes(np.zeros((4, 3)), np.zeros((4, 2)), np.zeros(4, int), np.zeros((2, 2)), np.eye(2, 3))
    assert np.isfinite(in_planes(none, np.ones((2, 2)), np.array([0, 1]))).all(), "also of a class without images"


@given(seeds)
@settings(deadline=None, max_examples=20)
def test_a_shift_along_the_carrier_is_seen_along_x_alone(seed):
    """Also in another network's features, into which the carrier is brought by what the two have in common."""
    ours, labels, weight = normal(seed, 60, 5), np.arange(60) % 3, normal(seed + 1, 3, 8)
    carriers = normal(seed + 2, 3, 5)
    carriers /= np.linalg.norm(carriers, axis=1, keepdims=True)
    between = normal(seed + 3, 5, 8)
    theirs = ours @ between
    planes = carrier_planes(ours, theirs, labels, weight, carriers)
    before = np.array(in_planes(planes, theirs, labels))
    after = np.array(in_planes(planes, (ours + 2 * carriers[labels]) @ between, labels))
    assert (after[:, 0] > before[:, 0]).all()
    assert after[:, 1] == pytest.approx(before[:, 1], abs=1e-6)
    assert before.mean(0) == pytest.approx(np.zeros(2), abs=1e-6)
    assert before.std(0) == pytest.approx(np.ones(2)), "in standard deviations about the classes' means"


@given(seeds)
@settings(deadline=None, max_examples=10)
def test_what_speaks_for_a_class_is_read_off_its_plane(seed):
    features, labels, weight = normal(seed, 40, 6), np.arange(40) % 4, normal(seed + 1, 4, 6)
    planes = carrier_planes(features, features, labels, weight, np.eye(4, 6))
    evidence = weight - weight.mean(0)
    for plane, own in zip(planes, evidence, strict=True):
        found, *_ = np.linalg.lstsq(plane.across, own, rcond=None)
        assert plane.across @ found == pytest.approx(own)
        assert found[1] >= 0, "up is for the class"


# Records


def test_a_record_holds_few_points_of_four_digits_and_gives_them_back():
    many = tuple((number / 3, -number / 7) for number in range(1001))
    record = Scatter("Look.", ("a", "b"), {"few": many[:3], "none": ()}, {"many": many}).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    kept = scatter_from(record)
    assert (kept.caption, kept.axes, list(kept.clean)) == ("Look.", ("a", "b"), ["few"])
    assert kept.clean["few"] == ((0, 0), (0.3333, -0.1429), (0.6667, -0.2857))
    assert len(kept.marks["many"]) == MOST
    assert (kept.marks["many"][0], kept.marks["many"][-1]) == ((0, 0), (333.3, -142.9))
    assert kept.to_dict() == record


@pytest.mark.parametrize("point", [(0.0, math.nan), (math.inf, 0.0), (1.0,), (1.0, 2.0, 3.0)])
def test_points_are_pairs_of_numbers(point):
    with pytest.raises(ValueError, match="the group 'odd'"):
        Scatter("", ("", ""), {}, {"odd": (point,)}).to_dict()


# Mechanisms


@pytest.mark.parametrize("cls", find_mechanisms().values(), ids=list(find_mechanisms()))
def test_every_mechanism_shows_marks_or_nothing_and_leaves_the_model_alone(cls, untrained, context):
    mechanism = QUICK if cls is RadioactiveData else cls()
    before = {name: value.clone() for name, value in untrained.network.state_dict().items()}
    found = mechanism.scatter(untrained, context(0))
    assert (found is None) == (cls.name not in MARKED)
    assert all(torch.equal(value, before[name]) for name, value in untrained.network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in untrained.network.modules())
    if found:
        record = found.to_dict()
        assert mechanism.scatter(untrained, context(0)).to_dict() == record, "the same points each time"
        assert record["clean"] and record["marks"] and record["caption"] and all(record["axes"])
        assert len(json.dumps(record)) < 5_000
        assert not set(record["clean"]) & set(record["marks"])


@pytest.mark.parametrize("mechanism", [Watermark(), QUICK], ids=MARKED)
def test_a_network_that_cannot_be_looked_into_has_no_points(mechanism, untrained, context):
    network = build_network(untrained.plan, context(0)).eval()
    with torch.no_grad():
        network[-1].bias[0] = math.nan
    other = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 11))
    for odd in (network, other, wide):
        assert mechanism.scatter(replace(untrained, network=odd), context(0)) is None


def test_a_classifier_without_bias_is_one():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    read = linear_readout(network, 3, [torch.ones(2, 1, 2, 2), torch.zeros(1, 1, 2, 2)])
    assert [features.shape for features in read.features] == [(2, 4), (1, 4)]
    assert (read.bias == 0).all()


def test_learnt_triggers_lie_on_the_side_of_their_label(base, context):
    plan = replace(base, epochs=15)
    mechanism = Watermark(triggers=40, batch_size=20, passes=3)
    learnt = train(compose(plan, [mechanism]), context(0))
    assert mechanism.measure(learnt, context(0))["wm_accuracy"] > 0.8
    scatter = mechanism.scatter(learnt, context(0))
    y = context(0).data(mechanism.trigger_set(plan)).y
    counts = torch.bincount(y, minlength=10)
    (first, of_first), (second, of_second) = scatter.marks.items()
    for name, points in scatter.marks.items():
        label = int(name.removeprefix("triggers, label "))
        assert len(points) == counts[label] >= counts.sort(descending=True).values[1]
    assert list(scatter.clean)[:2] == [name.replace("triggers", "test images") for name in (first, second)]
    assert np.mean([x > 0 for x, _ in of_first]) > 0.8
    assert np.mean([x < 0 for x, _ in of_second]) > 0.8
    assert sum(map(len, scatter.clean.values())) == 500, "all test images of digits"


# Measuring


WM = {"name": "wm", "triggers": 30, "batch_size": 15}
SMALL = {
    "replicates": {"alone": 2, "together": 2},
    "recipes": [{"dataset": "digits", "scale": "smoke", "norm": "group"}],
    "combinations": [{"mechanisms": [WM, "dpsgd-control"]}],
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Study, Site, Results]:
    folder = tmp_path_factory.mktemp("runs")
    study, site = study_from(SMALL, name="small"), Site(Store(folder), folder / "data")
    run_study(study, site, Inline())
    return study, site, read_results(folder / "studies" / "small.json")


def of_wm(study: Study) -> Named:
    return next(named for named in study.mechanisms() if named.name == "wm")


def test_points_go_from_models_to_the_results_of_the_first_seed(ran):
    study, site, results = ran
    named, measured = of_wm(study), 0
    for entry in compose_study(study):
        for trial in entry.trials():
            for of, measure in entry.measures:
                record = site.store.measurement(Probe(trial, measure, entry.serving()).key)
                assert ("scatter" in record) == (of == named), "every seed has its points in the store"
                if of == named:
                    kept = results.scatter(entry.cell, named, trial.seed)
                    expected = measure.scatter(site.read(trial.plan, trial.seed), site.context(trial.seed))
                    assert expected.to_dict() == record["scatter"], "again the same"
                    assert kept == (scatter_from(record["scatter"]) if trial.seed == 0 else None)
                    measured += 1
    assert measured == 8
    assert results.scatter(study.cells()[0], Named("dpsgd-control"), 0) is None


def test_a_measurement_without_points_stays_valid(ran, tmp_path):
    """As those made before there were any: nothing is measured again, and the figure says what it lacks."""
    study, site, _ = ran
    for path in (site.store.folder / "measurements").iterdir():
        (tmp_path / "measurements").mkdir(exist_ok=True)
        (tmp_path / "measurements" / path.name).write_bytes(path.read_bytes())
        if "scatter" in json.loads(path.read_text()):
            edited(tmp_path / "measurements" / path.name, scatter=None)
    (tmp_path / "trials").symlink_to(site.store.folder / "trials")
    before = {path.name: path.read_bytes() for path in (tmp_path / "measurements").iterdir()}
    run_study(study, Site(Store(tmp_path), tmp_path), Inline())
    assert {path.name: path.read_bytes() for path in (tmp_path / "measurements").iterdir()} == before
    old = read_results(tmp_path / "studies" / "small.json")
    with pytest.raises(UserError, match="no embeddings of marks are recorded") as refused:
        draw("embeddings", find(study, old, "strict"), "svg")
    assert "`measurements` out of the store and run the study again" in str(refused.value)
    assert "small" in str(refused.value)


def test_keys_of_measurements_are_as_before_there_were_points(base):
    """Else users' models would be measured anew. Raising the `version` of either mechanism changes its key here."""
    keys = {of.name: Probe(Trial(base, 0), of.bind(base)).key for of in (Watermark(), RadioactiveData())}
    assert keys == {"wm": "d67acecf82ca014fd564-0", "raddata": "b5090fa2658e5126cf18-0"}


@dataclass(frozen=True)
class Careless(Mechanism):
    """Shows marks that it has not."""

    name: ClassVar[str] = "careless"
    concern: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("care", "κ", Floor(0.5)),)
    points: tuple[float, ...] = ()

    def measure(self, trained, context):
        return {"care": 1.0}

    def scatter(self, trained, context):
        if not self.points:
            raise RuntimeError("no marks here")
        return Scatter("", ("x", "y"), {}, {"marks": (self.points,)})


@pytest.mark.parametrize(
    ("mechanism", "words"),
    [(Careless(), "no marks here"), (Careless(points=(1.0, math.nan)), "no pairs of numbers")],
)
def test_an_error_of_a_plugin_fails_its_own_measurement_only(toy, tmp_path, mechanism, words):
    site, trial = Site(Store(tmp_path), tmp_path), Trial(toy, 0)
    probes = Probe(trial, mechanism), Probe(trial, Watermark(triggers=10))
    done = run_job(Job(trial, probes), site)
    assert words in done.error
    assert words in site.store.failure(trial.key)["error"]
    assert [site.store.measurement(probe.key) is not None for probe in probes] == [False, True]


# The figure


def texts(svg: bytes) -> list[str]:
    """What a viewer writes, line by line; the parser refuses what is not well-formed."""
    root = ElementTree.fromstring(svg)
    return ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("}text")]


def some(caption: str = "What to see.") -> dict[str, Any]:
    near, far = {"x": [0.0, 1.0], "y": [1.0, 2.0]}, {"x": [3.0], "y": [-1.0]}
    axes = ["along the first, 30% of the variance", "along the second, 20% of the variance"]
    return {"caption": caption, "axes": axes, "clean": {"clean one": near, "clean two": far}, "marks": {"marked": far}}


def made_up(study: Study, without: tuple[tuple[str, ...], ...] = (), scatter: dict[str, Any] | None = None) -> Results:
    """A results file as a run writes it, in which the first mechanism shows marks, but not in some combinations."""
    metric = Metric("mark", "φ_MARK", Floor(0.5))

    def entry(cell: Cell) -> dict[str, Any]:
        names = tuple(named.name for named in cell.combination)
        owners = cell.combination or study.mechanisms()
        found = [
            {
                "of": of.to_dict(),
                "values": {"mark": 0.75},
                **({"scatter": scatter or some()} if of.name == "a" and names not in without else {}),
            }
            for of in owners
        ]
        trials = [{"seed": seed, "trial": "0", "measurements": found} for seed in study.seeds(cell)]
        measures = [{"of": of.to_dict(), "metrics": [metric.to_dict()]} for of in owners]
        return {"key": cell.key, "recipe": {}, "clash": None, "facts": {}, "measures": measures, "trials": trials}

    return results_from(json.loads(json.dumps({"study": study.name, "cells": list(map(entry, study.cells()))})))


def study_of(*combinations: tuple[str, ...], **keys: Any) -> Study:
    recipe = Named("digits", (("scale", "smoke"),))
    named = tuple(tuple(map(Named, names)) for names in combinations)
    return Study("far", (recipe,), named, 2, 2, **keys)


def shown(study: Study, results: Results) -> list[str]:
    return texts(draw("embeddings", find(study, results, "strict"), "svg"))


def test_a_panel_for_each_model_with_the_mechanism_and_the_unprotected_one(ran):
    study, _, results = ran
    found = shown(study, results)
    assert [text for text in found if text in ("unprotected", "wm", "dpsgd-control", "{wm, dpsgd-control}")] == [
        "unprotected",
        "wm",
        "{wm, dpsgd-control}",
    ]
    assert "digits/smoke, marks of wm" in found
    assert "small: marks among clean images in the features of the models of seed 0" in found
    values = [results.values(cell, of_wm(study), "wm_accuracy", range(1))[0] for cell in study.cells()[:2]]
    assert {f"φ_WM {value:.2f}" for value in values} <= set(found)
    assert sum(text.startswith("signed distance") for text in found) == 3
    groups = [text for text in found if text.startswith(("test images, ", "triggers, "))]
    assert len(groups) == len(set(groups)) == 5
    assert not any(text.startswith("Not there") for text in found)


def test_what_is_missing_is_said():
    study = study_of(("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"))
    results = made_up(study, without=(("a", "b"),))
    cells = list(to_plain(results)["cells"])
    names = [[named["name"] for named in json.loads(cell["key"])[1]] for cell in cells]
    clash, unmeasured = names.index(["a", "c"]), names.index(["a", "d"])
    cells[clash] = {**cells[clash], "clash": "cannot be", "trials": []}
    cells[unmeasured] = {**cells[unmeasured], "trials": cells[unmeasured]["trials"][1:]}
    found = shown(study, results_from({**to_plain(results), "cells": cells}))
    assert {"no points recorded", "clash: cannot be built", "not measured yet"} <= set(found)
    assert "Not there: {a, b}, {a, c}, {a, d}." in found
    assert {"unprotected", "a", "{a, b}", "{a, c}", "{a, d}"} <= set(found)
    assert not {"b", "{b, c}"} & set(found), "which have no marks of a"
    assert found.count("φ_MARK 0.75") == 2


def test_a_block_for_every_recipe_and_variant_of_the_mechanism():
    variants = Named("a", (("power", 1),)), Named("a", (("power", 2),))
    recipes = tuple(Named(name, (("scale", "smoke"),)) for name in ("x", "y"))
    study = replace(study_of(("a",)), recipes=recipes, combinations=tuple((named, Named("b")) for named in variants))
    found = shown(study, made_up(study))
    heads = [text for text in found if ", marks of " in text]
    assert heads == [f"{recipe}/smoke, marks of a(power={power})" for recipe in "xy" for power in (1, 2)]
    assert found.count("unprotected") == 4
    assert found.count("clean one") == 4, "a legend for each"


def test_without_points_it_is_refused():
    study = study_of(("a", "b"))
    everywhere = ((), ("a",), ("b",), ("a", "b"))
    for results in (made_up(study, everywhere), results_from({"study": "none", "cells": []})):
        with pytest.raises(UserError, match="no embeddings of marks are recorded"):
            draw("embeddings", find(study, results, "strict"), "svg")
    committed = read_results(ROOT / "results" / "advtr-precision" / "results.json")
    with pytest.raises(UserError, match="advtr-precision"):
        draw("embeddings", find(read_study(ROOT / "studies" / "advtr-precision.toml"), committed, "strict"), "svg")


def test_groups_differ_in_colour_and_in_shape():
    looks = (*CLEAN, *MARKS)
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == len(looks)
    assert not set(ONLY) & set(MARKS)


def test_many_groups_and_panels_can_be_drawn():
    points = {"x": [0.0], "y": [0.0]}
    many = {**some(), "clean": {f"c{n}": points for n in range(9)}, "marks": {f"m{n}": points for n in range(9)}}
    study = study_of(*(("a", f"b{n}") for n in range(7)))
    found = shown(study, made_up(study, scatter=many))
    assert {"c8", "m8", "{a, b6}"} <= set(found)


def test_odd_names_stay_text():
    odd = "<b>$x^2$</b>&\x00"
    study = replace(study_of(("a", odd)), name=odd)
    scatter = {**some(odd), "axes": [odd, odd], "clean": {odd: some()["clean"]["clean one"]}}
    svg = draw("embeddings", find(study, made_up(study, scatter=scatter), "strict"), "svg")
    assert not [node.tag for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("}b")]
    visible = odd.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    found = texts(svg)
    assert found.count(visible) == 3 * 2 + 2, "two axes of three panels, the caption and the legend"
    assert f"{{a, {visible}}}" in found


@pytest.mark.slow
def test_the_same_records_give_the_same_bytes_without_torch(tmp_path):
    keys = '[[combinations]]\nmechanisms = ["a", "b"]\n[[recipes]]\ndataset = "digits"\nscale = "smoke"\n'
    (tmp_path / "far.toml").write_text(keys)
    study = read_study(tmp_path / "far.toml")
    results = made_up(study)
    (tmp_path / "results.json").write_text(json.dumps(to_plain(results)))
    expected = {form: draw("embeddings", find(study, results, study.rule), form) for form in METADATA}
    code = (
        "import contextlib, sys\n"
        "from guardclash.cli.app import main\n"
        "for form in ('svg', 'pdf', 'png'):\n"
        "    sys.argv = ['guardclash', 'figure', 'embeddings', 'far.toml', '--results', 'results.json']\n"
        "    sys.argv += ['-o', 'figure.' + form]\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main()\n"
        "print([name for name in ('torch', 'scipy', 'sklearn', 'matplotlib.pyplot') if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ran.stdout.strip() == "[]", ran.stderr
    assert {form: (tmp_path / f"figure.{form}").read_bytes() for form in METADATA} == expected


def test_a_plane_is_an_affine_map():
    plane = Plane(("x", "y"), np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([1.0, -1.0]))
    assert plane.points(np.array([[1.0, 1.0], [0.0, 0.0]])) == ((2.0, 1.0), (1.0, -1.0))
    assert DPSGD().scatter(None, None) is None
