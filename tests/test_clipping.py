"""The clipped sum of per-example gradients against Opacus, against one example at a time, and against misuse."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus import GradSampleModule
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from guardclash.errors import UserError
from guardclash.numerics.clipping import Clipped, clipped_sum


class Residual(nn.Module):
    """Two convolutions with group norms and a shortcut without parameters (option A)."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(min(32, after), after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(min(32, after), after)
        self.stride, self.extra = stride, after - before

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(images)))))
        short = images[:, :, :: self.stride, :: self.stride]
        return functional.relu(hidden + functional.pad(short, (0, 0, 0, 0, self.extra // 2, self.extra // 2)))


def resnet20() -> nn.Sequential:
    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    pairs = pairwise(widths)
    blocks = [Residual(before, after, after // before) for before, after in pairs]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.GroupNorm(16, 16), nn.ReLU(), *blocks, *head)


def cnn4() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(), nn.GroupNorm(32, 32)),
        *(nn.Conv2d(32, 64, 5, padding=2), nn.MaxPool2d(2), nn.ReLU(), nn.GroupNorm(32, 64)),
        *(nn.Flatten(), nn.Linear(3136, 512), nn.GroupNorm(32, 512), nn.ReLU(), nn.Linear(512, 10)),
    )


def parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def one_by_one(network: nn.Module, loss: Callable[[slice], Tensor], count: int, clip: float) -> Clipped:
    """The definition: the gradient of each example alone, clipped and added."""
    wanted = parameters(network)
    total = {name: torch.zeros_like(p) for name, p in wanted.items()}
    norms = []
    for index in range(count):
        loss_of_one = loss(slice(index, index + 1)).sum()
        found = torch.autograd.grad(loss_of_one, list(wanted.values()), allow_unused=True)
        gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(wanted.values(), found, strict=True)]
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        for sum_, gradient in zip(total.values(), gradients, strict=True):
            sum_ += gradient * min(1.0, clip / float(norm) if norm else 1.0)
        norms.append(norm)
    return Clipped(total, torch.stack(norms) if norms else torch.zeros(0))


def assert_same(found: Clipped, wanted: Clipped, tolerance: float = 1e-9) -> None:
    assert found.total.keys() == wanted.total.keys()
    torch.testing.assert_close(found.norms, wanted.norms, rtol=tolerance, atol=tolerance * 1e-2)
    scale = max((float(total.norm()) for total in wanted.total.values()), default=0.0)
    for name, total in wanted.total.items():
        assert found.total[name].shape == total.shape and found.total[name].dtype == total.dtype
        difference = float((found.total[name] - total).norm())
        assert difference <= tolerance * max(float(total.norm()), 1e-3 * scale, 1e-3), (name, difference, scale)


def check(network: nn.Module, *inputs: Tensor, clip: float | None = None, tolerance: float = 1e-9) -> Clipped:
    """Compares with one example at a time, for a loss that depends on all outputs in an irregular way."""

    def loss(part: slice) -> Tensor:
        output = network(*(tensor[part] for tensor in inputs)).flatten(1)
        weights = torch.cos(torch.arange(output.shape[1], dtype=output.dtype, device=output.device))
        return (output.tanh() * weights).sum(1) + 0.1 * output.square().mean(1)

    count = len(inputs[0])
    if clip is None:  # between the smallest and the largest norm, so that both cases occur
        norms = one_by_one(network, loss, count, 1.0).norms
        clip = max(float(norms.median()) * 1.001, 1e-3)
    found = clipped_sum(network, lambda: loss(slice(None)), clip)
    assert_same(found, one_by_one(network, loss, count, clip), tolerance)
    return found


def opacus_clipped(network: nn.Module, images: Tensor, labels: Tensor, clip: float) -> Clipped:
    hooked = GradSampleModule(network, loss_reduction="sum")
    functional.cross_entropy(hooked(images), labels, reduction="sum").backward()
    samples = {name: p.grad_sample for name, p in network.named_parameters()}
    norms = torch.stack([sample.flatten(1).norm(dim=1) for sample in samples.values()]).norm(dim=0)
    factors = (clip / norms).clamp(max=1)
    total = {name: torch.einsum("b,b...->...", factors, sample) for name, sample in samples.items()}
    hooked.remove_hooks()
    for p in network.parameters():
        p.grad = p.grad_sample = None
    return Clipped(total, norms)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.filterwarnings("ignore:Full backward hook")  # Opacus
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("build", "shape"), [(cnn4, (1, 28, 28)), (resnet20, (3, 32, 32))])
def test_agrees_with_opacus(build: Callable[[], nn.Module], shape: tuple[int, ...], dtype: torch.dtype) -> None:
    # Random images: their convolutions have no ties under max pooling.
    network, images, labels = build().to(dtype), torch.rand(6, *shape, dtype=dtype), torch.arange(6)
    clip = float(opacus_clipped(network, images, labels, 1.0).norms.median())
    found = clipped_sum(network, lambda: functional.cross_entropy(network(images), labels, reduction="none"), clip)
    assert 0 < int((found.norms > clip).sum()) < 6  # both cases occur
    assert_same(found, opacus_clipped(network, images, labels, clip), 1e-9 if dtype == torch.float64 else 1e-4)


@pytest.mark.filterwarnings("ignore:Full backward hook")  # Opacus
@pytest.mark.parametrize(("build", "shape"), [(cnn4, (1, 28, 28)), (resnet20, (3, 32, 32))])
def test_channels_last_changes_nothing(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    network, images, labels = build().double(), torch.rand(4, *shape).double(), torch.arange(4)
    wanted = opacus_clipped(network, images, labels, 1.0)
    network, images = (x.to(memory_format=torch.channels_last) for x in (network, images))
    found = clipped_sum(network, lambda: functional.cross_entropy(network(images), labels, reduction="none"), 1.0)
    assert_same(found, wanted)
    for name, p in network.named_parameters():
        assert found.total[name].stride() == p.stride()


def test_oracle() -> None:
    network, inputs = nn.Linear(2, 1, bias=False), torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, -2.0]])
    found = clipped_sum(network, lambda: network(inputs)[:, 0], 1.0)
    torch.testing.assert_close(found.norms, torch.tensor([5.0, 0.5, 2.0]))
    torch.testing.assert_close(found.total["weight"], torch.tensor([[0.9, 0.2]]))


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Sequential, tuple[int, ...]]:
    """A network of convolutions, norms and linear layers in any order, and the shape of one input."""
    axes = draw(st.integers(1, 3))
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    channels, sizes = draw(st.sampled_from([1, 2, 3, 8])), [draw(st.integers(5, 9)) for _ in range(axes)]
    shape = (channels, *sizes)
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(0, 3))):
        groups = draw(st.sampled_from([g for g in (1, 2, 4) if channels % g == 0]))
        after = groups * draw(st.integers(1, 4)) * draw(st.sampled_from([1, 4]))
        kernel = [draw(st.integers(1, 3)) for _ in sizes]
        dilation = [draw(st.integers(1, 2)) for _ in sizes]
        same = draw(st.booleans())
        stride = [1 if same else draw(st.integers(1, 3)) for _ in sizes]
        padding = draw(st.sampled_from(["same", "valid"])) if same else [draw(st.integers(0, 2)) for _ in sizes]
        if padding == "valid" or not same:
            pads = [0 for _ in sizes] if same else padding
            reach = [n + 2 * p - d * (k - 1) - 1 for n, p, d, k in zip(sizes, pads, dilation, kernel, strict=True)]
            if min(reach) < 0:
                continue
            sizes = [r // s + 1 for r, s in zip(reach, stride, strict=True)]
        bias = draw(st.booleans())
        layers.append(conv(channels, after, kernel, stride, padding, dilation, groups, bias))
        channels = after
        # Norms of one or two numbers are left out: their outputs hardly depend on them, so gradients are rounding.
        if draw(st.booleans()) and math.prod(sizes) > 2:
            layers.append(nn.GroupNorm(draw(st.sampled_from([g for g in (1, 2, 4) if channels % g == 0])), channels))
        if draw(st.booleans()) and sizes[-1] > 2:
            layers.append(nn.LayerNorm(sizes[-draw(st.integers(1, axes)) :], bias=draw(st.booleans())))
        layers.append(nn.ReLU(inplace=draw(st.booleans())) if draw(st.booleans()) else nn.Tanh())
    if draw(st.booleans()):
        layers.append(nn.Flatten(start_dim=draw(st.integers(1, 2))))
    width = nn.Sequential(*layers)(torch.zeros(2, *shape)).shape[-1]
    layers.append(nn.Linear(width, 6, bias=draw(st.booleans())))
    for _ in range(draw(st.integers(0, 2))):
        layers += [nn.ReLU(inplace=True), nn.Linear(6, 6)]
    if draw(st.booleans()):
        layers += [nn.Tanh(), layers[-1]] if layers[-1].in_features == 6 else []  # type: ignore[union-attr]
    return nn.Sequential(*layers).double(), shape


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@settings(deadline=None, max_examples=60)
@given(networks(), st.integers(1, 5), st.booleans())
def test_random_networks(drawn: tuple[nn.Sequential, tuple[int, ...]], count: int, last: bool) -> None:
    network, shape = drawn
    torch.manual_seed(1)
    inputs = torch.randn(count, *shape, dtype=torch.float64)
    if last and inputs.dim() == 4:
        network, inputs = (x.to(memory_format=torch.channels_last) for x in (network, inputs))
    check(network, inputs)


@pytest.mark.parametrize("count", [1, 3, 70])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (2, "same")])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_grouped_way_of_narrow_convolutions(count: int, groups: int, kernel: int, padding: int | str) -> None:
    conv = nn.Conv2d(16, 16, kernel, padding=padding, groups=groups)
    check(nn.Sequential(conv, nn.Flatten(), nn.Linear(16 * 81, 3)).double(), torch.randn(count, 16, 9, 9).double())


