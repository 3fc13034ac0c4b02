"""Composition: stage by stage, order-free, and strict about who may change what."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest

from guardclash.compose import ONE, STAGES, Clash, compose
from guardclash.errors import UserError
from guardclash.mechanism import Mechanism
from guardclash.mechanisms.advtr import AdversarialTraining
from guardclash.mechanisms.dpsgd import DPSGD, DPSGDControl
from guardclash.mechanisms.trades import RobustnessGap, Trades
from guardclash.mechanisms.wm import Watermark
from guardclash.plan.adversarial import Adversarial
from guardclash.plan.averaging import Averaging
from guardclash.plan.fixedpoint import FixedPoint
from guardclash.plan.gradients import ClippedNoisy, Mean
from guardclash.plan.identity import fingerprint
from guardclash.plan.maps import FlipAndShift
from guardclash.plan.models import CNN
from guardclash.plan.objectives import CrossEntropy
from guardclash.plan.optimizers import SGD, Adam
from guardclash.plan.plan import Plan, Stream
from guardclash.plan.rewrites import GroupNormForBatchNorm, WithoutDropout
from guardclash.plan.samplers import Poisson, Shuffled
from guardclash.plan.sources import Drawn, Split
from guardclash.registry import find_mechanisms
from guardclash.tasks.recipe import recipe


@dataclass(frozen=True)
class Probe(Mechanism):
    """Edits one field of the plan in one stage, or of each stream."""

    name = "probe"
    concern = "testing"

    stage: str = "data"
    field: str = ""
    value: object = None
    of_streams: bool = False

    def _plan(self, plan: Plan, stage: str) -> Plan:
        if stage != self.stage:
            return plan
        if self.of_streams:
            return replace(plan, streams=tuple(replace(s, **{self.field: self.value}) for s in plan.streams))
        return replace(plan, **{self.field: self.value})

    def _stream(self, stream: Stream, stage: str) -> Stream:
        return replace(stream, **{self.field: self.value}) if stage == self.stage else stream

    def data(self, plan):
        return self._plan(plan, "data")

    def architecture(self, plan):
        return self._plan(plan, "architecture")

    def batch(self, stream, plan):
        return self._stream(stream, "batch")

    def objective(self, stream, plan):
        return self._stream(stream, "objective")

    def gradient(self, stream, plan):
        return self._stream(stream, "gradient")


@dataclass(frozen=True)
class Other(Probe):
    """A second mechanism of the same kind."""

    name = "other"


@dataclass(frozen=True)
class Augment(Mechanism):
    """Adds a map to each stream."""

    name = "augment"
    concern = "testing"
    padding: int = 1

    def batch(self, stream, plan):
        return replace(stream, maps=(*stream.maps, FlipAndShift(self.padding)))


def test_no_mechanism_leaves_the_plan_as_it_is(base):
    assert compose(base, []) == base


def test_the_order_of_the_combination_does_not_matter(base):
    mechanisms = [Watermark(), DPSGD(), DPSGDControl()]
    plans = [compose(base, order) for order in itertools.permutations(mechanisms)]
    assert len(set(plans)) == 1
    assert len({fingerprint(plan) for plan in plans}) == 1


def test_wm_and_dpsgd_together_protect_every_stream(base):
    plan = compose(base, [Watermark(), DPSGD()])
    task, trigger = plan.streams
    assert [task.name, trigger.name] == ["task", "trigger"]
    for stream in plan.streams:
        assert isinstance(stream.sampler, Poisson)
        assert isinstance(stream.gradient, ClippedNoisy)
    assert task.gradient.noise_multiplier == trigger.gradient.noise_multiplier
    assert (task.gradient.expected_batch_size, trigger.gradient.expected_batch_size) == (64, 16)
    assert plan.rewrites == (GroupNormForBatchNorm(), WithoutDropout())


def test_the_relaxed_variant_leaves_the_trigger_stream_alone(base):
    marked, relaxed = compose(base, [Watermark()]), compose(base, [Watermark(), DPSGD(on=("task",))])
    assert relaxed.stream("trigger") == marked.stream("trigger")
    assert relaxed.stream("trigger").gradient == Mean()
    assert relaxed.stream("trigger").sampler == Shuffled(16)
    assert relaxed.stream("trigger").optimizer is None
    assert relaxed.task == compose(base, [DPSGD()]).task


def test_the_relaxed_variant_alone_is_the_joint_one_alone(base):
    joint, relaxed = compose(base, [DPSGD()]), compose(base, [DPSGD(on=("task",))])
    assert relaxed == joint
    assert fingerprint(relaxed) == fingerprint(joint)


def test_a_posthoc_mechanism_leaves_the_key(base):
    @dataclass(frozen=True)
    class Posthoc(Mechanism):
        name = "posthoc"
        concern = "testing"

        def measure(self, trained, context):
            return {"x": 1.0}

    assert fingerprint(compose(base, [Posthoc()])) == fingerprint(base)
    assert compose(base, [Posthoc(), Watermark()]) == compose(base, [Watermark()])


@pytest.mark.parametrize("cls", find_mechanisms().values(), ids=find_mechanisms().keys())
def test_touching_no_stream_is_the_identity(cls, base):
    assert compose(base, [cls(on=())]) == base
    assert compose(base, [Watermark(), cls(on=())]) == compose(base, [Watermark()])


def edit_of(stage: str, field: str, plan: Plan) -> Probe:
    """A probe that puts something else into a field of the plan or of the streams."""
    others = {
        "model": replace(plan.model, hidden=7),
        "epochs": 9,
        "optimizer": Adam(0.1),
        "schedule": SGD(1.0),
        "rewrites": (WithoutDropout(),),
        "arithmetic": FixedPoint(9),
        "averaging": Averaging(0.9),
        "name": "renamed",
        "source": Split("digits", limit=9),
        "sampler": Shuffled(9),
        "maps": (FlipAndShift(),),
        "objectives": (CrossEntropy(), CrossEntropy()),
        "gradient": ClippedNoisy(1.0, 1.0, 1.0),
        "cadence": "mixed",
        "passes": 9,
        "batch_norm": "freeze",
    }
    return Probe(stage=stage, field=field, value=others[field])


PLAN_FIELDS = ("model", "epochs", "optimizer", "schedule", "rewrites", "arithmetic", "averaging")
STREAM_FIELDS = ("name", "source", "sampler", "maps", "objectives", "gradient", "optimizer", "cadence", "passes")
STREAM_FIELDS = (*STREAM_FIELDS, "batch_norm")


@pytest.mark.parametrize(
    ("stage", "field"),
    [
        *itertools.product(["data", "architecture"], PLAN_FIELDS),
        *itertools.product(["batch", "objective", "gradient"], STREAM_FIELDS),
    ],
)
def test_a_stage_may_change_its_own_fields_only(stage, field, base):
    mechanism = edit_of(stage, field, base)
    if field in STAGES[stage]:
        assert compose(base, [mechanism]) != base
        return
    with pytest.raises(UserError) as caught:
        compose(base, [mechanism])
    for part in ("probe", f"{stage}()", repr(field), *STAGES[stage]):
        assert part in str(caught.value)
    if stage in ("batch", "objective", "gradient"):
        assert "'task'" in str(caught.value)


@pytest.mark.parametrize("field", [name for name in STREAM_FIELDS if name not in ("source", "name")])
def test_the_data_stage_may_give_a_stream_another_source_and_nothing_else(field, base):
    with pytest.raises(UserError, match=field):
        compose(base, [replace(edit_of("data", field, base), of_streams=True)])
    assert compose(base, [replace(edit_of("data", "source", base), of_streams=True)]).task.source.size == 9


@pytest.mark.parametrize("streams", ["none", "renamed", "reordered"])
def test_the_data_stage_may_not_remove_rename_or_reorder_streams(streams, base):
    marked = compose(base, [Watermark()])
    task, trigger = marked.streams
    value = {"none": (), "renamed": (task, replace(trigger, name="x")), "reordered": (trigger, task)}[streams]
    with pytest.raises(UserError):
        compose(marked, [Probe(stage="data", field="streams", value=value)])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_forgets_to_return_is_a_readable_mistake(stage, base):
    forgetful = type("Forgetful", (Mechanism,), {"name": "forgetful", stage: lambda self, *rest: None})
    with pytest.raises((UserError, TypeError), match="forgetful"):
        compose(base, [forgetful()])


EXCLUSIVE = [(stage, field) for stage, fields in STAGES.items() for field, how in fields.items() if how == ONE]


@pytest.mark.parametrize(("stage", "field"), EXCLUSIVE)
def test_two_mechanisms_in_one_exclusive_place_clash(stage, field, base):
    first = edit_of(stage, field, base)
    other = {
        "model": replace(base.model, hidden=8),
        "arithmetic": FixedPoint(8),
        "averaging": Averaging(0.8),
        "sampler": Poisson(3),
        "gradient": ClippedNoisy(2.0, 2.0, 2.0),
        "optimizer": SGD(0.3),
    }
    second = Other(stage=stage, field=field, value=other[field])
    for order in ([first, second], [second, first]):
        with pytest.raises(Clash) as caught:
            compose(base, order)
        where = "the plan" if stage == "architecture" else "'task'"
        for part in ("probe", "other", repr(field), where):
            assert part in str(caught.value)


def test_exclusive_places_of_different_streams_do_not_clash(base):
    marked = compose(base, [Watermark()])
    first = replace(edit_of("gradient", "sampler", base), on=("task",))
    second = Other(stage="gradient", field="sampler", value=Poisson(3), on=("trigger",))
    plan = compose(marked, [first, second])
    assert [stream.sampler for stream in plan.streams] == [Shuffled(9), Poisson(3)]


def test_a_clash_is_not_a_mistake_of_the_user():
    assert not issubclass(Clash, UserError)


def test_two_of_one_kind_clash_as_well(base):
    with pytest.raises(Clash, match="dpsgd"):
        compose(base, [DPSGD(clip=1), DPSGD(clip=2)])


def test_maps_stack_in_an_order_of_their_own(base):
    one, two = Augment(padding=1), Augment(padding=2)
    for order in ([one, two], [two, one]):
        assert compose(base, order).task.maps == (FlipAndShift(1), FlipAndShift(2))


def test_an_attack_is_on_images_as_the_network_would_see_them(base):
    for order in ([Augment(), AdversarialTraining()], [AdversarialTraining(), Augment()]):
        shift, attack = compose(base, order).task.maps
        assert (type(shift), type(attack)) == (FlipAndShift, Adversarial)


def test_streams_that_a_mechanism_adds_are_treated_by_the_others(base):
    plan = compose(base, [Augment(), Watermark()])
    assert plan.stream("trigger").maps == (FlipAndShift(1),)


def test_two_streams_of_one_name_clash(base):
    with pytest.raises(Clash, match=r"wm.*'trigger'"):
        compose(base, [Watermark(), Watermark(triggers=50)])


@pytest.mark.parametrize("on", [("triger",), ("triger", "tsak")])
def test_streams_that_are_not_there_are_refused_with_those_that_are(on, base):
    with pytest.raises(UserError) as caught:
        compose(base, [Watermark(), DPSGD(on=on)])
    for part in ("dpsgd.on", "triger", "task", "trigger"):
        assert part in str(caught.value)


def test_a_stream_that_only_the_combination_has_may_be_named_alone(base):
    """The baseline of {wm, dpsgd(on=task, trigger)} is dpsgd alone, where there are no triggers."""
    assert compose(base, [DPSGD(on=("task", "trigger"))]) == compose(base, [DPSGD()])


@pytest.mark.parametrize("norm", ["group", "none"])
def test_without_batch_norm_its_policies_are_one_training(norm, base):
    plain = replace(base, model=replace(base.model, norm=norm))
    plans = {compose(plain, [Watermark(batch_norm=policy)]) for policy in ("update", "freeze", "recalibrate")}
    assert len(plans) == 1


def test_batch_norm_that_a_mechanism_removes_has_no_policies_either(base):
    policies = ("update", "freeze", "recalibrate")
    assert len({compose(base, [Watermark(batch_norm=policy), DPSGDControl()]) for policy in policies}) == 1
    assert len({compose(base, [Watermark(batch_norm=policy)]) for policy in policies}) == 3


def test_composition_does_not_change_what_it_is_given(base):
    before = fingerprint(base)
    compose(base, [Watermark(), DPSGD()])
    assert fingerprint(base) == before


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_group_norm_over_single_values_is_refused(norm):
    """Its output is constant, so that every conflict of {x, dpsgd} would be the rewrite's."""
    deep = CNN((1, 8, 8), 10, (0.5,), (0.5,), widths=(8, 16, 32), norm=norm)
    plan = replace(recipe("digits", "smoke").plan(), model=deep)
    with pytest.raises(UserError, match="group norm over single values makes the network constant"):
        compose(plan, [DPSGD()])
    if norm == "batch":
        assert compose(plan, []) == plan, "batch norm has the batch to compare with"
    shallow = replace(plan, model=replace(deep, widths=(8, 16)))
    assert compose(shallow, [DPSGD()]).rewrites


