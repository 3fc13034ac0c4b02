"""What moves inputs of every kind, what is made up for them, and what several labels mean; against plain code."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn import metrics as sk
from torch import Tensor, nn
from torch.nn import functional

from guardclash.compose import compose
from guardclash.data.pictures import grid
from guardclash.data.space import Images, Rows, Space, Tokens, called, movable, same_form, unmoved
from guardclash.errors import UserError
from guardclash.measures.robustness import Robustness, Target
from guardclash.mechanisms.advtr import AdversarialTraining
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.trades import RobustnessGap, Trades
from guardclash.mechanisms.wm import Watermark
from guardclash.numerics.attacks import PGD, attacked
from guardclash.numerics.clipping import clipped_sum
from guardclash.numerics.radioactive import Marking
from guardclash.numerics.tokens import embedding_of, random_shift, shifted, worst_shift
from guardclash.numerics.walks import BlindWalk, MinGD
from guardclash.plan.adversarial import SHIFT, AdversarialEmbeddings, Shifted, cross_entropies
from guardclash.plan.examples import Data, Moment
from guardclash.plan.identity import describe, fingerprint
from guardclash.plan.made import NoiseImages, OutsideRows, RandomTexts, made_up, noise
from guardclash.plan.networks import MLP, MeanEmbedding
from guardclash.plan.objectives import BinaryCrossEntropy, CrossEntropy
from guardclash.plan.plan import Plan
from guardclash.plan.purpose import Purpose
from guardclash.plan.sources import Answers
from guardclash.registry import MEASURES, find
from guardclash.tasks.recipe import recipe
from guardclash.training.trained import Trained, predictor, told_right

ROWS = Rows(("a", "b", "red", "green", "blue", "yes", "no"), (("colour", 3), ("married", 2)))
TEXTS = Tokens(5, 30, padding=3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(count: int, seed: int = 0) -> Tensor:
    return noise(ROWS, count, seeded(seed))


def purpose(space: Space, **more: Any) -> Purpose:
    return Purpose("given", space, None, **more)


def plan_for(space: Space, model: Any, **more: Any) -> Plan:
    base = recipe("digits", "smoke").plan()
    return replace(base, model=model, purpose=purpose(space, **more))


class Held:
    """A context whose examples are given."""

    def __init__(self, x: Tensor):
        self.x = x

    def data(self, source: Any) -> Data:
        return Data(self.x, torch.zeros(len(self.x), dtype=torch.int64))


# --- spaces -----------------------------------------------------------------------------------------------------------


def test_images_of_bytes_and_floats_are_one_form_and_nothing_else_is():
    assert same_form(Images((1, 8, 8)), Images((1, 8, 8), floats=True))
    assert not same_form(Images((1, 8, 8)), Images((2, 8, 8)))
    assert not same_form(Rows(("a", "b")), Tokens(2, 5))
    assert not same_form(Rows(("a", "b")), Rows(("a", "b"), (("b", 1),)))
    assert same_form(TEXTS, replace(TEXTS)) and not same_form(TEXTS, Tokens(5, 30))


def test_what_can_be_moved():
    assert unmoved(Images((2, 8, 8))) == unmoved(ROWS) == ""
    assert "no column that is a number" in unmoved(Rows(("x", "y"), (("c", 2),)))
    assert (movable(ROWS), movable(Rows(("a",))), movable(Images((1, 2, 2)))) == (2, None, None)
    assert [called(one) for one in (Images((1, 2, 2)), ROWS, TEXTS)] == ["images", "rows", "texts"]


# --- attacks ----------------------------------------------------------------------------------------------------------


def by_hand(ball: PGD, losses: Any, x: Tensor, start: Tensor, free: int) -> Tensor:
    """PGD on the first numbers of rows, one row after another."""
    found = []
    for row, delta in zip(x, start, strict=True):
        for _ in range(ball.steps):
            point = row.clone().requires_grad_()
            moved = torch.cat([point[:free] + delta, point[free:]])
            (gradient,) = torch.autograd.grad(losses(moved[None]).sum(), point)
            step = gradient[:free].sign() if ball.norm == "linf" else gradient[:free] / gradient[:free].norm()
            delta = delta + ball.step * step
            if ball.norm == "linf":
                delta = delta.clamp(-ball.radius, ball.radius)
            elif delta.norm() > ball.radius:
                delta = delta * ball.radius / delta.norm()
        found.append(torch.cat([row[:free] + delta, row[free:]]))
    return torch.stack(found)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.05, 3))
def test_of_rows_the_numbers_move_as_in_plain_code_and_the_categories_stay(norm, seed, radius):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x, y = rows(6, seed).double(), torch.randint(3, (6,))
    ball = PGD(radius, radius / 3, 4, norm, random_start=False, clamp=False, free=ROWS.numbers)

    def losses(point: Tensor) -> Tensor:
        return functional.cross_entropy(network(point), y[: len(point)], reduction="none")

    found = ball(losses, x, seeded())
    for place in range(6):  # of each its own label
        one = lambda point, place=place: functional.cross_entropy(network(point), y[place : place + 1])  # noqa: E731
        expected = by_hand(ball, one, x[place : place + 1], torch.zeros(1, 2).double(), 2)
        assert torch.allclose(found[place : place + 1], expected, atol=1e-9)
    assert torch.equal(found[:, 2:], x[:, 2:])
    assert (found[:, :2] - x[:, :2]).norm(p=torch.inf if norm == "linf" else 2, dim=1).max() <= radius * (1 + 1e-9)
    started = replace(ball, random_start=True).start(x, seeded(seed))
    assert torch.equal(started[:, 2:], x[:, 2:]) and not torch.equal(started, x)
    assert (started - x).norm(p=torch.inf if norm == "linf" else 2, dim=1).max() <= radius * (1 + 1e-9)


def test_attacks_on_images_of_any_rank_and_key_are_as_before():
    assert describe(PGD(0.25, 0.1)) == {"type": "PGD", "radius": 0.25, "step": 0.1}
    plain, long = AdversarialTraining(), recipe("digits", "smoke").plan()
    assert plain.attack(long) == PGD(0.25, 2.5 * 0.25 / 25)
    without = replace(long, purpose=None)
    assert plain.attack(without) == plain.attack(long), "a plan that does not say is one of images"
    assert describe(compose(long, [plain]).task.maps[0]) == {
        "type": "Adversarial",
        "attack": describe(PGD(0.25, 0.025)),
    }


@pytest.mark.parametrize(
    ("options", "space", "said"),
    [
        ({"units": "published"}, ROWS, "advtr.units.*published"),
        ({"embeddings": True}, ROWS, "embeddings are of tokens, and the inputs of this task are rows"),
        ({"embeddings": True}, Images((7, 1, 1)), "advtr.embeddings"),
        ({"units": "published", "embeddings": True}, TEXTS, "texts have none"),
    ],
)
def test_options_without_a_meaning_are_refused(options, space, said):
    with pytest.raises(UserError, match=said):
        AdversarialTraining(**options).attack(plan_for(space, MLP((7,), 3)))


def test_the_ensemble_is_of_images_of_one_class(monkeypatch):
    monkeypatch.setattr("guardclash.numerics.attacks.version", lambda name: "1.20.1")
    for space, more in ((ROWS, {}), (Images((1, 8, 8)), {"several_labels": True})):
        with pytest.raises(UserError, match=r"the ensemble attacks .*robustness\.ensemble"):
            Robustness(ensemble=True).attack(plan_for(space, MLP((7,), 3), **more))


def test_the_unit_of_a_radius_is_said():
    plan = plan_for(ROWS, MLP((7,), 3))
    assert AdversarialTraining().facts(plan)["radius"] == "0.25 standard deviations; 2 categories cannot be changed"
    assert AdversarialTraining().facts(plan_for(Rows(("a",)), MLP((1,), 3)))["radius"] == "0.25 standard deviations"
    text = AdversarialTraining(embeddings=True, norm="l2", radius=2.0).facts(plan_for(TEXTS, MeanEmbedding(TEXTS, 3)))
    assert text["radius"] == "2 units of the tokens' embedding, of a whole text"


# --- vectors of tokens ------------------------------------------------------------------------------------------------


class Placed(nn.Module):
    """A network with an embedding of places before that of tokens, which it asks twice."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.words, self.out = nn.Embedding(5, 4), nn.Embedding(30, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        where = self.places(torch.arange(5))
        return self.out((where + self.words(x).tanh() * self.words(x)).sum(1))


