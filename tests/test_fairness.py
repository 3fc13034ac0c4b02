"""Fairness: groups, what is measured between them, weights and group DRO."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from guardclash.compose import Clash, compose
from guardclash.conditions.rotated_minority import RotatedMinority
from guardclash.errors import UserError
from guardclash.measures.fairness import Fairness
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.groupdro import GroupDRO, WorstGroup
from guardclash.mechanisms.raddata import RadioactiveData
from guardclash.mechanisms.reweight import Reweighting
from guardclash.mechanisms.wm import Watermark
from guardclash.numerics.fairness import accuracies, balance, cells, equalised_odds, parity, reweighing
from guardclash.plan.examples import Data, Moment
from guardclash.plan.grouped import MEMBER, SIZES, Groups, Numbered, Weighted, by_label, in_every_view
from guardclash.plan.objectives import CrossEntropy
from guardclash.studies.engines import Inline
from guardclash.tasks.recipe import recipe
from guardclash.training.released import Chance, released_gradient
from guardclash.training.train import train
from running import ran, study, values


def ints(*found):
    return np.array(found, dtype=np.int64)


# Numbers worked out by hand

Y, TOLD = ints(1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0), ints(1, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1, 1)
GROUP = ints(*[0] * 6, *[1] * 6)
Y3 = ints(0, 0, 0, 1, 1, 2, 2, 2, 0, 0, 1, 1, 1, 2, 2)
TOLD3 = ints(0, 0, 1, 1, 2, 2, 2, 0, 0, 1, 1, 1, 0, 2, 1)
GROUP3 = ints(*[0] * 8, *[1] * 7)


def test_equalised_odds_of_two_classes():
    assert equalised_odds(Y, TOLD, GROUP) == pytest.approx(1 / 6)


def test_equalised_odds_of_three_classes_is_about_right_answers():
    assert equalised_odds(Y3, TOLD3, GROUP3) == pytest.approx(1 / 6)
    np.testing.assert_allclose(accuracies(Y3 == TOLD3, GROUP3), [0.625, 4 / 7])
    assert accuracies(Y3 == TOLD3, cells(Y3, GROUP3)).min() == 0.5


def test_weights_of_a_table():
    counts = {(0, 0): 40, (0, 1): 20, (1, 0): 10, (1, 1): 30}
    y, s = (ints(*[pair[place] for pair, count in counts.items() for _ in range(count)]) for place in (0, 1))
    firsts = [0, 40, 60, 70]
    np.testing.assert_allclose(reweighing(y, s)[firsts], [0.75, 1.5, 2, 2 / 3])
    np.testing.assert_allclose(balance(cells(y, s))[firsts], [0.625, 1.25, 2.5, 5 / 6])


def dro(losses, rate=0.01, steps=1, adjustment=0.0, sizes=None):
    """The batch's loss after some steps, and q."""
    number = len(losses)
    told = {MEMBER: torch.arange(number), SIZES: torch.tensor([sizes or [4] * number] * number)}
    batch = Data(torch.zeros(number, 1), torch.zeros(number, dtype=torch.int64), told)
    objective, now = WorstGroup(Fixed(tuple(losses)), rate, adjustment), Moment()
    for _ in range(steps):
        found = objective(nn.Identity(), batch, now=now).mean().item()
    return found, now.memory["logs"].exp()


class Fixed:
    """Losses that are given."""

    def __init__(self, losses):
        self.losses = torch.tensor(losses, dtype=torch.float64)

    def __call__(self, network, batch, now):
        return self.losses[: len(batch.x)]


def test_group_dro_of_two_steps():
    loss, weights = dro((0.2, 1.0, 0.5, 2.0))
    assert loss == pytest.approx(0.929679, abs=1e-6)
    np.testing.assert_allclose(weights, [0.248188, 0.250182, 0.248934, 0.252696], atol=1e-6)
    _, weights = dro((0.2, 1.0, 0.5, 2.0), steps=2)
    np.testing.assert_allclose(weights, [0.246378, 0.250352, 0.247861, 0.255409], atol=1e-6)


def test_the_adjustment_raises_small_groups():
    plain = dro((0.2, 2.0), sizes=[100, 4])[1]
    np.testing.assert_allclose(plain, dro((0.2, 2.0), adjustment=3.0, sizes=[4, 4])[1], atol=1e-7)
    by_hand = torch.tensor([0.01 * (0.2 + 3 / 10), 0.01 * (2.0 + 3 / 2)]).softmax(0)
    np.testing.assert_allclose(dro((0.2, 2.0), adjustment=3.0, sizes=[100, 4])[1], by_hand, atol=1e-7)


