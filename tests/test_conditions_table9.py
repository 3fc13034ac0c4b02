"""Conditions of the matrix: halves of a pool, and a minority by construction."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guardclash.conditions.random_half import RandomHalf
from guardclash.conditions.rotated_minority import RotatedMinority, turned
from guardclash.errors import UserError
from guardclash.plan.plan import OtherSeed
from guardclash.studies.engines import Inline
from guardclash.suspect import disjoint
from guardclash.tasks.recipe import recipe
from running import ran, report, study


def half(context, seed, size=201):
    plan = recipe("digits", "smoke", examples=size, conditions=(RandomHalf(),)).plan()
    return context(seed).data(plan.task.source)


# Halves


@pytest.mark.parametrize("size", [200, 201])
def test_a_pair_shares_nothing_and_leaves_at_most_one_example(context, size):
    for pair in (0, 2, 8):
        one, other = (set(half(context, seed, size).about["index"].tolist()) for seed in (pair, pair + 1))
        assert len(one) == len(other) == size // 2 and not one & other


def test_halves_of_different_pairs_are_independent(context):
    halves = [set(half(context, seed).about["index"].tolist()) for seed in (0, 2, 4)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert 30 < len(halves[one] & halves[other]) < 70, "50 in expectation, standard deviation 3.5"


def test_every_pool_image_is_in_one_and_out_of_one_of_two_companions(context):
    plan = recipe("digits", "smoke", examples=200, conditions=(RandomHalf(),)).plan()
    for seed in range(6):
        others = [context(OtherSeed(plan, place).seed(seed)).data(plan.task.source) for place in (0, 1)]
        seen = torch.cat([one.about["index"] for one in others])
        assert sorted(seen.tolist()) == list(range(200))


def test_the_index_is_the_place_in_the_pool(context):
    found = half(context, 3)
    pool = context(3).data(recipe("digits", "smoke", examples=201).plan().task.source)
    assert torch.equal(found.x, pool.x[found.about["index"]]) and torch.equal(found.y, pool.y[found.about["index"]])
    assert len(found.x) == 100


def test_a_pool_too_small_is_refused():
    with pytest.raises(UserError, match=r"too small.*random-half"):
        recipe("digits", "smoke", examples=3, conditions=(RandomHalf(),)).plan()


def test_other_parties_have_a_pool_of_other_images(context):
    source = recipe("digits", "smoke", examples=200, conditions=(RandomHalf(),)).plan().task.source
    other = disjoint(source)
    assert other.size == 100 and other.images.start == 200


# A minority


@pytest.fixture
def grouped():
    return recipe("digits", "smoke", examples=200, conditions=(RotatedMinority(0.05),)).plan()


def test_a_share_of_training_and_test_images_is_rotated(grouped, context):
    for source, count in (
        (grouped.task.source, 10),
        (grouped.judged_by.test, round(0.05 * grouped.judged_by.test.size)),
    ):
        found, clean = context(0).data(source), context(0).data(source.images)
        where = found.about["group"] == 1
        assert where.sum() == count and torch.equal(found.y, clean.y)
        assert torch.equal(found.x[~where], clean.x[~where])
        assert torch.equal(found.x[where], torch.rot90(clean.x[where], 1, (2, 3)))


def test_who_is_in_the_minority_is_no_chance_of_a_training(grouped, context):
    one, other = (context(seed).data(grouped.task.source).about["group"] for seed in (0, 7))
    assert torch.equal(one, other)


def test_a_half_of_a_grouped_pool_keeps_its_groups(context):
    conditions = (RotatedMinority(0.05), RandomHalf())
    plan = recipe("digits", "smoke", examples=200, conditions=conditions).plan()
    pool = context(0).data(plan.task.source.images)
    found = context(5).data(plan.task.source)
    assert torch.equal(found.about["group"], pool.about["group"][found.about["index"]])
    assert torch.equal(found.x, pool.x[found.about["index"]])


def test_views_show_every_image_both_ways(grouped, context):
    test = context(0).data(grouped.judged_by.test)
    clean = context(0).data(grouped.judged_by.test.images)
    both = RotatedMinority().views(test)
    upright, rotated = (both.take(both.about["group"] == group) for group in (0, 1))
    assert torch.equal(upright.x, clean.x) and torch.equal(upright.y, clean.y)
    assert torch.equal(rotated.x, turned(clean.x)) and torch.equal(rotated.y, clean.y)


@given(st.integers(-4, 4))
def test_turning_back_gives_the_image(quarters):
    x = torch.arange(18.0).view(2, 1, 3, 3)
    assert torch.equal(turned(turned(x, quarters), -quarters), x)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_impossible_shares_are_refused(share):
    with pytest.raises(UserError, match=r"rotated-minority.share"):
        RotatedMinority(share)


def test_a_report_says_on_how_many_examples_models_are_trained(site):
    halves = study(["wm"], seeds=1, recipe={"examples": 200, "conditions": ["random-half"]})
    said = report(halves, ran(halves, site, Inline()))
    assert "100 of 200 training examples" in " ".join(said.split())
    whole = study(["wm"], seeds=1, recipe={"examples": 200, "conditions": ["backdoor"]})
    said = report(whole, ran(whole, site, Inline()))
    assert "of 200 training" not in said and "200 training examples" in " ".join(said.split())