def texts(count: int) -> Tensor:
    return torch.randint(30, (count, 5), generator=seeded(count))


def test_a_shift_is_added_to_the_first_answer_of_the_embedding_of_tokens():
    torch.manual_seed(0)
    network, x = Placed(), texts(4)
    shift = torch.randn(4, 5, 4)
    assert embedding_of(network, x) is network.words
    with shifted(network, x, shift):
        found = [network(x), network(x)]
    words = network.words(x)
    expected = network.out((network.places(torch.arange(5)) + (words + shift).tanh() * words).sum(1))
    assert all(torch.allclose(one, expected, atol=1e-6) for one in found), "in every pass"
    assert not torch.allclose(network(x), expected), "and never after"


def test_a_shift_that_reaches_nothing_is_no_silent_success():
    with pytest.raises(UserError, match="no embedding of the network is given the tokens"):
        with shifted(Placed(), texts(4), torch.zeros(4, 5, 4)):
            pass
    with pytest.raises(UserError, match="no embedding of tokens"):
        embedding_of(nn.Linear(5, 2), torch.rand(1, 5))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_worst_shift_is_within_its_ball_leaves_padding_alone_and_hurts(norm):
    torch.manual_seed(1)
    network, x, y = MeanEmbedding(TEXTS, 3, 8).build(), texts(20), torch.arange(20) % 3
    x[:, 3:] = TEXTS.padding
    ball = PGD(0.5, 0.1, 10, norm, clamp=False)
    with attacked(network):
        found = worst_shift(ball, network, lambda: cross_entropies(network, x, y), x, seeded(), TEXTS.padding)
        clean = cross_entropies(network, x, y)
        with shifted(network, x, found):
            worse = cross_entropies(network, x, y)
    assert not found[:, 3:].any() and found[:, :3].any()
    assert found.flatten(1).norm(p=torch.inf if norm == "linf" else 2, dim=1).max() <= 0.5 * (1 + 1e-6)
    assert (worse >= clean).all() and worse.mean() > clean.mean()
    random = random_shift(ball, network, x, seeded(), TEXTS.padding)
    assert random[:, :3].any() and not random[:, 3:].any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_linear_network_the_worst_shift_is_known(norm):
    """Of the mean of vectors under a linear layer with two classes: against the difference of their weights."""
    torch.manual_seed(2)
    space = Tokens(5, 30)
    embedding, head = nn.Embedding(30, 4), nn.Linear(4, 2)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = embedding, head

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embedding(x).mean(1))

    network, x, y = Network(), texts(6), torch.zeros(6, dtype=torch.int64)
    with attacked(network):
        ball = PGD(0.3, 0.1, 60, norm, clamp=False)
        found = worst_shift(ball, network, lambda: cross_entropies(network, x, y), x, seeded())
    up = (head.weight[1] - head.weight[0]).detach()
    best = up.sign() if norm == "linf" else up / (up.norm() * np.sqrt(space.length))
    assert torch.allclose(found, (0.3 * best).expand(6, 5, 4), atol=1e-3)


