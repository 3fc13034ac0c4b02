"""Timeline, context, training loop, batch norm's statistics and the stopwatch."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.mechanisms.dpsgd import DPSGD, DPSGDControl
from guardclash.mechanisms.raddata import RadioactiveData
from guardclash.mechanisms.wm import Watermark
from guardclash.numerics.batchnorm import frozen_statistics, reestimate
from guardclash.plan.examples import Data
from guardclash.plan.gradients import ClippedNoisy
from guardclash.plan.maps import FlipAndShift
from guardclash.plan.optimizers import SGD, Adam, Constant, OneCycle
from guardclash.plan.plan import Plan, Stream
from guardclash.plan.samplers import Poisson, Shuffled
from guardclash.plan.sources import Split
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.stopwatch import estimate_seconds
from guardclash.training.timeline import epoch
from guardclash.training.train import Diverged, Execution, Run, build_network, train
from guardclash.training.trained import Trained, accuracy, predictor

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Count:
    """A source that only has a size."""

    size: int

    def load(self, context):
        raise LookupError("nobody should load this")


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.network.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def marked(base: Plan, **options: object) -> Plan:
    return compose(base, [Watermark(**options)])


def statistics(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items() if name.endswith(("_mean", "_var"))}


# --- timeline ---------------------------------------------------------------------------------------------------------

streams = st.builds(
    Stream,
    name=st.just("other"),
    source=st.builds(Count, st.integers(1, 60)),
    sampler=st.builds(Shuffled, st.integers(1, 20)),
    cadence=st.sampled_from(["after_epoch", "mixed"]),
    passes=st.integers(1, 3),
)


def turns(base: Plan, others: list[Stream], number: int, lead_size: int, context) -> tuple[Plan, list]:
    task = Stream("task", Count(lead_size), Shuffled(10))
    plan = replace(base, streams=(task, *(replace(other, name=f"other{i}") for i, other in enumerate(others))))
    return plan, list(epoch(plan, number, context(0).rng))


@given(others=st.lists(streams, max_size=3), number=st.integers(0, 3), lead_size=st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_an_epoch_has_every_batch_of_every_stream_once(base, context, others, number, lead_size):
    plan, found = turns(base, others, number, lead_size, context)
    for stream in plan.streams:
        mine = [turn.indices for turn in found if turn.stream is stream]
        assert len(mine) == stream.steps_per_epoch()
        seen = Counter(torch.cat(mine).tolist())
        assert seen == dict.fromkeys(range(stream.source.size), stream.passes)


@given(others=st.lists(streams, max_size=3), number=st.integers(0, 3), lead_size=st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_cadences_and_leads(base, context, others, number, lead_size):
    plan, found = turns(base, others, number, lead_size, context)
    lead = plan.task.steps_per_epoch()
    done = number * lead
    for place, turn in enumerate(found):
        assert turn.lead == done, "the steps of the first stream that are finished"
        if turn.stream is plan.task:
            done += 1
        elif turn.stream.cadence == "after_epoch":
            assert done == (number + 1) * lead
            assert all(later.stream.cadence == "after_epoch" for later in found[place:])
    assert done == (number + 1) * lead


@given(other=streams, lead_size=st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_mixed_batches_are_spread_evenly(base, context, other, lead_size):
    plan, found = turns(base, [replace(other, cadence="mixed")], 0, lead_size, context)
    lead, mixed = (stream.steps_per_epoch() for stream in plan.streams)
    done = Counter()
    for turn in found:
        if turn.stream is plan.task and done["task"]:
            assert abs(done["other0"] - done["task"] * mixed / lead) < 1
        done[turn.stream.name] += 1


def test_streams_after_the_epoch_come_in_the_order_of_the_plan(base, context):
    others = [Stream("x", Count(40), Shuffled(10)), Stream("x", Count(30), Shuffled(10))]
    _, found = turns(base, others, 0, 20, context)
    assert [turn.stream.name for turn in found] == ["task"] * 2 + ["other0"] * 4 + ["other1"] * 3


def test_the_order_differs_between_epochs_passes_and_streams_but_not_between_plans(base, context):
    def order(plan: Plan, name: str, number: int = 0) -> list[int]:
        found = [turn.indices for turn in epoch(plan, number, context(0).rng) if turn.stream.name == name]
        return torch.cat(found).tolist()

    plan = marked(base, passes=2)
    both = order(plan, "trigger")
    assert order(plan, "task", 0) != order(plan, "task", 1)
    assert both[:100] != both[100:]
    assert order(plan, "task") == order(base, "task"), "a paired comparison"


# --- context ----------------------------------------------------------------------------------------------------------


def draw(generator: torch.Generator) -> list[float]:
    return torch.rand(4, generator=generator).tolist()


def test_chance_is_told_apart_by_seed_and_purpose_and_by_nothing_else(context):
    purposes = [("order", "task", 0), ("order", "task", 1), ("order", "trigger", 0), ("maps", "task"), ("task", "maps")]
    found = {tuple(draw(context(seed).rng(*purpose))) for seed in (0, 1) for purpose in purposes}
    assert len(found) == 10
    torch.manual_seed(3)
    once = draw(context(0).rng("weights"))
    torch.manual_seed(4)
    assert draw(context(0).rng("weights")) == once


def test_images_are_floats_from_0_to_1(context):
    x, y = context(0).examples("digits", "test")
    assert (x.dtype, x.shape, y.dtype) == (torch.float32, (500, 1, 8, 8), torch.int64)
    assert (x.min(), x.max()) == (0, 1)


def test_changing_loaded_images_does_not_change_the_data_set(context):
    context(0).examples("digits", "test").x.zero_()
    assert context(0).examples("digits", "test").x.max() == 1


def test_a_context_without_models_says_so(base, tmp_path):
    with pytest.raises(LookupError, match="no trained models"):
        RunContext(0, tmp_path).trained(base)


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "combination",
    [[], [Watermark(batch_norm="recalibrate")], [Watermark(cadence="mixed"), DPSGD(on=("task",))]],
    ids=["none", "wm", "wm-dpsgd"],
)
def test_a_seed_determines_the_weights(combination, base, context):
    plan = compose(base, combination)
    torch.manual_seed(1)
    first = weights(train(plan, context(0)))
    torch.manual_seed(2)
    assert same(first, weights(train(plan, context(0))))
    assert not same(first, weights(train(plan, context(1))))


def test_a_seed_determines_dropout_and_maps(base, context):
    task = replace(base.task, maps=(FlipAndShift(1),))
    plan = replace(base, model=replace(base.model, dropout=0.5), streams=(task,))
    first = weights(train(plan, context(0)))
    assert same(first, weights(train(plan, context(0))))
    assert not same(first, weights(train(replace(plan, streams=base.streams), context(0))))


def test_training_leaves_torchs_own_generator_alone(base, context):
    before = torch.random.get_rng_state()
    train(replace(base, model=replace(base.model, dropout=0.5)), context(0))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_combination_starts_from_the_same_weights(base, context):
    plain, wm, dpsgd, control, both = (
        dict(build_network(compose(base, combination), context(3)).named_parameters())
        for combination in ([], [Watermark()], [DPSGD()], [DPSGDControl()], [Watermark(), DPSGD()])
    )
    matrices = [name for name, value in plain.items() if value.dim() > 1]
    assert len(matrices) == 4
    assert all(torch.equal(plain[name], wm[name]) for name in plain)
    for rewritten in (dpsgd, control, both):
        assert all(torch.equal(plain[name], rewritten[name]) for name in matrices)
    other = dict(build_network(base, context(4)).named_parameters())
    assert not any(torch.equal(plain[name], other[name]) for name in matrices)


def by_hand(plan: Plan, context: RunContext) -> dict[str, torch.Tensor]:
    """The published loop in plain torch: the task's batches, each with a step of the schedule, then the triggers."""
    network = build_network(plan, context)
    network.to(memory_format=torch.channels_last)
    rule = plan.optimizer
    settings = {"lr": rule.learning_rate, "momentum": rule.momentum, "weight_decay": rule.weight_decay}
    optimizer = torch.optim.SGD(network.parameters(), **settings)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rule.learning_rate, total_steps=plan.steps(), div_factor=1 / plan.schedule.start
    )
    data = {stream.name: stream.source.load(context) for stream in plan.streams}
    network.train()
    for number in range(plan.epochs):
        for stream in plan.streams:
            x, y = data[stream.name]
            for batch in stream.sampler.batches(len(x), context.rng("order", stream.name, number)):
                optimizer.zero_grad()
                functional.cross_entropy(network(x[batch]), y[batch]).backward()
                optimizer.step()
                if stream is plan.task and schedule.last_epoch < plan.steps() - 1:
                    schedule.step()
    return network.state_dict()


