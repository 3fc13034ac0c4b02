"""Rewrites keep the network: activations inside batch norms stay, dropout goes wherever it is, the rest is refused.

The classes are written in the manner of torchvision, timm and transformers, whose networks a user will bring.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.numerics.clipping import clipped_sum
from guardclash.plan.models import group_norm
from guardclash.plan.rewrites import GroupNormForBatchNorm, WithoutDropout, dropouts_left
from guardclash.registry import find_mechanism
from guardclash.training.train import train

# In the manner of torchvision


class BasicBlock(nn.Module):
    """Additions and activations in place, one ReLU used twice."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class ConvNormActivation(nn.Sequential):
    """A block that is its own sequence."""

    def __init__(self, before: int, after: int):
        super().__init__(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU6(inplace=True))


def torchvision() -> nn.Module:
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 5)
    return nn.Sequential(ConvNormActivation(3, 8), BasicBlock(8), BasicBlock(8), *head)


# In the manner of timm


class BatchNormAct2d(nn.BatchNorm2d):
    """Batch norm, dropout and activation in one: deleting the norm deletes the activation."""

    def __init__(self, features: int, act: nn.Module | None = None, drop: nn.Module | None = None):
        super().__init__(features)
        self.drop = drop or nn.Identity()
        self.act = act or nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        return self.act(self.drop(x))


class DropPath(nn.Module):
    """Stochastic depth: whole branches, and no dropout."""

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = torch.rand(len(x), *[1] * (x.dim() - 1)) >= self.drop_prob
        return x * keep / (1 - self.drop_prob)


class Attention(nn.Module):
    """Reads the probability of its dropout, so that an identity in its place would not do."""

    def __init__(self, width: int):
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.attn_drop, self.proj_drop = nn.Dropout(0.3), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        x = functional.scaled_dot_product_attention(q, k, v, dropout_p=self.attn_drop.p if self.training else 0.0)
        return self.proj_drop(self.proj(x))


def densenet() -> nn.Module:
    norms = BatchNormAct2d(3), BatchNormAct2d(8, nn.PReLU(8), nn.Dropout(0.1)), BatchNormAct2d(8, nn.Hardswish())
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    return nn.Sequential(norms[0], nn.Conv2d(3, 8, 3), norms[1], nn.Conv2d(8, 8, 3), norms[2], *head)


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.attention, self.norm, self.head = Attention(8), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.head((tokens + self.attention(self.norm(tokens))).mean(1))


# In the manner of transformers


class BertSelfAttention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.query, self.dropout = nn.Linear(width, width), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        scores = (self.query(x) @ x.transpose(1, 2)).softmax(-1)
        return functional.dropout(scores, p=self.dropout.p, training=self.training) @ x


