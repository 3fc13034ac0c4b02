"""What the privacy of a whole training rests on: fresh noise, independent batches, and every step on a person counted.

An accountant takes these for granted, and a training without them looks like one with them: same plan, same epsilon.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations

import pytest
import torch
from scipy.stats import binom

from guardclash.compose import compose
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.wm import Watermark
from guardclash.numerics.accounting import calibrated_noise, composed_epsilon, epsilon_spent
from guardclash.plan.gradients import ClippedNoisy, Mean
from guardclash.plan.plan import Plan, Stream
from guardclash.plan.samplers import Poisson, Shuffled
from guardclash.plan.sources import Split
from guardclash.training.timeline import epoch
from guardclash.training.train import Run

CPU = torch.device("cpu")

# --- noise ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Empty:
    """One batch without examples per pass: its gradient is noise alone."""

    batch_size: int = 4

    def steps(self, size):
        return 1

    def batches(self, size, rng):
        return [torch.zeros(0, dtype=torch.int64)]


@pytest.fixture(scope="module")
def silent(base) -> Plan:
    """A private training of a task and a trigger set whose batches are all empty."""
    plan = compose(base, [Watermark(), DPSGD()])
    streams = (replace(stream, sampler=Empty(), gradient=ClippedNoisy(0.5, 3.0, 16.0)) for stream in plan.streams)
    return replace(plan, streams=tuple(streams))


def noise_of(run: Run, stream: Stream | None = None, number: int = 0) -> torch.Tensor:
    """The gradient after one step on an empty batch, or after a whole epoch, in standard deviations."""
    if stream is None:
        run.epoch(number)
    else:
        run.step(stream, run.examples[stream.name].take(slice(0)), lead=0)
    gradient = torch.cat([parameter.grad.flatten() for parameter in run.network.parameters()])
    return gradient / (3.0 * 0.5 / 16.0)


def assert_unrelated(draws: list[torch.Tensor]) -> None:
    """No draw is another one, its opposite or a part of it: correlations are within 5 standard errors of nothing."""
    found = torch.corrcoef(torch.stack(draws)) - torch.eye(len(draws))
    assert found.abs().max().item() < 5 / math.sqrt(len(draws[0]))


def test_the_noise_of_every_step_is_new(silent, context):
    """The same noise twice falls out of the difference of two steps, and with it all privacy."""
    run, task_only = (Run(plan, context(0), CPU) for plan in (silent, replace(silent, streams=silent.streams[:1])))
    assert_unrelated([noise_of(run, silent.task) for _ in range(4)])
    assert_unrelated([noise_of(task_only, number=number) for number in range(3)])


def test_the_noise_of_every_stream_is_its_own(silent, context):
    run = Run(silent, context(0), CPU)
    assert_unrelated([noise_of(run, stream) for _ in range(3) for stream in silent.streams])


def test_the_noise_of_every_seed_is_its_own_and_comes_again(silent, context):
    first, again, other, third = ([noise_of(Run(silent, context(seed), CPU), silent.task)] for seed in (0, 0, 1, 2))
    assert torch.equal(first[0], again[0])
    assert_unrelated([*first, *other, *third])


def test_the_noise_that_reaches_the_weights_has_the_deviation_of_the_plan(silent, context):
    run = Run(silent, context(0), CPU)
    noise = torch.cat([noise_of(run, stream) for _ in range(10) for stream in silent.streams])
    assert noise.std().item() == pytest.approx(1, abs=5 / math.sqrt(2 * len(noise)))
    assert noise.mean().item() == pytest.approx(0, abs=5 / math.sqrt(len(noise)))


# --- batches ----------------------------------------------------------------------------------------------------------


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def members(batches: list[torch.Tensor], size: int) -> torch.Tensor:
    """Which example is in which batch, as numbers 0 and 1 [batches, size]."""
    found = torch.zeros(len(batches), size, dtype=torch.float64)
    for row, batch in zip(found, batches, strict=True):
        row[batch] = 1
    return found


def assert_independent(joined: torch.Tensor, rate: float) -> None:
    """Membership [trainings, batches, size] is a coin of its own for each batch; to 6 standard errors."""
    trainings, batches, size = joined.shape
    draws = trainings * size
    for one, other in combinations(range(batches), 2):
        both = (joined[:, one] * joined[:, other]).mean().item()
        assert both == pytest.approx(rate**2, abs=6 * rate / math.sqrt(draws)), f"batches {one} and {other}"
    counts = joined.sum(1).long().flatten().bincount(minlength=batches + 1) / draws
    for times, share in enumerate(counts.tolist()):
        expected = binom.pmf(times, batches, rate)
        assert share == pytest.approx(expected, abs=6 * math.sqrt(expected / draws)), f"in {times} batches"


def test_the_batches_of_a_pass_are_independent():
    """So an example is in none, one or more of them; cutting a pass into parts would be another mechanism."""
    passes = [members(Poisson(10).batches(50, generator(seed)), 50) for seed in range(400)]
    assert_independent(torch.stack(passes), 0.2)


def test_the_batches_of_passes_and_epochs_are_independent(base, context):
    task = replace(base.task, source=Split("digits", limit=40), sampler=Poisson(20), passes=2)
    plan = replace(base, streams=(task,))
    trainings = [
        members([turn.indices for number in range(2) for turn in epoch(plan, number, context(seed).rng)], 40)
        for seed in range(300)
    ]
    assert trainings[0].shape == (8, 40)
    assert_independent(torch.stack(trainings), 0.5)


@pytest.mark.parametrize("above", [2.0**-50, 0.0])
def test_an_example_joins_where_its_draw_of_53_bits_is_below_the_rate(above, monkeypatch):
    """Down to the last bits: draws of 24 bits would round the rate that the accountant counts with."""
    rng = generator(5)
    draws = [torch.rand(100, generator=rng, dtype=torch.float64) for _ in range(12)]
    rate = draws[7].median().item() + above
    monkeypatch.setattr(Poisson, "rate", lambda self, size: rate)
    found = Poisson(8).batches(100, generator(5))
    assert [batch.tolist() for batch in found] == [(draw < rate).nonzero().flatten().tolist() for draw in draws]
    assert (draws[7].argsort()[49].item() in found[7]) == (above > 0)


# --- accounting -------------------------------------------------------------------------------------------------------

PEOPLE = Split("digits", limit=256)
ONCE, OFTEN = (2.0, 0.25, 8), (1.5, 0.0625, 96)
"""Noise multiplier, rate and steps of the two private streams below, in 2 epochs on these people."""


def private(name: str = "task", noise: float = 2.0, batch_size: int = 64, **changes: object) -> Stream:
    """Four steps per epoch on 256 people, unless something else is said."""
    stream = Stream(name, PEOPLE, Poisson(batch_size), gradient=ClippedNoisy(1.0, noise, batch_size))
    return replace(stream, **changes)


def often(**changes: object) -> Stream:
    return private("often", 1.5, 16, passes=3, **changes)


def spent(base: Plan, *streams: Stream, **options: object) -> dict[str, float]:
    return DPSGD(**options).spent(replace(base, epochs=2, streams=streams))


@pytest.mark.parametrize(("epsilon", "rate", "steps"), [(0.5, 0.25, 400), (40.0, 0.01, 20), (2000.0, 0.01, 20)])
def test_calibrated_noise_far_from_1_keeps_the_budget_and_hardly_less(epsilon, rate, steps):
    noise = calibrated_noise(epsilon, rate, steps, 1e-5)
    assert not 0.3 < noise < 20
    assert epsilon_spent(noise, rate, steps, 1e-5) <= epsilon < epsilon_spent(noise * (1 - 2.1e-4), rate, steps, 1e-5)


def test_the_composition_of_whole_batches_is_one_gaussian_mechanism():
    """At rate 1, steps of noise σ add up in 1/σ²; so 2 steps at 2 and 8 at 4 are one at 1."""
    both = composed_epsilon(((2.0, 1.0, 2), (4.0, 1.0, 8)), 1e-5)
    assert both == pytest.approx(epsilon_spent(1.0, 1.0, 1, 1e-5), rel=1e-6)


def test_streams_on_the_same_people_spend_together(base):
    both = spent(base, private(), often())
    assert both == pytest.approx(dict.fromkeys(["task", "often"], composed_epsilon((ONCE, OFTEN), 1e-5)), rel=1e-9)
    assert both["task"] > 1.1 * max(*spent(base, private()).values(), *spent(base, often()).values())
    assert spent(base, private()) == pytest.approx({"task": composed_epsilon((ONCE,), 1e-5)}, rel=1e-9)


@pytest.mark.parametrize("limit", [100, None])
def test_overlapping_parts_of_a_split_are_the_same_people(limit, base):
    source = Split("digits", limit=limit)
    both = spent(base, private(), often(source=source))
    history = ONCE, (1.5, 16 / source.size, 2 * 3 * (source.size // 16))
    assert both == pytest.approx(dict.fromkeys(["task", "often"], composed_epsilon(history, 1e-5)), rel=1e-9)
    assert both["task"] > spent(base, private())["task"]


@pytest.mark.parametrize("source", [Split("digits", "test", limit=256), Split("photo-patches", "test", limit=256)])
def test_streams_on_other_people_spend_by_themselves(source, base):
    alone = spent(base, private()) | spent(base, often())
    assert spent(base, private(), often(source=source)) == pytest.approx(alone, rel=1e-9)


@pytest.mark.parametrize("source", [PEOPLE, Split("digits"), Split("digits", limit=100)])
@pytest.mark.parametrize(
    "unprotected",
    [{"gradient": Mean()}, {"gradient": Mean(), "sampler": Shuffled(16)}, {"sampler": Shuffled(16)}],
    ids=["no noise", "plain", "not sampled"],
)
def test_a_stream_without_privacy_on_the_same_people_spends_everything(unprotected, source, base):
    assert spent(base, private(), often(source=source, **unprotected))["task"] == math.inf
    elsewhere = often(source=Split("digits", "test", limit=100), **unprotected)
    assert spent(base, private(), elsewhere) == spent(base, private())


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_epsilon_is_that_of_the_delta_and_of_the_accountant(delta, accountant, base):
    """Numerical accounting is tighter, and a smaller delta is dearer."""
    asked = spent(base, private(), often(), delta=delta, accountant=accountant)
    assert asked == pytest.approx(
        dict.fromkeys(["task", "often"], composed_epsilon((ONCE, OFTEN), delta, accountant)), rel=1e-9
    )
    assert asked["task"] > 1.05 * spent(base, private(), often(), delta=10 * delta, accountant=accountant)["task"]
    assert spent(base, private(), often(), delta=delta, accountant="prv")["task"] <= asked["task"]