def test_many_chunks_of_a_wide_convolution() -> None:
    network = nn.Sequential(nn.Conv2d(32, 40, 5, padding=2), nn.Flatten(), nn.Linear(40 * 144, 3))
    check(network.double(), torch.randn(7, 32, 12, 12).double())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (3, "same"), (3, "valid"), (4, "same")])
def test_large_weight_on_few_positions(kernel: int, padding: int | str, groups: int, times: int) -> None:
    """The norms are formed first, the sum later; from two uses of the layer both are formed at once."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(24, 24, kernel, padding=padding, groups=groups)

        def forward(self, images: Tensor) -> Tensor:
            for _ in range(times):
                images = self.conv(images).tanh()
            return images

    check(Deep().double(), torch.randn(9, 24, 6, 5).double())


class Scale(nn.Module):
    """A leaf that no rule knows."""

    def __init__(self, width: int):
        super().__init__()
        self.scale, self.power = nn.Parameter(torch.rand(width)), nn.Parameter(torch.tensor(1.5))

    def forward(self, inputs: Tensor, *, shift: float = 0.5) -> Tensor:
        return torch.sigmoid(inputs * self.scale).pow(self.power) + shift


class Idle(nn.Module):
    """Has a parameter, but hands its input on as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.mask = nn.Buffer(torch.zeros(4, 4, dtype=torch.bool).triu(1))

    def forward(self, inputs: Tensor) -> Tensor:
        output, _ = self.attention(inputs, inputs, inputs, attn_mask=self.mask)
        return output