class Encoder(nn.Module):
    """Attention of torch, whose dropout is a number, and a recurrent layer of the same kind."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.bert, self.attention = BertSelfAttention(8), nn.MultiheadAttention(8, 2, dropout=0.4, batch_first=True)
        self.rnn, self.head = nn.LSTM(8, 8, 2, dropout=0.4, batch_first=True), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.bert(self.patch(x).flatten(2).transpose(1, 2))
        tokens, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.head(self.rnn(tokens)[0].mean(1))


class GPT2(nn.Module):
    """Dropout by a number of its configuration, which no rewrite finds."""

    def __init__(self, p: float = 0.1):
        super().__init__()
        self.flat, self.p = nn.Linear(3 * 8 * 8, 5), p

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.flat(x.flatten(1)), self.p, self.training)


NETWORKS = {
    "torchvision": torchvision,
    "timm densenet": densenet,
    "timm ViT": ViT,
    "transformers": Encoder,
}


class Activations(TorchFunctionMode):
    """Counts calls of activations."""

    NAMES = ("relu", "relu_", "relu6", "prelu", "hardswish", "gelu", "hardtanh", "hardtanh_")

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in self.NAMES:
            self.counted[name] += 1
        return func(*args, **(kwargs or {}))


def activations(network: nn.Module) -> Counter[str]:
    with Activations() as mode, torch.no_grad():
        network.eval()(torch.rand(2, 3, 8, 8))
    return mode.counted


def made(name: str) -> nn.Module:
    torch.manual_seed(3)
    return NETWORKS[name]()


def rewritten(name: str) -> nn.Module:
    return WithoutDropout()(GroupNormForBatchNorm()(made(name)))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_activation_is_kept(name):
    """Before, batch norms that hold an activation took it along: of timm's densenet121 121 of 121."""
    assert activations(rewritten(name)) == activations(made(name))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_no_norm_keeps_its_weights(name):
    before, after = made(name), rewritten(name)
    shapes = Counter(tuple(parameter.shape) for parameter in before.parameters())
    assert Counter(tuple(parameter.shape) for parameter in after.parameters()) == shapes
    kept = {key: value for key, value in before.state_dict().items() if value.dim() > 1}
    found = after.state_dict()
    assert kept and all(torch.equal(value, found[key]) for key, value in kept.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_in_training_no_example_depends_on_others_and_nothing_is_dropped(name):
    network, x = rewritten(name).train(), torch.rand(4, 3, 8, 8)
    state = torch.get_rng_state()
    whole = network(x.clone())
    assert torch.equal(state, torch.get_rng_state()), "nothing is drawn, so that weights of old stores stay the same"
    assert torch.allclose(whole[:1], network(x[:1].clone()), atol=1e-5)
    assert torch.equal(whole, network(x.clone()))
    assert list(dropouts_left(network, x)) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_the_norm_alone_is_another_one(name):
    """With batch norm put back in the place of each group norm, the outputs are those of before."""
    before, after = made(name).eval(), rewritten(name).eval()

    def back(module: nn.Module) -> None:
        for key, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, key, nn.BatchNorm2d(child.num_channels).eval())
            else:
                back(child)

    back(after)
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(before(x.clone()), after(x.clone()), atol=1e-5)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "transformers"])  # an LSTM is refused by name
def test_clipped_gradients_are_those_of_single_examples(name):
    network = rewritten(name).train()
    x, y = torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2])

    def losses(inputs: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(network(inputs.clone()), labels, reduction="none")

    expected = {key: torch.zeros_like(value) for key, value in network.named_parameters()}
    for one in range(3):
        network.zero_grad()
        losses(x[one : one + 1], y[one : one + 1]).sum().backward()
        found = {key: value.grad for key, value in network.named_parameters() if value.grad is not None}
        norm = torch.stack([grad.norm() for grad in found.values()]).norm()
        for key, grad in found.items():
            expected[key] += grad * min(1.0, (0.5 / norm).item())
    network.zero_grad()
    got = clipped_sum(network, lambda: losses(x, y), 0.5).total
    for key, value in expected.items():
        assert torch.allclose(got.get(key, torch.zeros_like(value)), value, atol=1e-5), key


# What is refused


class Doubled(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Takes(nn.BatchNorm2d):
    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return super().forward(x) * scale


class Renamed(nn.BatchNorm2d):
    """Only its name is another."""


class Swapped(nn.BatchNorm2d):
    """Its part comes before the norm."""

    def __init__(self, features: int):
        super().__init__(features)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.act(x))


@pytest.mark.parametrize("kind", [Doubled, Takes, Swapped])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_norm_that_does_something_else_is_refused_by_name(kind, device):
    with torch.device(device):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(kind(4)))
    with pytest.raises(UserError, match=rf"1\.0.*{kind.__name__}"):
        GroupNormForBatchNorm()(network)


def test_a_norm_that_does_not_know_its_features_is_refused():
    with pytest.raises(UserError, match="does not know its features"):
        GroupNormForBatchNorm()(nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d()))


def test_plain_norms_are_replaced_as_ever():
    for norm in (nn.BatchNorm1d(12), nn.BatchNorm2d(12), nn.BatchNorm3d(12), nn.SyncBatchNorm(12), Renamed(12)):
        found = GroupNormForBatchNorm()(norm)
        each = 4 if isinstance(norm, nn.BatchNorm1d) else 1
        assert (type(found), found.num_groups) == (nn.GroupNorm, group_norm(12, each).num_groups)


def test_frozen_statistics_are_no_batch_norm():
    class FrozenBatchNorm2d(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    network = nn.Sequential(FrozenBatchNorm2d())
    assert GroupNormForBatchNorm()(network)[0] is network[0]


def test_stochastic_depth_is_no_dropout():
    path = DropPath(0.5)
    assert WithoutDropout()(nn.Sequential(path))[0].drop_prob == 0.5


@dataclass(frozen=True)
class Functional:
    """A model whose dropout is a call."""

    p: float = 0.1
    shape: tuple[int, int, int] = (1, 8, 8)
    classes: int = 10
    std: tuple[float, ...] = (1.0,)

    def build(self) -> nn.Module:
        network = GPT2(self.p)
        network.flat = nn.Linear(64, 10)
        return network


def test_dropout_that_is_called_is_refused_where_it_was_to_go(base):
    with pytest.raises(UserError, match=r"called as a function.*dropout"):
        compose(replace(base, model=Functional()), [find_mechanism("dpsgd")()])
    compose(replace(base, model=Functional(0.0)), [find_mechanism("dpsgd")()])
    compose(replace(base, model=Functional()), [find_mechanism("wm")()])


def test_a_training_without_dropout_has_the_weights_that_it_had_with_identities(base, context):
    """What old stores hold was trained with an identity in the place of each dropout."""

    model = replace(base.model, dropout=0.5)
    plan = replace(base, model=model, rewrites=(WithoutDropout(),), epochs=1)
    before = replace(base, model=model, rewrites=(Identities(),), epochs=1)
    one, other = (train(made, context(0)).network.state_dict() for made in (plan, before))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@dataclass(frozen=True)
class Identities:
    """As it was done before."""

    def __call__(self, network: nn.Module) -> nn.Module:
        for key, child in network.named_children():
            if isinstance(child, nn.Dropout):
                setattr(network, key, nn.Identity())
        return network
