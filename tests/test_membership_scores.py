"""Scores of membership inference: values worked out elsewhere, naive implementations, and scores without a signal."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.metrics import roc_auc_score

from guardclash.errors import UserError
from guardclash.numerics.membership import (
    auc,
    caught,
    clopper_pearson,
    halves,
    least_epsilon,
    lira_offline,
    lira_online,
    log_confidence,
    margins,
    mean_log_confidence,
    most_advantage,
    most_caught,
    out_from_in,
    rmia,
    rmia_offline,
    rmia_online,
    rmia_population,
    spreads,
)

SEEDS = st.integers(0, 10**6)


def logit(p):
    return special.logit(np.asarray(p, float))


# --- margins ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "phi"), [(0.9, 2.197225), (0.99, 4.595120), (0.999, 6.906755), (0.5, 0.0)])
def test_margins_of_known_probabilities(p, phi):
    rest = [(1 - p) / 3] * 3
    assert margins(np.log([[p, *rest]]), [0]) == pytest.approx([phi], abs=1e-6)


@given(SEEDS, st.floats(0.1, 300), st.integers(2, 12))
@settings(deadline=None, max_examples=25)
def test_margins_keep_what_probabilities_round_away(seed, scale, classes):
    """As torch has them in double precision, where these hold them; and whatever is added to all logits."""
    rng = np.random.default_rng(seed)
    logits, y = scale * rng.normal(size=(9, classes)), rng.integers(classes, size=9)
    logs = torch.tensor(logits).log_softmax(1).numpy()
    phi = margins(logits, y)
    assert log_confidence(phi) == pytest.approx(logs[np.arange(9), y], rel=1e-9, abs=1e-12)
    assert margins(logits + 5, y) == pytest.approx(phi, rel=1e-9, abs=1e-9)
    assert np.isfinite(phi).all()


@given(SEEDS, st.floats(0.1, 60))
@settings(deadline=None, max_examples=25)
def test_means_of_probabilities_are_exact_at_both_ends(seed, scale):
    import mpmath  # arithmetic of any precision; comes with torch

    rng = np.random.default_rng(seed)
    phi = scale * rng.normal(size=(3, 4))
    found = mean_log_confidence(phi, np.full((3, 1), 1 / 3))
    with mpmath.workdps(60):
        for place in range(4):
            mean = sum(1 / (1 + mpmath.exp(-mpmath.mpf(float(one)))) for one in phi[:, place]) / 3
            assert found[place] == pytest.approx(float(mpmath.log(mean)), rel=1e-9)


# --- LiRA -------------------------------------------------------------------------------------------------------------

SHADOWS = np.array([[4, 5, 4.5, 6, 1, 2.5, 2, 0.5]]).T
MEMBERS = np.array([[True] * 4 + [False] * 4]).T
TARGET = np.array([3.5])


@pytest.mark.parametrize(("how", "value"), [("image", 1.538194), ("pooled", 1.8), ("shrunk", 1.263952)])
def test_lira_online_of_known_margins(how, value):
    assert lira_online(TARGET, SHADOWS, MEMBERS, how) == pytest.approx([value], abs=1e-6)


def test_variances_of_known_margins():
    assert np.sqrt(spreads(SHADOWS, MEMBERS, "image"))[:, 0] == pytest.approx([0.739510, 0.790569], abs=1e-6)
    assert np.sqrt(spreads(SHADOWS, MEMBERS, "pooled"))[:, 0] == pytest.approx([0.765466] * 2, abs=1e-6)
    assert spreads(SHADOWS, MEMBERS, "shrunk")[:, 0] == pytest.approx([0.773438, 0.812500], abs=1e-6)
    assert spreads(SHADOWS, MEMBERS, "fixed") == pytest.approx(spreads(SHADOWS, MEMBERS, "image")), "of one example"
    with pytest.raises(UserError, match=r"spreads.how.*fixed, pooled, image, shrunk"):
        spreads(SHADOWS, MEMBERS, "none")


def test_lira_offline_is_one_sided():
    """The two-sided density of the published code calls a margin far below for a member's: another ranking."""
    found = lira_offline(TARGET, SHADOWS, MEMBERS)
    assert found == pytest.approx([2.529822], abs=1e-6)
    assert special.ndtr(found) == pytest.approx([0.994294], abs=1e-6)
    low = lira_offline(TARGET - 4, SHADOWS, MEMBERS)
    assert low < 0 < found
    assert stats.norm.logpdf(TARGET, 1.5, 0.790569) == pytest.approx([-3.883937], abs=1e-5)