def test_a_group_that_a_batch_does_not_hold_keeps_its_adjustment():
    told = {MEMBER: torch.tensor([0]), SIZES: torch.tensor([[100, 4]])}
    batch, now = Data(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64), told), Moment()
    WorstGroup(Fixed((0.5,)), 0.1, 3.0)(nn.Identity(), batch, now=now)
    by_hand = torch.tensor([0.1 * (0.5 + 0.3), 0.1 * 1.5]).softmax(0)
    np.testing.assert_allclose(now.memory["logs"].exp(), by_hand, atol=1e-7)


def test_a_weight_that_was_nothing_can_grow_again():
    told = {MEMBER: torch.arange(2), SIZES: torch.tensor([[4, 4]] * 2)}
    batch, now = Data(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64), told), Moment()
    for losses, steps in (((9.0, 0.0), 300), ((0.0, 9.0), 600)):
        for _ in range(steps):
            WorstGroup(Fixed(losses), 1.0, 0.0)(nn.Identity(), batch, now=now)
    assert now.memory["logs"].exp()[1] > 0.99


# Properties

answers = st.integers(2, 60).flatmap(
    lambda size: st.tuples(*[st.lists(st.integers(0, 1), min_size=size, max_size=size) for _ in range(3)])
)


@given(answers)
@settings(max_examples=60, deadline=None)
def test_parity_and_odds_are_those_of_fairlearn(drawn):
    fairlearn = pytest.importorskip("fairlearn.metrics")
    y, told, groups = (ints(*values) for values in drawn)
    given_groups = {"sensitive_features": groups}
    assert parity(told, groups) == pytest.approx(fairlearn.demographic_parity_difference(y, told, **given_groups))
    present = {label: set(groups[y == label]) for label in (0, 1)}
    if len(set(groups)) > 1 and all(
        there == set(groups) for there in present.values()
    ):  # Fairlearn takes an empty rate for 0
        assert equalised_odds(y, told, groups) == pytest.approx(
            fairlearn.equalized_odds_difference(y, told, **given_groups)
        )
    frame = fairlearn.MetricFrame(
        metrics=lambda y, told: float(np.mean(y == told)), y_true=y, y_pred=told, sensitive_features=groups
    )
    np.testing.assert_allclose(accuracies(y == told, groups), frame.by_group.to_numpy())


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=80))
def test_weights_even_out_groups(pairs):
    y, s = (ints(*values) for values in zip(*pairs, strict=True))
    weight = balance(s)
    assert weight.sum() == pytest.approx(len(s))
    sums = [weight[s == group].sum() for group in np.unique(s)]
    np.testing.assert_allclose(sums, sums[0])
    weight = reweighing(y, s)
    if len(set(pairs)) == len(set(y)) * len(set(s)):  # else an independent table cannot be had
        table = np.array([[weight[(y == a) & (s == b)].sum() for b in np.unique(s)] for a in np.unique(y)]) / len(y)
        np.testing.assert_allclose(table, np.outer(table.sum(1), table.sum(0)), atol=1e-12)


def test_groups_without_a_difference_have_a_small_gap():
    rng = np.random.default_rng(0)
    y, s = rng.integers(0, 10, 20_000), rng.integers(0, 2, 20_000)
    told = np.where(rng.random(20_000) < 0.9, y, (y + 1) % 10)
    by_group = accuracies(told == y, s)
    assert np.ptp(by_group) < 0.015  # four standard deviations of a difference of two shares of 10,000
    odds = equalised_odds(y, told, s)
    assert odds is not None and 0 < odds < 0.05, "a maximum of ten, biased upwards"


# Groups


def data(count=6, **about):
    return Data(torch.zeros(count, 1, 2, 2), torch.arange(count) % 2, {k: torch.tensor(v) for k, v in about.items()})


def test_groups_are_the_attribute_the_recipes_or_the_classes():
    both = data(group=[5, 5, 5, 9, 9, 9], sex=[0, 1, 0, 1, 0, 1])
    assert Groups().of(both).tolist() == [0, 0, 0, 1, 1, 1]
    assert Groups("sex").of(both).tolist() == [0, 1, 0, 1, 0, 1]
    assert Groups(by_label=True).of(both).tolist() == [0, 2, 0, 3, 1, 3]
    assert Groups().of(data()).tolist() == Groups(by_label=True).of(data()).tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(("about", "said"), [({}, "no such attribute.*none"), ({"sex": [0.5] * 6}, "tells no groups")])
