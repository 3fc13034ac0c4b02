"""The standard parts of a plan: samplers, sources, optimizers, models, maps, objectives, gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from guardclash.data.catalog import find_dataset
from guardclash.errors import UserError
from guardclash.plan.examples import Data, Moment
from guardclash.plan.gradients import Mean, trainable
from guardclash.plan.maps import FlipAndResizedCrop, FlipAndShift
from guardclash.plan.models import CNN, Normalize, ResNet, group_norm
from guardclash.plan.objectives import CrossEntropy
from guardclash.plan.optimizers import SGD, Adam, Constant, OneCycle
from guardclash.plan.plan import Stream
from guardclash.plan.rewrites import GroupNormForBatchNorm, WithoutDropout
from guardclash.plan.samplers import Poisson, Shuffled
from guardclash.plan.sources import Split
from guardclash.tasks.catalog import tasks
from guardclash.tasks.recipe import recipe

PAPER_CNN = CNN((1, 28, 28), 10, (0.5,), (0.5,))
RESNET20 = ResNet((3, 32, 32), 10, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
TINY_CNN = CNN((1, 8, 8), 10, (0.5,), (0.5,), widths=(4, 8), hidden=64)
sizes, batch_sizes, seeds = st.integers(1, 300), st.integers(1, 80), st.integers(0, 2**32)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(model: CNN | ResNet, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model.build()


# --- samplers ---------------------------------------------------------------------------------------------------------


@given(sizes, batch_sizes, seeds)
def test_a_shuffled_pass_has_every_example_once(size, batch_size, seed):
    batches = Shuffled(batch_size).batches(size, generator(seed))
    assert torch.cat(batches).sort().values.tolist() == list(range(size))
    assert len(batches) == Shuffled(batch_size).steps(size)
    assert all(batch.dtype == torch.int64 for batch in batches)


@given(sizes, batch_sizes)
def test_shuffled_batches_are_full_but_for_the_last(size, batch_size):
    *full, last = [len(batch) for batch in Shuffled(batch_size).batches(size, generator())]
    assert set(full) <= {batch_size}
    assert 1 <= last <= batch_size + 1
    assert last == Shuffled(batch_size).last(size)
    if size > 1 and batch_size > 1:
        assert last > 1, "batch norm cannot take a batch of one"


def test_shuffling_follows_the_generator():
    one, same, other = (torch.cat(Shuffled(7).batches(100, generator(seed))).tolist() for seed in (1, 1, 2))
    assert one == same != other
    assert one != sorted(one)


@given(sizes, batch_sizes)
def test_poisson_rate_and_steps(size, batch_size):
    sampler = Poisson(batch_size)
    assert sampler.rate(size) == min(1.0, batch_size / size)
    assert sampler.steps(size) == max(1, size // batch_size) == len(sampler.batches(size, generator()))


@given(sizes, batch_sizes, seeds)
def test_poisson_batches_hold_each_example_at_most_once(size, batch_size, seed):
    for batch in Poisson(batch_size).batches(size, generator(seed)):
        assert batch.dtype == torch.int64
        assert batch.unique().tolist() == batch.tolist()
        assert not len(batch) or 0 <= batch.min() <= batch.max() < size


def test_poisson_batches_have_binomial_sizes_and_treat_examples_alike():
    batches = [batch for seed in range(20) for batch in Poisson(100).batches(1000, generator(seed))]
    counts = torch.tensor([float(len(batch)) for batch in batches])
    assert counts.mean().item() == pytest.approx(100, abs=4)  # 6 standard errors
    assert counts.std().item() == pytest.approx(math.sqrt(90), rel=0.2)
    drawn = torch.cat(batches).bincount(minlength=1000).float()  # binomial(200, 0.1): 20 +- 4.2
    assert drawn.min() > 2
    assert drawn.max() < 44


def test_a_poisson_rate_of_one_takes_everything():
    assert [len(batch) for batch in Poisson(50).batches(20, generator())] == [20]


@pytest.mark.parametrize("sampler", [Shuffled, Poisson])
@pytest.mark.parametrize("batch_size", [0, -3])
def test_batches_without_examples_are_refused(sampler, batch_size):
    with pytest.raises(UserError, match="batch_size"):
        sampler(batch_size)


# --- sources ----------------------------------------------------------------------------------------------------------


def test_a_split_is_the_first_examples_in_order(context):
    whole, part = Split("digits"), Split("digits", limit=30)
    assert (whole.size, part.size) == (1297, 30)
    x, y = whole.load(context(0))
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((1297, 1, 8, 8), torch.float32, (1297,), torch.int64)
    assert (x.min(), x.max()) == (0, 1)
    assert torch.equal(part.load(context(7)).x, x[:30])
    assert torch.equal(part.load(context(7)).y, y[:30])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"dataset": "digist"}, "digits"),
        ({"dataset": "digits", "split": "validation"}, "train"),
        ({"dataset": "digits", "limit": 0}, "<= 1297"),
        ({"dataset": "digits", "limit": -1}, "<= 1297"),
        ({"dataset": "digits", "limit": 1298}, "<= 1297"),
        ({"dataset": "digits", "split": "test", "limit": 501}, "<= 500"),
    ],
)
def test_impossible_splits_are_refused(arguments, named):
    with pytest.raises(UserError, match=named):
        Split(**arguments)


# --- plans ------------------------------------------------------------------------------------------------------------

TASK = Stream("task", Split("digits", limit=100), Shuffled(30))


def test_steps_of_streams_and_plans(base):
    assert TASK.steps_per_epoch() == 4
    assert replace(TASK, passes=3).steps_per_epoch() == 12
    assert base.steps() == 2 * 4
    assert base.add(replace(TASK, passes=3)).steps() == base.steps()


@pytest.mark.parametrize("change", [{"streams": ()}, {"epochs": 0}, {"epochs": -1}])
def test_impossible_plans_are_refused(change, base):
    with pytest.raises(UserError):
        replace(base, **change)


@pytest.mark.parametrize("change", [{"cadence": "each_batch"}, {"batch_norm": "frozen"}, {"passes": 0}])
def test_impossible_streams_are_refused(change):
    """A misspelt cadence would leave the whole stream out without a word."""
    with pytest.raises(UserError, match=next(iter(change))):
        replace(TASK, **change)


def test_a_plan_finds_its_streams_by_name(base):
    trigger = replace(TASK, name="trigger")
    plan = base.add(trigger)
    assert plan.stream("trigger") is trigger
    assert plan.stream("other") is None
    assert plan.task is base.task


# --- recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["mnist", "fmnist"])
def test_the_recipes_of_table_1_for_grey_images(dataset):
    alone, protected = (recipe(dataset, "paper").plan(protected) for protected in (False, True))
    assert (alone.epochs, protected.epochs) == (25, 100)
    assert replace(protected, epochs=25) == alone
    assert alone.model == CNN((1, 28, 28), 10, (0.5,), (0.5,))
    assert (alone.optimizer, alone.schedule) == (SGD(0.005), OneCycle(start=0.2))
    assert (alone.task.source.size, alone.task.maps) == (60_000, ())


def test_the_recipe_of_table_1_for_cifar10():
    alone, protected = (recipe("cifar10", "paper").plan(protected) for protected in (False, True))
    assert (alone.epochs, protected.epochs) == (100, 200)
    assert (alone.model.blocks, alone.model.classes) == (3, 10)
    assert alone.optimizer == SGD(0.1)
    assert alone.schedule == OneCycle(start=pytest.approx(0.05))
    assert (alone.task.source.size, alone.task.maps) == (50_000, (FlipAndResizedCrop(),))


@pytest.mark.parametrize("known", [f"{name}/{one.scale}" for name, task in tasks().items() for one in task.recipes])
def test_every_recipe_makes_a_plan_that_fits_its_data(known):
    chosen = recipe(*known.split("/"))
    plan = chosen.plan()
    assert plan.model.shape == find_dataset(chosen.dataset).shape
    assert plan.model.classes == find_dataset(chosen.dataset).classes
    assert 1 <= chosen.test().size <= find_dataset(chosen.dataset).size("test")
    assert built(plan.model)(torch.rand(2, *plan.model.shape)).shape == (2, plan.model.classes)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"model": "resnet18"}, "model"),  # it would train the CNN
        ({"optimizer": "rmsprop"}, "optimizer"),  # it would train by SGD
        ({"norm": "layer"}, "norm"),
        ({"augmentation": "flip"}, "augmentation"),
        ({"epoch": 3}, "epochs"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"examples": 5000}, "<= 1297"),
        ({"first_learning_rate": 1.0}, "learning rate"),
    ],
)
def test_impossible_recipes_are_refused(overrides, named):
    with pytest.raises(UserError, match=named):
        recipe("digits", "smoke", **overrides).plan()


def test_unknown_recipes_are_refused_with_the_nearest():
    with pytest.raises(UserError, match="digits"):
        recipe("digist")
    with pytest.raises(UserError, match="got 'smok'; allowed: paper, reduced, smoke"):
        recipe("digits", "smok")


# --- optimizers and schedules -----------------------------------------------------------------------------------------


def one_cycle_of_torch(total: int, start: float, end: float, rise: float) -> list[tuple[float, float]]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=total, pct_start=rise, div_factor=1 / start, final_div_factor=1 / end
    )
    found = []
    for step in range(total):
        found.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        if step < total - 1:
            schedule.step()
    return found


@given(st.integers(4, 400), st.sampled_from([0.04, 0.05, 0.2, 0.5]), st.sampled_from([1e-4, 1e-2]))
@settings(max_examples=25, deadline=None)
def test_one_cycle_is_that_of_torch(total, start, end):
    ours = [OneCycle(start, end).at(step, total) for step in range(total)]
    theirs = one_cycle_of_torch(total, start, end, 0.3)
    assert [rate for rate, _ in ours] == pytest.approx([rate for rate, _ in theirs], rel=1e-9)
    assert [momentum for _, momentum in ours] == pytest.approx([momentum for _, momentum in theirs], rel=1e-9)


@pytest.mark.parametrize("rise", [0.1, 0.5, 0.9])
def test_one_cycle_is_that_of_torch_for_other_rises(rise):
    ours = [OneCycle(rise=rise).at(step, 100)[0] for step in range(100)]
    assert ours == pytest.approx([rate for rate, _ in one_cycle_of_torch(100, 0.2, 1e-4, rise)], rel=1e-9)


@pytest.mark.parametrize(
    ("first", "largest", "last"),
    [(2.5e-4, 0.005, 2.5e-8), (1e-3, 0.005, 1e-7), (5e-3, 0.1, 5e-7)],
    ids=["code", "mnist", "cifar10"],
)
def test_one_cycle_has_the_published_rates(first, largest, last):
    rates = [largest * OneCycle(start=first / largest).at(step, 1000)[0] for step in range(1000)]
    assert (rates[0], rates[299], rates[999]) == pytest.approx((first, largest, last), rel=1e-9)
    assert max(rates) == rates[299]


@given(st.integers(1, 50), st.integers(0, 60))
def test_one_cycle_stays_in_range_for_every_length_and_after_the_end(total, step):
    factor, momentum = OneCycle().at(step, total)
    assert 0.2e-4 - 1e-12 <= factor <= 1 + 1e-12
    assert 0.85 - 1e-12 <= momentum <= 0.95 + 1e-12
    if step >= total:
        assert (factor, momentum) == OneCycle().at(total - 1, total) or total == 1


def test_one_cycle_may_leave_momentum_alone_and_constant_leaves_everything():
    assert OneCycle(momentum=None).at(3, 10)[1] is None
    assert [Constant().at(step, 10) for step in (0, 9)] == [(1.0, None)] * 2


def group(optimizer: SGD | Adam, factor: float, momentum: float | None) -> dict:
    state = optimizer.start([nn.Parameter(torch.zeros(2))])
    optimizer.adjust(state, factor, momentum)
    return state.param_groups[0]


def test_optimizers_follow_the_schedule():
    assert group(SGD(0.1), 0.5, 0.85)["lr"] == pytest.approx(0.05)
    assert group(SGD(0.1), 0.5, 0.85)["momentum"] == 0.85
    assert group(SGD(0.1), 0.5, None)["momentum"] == 0.9
    assert group(Adam(0.1), 0.5, 0.85)["betas"] == (0.85, 0.999)
    assert group(Adam(0.1), 0.5, None)["betas"] == (0.9, 0.999)
    assert group(Adam(0.1), 0.5, None)["lr"] == pytest.approx(0.05)
    assert (group(SGD(0.1), 1, None)["weight_decay"], group(Adam(0.1), 1, None)["weight_decay"]) == (5e-4, 0)


def test_no_momentum_stays_none_under_any_schedule():
    assert group(SGD(0.1, momentum=0), 0.5, 0.85)["momentum"] == 0


@pytest.mark.parametrize("optimizer", [SGD, Adam])
@pytest.mark.parametrize("rate", [0.0, -0.1, math.nan, math.inf])
def test_impossible_learning_rates_are_refused(optimizer, rate):
    with pytest.raises(UserError, match="learning_rate"):
        optimizer(rate)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(0.1, momentum=-0.5),
        lambda: SGD(0.1, weight_decay=-1),
        lambda: Adam(0.1, weight_decay=-1),
        lambda: OneCycle(rise=1.5),
    ],
)
def test_other_impossible_hyperparameters_are_refused(make):
    with pytest.raises(UserError):
        make()


# --- models -----------------------------------------------------------------------------------------------------------


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_published_architectures_have_their_numbers_of_parameters():
    assert count(built(PAPER_CNN)) == 1_664_586
    assert count(built(RESNET20)) == 269_722


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("model", [TINY_CNN, RESNET20], ids=["cnn", "resnet"])
def test_networks_take_images_and_give_logits(model, norm):
    network = built(replace(model, norm=norm))
    x = torch.rand(3, *model.shape)
    assert network(x).shape == (3, 10)
    assert network.eval()(x[:1]).shape == (1, 10)
    found = {type(module) for module in network.modules()}
    assert bool(found & {nn.BatchNorm1d, nn.BatchNorm2d}) == (norm == "batch")
    assert (nn.GroupNorm in found) == (norm == "group")


@pytest.mark.parametrize("model", [TINY_CNN, RESNET20], ids=["cnn", "resnet"])
def test_normalisation_comes_first_and_is_not_among_the_weights(model):
    network = built(model)
    first = next(network.children())
    x = torch.rand(2, *model.shape)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (model.mean, model.std))
    assert isinstance(first, Normalize)
    torch.testing.assert_close(first(x), (x - mean) / std)
    assert not list(first.parameters())
    assert not first.state_dict()
    assert not [name for name in network.state_dict() if name.endswith(("mean", "std")) and "running" not in name]


@pytest.mark.parametrize("model", [TINY_CNN, RESNET20], ids=["cnn", "resnet"])
def test_initial_weights_follow_torchs_generator(model):
    one, same, other = (built(model, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_small_cnn_drops_nothing_without_dropout():
    dropouts = [module for module in built(replace(TINY_CNN, dropout=0.0)).modules() if isinstance(module, _DropoutNd)]
    assert dropouts == []
    assert [module.p for module in built(TINY_CNN).modules() if isinstance(module, _DropoutNd)] == [0.5] * 3


def test_a_shortcut_takes_every_second_pixel_and_pads_channels_with_zeros():
    blocks = [module for module in built(RESNET20).modules() if hasattr(module, "conv2")]
    block = next(module for module in blocks if module.stride == 2)
    nn.init.zeros_(block.norm2.weight)  # nothing but the shortcut is left
    x = torch.rand(2, 16, 8, 8)
    out = block(x)
    assert out.shape == (2, 32, 4, 4)
    torch.testing.assert_close(out[:, 8:24], x[:, :, ::2, ::2])
    assert out[:, :8].abs().sum() + out[:, 24:].abs().sum() == 0


def test_resnet_of_other_depths():
    deeper = built(replace(RESNET20, blocks=5))
    assert len([module for module in deeper.modules() if isinstance(module, nn.Conv2d)]) == 31


def test_images_that_are_too_small_are_refused():
    with pytest.raises(UserError, match="too small"):
        replace(PAPER_CNN, shape=(1, 3, 3)).build()


def test_an_unknown_norm_is_refused():
    """It would train a network without any."""
    with pytest.raises(UserError, match="norm"):
        replace(TINY_CNN, norm="layer").build()


@pytest.mark.parametrize("hidden", [8, 32, 128])
def test_a_network_with_group_norm_sees_its_input(hidden):
    """A group of one feature is normalised to nothing, whatever the image."""
    network = built(replace(TINY_CNN, norm="group", dropout=0.0, hidden=hidden))
    logits = network(torch.rand(4, 1, 8, 8, generator=generator()))
    assert logits.std(0).min() > 1e-3


@given(st.integers(1, 600))
@settings(max_examples=50)
def test_group_norm_has_at_most_32_groups_that_divide_the_channels(channels):
    groups = group_norm(channels).num_groups
    assert channels % groups == 0
    assert groups == max(n for n in range(1, 33) if channels % n == 0)


def test_group_norm_is_opacuss_replacement_where_32_divides():
    assert [group_norm(channels).num_groups for channels in (16, 32, 64, 512)] == [16, 32, 32, 32]


@pytest.mark.parametrize("model", [TINY_CNN, RESNET20], ids=["cnn", "resnet"])
def test_rewrites_leave_no_batch_norm_and_no_dropout(model):
    network = built(model)
    kept = {name: value for name, value in network.named_parameters() if value.dim() > 1}
    rewritten = WithoutDropout()(GroupNormForBatchNorm()(network))
    assert not [module for module in rewritten.modules() if isinstance(module, _BatchNorm)]
    assert not any(module.p for module in rewritten.modules() if isinstance(module, _DropoutNd))
    assert count(rewritten) == count(built(model))
    after = dict(rewritten.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in kept.items())
    assert rewritten(torch.rand(2, *model.shape)).shape == (2, 10)


def test_rewrites_reach_a_network_that_is_one_layer_and_layers_that_are_used_twice():
    assert isinstance(GroupNormForBatchNorm()(nn.BatchNorm2d(8)), nn.GroupNorm)
    shared = nn.BatchNorm2d(8)
    network = nn.Sequential(shared, nn.ReLU(), shared)
    rewritten = GroupNormForBatchNorm()(network)
    assert not [module for module in rewritten.modules() if isinstance(module, _BatchNorm)]


def test_rewrites_leave_no_batch_norm_of_any_kind():
    every = nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.BatchNorm3d(4), nn.SyncBatchNorm(4))
    assert [type(module) for module in GroupNormForBatchNorm()(every)] == [nn.GroupNorm] * 4


def test_rewrites_keep_the_mode_of_the_network():
    network = GroupNormForBatchNorm()(built(TINY_CNN).eval())
    assert not any(module.training for module in network.modules())


# --- maps -------------------------------------------------------------------------------------------------------------

MAPS = (FlipAndShift(2), FlipAndResizedCrop())


def apply(change, x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    y = torch.arange(len(x))
    about = {"index": 10 + y}
    new = change(nn.Identity(), Data(x, y, about), generator(seed), Moment())
    assert torch.equal(new.y, y)
    assert torch.equal(new.about["index"], about["index"])
    return new.x


@pytest.mark.parametrize("change", MAPS, ids=["shift", "crop"])
@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (1, 1, 8, 8), (40, 3, 32, 32), (40, 1, 28, 20)])
def test_maps_keep_shape_range_and_input(change, shape):
    x = torch.rand(shape, generator=generator(1))
    before = x.clone()
    new = apply(change, x)
    assert new.shape == x.shape
    assert new.dtype == x.dtype
    assert torch.equal(x, before)
    assert ((new >= 0) & (new <= 1)).all()


@pytest.mark.parametrize("change", MAPS, ids=["shift", "crop"])
def test_maps_follow_their_generator(change):
    x = torch.rand(20, 1, 8, 8, generator=generator(1))
    assert torch.equal(apply(change, x, 1), apply(change, x, 1))
    assert not torch.equal(apply(change, x, 1), apply(change, x, 2))


def nearest(x: torch.Tensor, new: torch.Tensor, padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which flip and padded crop, all made by hand, each image is closest to, and how far that is."""
    height, width = x.shape[2:]
    distances = []
    for flipped in (x, x.flip(3)):
        padded = functional.pad(flipped, (padding,) * 4)
        for top in range(2 * padding + 1):
            for left in range(2 * padding + 1):
                crop = padded[:, :, top : top + height, left : left + width]
                distances.append((crop - new).abs().amax((1, 2, 3)))
    distance, which = torch.stack(distances).min(0)
    return which, distance


