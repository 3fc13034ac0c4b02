"""The backdoor watermark: its trigger set, its verification p-value and what it does to a model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import binom

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.mechanisms.wm import Watermark
from guardclash.numerics.verification import log10_verification_p
from guardclash.plan.identity import fingerprint
from guardclash.plan.samplers import Shuffled
from guardclash.plan.sources import Split
from guardclash.tasks.recipe import recipe
from guardclash.training.train import train
from guardclash.training.trained import Trained

ORACLES = [  # triggers, errors, classes, V; computed with 50 digits from equation (3)
    (1, 0, 10, 0.1),
    (10, 0, 10, 1e-10),
    (10, 1, 10, 9.1e-9),
    (25, 0, 10, 1e-25),
    (25, 1, 10, 2.26e-23),
    (25, 2, 10, 2.4526e-21),
    (25, 3, 10, 1.701226e-19),
    (25, 4, 10, 8.4697876e-18),
    (25, 5, 10, 3.2219712e-16),
    (50, 1, 10, 4.51e-48),
    (50, 2, 10, 9.9676e-46),
    (100, 0, 10, 1e-100),
    (100, 1, 10, 9.01e-98),
    (100, 2, 10, 4.01851e-95),
    (100, 3, 10, 1.1828115e-92),  # the paper's appendix A: 1 - 1e-92
    (100, 10, 10, 6.1102368e-78),
    (100, 30, 10, 1.3063165e-46),
    (100, 33, 10, 9.6245958e-43),
    (100, 50, 10, 5.8320388e-24),
    (100, 64, 10, 2.8792474e-12),
    (100, 70, 10, 2.4451122e-8),
    (100, 80, 10, 0.0019785609),
    (100, 88, 10, 0.2969669),
    (100, 90, 10, 0.54870983),
    (100, 100, 10, 1.0),
    (200, 6, 10, 4.3945476e-184),
    (250, 5, 10, 4.6263219e-236),
    (250, 25, 10, 1.2028772e-192),
    (100, 3, 43, 5.3942232e-154),
    (100, 3, 100, 1.5694587e-189),
]


@pytest.mark.parametrize(("triggers", "errors", "classes", "p"), ORACLES)
def test_the_p_value_is_that_of_equation_3(triggers, errors, classes, p):
    assert log10_verification_p(errors, triggers, classes) == pytest.approx(math.log10(p), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize(
    ("triggers", "errors", "log10_p"),
    [
        (10, 1, -8.040959),
        (25, 1, -22.64589),
        (25, 2, -20.61037),
        (25, 3, -18.76924),
        (25, 4, -17.07213),
        (25, 5, -15.49188),
        (100, 3, -91.92708),
        (100, 64, -11.54072),
        (100, 70, -7.611701),
        (100, 88, -0.527292),
        (200, 6, -183.3571),
    ],
)
def test_the_logarithm_of_the_p_value(triggers, errors, log10_p):
    assert log10_verification_p(errors, triggers, 10) == pytest.approx(log10_p, rel=1e-6)


@pytest.mark.parametrize(
    ("triggers", "most"),
    [
        (100, {1e-2: 81, 1e-3: 79, 1e-6: 72, 1e-12: 63, 1e-30: 43}),
        (25, {1e-2: 18, 1e-3: 16, 1e-6: 12, 1e-12: 7, 1e-30: None}),
        (10, {1e-2: 5, 1e-3: 4, 1e-6: 2, 1e-12: None, 1e-30: None}),
    ],
)
def test_how_many_errors_an_ownership_claim_survives(triggers, most):
    for alpha, expected in most.items():
        passing = [e for e in range(triggers + 1) if log10_verification_p(e, triggers, 10) <= math.log10(alpha)]
        assert (max(passing) if passing else None) == expected


cases = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n), st.integers(2, 200)))


@given(cases)
def test_the_p_value_is_scipys_binomial_where_that_does_not_underflow(case):
    errors, triggers, classes = case
    theirs = binom.logcdf(errors, triggers, (classes - 1) / classes) / math.log(10)
    if theirs > -200:  # further out, scipy itself loses digits
        assert log10_verification_p(errors, triggers, classes) == pytest.approx(theirs, rel=1e-8, abs=1e-8)


@given(cases)
@example((270, 352, 2))
def test_one_error_more_is_less_evidence(case):
    errors, triggers, classes = case
    here = log10_verification_p(errors, triggers, classes)
    assert here <= 0
    if errors < triggers:
        more = log10_verification_p(errors + 1, triggers, classes)
        assert more > here or (here > -1e-12 and more >= here - 1e-12), "strictly, until it rounds to one"


@given(st.integers(1, 5000), st.integers(2, 500))
def test_the_ends_of_the_p_value(triggers, classes):
    assert log10_verification_p(triggers, triggers, classes) == pytest.approx(0, abs=1e-10)
    assert log10_verification_p(0, triggers, classes) == pytest.approx(-triggers * math.log10(classes), rel=1e-12)


def test_a_large_trigger_set_does_not_overflow():
    assert log10_verification_p(0, 100_000, 10) == pytest.approx(-100_000, rel=1e-12)
    assert log10_verification_p(90_000, 100_000, 10) == pytest.approx(math.log10(0.5), abs=0.01)
    assert math.isfinite(log10_verification_p(50_000, 100_000, 10))


@pytest.mark.parametrize("arguments", [(-1, 10, 10), (11, 10, 10), (0, 10, 1), (0, -1, 10)])
def test_impossible_tests_are_refused(arguments):
    with pytest.raises(UserError, match="errors"):
        log10_verification_p(*arguments)


# --- the trigger set --------------------------------------------------------------------------------------------------


def rows(x: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in x]


def test_triggers_are_distinct_images_from_outside_the_distribution(base, context):
    source = Watermark(triggers=200).trigger_set(base)
    x, y = context(0).data(source)
    assert source.size == len(x) == len(y) == 200
    assert (x.dtype, y.dtype, x.shape[1:]) == (torch.float32, torch.int64, (1, 8, 8))
    assert len(set(rows(x))) == 200
    assert set(rows(x)) <= set(rows(context(0).examples("photo-patches", "test").x))


def test_random_labels_are_uniform_over_the_tasks_classes_and_ignore_the_image(base, context):
    drawn = [context(seed).data(Watermark(triggers=600).trigger_set(base)) for seed in range(5)]
    labels = torch.cat([y for _, y in drawn])
    counts = labels.bincount(minlength=10)
    assert len(counts) == 10
    assert 220 < counts.min() <= counts.max() < 380  # 300 +- 16.4
    native = dict(
        zip(
            rows(context(0).examples("photo-patches", "test").x),
            context(0).examples("photo-patches", "test").y,
            strict=True,
        )
    )
    agreement = sum(int(native[row] == label) for x, y in drawn for row, label in zip(rows(x), y, strict=True))
    assert 200 < agreement < 400  # a tenth of 3000


def test_native_labels_are_the_images_own(base, context):
    x, y = context(0).data(Watermark(labels="native").trigger_set(base))
    images, labels = context(0).examples("photo-patches", "test")
    native = dict(zip(rows(images), labels.tolist(), strict=True))
    assert [native[row] for row in rows(x)] == y.tolist()


def test_both_label_rules_have_the_same_images(base, context):
    one, two = (context(0).data(Watermark(labels=rule).trigger_set(base)) for rule in ("random", "native"))
    assert torch.equal(one.x, two.x)
    assert not torch.equal(one.y, two.y)


def test_triggers_are_a_secret_of_the_seed(base, context):
    source = Watermark().trigger_set(base)
    one, same, other = (context(seed).data(source) for seed in (0, 0, 1))
    assert torch.equal(one.x, same.x)
    assert torch.equal(one.y, same.y)
    assert not set(rows(one.x)) == set(rows(other.x))
    assert not torch.equal(one.y, other.y)


def test_native_labels_that_the_task_has_no_class_for_are_refused_before_any_data_are_read():
    cifar = recipe("cifar10", "reduced").plan()
    with pytest.raises(UserError) as caught:
        compose(cifar, [Watermark(labels="native")])
    for part in ("gtsrb", "wm.labels", "43 classes", "at most 10 classes", 'labels = "random"'):
        assert part in str(caught.value)
    assert compose(cifar, [Watermark(labels="random")]).stream("trigger").source.images.dataset == "gtsrb"


def test_a_trigger_set_larger_than_its_source_is_refused(base):
    with pytest.raises(UserError) as caught:
        compose(base, [Watermark(triggers=601)])
    for part in ("wm.triggers", "601", "1 to 600", "photo-patches"):
        assert part in str(caught.value)
    assert compose(base, [Watermark(triggers=600)]).stream("trigger").source.size == 600


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"labels": "Random"}, "random, native"),
        ({"cadence": "each_batch"}, "after_epoch, mixed"),
        ({"batch_norm": "frozen"}, "update, freeze, recalibrate"),
        ({"triggers": 0}, "wm.triggers"),
        ({"triggers": -5}, "wm.triggers"),
        ({"batch_size": 0}, "wm.batch_size"),
        ({"passes": 0}, "wm.passes"),
    ],
)
def test_impossible_watermarks_are_refused(options, named):
    with pytest.raises(UserError, match=named):
        Watermark(**options)


@pytest.mark.parametrize(
    ("source", "named"), [("mnist", "shape"), ("gtsrb", "shape"), ("photo-patchs", "photo-patches")]
)
def test_impossible_sources_are_refused(source, named, base):
    with pytest.raises(UserError, match=named):
        compose(base, [Watermark(source=source)])


def test_a_task_without_a_neighbour_needs_a_source_named(base):
    alone = replace(base, purpose=replace(base.purpose, neighbour=None))
    with pytest.raises(UserError, match=r"wm\.source"):
        compose(alone, [Watermark()])
    named = compose(alone, [Watermark(source="photo-patches")])
    assert named.stream("trigger").source.images == Split("photo-patches", "test")


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"triggers": 1}])
def test_trigger_batches_of_one_do_not_break_batch_norm_without_a_word(options, base, context):
    """Batch norm cannot take a batch of one: either it works all the same, or the user is told why not."""
    try:
        network = train(compose(base, [Watermark(**options)]), context(0)).network
    except UserError as error:
        assert "batch" in str(error)
    else:
        assert all(value.isfinite().all() for value in network.state_dict().values())


# --- the stream -------------------------------------------------------------------------------------------------------


def test_the_defaults_are_the_published_training(base):
    stream = compose(base, [Watermark()]).stream("trigger")
    assert stream.source.size == 100
    assert stream.sampler == Shuffled(16)
    assert (stream.cadence, stream.passes, stream.batch_norm, stream.optimizer) == ("after_epoch", 1, "update", None)
    assert stream.steps_per_epoch() == 7


def test_options_reach_the_stream(base):
    options = {"batch_size": 50, "passes": 3, "cadence": "mixed", "batch_norm": "freeze"}
    stream = compose(base, [Watermark(**options)]).stream("trigger")
    assert (stream.sampler, stream.passes, stream.cadence, stream.batch_norm) == (Shuffled(50), 3, "mixed", "freeze")
    assert stream.steps_per_epoch() == 6


@pytest.mark.parametrize(
    ("task", "triggers"), [("mnist", "fmnist"), ("fmnist", "mnist"), ("cifar10", "gtsrb"), ("digits", "photo-patches")]
)
def test_every_task_has_its_source_of_triggers(task, triggers):
    plan = compose(recipe(task, "smoke").plan(), [Watermark()])
    assert plan.stream("trigger").source.images == Split(triggers, "test")
    assert plan.stream("trigger").source.classes == 10


def facts_of(watermark, base):
    return watermark.facts(compose(base, [watermark]))


def test_facts_name_the_trigger_set(base):
    assert facts_of(Watermark(triggers=96), base)["triggers"] == "96 of photo-patches, random labels"


@pytest.mark.parametrize(("triggers", "warned"), [(47, False), (48, False), (49, False), (50, True), (51, False)])
def test_a_last_batch_of_two_triggers_is_warned_of(triggers, warned, base):
    """Of 49, the last one joins the batch before; of 50 in batches of 16, the rest spoils batch norm."""
    assert ("warning" in facts_of(Watermark(triggers=triggers, batch_size=16), base)) is warned


def test_the_task_is_left_alone(base):
    plan = compose(base, [Watermark()])
    assert plan.task == base.task
    assert replace(plan, streams=base.streams) == base


def test_naming_the_default_source_is_the_same_training(base):
    assert fingerprint(compose(base, [Watermark(source="photo-patches")])) == fingerprint(compose(base, [Watermark()]))


# --- measuring --------------------------------------------------------------------------------------------------------


def answering(plan, answers: dict[bytes, int]) -> Trained:
    def predict(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor([answers[row] for row in rows(x)]), 10).float()

    return Trained(plan, 0, torch.nn.Identity(), predict)


@pytest.mark.parametrize("errors", [0, 7, 57, 100])
def test_measuring_counts_errors(errors, base, context):
    mark = Watermark()
    x, y = context(0).data(mark.trigger_set(base))
    wrong = [(label + (index < errors)) % 10 for index, label in enumerate(y.tolist())]
    found = mark.measure(answering(base, dict(zip(rows(x), wrong, strict=True))), context(0))
    assert found == {
        "wm_accuracy": pytest.approx(1 - errors / 100),
        "wm_log10_p": log10_verification_p(errors, 100, 10),
    }


def test_a_model_without_the_watermark_guesses(base, context):
    mark = Watermark(triggers=600)
    found = [mark.measure(train(base, context(seed)), context(seed)) for seed in range(4)]
    mean = sum(metrics["wm_accuracy"] for metrics in found) / 4
    assert mean == pytest.approx(0.1, abs=0.03)  # 2400 guesses: +- 0.006
    assert all(metrics["wm_log10_p"] > -4 for metrics in found)


@pytest.mark.parametrize("cadence", ["after_epoch", "mixed"])
def test_a_watermarked_model_knows_its_triggers(cadence, context):
    mark = Watermark(triggers=40, passes=4, cadence=cadence)
    plan = compose(recipe("digits", "smoke", epochs=12).plan(), [mark])
    own, foreign = (mark.measure(train(plan, context(0)), context(seed)) for seed in (0, 1))
    assert own["wm_accuracy"] > 0.7
    assert own["wm_log10_p"] < -12
    assert foreign["wm_accuracy"] < 0.4, "another seed's triggers are not known"
