"""Distances to decision boundaries: closed forms, and equality with walks of one image at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from guardclash.errors import UserError
from guardclash.numerics import walks
from guardclash.numerics.walk_scale import calibrated
from guardclash.numerics.walks import NORMS, BlindWalk, MinGD

ORDERS = (math.inf, 2, 1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(seed: int, classes: int = 3) -> nn.Module:
    """In float64, so that no label hangs on how a batch is summed."""
    rng = seeded(seed)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(9, 12), nn.ReLU(), nn.Linear(12, classes)).double()
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    return layers


def images(count: int, seed: int) -> Tensor:
    """A third of the pixels black, as in digits."""
    x = torch.rand(count, 1, 3, 3, generator=seeded(seed), dtype=torch.float64)
    return (1.5 * x - 0.5).clamp(0, 1)


def labels_of(layers: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: layers(x).argmax(1)


# Blind walks


@pytest.mark.parametrize(
    ("base", "threshold", "length", "distance"),
    [(0.004, 0.5999, 25, 0.1), (-0.004, 0.5999, 51, 0.204), (0.02, 2.0, 51, 0.5), (0.004, 0.5, 1, 0.004)],
)
@pytest.mark.parametrize("chunk", [1, 7])
def test_a_walk_towards_a_threshold(base, threshold, length, distance, chunk):
    x, noise = torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 3, 1, 1, 1), base)
    found, distances, forwards = BlindWalk(walks=1)._walk(
        lambda points: (points.flatten() > threshold).long(), x, torch.zeros(1).long(), noise, 100, chunk
    )
    assert found.flatten().tolist() == [length] * 3
    assert distances.flatten() == pytest.approx(torch.full((3,), distance))
    assert min(length, 50) * 3 <= forwards <= min(math.ceil(length / chunk) * chunk, 50) * 3


def one_walk_after_the_other(walk: BlindWalk, layers: nn.Module, x: Tensor, y: Tensor, noise: Tensor):
    lengths, distances = torch.zeros(noise.shape[:3]).long(), torch.zeros(noise.shape[:3], dtype=x.dtype)
    for i in range(len(x)):
        for j in range(walk.walks):
            for n, order in enumerate(ORDERS):
                k = 1
                while k <= walk.steps and layers((x[i] + k * noise[i, j, n]).clamp(0, 1)[None]).argmax(1) == y[i]:
                    k += 1
                change = torch.minimum(torch.maximum(k * noise[i, j, n], -x[i]), 1 - x[i])
                lengths[i, j, n] = k
                distances[i, j, n] = torch.linalg.vector_norm(change.flatten(), order)
    return lengths, distances


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 40), st.integers(1, 11), st.sampled_from([5.0, 20.0]))
def test_walks_together_are_walks_one_after_the_other(seed, chunk, batch, steps, scale):
    layers, x, walk = network(seed), images(4, seed), BlindWalk(scale, steps, walks=2)
    y = labels_of(layers)(x)
    y[0] = (y[0] + 1) % 3
    found = walk(labels_of(layers), x, y, seeded(seed), batch, chunk)
    lengths, distances = one_walk_after_the_other(walk, layers, x, y, walk._noise(x, seeded(seed)))
    assert torch.equal(found.lengths, lengths)
    assert torch.allclose(found.distances, distances, rtol=1e-9)
    assert found.censored == pytest.approx((lengths > steps).double().mean((0, 1)).tolist())
    needed = lengths.clamp(max=steps).sum()
    assert needed <= found.forwards <= (lengths.add(chunk - 1)).clamp(max=steps).sum()


@pytest.mark.parametrize("chunk", [1, 5])
def test_images_put_through_the_network_are_counted(chunk):
    layers, x, put = network(0), images(20, 0), []

    def predict(points: Tensor) -> Tensor:
        put.append(len(points))
        return labels_of(layers)(points)

    found = BlindWalk(10.0)(predict, x, labels_of(layers)(x), seeded(0), 128, chunk)
    assert found.forwards == sum(put)
    assert max(put) <= 128
    if chunk == 1:
        assert found.forwards == found.lengths.clamp(max=50).sum(), "no more than the walks need"


def test_noise_depends_on_seed_and_image_alone(monkeypatch):
    x, walk = images(7, 1), BlindWalk(10.0)
    one, other = network(1), network(2)
    y = labels_of(one)(x)
    whole = walk(labels_of(one), x, y, seeded(3))
    first = walk(labels_of(one), x[:4], y[:4], seeded(3))
    assert torch.equal(whole.lengths[:4], first.lengths)
    monkeypatch.setattr(walks, "GROUP", 3)
    grouped = walk(labels_of(one), x, y, seeded(3))
    assert torch.equal(whole.lengths, grouped.lengths)
    assert torch.equal(whole.distances, grouped.distances)
    left, right = seeded(3), seeded(3)
    walk(labels_of(one), x, y, left)
    walk(labels_of(other), x, y, right)
    assert torch.equal(torch.rand(5, generator=left), torch.rand(5, generator=right)), (
        "no model draws more than another"
    )


def test_noise_is_of_the_published_kinds():
    noise = BlindWalk(2.0, walks=4)._noise(torch.zeros(3, 1, 50, 50), seeded(0)).transpose(0, 2).flatten(1)
    linf, l2, l1 = noise
    assert linf.abs().max() == pytest.approx(0.01, rel=1e-3)
    assert linf.std() == pytest.approx(0.01 / math.sqrt(3), rel=0.02)
    assert l2.std() == pytest.approx(0.01, rel=0.02)
    assert (l2.abs() < 0.01).float().mean() == pytest.approx(0.6827, abs=0.01)
    assert l1.abs().mean() == pytest.approx(0.02, rel=0.03)
    assert l1.std() == pytest.approx(0.02 * math.sqrt(2), rel=0.03)
    assert noise.mean(1).abs().max() < 1e-3


def test_the_smallest_scale_that_is_enough():
    layers, x = network(4), images(10, 4)
    y = labels_of(layers)(x)
    chosen = calibrated(BlindWalk(), labels_of(layers), x, y, seeded(0), ladder=(64, 1, 4, 16), limit=0.65)
    shares = {s: BlindWalk(s)(labels_of(layers), x, y, seeded(0)).censored for s in (1, 4, 16, 64)}
    assert max(shares[1]) > 0.65, "it must climb"
    assert chosen.enough
    assert chosen.censored == shares[chosen.walk.scale]
    assert chosen.walk.scale == min(scale for scale, censored in shares.items() if max(censored) < 0.65)
    short = calibrated(BlindWalk(), labels_of(layers), x, y, seeded(0), ladder=(0.01, 0.02))
    assert (short.walk.scale, short.enough) == (0.02, False)
    with pytest.raises(UserError, match="rung"):
        calibrated(BlindWalk(), labels_of(layers), x, y, seeded(0), ladder=())


# Descent


def linear(weight: Tensor, margin: float) -> Callable[[Tensor], Tensor]:
    """Two classes; at the grey image, the second is `margin` behind."""

    def logits(x: Tensor) -> Tensor:
        ahead = ((x - 0.5).flatten(1) * weight).sum(1) - margin
        return torch.stack([torch.zeros_like(ahead), ahead], 1)

    return logits


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 40), st.sampled_from(NORMS))
def test_descent_along_a_linear_margin(seed, steps, norm):
    weight = torch.randn(64, generator=seeded(seed), dtype=torch.float64)
    gain = {
        "linf": 0.001 * weight.abs().sum(),
        "l2": 0.01 * weight.norm(),
        "l1": 0.01 * weight.abs().topk(10).values.sum(),
    }[norm]
    x = torch.full((2, 1, 8, 8), 0.5, dtype=torch.float64)
    found = MinGD(top=10, sort=False)(linear(weight, float(gain) * (steps - 0.5)), x, 2)
    axis = NORMS.index(norm)
    assert found.distances[:, 0].abs().max() == 0, "already predicted"
    assert found.lengths[:, 1, axis].tolist() == [steps] * 2
    step = {"linf": 0.001, "l2": 0.01, "l1": 10 * 0.01}[norm]
    assert found.distances[:, 1, axis] == pytest.approx(torch.full((2,), steps * step, dtype=torch.float64))


def one_descent_after_the_other(rule: MinGD, layers: nn.Module, x: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    lengths, distances = torch.zeros(len(x), classes, 3).long(), torch.zeros(len(x), classes, 3, dtype=x.dtype)
    for i in range(len(x)):
        for t in range(classes):
            for n, norm in enumerate(NORMS):
                delta, taken = torch.zeros_like(x[i]), 0
                while taken < rule.steps and layers((x[i] + delta)[None]).argmax() != t:
                    point = (x[i] + delta).requires_grad_()
                    z = layers(point[None])[0]
                    (g,) = torch.autograd.grad(-(z.max() - z[t]), point)
                    if norm == "linf":
                        delta = delta + rule.linf * g.sign()
                    elif norm == "l2":
                        delta = delta + rule.l2 * g / g.norm()
                    else:
                        at = (x[i] + delta).flatten()
                        best = sorted(range(len(at)), key=lambda p: -abs(g.flatten()[p].item()))
                        fit = [p for p in best if 0 < at[p] < 1 and rule.gap < at[p] + (g.flatten()[p] > 0) * rule.gap]
                        fit = [p for p in fit if not (g.flatten()[p] > 0 and at[p] >= 1 - rule.gap)]
                        for p in fit[: rule.top]:
                            delta.view(-1)[p] += rule.l1 * g.flatten()[p].sign()
                    delta, taken = (x[i] + delta).clamp(0, 1) - x[i], taken + 1
                lengths[i, t, n], distances[i, t, n] = taken, torch.linalg.vector_norm(delta.flatten(), ORDERS[n])
    return lengths, distances


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**31), st.integers(1, 20))
@example(62, 1)
def test_descents_together_are_descents_one_after_the_other(seed, batch):
    layers, x, rule = network(seed), images(3, seed), MinGD(15, 0.01, 0.03, 0.03, top=3, sort=False)
    found = rule(layers, x, 3, batch)
    lengths, distances = one_descent_after_the_other(rule, layers, x, 3)
    same = found.lengths == lengths  # one that goes to and fro on a border may cross it a step later, by rounding
    assert (~same).sum() <= 1
    assert torch.allclose(found.distances[same], distances[same], atol=1e-9)
    taken = found.lengths
    assert found.forwards == (taken + 1).clamp(max=15).sum(), "one forward pass for label and gradient"
    assert found.censored == pytest.approx((taken == 15).double().mean((0, 1)).tolist())
    assert all(parameter.grad is None for parameter in layers.parameters())
    ordered = MinGD(15, 0.01, 0.03, 0.03, top=3)(layers, x, 3, batch)
    assert torch.equal(ordered.distances, found.distances.sort(1).values)


def test_in_l1_no_pixel_leaves_the_box_and_none_on_its_border_moves():
    weight = torch.ones(4, dtype=torch.float64)
    at = torch.tensor([0.0, 1.0, 0.9995, 0.0005], dtype=torch.float64).view(1, 1, 2, 2)
    found = MinGD(5, sort=False)(linear(weight, 100), at, 2)
    assert found.distances[0, 1, 2] == pytest.approx(5 * 0.01), "the last pixel alone, upwards"
    down = MinGD(5, sort=False)(linear(-weight, 100), at, 2)
    assert down.distances[0, 1, 2] == pytest.approx(5 * 0.01), "the one before the last, downwards"


def test_descent_under_no_grad_and_without_a_slope():
    rule = MinGD(3, sort=False)
    with torch.no_grad():
        found = rule(lambda x: x.flatten(1)[:, :2] * 0 + torch.tensor([1.0, 0.0]), torch.rand(2, 1, 2, 2), 2)
    assert found.distances.abs().max() == 0
    assert found.censored == (0.5, 0.5, 0.5)


# Mistakes


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: BlindWalk(0.0), "scale"),
        (lambda: BlindWalk(math.inf), "scale"),
        (lambda: BlindWalk(steps=0), "steps"),
        (lambda: BlindWalk(walks=1.5), "whole, >= 1"),
        (lambda: MinGD(l2=-1.0), "l2"),
        (lambda: MinGD(top=0), "top"),
        (lambda: MinGD()(lambda x: x, torch.rand(2, 1, 2, 2), 1), "classes"),
        (lambda: MinGD()(lambda x: x, torch.rand(2, 1, 2, 2) - 1, 2), "out of range"),
        (lambda: MinGD()(lambda x: x, torch.rand(2), 2), "inputs"),
        (lambda: MinGD()(lambda x: x, torch.rand(2, 1, 2, 2), 2, 0), "batch"),
        (lambda: BlindWalk()(lambda x: x, torch.rand(2, 1, 2, 2), torch.zeros(3), seeded(0)), "label per image"),
    ],
)
def test_impossible_walks(build, complaint):
    with pytest.raises(UserError, match=complaint):
        build()