@pytest.mark.parametrize("combination", [[], [Watermark()]], ids=["none", "wm"])
def test_training_is_the_published_loop(combination, base, context):
    plan = compose(base, combination)
    expected, found = by_hand(plan, context(0)), weights(train(plan, context(0)))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)


def test_training_learns(context):
    losses = []
    plan = recipe("digits", "smoke", epochs=8, examples=None).plan()
    trained = train(plan, context(0), log=lambda entry: losses.append(entry))
    assert [entry.epoch for entry in losses] == list(range(1, 9))
    assert all(entry.losses.keys() == {"task"} for entry in losses)
    assert losses[0].losses["task"] < math.log(10)
    assert losses[-1].losses["task"] < 0.2 * losses[0].losses["task"]
    assert accuracy(trained.predict, *context(0).examples("digits", "test")) > 0.9


def test_the_log_has_the_mean_loss_of_every_stream(context):
    plan = recipe("digits", "smoke", epochs=1, learning_rate=1e-9, first_learning_rate=1e-9, norm="none").plan()
    plan, logged = compose(plan, [Watermark(triggers=37)]), []
    trained = train(plan, context(0), log=logged.append)
    for stream in plan.streams:
        x, y = context(0).data(stream.source)
        expected = functional.cross_entropy(trained.predict(x), y).item()
        assert logged[0].losses[stream.name] == pytest.approx(expected, rel=1e-4)