@given(SEEDS)
@settings(deadline=None, max_examples=30)
def test_with_equal_variances_the_ratio_is_linear(seed):
    rng = np.random.default_rng(seed)
    shadows, target = rng.normal(size=(8, 5)), rng.normal(size=5)
    members = rng.permuted(np.repeat([[True], [False]], 4, 0) * np.ones((8, 5), bool), axis=0)
    inner, outer = (np.where(one, shadows, 0).sum(0) / 4 for one in (members, ~members))
    spread = spreads(shadows, members, "pooled")[0]
    expected = (target - (inner + outer) / 2) * (inner - outer) / spread
    assert lira_online(target, shadows, members, "pooled") == pytest.approx(expected, rel=1e-9, abs=1e-9)


# --- RMIA -------------------------------------------------------------------------------------------------------------

Z_TARGET = logit([0.95, 0.4, 0.8, 0.99, 0.6])
Z_MEAN = logit([[0.9, 0.5, 0.9, 0.97, 0.5]])


def test_rmia_offline_of_known_probabilities():
    x = rmia_offline(logit([0.9]), logit([[0.6], [0.7], [0.5], [0.8]]), 0.3)
    z = rmia_offline(Z_TARGET, Z_MEAN, 0.3)
    assert np.exp(x) == pytest.approx([1.165049], abs=1e-6)
    assert np.exp(z) == pytest.approx([1.016043, 0.592593, 0.855615, 1.009689, 0.888889], abs=1e-6)
    assert np.exp(x - z) == pytest.approx([1.146653, 1.966019, 1.361650, 1.153869, 1.310680], abs=1e-6)
    assert [rmia(x, z, gamma)[0] for gamma in (1, 1.2, 2)] == pytest.approx([1.0, 0.6, 0.0])
    assert out_from_in(0.95, 0.3) == pytest.approx(0.833333, abs=1e-6)
    assert out_from_in(0.1, 0.3) == 0
    with pytest.raises(UserError, match=r"rmia.a"):
        rmia_offline(Z_TARGET, Z_MEAN, 1.5)