def test_under_dp_sgd_a_shifted_text_is_one_example_of_its_own():
    """The sum of clipped gradients is that of texts one by one, each at its own shift."""
    torch.manual_seed(3)
    network = MeanEmbedding(TEXTS, 3, 6).build()
    x, y, shift = texts(5), torch.arange(5) % 3, torch.randn(5, 5, 6)
    loss, batch = Shifted(CrossEntropy()), Data(x, y, {SHIFT: shift})
    found = clipped_sum(network, lambda: loss(network, batch, now=Moment()), 0.3).total
    expected = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for place in range(5):
        own = loss(network, batch.take(slice(place, place + 1)), now=Moment())
        gradients = torch.autograd.grad(own.sum(), list(network.parameters()))
        norm = torch.cat([one.flatten() for one in gradients]).norm()
        for (name, _), one in zip(network.named_parameters(), gradients, strict=True):
            expected[name] += one * min(1.0, 0.3 / norm.item())
    assert all(torch.allclose(found[name], value, atol=1e-6) for name, value in expected.items())


def test_training_against_shifts_composes_with_dp_sgd_and_takes_every_loss_shifted():
    plan = plan_for(TEXTS, MeanEmbedding(TEXTS, 3))
    composed = compose(plan, [AdversarialTraining(embeddings=True), DPSGD()])
    assert composed.task.objectives == (Shifted(CrossEntropy()),)
    (attack,) = composed.task.maps
    assert isinstance(attack, AdversarialEmbeddings) and attack.padding == TEXTS.padding
    empty = Data(texts(3)[:0], torch.zeros(0, dtype=torch.int64))
    network = MeanEmbedding(TEXTS, 3).build()
    assert attack(network, empty, rng=seeded(), now=Moment()) is empty
    assert composed.task.objectives[0](network, empty, now=Moment()).shape == (0,)


