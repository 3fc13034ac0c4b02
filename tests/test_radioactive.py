"""Marking images and finding the marks: oracles, parity with scipy, and simulation under the null."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from guardclash.errors import UserError
from guardclash.numerics.features import classifier, penultimate
from guardclash.numerics.radioactive import (
    LN10,
    Marking,
    carrier_cosines,
    carriers,
    log_cosine_p,
    log_fisher,
    psnr,
    stratified,
)

COSINES = (-0.1, 0.05, 0.1, 0.2, 0.3, 0.5, 0.9)
P_OF_COSINES = {  # computed with mpmath, by two independent formulas
    2: (0.531884280429, 0.484077866763, 0.468115719571, 0.435905783151, 0.403013315979, 0.333333333333, 0.143566293129),
    3: (0.55, 0.475, 0.45, 0.4, 0.35, 0.25, 0.05),
    10: (0.615062500054, 0.441964210916, 0.384937499946, 0.277722721053, 0.185041561141, 5.86534015071e-2,
      7.99857140344e-5),
    64: (0.785986371837, 0.346222663739, 0.214013628163, 5.50939012543e-2, 7.59206580525e-3, 1.1137602196e-5,
      1.05793393896e-24),
    512: (0.988246898229, 0.129149694307, 1.17531017709e-2, 2.49684245645e-6, 1.97818055922e-12, 4.19919597461e-34,
      1.03179001916e-186),
    2048: (0.999997122521, 1.18077198979e-2, 2.87747918099e-6, 3.11838026016e-20, 3.50690970346e-44, 2.3490790208e-130,
      None),
}  # fmt: skip


@pytest.mark.parametrize("dimension", P_OF_COSINES)
def test_the_p_value_of_a_cosine(dimension):
    found = log_cosine_p(COSINES, dimension)
    for value, p in zip(found, P_OF_COSINES[dimension], strict=True):
        assert value == pytest.approx(-740.20468 * LN10 if p is None else math.log(p), rel=1e-8)


@pytest.mark.parametrize(
    ("dimension", "cosine", "p"),
    [(64, 0.205821749, 0.05), (64, 0.550740576, 1e-6), (512, 0.136133492, 1e-3), (2048, 0.10478594, 1e-6)],
)
def test_critical_cosines(dimension, cosine, p):
    assert log_cosine_p(cosine, dimension) == pytest.approx(math.log(p), rel=1e-6)


@given(st.floats(-1.1, 1.1), st.integers(2, 3000))
def test_p_values_of_opposite_cosines_add_up_to_one(cosine, dimension):
    one, other = log_cosine_p([cosine, -cosine], dimension)
    assert math.exp(one) + math.exp(other) == pytest.approx(1)
    assert log_cosine_p(0.0, dimension) == pytest.approx(math.log(0.5))


@given(st.integers(2, 5000), st.floats(0, 0.999), st.floats(0, 0.0009))
def test_p_values_fall_with_the_cosine_also_below_underflow(dimension, cosine, more):
    lower, higher = log_cosine_p([cosine, cosine + more], dimension)
    assert math.isfinite(lower)
    assert higher <= lower + 1e-9 * abs(lower)


def test_a_direction_needs_two_dimensions():
    with pytest.raises(UserError, match="two dimensions"):
        log_cosine_p(0.1, 1)


FISHER = [
    ((0.5, 0.5), 0.59657359028),
    ((0.01, 0.02, 0.03), 5.11854277264e-4),
    ((0.001, 0.5, 0.9, 0.2), 0.0169601826816),
    ((0.02, 0.4, 0.7, 0.001, 0.33, 0.5, 0.08, 0.9, 0.15, 0.6), 0.00919230577496),
    ((0.1,) * 10, 7.92956243962e-4),
    ((0.05,) * 10, 7.34163417594e-6),
    ((0.5,) * 10, 0.837376439136),
    ((1.0, 1.0), 1.0),
]


@pytest.mark.parametrize(("ps", "combined"), FISHER)
def test_fisher(ps, combined):
    assert math.exp(log_fisher(np.log(ps))) == pytest.approx(combined)


def test_fisher_far_below_underflow():
    assert log_fisher(np.full(10, -60 * LN10)) / LN10 == pytest.approx(-577.2936242)
    assert log_fisher([-1.0, -math.inf]) == log_cosine_p(1.0, 2) == -math.inf
    assert log_fisher([-1e6, -1e6]) == pytest.approx(-2e6 + math.log(1 + 2e6))


@given(st.lists(st.floats(1e-12, 1), min_size=1, max_size=30))
def test_fisher_as_scipy_has_it(ps):
    assert math.exp(log_fisher(np.log(ps))) == pytest.approx(stats.combine_pvalues(ps, "fisher").pvalue, rel=1e-6)


@pytest.mark.parametrize(
    ("dimension", "cosine", "p"),
    [(64, 0.1, 0.05741615657), (64, 0.3, 3.359991028e-12), (512, 0.05, 0.003796739788), (512, 0.2, 2.758944392e-43)],
)
def test_ten_equal_cosines(dimension, cosine, p):
    assert log_fisher(log_cosine_p(np.full(10, cosine), dimension)) == pytest.approx(math.log(p), rel=1e-8)


def test_nothing_to_combine():
    with pytest.raises(UserError, match="at least one"):
        log_fisher([])


def test_without_marks_the_white_box_p_values_are_uniform():
    """Carriers are independent of the suspect, whatever its features and weights, and of its aligned weights."""
    rng = torch.Generator().manual_seed(0)
    features, weight = torch.rand(200, 24, generator=rng), torch.randn(10, 16, generator=rng)
    theirs = torch.rand(200, 16, generator=rng)
    single, combined = [], []
    for _ in range(300):
        cosines = carrier_cosines(features, theirs, weight, carriers(10, 24, rng))
        logs = log_cosine_p(cosines, 24)
        single.extend(np.exp(logs))
        combined.append(math.exp(log_fisher(logs)))
    assert stats.kstest(single, "uniform").pvalue > 0.01
    assert stats.kstest(combined, "uniform").pvalue > 0.01


def test_weights_along_the_carriers_are_found_through_a_change_of_basis():
    rng = torch.Generator().manual_seed(1)
    ours = torch.randn(300, 20, generator=rng)
    basis = torch.linalg.qr(torch.randn(20, 20, generator=rng)).Q
    directions = carriers(5, 20, rng)
    cosines = carrier_cosines(ours, ours @ basis, directions @ basis, directions)
    assert cosines == pytest.approx(np.ones(5))
    assert carrier_cosines(ours, ours @ basis, torch.zeros(5, 20), directions) == pytest.approx(np.zeros(5))


def test_dead_features_do_no_harm():
    rng = torch.Generator().manual_seed(2)
    ours = torch.randn(100, 8, generator=rng)
    ours[:, 3] = 0
    found = carrier_cosines(ours, ours, torch.eye(8), torch.eye(8))
    assert found == pytest.approx(np.array([1, 1, 1, 0, 1, 1, 1, 1]))


# Marking


def linear(rng: torch.Generator) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6, bias=False), nn.Linear(6, 3))


def images(count: int, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, 4, 4), generator=rng).float().div_(255)


STD = torch.tensor([0.5])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_linear_extractors_optimum_in_closed_form(optimizer):
    """Without a feature penalty x~ - x = std^2 A'u / (2 lambda), clipped to the box, to within a rounding."""
    rng = torch.Generator().manual_seed(3)
    extractor = nn.Linear(16, 6, bias=False).requires_grad_(False)
    with torch.no_grad():
        extractor.weight.copy_(torch.randn(6, 16, generator=rng) * 0.02)
    x = torch.full((40, 1, 4, 4), 128 / 255)
    u = carriers(40, 6, rng)
    step = 0.002 if optimizer == "adam" else 0.5
    marking = Marking(30, 400, optimizer, step, image_penalty=0.05, feature_penalty=0.0)
    marked = marking(lambda images: extractor(images.flatten(1)), x, u, STD, rng)
    optimum = (0.25 * (u @ extractor.weight) / 0.1).clamp(-30 / 255, 30 / 255)
    assert optimum.abs().max() == pytest.approx(30 / 255), "the box binds for some"
    assert (optimum.abs() < 29 / 255).float().mean() > 0.3, "and not for all"
    assert ((marked - x).flatten(1) - optimum).abs().max() < (2.5 if optimizer == "adam" else 6) / 255