def test_attributes_that_tell_no_groups_are_refused(about, said):
    with pytest.raises(UserError, match=said):
        Groups("sex").of(data(**about))


def test_weights_multiply_those_that_are_there(context, base):
    class Given:
        size = 6

        def load(self, context):
            return replace(data(group=[0, 0, 0, 0, 1, 1], weight=[2.0] * 6), about=self.about())

        def about(self):
            return {"group": torch.tensor([0, 0, 0, 0, 1, 1]), "weight": torch.full((6,), 2.0)}

    found = context(0).data(Weighted(Given(), Groups()))
    torch.testing.assert_close(found.about["weight"], torch.tensor([1.5] * 4 + [3.0] * 2))
    assert Weighted(Given(), Groups()).size == 6


def test_reweighing_needs_groups(context, base):
    plan = compose(base, [Reweighting(scheme="reweighing")])
    with pytest.raises(UserError, match="without groups"):
        context(0).data(plan.task.source)


def test_every_test_image_is_shown_in_both_views(context):
    plan = recipe("digits", "smoke", examples=200, conditions=(RotatedMinority(0.05),)).plan()
    test = plan.judged_by.test
    seen = in_every_view(test, context(0).data(test))
    assert len(seen.x) == 2 * test.size and seen.about["group"].sum() == test.size
    plain = recipe("digits", "smoke", examples=200).plan().judged_by.test
    assert len(in_every_view(plain, context(0).data(plain)).x) == plain.size


# The measure and the mechanisms


@pytest.fixture(scope="module")
def minority():
    made = recipe("digits", "smoke", examples=600, epochs=6, conditions=(RotatedMinority(0.05),)).plan()
    return replace(made, streams=(replace(made.task),))


def test_the_measure_counts_what_it_says(minority, context):
    trained = train(minority, context(0))
    found = Fairness().measure(trained, context(0))
    test = context(0).data(minority.judged_by.test)
    both = RotatedMinority().views(test)
    right = trained.predict(both.x).argmax(1) == both.y
    upright, rotated = right[: len(test.x)].double().mean().item(), right[len(test.x) :].double().mean().item()
    assert found["fair_worst"] == pytest.approx(min(upright, rotated))
    assert found["fair_gap"] == pytest.approx(abs(upright - rotated))
    assert found["fair_worst_class"] <= found["fair_worst"] < found["fair_best"]
    assert Fairness().warnings(found) == ()


def test_without_groups_the_classes_are_the_groups(base, context):
    found = Fairness().measure(train(base, context(0)), context(0))
    assert found["fair_worst"] == found["fair_worst_class"] and "fair_equalised_odds" not in found
    assert "each class" in Fairness().warnings(found)[0]
    assert "fair_parity" not in found


def test_weights_serve_the_minority_better(minority, context):
    plain = Fairness().measure(train(minority, context(0)), context(0))
    fair = Fairness().measure(train(compose(minority, [Reweighting()]), context(0)), context(0))
    assert fair["fair_worst"] > plain["fair_worst"] + 0.05


class Distance:
    """The squared distance of the only parameter from what each example asks for."""

    def __call__(self, network, batch, now):
        return (network.weight.reshape(()) - batch.x[:, 0]) ** 2


def test_group_dro_meets_in_the_middle():
    """90 examples ask for 0 and 10 for 1: the mean is 0.1, and no group is worse off than the other at 0.5."""
    x = torch.tensor([[0.0]] * 90 + [[1.0]] * 10)
    told = {MEMBER: x[:, 0].long(), SIZES: torch.tensor([[90, 10]] * 100)}
    found = {}
    for name, objective in (("mean", Distance()), ("worst", WorstGroup(Distance(), 0.1, 0.0))):
        network, now = nn.Linear(1, 1, bias=False), Moment()
        for _ in range(3000):
            (slope,) = torch.autograd.grad(
                objective(network, Data(x, x[:, 0].long(), told), now=now).mean(), [network.weight]
            )
            network.weight.data -= 0.05 * slope
        found[name] = network.weight.item()
    assert found["mean"] == pytest.approx(0.1, abs=0.01)
    assert found["worst"] == pytest.approx(0.5, abs=0.03)