class Parent(nn.Module):
    """Parameters of its own, in three places, beside a child with parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Linear(6, 6)
        self.own = nn.Parameter(torch.randn(6))
        self.listed = nn.ParameterList([nn.Parameter(torch.randn(6))])

    def forward(self, inputs: Tensor) -> Tensor:
        return self.child(inputs * self.own).tanh() * self.listed[0] + self.child(inputs)


class Holder(nn.Module):
    """Only a parameter list and children."""

    def __init__(self) -> None:
        super().__init__()
        self.child, self.listed = nn.Linear(6, 6), nn.ParameterList([torch.randn(6), torch.randn(6)])

    def forward(self, inputs: Tensor) -> Tensor:
        return self.child(inputs * self.listed[0]) + self.listed[1]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.PReLU(6), (6,)),
        (nn.ConvTranspose2d(2, 3, 3, stride=2), (2, 4, 4)),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 4, 4)),
        (nn.InstanceNorm2d(2, affine=True), (2, 4, 4)),
        (nn.BatchNorm2d(2).eval(), (2, 4, 4)),
        (nn.RMSNorm(6), (3, 6)),
        (Scale(6), (6,)),
        (Attention(), (4, 6)),
        (Parent(), (6,)),
        (nn.Sequential(nn.Linear(6, 6), Idle()), (6,)),
        (nn.Sequential(Parent(), Holder(), Parent()), (6,)),
        (nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), (6,)),
        (nn.utils.parametrizations.weight_norm(nn.Linear(6, 5, bias=False)), (6,)),
        (nn.LSTM(6, 3, batch_first=True), (4, 6)),
        (nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True), (4, 6)),
    ],
)
def test_any_layer_that_treats_examples_independently(layer: nn.Module, shape: tuple[int, ...]) -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, inputs: Tensor) -> Tensor:
            output = self.layer(inputs.tanh())
            return output[0] if isinstance(output, tuple) else output

    network = nn.Sequential(nn.Linear(shape[-1], shape[-1]), First()).double()
    inputs = torch.randn(5, *shape).double()
    check(network, inputs)


def test_a_unit_used_inside_of_another_one_and_beside_it() -> None:
    class Outer(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.own = inner, nn.Parameter(torch.randn(6))

        def forward(self, inputs: Tensor) -> Tensor:
            return self.inner(inputs * self.own).tanh()

    inner = nn.Sequential(nn.Linear(6, 6), nn.GroupNorm(2, 6))
    network = nn.Sequential(inner, Outer(inner), nn.GroupNorm(3, 6), Outer(inner))
    check(network.double(), torch.randn(4, 6).double())


def test_several_inputs_and_several_outputs() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.gate = nn.Bilinear(3, 4, 5), nn.Parameter(torch.rand(5))

        def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor | int]:
            mixed = self.mix(left, right)
            return {"gated": mixed * self.gate, "count": 3, "mixed": mixed.cos()}

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both, self.bilinear = Both(), nn.Bilinear(5, 5, 2)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            parts = self.both(left, right=right)
            return self.bilinear(parts["gated"], parts["mixed"]) * parts["count"]

    check(Whole().double(), torch.randn(4, 3).double(), torch.randn(4, 4).double())


def test_tied_embedding_and_output() -> None:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.hidden, self.output = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
            self.output.weight = self.embedding.weight

        def forward(self, words: Tensor) -> Tensor:
            return self.output(self.hidden(self.embedding(words)).tanh())

    found = check(Language().double(), torch.randint(0, 7, (5, 3)))
    assert "output.weight" not in found.total and "embedding.weight" in found.total


def test_shared_layers_and_shared_weights() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, dilation=1)
            self.other.weight = self.conv.weight
            self.norm, self.linear, self.alias = nn.GroupNorm(3, 3), nn.Linear(5, 5), nn.ModuleList()
            self.alias.append(self.linear)

        def forward(self, images: Tensor) -> Tensor:
            hidden = self.norm(self.conv(images)).tanh()
            hidden = self.norm(self.other(hidden)) + self.conv(hidden[..., :4, :]).mean()
            return self.alias[0](self.linear(hidden).tanh())

    network = Shared().double()

    def loss(part: slice) -> Tensor:
        return network(images[part]).square().flatten(1).sum(1)

    images = torch.randn(1, 3, 5, 5).double()  # one example only, as the mean above mixes examples
    assert_same(clipped_sum(network, lambda: loss(slice(None)), 0.1), one_by_one(network, loss, 1, 0.1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_two_passes_as_in_trades(dtype: torch.dtype) -> None:
    network = nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.ReLU(inplace=True), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 3), nn.Flatten()),
        *(nn.Linear(128, 20), nn.LayerNorm(20), nn.ReLU(), nn.Linear(20, 3)),
    ).to(dtype)
    clean = torch.rand(5, 1, 8, 8, dtype=dtype)
    other = clean + 0.1 * torch.randn_like(clean)

    def loss(part: slice) -> Tensor:
        outputs = network(clean[part]), network(other[part])
        near = functional.kl_div(*(output.log_softmax(1) for output in outputs), reduction="none", log_target=True)
        return outputs[0].square().sum(1) + 6 * near.sum(1)

    wanted = one_by_one(network, loss, 5, 2.0)
    assert_same(clipped_sum(network, lambda: loss(slice(None)), 2.0), wanted, 1e-9 if dtype == torch.float64 else 1e-4)


def small() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.Flatten()),
        *(nn.Linear(16, 6), Scale(6), nn.LayerNorm(6), nn.Linear(6, 2)),
    ).double()


def images_of(count: int) -> Tensor:
    return torch.randn(count, 1, 4, 4, dtype=torch.float64)


@pytest.mark.parametrize("network", [small(), cnn4().double()])
def test_empty_batch(network: nn.Sequential) -> None:
    images = torch.zeros(0, 1, 28, 28).double() if len(network) > 10 else images_of(0)
    found = clipped_sum(network, lambda: network(images).sum(1), 1.0)
    assert found.norms.shape == (0,)
    assert all(not total.any() and total.shape == parameters(network)[n].shape for n, total in found.total.items())


def test_single_example_and_parts_add_up() -> None:
    network, images = small(), images_of(7)

    def part(rows: slice) -> Clipped:
        return clipped_sum(network, lambda: network(images[rows]).square().sum(1), 0.5)

    whole, parts = part(slice(None)), [part(slice(0, 1)), part(slice(1, 3)), part(slice(3, 3)), part(slice(3, 7))]
    total = {name: sum(p.total[name] for p in parts) for name in whole.total}
    assert_same(whole, Clipped(total, torch.cat([p.norms for p in parts])))  # type: ignore[arg-type]


def test_without_clipping_it_is_the_plain_gradient_under_dropout() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 30), nn.Dropout(), nn.ReLU(), nn.Linear(30, 2)).double()
    images = images_of(9)

    def losses() -> Tensor:
        torch.manual_seed(3)
        return network(images).square().sum(1)

    plain = torch.autograd.grad(losses().sum(), list(network.parameters()))
    for found, wanted in zip(clipped_sum(network, losses, float("inf")).total.values(), plain, strict=True):
        torch.testing.assert_close(found, wanted)


def test_zero_gradients_frozen_and_unused_parameters() -> None:
    network, images = small(), images_of(4)
    network.append(nn.Identity())
    network.add_module("unused", nn.Linear(3, 3).double())
    network[0].weight.requires_grad_(False)
    network[1].bias.requires_grad_(False)
    network[4].requires_grad_(False)

    def loss(part: slice) -> Tensor:
        hidden = images[part]
        for layer in list(network)[:-1]:
            hidden = layer(hidden)
        return hidden.square().sum(1)

    found = clipped_sum(network, lambda: loss(slice(None)), 0.5)
    assert_same(found, one_by_one(network, loss, 4, 0.5))
    assert "0.weight" not in found.total and "0.bias" in found.total and not found.total["unused.weight"].any()
    none = clipped_sum(network, lambda: images.flatten(1).sum(1), 0.5)
    assert not none.norms.any() and not any(total.any() for total in none.total.values())
    network.requires_grad_(False)
    assert clipped_sum(network, lambda: loss(slice(None)), 0.5).total == {}


def test_inputs_that_want_a_gradient_and_an_attack_in_the_losses() -> None:
    network, images = small(), images_of(4)

    def losses() -> Tensor:
        moved = images.clone().requires_grad_()
        (slope,) = torch.autograd.grad(network(moved).square().sum(), moved)
        with torch.no_grad():
            network(images)
        return network(moved + 0.1 * slope.sign()).square().sum(1)

    (slope,) = torch.autograd.grad(network(moved := images.clone().requires_grad_()).square().sum(), moved)
    attacked = (images + 0.1 * slope.sign()).detach()
    wanted = one_by_one(network, lambda part: network(attacked[part]).square().sum(1), 4, 0.5)
    assert_same(clipped_sum(network, losses, 0.5), wanted)


def test_hooks_of_others_count() -> None:
    for index in range(len(small())):
        network = small()
        network[index].register_forward_pre_hook(lambda module, args: (args[0] * 1.5,))
        network[index].register_forward_hook(lambda module, args, output: output.sin())
        check(network, images_of(3))


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
def test_weights_computed_from_other_parameters_by_a_hook() -> None:
    network = nn.Sequential(nn.Linear(6, 6), nn.utils.weight_norm(nn.Linear(6, 5)))
    check(network.double(), torch.randn(4, 6).double())


def test_a_forward_of_the_instance_counts() -> None:
    for index in (0, 1, 4):
        network = small()
        usual = network[index].forward
        network[index].forward = lambda inputs, usual=usual: usual(inputs).sin()
        own = network[index].forward
        check(network, images_of(3))
        assert network[index].forward is own


def test_checkpoints() -> None:
    network, images = small(), images_of(3)

    def loss(part: slice, reentrant: bool = False) -> Tensor:
        wanting = images[part].clone().requires_grad_()
        return checkpoint(network, wanting, use_reentrant=reentrant).square().sum(1)

    def in_two(part: slice) -> Tensor:
        hidden = checkpoint(network[:4], images[part], use_reentrant=False)
        return checkpoint(network[4:], hidden, use_reentrant=False).square().sum(1)

    wanted = one_by_one(network, loss, 3, 0.5)
    assert_same(clipped_sum(network, lambda: loss(slice(None)), 0.5), wanted)
    assert_same(clipped_sum(network, lambda: in_two(slice(None)), 0.5), wanted)
    with pytest.raises(UserError, match="use_reentrant=False"):
        clipped_sum(network, lambda: loss(slice(None), reentrant=True), 0.5)


def state(network: nn.Module) -> list[object]:
    modules = [{k: dict(v) if isinstance(v, dict) else v for k, v in vars(m).items()} for m in network.modules()]
    return [modules, [(p.requires_grad, p.grad) for p in network.parameters()]]


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind(fails: bool) -> None:
    network, images = small(), images_of(3)
    network[0].register_forward_hook(lambda module, args, output: None)
    network[0].weight.grad = marker = torch.ones_like(network[0].weight)
    network[1].bias.requires_grad_(False)
    before = state(network)
    held: list[weakref.ref[Tensor]] = []

    def losses() -> Tensor:
        copied = images.clone()
        held.append(weakref.ref(copied))
        output = network(copied)
        if fails:
            raise KeyError("no such thing")
        return output.sum(1)

    gc.collect()
    gc.disable()
    try:
        if fails:
            with pytest.raises(KeyError):
                clipped_sum(network, losses, 1.0)
        else:
            clipped_sum(network, losses, 1.0)
            assert held[0]() is None  # freed at once, not by a later garbage collection
    finally:
        gc.enable()
    assert state(network) == before and network[0].weight.grad is marker and bool((marker == 1).all())


def refused(network: nn.Module, losses: Callable[[], Tensor], *words: str) -> None:
    with pytest.raises(UserError) as caught:
        clipped_sum(network, losses, 1.0)
    for word in words:
        assert word in str(caught.value)


def test_batch_norm_is_refused_when_it_mixes_examples() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())
    refused(network, lambda: network(torch.rand(3, 1, 4, 4)).sum(1), "'1'", "group norm")
    network[1] = nn.BatchNorm2d(2, affine=False, track_running_stats=False).eval()
    refused(network, lambda: network(torch.rand(3, 1, 4, 4)).sum(1), "'1'", "group norm")


def test_stray_parameters_are_refused() -> None:
    network, images = small(), images_of(3)
    refused(network, lambda: network(images).sum(1) + network[4].weight.square().sum(), "'4.weight'")
    refused(network, lambda: functional.linear(network(images), network[7].weight.T).sum(1), "'7.weight'")
    refused(network, lambda: network[7](network[7].weight).sum(1), "'7")


def test_examples_must_be_along_the_first_axis() -> None:
    network, images = small(), images_of(3)
    refused(
        network, lambda: network(torch.cat([images, images])).view(2, 3, 2).sum((0, 2)), "'7' (Linear)", "3 entries"
    )
    norm = nn.Sequential(nn.GroupNorm(2, 4)).double()
    refused(norm, lambda: norm(torch.randn(6, 4).double()).view(3, 8).square().sum(1), "'0.", "3 entries")
    refused(network, lambda: network(images), "(3, 2)", "[B]")
    refused(network, lambda: network(images).sum(), "()", "[B]")
    constant = nn.Sequential(Scale(2))
    refused(constant, lambda: constant(torch.rand(1, 2)).sum(1).expand(3), "'0' (Scale)")


def test_changes_in_place_of_an_input_are_refused() -> None:
    network, inputs = nn.Linear(2, 2), torch.rand(3, 2)

    def losses() -> Tensor:
        copied = inputs.clone()
        output = network(copied)
        copied.zero_()
        return output.sum(1)

    refused(network, losses, "the network", "changed in place")


def test_layers_that_draw_random_numbers_are_refused() -> None:
    class Noisy(Scale):
        def forward(self, inputs: Tensor, *, shift: float = 0.5) -> Tensor:
            return super().forward(functional.dropout(inputs), shift=shift)

    network = nn.Sequential(Noisy(2))
    refused(network, lambda: network(torch.rand(3, 2)).sum(1), "'0' (Noisy)", "random")


@pytest.mark.parametrize("clip", [0.0, -1.0, float("nan")])
def test_the_clipping_norm_must_be_positive(clip: float) -> None:
    with pytest.raises(UserError, match=r"clip.*allowed: > 0"):
        clipped_sum(nn.Linear(1, 1), lambda: torch.zeros(1), clip)


@pytest.mark.gpu
@pytest.mark.parametrize(("build", "shape"), [(cnn4, (1, 28, 28)), (resnet20, (3, 32, 32))])
def test_on_a_gpu(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    check(build().double().cuda(), torch.rand(5, *shape).double().cuda())
