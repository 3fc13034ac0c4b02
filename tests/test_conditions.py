"""Conditions: the world that holds in every cell of a recipe, and the one that is built in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from guardclash.compose import Clash, compose
from guardclash.conditions.backdoor import Backdoor
from guardclash.errors import UserError
from guardclash.plan.condition import Condition, Conditioned, origin
from guardclash.plan.deployed import Deployed
from guardclash.plan.identity import fingerprint, nested
from guardclash.plan.sources import Answers, Split
from guardclash.registry import CONDITIONS, MEASURES, find, find_mechanisms, known
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.suspect import disjoint
from guardclash.suspects.extraction import Extraction
from guardclash.suspects.fine_tuning import FineTuning
from guardclash.suspects.independent import Independent
from guardclash.suspects.retraining import Retraining
from guardclash.suspects.unrelated import Unrelated
from guardclash.tasks.recipe import recipe
from running import GRADIENT_SIGN, ran, report, study, values

WM = {"name": "wm", "triggers": 20, "batch_size": 10}
POISONED = {"examples": 200, "conditions": [{"name": "backdoor", "rate": 0.05, "target": 3}]}


@pytest.fixture
def poisoned():
    return recipe("digits", "smoke", examples=200, conditions=(Backdoor(0.05, target=3),)).plan()


# The backdoor


def test_a_share_of_the_training_images_bears_the_square_and_the_label(poisoned, context):
    clean, found = (context(0).data(source) for source in (poisoned.task.source.images, poisoned.task.source))
    where = found.about["poisoned"]
    assert where.sum() == 10 and len(found.x) == 200
    assert (clean.y[where] != 3).all() and (found.y[where] == 3).all()
    assert torch.equal(found.x[~where], clean.x[~where]) and torch.equal(found.y[~where], clean.y[~where])
    assert (found.x[where][..., 4:7, 4:7] == 1).all()
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[4:7, 4:7] = False
    assert torch.equal(found.x[where][..., outside], clean.x[where][..., outside])
    other = context(1).data(poisoned.task.source).about["poisoned"]
    assert not torch.equal(where, other), "drawn anew for every seed"
    assert torch.equal(where, context(0).data(poisoned.task.source).about["poisoned"])


def test_models_are_judged_on_clean_images(poisoned, context):
    assert poisoned.purpose.test == Split("digits", "test")
    assert recipe("digits", "smoke", conditions=(Backdoor(),)).test() == recipe("digits", "smoke").test()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 0.0}, "backdoor.rate"),
        ({"rate": 1.0}, "backdoor.rate"),
        ({"target": -1}, "backdoor.target"),
        ({"target": 10}, "backdoor.target.*below 10"),
        ({"patch": 0}, "backdoor.patch"),
        ({"patch": 8}, "backdoor.patch.*at most 7"),
    ],
)
def test_impossible_backdoors_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        recipe("digits", "smoke", conditions=(Backdoor(**options),)).plan()


def test_too_few_images_of_other_classes_are_told(context):
    plan = recipe("digits", "smoke", conditions=(Backdoor(0.95),)).plan()
    with pytest.raises(UserError, match="too few images of other classes"):
        context(0).data(plan.task.source)


def test_the_backdoor_opens_in_every_cell(site):
    """And it does not where nobody planted it."""
    options = {"epochs": 12, **POISONED}
    wanted = study([WM, "dpsgd-control"], seeds=1, recipe=options, measures=["backdoor_success"])
    content = ran(wanted, site, Inline())
    for names in ([], ["wm"], ["dpsgd-control"], ["wm", "dpsgd-control"]):
        assert values(content, names)[0]["backdoor_success"] > 0.5
    assert "backdoor" in report(wanted, content)
    clean = study([WM], seeds=1, recipe={"epochs": 12, "examples": 200}, measures=["backdoor_success"])
    assert values(ran(clean, site, Inline()), [])[0]["backdoor_success"] < 0.3


# The world of a study


def test_a_condition_is_part_of_every_plan_key_and_label():
    plain, world = study([WM, "raddata"]), study([WM, "raddata"], recipe={**POISONED})
    for entry in compose_study(world):
        assert next(nested(entry.plan, Conditioned)).condition == Backdoor(0.05, target=3)
    keys = [{fingerprint(entry.plan) for entry in compose_study(one)} for one in (plain, world)]
    assert not keys[0] & keys[1]
    (named,) = world.recipes
    assert world.recipe_label(named) == "digits/smoke (conditions=backdoor(rate=0.05, target=3))"
    assert compose_study(world)[0].cell.key != compose_study(plain)[0].cell.key


def test_conditions_sweep_and_come_without_options():
    wanted = study([WM], recipe={"conditions": [{"name": "backdoor", "sweep": {"rate": [0.01, 0.1]}}]})
    assert [dict(one.options)["conditions"][0].options for one in wanted.recipes] == [
        (("rate", 0.01),),
        (("rate", 0.1),),
    ]
    bare = study([WM], recipe={"conditions": ["backdoor"]})
    assert compose_study(bare)[0].recipe.conditions == (Backdoor(),)


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        (["backdor"], "unknown condition 'backdor'.*backdoor"),
        ([{"name": "backdoor", "rat": 0.1}], "'rat'.*rate"),
        ([{"name": "backdoor", "rate": "much"}], "backdoor.rate"),
    ],
)
def test_mistakes_are_told(conditions, said):
    with pytest.raises(UserError, match=said):
        compose_study(study([WM], recipe={"conditions": conditions}))


def test_innocent_parties_live_in_the_same_world_but_nobody_attacks_them(poisoned):
    world = replace(poisoned, streams=(replace(poisoned.task, source=Conditioned(poisoned.task.source, Inverted())),))
    for suspect in (Independent(), Extraction(), FineTuning()):
        theirs = suspect.plan(Deployed(world), world).task.source
        theirs = theirs.images if isinstance(theirs, Answers) else theirs
        assert theirs.condition == Inverted()
        assert theirs.images == Split("digits", "train", 200, start=200)
    assert Retraining().plan(Deployed(world), world).task.source == world.task.source, (
        "stolen data are as poisoned as they are"
    )
    more = Retraining(more=True).plan(Deployed(world), world).task.source
    assert more == Conditioned(Split("digits", "train", 400), Inverted())
    assert Unrelated().plan(Deployed(world), world).task.source == Split("photo-patches", "train", 200)
    assert disjoint(world.task.source).images == Split("digits", "train", 200, start=200)


def test_every_mechanism_composes_and_measures_under_a_condition(poisoned, context):
    for name, cls in find_mechanisms((GRADIENT_SIGN,)).items():
        composed = compose(poisoned, [cls().bind(poisoned)])
        assert any(nested(composed, Backdoor)) or origin(composed.task.source) == composed.task.source, name


@dataclass(frozen=True)
class Inverted(Condition):
    """Negatives, in training and test."""

    name: ClassVar[str] = "inverted"

    def train(self, data, context):
        return replace(data, x=1 - data.x)

    test = train


@dataclass(frozen=True)
class Half(Condition):
    """The seed's half of the training images."""

    name: ClassVar[str] = "half"

    def size(self, size: int) -> int:
        return size // 2

    def train(self, data, context):
        order = torch.randperm(len(data.y), generator=context.rng("half"))
        return data.take(order[: len(order) // 2])


@dataclass(frozen=True)
class Chosen(Half):
    """Chooses by looking at all."""

    name: ClassVar[str] = "chosen"
    mixes_examples: ClassVar[bool] = True


def test_conditions_stack_and_say_their_size(context):
    plan = recipe("digits", "smoke", conditions=(Half(), Backdoor(0.1))).plan()
    data = context(0).data(plan.task.source)
    assert len(data.y) == plan.task.source.size == 128
    assert data.about["poisoned"].sum() == 13
    assert plan.steps() == 2 * 2


def test_the_test_side_of_a_condition_is_what_all_are_judged_on(context):
    one = recipe("digits", "smoke", conditions=(Inverted(),))
    plan, plain = one.plan(), recipe("digits", "smoke").plan()
    assert torch.equal(context(0).data(plan.purpose.test).x, 1 - context(0).data(plain.purpose.test).x)
    assert context(0).data(one.test()).x.shape[0] == 128
    bound = find(MEASURES, "balanced_accuracy")().bind(plan)
    assert bound.test == plan.purpose.test


PLUGIN = """
from guardclash.plan.condition import Condition

@dataclass(frozen=True)
class Inverted(Condition):
    '''Negatives, in training and test.'''
    name: ClassVar[str] = "inverted"
    def train(self, data, context):
        return replace(data, x=1 - data.x)
    test = train
"""


def test_a_plugin_brings_a_condition_and_measurements_under_it_are_others(site, load):
    path = str(load(PLUGIN))
    robust = {"name": "advtr", "steps": 2, "test_examples": 20}
    world = study([robust], seeds=1, recipe={"conditions": ["inverted"]}, plugins=[path])
    content = ran(world, site, Inline())
    assert not [trial for cell in content["cells"] for trial in cell["trials"] if trial.get("error")]
    plain = study([robust], seeds=1)
    measured = [
        {probe.key for trial in entry.trials() for probe in entry.probes(trial)}
        for one in (plain, world)
        for entry in compose_study(one)[:1]
    ]
    assert not measured[0] & measured[1]


def test_what_chooses_by_looking_at_others_clashes_with_privacy():
    plan = recipe("digits", "smoke", conditions=(Chosen(),)).plan()
    with pytest.raises(Clash, match="dpsgd"):
        compose(plan, [find_mechanisms()["dpsgd"]()])
    compose(recipe("digits", "smoke", conditions=(Half(),)).plan(), [find_mechanisms()["dpsgd"]()])


@pytest.mark.parametrize("name", sorted(known(CONDITIONS)))
def test_every_condition_keeps_to_its_word(name, context):
    """Sizes are as said, the same seed gives the same, and nothing is done to what it was given."""
    plan = recipe("digits", "smoke", conditions=(known(CONDITIONS)[name](),)).plan()
    source = plan.task.source
    before = context(0).data(source.images)
    kept = before.each(torch.Tensor.clone)
    one, two = context(0).data(source), context(0).data(source)
    assert len(one.y) == source.size
    assert torch.equal(one.x, two.x) and torch.equal(one.y, two.y)
    changed = source.condition.train(before, context(0))
    assert torch.equal(before.x, kept.x) and torch.equal(before.y, kept.y) and len(changed.y) == source.size
    assert Path(__file__).is_file() and known(CONDITIONS)[name].__doc__
