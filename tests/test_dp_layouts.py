"""Networks whose layers look as if they ran on one row for each example, and do not: clipped right, or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.errors import UserError
from guardclash.numerics import clipping_recording
from guardclash.numerics.clipping import Clipped, clipped_sum
from guardclash.numerics.clipping_checks import belong, known_of, uneven_weights

PLACES, WORDS, WIDTH, CLASSES = 6, 11, 8, 3
CLIP = 0.05

POSITIONS: dict[str, Callable[[nn.Embedding, Tensor, int], Tensor]] = {
    "the first row": lambda embed, index, count: embed(index[None])[0],
    "the mean of the rows": lambda embed, index, count: embed(index[None]).mean(0),
    "without the axis": lambda embed, index, count: embed(index[None]).squeeze(0),
    "repeated": lambda embed, index, count: embed(index[None]).repeat(count, 1, 1),
    "no axis": lambda embed, index, count: embed(index),
    "no axis, one added": lambda embed, index, count: embed(index).unsqueeze(0),
    "no axis, the mean of the places": lambda embed, index, count: embed(index).mean(0),
    "no axis, chosen": lambda embed, index, count: embed(index)[index],
    "no axis, counted": lambda embed, index, count: (found := embed(index)) / len(found),
    "no axis, transposed": lambda embed, index, count: embed(index).t().t(),
}
MIXED: dict[str, Callable[[Tensor], Tensor]] = {
    "centred": lambda logits: logits - logits.mean(0),
    "over the spread": lambda logits: logits / (1 + logits.std()),
    "softmax over the batch": lambda logits: logits.softmax(0),
    "in another order": lambda logits: logits.flip(0),
}


class Positions(nn.Module):
    """Texts, with position embeddings that are added in one of many ways."""

    def __init__(self, way: str):
        super().__init__()
        self.way = POSITIONS[way]
        self.word, self.place = nn.Embedding(WORDS, WIDTH), nn.Embedding(PLACES, WIDTH)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        places = self.way(self.place, torch.arange(PLACES), len(x))
        return self.head(self.norm(self.word(x) + places).tanh().mean(1))


class Prototypes(nn.Module):
    """Logits are products with vectors that all examples share."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.code = nn.Linear(WIDTH, WIDTH), nn.Embedding(CLASSES, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) @ self.code(torch.arange(CLASSES)).t()


class Experts(nn.Module):
    """Each place goes through one of two layers, by what is in it: their rows are anybody's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.experts = nn.ModuleList([nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)])

    def forward(self, x: Tensor) -> Tensor:
        rows = self.first(x).flatten(0, 1)
        chosen, total = rows[:, 0] > 0, torch.zeros_like(rows)
        for expert, mask in zip(self.experts, (chosen, ~chosen), strict=True):
            total = total.index_put((mask.nonzero()[:, 0],), expert(rows[mask]))
        return self.head(total.view(len(x), PLACES, -1).tanh().mean(1))


class Through(nn.Module):
    """A layer between two others, in a forward of its own."""

    def __init__(self, run: Callable[[nn.Module, Tensor], Tensor], inner: nn.Module):
        super().__init__()
        self.run, self.inner, self.head = run, inner, nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.run(self.inner, x).tanh())


class MovingMean(nn.Module):
    """Remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Buffer(torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        return x - self.seen


def in_order(layer: nn.Module, x: Tensor) -> Tensor:
    order = x.sum(1).argsort()
    return layer(x[order])[order.argsort()]


def middle(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x)[0].mean(1)


def texts(count: int) -> Tensor:
    return torch.randint(WORDS, (count, PLACES))


def rows(count: int) -> Tensor:
    return torch.randn(count, WIDTH).double()


def series(count: int) -> Tensor:
    return torch.randn(count, PLACES, WIDTH).double()


def spectral() -> nn.Module:
    return nn.utils.parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH))


RIGHT: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    **{f"positions: {way}": (lambda way=way: Positions(way), texts) for way in POSITIONS},  # type: ignore[misc]
    "prototypes": (Prototypes, rows),
    "experts": (Experts, series),
    "sorted": (lambda: Through(in_order, nn.Linear(WIDTH, WIDTH)), rows),
    "states along the second axis": (
        lambda: Through(lambda net, x: net(x)[1][-1], nn.GRU(WIDTH, WIDTH, 2, batch_first=True)),
        series,
    ),
    "spectral norm": (lambda: Through(lambda net, x: net(x), spectral()), rows),
}
WRONG: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor], str]] = {
    **{
        f"logits {way}": (lambda way=way: Through(lambda net, x: net(x), nn.Linear(WIDTH, WIDTH)), rows, "other ones")
        for way in MIXED
    },  # type: ignore[misc]
    "a text of examples": (lambda: Through(middle, nn.GRU(WIDTH, WIDTH)), series, "'inner'"),
    "a moving mean": (
        lambda: Through(lambda net, x: net(x), nn.Sequential(nn.Linear(WIDTH, WIDTH), MovingMean())),
        rows,
        "inner.1.seen",
    ),
    "statistics of instances": (
        lambda: Through(
            lambda net, x: net(x.transpose(1, 2)).mean(2), nn.InstanceNorm1d(WIDTH, track_running_stats=True)
        ),
        series,
        "instance norm",
    ),
}


