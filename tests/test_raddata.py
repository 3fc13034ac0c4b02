"""Radioactive data as a mechanism: which images are marked, where they are trained on, and what is measured."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.mechanisms.advtr import AdversarialTraining
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.raddata import NO_MARK, RadioactiveData
from guardclash.mechanisms.wm import Watermark
from guardclash.numerics.radioactive import log10_paired_p
from guardclash.plan.gradients import ClippedNoisy
from guardclash.plan.identity import fingerprint, nested
from guardclash.plan.marked import Marks, Unmarked
from guardclash.plan.plan import OtherSeed
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.studies.evidence import keep_evidence
from guardclash.studies.jobs import Site
from guardclash.studies.store import Store
from guardclash.studies.study_file import study_from
from guardclash.studies.trials import Trial, needed_trials
from guardclash.tasks.recipe import recipe
from guardclash.training.train import train
from guardclash.training.trained import Trained, predictor
from running import ran

QUICK = RadioactiveData(ratio=0.25, radius=48, iterations=20, held_out=40)


@pytest.fixture(scope="module")
def plan():
    """256 digits, 6 epochs."""
    return recipe("digits", "smoke", epochs=6).plan()


# Which images, and where they go


def test_a_share_of_each_class_is_replaced_and_no_label_changes(plan, context):
    composed = compose(plan, [QUICK])
    clean, marked = (context(0).data(one.task.source) for one in (plan, composed))
    marks = next(nested(composed, Marks))
    changed = (clean.x != marked.x).flatten(1).any(1).nonzero().flatten()
    assert marks.size == 64 == composed.task.source.size // 4
    assert torch.equal(clean.y, marked.y)
    assert set(changed.tolist()) <= set(marks.chosen(clean.y, context(0)).tolist())
    assert len(changed) > 60
    counts, whole = (torch.bincount(y, minlength=10) for y in (marks.clean(context(0)).y, clean.y))
    assert (counts - whole / 4).abs().max() < 1


def test_marks_differ_between_seeds_and_come_from_the_model_of_another(plan, context):
    marks = next(nested(compose(plan, [QUICK]), Marks))
    assert marks.network == OtherSeed(plan)
    assert [marks.network.seed(seed) for seed in range(7)] == [1, 2, 3, 4, 0, 1, 2]
    y = context(0).data(plan.task.source).y
    assert not torch.equal(marks.chosen(y, context(0)), marks.chosen(y, context(1)))


def test_the_marking_network_may_be_trained_for_longer_or_be_another(plan):
    longer = RadioactiveData(network_epochs=9).bind(plan)
    assert longer.network == replace(plan, epochs=9)
    other = recipe("digits", "smoke", norm="group").plan()
    assert RadioactiveData(network=other).bind(plan).network == other


def test_in_a_stream_of_their_own_marked_images_leave_the_task(plan, context):
    composed = compose(plan, [replace(QUICK, placement="stream")])
    assert [type(stream.source) for stream in composed.streams] == [Unmarked, Marks]
    assert composed.stream("marked").optimizer == plan.optimizer, "with an optimizer state of its own"
    rest, marked = (context(0).data(stream.source) for stream in composed.streams)
    assert len(rest.x) == composed.task.source.size == 192
    joint = context(0).data(compose(plan, [QUICK]).task.source)
    assert len(marked.x) + len(rest.x) == len(joint.x)
    assert sorted(marked.x.sum((1, 2, 3)).tolist() + rest.x.sum((1, 2, 3)).tolist()) == pytest.approx(
        sorted(joint.x.sum((1, 2, 3)).tolist())
    )


def test_relaxed_adversarial_training_leaves_marked_images_alone(plan):
    marking = replace(QUICK, placement="stream")
    composed = compose(plan, [marking, AdversarialTraining(on=("task",))])
    assert [len(stream.maps) for stream in composed.streams] == [1, 0]
    joint = compose(plan, [marking, AdversarialTraining()])
    assert [len(stream.maps) for stream in joint.streams] == [1, 1]


def test_the_marks_do_not_depend_on_what_else_is_deployed(plan):
    mechanisms = QUICK.bind(plan), Watermark(), DPSGD(epsilon=8.0), AdversarialTraining(steps=2)
    alone = next(nested(compose(plan, [mechanisms[0]]), Marks))
    for other in mechanisms[1:]:
        for order in ([mechanisms[0], other], [other, mechanisms[0]]):
            assert next(nested(compose(plan, order), Marks)) == alone


@pytest.mark.parametrize("placement", ["task", "stream"])
def test_dp_covers_marked_images_wherever_they_are_but_not_how_marks_are_made(plan, placement):
    """A network that was trained on the same people without privacy leaves no bound; one of other people's does."""
    private, marking = DPSGD(epsilon=8.0), replace(QUICK, placement=placement)
    composed = compose(plan, [marking, private])
    assert {type(stream.gradient) for stream in composed.streams} == {ClippedNoisy}
    assert private.spent(composed) == {stream.name: math.inf for stream in composed.streams}
    facts = private.facts(composed).values()
    assert len(facts) == len(composed.streams)
    assert all(fact.startswith("∞: another training that this one uses reads the same examples") for fact in facts)
    assert marking.facts(composed)["marks made"] == "by a network trained on the same images"
    elsewhere = compose(plan, [replace(marking, network=recipe("mnist", "smoke").plan()), private])
    assert marking.facts(elsewhere)["marks made"] == "by a network trained on other images"
    assert private.spent(elsewhere).keys() == {stream.name for stream in elsewhere.streams}
    assert all(7.9 < spent < math.inf for spent in private.spent(elsewhere).values())
    assert private.spent(compose(plan, [private])) == {"task": pytest.approx(8.0, abs=0.01)}