def test_looking_for_single_values_draws_no_chance():
    import torch

    before = torch.random.get_rng_state()
    compose(recipe("digits", "reduced").plan(), [DPSGD()])
    assert torch.equal(torch.random.get_rng_state(), before)


@dataclass(frozen=True)
class Squared:
    """A loss of our own."""

    def __call__(self, network, batch, now):
        return network(batch.x).square().mean(1)


@dataclass(frozen=True)
class OwnLoss(Mechanism):
    """Replaces the loss; its name comes last by the alphabet, so that no luck of names helps."""

    name = "zz-own-loss"
    concern = "testing"

    def objective(self, stream, plan):
        return replace(stream, objectives=(Squared(),))


def test_what_replaces_a_loss_comes_before_what_adds_to_it_however_they_are_named(base):
    plans = [compose(base, order) for order in ([Trades(), OwnLoss()], [OwnLoss(), Trades()])]
    assert plans[0] == plans[1]
    first, second = plans[0].task.objectives
    assert (type(first), type(second)) == (Squared, RobustnessGap)


@pytest.mark.parametrize("size", [2, 3])
def test_every_set_of_mechanisms_is_one_plan_or_one_clash_in_any_order(size, base):
    some = [*(cls().bind(base) for cls in find_mechanisms().values()), OwnLoss(), Augment()]
    for chosen in itertools.combinations(some, size):
        found = set()
        for order in itertools.permutations(chosen):
            try:
                found.add(fingerprint(compose(base, order)))
            except Clash:
                found.add("clash")
        assert len(found) == 1, [mechanism.name for mechanism in chosen]


@dataclass(frozen=True)
class Mixing:
    """A map, a loss or images under which an example's loss hangs on others."""

    images: object = None
    mixes_examples = True

    @property
    def size(self):
        return self.images.size

    def __call__(self, network, batch, now, **chance):
        raise LookupError("composed only")


MIXED = {
    "map": lambda task: replace(task, maps=(Mixing(),)),
    "loss": lambda task: replace(task, objectives=(Mixing(),)),
    "source": lambda task: replace(task, source=Mixing(task.source)),
    "source inside a source": lambda task: replace(task, source=Drawn(Mixing(task.source), 200, "some")),
}


@pytest.mark.parametrize("where", MIXED)
def test_what_mixes_examples_clashes_with_a_bound_on_each(where, base):
    mixed = replace(base, streams=(MIXED[where](base.task),))
    with pytest.raises(Clash, match=r"dpsgd bounds .*'task', where Mixing"):
        compose(mixed, [DPSGD()])
    assert compose(mixed, [DPSGD(on=())]) == mixed
