"""Which networks can be trained with DP-SGD: clipped gradients against one example at a time, beside Opacus.

The table of docs/dp-networks.md is made here: `python tests/test_dp_networks.py` writes it anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash import Task
from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.numerics.clipping import clipped_sum
from guardclash.plan.rewrites import GroupNormForBatchNorm, WithoutDropout
from networks import INPUTS, NETWORKS, PLACES, Brought, Recurrent

PAGE = Path(__file__).parents[1] / "docs" / "dp-networks.md"
CLIP = 0.05
BATCH = 5
AGREES = 1e-10
"""Largest deviation, in double precision, of what is said to agree."""


def built(brought: Brought) -> nn.Module:
    """A network as `dpsgd` trains it."""
    torch.manual_seed(0)
    return WithoutDropout()(GroupNormForBatchNorm()(brought.build())).double().train()


def inputs(brought: Brought, count: int) -> Tensor:
    torch.manual_seed(1)
    x = INPUTS[brought.inputs](count)
    return x.double() if x.is_floating_point() else x


def losses(network: nn.Module, x: Tensor) -> Tensor:
    return functional.cross_entropy(network(x), torch.arange(len(x)) % 3, reduction="none")


def alone(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The clipped sum from one example at a time, by autograd alone; spectral norm moves a buffer in each pass."""
    before = {name: one.clone() for name, one in network.named_buffers()}
    parameters = {name: one for name, one in network.named_parameters() if one.requires_grad}
    total = {name: torch.zeros_like(one) for name, one in parameters.items()}
    for number in range(len(x)):
        network.load_state_dict(before, strict=False)
        loss = functional.cross_entropy(network(x[number : number + 1]), torch.tensor([number % 3]))
        found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
        norm = torch.stack([one.norm() for one in found]).norm()
        for name, one in zip(parameters, found, strict=True):
            total[name] += one * (CLIP / norm).clamp(max=1)
    return total


def deviation(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys()
    return max((found[name] - expected[name]).abs().max().item() for name in expected)


def ours(brought: Brought, count: int = BATCH) -> str:
    network, x = built(brought), inputs(brought, count)
    before = {name: one.clone() for name, one in network.named_buffers()}
    try:
        found = clipped_sum(network, lambda: losses(network, x), CLIP).total
    except UserError as error:
        return f"refused: {str(error).partition(' (in ')[0]}"
    network.load_state_dict(before, strict=False)
    return "agrees" if deviation(found, alone(network, x)) < AGREES else "wrong"


def opacus(brought: Brought) -> str:
    """The same by Opacus's hooks, after its validator has mended what it can."""
    from opacus import GradSampleModule
    from opacus.validators import ModuleValidator

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            network = WithoutDropout()(ModuleValidator.fix(brought.build())).double().train()
            x = inputs(brought, BATCH)
            try:
                expected = alone(network, x)
            except ValueError:
                return "its group norm is over single values: the network is constant"
            wrapped = GradSampleModule(network)
            losses(wrapped, x).sum().backward()
            moving = ((name, one) for name, one in wrapped.named_parameters() if one.requires_grad)
            each = {name.removeprefix("_module."): one.grad_sample for name, one in moving}
            if any(one is None or len(one) != BATCH for one in each.values()):
                return "wrong: gradients are missing, or not one for each example"
            norms = torch.stack([one.flatten(1).norm(dim=1) for one in each.values()]).norm(dim=0)
            factors = (CLIP / norms).clamp(max=1)
            found = {name: torch.einsum("b,b...->...", factors, one) for name, one in each.items()}
        except Exception as error:
            return f"{type(error).__name__}"
        return "agrees" if found.keys() == expected.keys() and deviation(found, expected) < AGREES else "wrong"


def row(name: str) -> str:
    brought = NETWORKS[name]
    return f"| {name} | {ours(brought)} | {brought.note} | {opacus(brought)} |"


def table() -> str:
    head = "| network | clipped gradients | what is done, what to do | Opacus 1.6 |\n|---|---|---|---|"
    return "\n".join([head, *map(row, NETWORKS)])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_page_says_what_a_network_is_worth(name: str):
    assert row(name).replace("Opacus 1.6", "") in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("count", [1, 2, PLACES])
def test_nothing_hangs_on_the_size_of_the_batch(name: str, count: int):
    """Not even where it is the number of places: whose row one is cannot be told by its shape then."""
    found, usual = ours(NETWORKS[name], count), ours(NETWORKS[name])
    assert found == "agrees" or usual.startswith("refused"), found
    assert found.startswith("refused") or usual == "agrees" or count == 1  # of one example nothing can be mixed up


def test_a_network_is_tried_once_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch):
    from guardclash.numerics import clipping_layout

    network, x = built(NETWORKS["spectral norm"]), inputs(NETWORKS["spectral norm"], 3)
    tries: list[int] = []
    seen = clipping_layout._seen
    monkeypatch.setattr(clipping_layout, "_seen", lambda *given: tries.append(1) or seen(*given))
    before, state = {name: one.clone() for name, one in network.state_dict().items()}, torch.random.get_rng_state()
    clipping_layout.layout_of(network, {network[0]: "0"}, ((x,), {}))
    assert all(torch.equal(before[name], one) for name, one in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state) and len(tries) == 3
    clipped_sum(network, lambda: losses(network, x), CLIP)
    assert len(tries) == 3


@pytest.mark.parametrize("change", ["dropout", "packed"])
def test_what_a_loop_cannot_do_is_refused(change: str):
    network = Recurrent(nn.LSTM, True, False, 2).double().train()
    x = torch.rand(3, 4, 6).double()
    if change == "dropout":
        network.net.dropout = 0.5
        run: Callable[[], Tensor] = lambda: losses(network, x)  # noqa: E731
    else:
        packed = nn.utils.rnn.pack_padded_sequence(x, [4, 3, 2], batch_first=True)

        def run() -> Tensor:
            output, _ = nn.utils.rnn.pad_packed_sequence(network.net(packed)[0], batch_first=True)
            return functional.cross_entropy(network.head(output.mean(1)), torch.arange(3), reduction="none")

    with pytest.raises(UserError, match="dropout" if change == "dropout" else "padded"):
        clipped_sum(network, run, CLIP)


def test_a_report_says_what_is_clipped_in_a_loop():
    task = Task("series", model=recurrent, train=(torch.rand(30, PLACES, 6), torch.arange(30) % 3))
    plan = compose(task.recipes[0].plan(), [DPSGD()])
    assert DPSGD().facts(plan)["clipped in a loop over examples, slowly"] == "1.net (LSTM)"


def recurrent(classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(1, 2), Recurrent(nn.LSTM, True, True))


if __name__ == "__main__":
    start, end = "<!-- table -->\n", "\n<!-- end -->"
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(start)
    PAGE.write_text(head + start + table() + end + rest.partition(end)[2], encoding="utf-8")
