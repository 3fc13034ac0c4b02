"""Batches as one value: what is known about examples, weights, labels as vectors, the moment, memory, what a step
releases, and other replicates."""

from __future__ import annotations

import dataclasses
import re
import sys
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from guardclash.compose import Clash, compose
from guardclash.errors import UserError
from guardclash.mechanisms.advtr import AdversarialTraining
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.raddata import RadioactiveData
from guardclash.mechanisms.trades import Trades
from guardclash.mechanisms.wm import TriggerSet, Watermark
from guardclash.numerics.clipping import clipped_sum
from guardclash.plan.deployed import Deployed
from guardclash.plan.examples import Data, Moment, class_indices
from guardclash.plan.gradients import ClippedNoisy, Mean
from guardclash.plan.identity import describe, nested, type_name
from guardclash.plan.maps import FlipAndShift
from guardclash.plan.marked import Marked, Marks, Unmarked
from guardclash.plan.objectives import CrossEntropy
from guardclash.plan.plan import OtherSeed, Plan
from guardclash.plan.sources import Answers, Drawn, Split
from guardclash.registry import find_mechanism
from guardclash.studies.jobs import Site
from guardclash.studies.store import Store
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.released import Chance, released_gradient
from guardclash.training.train import Run, train
from guardclash.training.trained import accuracy

CPU = torch.device("cpu")
MARKS = RadioactiveData(ratio=0.25, radius=48, iterations=2, held_out=20)
WIDE = {"steps": 2, "precision": "float32"}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(count: int = 6, **about: torch.Tensor) -> Data:
    return Data(torch.rand(count, 1, 8, 8, generator=generator()), torch.arange(count) % 10, about)


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- examples ---------------------------------------------------------------------------------------------------------


def test_examples_are_their_images_and_labels():
    x, y = data = some()
    assert (x is data.x, y is data.y, data.about) == (True, True, {})


@pytest.mark.parametrize(
    "chosen",
    [torch.tensor([4, 1, 1]), torch.tensor([False, True, False, False, True, True]), slice(2, 5), slice(0)],
    ids=["indices", "mask", "slice", "none"],
)
def test_taking_some_cuts_all_that_is_known(chosen):
    data = some(6, index=torch.arange(6), group=torch.rand(6, 2))
    found = data.take(chosen)
    assert torch.equal(found.x, data.x[chosen])
    assert torch.equal(found.y, data.y[chosen])
    assert found.about.keys() == {"index", "group"}
    assert all(torch.equal(found.about[name], data.about[name][chosen]) for name in data.about)


@pytest.mark.parametrize(
    ("y", "about", "named"),
    [
        (torch.arange(5), {}, r"in y\)"),
        (torch.arange(6), {"group": torch.arange(5)}, r"about\.group"),
        (torch.arange(6), {"group": torch.tensor(1)}, r"about\.group"),
        (torch.arange(6), {"weight": torch.ones(7)}, r"about\.weight"),
        (torch.arange(6), {"weight": torch.ones(6, 1)}, r"about\.weight"),
        (torch.arange(6), {"weight": torch.ones(6, dtype=torch.int64)}, r"about\.weight"),
    ],
)
def test_what_is_not_one_entry_per_example_is_refused(y, about, named):
    with pytest.raises(UserError, match=named):
        Data(torch.rand(6, 1, 8, 8), y, about)


@dataclass(frozen=True)
class Told(RunContext):
    """A context whose data sets know the number of each image."""

    def examples(self, dataset: str, split: str, content: str = "") -> Data:
        data = super().examples(dataset, split, content)
        return replace(data, about={"index": torch.arange(len(data.y))})


@pytest.fixture(scope="module")
def told(context) -> RunContext:
    return Told(3, Path("nowhere"), context(0).models)


def marks_of(plan: Plan) -> Marks:
    return next(nested(compose(plan, [MARKS.bind(plan)]), Marks))


