"""Fixed-point arithmetic in numbers: truncation, approximations, and gradients that pass them."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from guardclash.errors import UserError
from guardclash.numerics.approximations import CrypTen, Exact, SecureML, functions_of, inverse_root_error, told_as
from guardclash.numerics.clipping import clipped_sum
from guardclash.numerics.clipping_checks import known_of
from guardclash.numerics.fixedpoint import (
    BANK,
    TRUNCATIONS,
    added_length,
    failure_probability,
    largest_product,
    product,
    rounded,
    straight,
    uniform,
)
from guardclash.numerics.inexact import exactly, inexactly, is_exact, step_chance
from guardclash.plan.fixedpoint import (
    ApproximatedRoots,
    ApproximatedSoftmax,
    FixedPoint,
    PolynomialActivations,
    RoundedLayers,
)
from guardclash.plan.models import CNN


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Truncation


@pytest.mark.parametrize(
    ("bits", "toward_zero", "floor", "nearest", "up"),
    [
        (13, -10649, -10650, -10650, 0.4),
        (16, -85196, -85197, -85197, 0.2),
        (20, -1363148, -1363149, -1363149, 0.2),
        (26, -87241523, -87241524, -87241523, 0.8),
    ],
)
def test_the_units_of_a_number(bits, toward_zero, floor, nearest, up):
    found = {how: rounded(f64(-1.3), bits, how).item() * 2**bits for how in ("toward_zero", "floor", "nearest")}
    assert found == {"toward_zero": toward_zero, "floor": floor, "nearest": nearest}
    drawn = rounded(torch.full((BANK,), -1.3, dtype=torch.float64), bits, "probabilistic", rng()) * 2**bits
    assert set(drawn.tolist()) == {floor, floor + 1}
    assert (drawn > floor).double().mean().item() == pytest.approx(up, abs=2 / BANK)


@pytest.mark.parametrize(
    ("how", "units", "value"),
    [("floor", -4177, -0.509888), ("nearest", -4177, -0.509888), ("toward_zero", -4176, -0.509766)],
)
def test_a_product_of_encodings(how, units, value):
    found = product(f64(1.7), f64(-0.3), 13, how).item()
    assert found * 2**13 == units
    assert found == pytest.approx(value, abs=1e-6)
    drawn = product(torch.full((1000,), 1.7).double(), f64(-0.3), 13, "probabilistic", rng()) * 2**13
    assert set(drawn.tolist()) == {-4177, -4176}


floats = st.floats(-1000, 1000, width=32)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(floats, min_size=1, max_size=30),
    st.integers(1, 20),
    st.sampled_from(TRUNCATIONS),
    st.sampled_from((torch.float32, torch.float64)),
    st.integers(0, 99),
)
def test_rounding_stays_within_a_unit_and_what_is_on_the_grid_stays(values, bits, how, dtype, seed):
    x = torch.tensor(values, dtype=dtype)
    once = rounded(x, bits, how, rng(seed))
    assert torch.equal(once * 2**bits, (once * 2**bits).round())
    assert ((once - x).abs() <= 2**-bits).all()  # a number just below 0 is a whole unit from its floor, as floats tell
    assert how != "nearest" or ((once - x).abs() <= 2**-bits / 2).all()
    assert how != "toward_zero" or (once.abs() <= x.abs()).all()
    assert torch.equal(rounded(once, bits, how, rng(seed + 1)), once)


def test_what_is_on_the_grid_stays_for_every_number_that_is_drawn():
    """Adding the number before the floor would move whole numbers up where the sum itself rounds up."""
    grid = torch.arange(BANK, dtype=torch.float32) - BANK / 2
    for seed in range(2):
        assert torch.equal(rounded(grid * 2**-13, 13, "probabilistic", rng(seed)), grid * 2**-13)


@pytest.mark.parametrize("bits", [24, 26, 31])
def test_floats_have_no_more_bits_than_that(bits):
    """From magnitude 1/2 on: a float of 24 bits has none left to lose."""
    x = torch.rand(10_000, generator=rng()) / 2 + 0.5
    for how in TRUNCATIONS:
        assert torch.equal(rounded(x, bits, how, rng()), x)
        assert ((rounded(x - 0.5, bits, how, rng()) - (x - 0.5)).abs() < 2**-bits).all()


@pytest.mark.parametrize("share", [0.03, 0.25, 0.5, 0.9])
def test_probabilistic_rounding_is_unbiased_element_by_element(share):
    """Over the places of the list that the numbers start from, for an element anywhere."""
    x = torch.full((3, 7), 5 + share)
    total = sum(rounded(x, 0, "probabilistic", chance) for chance in [rng()] for _ in range(1200)) / 1200
    slack = 4.5 * math.sqrt(share * (1 - share) / 1200)
    assert ((total - 5 - share).abs() < slack).all()


def test_numbers_by_chance_lie_in_memory_as_the_tensor_and_no_two_calls_are_alike():
    chance = rng()
    images = torch.empty(4, 3, 5, 5).to(memory_format=torch.channels_last)
    first, second = uniform(images, chance), uniform(images, chance)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(first, second)
    assert first.unique().numel() == first.numel()
    many = uniform(torch.empty(2 * BANK + 5), chance)
    assert many.shape == (2 * BANK + 5,)
    assert (many > 0).all() and (many < 1).all()
    assert many.double().mean().item() == pytest.approx(0.5, abs=1e-5)
    assert rounded(images.copy_(torch.rand(4, 3, 5, 5)), 4, "probabilistic", chance).stride() == images.stride()


def test_probabilistic_rounding_needs_chance_and_others_a_name():
    with pytest.raises(UserError, match="chance"):
        rounded(f64(1.0), 3, "probabilistic")
    with pytest.raises(UserError, match="up"):
        rounded(f64(1.0), 3, "up")


def shares_truncated(value: int, first: int, bits: int, ring: int) -> int:
    """What two parties get who cut their shares of a value alone (Mohassel and Zhang 2017), in whole numbers."""
    size = 2**ring
    second = (value - first) % size
    found = ((first >> bits) + size - ((size - second) >> bits)) % size
    return found - size if found >= size // 2 else found


def test_it_is_what_parties_get_who_truncate_their_shares_alone():
    """Parity with shares of whole numbers in a ring of 64 bits: down, or up with the probability of what is lost."""
    chance = random.Random(0)
    for value in (-1.3, 0.7001, 2.00003, -0.25):
        raw = round(value * 2**26)
        exact = raw / 2**13
        found = [shares_truncated(raw, chance.randrange(2**64), 13, 64) for _ in range(4000)]
        assert set(found) <= {math.floor(exact), math.floor(exact) + 1}
        up = sum(one > math.floor(exact) for one in found) / 4000
        ours = rounded(torch.full((4000,), exact, dtype=torch.float64), 0, "probabilistic", rng()).mean().item()
        slack = 4.5 * math.sqrt(0.25 / 4000)
        assert up == pytest.approx(exact - math.floor(exact), abs=slack)
        assert ours == pytest.approx(exact, abs=slack)


def test_how_often_a_truncation_fails():
    found = {bits: failure_probability(bits) for bits in (31, 37, 45, 57)}
    assert found == pytest.approx({31: 2.328306e-10, 37: 1.490116e-8, 45: 3.814697e-6, 57: 0.015625}, rel=1e-6)
    # Counted over all shares in a ring of 16 bits.
    value, right = 2**11 - 1, (2**11 - 1) >> 4
    wrong = sum(abs(shares_truncated(value, first, 4, 16) - right) > 1 for first in range(2**16)) / 2**16
    assert failure_probability(11, 16) / 4 < wrong <= failure_probability(11, 16)
    assert (largest_product(16), largest_product(26)) == (2**31, 2**11)


@pytest.mark.parametrize(
    ("bits", "nearest", "probabilistic"),
    [(16, 0.003529, 0.007059), (13, 0.028235, 0.056470), (10, 0.225880, 0.451759), (8, 0.903518, 1.807036)],
)
def test_what_rounding_adds_to_a_sensitivity(bits, nearest, probabilistic):
    assert added_length(214_000, bits, "nearest") == pytest.approx(nearest, abs=1e-6)
    assert added_length(214_000, bits, "probabilistic") == pytest.approx(probabilistic, abs=1e-6)
    assert added_length(214_000, bits, "toward_zero") == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 10), st.sampled_from(TRUNCATIONS), st.integers(0, 999))
def test_no_vector_gets_longer_than_that(size, bits, how, seed):
    x = torch.randn(size, generator=rng(seed), dtype=torch.float64) * 2.0 ** -(seed % 12)
    kept = rounded(x, bits, how, rng(seed))
    assert kept.norm() <= x.norm() + added_length(size, bits, how) + 1e-12


# Approximations


@pytest.mark.parametrize(
    ("x", "found"), [(-10, 3.715e-5), (-4, 0.01775), (-1, 0.36716), (1, 2.7130), (4, 52.94), (8, 2637)]
)
def test_exp(x, found):
    assert CrypTen().exp(f64(x)).item() == pytest.approx(found, rel=3e-4)


@pytest.mark.parametrize(("x", "found"), [(1, 2.712051), (-1, 0.366547), (-4, 0.017731), (4, 52.920639)])
def test_exp_of_products_that_are_cut_back(x, found):
    assert CrypTen(16, "floor").exp(f64(x)).item() == pytest.approx(found, abs=5e-7)


def test_reciprocal():
    x = f64(0.1, 0.5, 1, 3, 10, 200)
    assert (CrypTen().reciprocal(x) * x - 1).abs().max() < 0.01
    assert CrypTen().reciprocal(f64(1000)).item() < -1e100


@pytest.mark.parametrize(
    ("x", "found"),
    [(0.01, 6.05), (0.1, 3.147), (1, 0.9989), (10, 0.3154), (100, 0.1), (150, 0.0815), (200, 0.0156), (250, -0.063)],
)
def test_inverse_root(x, found):
    assert CrypTen().inverse_root(f64(x)).item() == pytest.approx(found, rel=0.01)
    wrong = inverse_root_error(f64(x)).item() > 0.01
    assert wrong == (x in (0.01, 200, 250))


def test_softmax():
    logits = f64(1, 2, 3, -1, 0.5, 0, 0, 0, 0, 8)
    found = CrypTen(16, "floor").softmax(logits)
    assert found[-1].item() == pytest.approx(0.98889, abs=5e-6)
    assert found.min().item() == pytest.approx(7.6e-5, abs=1e-6)
    assert (CrypTen().softmax(logits) - logits.softmax(0)).abs().max() < 1e-3
    assert SecureML().softmax(f64(2, 1, 0.1, -1)).tolist() == pytest.approx([0.645161, 0.322581, 0.032258, 0], abs=1e-6)
    assert SecureML().softmax(f64(-2, -1)).tolist() == [0.5, 0.5]
    exact = Exact().softmax(f64(2, 1, 0.1, -1))
    assert exact.tolist() == pytest.approx([0.638066, 0.234731, 0.095435, 0.031767], abs=1e-6)


def test_sigmoid():
    x = torch.linspace(-8, 8, 65, dtype=torch.float64)
    assert (CrypTen().sigmoid(x) - x.sigmoid()).abs().max() < 2e-3
    assert SecureML().sigmoid(f64(-1, -0.25, 0, 0.25, 1)).tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_a_name_stands_for_functions():
    assert functions_of("crypten", 13) == CrypTen(13)
    assert functions_of("secureml", 13) == SecureML()
    assert functions_of("exact", 13) == Exact()
    with pytest.raises(UserError):
        functions_of("falcon", 13)


@pytest.mark.parametrize("functions", [CrypTen(), CrypTen(16), SecureML(), Exact()])
def test_logits_whose_softmax_is_the_approximated_one(functions):
    logits = 4 * torch.randn(50, 10, generator=rng(), dtype=torch.float64)
    wanted = functions.softmax(logits)
    found = told_as(logits, functions).softmax(1)
    assert torch.allclose(found, wanted / wanted.sum(1, keepdim=True), atol=1e-8)
    several = told_as(logits, functions, several=True).sigmoid()
    assert torch.allclose(several, functions.sigmoid(logits).clamp(1e-12, 1 - 1e-7), atol=1e-8)
    if functions == Exact():
        assert torch.allclose(told_as(logits, functions), logits)


# Layers


def small(norm: str = "group") -> nn.Module:
    torch.random.set_rng_state(rng(1).get_state())
    return CNN((1, 8, 8), 10, (0.5,), (0.5,), widths=(4, 8), hidden=16, kernel=3, dropout=0.0, norm=norm).build()


def on_grid(x: torch.Tensor, bits: int) -> bool:
    return bool(torch.equal(x * 2**bits, (x * 2**bits).round()))


def images(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    chance = rng(2)
    return torch.rand(count, 1, 8, 8, generator=chance), torch.randint(10, (count,), generator=chance)


def test_gradients_pass_rounding_and_are_rounded_on_the_way():
    x = torch.randn(20, generator=rng()).requires_grad_()
    weights = torch.randn(20, generator=rng(1))
    (found,) = torch.autograd.grad((straight(x, 3, "nearest", None) * weights).sum(), x)
    assert torch.equal(found, weights)
    (found,) = torch.autograd.grad((straight(x, 3, "nearest", "floor") * weights).sum(), x)
    assert torch.equal(found, rounded(weights, 3, "floor"))
    y = x.detach().requires_grad_()
    (first,) = torch.autograd.grad(straight(y, 3, "nearest", "nearest").square().sum(), y, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), y)
    assert torch.equal(second, torch.full_like(y, 2.0)), "a gradient of the gradient passes too"


def copying(bits: int, truncation: str) -> nn.Module:
    """A linear layer that gives what it is given, and rounds."""
    layer = nn.Linear(4, 4, bias=False)
    layer.weight.data.copy_(torch.eye(4))
    return RoundedLayers(bits, truncation)(nn.Sequential(layer))


def test_layers_round_outside_of_a_step_without_chance_and_gradients_pass():
    network = RoundedLayers(6)(small()).eval()
    x, _ = images()
    assert on_grid(network(x), 6)
    assert torch.equal(network(x), network(x))
    with exactly():
        assert is_exact() and not on_grid(network(x), 6)
    for truncation, wanted in (("probabilistic", "nearest"), ("floor", "floor")):
        layer, point = copying(6, truncation), torch.randn(5, 4, generator=rng()).requires_grad_()
        assert torch.equal(layer(point), rounded(rounded(point, 6, "nearest"), 6, wanted))
        weights = torch.randn(5, 4, generator=rng(1))
        (gradient,) = torch.autograd.grad((layer(point) * weights).sum(), point)
        assert torch.equal(gradient, weights), "an attack finds what rounding would hide"


def test_in_a_step_layers_round_by_chance_both_ways():
    network = RoundedLayers(6)(small())
    x, _ = images()
    with inexactly(rng(3)):
        assert step_chance() is not None
        answers = [network(x) for _ in range(2)]
    assert step_chance() is None
    assert on_grid(answers[0], 6) and not torch.equal(*answers)
    with inexactly(rng(3)):
        assert torch.equal(network(x), answers[0]), "equal chance, equal bits"
    layer, point = copying(6, "probabilistic"), torch.randn(5, 4, generator=rng()).requires_grad_()
    weights = torch.randn(5, 4, generator=rng(1))
    with inexactly(rng()):
        answer = layer(point)
    (gradient,) = torch.autograd.grad((answer * weights).sum(), point)
    assert on_grid(gradient, 6) and ((gradient - weights).abs() < 2**-6).all()


def test_rounding_keeps_names_types_and_buffers():
    plain, changed = small("batch"), RoundedLayers(6)(ApproximatedSoftmax()(small("batch")))
    assert [name for name, _ in plain.named_modules()] == [name for name, _ in changed.named_modules()]
    assert plain.state_dict().keys() == changed.state_dict().keys()
    assert [type(one) for one in plain.modules()] == [type(one) for one in changed.modules()]


@pytest.mark.parametrize("softmax", ["crypten", "secureml"])
def test_in_a_step_cross_entropy_has_the_gradient_of_the_approximated_softmax(softmax):
    network = ApproximatedSoftmax(softmax, 16)(nn.Identity())
    logits = (3 * torch.randn(7, 10, generator=rng(), dtype=torch.float64)).requires_grad_()
    p = functions_of(softmax, 16).softmax(logits.detach())
    p = p / p.sum(1, keepdim=True)
    classes = torch.arange(7)
    vectors = torch.full((7, 10), -0.05, dtype=torch.float64)
    vectors[torch.arange(7), classes] = 1.45
    for labels, hot in ((classes, nn.functional.one_hot(classes, 10)), (vectors, vectors)):
        with inexactly(rng()):
            loss = nn.functional.cross_entropy(network(logits), labels, reduction="sum")
        (found,) = torch.autograd.grad(loss, logits)
        assert torch.allclose(found, p * hot.sum(1, keepdim=True) - hot, atol=1e-9)
    assert torch.equal(network(logits), logits), "the finished model's logits are its own"


@pytest.mark.parametrize("kind", ["batch", "batch in evaluation", "group", "layer"])
def test_norms_with_an_approximated_root(kind):
    torch.random.set_rng_state(rng(1).get_state())
    norm = {"batch": nn.BatchNorm2d(4), "group": nn.GroupNorm(2, 4), "layer": nn.LayerNorm([4, 3, 3])}[kind.split()[0]]
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    norm.train("evaluation" not in kind)
    x = torch.tensor([0.1, 1.0, 15.0, 40.0]).view(1, 4, 1, 1) * torch.randn(5, 4, 3, 3, generator=rng())
    if kind == "batch in evaluation":
        norm.running_var.copy_(torch.tensor([0.01, 1.0, 225.0, 250.0]))
    ApproximatedRoots(31)(network := nn.Sequential(norm))
    found = network(x)
    if kind == "batch":
        axes, shape = (0, 2, 3), (1, 4, 1, 1)
        mean, var = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
    elif kind == "batch in evaluation":
        shape = (1, 4, 1, 1)
        mean, var = norm.running_mean.view(shape), norm.running_var.view(shape)
    elif kind == "group":
        shape, apart = (1, 4, 1, 1), x.view(5, 2, -1)
        mean, var = (
            one.repeat_interleave(2, 1).view(5, 4, 1, 1) for one in (apart.mean(2), apart.var(2, unbiased=False))
        )
    else:
        shape = (1, 4, 3, 3)
        mean, var = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), unbiased=False, keepdim=True)
    root = CrypTen(31).inverse_root(var + norm.eps)
    wanted = (x - mean) * root * norm.weight.view(shape) + norm.bias.view(shape)
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_polynomial_activations_compare_nothing():
    network = PolynomialActivations()(small())
    kinds = {type(one).__name__ for one in network.modules()}
    assert {"Polynomial", "AvgPool2d"} <= kinds and not {"ReLU", "MaxPool2d"} & kinds
    activation = next(one for one in network.modules() if type(one).__name__ == "Polynomial")
    assert activation(f64(-2, 0, 2)).tolist() == [-0.25, 0.25, 1.75]
    with pytest.raises(UserError, match="average"):
        PolynomialActivations()(nn.Sequential(nn.MaxPool2d(2, dilation=2)))


# Bounded gradients of single examples


def one_by_one(network, x, y, clip, store=lambda gradient: gradient):
    """The clipped sum by autograd alone, an example at a time."""
    total = {name: torch.zeros_like(one) for name, one in network.named_parameters()}
    for image, label in zip(x, y, strict=True):
        loss = nn.functional.cross_entropy(network(image[None]), label[None])
        found = torch.autograd.grad(loss, list(network.parameters()))
        norm = torch.stack([one.norm() for one in found]).norm()
        for name, one in zip(total, found, strict=True):
            total[name] += store(one * min(1, clip / norm))
    return total


def test_clipped_gradients_of_layers_that_round():
    """Rounding must not be taken for examples that are mixed, and what is clipped is the rounded gradient."""
    # In double precision sums of another order round alike; in single precision some fall on the other side of a half.
    network, wanted_network = (RoundedLayers(10, "nearest")(small()).double() for _ in range(2))
    x, y = images(12)
    x = x.double()
    for clip in (0.3, 1e9):
        with inexactly(rng()):
            found = clipped_sum(network, lambda: nn.functional.cross_entropy(network(x), y, reduction="none"), clip)
            wanted = one_by_one(wanted_network, x, y, clip)
        assert all(torch.allclose(found.total[name], wanted[name], atol=1e-4) for name in wanted)
        assert (found.norms > 0).all()


def test_clipped_gradients_by_chance_are_bounded():
    network = RoundedLayers(7, "probabilistic")(small())
    x, y = images(12)
    with inexactly(rng()):
        for _ in range(3):
            found = clipped_sum(network, lambda: nn.functional.cross_entropy(network(x), y, reduction="none"), 0.1)
    assert not known_of(network).whole, "no layer was taken for one that mixes examples"
    length = torch.stack([one.norm() for one in found.total.values()]).norm()
    assert length <= 12 * 0.1 * (1 + 1e-5)


class Centred(nn.Module):
    """A network that takes the mean of the batch from its answers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small()

    def forward(self, x):
        answers = self.inner(x)
        return answers - answers.mean(0)


