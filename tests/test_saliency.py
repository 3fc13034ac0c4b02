"""Saliency maps and how good they are: oracles, parity with Captum, and traps."""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional

from guardclash.data.loading import data_folder
from guardclash.errors import UserError
from guardclash.numerics import map_quality, saliency
from guardclash.numerics.map_quality import (
    area,
    incompleteness,
    max_sensitivity,
    nearby,
    ordered,
    rank_correlation,
    strength,
    taken_away,
)
from guardclash.numerics.saliency import Saliency, grad_cam, gradient, integrated_gradients, last_convolution
from guardclash.numerics.similarity import ssim
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.train import train

Y = torch.zeros(1, dtype=torch.int64)


class Polynomial(nn.Module):
    """F(x) = x1 squared times x2, plus 3 x3: one logit."""

    def __init__(self):
        super().__init__()
        self.three = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, 0] ** 2 * x[:, 1] + self.three * x[:, 2])[:, None]


def kinked() -> nn.Module:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1, -2], [0.5, 1.5]]))
        network[0].bias.copy_(torch.tensor([0.1, -0.4]))
        network[2].weight.copy_(torch.tensor([[1.0, -1.0]]))
    return network


def convolutional(seed: int = 0, channels: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 9, 5),
    ).eval()  # fmt: skip


def inputs(count: int = 7, channels: int = 3) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.rand(count, channels, 10, 10, generator=rng), torch.randint(5, (count,), generator=rng)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Oracles


def test_integrated_gradients_of_a_polynomial():
    x = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    found = integrated_gradients(Polynomial(), x, Y, 10)
    assert found[0].tolist() == pytest.approx([1.33, 0.665, 9.0], abs=1e-12)
    assert integrated_gradients(Polynomial(), x, Y, 2000)[0].tolist() == pytest.approx([4 / 3, 2 / 3, 9], abs=1e-6)


@pytest.mark.parametrize(
    ("steps", "expected", "error"),
    [(8, (-0.1, -0.975), 0.075), (32, (-0.075, -0.91875), 0.00625), (50, (-0.072, -0.942), 0.014)],
)
def test_integrated_gradients_of_a_network_with_kinks(steps, expected, error):
    x = torch.tensor([[0.8, 0.6]], dtype=torch.float64)
    found = integrated_gradients(kinked(), x, Y, steps)
    assert found[0].tolist() == pytest.approx(expected, abs=1e-8)  # its weights are single precision
    assert abs(found.sum().item() + 1) == pytest.approx(error, abs=1e-8)
    assert incompleteness(kinked(), x, Y, found) == pytest.approx(error, abs=1e-8)


def test_integrated_gradients_of_a_network_with_kinks_in_the_limit():
    x = torch.tensor([[0.8, 0.6]], dtype=torch.float64)
    found = integrated_gradients(kinked(), x, Y, 20000)
    assert found[0].tolist() == pytest.approx([-1 / 13, -12 / 13], abs=1e-4)