def test_a_network_without_an_embedding_is_a_clash_before_any_training():
    said = AdversarialTraining(embeddings=True).misfit(plan_for(TEXTS, MLP((5,), 3)))
    assert "torch.nn.Embedding" in said


def test_more_texts_than_a_batch_are_shifted_each_by_its_own(context):
    network, x = MeanEmbedding(TEXTS, 3).build().eval(), texts(1300)
    model = Trained(plan_for(TEXTS, MeanEmbedding(TEXTS, 3)), 0, network, predictor(network))
    ball = PGD(0.5, 0.1, 1, clamp=False)
    found = Target(model, context(0), embeddings=True).disturbed(ball, x, seeded())
    shift = random_shift(ball, network, x, seeded(), TEXTS.padding)
    with torch.no_grad(), shifted(network, x, shift):
        assert torch.allclose(found, network(x), atol=1e-6)


# --- walks ------------------------------------------------------------------------------------------------------------


def test_walks_of_rows_move_numbers_without_bounds():
    """A threshold on the first number: a walk ends at the first multiple of its noise that is beyond it."""
    x, y = rows(12) * 5, torch.zeros(12, dtype=torch.int64)
    seen = []

    def label(point: Tensor) -> Tensor:
        seen.append(point)
        return (point[:, 0] > x[:, 0].max() + 0.5).long()

    walk = BlindWalk(scale=20, walks=3, bounded=False, free=2)
    found = walk(label, x, y, seeded(5))
    drawn = walk._noise(x, seeded(5))
    assert not drawn[..., 2:].any()
    gap = (x[:, 0].max() + 0.5 - x[:, 0])[:, None, None]
    first = torch.where(drawn[..., 0] > 0, (gap / drawn[..., 0]).floor() + 1, torch.inf).clamp(max=51)
    assert ((found.lengths - first).abs() <= 1).all(), "but for rounding"
    moved = found.lengths[..., None] * drawn.permute(0, 1, 2, 3)
    assert torch.allclose(found.distances[..., 0], moved[:, :, 0].abs().amax(-1))
    assert torch.allclose(found.distances[..., 1], moved[:, :, 1].norm(dim=-1))
    assert torch.allclose(found.distances[..., 2], moved[:, :, 2].abs().sum(-1), rtol=1e-4)
    categories = {tuple(row) for row in x[:, 2:].tolist()}
    assert {tuple(row) for point in seen for row in point[:, 2:].tolist()} <= categories