@given(SEEDS, st.sampled_from([2, 4]), st.sampled_from([0.5, 1.0, 1.3]), st.booleans())
@settings(deadline=None, max_examples=25)
def test_rmia_is_what_every_pair_says(seed, shadows, gamma, ties):
    """Written out with probabilities and a matrix of all pairs."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.01, 0.99, (1 + shadows, 30)).round(1 if ties else 9).clip(0.05, 0.95)
    q = rng.uniform(0.01, 0.99, (1 + shadows, 20)).round(1 if ties else 9).clip(0.05, 0.95)
    members = rng.permuted(np.repeat([[True], [False]], shadows // 2, 0) * np.ones((shadows, 30), bool), axis=0)
    with_x, without = (np.where(one, p[1:], 0).sum(0) / (shadows // 2) for one in (members, ~members))
    ratio_x, ratio_z = p[0] / ((with_x + without) / 2), q[0] / q[1:].mean(0)
    x = rmia_online(logit(p[0]), logit(p[1:]), members)
    z = rmia_population(logit(q[0]), logit(q[1:]))
    assert np.exp(x) == pytest.approx(ratio_x) and np.exp(z) == pytest.approx(ratio_z)
    assert rmia(x, z, gamma) == pytest.approx((np.exp(x[:, None] - z) > gamma).mean(1), abs=0.5 if ties else 1e-12)


def test_ratios_must_exceed_strictly():
    assert rmia(np.array([0.0, 1e-9]), np.zeros(4)).tolist() == [0.0, 1.0]


@given(SEEDS)
@settings(deadline=None, max_examples=20)
def test_the_population_decides_on_ties_only(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=50)
    for z in (rng.normal(size=30), 3 + rng.normal(size=400)):
        score = rmia(x, z)
        order = np.argsort(x)
        assert (np.diff(score[order]) >= 0).all()


def test_confident_models_are_told_apart_where_probabilities_are_1():
    """Beyond phi = 37 no double tells p from 1, and ratios of probabilities would all be 1."""
    x = rmia_online(np.array([50.0, 45.0]), np.array([[45.0, 50.0], [40.0, 40.0]]), np.array([[True] * 2, [False] * 2]))
    assert x[0] > x[1] > 0
    assert special.expit(45.0) == 1


def test_examples_that_no_shadow_model_has_seen_are_refused():
    with pytest.raises(UserError, match="do not tell members from others"):
        halves(np.array([[True, False], [True, True]]))


# --- what scores are worth --------------------------------------------------------------------------------------------

INSIDE = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
OUTSIDE = (0.85, 0.65, 0.55, 0.45, 0.35, 0.3, 0.2, 0.1, 0.05, 0.01)


def test_rates_of_known_scores():
    assert auc(INSIDE, OUTSIDE) == pytest.approx(0.816667, abs=1e-6)
    ties = np.zeros(16)
    assert [caught(INSIDE, OUTSIDE, rate, ties) / 6 for rate in (0, 0.1, 0.2)] == pytest.approx(
        [0.166667, 0.5, 0.666667], abs=1e-6
    )
    with pytest.raises(UserError, match=r"caught.rate"):
        caught(INSIDE, OUTSIDE, 1.0, ties)


@given(SEEDS, st.integers(1, 40), st.integers(1, 40))
@settings(deadline=None, max_examples=25)
def test_the_auc_is_that_of_others(seed, first, second):
    rng = np.random.default_rng(seed)
    members, others = rng.integers(5, size=first), rng.integers(5, size=second)
    labels = np.r_[np.ones(first), np.zeros(second)]
    assert auc(members, others) == pytest.approx(roc_auc_score(labels, np.r_[members, others]))


@given(SEEDS, st.floats(0, 0.99), st.integers(1, 300))
@settings(deadline=None, max_examples=25)
def test_no_more_others_than_allowed_are_taken_for_members(seed, rate, count):
    """Of the others themselves, asked as if they were members, at most that share passes: exactly floor(rate N)."""
    rng = np.random.default_rng(seed)
    scores, ties = rng.integers(10, size=count), rng.uniform(size=count)
    passed = caught(scores, scores, rate, np.r_[ties, ties])
    assert passed == pytest.approx(math.floor(rate * count + 1e-9))


def test_ties_are_ranked_by_chance_and_not_by_place():
    """Scores of RMIA are discrete: if all are equal, the rate found is the rate allowed."""
    rng = np.random.default_rng(0)
    found = [caught(np.ones(500), np.ones(500), 0.1, rng.uniform(size=1000)) / 500 for _ in range(200)]
    assert np.mean(found) == pytest.approx(0.1, abs=0.006)


@pytest.mark.parametrize(
    ("size", "rate", "sd"), [(10_000, 0.001, 0.000447), (10_000, 0.01, 0.001407), (1000, 0.001, None)]
)
def test_rates_without_a_signal_spread_as_they_must(size, rate, sd):
    """The order statistics' own law, and the formula for large numbers where it holds: not for one in a thousand."""
    rng = np.random.default_rng(0)
    draws = [
        caught(*rng.normal(size=(2, size)), rate, np.zeros(2 * size)) / size for _ in range(400 if size < 5000 else 100)
    ]
    exceeding = math.floor(rate * size)
    law = stats.betabinom(size, exceeding + 1, size - exceeding)
    exact = law.std() / size
    assert np.mean(draws) == pytest.approx(law.mean() / size, abs=4 * exact / math.sqrt(len(draws)))
    assert np.std(draws) == pytest.approx(exact, rel=0.2)
    assert sd is None or exact == pytest.approx(sd, rel=0.06)