class Steps(nn.Module):
    """Answers with given probabilities by how many of four pixels are left."""

    def __init__(self, probabilities: list[float]):
        super().__init__()
        self.table = nn.Parameter(torch.tensor(probabilities, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        share = self.table[x.flatten(1).sum(1).round().long()]
        return torch.stack([share, 1 - share], 1).log()


def test_areas_under_known_curves():
    x, order = torch.ones(1, 1, 2, 2), torch.arange(4)[None]
    shares, deleted, _ = taken_away(Steps([0.1, 0.1, 0.3, 0.6, 0.9]), x, Y, order)
    _, _, inserted = taken_away(Steps([0.1, 0.3, 0.8, 0.9, 0.9]), x, Y, order)
    assert shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert deleted[0].tolist() == pytest.approx([0.9, 0.6, 0.3, 0.1, 0.1])
    assert area(shares, deleted).item() == pytest.approx(0.375)
    assert area(shares, inserted).item() == pytest.approx(0.625)


# Captum


@pytest.mark.filterwarnings("ignore:Input Tensor .* did not already require gradients")
def test_maps_are_those_of_captum():
    attr = pytest.importorskip("captum.attr")
    network, (x, y) = convolutional(), inputs()
    theirs = attr.IntegratedGradients(network).attribute(x, target=y, n_steps=32, method="riemann_middle")
    assert torch.allclose(integrated_gradients(network, x, y, 32), theirs, atol=1e-5)
    assert torch.allclose(Saliency("ig")(network, x, y), theirs.sum(1), atol=1e-5)
    theirs = attr.Saliency(network).attribute(x, target=y, abs=False)
    assert torch.allclose(gradient(network, x, y), theirs, atol=1e-6)
    assert torch.allclose(Saliency("gradient")(network, x, y), theirs.sum(1), atol=1e-6)


def test_grad_cam_is_that_of_captum():
    attr = pytest.importorskip("captum.attr")
    network, (x, _) = convolutional(), inputs(30)
    y = torch.arange(30) % 5
    with torch.no_grad():
        network[-1].weight *= 100
    plain = convolutional()
    plain.load_state_dict(network.state_dict())
    plain[5] = nn.ReLU()  # Captum reads a layer's output after the next one has changed it in place
    cam = attr.LayerGradCam(plain, plain[4]).attribute(x, target=y, relu_attributions=True)
    theirs = attr.LayerAttribution.interpolate(cam, (10, 10), interpolate_mode="bilinear")
    ours = Saliency("gradcam")(network, x, y)
    assert torch.allclose(ours, theirs[:, 0], atol=1e-5)
    assert ours.max() > 0.05 and ours.min() == 0


def test_the_error_of_completeness_is_that_of_captum():
    attr = pytest.importorskip("captum.attr")
    network, (x, y) = convolutional(), inputs()
    _, delta = attr.IntegratedGradients(network).attribute(
        x, target=y, n_steps=8, method="riemann_middle", return_convergence_delta=True
    )
    with torch.no_grad():
        rise = (network(x) - network(torch.zeros_like(x))).gather(1, y[:, None])
    expected = (delta.abs().mean() / rise.abs().mean()).item()
    assert incompleteness(network, x, y, Saliency("ig", 8)(network, x, y)) == pytest.approx(expected, rel=1e-3)


def test_max_sensitivity_is_that_of_captum():
    pytest.importorskip("captum")
    from captum.metrics import sensitivity_max

    network, (x, y) = convolutional(channels=1), inputs(channels=1)
    how, moves = Saliency("ig", 4), rng(5)
    moved = [nearby(x, 0.02, moves, None) for _ in range(4)]
    drawn = torch.stack(moved, 1).flatten(0, 1)  # each input's moves side by side, as Captum repeats inputs

    def explain(points: tuple[Tensor], target: Tensor) -> tuple[Tensor]:
        return (how(network, points[0], target),)

    theirs = sensitivity_max(explain, x, perturb_func=lambda _: (drawn,), n_perturb_samples=4, target=y, norm_ord="fro")
    ours = max_sensitivity(how(network, x, y), [how(network, other, y) for other in moved])
    assert torch.allclose(ours, theirs, rtol=1e-4)
    assert ours.min() > 0


# Properties of maps


def test_more_steps_miss_less_of_the_logits():
    network, (x, y) = convolutional(), inputs()
    errors = [incompleteness(network, x, y, Saliency("ig", steps)(network, x, y)) for steps in (2, 16, 128)]
    assert all(more < less for less, more in pairwise(errors))
    assert errors[-1] < 0.01


def test_batches_change_nothing(monkeypatch):
    network, (x, y) = convolutional(), inputs()
    whole = {method: Saliency(method, 8)(network, x, y) for method in saliency.METHODS}
    monkeypatch.setattr(saliency, "BATCH", 3)
    for method, maps in whole.items():
        assert torch.allclose(Saliency(method, 8)(network, x, y), maps, atol=1e-6), method


@pytest.mark.parametrize("method", saliency.METHODS)
def test_a_network_is_read_in_evaluation_mode_and_left_as_it_was(method):
    network, (x, y) = convolutional(), inputs()
    expected = Saliency(method, 4)(network, x, y)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert torch.equal(Saliency(method, 4)(network, x, y), expected)
    assert network.training and all(one.requires_grad and one.grad is None for one in network.parameters())
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())


def test_it_explains_the_label_and_not_the_prediction():
    network, (x, _) = convolutional(), inputs()
    told = network(x).argmax(1)
    other = (told + 1) % 5
    maps = {name: Saliency("ig", 4)(network, x, labels) for name, labels in (("told", told), ("other", other))}
    assert (maps["told"] - maps["other"]).abs().amax((1, 2)).min() > 1e-3


def test_grad_cam_needs_a_convolution():
    with pytest.raises(UserError, match=r"Grad-CAM looks at a convolution"):
        grad_cam(kinked(), torch.rand(2, 2), torch.zeros(2, dtype=torch.int64))
    assert last_convolution(convolutional()).out_channels == 8


def test_options_are_checked():
    with pytest.raises(UserError, match="method"):
        Saliency("lime")
    with pytest.raises(UserError, match="steps"):
        Saliency(steps=0)


# Order


VALUES = arrays(np.float32, (3, 4, 4), elements=st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]))