def test_descents_of_rows_move_numbers_without_bounds():
    weight = torch.tensor([[1.0, 0, 9, 9, 9, 9, 9], [0, 1.0, -9, -9, -9, -9, -9]])
    x = torch.tensor([[3.0, 2.0, 1, 0, 0, 1, 0]])

    def logits(point: Tensor) -> Tensor:
        assert torch.equal(point[:, 2:], x[:, 2:].expand(len(point), -1))
        return (point - x * (torch.arange(7) >= 2)) @ weight.T

    found = MinGD(steps=2000, l1=0.001, bounded=False, free=2)(logits, x, 2)
    assert torch.allclose(found.distances[0, 1], torch.tensor([0.5, 0.5 * 2**0.5, 1.0]), atol=0.02)
    assert not found.distances[0, 0].any(), "its own class is where it is"


# --- marks, pictures --------------------------------------------------------------------------------------------------


def test_marks_round_only_what_was_whole():
    x = torch.rand(4, 2, 4, 4, generator=seeded())
    carrier = functional.normalize(torch.randn(4, 32, generator=seeded(1)), dim=1)
    how = Marking(8, iterations=4, whole=False)
    marked = how(lambda images: images.flatten(1), x, carrier, torch.ones(2), seeded())
    assert (marked - x).abs().max() <= 8 / 255 + 1e-6 and not torch.equal(marked, x)
    assert ((marked * 255).round() / 255 - marked).abs().max() > 1e-4
    whole = replace(how, whole=True)(lambda images: images.flatten(1), x, carrier, torch.ones(2), seeded())
    assert torch.equal((whole * 255).round() / 255, whole)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pictures_show_images_of_any_number_of_channels(channels):
    images = np.random.default_rng(0).random((2, 3, channels, 5, 4)).astype(np.float32)
    shown = np.asarray(Image.open(io.BytesIO(grid(images, enlarge=1))))
    first = shown[2:7, 2:6].astype(float) / 255
    expected = images[0, 0].transpose(1, 2, 0) if channels == 3 else images[0, 0].mean(0)
    assert np.abs(first - expected).max() < 0.01


# --- what is made up --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_made_up_rows_are_outside_every_range_with_categories_that_exist(seed):
    known = torch.cat([rows(50, seed)[:, :1] * 3 + 7, torch.full((50, 1), 2.0), rows(50, seed)[:, 2:]], 1)
    made = OutsideRows("test", ROWS, 200).load(Held(known))
    low, high = known[:, :2].amin(0), known[:, :2].amax(0)
    width = torch.where(high > low, high - low, 1.0)
    far = torch.maximum((low - made.x[:, :2]) / width, (made.x[:, :2] - high) / width)
    assert 0.1 - 1e-4 <= far.min() and far.max() <= 0.5 + 1e-4
    for first, last in ((2, 5), (5, 7)):
        block = made.x[:, first:last]
        assert ((block == 0) | (block == 1)).all() and (block.sum(1) == 1).all()
        assert block.sum(0).min() > 0, "every value is drawn"
    assert torch.equal(made.y, (made.x[:, 0] < low[0]).long()) and 0 < made.y.float().mean() < 1


def test_made_up_inputs_are_the_same_for_everyone_and_begin_alike():
    known = rows(50)
    for kind, x in (
        (OutsideRows("test", ROWS, 40), known),
        (RandomTexts("test", TEXTS, 40), texts(60)),
        (NoiseImages((2, 3, 3), 40), known),
    ):
        whole = kind.load(Held(x)).x
        assert torch.equal(whole, kind.load(Held(x)).x)
        assert torch.equal(kind.first(10).load(Held(x)).x, whole[:10]) and kind.first(10).size == 10
        assert torch.equal(replace(kind, size=10, start=30).load(Held(x)).x, whole[30:])
        assert 0 < kind.load(Held(x)).y.float().mean() < 1, "something can be told of them"
        assert re.match(r"40 ", kind.title)