def clipped(network: nn.Module, x: Tensor, after: Callable[[Tensor], Tensor] = lambda logits: logits) -> Clipped:
    def losses() -> Tensor:
        return functional.cross_entropy(after(network(x)), torch.arange(len(x)) % CLASSES, reduction="none")

    return clipped_sum(network, losses, CLIP)


def alone(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """One example at a time, by autograd alone, with the same buffers for each."""
    parameters, buffers = dict(network.named_parameters()), {n: b.clone() for n, b in network.named_buffers()}
    total = {name: torch.zeros_like(one) for name, one in parameters.items()}
    for number in range(len(x)):
        network.load_state_dict(buffers, strict=False)
        loss = functional.cross_entropy(network(x[number : number + 1]), torch.tensor([number % CLASSES]))
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
        norm = torch.stack([one.norm() for one in found]).norm()
        for name, one in zip(parameters, found, strict=True):
            total[name] += one * (CLIP / norm).clamp(max=1)
    network.load_state_dict(buffers, strict=False)
    return total


@pytest.mark.parametrize("count", [1, 2, 5, PLACES])
@pytest.mark.parametrize("name", RIGHT)
def test_gradients_are_those_of_single_examples(name: str, count: int):
    torch.manual_seed(0)
    build, inputs = RIGHT[name]
    network = build().double().train()
    for size in (count, 3, count):  # what was found out at one size holds at others
        x = inputs(size)
        wanted = alone(network, x)
        found = clipped(network, x).total
        for key, total in wanted.items():
            torch.testing.assert_close(found[key], total, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("count", [4, PLACES])
@pytest.mark.parametrize("name", WRONG)
def test_what_has_no_gradient_of_single_examples_is_refused(name: str, count: int):
    torch.manual_seed(0)
    build, inputs, word = WRONG[name]
    after = MIXED.get(name.removeprefix("logits "), lambda logits: logits)
    with pytest.raises(UserError, match=word):
        clipped(build().double().train(), inputs(count), after)


def test_plain_networks_are_checked_in_their_first_step_only(monkeypatch: pytest.MonkeyPatch):
    network = nn.Sequential(nn.Conv1d(PLACES, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(24, CLASSES)).double()
    passes: list[int] = []
    monkeypatch.setattr(clipping_recording, "uneven_weights", lambda x: passes.append(len(x)) or uneven_weights(x))
    for count in (1, 12, 2, 5, 0, 7):
        clipped(network, series(count))
    assert passes == [12] and not known_of(network).whole


def test_zeros_tell_nothing():
    """A last layer of zeros lets no gradient through to the others: whose rows theirs are is asked again."""
    network = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES)).double()
    nn.init.zeros_(network[2].weight)
    clipped(network, rows(4))
    assert len(known_of(network).passed) == 1
    nn.init.normal_(network[2].weight)
    clipped(network, rows(4))
    assert len(known_of(network).passed) == 2


def test_a_training_that_diverges_is_not_refused():
    network = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES)).double()
    nn.init.constant_(network[0].weight, float("nan"))
    assert clipped(network, rows(4)).norms.isnan().all()


@pytest.mark.parametrize("count", [2, 3, 8, 9, 64, 65, 200])
@pytest.mark.parametrize("rows_each", [1, 2, 4])
def test_no_plain_order_passes_for_another(count: int, rows_each: int):
    weights = uneven_weights(torch.zeros(count).double())
    plain = torch.rand(count * rows_each).double() + 0.5
    owner = torch.arange(count).repeat_interleave(rows_each)
    orders = {
        "reversed": owner.flip(0),
        **{f"shifted by {k}": owner.roll(k * rows_each) for k in (1, 2, 3, 7, 8) if k % count},
    }
    if rows_each > 1:
        orders["interleaved"] = torch.arange(count).repeat(rows_each)
    assert belong(plain * weights[owner], plain, weights)
    for name, order in orders.items():
        assert not belong(plain * weights[order], plain, weights), name
    assert not belong((plain * weights[owner] + plain * weights[owner.roll(rows_each)]) / 2, plain, weights)