def test_a_finished_training_is_ready_to_use(base, context):
    trained = train(base, context(5))
    assert (trained.plan, trained.seed) == (base, 5)
    assert not any(module.training for module in trained.network.modules())
    assert all(parameter.grad is None for parameter in trained.network.parameters())
    x = context(0).examples("digits", "test").x
    answers = trained.predict(x)
    assert (answers.shape, answers.requires_grad) == ((500, 10), False)
    torch.testing.assert_close(predictor(trained.network, batch_size=7)(x), answers, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trained.predict(x[:1]), answers[:1], rtol=1e-4, atol=1e-5)
    assert trained.predict(x[:0]).shape == (0, 10)


@pytest.mark.parametrize("optimizer", [SGD(1e9), SGD(1e30)])
def test_a_training_that_diverges_says_which_stream_and_when(optimizer, base, context):
    plan = replace(base, optimizer=optimizer, epochs=5, model=replace(base.model, norm="none"))
    with pytest.raises(Diverged, match=r"'task'.*epoch \d"):
        train(plan, context(0))


def test_a_training_that_diverges_in_its_very_last_step_is_noticed(base, context):
    """The loss of the last step is still finite; the weights are not."""
    task = replace(base.task, source=Split("digits", limit=64), objectives=(Huge(),))
    with pytest.raises(Diverged):
        train(replace(base, streams=(task,), epochs=1, optimizer=SGD(1e30)), context(0))


@dataclass(frozen=True)
class Huge:
    """A large loss, but a number."""

    def __call__(self, network, batch, now):
        return 1e30 * functional.cross_entropy(network(batch.x), batch.y, reduction="none")


