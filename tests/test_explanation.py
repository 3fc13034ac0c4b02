"""The measure `explanation` and the mechanism `saliency`: what is measured of which model, and what is refused."""

from __future__ import annotations

import io
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import nn

from guardclash.compose import compose
from guardclash.conditions.random_half import RandomHalf
from guardclash.conditions.rotated_minority import RotatedMinority, turned
from guardclash.errors import UserError
from guardclash.measures import explanation
from guardclash.measures.explanation import Explanation
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.saliency import SaliencyMaps, coloured
from guardclash.numerics.saliency import Saliency
from guardclash.plan.condition import Condition
from guardclash.plan.identity import fingerprint
from guardclash.plan.plan import OtherSeed
from guardclash.records.plain import results_from
from guardclash.reporting.findings import find
from guardclash.studies.engines import Inline
from guardclash.studies.evidence import keep_evidence
from guardclash.tasks.recipe import recipe
from guardclash.training.trained import predictor
from inputs import every_space, name_of  # noqa: F401
from running import Watcher, ran, study, values

FEW = {"steps": 8, "test_examples": 40}


@pytest.fixture(scope="module")
def plan():
    return recipe("digits", "smoke", epochs=4).plan()


@pytest.fixture(scope="module")
def measured(plan, context):
    """What is measured of the unprotected model of seed 0."""
    return Explanation(**FEW).bind(plan).measure(context(0).trained(plan), context(0))


# What is measured


def test_the_unprotected_model_is_like_itself_and_less_like_another_seed(measured):
    assert measured["exp_similarity"] == pytest.approx(1) and measured["exp_ssim"] == pytest.approx(1)
    assert 0.05 < measured["exp_ceiling"] < 0.9


def test_the_score_is_insertion_minus_deletion(measured):
    assert measured["exp_score"] == pytest.approx(measured["exp_insertion"] - measured["exp_deletion"])
    assert measured["exp_score"] > 0.2 and abs(measured["exp_random"]) < 0.05
    assert 0 < measured["exp_sensitivity"] < 2


def test_the_ceiling_is_the_similarity_of_the_companions_model(plan, measured, context):
    """Measured as any model: with the unprotected model's maps of this seed."""
    other = context(0).trained(OtherSeed(plan, 0))
    assert other.seed == 2
    bound = Explanation(**FEW).bind(plan)
    found = bound.measure(other, context(0))
    assert found["exp_similarity"] == pytest.approx(measured["exp_ceiling"])
    data = context(0).data(plan.judged_by.test).take(slice(40))
    maps = [bound.how(model.network, data.x, data.y) for model in (other, context(0).trained(plan))]
    pairs = zip(*maps, data.x[:, 0] > 0, strict=True)
    expected = [spearmanr(one[above], two[above]).statistic for one, two, above in pairs]
    assert found["exp_similarity"] == pytest.approx(np.mean(expected), abs=1e-6), "of pixels above 0"
    assert found["exp_ceiling"] == measured["exp_ceiling"]


def test_a_protected_model_is_compared_with_the_unprotected_one(plan, measured, context):
    """With that of its seed, whatever its plan."""
    private = compose(plan, [DPSGD()])
    found = Explanation(**FEW).bind(plan).measure(context(0).trained(private), context(0))
    assert -0.5 < found["exp_similarity"] < 0.9
    assert found["exp_ceiling"] == measured["exp_ceiling"]
    assert found["exp_score"] != measured["exp_score"]


def test_it_needs_the_unprotected_model_and_another_seed_of_it(plan):
    bound = Explanation().bind(plan)
    assert bound.needs(compose(plan, [DPSGD()])) == (plan, OtherSeed(plan, 0))
    assert bound.bind(compose(plan, [DPSGD()])) == bound, "once bound it stays so"


def test_maps_of_the_unprotected_model_are_made_once_for_all_cells(plan, context, monkeypatch):
    made, kept = Counter(), {}

    def keep(identity, seed, make):
        key = fingerprint(identity), seed
        if key not in kept:
            made[type(identity).__name__] += 1
            kept[key] = make()
        return kept[key]

    here = replace(context(0), keep=keep)
    bound = Explanation(**FEW).bind(plan)
    first = bound.measure(here.trained(plan), here)
    bound.measure(here.trained(compose(plan, [DPSGD()])), here)
    assert bound.measure(here.trained(plan), here) == first
    assert made == {"Maps": 2}, "of this seed and of its companion"
    replace(bound, method="gradient").measure(here.trained(plan), here)
    assert made == {"Maps": 4}, "other maps are others"