@settings(max_examples=30, deadline=None)
@given(VALUES)
def test_places_come_in_the_order_of_their_size_whatever_their_sign(values):
    maps = torch.from_numpy(values.copy())
    order = ordered(maps, rng())
    assert torch.equal(order.sort(1).values, torch.arange(16).expand(3, 16)), "each once"
    sizes = maps.flatten(1).abs().gather(1, order)
    assert (sizes.diff(dim=1) <= 0).all()


def test_places_that_say_as_much_come_in_random_order():
    maps = torch.zeros(2000, 3, 3)
    maps[:, 1, 1] = -1
    order = ordered(maps, rng())
    assert (order[:, 0] == 4).all(), "what says most is first"
    means = order[:, 1:].double().mean(0)  # of 0, 1, 2, 3, 5, 6, 7, 8
    assert (means - 4).abs().max() < 0.3, "4 in expectation, standard deviation 0.06"
    assert torch.equal(order, ordered(maps, rng())) and not torch.equal(order, ordered(maps, rng(1)))


def test_deleting_is_inserting_in_the_reversed_order():
    """So a random order has phi_EXP 0 in expectation."""
    network, (x, y) = convolutional(), inputs()
    order = ordered(torch.rand(7, 10, 10, generator=rng()), rng())
    shares, deleted, inserted = taken_away(network, x, y, order)
    _, deleted_back, inserted_back = taken_away(network, x, y, order.flip(1))
    assert torch.allclose(deleted, inserted_back.flip(1)) and torch.allclose(inserted, deleted_back.flip(1))
    score = area(shares, inserted) - area(shares, deleted)
    back = area(shares, inserted_back) - area(shares, deleted_back)
    # The parts of 100 pixels are not all equal, and lie the other way round.
    assert torch.allclose(score, -back, atol=0.02)


def test_curves_start_and_end_with_the_input_and_with_nothing():
    network, (x, y) = convolutional(), inputs()
    shares, deleted, inserted = taken_away(network, x, y, ordered(x.mean(1), rng()))
    with torch.no_grad():
        whole, nothing = (
            functional.softmax(network(images).double(), 1).gather(1, y[:, None])[:, 0]
            for images in (x, torch.zeros_like(x))
        )
    assert shares[0] == 0 and shares[-1] == 1 and len(shares) == map_quality.PARTS + 1
    for curve, first, last in ((deleted, whole, nothing), (inserted, nothing, whole)):
        assert torch.allclose(curve[:, 0], first) and torch.allclose(curve[:, -1], last)


# Likeness


@settings(max_examples=30, deadline=None)
@given(VALUES, VALUES)
def test_rank_correlation_is_that_of_scipy_with_ties(one, other):
    counted = np.ones(one.shape, bool)
    counted[:, 0] = False
    found = rank_correlation(*(torch.from_numpy(values.copy()) for values in (one, other, counted))).numpy()
    for place in range(len(one)):
        a, b = one[place][counted[place]], other[place][counted[place]]
        if len(set(a)) > 1 and len(set(b)) > 1:
            assert found[place] == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
        else:
            assert np.isnan(found[place])


