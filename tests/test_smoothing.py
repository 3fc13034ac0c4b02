"""Randomised smoothing: bounds by hand, certificates that hold, answers that hang on the query alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from torch import nn

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.measures.certified import Certified
from guardclash.mechanisms.smoothing import Smoothing
from guardclash.numerics.smoothing import certified_radius, lower_bound, noisy, pixeldp_radius, upper_bound, votes
from guardclash.plan.deployed import Deployed
from guardclash.tasks.recipe import recipe
from guardclash.training.train import train

# Bounds


@pytest.mark.parametrize(
    ("hits", "draws", "sigma", "share", "radius"),
    [
        (100, 100, 0.25, 0.9332543008, 0.375118756),
        (99, 100, 0.25, 0.9113731113, 0.3373147597),
        (1000, 1000, 0.25, 0.9931160484, 0.6158156537),
        (990, 1000, 0.25, 0.9760361872, 0.4945023955),
        (900, 1000, 0.5, 0.867464018, 0.5572415811),
        (600, 1000, 0.5, 0.5510754739, 0.06418949815),
        (549, 1000, 0.25, 0.4996730641, None),
        (10000, 10000, 0.5, 0.999309463, 1.599288757),
        (100000, 100000, 0.25, 0.9999309248, 0.9528641408),
        (99000, 100000, 0.25, 0.9889893404, 0.5724999888),
        (99000, 100000, 1.0, 0.9889893404, 2.289999955),
    ],
)
def test_radii_are_those_of_the_formula(hits, draws, sigma, share, radius):
    assert lower_bound(hits, draws, 0.001) == pytest.approx(share, rel=1e-9)
    assert certified_radius(hits, draws, sigma, 0.001) == (
        radius if radius is None else pytest.approx(radius, rel=1e-8)
    )


@pytest.mark.parametrize(("draws", "least"), [(100, 66), (1000, 550), (10_000, 5156)])
def test_the_least_votes_that_say_anything(draws, least):
    assert certified_radius(least, draws, 1.0, 0.001) is not None
    assert certified_radius(least - 1, draws, 1.0, 0.001) is None


@pytest.mark.parametrize(
    ("first", "second", "draws", "low", "high", "radius"),
    [
        (1000, 0, 1000, 0.99471569, 0.00528431, 0.14265),
        (990, 5, 1000, 0.97872394, 0.01408515, 0.138814),
        (900, 60, 1000, 0.87312014, 0.08202895, 0.106144),
        (300, 0, 300, 0.98249398, 0.01750602, 0.137788),
    ],
)
def test_pixeldp_certifies_less_with_the_same_noise(first, second, draws, low, high, radius):
    bounds = lower_bound(first, draws, 0.005), upper_bound(second, draws, 0.005)
    assert bounds == pytest.approx((low, high), abs=1e-8)
    found = pixeldp_radius(*bounds, 0.25372725)
    assert found == pytest.approx(radius, abs=1e-5)
    assert 2.5 < certified_radius(first, draws, 0.25372725, 0.05) / found < 5


@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.001, 0.01, 0.05]))
@settings(max_examples=60, deadline=None)
def test_bounds_are_those_of_the_exact_test(draws, part, alpha):
    hits = round(part * draws)
    exact = binomtest(hits, draws, alternative="greater").proportion_ci(1 - alpha, method="exact").low
    assert lower_bound(hits, draws, alpha) == pytest.approx(exact, abs=1e-9)
    assert lower_bound(hits, draws, alpha) <= hits / draws <= upper_bound(hits, draws, alpha)


@given(st.floats(0.3, 1), st.floats(0.001, 0.7))
@settings(max_examples=60, deadline=None)
def test_pixeldp_says_nothing_where_another_class_may_win(first, second):
    found = pixeldp_radius(first, second, 1.0)
    assert found >= 0 and math.isfinite(found)
    if second >= first:
        assert found == 0


# Certificates


class Plane(nn.Module):
    """Two classes on the two sides of a plane."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0, 4.0]))

    def forward(self, x):
        side = x.flatten(1) @ self.weight
        return torch.stack([-side, side], 1)


def test_the_certified_radius_of_a_plane_is_the_distance_from_it():
    x, sigma, draws = torch.tensor([[0.2, 0.1]]), 0.3, 40_000
    distance = ((x @ torch.tensor([3.0, 4.0])) / 5).item()
    rng = torch.Generator().manual_seed(0)
    counts = votes(lambda some: Plane()(some).detach(), x, draws, sigma, None, rng)
    assert counts.sum() == draws
    assert counts[1] / draws == pytest.approx(norm.cdf(distance / sigma), abs=0.01)
    radius = certified_radius(int(counts[1]), draws, sigma, 0.001)
    assert distance * 0.93 < radius <= distance, "never more than the truth"


def test_categories_get_no_noise():
    x = torch.zeros(4, 5)
    moved = noisy(x, 1.0, 2, torch.Generator().manual_seed(0))
    assert (moved[:, :2] != 0).all() and (moved[:, 2:] == 0).all()


@pytest.fixture(scope="module")
def pair(context):
    plan = recipe("digits", "smoke", examples=800, epochs=8).plan()
    own = Smoothing(sigma=0.25, radius=0.25, draws=300, test_examples=80, votes=30).bind(plan)
    return context(0).trained(plan), train(compose(plan, [own]), context(0)), own


def test_training_with_noise_certifies_more(pair, context):
    plain, smoothed, own = pair
    null, found = (own.measure(one, context(0)) for one in (plain, smoothed))
    assert found["cert_accuracy"] > null["cert_accuracy"] + 0.1, (null, found)
    assert found["cert_pixeldp"] < found["cert_radius"] < 0.25 * norm.ppf(0.001 ** (1 / 300))
    assert found["cert_accuracy"] <= found["cert_smoothed"] <= 1 - found["cert_abstained"]
    assert own.measure(smoothed, context(0)) == found, "the same noise under the same seed"


def test_the_same_query_has_the_same_answer_in_whatever_batch(pair, context):
    _, smoothed, own = pair
    served = Deployed(smoothed.plan, (own,)).answering(smoothed, context(0))
    x = context(0).data(smoothed.plan.judged_by.test).x[:12]
    whole = served.predict(x)
    assert torch.equal(whole, torch.cat([served.predict(one) for one in x.split(5)]))
    assert torch.equal(whole.flip(0), served.predict(x.flip(0)))
    assert torch.allclose(whole.exp().sum(1), torch.ones(12), atol=1e-5)
    assert served.predict(x[:0]).shape == (0, 10)
    other = Deployed(smoothed.plan, (own,)).answering(smoothed, context(1)).predict(x)
    assert not torch.equal(whole, other), "another seed has another secret"
    bare = Smoothing(votes=0).serve(smoothed.predict, smoothed, context(0))
    assert bare is smoothed.predict


def test_what_votes_cannot_reach_is_told():
    measure = Certified(sigma=0.1, radius=1.0)
    (warning,) = measure.warnings({})
    assert "1000 votes certify at most a radius of 0.246" in warning
    assert Certified().warnings({}) == ()


@pytest.mark.parametrize("options", [{"sigma": 0.0}, {"alpha": 1.0}, {"draws": 0}, {"votes": -1}, {"radius": -1.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=r"smoothing\.|certified\."):
        Smoothing(**options)