def optimizers_of(plan: Plan, context) -> Run:
    run = Run(plan, context(0), CPU)
    run.epoch(0)
    return run


def test_streams_share_momentum_unless_their_optimizers_differ(base, context):
    assert len(optimizers_of(marked(base), context)._states) == 1
    assert len(optimizers_of(compose(base, [Watermark(), DPSGD()]), context)._states) == 1
    relaxed = optimizers_of(compose(base, [Watermark(), DPSGD(on=("task",))]), context)
    assert len(relaxed._states) == 2
    one, two = (
        {name: value for state in optimizer.state.values() for name, value in state.items()}["momentum_buffer"]
        for optimizer in relaxed._states.values()
    )
    assert not torch.equal(one, two)


@pytest.mark.parametrize("rule", [SGD(0.1), Adam(0.01)])
def test_an_explicit_optimizer_never_shares_the_plans_state(rule, base, context):
    plan = replace(marked(base), optimizer=rule)
    task, trigger = plan.streams
    separate = replace(plan, streams=(task, replace(trigger, optimizer=rule)))
    assert len(optimizers_of(separate, context)._states) == 2
    assert not same(weights(train(plan, context(0))), weights(train(separate, context(0))))


def test_objectives_are_added_up(base, context):
    twice = replace(base.task, objectives=base.task.objectives * 2)
    doubled = replace(base, streams=(twice,), optimizer=SGD(0.05, weight_decay=0), schedule=Constant())
    single = replace(base, optimizer=SGD(0.1, weight_decay=0), schedule=Constant())
    one, two = (weights_of(train(plan, context(0)).network) for plan in (single, doubled))
    for name in one:
        torch.testing.assert_close(one[name], two[name])


@dataclass(frozen=True)
class Empty:
    """Batches without examples, as Poisson sampling may draw them."""

    batch_size: int = 4

    def steps(self, size):
        return 3

    def batches(self, size, rng):
        return [torch.zeros(0, dtype=torch.int64)] * 3


@pytest.mark.parametrize("maps", [(), (FlipAndShift(1),)], ids=["plain", "augmented"])
def test_empty_batches_are_steps_of_noise_alone(maps, base, context):
    plan = compose(base, [DPSGD()])
    noisy = replace(plan.task, sampler=Empty(), gradient=ClippedNoisy(1.0, 0.5, 4.0), maps=maps)
    silent = replace(noisy, gradient=ClippedNoisy(1.0, 0.0, 4.0), optimizer=SGD(0.1, weight_decay=0))
    logged = []
    moved = train(replace(plan, streams=(noisy,)), context(0), log=logged.append)
    still = train(replace(plan, streams=(silent,)), context(0))
    start = build_network(plan, context(0)).state_dict()
    assert same(weights(still), start)
    assert not same(weights(moved), start)
    assert all(value.isfinite().all() for value in weights(moved).values())
    assert logged[0].losses == {"task": 0}


def test_poisson_batches_of_a_private_training_may_be_empty(base, context):
    tiny = replace(base, streams=(replace(base.task, source=Split("digits", limit=8), sampler=Poisson(1)),))
    plan = compose(tiny, [DPSGD(epsilon=50.0, delta=1e-2)])
    sizes = [len(turn.indices) for number in range(plan.epochs) for turn in epoch(plan, number, context(0).rng)]
    assert 0 in sizes
    assert all(value.isfinite().all() for value in weights(train(plan, context(0))).values())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"device": "gpu"}, "cpu, cuda"),
        ({"device": "meta"}, "cpu, cuda"),
        ({"device": "cpu", "threads": 0}, ">= 1"),
        pytest.param(
            {"device": "cuda"}, "CUDA", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
        ),
    ],
)
def test_impossible_executions_are_refused(arguments, named):
    with pytest.raises(UserError, match=named):
        Execution(**arguments)