SOURCES = {
    "split": lambda plan: Split("digits", "train", 40, 7),
    "drawn": lambda plan: Drawn(plan.task.source, 30, "some", 3),
    "labels": lambda plan: Answers(plan.task.source, Deployed(plan)),
    "probabilities": lambda plan: Answers(plan.task.source, Deployed(plan), "probabilities"),
    "marks": marks_of,
    "marked": lambda plan: Marked(plan.task.source, marks_of(plan)),
    "unmarked": lambda plan: Unmarked(plan.task.source, marks_of(plan)),
    "triggers": lambda plan: TriggerSet(Split("digits", "train"), 20, "random", 10),
    "native triggers": lambda plan: TriggerSet(Split("digits", "train"), 20, "native", 10),
}


def test_every_source_is_among_them():
    """So that a new one is not forgotten."""
    import guardclash.mechanisms.wm
    import guardclash.plan.marked
    import guardclash.plan.sources

    modules = (guardclash.plan.sources, guardclash.plan.marked, guardclash.mechanisms.wm)
    found = {cls for module in modules for cls in vars(module).values() if isinstance(cls, type)}
    here = {cls for cls in found if hasattr(cls, "load") and cls.__module__ in {module.__name__ for module in modules}}
    plan = recipe("digits", "smoke").plan()
    assert {type(make(plan)) for make in SOURCES.values()} == here


@pytest.mark.parametrize("name", SOURCES)
def test_sources_hand_on_what_is_known_about_each_example(name, told, base):
    source = SOURCES[name](base)
    found, whole = told.data(source), told.examples("digits", "train")
    index = found.about["index"]
    assert len(index) == source.size
    moved = (found.x - whole.x[index]).flatten(1).abs().amax(1)
    if name in ("marks", "marked"):
        marked = source if name == "marks" else source.marks
        assert (moved > 0).sum() == marked.size
    else:
        assert (moved == 0).all()
    if name not in ("labels", "probabilities", "triggers"):
        assert torch.equal(found.y, whole.y[index])


@dataclass(frozen=True)
class Witness:
    """A loss that keeps the batches it is shown."""

    seen: list = field(default_factory=list, hash=False, compare=False)

    def __call__(self, network, batch, now):
        self.seen.append(batch)
        return CrossEntropy()(network, batch, now)


def test_batches_know_of_each_example_what_its_source_knows(told, base):
    witness = Witness()
    attack = AdversarialTraining(radius=1e-9, **WIDE).inner(base)
    task = replace(base.task, maps=(attack, Weighted()), objectives=(witness,))
    train(replace(base, streams=(task,), epochs=1), told)
    whole = told.examples("digits", "train")
    assert sorted(torch.cat([batch.about["index"] for batch in witness.seen]).tolist()) == list(range(256))
    for batch in witness.seen:
        torch.testing.assert_close(batch.x, whole.x[batch.about["index"]])
        assert torch.equal(batch.y, whole.y[batch.about["index"]])
        assert batch.about.keys() == {"index", "weight"}


@pytest.mark.parametrize("chosen", ["Marks", "held out"])
def test_kept_examples_come_back_with_what_is_known_about_them(chosen, tmp_path, told, base):
    marks = marks_of(base)
    source = marks if chosen == "Marks" else replace(marks, images=Split("digits", "test"), size=20)
    made = told.data(source)
    keeping = replace(told, keep=Site(Store(tmp_path / "runs"), tmp_path).keep)
    first, again = keeping.data(source), keeping.data(source)
    assert (tmp_path / "runs" / "data").is_dir()
    for found in (first, again):
        assert torch.equal(found.y, made.y)
        assert torch.equal(found.about["index"], made.about["index"])
        assert found.about["index"].dtype == torch.int64


def test_examples_kept_before_anything_was_known_have_nothing_about_them(told, base):
    old = {"x": torch.zeros(3, 1, 8, 8, dtype=torch.uint8), "y": torch.arange(3)}
    assert replace(told, keep=lambda identity, seed, make: old).data(marks_of(base)).about == {}


# --- labels -----------------------------------------------------------------------------------------------------------


def test_a_vector_stands_for_its_largest_entry():
    vectors = torch.tensor([[0.1, 0.9], [1.4, -0.4], [0.5, 0.5]])
    assert class_indices(vectors).tolist() == [1, 0, 0]
    y = torch.tensor([1, 0])
    assert class_indices(y) is y
    assert accuracy(lambda x: torch.tensor([[0.0, 1], [0, 1], [1, 0]]), torch.zeros(3), vectors) == pytest.approx(2 / 3)


