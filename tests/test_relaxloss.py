"""RelaxLoss: known values, an implementation by batch means, what it goes with, and what it does to a training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from guardclash.compose import Clash, compose
from guardclash.errors import UserError
from guardclash.mechanism import Mechanism
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.hamp import HAMP
from guardclash.mechanisms.relaxloss import RelaxedCrossEntropy, RelaxLoss, flattened
from guardclash.mechanisms.trades import RobustnessGap, Trades
from guardclash.mechanisms.wm import Watermark
from guardclash.plan.examples import Data, Moment
from guardclash.plan.objectives import CrossEntropy
from guardclash.tasks.recipe import recipe

EVEN, ODD = Moment(epoch=0), Moment(epoch=1)


class Table(torch.nn.Module):
    """Gives the logits that it was made with, whatever is asked."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.as_tensor(logits, dtype=torch.float64))

    def forward(self, x):
        return self.logits


def losses(logits, y, now, alpha=0.5, upper=1.0, flattening="image", per_example=False):
    """Losses and the gradient of their mean."""
    network, y = Table(logits), torch.as_tensor(y)
    found = RelaxedCrossEntropy(alpha, upper, flattening, per_example)(network, Data(torch.zeros(len(y), 1), y), now)
    (gradient,) = torch.autograd.grad(found.mean(), network.logits)
    return found.detach(), gradient


def with_loss(loss):
    """Two logits of which the first class has a cross entropy."""
    return [torch.log(1 / torch.expm1(torch.tensor(loss, dtype=torch.float64))).item(), 0.0]


# --- known values -----------------------------------------------------------------------------------------------------


def test_below_its_level_an_even_epoch_ascends():
    """Batch mean 0.3 and alpha 0.5: a loss of 0.2, whose gradient is that of the cross entropy turned round."""
    logits = [with_loss(0.2), with_loss(0.4)]
    found, gradient = losses(logits, [0, 0], EVEN)
    assert found.mean() == pytest.approx(0.2) and found.tolist() == pytest.approx([0.3, 0.1])
    (plain,) = torch.autograd.grad(functional.cross_entropy(table := Table(logits).logits, torch.tensor([0, 0])), table)
    assert torch.allclose(gradient, -plain)


def test_above_its_level_it_descends():
    logits = [with_loss(0.9), with_loss(0.3)]
    (plain,) = torch.autograd.grad(functional.cross_entropy(table := Table(logits).logits, torch.tensor([0, 0])), table)
    for now, mean in ((EVEN, 0.1), (ODD, 0.6)):
        found, gradient = losses(logits, [0, 0], now)
        assert found.mean() == pytest.approx(mean) and torch.allclose(gradient, plain)


def test_below_its_level_an_odd_epoch_flattens():
    wrong = torch.tensor([[0.2, 1.0, -0.5]], dtype=torch.float64)
    y = torch.tensor([0])
    assert wrong.softmax(1)[0, 0] == pytest.approx(0.268664, abs=1e-6)
    assert flattened(wrong, y, 1.0) == pytest.approx(1.277728, abs=1e-6)
    assert losses(wrong, y, ODD, alpha=2.0)[0] == pytest.approx(-0.036567, abs=1e-6)
    assert losses(wrong, y, ODD, alpha=2.0, flattening="plain")[0] == pytest.approx(1.277728, abs=1e-6)
    right = torch.tensor([[0.95, 0.03, 0.02]], dtype=torch.float64).log()
    assert losses(right, y, ODD)[0] == pytest.approx(-0.051293, abs=1e-6)


def test_confidence_beyond_the_upper_end_is_shared_out():
    sure = torch.tensor([[0.95, 0.03, 0.02]], dtype=torch.float64).log()
    expected = functional.cross_entropy(sure, torch.tensor([[0.3, 0.35, 0.35]], dtype=torch.float64))
    assert flattened(sure, torch.tensor([0]), 0.3) == pytest.approx([expected.item()])


# --- an implementation by batch means ---------------------------------------------------------------------------------


def by_batch(logits, y, epoch, alpha, upper, image):
    """One number for a batch, as the publication states it."""
    label = y if y.dim() == 1 else y.argmax(1)
    each = functional.cross_entropy(logits, y, reduction="none")
    if epoch % 2 == 0:
        return (each.mean() - alpha).abs()
    if each.mean() > alpha:
        return each.mean()
    p = logits.softmax(1)[torch.arange(len(label)), label].clamp(max=upper)
    soft = ((1 - p) / (logits.shape[1] - 1))[:, None].expand_as(logits).clone()
    soft[torch.arange(len(label)), label] = p
    flat = -(soft * logits.log_softmax(1)).sum(1)
    return ((logits.argmax(1) != label) * flat - each).mean() if image else flat.mean()


