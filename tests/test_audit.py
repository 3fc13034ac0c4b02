"""Private training, audited by canaries: the sound one passes, and each mistake that can be planted is seen.

The seeds are fixed. Of a sound training, each interval would miss with a chance of one in a million.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.numerics.accounting import epsilon_spent
from guardclash.plan.examples import Data
from guardclash.plan.gradients import ClippedNoisy
from guardclash.plan.samplers import Poisson

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from privacy_audit import audit, epsilon_at_least
from privacy_canaries import LOUD, QUIET, observed, quiet, training
from privacy_faults import FAULTS, planted

NOISE, AROUND, STEPS = "noise multiplier", "noise around it", "correlation of steps"
RATE, JOINS, CLIP = "rate of joining", "variance of joins, of binomial", "clipped gradient, of the bound"
SEEN = {
    "half the noise": {NOISE, AROUND},
    "noise divided twice by the batch size": {NOISE, AROUND, "epsilon"},
    "the same noise in every step": {STEPS},
    "no clipping": {CLIP, "epsilon"},
    "the sum clipped, not each gradient": {RATE, CLIP},
    "divided by the drawn batch size": {AROUND},
    "twice the sampling rate": {RATE},
    "batches that share no example": {JOINS},
}
"""What must not fit. More may not: what is clipped wrongly is also scattered."""


@pytest.mark.parametrize("batches", [1, 10])
def test_private_training_does_what_its_epsilon_presumes(batches):
    found = audit(range(2), {1: 400, 10: 1000}[batches], batches)
    assert found.complaints() == []
    assert 0 <= found.epsilon_at_least <= found.epsilon == pytest.approx(3, rel=1e-3)
    assert found.rate == 1 / batches
    # An interval as wide as the fault that it is to show would prove nothing.
    wide = {one.name: one.high - one.low for one in found.estimates}
    assert wide[NOISE] < 0.2 * found.estimates[0].claimed
    assert max(wide[STEPS], wide[RATE], wide[CLIP], wide[AROUND]) < 0.1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_mistake_is_seen(fault):
    with planted(fault):
        found = audit(range(2 if "epsilon" in SEEN[fault] else 1), 1000)
    assert SEEN[fault] <= set(found.complaints())


def test_every_mistake_is_told_apart_from_sound_training():
    assert set(SEEN) == set(FAULTS)


def test_canaries_stand_in_ordinary_private_training():
    """The plan is what `compose` makes, and a canary's gradient is clipped to the bound along its column."""
    plan = training(20, 0, DPSGD())
    assert isinstance(plan.task.gradient, ClippedNoisy)
    assert isinstance(plan.task.sampler, Poisson)
    seen = observed(quiet(plan), 0)[plan.task.source.there().numpy()]
    assert set(np.round(seen[np.abs(seen) > 6 * QUIET]).tolist()) == {1.0}
    x, y, about = (data := plan.task.source.load(_Digits())).x, data.y, data.about
    assert torch.equal(x[10:, 64:], LOUD * torch.eye(20))
    assert (y[10:] == 0).all()
    assert about["weight"][:10].eq(1).all()


class _Digits:
    def data(self, source):
        return Data(torch.rand(10, 1, 8, 8), torch.zeros(10, dtype=torch.int64))


@pytest.mark.parametrize("noise", [0.8, 1.5])
def test_the_bound_is_close_to_the_epsilon_of_a_gaussian_and_below_it(noise):
    """Scores without any training, of noise that is known."""
    rng = np.random.default_rng(0)
    there = rng.random(200_000) < 0.5
    score = there / noise + rng.standard_normal(len(there))
    epsilon = epsilon_spent(noise, 1.0, 1, 1e-5, "prv")
    presumed, free = (epsilon_at_least(score, there, 1e-5, 1e-6, gaussian) for gaussian in (True, False))
    assert 0.85 * epsilon < presumed <= epsilon
    assert 0 < free < presumed


def test_a_bound_of_mere_guesses_is_nothing():
    rng = np.random.default_rng(0)
    for gaussian in (True, False):
        assert epsilon_at_least(rng.random(4000), rng.random(4000) < 0.5, 1e-5, 1e-6, gaussian) == 0


def test_the_bound_is_wrong_no_more_often_than_said():
    """At a risk of a half, of 100 audits of pure chance at most about half say more than nothing."""
    rng = np.random.default_rng(0)
    bounds = [epsilon_at_least(rng.random(400), rng.random(400) < 0.5, 1e-5, 0.5, False) for _ in range(100)]
    assert np.mean(np.array(bounds) > 0) <= 0.5 + norm.isf(1e-6) * 0.5 / np.sqrt(100)