def test_the_loss_of_a_batch_is_the_weighted_mean_of_groups(minority, context):
    plan = compose(minority, [GroupDRO()])
    batch = context(0).data(plan.task.source).take(slice(64))
    network = train(replace(minority, epochs=1), context(0)).network
    own, losses = batch.about[MEMBER], CrossEntropy()(network, batch, now=Moment())
    now = Moment()
    found = plan.task.objectives[0](network, batch, now=now).mean()
    by_hand = sum(now.memory["logs"].exp()[group].float() * losses[own == group].mean() for group in own.unique())
    torch.testing.assert_close(found, by_hand)


def test_an_empty_batch_has_no_losses(minority, context):
    plan = compose(minority, [GroupDRO()])
    batch = context(0).data(plan.task.source).take(slice(0))
    assert plan.task.objectives[0](plan.model.build(), batch, now=Moment()).shape == (0,)


def test_weights_reach_the_clipping(context):
    """Gradients are clipped with their weight: one of ten times the weight is as long as before."""
    plan = recipe("digits", "smoke", norm="group", examples=64, conditions=(RotatedMinority(0.1),)).plan()
    private = compose(plan, [DPSGD(), Reweighting()])
    batch = context(0).data(private.task.source)
    assert batch.about["weight"].max() > 4 * batch.about["weight"].min()
    stream = private.task
    quiet = replace(private, streams=(replace(stream, gradient=replace(stream.gradient, noise_multiplier=0.0)),))
    network = private.model.build()
    chance = Chance(torch.Generator(), torch.Generator())

    def length(examples):
        found = released_gradient(quiet, network, quiet.task, examples, chance).gradient
        return torch.cat([value.flatten() for value in found.values()]).norm().item()

    one = batch.take(slice(1))
    heavy = replace(one, about={**one.about, "weight": 100 * one.about["weight"]})
    assert length(heavy) == pytest.approx(length(one), rel=1e-3), "it was clipped already"


def test_group_dro_clashes_with_a_bound_on_examples(base):
    with pytest.raises(Clash, match="WorstGroup of groupdro makes an example's loss depend on others"):
        compose(base, [GroupDRO(), DPSGD()])
    compose(base, [Reweighting(), DPSGD()])


def test_labels_split_the_groups_of_a_named_attribute_and_two_classes():
    assert by_label("sex", None, 2) and not by_label("sex", None, 10) and not by_label(None, None, 2)
    assert by_label(None, True, 10) and not by_label("sex", False, 2)


def test_one_group_alone_has_no_differences(context):
    """Two classes of digits, all of one group: parity is not 0, it has no meaning."""
    made = recipe("digits", "smoke", examples=64, epochs=1).plan()
    trained = train(made, context(0))
    data = context(0).data(made.judged_by.test)
    assert Groups("g").named(replace(data, about={"g": torch.zeros(len(data.x), dtype=torch.int64)})).max() == 0
    assert equalised_odds(data.y.numpy(), trained.predict(data.x).argmax(1).numpy(), np.zeros(len(data.y), int)) is None


def test_the_trigger_set_keeps_its_loss_and_its_weights(base):
    for mechanism in (Reweighting(), GroupDRO()):
        plan = compose(base, [mechanism, Watermark(triggers=20, batch_size=10)])
        assert plan.stream("trigger") == compose(base, [Watermark(triggers=20, batch_size=10)]).stream("trigger")


def test_weights_are_of_the_images_that_are_marked(base):
    for order in ((Reweighting(), RadioactiveData()), (RadioactiveData(), Reweighting())):
        source = compose(base, order).task.source
        assert isinstance(source, Weighted) and type(source.images).__name__ == "Marked"
    assert isinstance(compose(base, [GroupDRO()]).task.source, Numbered)


def test_facts_tell_what_is_read_in_public(base):
    assert "outside of any ε" in Reweighting().facts(compose(base, [Reweighting()]))["weights"]
    assert Reweighting().facts(base) == {}


def test_a_study_of_groups(site):
    wanted = study(
        ["reweight", "groupdro"],
        ["reweight", "dpsgd"],
        seeds=1,
        recipe={"examples": 200, "conditions": [{"name": "rotated-minority", "share": 0.1}]},
    )
    content = ran(wanted, site, Inline())
    for names in ([], ["reweight"], ["groupdro"], ["reweight", "groupdro"], ["reweight", "dpsgd"]):
        assert all(0 <= found["fair_worst"] <= 1 for found in values(content, names).values())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Reweighting(scheme="x"), "reweight.scheme"),
        (lambda: GroupDRO(rate=0.0), "groupdro.rate"),
        (lambda: GroupDRO(adjustment=math.inf), "groupdro.adjustment"),
    ],
)
def test_mistakes_are_told(make, said):
    with pytest.raises(UserError, match=said):
        make()
