"""Oblivious training: arithmetic in the trainer, the mechanism, its measure, its cost, and DP-SGD beside it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from guardclash.compose import Clash, compose
from guardclash.errors import UserError
from guardclash.measures.oblivious import Oblivious
from guardclash.mechanisms.advtr import AdversarialTraining
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.fixedpoint import FixedPointTraining
from guardclash.mechanisms.trades import Trades
from guardclash.mechanisms.wm import Watermark
from guardclash.plan.communication import SOFTMAX, Cost, step_cost, training_cost
from guardclash.plan.fixedpoint import FixedPoint, RoundedLayers, floated, in_fixed_point
from guardclash.plan.gradients import kept_in
from guardclash.plan.identity import describe, fingerprint
from guardclash.plan.optimizers import SGD, Adam
from guardclash.plan.plan import OtherSeed
from guardclash.registry import find_mechanisms
from guardclash.studies.engines import Inline
from guardclash.tasks.recipe import recipe
from guardclash.training.released import Chance, released_gradient
from guardclash.training.train import Diverged, Run, build_network, train
from guardclash.training.trained import Trained, accuracy, predictor
from running import ran, report, study, values

CPU = torch.device("cpu")
VARIANTS = [
    FixedPointTraining(),
    FixedPointTraining(bits=13, truncation="nearest", activations="floor", softmax="secureml", where="examples"),
    FixedPointTraining(activation="polynomial", roots="crypten", softmax="exact"),
]
OTHERS = {name: cls for name, cls in find_mechanisms().items() if name != "fixedpoint"}


def on_grid(x: torch.Tensor, bits: int) -> bool:
    return bool(torch.equal(x * 2**bits, (x * 2**bits).round()))


@pytest.fixture(scope="module")
def digits():
    """Long enough to learn: about 0.95."""
    return recipe("digits", "smoke", epochs=15).plan()


# In the trainer


def test_without_an_arithmetic_a_plan_has_the_key_that_it_had(base):
    assert base.arithmetic is None
    assert "arithmetic" not in describe(base)
    assert fingerprint(replace(base, arithmetic=FixedPoint())) != fingerprint(base)


@pytest.mark.parametrize("optimizer", [SGD(0.1), Adam(0.001)], ids=["sgd", "adam"])
def test_what_is_kept_is_on_the_grid_from_the_first_weights_on(toy, context, optimizer):
    plan = replace(toy, arithmetic=FixedPoint(9), optimizer=optimizer)
    run = Run(plan, context(0), CPU)
    for _ in range(2):
        assert all(on_grid(one, 9) for one in run.network.parameters())
        run.step(plan.task, run.examples["task"].take(slice(20)), 0)
    kept = [value for one in run._states[None].state.values() for value in one.values()]
    assert kept and all(on_grid(value, 9) for value in kept)
    assert all(on_grid(one.grad, 9) for one in run.network.parameters())


def step(plan, context, chance=None):
    run = Run(plan, context(0), CPU)
    batch = run.examples["task"].take(slice(20))
    return released_gradient(run.plan, run.network, plan.task, batch, chance or run._chance["task"]).gradient


def test_what_is_released_is_rounded_with_and_without_chance_of_its_own(toy, context):
    plan = replace(toy, arithmetic=FixedPoint(9))
    assert all(on_grid(one, 9) for one in step(plan, context).values())
    two = Chance(torch.Generator(), torch.Generator())
    assert all(on_grid(one, 9) for one in step(plan, context, two).values())


def test_neither_noise_nor_dropout_is_drawn_otherwise(base, context):
    """Else a model would differ from its float twin by more than its arithmetic."""
    private = compose(base, [DPSGD()])
    private = replace(private, rewrites=(*private.rewrites, RoundedLayers(22)))
    plain, kept = (step(replace(private, arithmetic=one), context) for one in (None, FixedPoint(22)))
    assert all(torch.allclose(plain[name], kept[name], atol=2**-16) for name in plain)
    run = Run(replace(compose(base, [FixedPointTraining()])), context(0), CPU)
    with torch.random.fork_rng(devices=[]):
        before = torch.random.get_rng_state()
        run.step(run.plan.task, run.examples["task"].take(slice(20)), 0)
        assert torch.equal(torch.random.get_rng_state(), before)


def test_a_second_arithmetic_is_a_clash(base):
    with pytest.raises(Clash, match="arithmetic"):
        compose(base, [FixedPointTraining(bits=13), FixedPointTraining(bits=16)])


def test_what_a_thief_goes_on_with_is_in_floats(base, context):
    """Roundings behind layers act in the steps of a training that has the arithmetic, and only in these."""
    victim = compose(base, [FixedPointTraining(bits=8)])
    thief = replace(base, initial=victim, epochs=1, party="thief")
    run = Run(thief, context(0), CPU)
    run.step(thief.task, run.examples["task"].take(slice(20)), 0)
    assert not all(on_grid(one, 8) for one in run.network.parameters())
    assert floated(thief).initial == base
    assert in_fixed_point(thief)


# The mechanism


@pytest.mark.parametrize("name", sorted(OTHERS))
@pytest.mark.parametrize("variant", VARIANTS, ids=["default", "examples", "polynomial"])
def test_the_twin_of_a_combination_is_the_combination_without_it(name, variant, base):
    other = OTHERS[name]()
    try:
        both = compose(base, [other, variant])
    except Clash:
        return
    alone = compose(base, [other])
    assert floated(both) == alone
    assert fingerprint(floated(both)) == fingerprint(alone) != fingerprint(both)
    assert in_fixed_point(both) and not in_fixed_point(alone)
    assert floated(alone) is alone


def test_it_composes_with_what_table_9_asks_for(base):
    for name in ("dpsgd", "advtr", "trades", "wm", "raddata", "di"):
        assert compose(base, [OTHERS[name](), FixedPointTraining()]).arithmetic == FixedPoint()


def test_norms_that_others_put_in_are_rounded_too(base, context):
    network = build_network(compose(base, [DPSGD(), FixedPointTraining(bits=6)]), context(0)).eval()
    x = context(0).data(base.judged_by.test).x[:5]
    seen = []
    for one in network.modules():
        if isinstance(one, nn.GroupNorm | nn.Conv2d | nn.Linear):
            one.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(x)
    assert len(seen) == 7 and all(on_grid(one, 6) for one in seen)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": 0},
        {"bits": 32},
        {"bits": 1.5},
        {"truncation": "up"},
        {"activations": "up"},
        {"softmax": "falcon"},
        {"roots": "secureml"},
        {"activation": "gelu"},
        {"where": "nowhere"},
    ],
)
def test_options_are_checked(wrong):
    with pytest.raises(UserError, match=f"fixedpoint.{next(iter(wrong))}"):
        FixedPointTraining(**wrong)


def test_a_network_that_compares_in_its_code_is_no_polynomial():
    plan = recipe("cifar10", "smoke").plan()
    plan = replace(plan, model=replace(recipe("cifar10", "paper").plan().model))
    with pytest.raises(UserError, match="relu"):
        compose(plan, [FixedPointTraining(activation="polynomial")])
    assert compose(plan, [FixedPointTraining()])


# What it does to a model


def test_with_26_bits_a_model_agrees_with_its_float_twin(digits, context):
    """Section 11.8. The approximated softmax is another function, so here it is exact."""
    plan = compose(digits, [FixedPointTraining(bits=26, softmax="exact")])
    found = Oblivious().measure(context(0).trained(plan), context(0))
    assert found["obl_agreement"] >= 0.99
    assert found["obl_agreement"] > found["obl_float_seeds"]
    assert found["obl_overflow"] == 0


@pytest.mark.slow
def test_rounding_down_everywhere_ruins_what_rounding_by_chance_does_not(digits, context):
    test = context(0).data(digits.judged_by.test)
    fair = context(0).trained(compose(digits, [FixedPointTraining(bits=13)]))
    assert accuracy(fair.predict, *test) > 0.85
    try:
        floor = context(0).trained(compose(digits, [FixedPointTraining(bits=13, truncation="floor")]))
    except Diverged:
        return
    assert accuracy(floor.predict, *test) < 0.6


@pytest.mark.slow
def test_fewer_bits_agree_less(digits, context):
    found = [
        Oblivious().measure(context(seed).trained(compose(digits, [FixedPointTraining(bits=bits)])), context(seed))
        for bits in (20, 13, 8)
        for seed in (0, 1, 2)
    ]
    means = [sum(one["obl_agreement"] for one in found[at : at + 3]) / 3 for at in (0, 3, 6)]
    assert means == sorted(means, reverse=True)
    lost = [sum(one["obl_lost_updates"] for one in found[at : at + 3]) / 3 for at in (0, 3, 6)]
    assert lost == sorted(lost)


def test_the_measure_needs_the_twin_and_another_seed_of_it(base):
    plan = compose(base, [Watermark(), FixedPointTraining()])
    assert Oblivious().needs(plan) == (compose(base, [Watermark()]), OtherSeed(compose(base, [Watermark()]), 0))
    assert Oblivious().needs(base) == FixedPointTraining().needs(base) == ()


def test_a_float_model_has_nothing_to_compare(base, context):
    trained = context(0).trained(base)
    assert FixedPointTraining().measure(trained, context(0)) == {}
    assert FixedPointTraining().warnings({}) == (), "reports would say it of every other cell and seed"


def test_a_model_that_is_its_twin_agrees_with_it(base, context):
    """Planted: the twin's own weights under the plan in fixed point; and others', which do not agree."""
    plan = compose(base, [FixedPointTraining(bits=31, softmax="exact")])
    twin = context(0).trained(base)
    own = build_network(plan, context(0))
    own.load_state_dict(twin.network.state_dict())
    own.eval()
    assert Oblivious().measure(Trained(plan, 0, own, predictor(own)), context(0))["obl_agreement"] == 1
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.copy_(torch.randn_like(parameter))
    assert Oblivious().measure(Trained(plan, 0, own, predictor(own)), context(0))["obl_agreement"] < 0.6


def test_measuring_is_the_same_of_a_model_from_the_store(base, context):
    plan = compose(base, [FixedPointTraining()])
    trained = context(0).trained(plan)
    loaded = build_network(plan, context(0))
    loaded.load_state_dict(deepcopy(trained.network.state_dict()))
    loaded.eval()
    again = Trained(plan, 0, loaded, predictor(loaded))
    assert Oblivious().measure(again, context(0)) == Oblivious().measure(trained, context(0))


def test_lost_updates_are_told(base, context):
    steady = replace(base, optimizer=SGD(1e-4, weight_decay=0.0))
    for bits, wanted in ((7, 1.0), (31, 0.0)):
        # To the nearest: by chance, a small update moves a weight by a whole unit now and then.
        plan = replace(steady, arithmetic=FixedPoint(bits, "nearest"), rewrites=(RoundedLayers(12),))
        found = Oblivious().measure(context(0).trained(plan), context(0))
        assert found["obl_lost_updates"] == pytest.approx(wanted, abs=0.05)


def test_values_that_outgrow_the_ring_are_told(base, context):
    plan = compose(base, [FixedPointTraining(bits=31, softmax="exact")])  # magnitudes from 2 on
    found = Oblivious().measure(context(0).trained(plan), context(0))
    assert 0 < found["obl_overflow"] < 0.5
    assert any("ring" in warning for warning in Oblivious().warnings(found))


def test_variances_that_crypten_normalises_wrongly_are_told(base, context):
    plan = compose(base, [FixedPointTraining()])
    trained = context(0).trained(plan)
    found = Oblivious().measure(trained, context(0))
    network = deepcopy(trained.network)
    norms = [one for one in network.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    for one in norms:
        one.running_var.fill_(1.0)
    right = Oblivious().measure(Trained(plan, 0, network, predictor(network)), context(0))
    norms[0].running_var.fill_(250.0)
    wrong = Oblivious().measure(Trained(plan, 0, network, predictor(network)), context(0))
    assert right["obl_wrong_roots"] == 0
    size = sum(one.num_features for one in norms)
    assert wrong["obl_wrong_roots"] == pytest.approx(norms[0].num_features / size)
    assert any("inverse root" in warning for warning in Oblivious().warnings(wrong))
    assert 0 <= found["obl_wrong_roots"] <= 1


# Beside DP-SGD


def test_rounding_the_noisy_sum_costs_no_privacy(base):
    alone, both = (compose(base, [DPSGD(), *more]) for more in ((), (FixedPointTraining(bits=8),)))
    assert DPSGD().spent(both) == DPSGD().spent(alone)
    assert both.streams == alone.streams


@pytest.mark.parametrize("truncation", ["probabilistic", "nearest", "toward_zero"])
def test_rounding_each_gradient_costs_what_it_may_lengthen_it(base, truncation):
    spent = {
        bits: DPSGD().spent(
            compose(base, [DPSGD(), FixedPointTraining(bits=bits, truncation=truncation, where="examples")])
        )["task"]
        for bits in (20, 10, 8)
    }
    alone = DPSGD().spent(compose(base, [DPSGD()]))["task"]
    if truncation == "toward_zero":  # shortens
        assert set(spent.values()) == {alone}
    else:
        assert alone < spent[20] < 1.01 * alone < spent[10] < spent[8]


def test_the_noise_that_accounting_counts(base):
    plan = compose(base, [DPSGD(clip=0.5), FixedPointTraining(bits=8, truncation="nearest", where="examples")])
    rule = kept_in(plan.task.gradient, plan.arithmetic)
    numbers = 47_000
    enlarged = 0.5 + numbers**0.5 / 2**9
    assert rule.noise_over(numbers) == pytest.approx(rule.noise_multiplier * 0.5 / enlarged)
    facts = FixedPointTraining().facts(plan)
    assert "length that rounding may add to an example's gradient" in facts


def test_each_gradient_is_rounded_in_the_training(base, context):
    """Without noise, the sum of rounded gradients is on the grid before it is divided by the batch."""
    plan = compose(base, [DPSGD(), FixedPointTraining(bits=6, where="examples")])
    silent = replace(plan.task, gradient=replace(plan.task.gradient, noise_multiplier=0.0, expected_batch_size=1.0))
    for examples in (True, False):
        kept = FixedPoint(6, examples=examples)
        quiet = replace(plan, streams=(silent,), arithmetic=replace(kept, bits=30))
        fine = replace(quiet, arithmetic=kept)
        run = Run(fine, context(0), CPU)
        batch = run.examples["task"].take(slice(20))
        rule = kept_in(silent.gradient, kept)
        assert (rule.each is not None) == examples

        def losses(run=run, batch=batch):
            return nn.functional.cross_entropy(run.network(batch.x), batch.y, reduction="none")

        found = rule(run.network.train(), losses, torch.Generator())
        assert all(on_grid(one, 6) for one in found.values()) == examples


def test_it_trains_beside_dpsgd_and_attacks(toy, context):
    for others in ([DPSGD()], [DPSGD(), AdversarialTraining(steps=2)], [Trades(steps=2)], [Watermark(batch_size=20)]):
        for variant in (VARIANTS[0], VARIANTS[1], VARIANTS[2]):
            trained = train(compose(toy, [*others, variant]), context(0))
            assert all(on_grid(one, variant.bits) for one in trained.network.parameters())


# The cost model


@pytest.fixture(scope="module")
def table9():
    """A step of 128 images of the small network for MNIST, as section 3.5 of the method counts it."""
    return recipe("mnist", "reduced", batch_size=128, examples=10_000, epochs=10).plan()


def test_a_step_costs_4_gigabytes_and_300_rounds(table9):
    cost = step_cost(table9, table9.task)
    assert cost.bytes / 1e9 == pytest.approx(4.2, abs=0.06)
    assert 280 <= cost.rounds <= 320
    # By hand, from the constants: 15 + 50 + 17 MB of products, 3,565 + 77 pooling, 287 + 20 ReLU, 50 + 79 norms, 2.
    by_hand = (14.93 + 50.38 + 16.59 + 3564.5 + 77.07 + 286.98 + 19.79 + 49.54 + 79.17 + 2.12) * 1e6
    assert cost.bytes == pytest.approx(by_hand, rel=2e-4)
    assert training_cost(table9).bytes == pytest.approx(10 * 79 * cost.bytes)
    assert training_cost(table9).bytes / 10 / 1e9 == pytest.approx(325, rel=0.03)


def test_what_makes_it_cheaper_and_dearer(table9):
    plain = step_cost(table9, table9.task).bytes
    average = compose(table9, [FixedPointTraining(activation="polynomial")])
    assert step_cost(average, average.task).bytes / 1e9 == pytest.approx(0.25, abs=0.1)
    assert step_cost(table9, table9.task, "secureml").bytes < plain
    attacked = compose(table9, [AdversarialTraining(steps=5)])
    assert 5.8 <= step_cost(attacked, attacked.task).bytes / plain <= 6.0
    trades = compose(table9, [Trades(steps=5)])
    assert 5.8 <= step_cost(trades, trades.task).bytes / plain <= 7.0
    private = compose(table9, [DPSGD()])
    roots = step_cost(private, private.task).bytes - plain
    assert 30e6 < roots < 45e6  # norms of single examples 31 MB, and the roots of group norm's own variances
    assert step_cost(compose(table9, [FixedPointTraining()]), table9.task).bytes == plain


def test_costs_add_up():
    assert Cost(1, 2).plus(Cost(10, 20), Cost(100, 200)) == Cost(111, 222)
    assert Cost(1, 2).times(3) == Cost(3, 6)
    assert str(Cost(4.16e9, 288)) == "4.16 GB and 288 rounds"
    assert SOFTMAX.bytes * 10 == pytest.approx(16_592)


# A study


def test_a_study_reports_it(site):
    wanted = study(["fixedpoint"], seeds=2, recipe={"epochs": 4})
    content = ran(wanted, site, Inline())
    found = values(content, ["fixedpoint"])
    assert all(0.5 < found[seed]["obl_agreement"] <= 1 for seed in (0, 1))
    assert found[0]["obl_gigabytes"] == found[1]["obl_gigabytes"]
    text = report(wanted, content)
    assert "φ_OBL" in text and "GB per epoch" in text
    none = values(content, [])
    assert not any(name.startswith("obl_") for one in none.values() for name in one)