def test_the_radius_follows_the_data_set_unless_it_is_given():
    for name, radius in (("mnist", 96), ("fmnist", 25), ("cifar10", 10)):
        task = recipe(name, "smoke").plan()
        assert RadioactiveData().bind(task).radius == radius
        assert RadioactiveData(radius=7).bind(task).radius == 7
        assert next(nested(compose(task, [RadioactiveData()]), Marks)).how.radius == radius


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"ratio": 0.0}, "ratio"),
        ({"ratio": 1.0}, "ratio"),
        ({"placement": "own"}, "task, stream"),
        ({"held_out": 1}, "held_out"),
        ({"radius": 300}, "<= 255"),
        ({"radius": 0}, "<= 255"),
        ({"iterations": 0}, "iteration"),
        ({"precision": "float16"}, "precision"),
        ({"network": "cnn4"}, "plan"),
        ({"network_epochs": 0}, "network_epochs"),
    ],
)
def test_impossible_options(options, complaint):
    with pytest.raises(UserError, match=complaint):
        RadioactiveData(**options)


def test_a_ratio_that_marks_nothing(base):
    with pytest.raises(UserError, match="too few images"):
        compose(base, [RadioactiveData(ratio=0.001)])


# Measuring


def test_the_paired_test_as_scipy_has_it():
    difference = torch.tensor([0.5, -0.2, 0.4])
    p = stats.ttest_1samp(difference.numpy(), 0, alternative="greater").pvalue
    assert p == pytest.approx(0.198768, abs=1e-6)
    assert log10_paired_p(difference) == pytest.approx(math.log10(p))
    assert log10_paired_p(torch.ones(3)) == -math.inf
    assert log10_paired_p(torch.zeros(3)) == 0


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=50).filter(lambda values: max(values) - min(values) > 1e-3))
def test_the_paired_test_of_any_differences(values):
    expected = stats.ttest_1samp(values, 0, alternative="greater").pvalue
    assert 10 ** log10_paired_p(torch.tensor(values, dtype=torch.float64)) == pytest.approx(expected, rel=1e-6)


def test_a_model_that_saw_the_marks_fits_them_better_than_one_that_did_not(plan, context):
    gaps = []
    for seed in (0, 1, 2):
        found = [
            QUICK.bind(plan).measure(train(compose(plan, combination), context(seed)), context(seed))
            for combination in ([QUICK], [])
        ]
        with_marks, without = found
        gaps.append(with_marks["rad_loss_difference"] - without["rad_loss_difference"])
        assert with_marks["rad_psnr"] == without["rad_psnr"], "the same marks"
        assert with_marks["rad_sign_rate"] > without["rad_sign_rate"]
        assert with_marks["rad_log10_p"] < without["rad_log10_p"]
    assert min(gaps) > 0.05