@dataclass(frozen=True)
class OneHot:
    """A source's examples with vectors as labels."""

    images: Split

    @property
    def size(self):
        return self.images.size

    def load(self, context):
        data = context.data(self.images)
        return replace(data, y=functional.one_hot(data.y, 10).float())


@pytest.mark.parametrize(
    "combination",
    [[], [AdversarialTraining(**WIDE)], [Trades(**WIDE)], [MARKS], [DPSGD()], [Watermark()]],
    ids=["none", "advtr", "trades", "raddata", "dpsgd", "wm"],
)
def test_one_hot_labels_train_and_measure_as_indices_do(combination, toy, context):
    """Every built-in part takes vectors."""
    vectors = replace(toy, streams=(replace(toy.task, source=OneHot(toy.task.source)),))
    first, second = (
        train(compose(plan, [mechanism.bind(toy) for mechanism in combination]), context(0)) for plan in (toy, vectors)
    )
    for name, value in first.network.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    for mechanism in combination:
        one, two = (mechanism.bind(toy).measure(trained, context(0)) for trained in (first, second))
        assert one.keys() == two.keys()


# --- how parts are called ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OldMap:
    def __call__(self, network, x, y, rng):
        return x, y


@dataclass(frozen=True)
class OldLoss:
    def __call__(self, network, x, y):
        return functional.cross_entropy(network(x), y, reduction="none")


@dataclass(frozen=True)
class NotEvenCalled:
    size: int = 3


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({"maps": (FlipAndShift(), OldMap())}, r"task\.maps.*OldMap.*\(self, network, batch, rng, now\) -> Data"),
        ({"maps": (NotEvenCalled(),)}, r"task\.maps.*NotEvenCalled"),
        ({"maps": (CrossEntropy(),)}, r"task\.maps.*CrossEntropy"),
        ({"objectives": (OldLoss(),)}, r"task\.objectives.*OldLoss.*\(self, network, batch, now\) -> losses"),
        ({"objectives": (CrossEntropy(), FlipAndShift())}, r"task\.objectives.*FlipAndShift"),
    ],
)
def test_parts_of_another_form_are_refused_before_anything_is_trained(fields, form, base):
    with pytest.raises(UserError, match=form):
        replace(base.task, **fields)


@dataclass(frozen=True)
class Pair:
    """A map of the new form that gives back what the old one did."""

    def __call__(self, network, batch, rng, now):
        return batch.x, batch.y


@dataclass(frozen=True)
class Whatever:
    """It takes what it is given."""

    def __call__(self, network, batch, **rest):
        return batch


def test_a_map_that_gives_no_batch_back_is_told(base, context):
    plan = replace(base, streams=(replace(base.task, maps=(Whatever(), Pair())),))
    with pytest.raises(UserError, match=r"task\.maps.*tuple"):
        train(plan, context(0))


def test_the_documented_map_is_of_this_form(tmp_path, toy, context):
    """And named as the page says: the hash of the file is part of it."""
    page = (Path(__file__).parents[1] / "docs/extend.md").read_text(encoding="utf-8")
    file = tmp_path / "noise.py"
    file.write_text(re.search(r"```python\n(.*?)```", page, re.S)[1], encoding="utf-8")
    mechanism = find_mechanism("noise", (file,))()
    try:
        plan = compose(toy, [mechanism])
        assert f"`{type_name(type(plan.task.maps[0]))}`" in page
        found = mechanism.measure(train(plan, context(0)), context(0))
        assert found.keys() == {"noisy_accuracy"}
    finally:
        del sys.modules["guardclash_plugin_noise"]


# --- weights ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weighted:
    """A map that gives its examples weights, other ones for each image."""

    scale: float = 1.0

    def __call__(self, network, batch, rng, now):
        return replace(batch, about={**batch.about, "weight": weight_of(batch.x, self.scale)})


def weight_of(x: torch.Tensor, scale: float) -> torch.Tensor:
    return scale * (0.2 + x.flatten(1).mean(1))


@pytest.fixture
def network(toy) -> nn.Module:
    torch.manual_seed(0)
    return replace(toy.model, norm="group", dropout=0.0).build().train()


def plan_of(toy: Plan, **fields) -> Plan:
    model = replace(toy.model, norm="group", dropout=0.0)
    return replace(toy, model=model, streams=(replace(toy.task, **fields),))