def test_the_label_is_explained_and_not_the_prediction(plan, context, monkeypatch):
    """Images that are told wrong stay in, and are explained by what they should be."""
    asked = []

    def explain(self, network, x, y):
        asked.append(y)
        return torch.rand(len(x), *x.shape[2:], generator=torch.Generator().manual_seed(len(asked)))

    monkeypatch.setattr(Saliency, "__call__", explain)
    own = context(0).trained(plan)
    Explanation(**FEW).bind(plan).measure(own, context(0))
    data = context(0).data(plan.judged_by.test).take(slice(40))
    assert not torch.equal(own.predict(data.x).argmax(1), data.y), "some are told wrong"
    assert all(torch.equal(y, data.y) for y in asked) and len(asked) >= 3


def test_answers_as_they_are_served_change_nothing(plan, measured, context):
    """Explanations are the owner's, of the bare network."""
    own = context(0).trained(plan)
    served = replace(own, predict=lambda x: torch.zeros(len(x), 10))
    assert Explanation(**FEW).bind(plan).measure(served, context(0)) == measured


@pytest.mark.parametrize("method", ["gradient", "gradcam"])
def test_other_methods_measure_all_but_completeness(method, plan, context):
    bound = Explanation(method, test_examples=40).bind(plan)
    found = bound.measure(context(0).trained(plan), context(0))
    assert found.keys() == {metric.name for metric in bound.metrics}
    assert "exp_completeness" not in found
    assert not any("no " in said for said in bound.warnings(found)), "all that is declared is there"


def test_few_steps_are_warned_of(plan, context):
    bound = Explanation(steps=1, test_examples=40).bind(plan)
    found = bound.measure(context(0).trained(plan), context(0))
    assert found["exp_completeness"] > explanation.INCOMPLETE
    (said,) = bound.warnings(found)
    assert "more steps than 1" in said
    assert bound.warnings({**found, "exp_completeness": 0.01}) == ()


# Models of which nothing, or not all, can be said


@pytest.mark.parametrize("classes", [2, 43])
def test_a_model_of_other_classes_is_not_explained_and_says_so(classes, plan, context):
    other = replace(plan, model=replace(plan.model, classes=classes))
    network = other.model.build().eval()
    trained = replace(context(0).trained(plan), plan=other, network=network, predict=predictor(network))
    bound = Explanation(**FEW).bind(plan)
    assert bound.measure(trained, context(0)) == {}
    assert "other classes" in bound.warnings({})[0]


def test_a_model_that_answers_no_numbers_is_not_explained(plan, context):
    trained = context(0).trained(plan)
    network = plan.model.build().eval()
    with torch.no_grad():
        next(network.parameters()).fill_(math.nan)
    broken = replace(trained, network=network, predict=predictor(network))
    assert Explanation(**FEW).bind(plan).measure(broken, context(0)) == {}