@settings(deadline=None, max_examples=20)
@given(
    st.integers(1, 80),
    st.sampled_from(["adam", "sgd"]),
    st.sampled_from(["none", "shift"]),
    st.integers(1, 23),
    st.integers(0, 2**31),
)
def test_marked_images_are_whole_pixels_within_the_radius(radius, optimizer, augmentation, iterations, seed):
    rng = torch.Generator().manual_seed(seed)
    network = linear(rng).requires_grad_(False)
    x = images(5, rng)
    marking = Marking(radius, iterations, optimizer, augmentation=augmentation)
    marked = marking(penultimate(network), x, carriers(5, 6, rng), STD, rng)
    assert torch.equal((marked * 255).round() / 255, marked)
    assert marked.min() >= 0
    assert marked.max() <= 1
    assert ((marked - x).abs() * 255).max() <= radius + 1e-3


def test_images_are_marked_as_if_each_were_alone():
    rng = torch.Generator().manual_seed(4)
    network = linear(rng).requires_grad_(False)
    x, u = images(6, rng), carriers(6, 6, rng)
    together = Marking(20, 15)(penultimate(network), x, u, STD, rng)
    apart = [Marking(20, 15)(penultimate(network), x[i : i + 1], u[i : i + 1], STD, rng) for i in range(6)]
    assert ((together - torch.cat(apart)).abs() * 255).max() <= 1 + 1e-3, "up to a rounding"


