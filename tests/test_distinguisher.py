"""The test of dataset inference: oracles, parity with scipy, and simulation where there is nothing to find."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from guardclash.errors import UserError
from guardclash.numerics.distinguisher import (
    LN10,
    LOG10_FLOOR,
    Normalisation,
    evidence,
    layout,
    log10_harmonic_mean,
    log10_welch,
    log_survival,
    separation_loss,
    train_distinguisher,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Layout and normalisation


def tags(count: int) -> Tensor:
    """Image i, walk w, norm n -> 1000 i + 10 w + n."""
    i, w, n = torch.arange(count), torch.arange(10), torch.arange(3)
    return 1000 * i[:, None, None] + 10 * w[:, None] + n


def test_a_row_per_image():
    rows = layout(tags(1000))
    assert rows.shape == (1000, 30)
    assert rows[0, :11].tolist() == [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 1]
    assert torch.equal(rows // 1000, torch.arange(1000)[:, None].expand(-1, 30))


def test_the_published_layout_mixes_images():
    """All counts from the published bookkeeping."""
    rows = layout(tags(1000), "published")
    image, norm = rows // 1000, rows % 10
    assert rows[0].tolist() == [1000 * i for i in range(30)], "linf of the first walks of 30 images"
    assert all(len(row.unique()) == 30 for row in image)
    assert sum(len(row.unique()) == 1 for row in norm) == 998
    assert norm[:500].flatten().bincount(minlength=3).tolist() == [10000, 5000, 0]
    assert norm[500:].flatten().bincount(minlength=3).tolist() == [0, 5000, 10000]
    assert len(image[:500].unique()) == len(image[500:].unique()) == 1000
    assert torch.equal(image[:900], image[100:])


def test_units_are_those_of_the_owners_members():
    members = torch.rand(50, 10, 3, generator=seeded(0)) * torch.tensor([1.0, 2.0, 0.0]) + 5
    unit = Normalisation.of(members)
    assert unit(members).mean((0, 1)) == pytest.approx(torch.zeros(3), abs=1e-5)
    assert unit(members)[..., :2].std((0, 1)) == pytest.approx(torch.ones(2), rel=1e-5)
    assert unit(members + 1)[0, 0, 2] == 1, "without spread, distances keep their unit"


# Distinguisher


def test_the_sign_of_the_loss():
    assert separation_loss(torch.ones(5), torch.ones(5)) == 0
    assert separation_loss(-torch.ones(5), torch.ones(5)) == -1
    assert separation_loss(torch.ones(3), -torch.ones(3)) == 1
    assert separation_loss(torch.zeros(1), torch.ones(3)) == -0.75


def test_members_score_low_and_others_high():
    rng = seeded(1)
    groups = [torch.randn(200, 30, generator=rng) + shift for shift in (0.5, -0.5)]
    found = train_distinguisher(groups[0][:100], groups[1][:100], rng, epochs=100)
    members, others = (found.score(group[100:]) for group in groups)
    assert members.median() < -0.9
    assert others.median() > 0.9
    assert torch.cat([members, others]).abs().max() <= 1


def test_training_draws_from_its_own_generator_alone():
    before = torch.get_rng_state()
    one, again, other = (train_distinguisher(*torch.eye(4).split(2), seeded(seed), epochs=3) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.weight, again.weight)
    assert not torch.equal(one.weight, other.weight)


def test_training_is_gradient_descent_as_torch_has_it():
    members, others = torch.rand(2, 20, 6, generator=seeded(2))
    with torch.no_grad():
        ours = train_distinguisher(members, others, seeded(3), hidden=5, epochs=7)
    start = train_distinguisher(members, others, seeded(3), hidden=5, epochs=0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1), torch.nn.Tanh())
    values = (start.hidden_weight, start.hidden_bias, start.weight[None], start.bias[None])
    assert max(value.abs().max() for value in values[:2]) <= 1 / math.sqrt(6)
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), values, strict=True):
            parameter.copy_(value)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    sign = torch.cat([-torch.ones(20), torch.ones(20)])
    for _ in range(7):
        optimizer.zero_grad()
        (-(sign * network(torch.cat([members, others])).squeeze(1)).mean()).backward()
        optimizer.step()
    assert torch.allclose(ours.score(members), network(members).squeeze(1), atol=1e-6)


# Welch's test


TEST, TRAIN = (0.1, -0.2, 0.3, 0.05, -0.1), (-0.9, -0.8, -0.95, -0.7, -0.85)
SATURATED_TRAIN = (-0.999, -0.998, -0.997, -0.9995, -0.9985, -0.999, -0.9975, -0.9988, -0.9992, -0.9981)
SATURATED_TEST = (0.998, 0.9991, 0.9985, 0.9979, 0.9993, 0.9987, 0.9982, 0.999, 0.9976, 0.9989)


@pytest.mark.parametrize(
    ("high", "low", "p", "tolerance"),
    [
        (TEST, TRAIN, 5.721206663884072e-05, 1e-9),
        (TRAIN, TEST, 0.9999427879333611, 1e-12),
        (SATURATED_TEST, SATURATED_TRAIN, 4.7631392487643084e-54, 1e-8),
    ],
)
def test_welch(high, low, p, tolerance):
    assert 10 ** float(log10_welch(high, low)) == pytest.approx(p, rel=tolerance)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 40), st.integers(2, 40), st.floats(-3, 3), st.floats(1e-3, 1e3))
def test_welch_as_scipy_has_it(seed, count, other, shift, scale):
    rng = np.random.default_rng(seed)
    high, low = rng.normal(shift, 1, (3, count)) * scale, rng.normal(0, 2, (3, other)) * scale
    theirs = stats.ttest_ind(high, low, axis=1, equal_var=False, alternative="greater").pvalue
    assert 10 ** log10_welch(high, low) == pytest.approx(theirs, rel=1e-8)


def test_scores_without_spread():
    ones, minus = np.full(10, 0.1), np.full(10, -0.3)
    assert log10_welch(ones, minus) == LOG10_FLOOR
    assert log10_welch(minus, ones) == 0
    assert log10_welch(ones, ones) == pytest.approx(math.log10(0.5))
    nearly = np.array([np.float32(1), np.nextafter(np.float32(1), np.float32(0))] * 250)
    assert log10_welch(nearly, -nearly) == LOG10_FLOOR, "500 scores that differ in the last bit"
    assert -80 > log10_welch(nearly[:10], -nearly[:10]) > LOG10_FLOOR, "ten of them"


SURVIVAL = [  # t, df, ln P(T > t), computed with mpmath
    (45, 18, -44.9602509126984),
    (6430.357337506133, 16.338484171600523, -122.778688064771),
    (1e+20, 18, -805.29529383956),
    (1e+60, 9, -1235.55371187953),
    (1e+300, 2, -1382.24420297699),
    (40, 998, -481.54553584907),
    (1000.0, 998, -3452.83820512612),
    (100000000.0, 998, -14942.2405632574),
    (60, 1000000.0, -1801.77951922734),
]  # fmt: skip


@pytest.mark.parametrize(("t", "df", "log_p"), SURVIVAL)
def test_the_tail_of_students_t(t, df, log_p):
    assert log_survival(t, df) == pytest.approx(log_p, rel=1e-11)


@settings(deadline=None)
@given(st.floats(-30, 30), st.floats(0.5, 1e6))
def test_the_tail_as_scipy_has_it(t, df):
    theirs = stats.t.sf(t, df)
    if theirs > 1e-250:
        assert math.exp(log_survival(t, df)) == pytest.approx(theirs, rel=1e-8)


@settings(deadline=None, max_examples=300)
@given(st.floats(0, 1e300), st.floats(1, 2), st.floats(0.5, 1e8))
def test_the_tail_falls_and_stays_finite(t, factor, df):
    nearer, farther = log_survival([t, t * factor], df)
    assert math.isfinite(nearer)
    assert math.isfinite(farther)
    assert farther <= nearer + 1e-12 * abs(nearer)


def test_the_two_formulas_meet():
    """Around p = 1e-280, where one takes over from the other."""
    for df in (2.0, 9.0, 18.0, 998.0, 1e5):
        low, high = 1.0, 1e300
        for _ in range(200):
            middle = math.sqrt(low) * math.sqrt(high)
            low, high = (middle, high) if log_survival(middle, df) > -280 * LN10 else (low, middle)
        t = low * np.linspace(1 - 1e-6, 1 + 1e-6, 101)
        steps = np.diff(log_survival(t, df))
        assert steps == pytest.approx(np.full(100, steps.mean()), rel=1e-3), df


def test_a_group_of_one_cannot_be_tested():
    with pytest.raises(UserError, match="two values"):
        log10_welch([1.0], [1.0, 2.0])


# Combination


def test_the_harmonic_mean():
    assert 10 ** log10_harmonic_mean(np.log10([0.01, 0.02, 0.5, 0.9])) == pytest.approx(0.026124818577648767)
    assert log10_harmonic_mean([-3000, -3000, 0, 0]) == pytest.approx(-3000 + math.log10(2))
    assert log10_harmonic_mean([LOG10_FLOOR] * 100) == pytest.approx(LOG10_FLOOR)
    with pytest.raises(UserError, match="at least one"):
        log10_harmonic_mean([])


def test_evidence():
    rng = seeded(4)
    members, others = torch.rand(2, 60, generator=rng) + torch.tensor([[0.0], [0.3]])
    found = evidence(members, others, seeded(5), sample=10, repetitions=20)
    assert found.full == log10_welch(others, members)
    assert found.difference == pytest.approx(float(others.mean() - members.mean()))
    positions = torch.rand(20, 60, generator=seeded(5)).argsort(1)[:, :10]
    assert all(len(row.unique()) == 10 for row in positions)
    ps = stats.ttest_ind(others[positions], members[positions], axis=1, equal_var=False, alternative="greater").pvalue
    assert 10**found.sampled == pytest.approx(stats.hmean(ps), rel=1e-6)
    assert evidence(others, members, seeded(5)).full > -0.01
    assert evidence(members, others, seeded(5), sample=60).sampled == pytest.approx(found.full)


def test_saturated_scores_give_the_greatest_evidence():
    assert evidence(-torch.ones(50), torch.ones(50), seeded(0)) == pytest.approx((LOG10_FLOOR, LOG10_FLOOR, 2))


# Where there is nothing to find


def embeddings(latent: Tensor, rng: torch.Generator) -> Tensor:
    """[N, 10, 3] of images that differ in difficulty, members no more than others do."""
    return latent[:, None, None] + torch.randn(len(latent), 10, 3, generator=rng)


def verdict(arrangement: str, seed: int, shared: float = 1.0, count: int = 100, epochs: int = 60) -> float:
    """log10 p on the second halves, trained on the first; `shared` correlates difficulties for owner and suspect."""
    rng = seeded(seed)
    latents = torch.randn(2, count, generator=rng)
    owner = [embeddings(latent, rng) for latent in latents]
    suspect = owner
    if shared < 1:
        latents = shared * latents + math.sqrt(1 - shared**2) * torch.randn(2, count, generator=rng)
        suspect = [embeddings(latent, rng) for latent in latents]
    unit, half = Normalisation.of(owner[0]), count // 2
    found = train_distinguisher(*(layout(unit(group), arrangement)[:half] for group in owner), rng, epochs=epochs)
    members, others = (found.score(layout(unit(group), arrangement)[half:]) for group in suspect)
    return evidence(members, others, rng).full


def test_without_membership_p_values_are_uniform_with_a_row_per_image():
    ps = [10 ** verdict("per_image", seed) for seed in range(80)]
    assert stats.kstest(ps, "uniform").pvalue > 0.01


def test_without_membership_the_published_layout_finds_it_all_the_same():
    logs = [verdict("published", seed) for seed in range(20)]
    assert stats.kstest([10**log for log in logs], "uniform").pvalue < 1e-6
    assert np.median(logs) < -3


def test_the_published_layout_also_accuses_a_model_that_finds_the_same_images_difficult():
    related, unrelated = ([verdict("published", seed, shared) for seed in range(12)] for shared in (0.9, 0.0))
    assert np.median(related) < -2
    assert np.median(unrelated) > -1
    ps = [10 ** verdict("per_image", seed, 0.9) for seed in range(40)]
    assert stats.kstest(ps, "uniform").pvalue > 0.01


# Mistakes


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: layout(torch.rand(4, 10, 3), "publishd"), "Did you mean 'published'"),
        (lambda: layout(torch.rand(4, 30)), "three axes"),
        (lambda: train_distinguisher(torch.rand(4, 3), torch.rand(4, 2), seeded(0)), "rows"),
        (lambda: train_distinguisher(torch.rand(0, 3), torch.rand(4, 3), seeded(0)), "rows"),
        (lambda: train_distinguisher(torch.full((4, 3), math.nan), torch.rand(4, 3), seeded(0)), "no number"),
        (lambda: evidence(torch.rand(4), torch.rand(5), seeded(0)), "as many"),
        (lambda: evidence(torch.rand(4), torch.rand(4), seeded(0)), "sample"),
    ],
)
def test_impossible_tests(build, complaint):
    with pytest.raises(UserError, match=complaint):
        build()