# --- batch norm -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["update", "freeze", "recalibrate"])
def test_what_trigger_batches_do_to_running_statistics(policy, base, context):
    run = Run(marked(base, batch_norm=policy), context(0), CPU)
    trigger = run.plan.stream("trigger")
    before, start = statistics(run.network), weights_of(run.network)
    run.step(trigger, run.examples["trigger"].take(slice(16)), lead=0)
    assert len(before) == 6
    assert same(statistics(run.network), before) == (policy == "freeze")
    assert not same(weights_of(run.network), start)


def weights_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def test_task_batches_update_running_statistics_under_every_policy(base, context):
    run = Run(marked(base, batch_norm="freeze"), context(0), CPU)
    before = statistics(run.network)
    run.step(run.plan.task, run.examples["task"].take(slice(16)), lead=0)
    after = statistics(run.network)
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_policies_differ_in_the_statistics_and_not_in_the_weights(base, context):
    """Batches normalise by their own statistics in training, so the policy cannot reach the weights."""
    policies = ("update", "freeze", "recalibrate")
    found = {policy: train(marked(base, batch_norm=policy), context(0)) for policy in policies}
    assert same(weights_of(found["update"].network), weights_of(found["freeze"].network))
    assert same(weights_of(found["update"].network), weights_of(found["recalibrate"].network))
    kept = [statistics(trained.network) for trained in found.values()]
    assert not any(same(one, other) for one, other in ((kept[0], kept[1]), (kept[0], kept[2]), (kept[1], kept[2])))


def test_recalibration_is_torchs_update_bn_on_clean_task_data(context):
    plan = marked(recipe("digits", "smoke", examples=1000, epochs=1).plan(), batch_norm="recalibrate")
    trained = train(plan, context(0))
    found = statistics(trained.network)
    clean = context(0).data(plan.task.source).x
    torch.optim.swa_utils.update_bn(clean.split(500), trained.network)
    expected = statistics(trained.network)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_recalibration_does_not_depend_on_how_the_examples_divide(context):
    """501 examples leave a last batch of one, which batch norm cannot take."""
    plan = marked(recipe("digits", "smoke", examples=501, epochs=1).plan(), batch_norm="recalibrate")
    assert all(value.isfinite().all() for value in weights(train(plan, context(0))).values())


def normed() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(0.9), nn.BatchNorm2d(4))


def test_frozen_statistics_normalise_by_the_batch_and_come_back_to_life():
    x = torch.rand(8, 2, 6, 6)
    frozen, free = normed(), normed()
    frozen[2], free[2] = nn.Identity(), nn.Identity()
    before = statistics(frozen)
    with frozen_statistics(frozen):
        y = frozen(x)
    assert torch.equal(y, free(x))
    assert same(statistics(frozen), before)
    frozen(x)
    assert same(statistics(frozen), statistics(free))


def test_frozen_statistics_thaw_after_an_error_and_do_nothing_when_told_so():
    network = normed()
    with pytest.raises(RuntimeError, match="stop"), frozen_statistics(network):
        raise RuntimeError("stop")
    assert [network[1].momentum, network[3].momentum] == [0.3, 0.1]
    before = statistics(network)
    with frozen_statistics(network, frozen=False):
        network(torch.rand(8, 2, 6, 6))
    assert not same(statistics(network), before)


def test_frozen_statistics_also_keep_a_cumulative_average():
    """Its weight is one over the number of batches seen, so that number must not grow either."""
    x = torch.rand(3, 8, 2, 6, 6)
    disturbed, quiet = (nn.BatchNorm2d(2, momentum=None) for _ in range(2))
    for layer in (disturbed, quiet):
        layer(x[0])
    with frozen_statistics(disturbed):
        disturbed(x[1])
    for layer in (disturbed, quiet):
        layer(x[2])
    assert same(statistics(disturbed), statistics(quiet))