@pytest.mark.parametrize(
    ("size", "rate", "low", "high"),
    [
        (10_000, 0.001, 0.00055, 0.00184),
        (1000, 0.001, 0.00024, 0.00556),
        (10_000, 0.01, 0.00823, 0.01215),
        (1000, 0.01, 0.00550, 0.01831),
    ],
)
def test_the_true_rate_of_a_threshold_that_was_chosen_is_in_its_range(size, rate, low, high):
    """The share of all non-members above a threshold that a sample of them set; few of them do not set it well."""
    rng = np.random.default_rng(0)
    thresholds = [np.sort(rng.uniform(size=size))[::-1][math.floor(rate * size)] for _ in range(1000)]
    found = (
        caught([0.5], np.linspace(0, 1, 11), 0.4, np.zeros(12)),
        caught([0.7], np.linspace(0, 1, 11), 0.4, np.zeros(12)),
    )
    assert found == (0, 1), "the rule that sets it, on scores of which the fifth from above is 0.6"
    assert np.quantile(1 - np.array(thresholds), [0.025, 0.975]) == pytest.approx([low, high], rel=0.12, abs=1e-4)


def test_intervals_and_bounds_of_known_values():
    assert clopper_pearson(107, 10_000) == pytest.approx((0.008777, 0.012915), abs=1e-6)
    assert clopper_pearson(10, 10_000) == pytest.approx((0.000480, 0.001838), abs=1e-6)
    assert clopper_pearson(0, 5)[0] == 0 and clopper_pearson(5, 5)[1] == 1
    assert most_caught(0.001, 3, 1e-5) == pytest.approx(0.020096, abs=1e-6)
    assert most_advantage(3, 1e-5) == pytest.approx(0.905149, abs=1e-6)
    assert least_epsilon(0.0107, 0.001, 1e-5) == pytest.approx(2.369309, abs=1e-6)
    assert least_epsilon(1e-6, 0.001, 1e-5) == 0


@given(st.floats(0.001, 0.999), st.floats(0, 8), st.floats(0, 0.01))
@settings(deadline=None)
def test_bounds_of_privacy_agree(rate, epsilon, delta):
    most = most_caught(rate, epsilon, delta)
    assert rate <= most + 1e-12 and most <= 1
    assert most - rate <= most_advantage(epsilon, delta) + 1e-9
    assert least_epsilon(most, rate, delta) <= epsilon + 1e-9


@given(st.integers(1, 60), st.data())
@settings(deadline=None, max_examples=30)
def test_intervals_are_those_of_scipy(of, data):
    hits = data.draw(st.integers(0, of))
    other = stats.binomtest(hits, of).proportion_ci(0.95, "exact")
    assert clopper_pearson(hits, of) == pytest.approx((other.low, other.high), abs=1e-9)


# --- no signal --------------------------------------------------------------------------------------------------------


def mirrored(rng, size):
    """Margins [6, N] that know nothing of membership, and halves [6, N] in complementary pairs."""
    members = []
    for _ in range(3):
        half = rng.permutation(size) < size // 2
        members += [half, ~half]
    return rng.normal(size=size) * 2 + rng.normal(size=(6, size)), np.stack(members)


def aucs(score, draws=4):
    """Mean AUC of a score for the first model by some of the six, over several draws."""
    found = []
    for seed in range(draws):
        phi, members = mirrored(np.random.default_rng(seed), 10_000)
        scores = score(phi, members)
        found.append(auc(scores[members[0]], scores[~members[0]]))
    return float(np.mean(found))


@pytest.mark.parametrize(
    "score",
    [
        *(partial(lira_online, how=how) for how in ("fixed", "pooled", "image")),
        lira_offline,
        rmia_online,
        lambda target, shadows, members: rmia_offline(target, shadows, 0.3, ~members),
    ],
)
def test_a_mirrored_design_without_the_targets_own_pair_finds_nothing(score):
    assert aucs(lambda phi, members: score(phi[0], phi[2:], members[2:])) == pytest.approx(0.5, abs=0.012)


def test_the_targets_mirror_among_the_shadows_makes_lira_wrong():
    """What the test above is there to notice: counts of shadows with an example then tell its membership."""
    found = aucs(lambda phi, members: lira_online(phi[0], phi[1:], members[1:], "image"))
    assert found == pytest.approx(0.34, abs=0.02)