class Constant(nn.Module):
    """Answers the same to everything."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(10))

    def forward(self, x):
        return self.bias + 0 * x.flatten(1)[:, :1]


def test_a_model_that_looks_at_nothing_has_a_score_of_nothing(plan, context):
    network = Constant().eval()
    trained = replace(context(0).trained(plan), network=network, predict=predictor(network))
    bound = Explanation(**FEW).bind(plan)
    found = bound.measure(trained, context(0))
    assert found["exp_score"] == pytest.approx(0, abs=1e-6)
    assert not {"exp_similarity", "exp_sensitivity", "exp_completeness"} & found.keys()
    worthless, absent = bound.warnings(found)
    assert "maps are worth 0.00 more than a random order" in worthless
    assert "max-sensitivity, similarity, completeness error" in absent and "everywhere" in absent


# Kinds of inputs


def small(kind: str):
    return recipe(name_of(kind), "smoke", epochs=1, examples=96, batch_size=32).plan()


@pytest.mark.parametrize("kind", ["row", "number", "category"])
def test_columns_of_rows_are_explained_on_the_same_footing(kind, context):
    plan = small(kind)
    bound = Explanation(**FEW).bind(plan)
    found = bound.measure(context(0).trained(plan), context(0))
    assert found.keys() == {metric.name for metric in bound.metrics}
    assert "exp_ssim" not in found
    assert ("exp_sensitivity" in found) == (kind != "category"), "categories do not move a little"


@pytest.mark.parametrize("kind", ["text", "several", "several-images"])
def test_texts_and_several_labels_are_not_explained(kind):
    plan = small(kind)
    assert not Explanation().bind(plan).fits(plan)
    assert SaliencyMaps().misfit(plan) == Explanation().misfit(plan) != ""


@pytest.mark.parametrize("cls", [Explanation, SaliencyMaps])
def test_grad_cam_without_a_convolution_is_refused_before_anything_is_trained(cls):
    with pytest.raises(UserError, match=r"Grad-CAM looks at a convolution, and the network has none"):
        cls("gradcam").bind(small("row"))


@pytest.mark.parametrize("cls", [Explanation, SaliencyMaps])
@pytest.mark.parametrize(("option", "value"), [("method", "lime"), ("steps", 0), ("test_examples", 0)])
def test_options_are_checked(cls, option, value):
    with pytest.raises(UserError, match=option):
        cls(**{option: value})


# Groups


@pytest.fixture(scope="module")
def grouped():
    return recipe("digits", "smoke", epochs=4, conditions=(RotatedMinority(),)).plan()


def test_a_minority_is_explained_where_a_condition_can_show_it(grouped, context):
    bound = Explanation(**FEW).bind(grouped)
    assert bound.groups == RotatedMinority()
    found = bound.measure(context(0).trained(grouped), context(0))
    assert found.keys() == {metric.name for metric in bound.metrics} >= {"exp_minority"}
    assert found["exp_minority"] < found["exp_score"], "it is seldom seen"
    assert SaliencyMaps(**FEW).bind(grouped).metrics == bound.metrics


def test_all_of_the_minority_are_images_as_it_sees_them(grouped, context, monkeypatch):
    bound = Explanation(**FEW).bind(grouped)
    shown = []
    explain = Saliency.__call__

    def spy(self, network, x, y):
        shown.append((x, y))
        return explain(self, network, x, y)

    monkeypatch.setattr(Saliency, "__call__", spy)
    bound.measure(context(0).trained(grouped), context(0))
    data = context(0).data(grouped.judged_by.test).take(slice(40))
    upright = torch.where((data.about["group"] == 1).view(-1, 1, 1, 1), turned(data.x, -1), data.x)
    x, y = shown[-1]
    assert torch.equal(x, turned(upright)) and torch.equal(y, data.y)


@dataclass(frozen=True)
class Mirrored(Condition):
    """Shows every image a second time, mirrored: a view of somebody else's."""

    name: ClassVar[str] = "mirrored"

    def test(self, data, context):
        return replace(data, about={**data.about, "group": torch.zeros(len(data.x), dtype=torch.int64)})

    def views(self, data):
        both = torch.arange(2).repeat_interleave(len(data.x))
        return type(data)(torch.cat([data.x, data.x.flip(3)]), torch.cat([data.y, data.y]), {"group": both})


def test_any_condition_that_offers_views_will_do(context):
    grouped = recipe("digits", "smoke", epochs=1, conditions=(Mirrored(),)).plan()
    bound = Explanation(**FEW).bind(grouped)
    found = bound.measure(context(0).trained(grouped), context(0))
    assert bound.groups == Mirrored() and "exp_minority" in found


def test_without_groups_no_minority_is_declared(plan):
    assert Explanation().bind(plan).groups is None
    names = {metric.name for metric in Explanation().bind(plan).metrics}
    assert "exp_minority" not in names
    half = recipe("digits", "smoke", examples=200, conditions=(RandomHalf(),)).plan()
    assert Explanation().bind(half).groups is None


# The mechanism


def test_it_is_a_requirement_and_changes_no_training(base):
    assert compose(base, [SaliencyMaps()]) == base