def test_a_network_that_mixes_examples_is_still_refused():
    network = RoundedLayers(8)(Centred())
    x, y = images(12)
    with inexactly(rng()), pytest.raises(UserError, match="example"):
        clipped_sum(network, lambda: nn.functional.cross_entropy(network(x), y, reduction="none"), 1.0)


class Scaled(nn.Module):
    """A layer and a parameter of its own around it, so that it runs again for each example."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.inner = nn.Parameter(torch.ones(64)), nn.Linear(64, 10)

    def forward(self, x):
        return self.inner(x.flatten(1) * self.scale)


def test_layers_that_run_again_draw_nothing(monkeypatch):
    """They are vectorised, which draws by chance would not allow."""
    monkeypatch.delattr("guardclash.numerics.clipping_again.by_loop")
    torch.random.set_rng_state(rng(1).get_state())
    network = RoundedLayers(8)(Scaled())
    x, y = images(12)
    with inexactly(rng()):
        found = clipped_sum(network, lambda: nn.functional.cross_entropy(network(x), y, reduction="none"), 1.0)
    with exactly():
        wanted = one_by_one(network, x, y, 1.0)
    assert all(torch.allclose(found.total[name], wanted[name], atol=0.05) for name in wanted)


def test_each_examples_gradient_is_rounded_before_they_are_added_up():
    network, x_y = small(), images(9)
    x, y = x_y
    kept = FixedPoint(8, "nearest", examples=True)

    def store(gradient):
        return kept.store(gradient, rng())

    found = clipped_sum(network, lambda: nn.functional.cross_entropy(network(x), y, reduction="none"), 1.0, store)
    wanted = one_by_one(network, x, y, 1.0, store)
    for name, total in found.total.items():
        assert on_grid(total, 8)
        # A gradient on the border between two units may fall on either side.
        assert ((total - wanted[name]).abs() > 1e-6).double().mean() < 0.01