def test_made_up_texts_are_as_long_as_real_ones_and_pad_only_behind():
    real = texts(60)
    real[real == TEXTS.padding] = 4
    lengths = torch.randint(1, 6, (60,), generator=seeded())
    real[torch.arange(5) >= lengths[:, None]] = TEXTS.padding
    made = RandomTexts("test", TEXTS, 3000).load(Held(real)).x
    assert made.dtype == torch.int64 and TEXTS.wrong(made.numpy()) is None
    there = made != TEXTS.padding
    assert (there[:, 1:] <= there[:, :-1]).all()
    for length in range(1, 6):
        share = (there.sum(1) == length).float().mean().item()
        assert share == pytest.approx((lengths == length).float().mean().item(), abs=0.05)
    assert set(made[there].tolist()) == set(range(30)) - {TEXTS.padding}


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), padding=st.sampled_from([None, 0, 4, 8]), vocabulary=st.integers(9, 20))
def test_noise_is_of_its_space(seed, padding, vocabulary):
    text = Tokens(3, vocabulary, padding)
    found = noise(text, 50, seeded(seed))
    assert text.wrong(found.numpy()) is None and not (found == (-1 if padding is None else padding)).any()
    row = noise(ROWS, 50, seeded(seed))
    assert row.shape == (50, 7) and row.dtype == torch.float32 and (row[:, 2:5].sum(1) == 1).all()
    images = noise(Images((2, 3, 3)), 5, seeded(seed))
    assert torch.equal(images, torch.rand((5, 2, 3, 3), generator=seeded(seed)))


def test_a_space_that_nobody_knows_has_nothing_made_up_for_it():
    class Strange:
        shape = (3,)

    plan = plan_for(Strange(), MLP((3,), 3))
    assert made_up(Strange(), "test") is None
    with pytest.raises(UserError, match=r"nobody knows how to make up .*Strange"):
        Watermark(made=True).trigger_set(plan)
    with pytest.raises(UserError, match="no neighbour"):
        Watermark().trigger_set(plan)
    assert "inputs of the kind Strange" in AdversarialTraining().misfit(plan)


def test_triggers_are_made_up_or_named():
    plan = recipe("digits", "smoke").plan()
    assert Watermark(made=True).facts(plan) == {"triggers": "100 of 1,000 images of uniform noise, random labels"}
    assert Watermark(made=True).bind(plan).images == NoiseImages((1, 8, 8), 1000)
    assert fingerprint(compose(plan, [Watermark(made=True)])) != fingerprint(compose(plan, [Watermark()]))
    with pytest.raises(UserError, match="either made up or drawn from a data set"):
        Watermark(made=True, source="photo-patches")
    with pytest.raises(UserError, match="triggers have the form of the task's inputs"):
        wide = replace(plan, purpose=purpose(Tokens(8, 8)), model=replace(plan.model, shape=(1, 8, 8)))
        Watermark(source="photo-patches").trigger_set(wide)


# --- several labels ---------------------------------------------------------------------------------------------------


class Told:
    """A model whose answers are given, on examples whose number is their input."""

    def __init__(self, logits: Tensor):
        self.logits = logits

    def predict(self, x: Tensor) -> Tensor:
        return self.logits[x[:, 0].long()]


class Labelled:
    """A context of so many labelled examples."""

    def __init__(self, y: Tensor):
        self.y = y

    def data(self, source: Any) -> Data:
        return Data(torch.arange(len(self.y)).float()[:, None], self.y)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 25), classes=st.integers(1, 5), share=st.floats(0, 1))
def test_utilities_of_several_labels_ask_each_label_by_itself(seed, count, classes, share):
    chance = np.random.default_rng(seed)
    logits, y = chance.normal(size=(count, classes)), (chance.random((count, classes)) < share).astype(np.float32)
    found = {}
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "auroc"):
        measure = find(MEASURES, name)(test="given", several_labels=True)
        found |= measure.measure(Told(torch.tensor(logits)), Labelled(torch.tensor(y)))
    told = logits > 0
    columns = list(zip(y.T > 0, told.T, logits.T, strict=True))
    assert found["accuracy"] == pytest.approx((told == (y > 0)).mean())
    recalls = [
        np.mean([(said == real)[real == value].mean() for value in np.unique(real)]) for real, said, _ in columns
    ]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    scores = [sk.f1_score(real, said, zero_division=0.0) for real, said, _ in columns]
    assert found["macro_f1"] == pytest.approx(np.mean(scores))
    areas = [sk.roc_auc_score(real, value) for real, _, value in columns if 0 < real.sum() < count]
    assert found.get("auroc") == (pytest.approx(np.mean(areas)) if areas else None)