def test_it_is_measured_by_the_measure_with_its_options(plan):
    bound = SaliencyMaps("gradient", steps=9, test_examples=11).bind(plan)
    assert bound.measures() == (Explanation("gradient", steps=9, test_examples=11).bind(plan),)
    assert bound.facts(plan) == {"explained": "plain gradient of the label's logit, 11 test examples"}
    assert "32 steps" in SaliencyMaps().facts(plan)["explained"]


def test_the_metric_that_is_judged_may_be_below_0():
    (judged,) = (metric for metric in SaliencyMaps().metrics if metric.criterion)
    assert judged.name == "exp_score" and judged.criterion.threshold == 0.05 and not judged.gain
    assert judged.range == (-1, 1) and judged.checked(-0.5) == -0.5


# Studies


@pytest.fixture(scope="module")
def fast():
    return {"name": "saliency", "steps": 8, "test_examples": 40}


def test_a_study_of_it_and_adversarial_training(site, trained, fast):
    wanted = study([fast, {"name": "advtr", "steps": 2, "test_examples": 40}], seeds=1)
    watcher = Watcher()
    content = ran(wanted, site, Inline(), watcher)
    assert watcher.errors == []
    plans = Counter(plan for plan, _ in trained.since())
    assert sorted(plans.values()) == [1, 2], "the unprotected model of a companion is trained as well, once"
    alone, together = values(content, ["saliency"]), values(content, ["saliency", "advtr"])
    assert alone[0]["exp_similarity"] == pytest.approx(1)
    assert together[0]["exp_similarity"] < 0.95
    assert together[0]["exp_ceiling"] == alone[0]["exp_ceiling"]
    assert together[0].keys() >= {"exp_score", "adv_accuracy"}
    (verdict,) = find(wanted, results_from(content), "strict").verdicts
    assert any(one.metric.symbol == "φ_EXP" for one in verdict.judgements)


def test_the_measure_alone_may_be_asked_for(site):
    wanted = study(
        ["wm"], seeds=1, recipe={"epochs": 2}, measures=[{"name": "explanation", "steps": 4, "test_examples": 20}]
    )
    watcher = Watcher()
    content = ran(wanted, site, Inline(), watcher)
    assert watcher.errors == []
    assert all("exp_score" in values(content, names)[0] for names in ([], ["wm"]))


def test_its_evidence_are_images_beside_their_maps(site, tmp_path, fast):
    wanted = study([fast], seeds=1)
    with pytest.raises(UserError, match="Run the study first"):
        keep_evidence(wanted, site, tmp_path / "pictures", 0)
    ran(wanted, site, Inline())
    ((path, picture),) = keep_evidence(wanted, site, tmp_path / "pictures", 0)
    assert "integrated gradients, 8 steps," in picture.caption and "Red speaks for it" in picture.caption
    drawn = Image.open(io.BytesIO(path.read_bytes()))
    assert (drawn.width, drawn.height) == (3 * (20 * 10 + 2), 3 * (2 * 10 + 2)), "two of each class, in two rows"
    colours = np.asarray(drawn.convert("RGB")).astype(int)
    upper, lower = colours[: drawn.height // 2], colours[drawn.height // 2 :]
    assert (upper.max(2) == upper.min(2)).all(), "digits are grey"
    assert (lower[..., 0] > lower[..., 2]).any() and (lower[..., 0] < lower[..., 2]).any(), "maps are red and blue"
    assert list(site.store.folder.glob("evidence/*.json")), "the report's page has it"


def test_rows_have_no_pictures(context):
    plan = small("row")
    assert SaliencyMaps(**FEW).bind(plan).evidence(plan, context(0)) == ()


def test_red_speaks_for_a_label_and_blue_against_it():
    maps = torch.tensor([[[2.0, -1.0], [0.0, -2.0]], [[0.0, 0.0], [0.0, 0.0]]])
    found = coloured(maps)
    assert found[0, :, 0, 0].tolist() == [1, 0, 0] and found[0, :, 1, 1].tolist() == [0, 0, 1]
    assert found[0, :, 0, 1].tolist() == [0.5, 0.5, 1] and found[0, :, 1, 0].tolist() == [1, 1, 1]
    assert (found[1] == 1).all()