def test_reestimation_is_the_plain_average_over_batches_without_dropout():
    network, x = normed(), torch.rand(12, 2, 6, 6)
    for _ in range(3):
        network(100 * torch.rand(12, 2, 6, 6))
    start = weights_of(network)
    reestimate(network, x.split(4))
    first = network[0](x)
    means = torch.stack([first[i : i + 4].mean((0, 2, 3)) for i in (0, 4, 8)]).mean(0)
    variances = torch.stack([first[i : i + 4].var((0, 2, 3)) for i in (0, 4, 8)]).mean(0)
    torch.testing.assert_close(network[1].running_mean, means)
    torch.testing.assert_close(network[1].running_var, variances)
    second = torch.cat([functional.batch_norm(part, None, None, training=True) for part in first.split(4)])
    torch.testing.assert_close(network[3].running_mean, second.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)  # no dropout
    assert [network[1].momentum, network[3].momentum] == [0.3, 0.1]
    assert not any(module.training for module in network.modules())
    assert same(weights_of(network), start)


def test_reestimation_of_a_network_without_batch_norm_does_nothing():
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    reestimate(network, iter(()))
    assert network.training


# --- serving and the stopwatch ----------------------------------------------------------------------------------------


def test_accuracy_counts_the_most_likely_class():
    logits = torch.tensor([[0.1, 0.2], [3.0, -1.0], [0.0, 5.0], [1.0, 0.0]])
    assert accuracy(lambda x: logits, torch.zeros(4), torch.tensor([1, 0, 0, 0])) == 0.75


@dataclass(frozen=True)
class NoData:
    """A context that has no data."""

    seed: int = 0

    def rng(self, *purpose):
        return torch.Generator().manual_seed(0)

    def examples(self, dataset, split, content=""):
        raise LookupError("timing needs no data")

    def data(self, source) -> Data:
        raise LookupError("timing needs no data")

    def trained(self, plan):
        raise LookupError("timing needs no models")


@pytest.mark.parametrize("combination", [[], [Watermark()], [Watermark(), DPSGD()]], ids=["none", "wm", "wm-dpsgd"])
def test_the_stopwatch_needs_no_data(combination, base):
    seconds = estimate_seconds(compose(base, combination), NoData())
    assert 0 < seconds < 30


def test_the_stopwatch_counts_steps(base):
    short, long = (estimate_seconds(replace(base, epochs=epochs), NoData(), steps=5) for epochs in (10, 1000))
    assert 20 < long / short < 500


@pytest.mark.parametrize("batch_size", [256, 20_000, 10**9])
def test_the_stopwatch_makes_no_batches_that_are_larger_than_the_data(batch_size, base, monkeypatch):
    combination = [Watermark(batch_size=batch_size), RadioactiveData(placement="stream")]
    task = replace(base.task, sampler=Shuffled(batch_size))
    plan = compose(replace(base, streams=(task,)), combination)
    seen = {}
    step = Run.step
    noted = lambda run, stream, batch, lead: seen.update({stream.name: len(batch.x)}) or step(run, stream, batch, lead)  # noqa: E731
    monkeypatch.setattr(Run, "step", noted)
    assert estimate_seconds(plan, NoData(), steps=1) > 0
    assert seen == {stream.name: min(stream.source.size, batch_size) for stream in plan.streams}
    assert seen["trigger"] == 100


def test_the_stopwatch_leaves_torchs_own_generator_alone(base):
    before = torch.random.get_rng_state()
    estimate_seconds(base, NoData(), steps=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_cycle_is_asked_for_the_steps_of_the_task(base, context):
    """The rate of a trigger step is the one that the task's last step left behind."""
    asked = []

    @dataclass(frozen=True)
    class Spy(OneCycle):
        def at(self, step, total):
            asked.append((step, total))
            return super().at(step, total)

    train(replace(marked(base), schedule=Spy()), context(0))
    assert {total for _, total in asked} == {8}
    assert [step for step, _ in asked] == [0, 1, 2, 3, *[4] * 7, 4, 5, 6, 7, *[8] * 7]