def released(plan: Plan, network: nn.Module, batch: Data, seed: int = 0):
    return released_gradient(plan, network, plan.task, batch, Chance(generator(seed), generator(seed + 1)))


def single(network: nn.Module, batch: Data, place: int) -> dict[str, torch.Tensor]:
    """The gradient of one example's plain loss."""
    x, y = batch.take(slice(place, place + 1))
    found = torch.autograd.grad(functional.cross_entropy(network(x), y), list(network.parameters()))
    return dict(zip(dict(network.named_parameters()), found, strict=True))


def close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5 + 1e-4 * value.abs().max().item())


@pytest.mark.parametrize("given", ["source", "map"])
def test_weights_multiply_losses_in_the_mean(given, toy, network):
    batch = some()
    weight = weight_of(batch.x, 1.0)
    plan = plan_of(toy, maps=(Weighted(),) if given == "map" else ())
    found = released(plan, network, batch if given == "map" else replace(batch, about={"weight": weight}))
    each = [single(network, batch, place) for place in range(6)]
    close(
        found.gradient,
        {name: sum(w * part[name] for w, part in zip(weight, each, strict=True)) / 6 for name in found.gradient},
    )
    losses = functional.cross_entropy(network(batch.x), batch.y, reduction="none")
    torch.testing.assert_close(found.loss, (weight * losses).sum().detach())


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 30.0])
def test_weights_reach_clipping_as_any_loss_does(scale, toy, network):
    """The clipped sum of weighted losses is the sum of the clipped gradients of weighted losses: a weight lifts no
    bound."""
    batch = some()
    weight = weight_of(batch.x, scale)
    clip = 0.5
    plan = plan_of(toy, gradient=ClippedNoisy(clip, 0.0, 4.0))
    found = released(plan, network, replace(batch, about={"weight": weight}))
    expected = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    lengths = []
    for place, factor in enumerate(weight):
        parts = {name: factor * part for name, part in single(network, batch, place).items()}
        length = torch.stack([part.norm() for part in parts.values()]).norm()
        lengths.append(length.item())
        for name, part in parts.items():
            expected[name] += part * (clip / length.clamp(min=1e-12)).clamp(max=1) / 4.0
    close(found.gradient, expected)
    if scale:
        plain = clipped_sum(network, lambda: functional.cross_entropy(network(batch.x), batch.y, reduction="none"), 9e9)
        torch.testing.assert_close(torch.tensor(lengths), weight * plain.norms, rtol=1e-3, atol=1e-5)
    if scale == 30.0:
        assert min(lengths) > clip


def test_weights_of_one_are_no_weights(base, context):
    @dataclass(frozen=True)
    class Ones:
        def __call__(self, network, batch, rng, now):
            return replace(batch, about={"weight": torch.ones(len(batch.x))})

    plan = replace(base, streams=(replace(base.task, maps=(Ones(),)),))
    assert same(weights(train(plan, context(0)).network), weights(train(base, context(0)).network))


def test_weights_need_one_loss_per_example(toy, network):
    @dataclass(frozen=True)
    class MeanLoss:
        def __call__(self, network, batch, now):
            return functional.cross_entropy(network(batch.x), batch.y)

    plan = plan_of(toy, maps=(Weighted(),), objectives=(MeanLoss(),))
    with pytest.raises(UserError, match="one loss per example"):
        released(plan, network, some())


# --- what a step releases ---------------------------------------------------------------------------------------------


COMBINATIONS = {
    "none": [],
    "wm": [Watermark()],
    "advtr": [AdversarialTraining(steps=2)],
    "trades": [Trades(steps=2)],
    "dpsgd": [DPSGD()],
    "wm-dpsgd-advtr": [Watermark(), DPSGD(), AdversarialTraining(steps=2)],
}