def test_the_loss_of_several_labels_is_the_mean_of_that_of_each():
    network = nn.Linear(4, 3)
    x, y = torch.randn(6, 4), (torch.rand(6, 3) < 0.5).float()
    found = BinaryCrossEntropy()(network, Data(x, y), now=Moment())
    shares = network(x).sigmoid()
    assert torch.allclose(found, -(y * shares.log() + (1 - y) * (1 - shares).log()).mean(1), atol=1e-6)
    assert torch.allclose(cross_entropies(network, x, y, several_labels=True), found)
    assert not torch.allclose(cross_entropies(network, x, y), found), "vectors may be one class's probabilities as well"


def test_what_is_told_right():
    logits = torch.tensor([[2.0, -1.0, 1.0], [-3.0, -2.0, -1.0]])
    assert told_right(logits, torch.tensor([0, 0])).tolist() == [True, False]
    assert told_right(logits, torch.tensor([[1.0, 0, 0], [0, 0, 0]])).tolist() == [[True, True, False], [True] * 3]


def test_answers_of_a_model_of_several_labels_are_vectors():
    logits = torch.tensor([[2.0, -1.0], [-3.0, 4.0]])

    class Model:
        def load(self, context: Any) -> Told:
            return Told(logits)

    context = Labelled(torch.zeros(2, 2))
    assert Answers(Split, Model(), "labels", True).load(context).y.tolist() == [[1, 0], [0, 1]]
    assert torch.allclose(Answers(Split, Model(), "probabilities", True).load(context).y, logits.sigmoid())
    assert Answers(Split, Model(), "labels").load(context).y.tolist() == [0, 1]


Split = object()


def test_the_gap_of_several_labels_is_the_mean_of_that_of_each():
    network = nn.Linear(4, 3)
    gap = RobustnessGap(PGD(0.5, 0.1, 2, clamp=False), 1.0, several_labels=True)
    one, other = torch.randn(5, 3), torch.randn(5, 3)
    p, q = one.sigmoid(), other.sigmoid()
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean(1)
    assert torch.allclose(gap._divergences(gap._logs(one), other), expected, atol=1e-5)
    assert (gap(network, Data(torch.randn(5, 4), torch.zeros(5, 3)), now=Moment()) > 0).all()


def test_mechanisms_hand_on_that_there_are_several_labels():
    plan = plan_for(Images((1, 8, 8)), recipe("digits", "smoke").plan().model, several_labels=True)
    (attack,) = compose(plan, [AdversarialTraining()]).task.maps
    assert attack.several_labels
    assert compose(plan, [Trades()]).task.objectives[-1].several_labels
    bound = find(MEASURES, "accuracy")(test="given").bind(plan)
    assert bound.several_labels and bound.bind(plan) == bound
    assert describe(find(MEASURES, "accuracy")(test=None).bind(recipe("digits", "smoke").plan())) == {
        "type": "TestAccuracy",
        "test": {"type": "Split", "dataset": "digits", "split": "test"},
    }


def test_a_target_of_several_labels_counts_labels():
    """Labels that no attack can turn stay; others do not."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * torch.stack([x[:, 0], 100 + x[:, 1]], 1)

    network = Network().eval()

    class Model:
        plan = plan_for(Rows(("a", "b")), MLP((2,), 2), several_labels=True)
        predict = staticmethod(lambda x: network(x).detach())

    Model.network = network

    class Chance:
        def rng(self, *purpose: object) -> torch.Generator:
            return seeded()

    x = torch.tensor([[0.1, 0.0], [2.0, 0.0]])
    found = Target(Model(), Chance()).withstands(PGD(0.5, 0.1, 20, clamp=False), x, torch.ones(2, 2))
    assert found.tolist() == [[False, True], [True, True]]
