"""What labels by noisy votes cost: published values, and exact divergences where they can be computed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from guardclash.numerics.vote_privacy import (
    divergences,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
    log_other,
    log_rarer,
    renyi_epsilon,
    vote_mu,
)
from guardclash.numerics.votes import Voting, Wanted, voting

ORDERS = np.concatenate([np.arange(2, 100, 0.5), np.arange(100, 501)])
"""Those of the published analysis."""
SOME = np.array([2.0, 10.0, 32.0, 64.0])


def counts(*found: float, classes: int = 10) -> np.ndarray:
    return np.array([[*found, *[0.0] * (classes - len(found))]])


def old_epsilon(divergence: np.ndarray, delta: float = 1e-5) -> float:
    """By the conversion of the published analysis."""
    return float((divergence - math.log(delta) / (ORDERS - 1)).min())


# Told beforehand


@pytest.mark.parametrize(
    ("epsilon", "delta", "answers"),
    [(3, 1e-5, 0.25856494), (3, 1e-6, 0.20977483), (1, 1e-5, 0.03592570), (8, 1e-5, 1.387829)],
)
def test_a_budget_pays_for_so_many_answers_per_square_of_the_noise(epsilon, delta, answers):
    mu = gaussian_mu(epsilon, delta)
    assert mu**2 / 2 == pytest.approx(answers, rel=3e-7)
    assert gaussian_epsilon(mu, delta) == pytest.approx(epsilon, rel=1e-9)


def test_the_usual_budget():
    assert gaussian_mu(3, 1e-5) == pytest.approx(0.71911744, abs=5e-9)
    assert gaussian_epsilon(0.0, 1e-5) == 0.0 and gaussian_epsilon(1e-6, 1e-5) == 0.0
    assert vote_mu(50, 10.0) == pytest.approx(1.0) and vote_mu(50, 10.0, 100, 10.0) == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize(("gap", "sigma"), [(0, 1.0), (3, 2.0), (10, 4.0), (1, 0.5)])
def test_a_vote_between_two_classes_keeps_what_is_promised(gap, sigma):
    """The exact delta and divergence of one answer, both ways, where one vote moves from one class to the other."""
    one, other = (ndtr(distance / (math.sqrt(2) * sigma)) for distance in (gap, gap - 2))
    for p, q in ((one, other), (other, one)):
        for epsilon in (0.0, 0.3, 1.0):
            exact = max(0.0, p - math.exp(epsilon) * q) + max(0.0, (1 - p) - math.exp(epsilon) * (1 - q))
            assert exact <= gaussian_delta(epsilon, vote_mu(1, sigma)) + 1e-12
    # The bound that sees the votes holds for what was seen.
    seen = log_other(np.array([[gap + 20.0, 20.0]]), sigma)
    for place, order in enumerate(SOME):
        exact = math.log(one**order * other ** (1 - order) + (1 - one) ** order * (1 - other) ** (1 - order))
        assert exact / (order - 1) <= divergences(seen, sigma, SOME)[0, place] + 1e-12


# Seeing the votes


@pytest.mark.parametrize(
    ("votes", "sigma", "log_q", "found"),
    [
        ((250,), 40, -10.019228, (1.5273573e-05, 2.3331779e-05, 2.0345499e-04, 0.010933692)),
        ((200, 50), 40, -5.1791523, (0.00125, 0.0017894408, 0.0061754847, 0.03423531)),
        ((150, 100), 40, -1.5122235, (0.00125, 0.00625, 0.02, 0.04)),
        ((120, 80, 50), 40, -0.76283061, (0.00125, 0.00625, 0.02, 0.04)),
        ((40,), 6.4, -10.019228, (1.5050364e-04, 0.038048729, 0.78125, 1.5625)),
        ((30, 10), 6.4, -4.0608623, (0.030009412, 0.22138839, 0.78125, 1.5625)),
        ((100,), 20, -6.3027379, (0.0010449512, 0.0022842018, 0.05648601, 0.16)),
        ((50,), 10, -6.3027379, (0.0023875206, 0.019564072, 0.32, 0.64)),
    ],
)
def test_divergences_that_see_the_votes_are_those_of_the_published_analysis(votes, sigma, log_q, found):
    seen = log_other(counts(*votes), sigma)
    assert seen == pytest.approx([log_q], rel=1e-7)
    assert divergences(seen, sigma, SOME)[0] == pytest.approx(found, rel=1e-7)


def test_budgets_are_those_of_the_published_analysis():
    told = {answers: answers * ORDERS / 40**2 for answers in (100, 286, 1000)}
    assert [old_epsilon(told[one]) for one in told] == pytest.approx([1.759059, 3.047866, 5.995928], abs=5e-7)
    now = [renyi_epsilon(told[one], 1e-5, ORDERS) for one in told]
    assert now == pytest.approx([1.478122, 2.643926, 5.377728], abs=5e-7)
    checked = told[286] + 640 * ORDERS / (2 * 150**2)
    assert old_epsilon(checked) == pytest.approx(3.175321, abs=5e-7)
    assert renyi_epsilon(checked, 1e-5, ORDERS) == pytest.approx(2.757887, abs=5e-7)
    exact = gaussian_epsilon(vote_mu(286, 40, 640, 150), 1e-5)
    assert exact < renyi_epsilon(checked, 1e-5, ORDERS), "counted exactly it is less"


@pytest.mark.parametrize(
    ("votes", "old", "now"),
    [((250,), 0.423025, 0.285558), ((240, 10), 0.487629, 0.338734), ((200, 50), 1.422671, 1.188784)],
)
def test_sure_votes_cost_less(votes, old, now):
    spent = 286 * divergences(log_other(counts(*votes), 40), 40, ORDERS)[0]
    assert old_epsilon(spent) == pytest.approx(old, abs=5e-7)
    assert renyi_epsilon(spent, 1e-5, ORDERS) == pytest.approx(now, abs=5e-7)


def test_checks_of_the_threshold():
    most = [250, 200, 150, 100]
    rarer = np.exp(log_rarer(np.concatenate([counts(one) for one in most]), 200, 150))
    assert rarer == pytest.approx([1 - 0.63055866, 0.5, 0.36944134, 0.25249254], abs=5e-9)
    # As published they are never sure enough to cost less.
    logs = log_rarer(np.concatenate([counts(one) for one in range(100, 251)]), 200, 150)
    told = np.broadcast_to(ORDERS / (2 * 150**2), (151, len(ORDERS)))
    assert divergences(logs, math.sqrt(2) * 150, ORDERS) == pytest.approx(told, rel=1e-12)


@given(st.lists(st.integers(0, 60), min_size=2, max_size=6), st.floats(0.5, 50), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_what_sees_the_votes_never_costs_more_and_classes_are_alike(votes, sigma, random):
    shuffled = random.sample(votes, len(votes))
    seen, other = (divergences(log_other(np.array([one], float), sigma), sigma) for one in (votes, shuffled))
    assert np.isfinite(seen).all() and (seen >= 0).all()
    assert seen == pytest.approx(other, rel=1e-9)
    assert (divergences(np.array([-1e-3, -1e3, -1e-9]), sigma) <= divergences(np.array([0.0]), sigma) + 1e-15).all()


# The release


def released(how: Voting, votes: list[list[int]], seed: int = 0):
    return how(torch.tensor(votes), torch.Generator().manual_seed(seed))


def test_labels_are_the_classes_with_most_votes():
    found = released(Voting(3, 3, 1e-6), [[9, 1], [4, 6], [0, 10], [10, 0]])
    assert (found.queries.tolist(), found.labels.tolist(), found.asked) == ([0, 1, 2], [0, 1, 1], 3)


def test_only_sure_votes_are_answered_and_all_that_was_asked_counts():
    votes = [[6, 4], [9, 1], [5, 5], [2, 8], [10, 0]]
    found = released(Voting(2, 5, 1e-6, 7.0, 1e-6), votes)
    assert (found.queries.tolist(), found.labels.tolist(), found.asked) == ([1, 3], [0, 1], 4)
    found = released(Voting(4, 5, 1e-6, 7.0, 1e-6), votes)
    assert (found.queries.tolist(), found.asked) == ([1, 3, 4], 5)
    assert released(Voting(2, 2, 1e-6, 7.0, 1e-6), votes).asked == 2, "nobody is asked more often than agreed"


def test_the_threshold_is_met_by_counts_that_nobody_rounds():
    assert not len(released(Voting(1, 1, 1.0, 5.4, 1e-6), [[5, 0]]).queries)
    noise = Voting(20_000, 20_000, 1.0, 5.4, 1.0)
    share = len(released(noise, [[5, 0]] * 20_000).queries) / 20_000
    assert share == pytest.approx(ndtr(-0.4), abs=0.015)


def test_noise_decides_between_equals():
    found = released(Voting(4000, 4000, 1.0), [[5, 5, 0]] * 4000)
    assert torch.bincount(found.labels, minlength=3)[:2].double().mean() > 1900
    assert abs(int((found.labels == 0).sum()) - int((found.labels == 1).sum())) < 300
    wins = (released(Voting(20_000, 20_000, 3.0), [[8, 5]] * 20_000).labels == 0).double().mean().item()
    assert wins == pytest.approx(ndtr(3 / (math.sqrt(2) * 3)), abs=0.015), "noise of this size is on every count"


def test_what_was_asked_and_answered_is_paid():
    how, votes = Voting(10, 40, 40.0, 200.0, 150.0), [[200, 50, 0]] * 40
    found = released(how, votes)
    asked = how.seen_epsilon(torch.tensor(votes), found, 1e-5)
    spent = len(found.queries) * divergences(log_other(np.array([[200.0, 50, 0]]), 40), 40)[0]
    alone = renyi_epsilon(spent, 1e-5)
    assert alone < asked <= how.epsilon(1e-5)
    assert how.epsilon(1e-5) == gaussian_epsilon(math.sqrt(2 * 10 / 40**2 + 40 / 150**2), 1e-5)
    assert Voting(10, 10, 40.0).epsilon(1e-5) == gaussian_epsilon(math.sqrt(2 * 10 / 40**2), 1e-5)


# How much noise a budget takes

MU = gaussian_mu(3.0, 1e-5)


def test_with_as_many_teachers_as_published_noise_is_as_published():
    found = voting(250, 10, 10_000, MU, Wanted(), True)
    assert (found.threshold, found.sigma1, found.sigma2) == (200.0, 150.0, 40.0)
    assert (found.answers, found.queries) == (386, 772)
    assert voting(250, 10, 10_000, MU, Wanted(), False) == Voting(413, 413, 40.0)
    assert voting(50, 10, 10_000, MU, Wanted(), False).answers == 16, "counted exactly"
    for teachers, sigma2, answers in ((50, 4, 4), (50, 8, 16), (50, 12, 37), (100, 16, 66), (100, 24, 148)):
        assert voting(teachers, 10, 10_000, MU, Wanted(sigma2=sigma2), False).answers == answers
    assert voting(250, 10, 300, MU, Wanted(), False).answers == 300, "there are no more"


@given(
    st.integers(2, 400),
    st.integers(2, 50),
    st.integers(2, 2000),
    st.sampled_from([0.1, 0.7, 3.0]),
    st.builds(
        Wanted,
        st.none() | st.integers(2, 50),
        st.none() | st.integers(2, 90),
        st.none() | st.floats(0, 100),
        st.none() | st.floats(1, 300),
        st.none() | st.floats(1, 300),
    ),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_no_voting_spends_more_than_there_is(teachers, classes, available, mu, wanted, confident):
    wanted = Wanted(
        *(None if one is None else min(one, available) for one in wanted[:2]), wanted.threshold, *wanted[3:]
    )
    assume(None in wanted[:2] or wanted.answers <= wanted.queries)
    found = voting(teachers, classes, available, mu, wanted, confident)
    if found is None or found.answers < 2:
        assert wanted.sigma1 or wanted.sigma2, "noise by rule is always enough"
        return
    assert found.mu <= mu * (1 + 1e-9)
    assert found.answers <= found.queries <= available
    assert wanted.answers in (None, found.answers) and wanted.sigma2 in (None, found.sigma2)
    if confident:
        assert wanted.queries in (None, found.queries) and wanted.sigma1 in (None, found.sigma1)
    assert (
        wanted.answers
        or wanted.sigma1
        or wanted.sigma2
        or found.answers >= min(classes, available, wanted.queries or 99)
    )