@pytest.mark.parametrize("size", [(8, 8), (28, 20), (32, 32)])
def test_flip_and_shift_is_a_padded_crop(size):
    x = torch.rand(600, 1, *size, generator=generator(1))
    which, distance = nearest(x, apply(FlipAndShift(2), x), 2)
    assert distance.max() < 1e-5
    drawn = which.bincount(minlength=50)  # 12 of each are expected
    assert drawn.min() > 0
    assert drawn.max() < 40


def test_no_padding_is_a_flip_alone():
    x = torch.rand(200, 3, 32, 32, generator=generator(1))
    which, distance = nearest(x, apply(FlipAndShift(0), x), 0)
    assert distance.max() < 1e-5
    assert 60 < which.sum() < 140


@pytest.mark.parametrize("side", [8, 32])
def test_a_resized_crop_has_no_dark_border(side):
    """Its window lies inside the image, so nothing from outside may be mixed in."""
    white = torch.ones(500, 1, side, side)
    torch.testing.assert_close(apply(FlipAndResizedCrop(), white), white)


def test_resized_crops_take_the_announced_share_of_the_image():
    """On a horizontal and a vertical ramp the crop's extent is the range of values, less a pixel."""
    side = 64
    ramp = torch.linspace(0, 1, side)
    x = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side)])[None].repeat(2000, 1, 1, 1)
    new = apply(FlipAndResizedCrop(), x)
    middle = new[:, :, side // 4 : 3 * side // 4, side // 4 : 3 * side // 4]  # half of each side, away from the border
    extent = 2 * (middle.amax((2, 3)) - middle.amin((2, 3)))
    area = extent.prod(1)
    assert 0.06 < area.min() < 0.12
    assert 0.9 < area.max() < 1.05
    assert area.mean().item() == pytest.approx(0.54, abs=0.06)
    ratio = (extent[:, 0] / extent[:, 1])[area < 0.5]  # larger ones are cut to the image
    assert 0.7 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.42


# --- objectives and gradients -----------------------------------------------------------------------------------------


def test_cross_entropy_is_minus_the_log_probability_of_each_label():
    logits = torch.tensor([[0.0, math.log(3)], [2.0, 2.0], [50.0, -50.0]])
    losses = CrossEntropy()(nn.Identity(), Data(logits, torch.tensor([0, 1, 1])), Moment())
    torch.testing.assert_close(losses, torch.tensor([math.log(4), math.log(2), 100.0]))


@pytest.mark.parametrize("vectors", [[[1.0, 0.0]], [[0.3, 0.7]], [[1.4, -0.4]], [[3.0, 0.5]], [[-1.0, 0.0]]])
def test_cross_entropy_of_vectors_is_minus_their_product_with_the_log_probabilities(vectors):
    """Of any vectors: probabilities, negative smoothing, no distribution at all."""
    logits, y = torch.tensor([[0.2, 1.9]]), torch.tensor(vectors)
    (found,) = CrossEntropy()(nn.Identity(), Data(logits, y), Moment())
    p = [math.exp(logit) / (math.exp(0.2) + math.exp(1.9)) for logit in (0.2, 1.9)]
    assert found.item() == pytest.approx(-sum(v * math.log(q) for v, q in zip(vectors[0], p, strict=True)), rel=1e-5)


def test_mean_is_the_gradient_of_the_mean_loss():
    network, x, y = built(replace(TINY_CNN, norm="group", dropout=0.0)), torch.rand(6, 1, 8, 8), torch.arange(6)
    found = Mean()(network, lambda: CrossEntropy()(network, Data(x, y), Moment()), generator())
    functional.cross_entropy(network(x), y).backward()
    assert found.keys() == trainable(network).keys()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


def test_mean_leaves_frozen_parameters_out_and_gives_zeros_for_unused_ones():
    network = nn.ModuleDict({"used": nn.Linear(3, 2), "unused": nn.Linear(3, 2), "frozen": nn.Linear(3, 2)})
    network["frozen"].requires_grad_(False)
    found = Mean()(network, lambda: network["used"](torch.ones(4, 3)).sum(1), generator())
    assert found.keys() == {"used.weight", "used.bias", "unused.weight", "unused.bias"}
    assert found["unused.weight"].abs().sum() == 0
    assert found["used.bias"].tolist() == [1, 1]
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("model", [TINY_CNN, RESNET20], ids=["cnn", "resnet"])
@pytest.mark.parametrize("norm", ["group", "none"])
def test_an_empty_batch_has_a_zero_gradient(model, norm):
    network = built(replace(model, norm=norm))
    x, y = torch.zeros(0, *model.shape), torch.zeros(0, dtype=torch.int64)
    found = Mean()(network, lambda: CrossEntropy()(network, Data(x, y), Moment()), generator())
    assert found.keys() == trainable(network).keys()
    assert all((value == 0).all() for value in found.values())