def slow_ssim(x: np.ndarray, y: np.ndarray, side: int) -> float:
    """As Wang et al. (2004) write it, window by window."""
    grid = np.arange(side) - side // 2
    window = np.exp(-(grid[:, None] ** 2 + grid**2) / (2 * 1.5**2))
    window /= window.sum()
    found = []
    for top in range(x.shape[0] - side + 1):
        for left in range(x.shape[1] - side + 1):
            a, b = (one[top : top + side, left : left + side] for one in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            spread = (window * (a - mean_a) ** 2).sum() + (window * (b - mean_b) ** 2).sum()
            light = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            found.append(light * (2 * covariance + 9e-4) / (spread + 9e-4))
    return float(np.mean(found))


@pytest.mark.parametrize(("size", "side"), [(14, 11), (11, 11), (8, 7), (3, 3)])
def test_ssim_is_that_of_its_definition(size, side):
    chance = np.random.default_rng(size)
    x, y = chance.random((2, 4, 1, size, size))
    found = ssim(torch.from_numpy(x), torch.from_numpy(y))
    assert found.tolist() == pytest.approx([slow_ssim(a[0], b[0], side) for a, b in zip(x, y, strict=True)])
    assert ssim(torch.from_numpy(x), torch.from_numpy(x)).tolist() == pytest.approx([1.0] * 4)


def test_strength_is_relative_to_the_strongest_entry():
    maps = torch.tensor([[[1.0, -4.0]], [[0.0, 0.0]]])
    assert strength(maps).tolist() == [[[0.25, 1.0]], [[0.0, 0.0]]]


def test_a_map_of_nothing_has_no_sensitivity():
    maps = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])
    found = max_sensitivity(maps, [maps, maps + torch.tensor([1.0, -0.5]).view(2, 1, 1), maps])
    assert torch.isnan(found[0]) and found[1] == 0.5


def test_images_stay_images_and_categories_stay_where_inputs_move():
    x = torch.tensor([0.0, 1.0, 0.5]).expand(2, 1, 4, 3)
    moved = nearby(x, 0.02, rng(), None)
    assert 0 <= moved.min() and moved.max() <= 1
    assert 0 < (moved - x).abs().max() <= 0.02
    assert (moved[..., 2] != 0.5).all()
    rows = torch.tensor([[-3.0, 2.0, 1.0, 0.0]]).repeat(5, 1)
    moved = nearby(rows, 0.02, rng(), 2)
    assert torch.equal(moved[:, 2:], rows[:, 2:]) and (moved[:, :2] != rows[:, :2]).all()
    assert moved.min() < -2.9, "rows are not cut off"


# Traps, on trained networks


@pytest.fixture(scope="module")
def digits(context):
    """A trained model of digits, one that is not trained, and test images."""
    plan = recipe("digits", "smoke", epochs=4).plan()
    data = context(0).data(plan.judged_by.test).take(slice(64))
    torch.manual_seed(0)
    return context(0).trained(plan).network, plan.model.build().eval(), data.x, data.y


def score(network: nn.Module, x: Tensor, y: Tensor, maps: Tensor) -> float:
    shares, deleted, inserted = taken_away(network, x, y, ordered(maps, rng()))
    return (area(shares, inserted) - area(shares, deleted)).mean().item()


def test_maps_of_a_trained_model_are_worth_something(digits):
    trained, untrained, x, y = digits
    assert score(trained, x, y, Saliency()(trained, x, y)) > 0.2
    assert abs(score(untrained, x, y, Saliency()(untrained, x, y))) < 0.1
    assert abs(score(trained, x, y, torch.zeros(len(x), 8, 8))) < 0.03, "of places in random order"


def likeness(one: Tensor, other: Tensor, counted: Tensor) -> float:
    return rank_correlation(one, other, counted).nanmean().item()


def traps(network: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """How alike maps and noise times the image are: of sizes over all pixels; with signs over those above 0."""
    maps = Saliency()(network, x, y)
    noise = torch.randn(maps.shape, generator=rng()) * x[:, 0]
    everywhere = torch.ones_like(maps, dtype=torch.bool)
    return likeness(maps.abs(), noise.abs(), everywhere), likeness(maps, noise, x[:, 0] > 0)


def test_over_all_pixels_any_maps_are_alike(digits):
    trained, _, x, y = digits
    whole, signed = traps(trained, x, y)
    assert whole > 0.6
    assert abs(signed) < 0.05


@pytest.mark.slow
def test_over_all_pixels_of_mnist_any_maps_are_the_same():
    """Spearman of 0.99 with noise: the mistake that signs and pixels above 0 are for."""
    if not os.environ.get("GUARDCLASH_DATA") or not (data_folder() / "MNIST" / "raw").exists():
        pytest.skip("GUARDCLASH_DATA does not point at a folder with MNIST")
    plan = recipe("mnist", "reduced", examples=1000, epochs=2, model="cnn4-small").plan()
    here = RunContext(0, data_folder())
    data = here.data(plan.judged_by.test).take(slice(100))
    whole, signed = traps(train(plan, here).network, data.x, data.y)
    assert whole > 0.98
    assert abs(signed) < 0.05