@pytest.mark.parametrize("combination", COMBINATIONS.values(), ids=list(COMBINATIONS))
def test_a_step_is_the_released_gradient_and_the_update(combination, base, context):
    augmented = replace(base, streams=(replace(base.task, maps=(FlipAndShift(1), Weighted())),))
    run = Run(compose(augmented, combination), context(0), CPU)
    for stream in run.plan.streams:
        batch = run.examples[stream.name].take(slice(20))
        before = deepcopy(run.network)
        chance = Chance(*(torch.Generator() for _ in Chance._fields))
        for mine, theirs in zip(chance, run._chance[stream.name], strict=True):
            mine.set_state(theirs.get_state())
        torch.manual_seed(5)
        loss = run.step(stream, batch, lead=0)
        used = {name: parameter.grad for name, parameter in run.network.named_parameters()}
        torch.manual_seed(5)
        found = released_gradient(run.plan, before, stream, batch, chance)
        assert same(found.gradient, used)
        assert torch.equal(found.loss, loss)
        after = dict(before.named_buffers())
        assert same(after, dict(run.network.named_buffers())), "running statistics move as in the step"


@pytest.mark.parametrize("count", [0, 6])
def test_the_noise_is_that_of_the_given_generator(count, toy, network):
    plan = plan_of(toy, gradient=ClippedNoisy(1.0, 2.0, 8.0))
    quiet = plan_of(toy, gradient=ClippedNoisy(1.0, 0.0, 8.0))
    one, again, other = (released(plan, network, some(count), seed).gradient for seed in (1, 1, 2))
    assert same(one, again)
    silent, noise = released(quiet, network, some(count)).gradient, generator(2)
    for name, value in one.items():
        expected = silent[name] + 2.0 / 8.0 * torch.randn(value.shape, generator=noise)
        torch.testing.assert_close(value, expected)
        assert not torch.equal(value, other[name])


def test_a_finished_network_is_treated_as_one_under_way(toy, context):
    """Batch norm and dropout are those of the training, whatever mode the network comes in."""
    plan = replace(toy, model=replace(toy.model, norm="batch"))
    network = train(plan, context(0)).network
    found = []
    for mode in (True, False):
        network.train(mode)
        found.append(released(plan, deepcopy(network), some()).gradient)
    assert same(*found)


def test_weights_of_the_network_are_left_alone(toy, network):
    before = {name: value.clone() for name, value in network.named_parameters()}
    released(plan_of(toy), network, some())
    assert same(before, dict(network.named_parameters()))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_stream_of_another_plan_is_refused(toy, network):
    with pytest.raises(UserError, match="not a stream of the plan"):
        released_gradient(
            toy, network, replace(toy.task, name="other"), some(), Chance(generator(), generator()), Moment()
        )


# --- the moment, and memory -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Diary:
    """A map and a loss that notes when it is used."""

    seen: list = field(default_factory=list, hash=False, compare=False)

    def __call__(self, network, batch, now, rng=None):
        self.seen.append(now)
        return batch if rng else functional.cross_entropy(network(batch.x), batch.y, reduction="none")


@pytest.mark.parametrize("cadence", ["after_epoch", "mixed"])
def test_parts_know_the_moment(cadence, base, context):
    plan = compose(replace(base, epochs=3), [Watermark(cadence=cadence, passes=2)])
    diaries = {stream.name: (Diary(), Diary()) for stream in plan.streams}
    streams = (
        replace(stream, maps=(diaries[stream.name][0],), objectives=(diaries[stream.name][1],))
        for stream in plan.streams
    )
    train(replace(plan, streams=tuple(streams)), context(0))
    for stream in plan.streams:
        as_map, as_loss = (diary.seen for diary in diaries[stream.name])
        steps = stream.steps_per_epoch()
        assert [now.step for now in as_map] == list(range(3 * steps))
        assert [now.epoch for now in as_map] == [number for number in range(3) for _ in range(steps)]
        shares = [now.share for now in as_map]
        assert shares == sorted(shares)
        assert shares[-1] < 1
        assert all(now.epoch / 3 <= now.share <= (now.epoch + 1) / 3 for now in as_map)
        assert [(now.epoch, now.step, now.share) for now in as_loss] == [
            (now.epoch, now.step, now.share) for now in as_map
        ]
    total = plan.steps()
    assert [now.share for now in diaries["task"][0].seen] == [step / total for step in range(total)]


@dataclass(frozen=True)
class Counting:
    """A map and a loss that counts the batches it has seen; it says so or not."""

    seen: list = field(default_factory=list, hash=False, compare=False)

    def __call__(self, network, batch, now, rng=None):
        now.memory["count"] = now.memory.get("count", torch.zeros((), dtype=torch.int64)) + 1
        self.seen.append(int(now.memory["count"]))
        return batch if rng else functional.cross_entropy(network(batch.x), batch.y, reduction="none")