def test_phi_is_the_mean_loss_difference_on_the_marked_images(plan, context):
    trained = train(compose(plan, [QUICK]), context(0))
    marks = next(nested(trained.plan, Marks))
    loss = torch.nn.functional.cross_entropy
    clean, marked = marks.clean(context(0)), context(0).data(marks)
    difference = loss(trained.predict(clean.x), clean.y) - loss(trained.predict(marked.x), marked.y)
    assert QUICK.measure(trained, context(0))["rad_loss_difference"] == pytest.approx(difference.item(), abs=1e-5)


# In a study


@pytest.fixture(scope="module")
def marked_study():
    options = {"name": "raddata", "ratio": 0.25, "iterations": 20, "held_out": 40}
    return study_from(
        {
            "name": "marked",
            "replicates": {"alone": 2, "together": 2},
            "recipes": [{"dataset": "digits", "scale": "smoke"}],
            "combinations": [{"mechanisms": [options, {"name": "dpsgd", "epsilon": 8.0}]}],
        }
    )


def test_a_study_trains_marking_networks_once_keeps_the_marks_and_has_controls(marked_study, tmp_path):
    site = Site(Store(tmp_path / "runs"), tmp_path / "data")
    entries = compose_study(marked_study)
    baseline = entries[0].plan
    marked = next(entry.plan for entry in entries if [m.name for m in entry.combination] == ["raddata"])
    assert needed_trials(Trial(marked, 1)) == (Trial(baseline, 2),)
    content = ran(marked_study, site, Inline())
    trained = {path.name for path in (site.store.folder / "trials").iterdir()}
    assert len(trained) == 2 * 4 + 1, "the marking network of the last seed is one more unprotected model"
    assert f"{fingerprint(baseline)}-2" in trained
    values = {
        tuple(named["name"] for named in cell["combination"]): [
            found for trial in cell["trials"] for one in trial["measurements"] for found in one["values"]
        ]
        for cell in content["cells"]
    }
    assert all("rad_loss_difference" in found for found in values.values()), "also where nothing is marked"
    kept = sorted((site.store.folder / "data").iterdir())
    assert len(kept) == 4, "training and held-out images of two seeds"
    marks = next(nested(marked, Marks))
    first = site.context(0).data(marks)
    assert torch.equal(first.x, marks.load(site.context(0)).x), "bytes lose nothing"
    before = kept[0].read_bytes()
    for path in kept:
        path.unlink()
    again = site.context(0).data(marks)
    assert torch.equal(first.x, again.x)
    assert len(list((site.store.folder / "data").iterdir())) == 1
    for path in (site.store.folder / "data").iterdir():
        path.write_bytes(before[:100])
    assert torch.equal(first.x, site.context(0).data(marks).x), "what is damaged is made anew"


# Pictures


def test_marks_that_change_nothing_are_no_evidence_and_no_crash(plan, context):
    own, network = QUICK.bind(plan), plan.model.build().eval()
    here = _Unmoved(context(0))
    found = own.measure(Trained(plan, 0, network, predictor(network)), here)
    assert (found["rad_loss_difference"], found["rad_log10_p"]) == (0, 0)
    assert "rad_psnr" not in found, "nothing was changed, so there is no noise"
    assert own.warnings(found) == (NO_MARK,)
    (picture,) = own.evidence(plan, here)
    assert "times 1." in picture.caption


class _Unmoved:
    """A context in which marks were rounded away, as by a radius of 1/255."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def data(self, source):
        return source.clean(self._inner) if isinstance(source, Marks) else self._inner.data(source)


def test_pairs_are_shown_with_their_psnr(plan, context):
    bound = QUICK.bind(plan)
    (picture,) = bound.evidence(compose(plan, [bound]), context(0))
    assert "Radius 48/255" in picture.caption
    shown = Image.open(io.BytesIO(picture.png))
    _, height, width = plan.model.shape
    assert shown.size == (3 * (20 * (width + 2) + 2), 3 * (3 * (height + 2) + 2)), "three rows, two pairs of each class"
    assert bound.evidence(compose(plan, [bound]), context(0))[0].png == picture.png


def test_pictures_of_a_study_are_written_once_it_has_run(marked_study, tmp_path):
    site = Site(Store(tmp_path / "runs"), tmp_path / "data")
    with pytest.raises(UserError, match="Run the study first"):
        keep_evidence(marked_study, site, tmp_path / "pictures", 0)
    ran(marked_study, site, Inline())
    ((path, picture),) = keep_evidence(marked_study, site, tmp_path / "pictures", 0)
    assert path.name == "digits-smoke-raddata-pairs.png"
    assert path.read_bytes() == picture.png