def test_marks_point_along_their_carriers_and_a_feature_penalty_holds_them_back():
    rng = torch.Generator().manual_seed(5)
    network = linear(rng).requires_grad_(False)
    features = penultimate(network)
    x, u = images(50, rng), carriers(50, 6, rng)

    def moved(penalty: float) -> float:
        marked = Marking(20, feature_penalty=penalty)(features, x, u, STD, rng)
        return ((features(marked) - features(x)) * u).sum(1).mean().item()

    assert moved(0.0) > 0.05
    assert moved(0.9) < moved(0.0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"radius": 0}, "<= 255"),
        ({"radius": 256}, "<= 255"),
        ({"radius": 10, "iterations": 0}, "iteration"),
        ({"radius": 10, "optimizer": "lbfgs"}, "adam, sgd"),
        ({"radius": 10, "augmentation": "flip"}, "none, shift"),
        ({"radius": 10, "step": 0.0}, "step"),
        ({"radius": 10, "image_penalty": -1.0}, "image_penalty"),
        ({"radius": 10, "feature_penalty": math.nan}, "feature_penalty"),
    ],
)
def test_impossible_markings(options, complaint):
    with pytest.raises(UserError, match=complaint):
        Marking(**options)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.floats(0, 1), st.integers(0, 9))
def test_a_stratified_choice_takes_each_class_in_proportion(labels, share, seed):
    y = torch.tensor(labels)
    count = round(share * len(y))
    chosen = stratified(y, count, torch.Generator().manual_seed(seed))
    assert len(chosen) == count == len(set(chosen.tolist()))
    assert torch.equal(chosen, chosen.sort().values)
    for label in set(labels):
        exact = labels.count(label) * count / len(labels)
        assert abs((y[chosen] == label).sum().item() - exact) < 1


def test_carriers_are_unit_vectors_of_the_seed():
    one, again = (carriers(10, 33, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, again)
    assert torch.linalg.vector_norm(one, dim=1) == pytest.approx(torch.ones(10))


def test_psnr_as_its_definition_has_it():
    x = torch.zeros(2, 1, 4, 4)
    assert psnr(x, x + 10 / 255) == pytest.approx(20 * math.log10(25.5), abs=1e-5)
    assert psnr(x, x) == math.inf


def test_features_are_what_the_classifier_sees():
    rng = torch.Generator().manual_seed(8)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3))
    x = images(4, rng)
    features = penultimate(network)(x)
    assert torch.equal(classifier(network)(features), network(x))
    assert not network[3]._forward_pre_hooks
    with pytest.raises(UserError, match="linear layer"):
        penultimate(nn.Flatten())