@given(
    st.integers(0, 10**6), st.integers(0, 3), st.floats(0, 3), st.sampled_from([0.3, 1.0]), st.booleans(), st.booleans()
)
@settings(deadline=None, max_examples=40)
def test_the_mean_of_its_losses_is_that_of_the_batch(seed, epoch, alpha, upper, image, vectors):
    chance = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(6, 4, generator=chance, dtype=torch.float64)
    y = torch.randint(4, (6,), generator=chance)
    if vectors:
        y = torch.rand(6, 4, generator=chance, dtype=torch.float64).softmax(1)
    flattening = "image" if image else "plain"
    found, gradient = losses(logits, y, Moment(epoch=epoch), alpha, upper, flattening)
    table = Table(logits).logits
    expected = by_batch(table, y, epoch, alpha, upper, image)
    assert found.mean() == pytest.approx(expected.item(), abs=1e-9)
    assert torch.allclose(gradient, torch.autograd.grad(expected, table)[0], atol=1e-9)


@given(st.integers(0, 10**6), st.integers(0, 1))
@settings(deadline=None, max_examples=20)
def test_each_example_by_itself_is_a_batch_of_one(seed, epoch):
    logits = 2 * torch.randn(5, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 1])
    found, _ = losses(logits, y, Moment(epoch=epoch), per_example=True)
    alone = [losses(logits[place : place + 1], y[place : place + 1], Moment(epoch=epoch))[0] for place in range(5)]
    assert torch.allclose(found, torch.cat(alone))


def test_an_empty_batch_has_no_losses():
    for now in (EVEN, ODD):
        objective = RelaxedCrossEntropy(0.3, 1.0, "image", False)
        batch = Data(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
        assert objective(torch.nn.Linear(2, 3), batch, now).shape == (0,)


# --- composing --------------------------------------------------------------------------------------------------------


def test_it_takes_the_place_of_the_cross_entropy_on_every_stream_that_it_touches(base):
    plan = compose(base, [RelaxLoss(), Watermark()])
    assert [type(stream.objectives[0]) for stream in plan.streams] == [RelaxedCrossEntropy] * 2
    relaxed = compose(base, [RelaxLoss(on=("task",)), Watermark()])
    assert [type(stream.objectives[0]) for stream in relaxed.streams] == [RelaxedCrossEntropy, CrossEntropy]


def test_what_adds_to_the_losses_stacks_in_any_order(base):
    for order in ([RelaxLoss(), Trades(), HAMP()], [HAMP(), Trades(), RelaxLoss()]):
        first, *others = compose(base, order).task.objectives
        assert isinstance(first, RelaxedCrossEntropy)
        assert {type(one).__name__ for one in others} == {"EntropyBonus", RobustnessGap.__name__}


def test_a_bound_on_what_one_example_does_is_a_clash(base):
    """A batch's mean decides about each example; where it does not, there is nothing in the way."""
    for order in ([RelaxLoss(), DPSGD()], [DPSGD(), RelaxLoss()]):
        with pytest.raises(Clash, match=r"dpsgd bounds what one example.*RelaxedCrossEntropy of relaxloss makes"):
            compose(base, order)
    assert compose(base, [RelaxLoss(per_example=True), DPSGD()])
    assert compose(base, [Watermark(), RelaxLoss(on=("task",)), DPSGD(on=("trigger",))])


@dataclass(frozen=True)
class Halved:
    """Half of the cross entropy."""

    def __call__(self, network, batch, now):
        return CrossEntropy()(network, batch, now) / 2


@dataclass(frozen=True)
class Replacing(Mechanism):
    """Another loss in the place of the cross entropy."""

    name = "replacing"
    concern = "none"

    def objective(self, stream, plan):
        return replace(stream, objectives=(Halved(),))


def test_another_replacement_is_a_clash_that_names_both(base):
    for order in ([RelaxLoss(), Replacing()], [Replacing(), RelaxLoss()]):
        with pytest.raises(Clash, match=r"(?=.*relaxloss)(?=.*replacing).*both set 'objectives' of stream 'task'"):
            compose(base, order)
    with pytest.raises(Clash, match="both set 'objectives'"):
        compose(base, [RelaxLoss(), RelaxLoss(alpha=0.1)])


def test_without_a_cross_entropy_there_is_nothing_to_relax(base):
    with pytest.raises(UserError, match=r"no cross entropy to relax.*stream 'task'.*Halved"):
        compose(replace(base, streams=(replace(base.task, objectives=(Halved(),)),)), [RelaxLoss()])


@pytest.mark.parametrize(
    "options", [{"alpha": -0.1}, {"upper": 0.0}, {"upper": 1.5}, {"flattening": "steep"}, {"alpha": float("nan")}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError, match=f"relaxloss.{next(iter(options))}"):
        RelaxLoss(**options)


# --- training ---------------------------------------------------------------------------------------------------------


def test_the_loss_of_members_stays_about_where_it_is_aimed_at(context):
    """A training that ends at nothing without it; and whose level is 0 is the plain one."""
    base = recipe("digits", "smoke", examples=100, epochs=30).plan()

    def loss(plan):
        x, y = context(0).data(plan.task.source)
        return functional.cross_entropy(context(0).trained(plan).predict(x), y).item()

    assert loss(base) < 0.01
    for alpha in (0.3, 0.6):
        assert alpha / 3 < loss(compose(base, [RelaxLoss(alpha=alpha)])) < 3 * alpha
    level = compose(base, [RelaxLoss(alpha=0.0)])
    assert loss(level) == pytest.approx(loss(base), abs=1e-6)