def test_memory_is_of_one_part_of_one_stream_in_one_training(base, context):
    """The same part, equal by value, several times in a plan; twice trained."""
    part = Counting()
    plan = compose(base, [Watermark()])
    streams = (replace(stream, maps=(part, part), objectives=(part, part)) for stream in plan.streams)
    plan = replace(plan, streams=tuple(streams))
    for _ in range(2):
        part.seen.clear()
        train(plan, context(0))
        steps = [plan.epochs * stream.steps_per_epoch() for stream in plan.streams]
        expected = [count for number in steps for count in range(1, number + 1) for _ in range(4)]
        assert sorted(part.seen) == sorted(expected)


def test_a_part_that_remembers_is_never_under_a_bound_on_examples(base, context):
    """Without the word for it, it is found at the first step; with it, when it is composed."""
    for slot in ("maps", "objectives"):
        plan = compose(base, [DPSGD()])
        part = Counting()
        silent = replace(plan, streams=(replace(plan.task, **{slot: (part,)}),))
        with pytest.raises(UserError, match=rf"task\.{slot}\[0\].*memory of count.*mixes_examples = True"):
            train(silent, context(0))
        assert part.seen == [1]
        train(replace(silent, streams=(replace(silent.task, gradient=Mean()),)), context(0))

    @dataclass(frozen=True)
    class Says(Counting):
        mixes_examples = True

    with pytest.raises(Clash, match="Says makes an example's loss depend on others"):
        compose(replace(base, streams=(replace(base.task, objectives=(Says(),)),)), [DPSGD()])


def test_memory_of_a_stream_without_a_bound_is_nobody_elses_business(base, context):
    plan = compose(base, [Watermark(), DPSGD(on=("task",))])
    task, trigger = plan.streams
    assert isinstance(task.gradient, ClippedNoisy)
    train(replace(plan, streams=(task, replace(trigger, objectives=(Counting(),)))), context(0))


# --- other replicates -------------------------------------------------------------------------------------------------


def test_other_seeds_are_what_they_were(base):
    other = OtherSeed(base)
    assert [other.seed(seed) for seed in range(7)] == [1, 2, 3, 4, 0, 1, 2]
    assert describe(other) == {"type": "OtherSeed", "plan": describe(base)}


@pytest.mark.parametrize("seed", range(12))
def test_companions_are_the_first_seeds_outside_of_the_pair(seed, base):
    found = [OtherSeed(base, companion).seed(seed) for companion in range(10)]
    pair = {seed, seed ^ 1}
    assert found == [other for other in range(12) if other not in pair][:10]
    assert found[:2] == ([2, 3] if seed < 2 else [0, 1])


@pytest.mark.parametrize("companion", [-1, -5])
def test_companions_count_from_0(companion, base):
    with pytest.raises(UserError, match="companion"):
        OtherSeed(base, companion)


def test_companions_are_trainings_of_their_own_keys(base):
    keys = [describe(OtherSeed(base, companion)) for companion in (None, 0, 1)]
    assert len({str(key) for key in keys}) == 3


def test_a_context_leads_to_that_of_another_replicate(context, base, told):
    asked = []
    here = replace(context(0), keep=lambda identity, seed, make: asked.append(seed) or make())
    there = here.under(3)
    assert there == replace(here, seed=3)
    assert (there.data_folder, there.models, there.keep) == (here.data_folder, here.models, here.keep)
    there.kept(base, dict)
    assert asked == [3]
    triggers = Watermark().trigger_set(base)
    assert torch.equal(there.data(triggers).x, context(3).data(triggers).x)
    assert not torch.equal(there.data(triggers).x, here.data(triggers).x)
    own, other = here.trained(OtherSeed(base, 1)), here.under(3).trained(base)
    assert (own.seed, own.weights) == (other.seed, other.weights)
    assert there.under(0) == here
    assert type(told.under(1)) is Told


def test_a_moment_starts_with_nothing_to_remember():
    assert Moment().memory == {}
    assert Moment().memory is not Moment().memory
    assert {part.name for part in dataclasses.fields(Moment)} == {"epoch", "step", "share", "memory"}
