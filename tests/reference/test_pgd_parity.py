"""Our attacks against those of two libraries: same start, same steps, same images.

torchattacks demands an old `requests` and a torchvision that it does not use here, so it cannot be a dependency;
install it by itself, and ART as the extra that it is:

    pip install --no-deps torchattacks && pip install "guardclash[attacks]"

What is not installed is skipped.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from guardclash.compose import compose
from guardclash.mechanisms.advtr import AdversarialTraining
from guardclash.numerics.attacks import PGD, attacked
from guardclash.plan.adversarial import cross_entropies
from guardclash.tasks.recipe import recipe
from guardclash.training.train import train

SIZES = [(0.1, 0.02, 7), (0.3, 0.01, 10)]


@pytest.fixture(scope="module")
def trained(context):
    return train(recipe("digits", "smoke", epochs=4).plan(), context(0))


@pytest.fixture(scope="module")
def images(context):
    x, y = context(0).examples("digits", "test")
    return x[:100], y[:100]


def ours(network: nn.Module, attack: PGD, x: torch.Tensor, y: torch.Tensor, seed: int = 0) -> torch.Tensor:
    with attacked(network):
        return attack(lambda point: cross_entropies(network, point, y), x, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize(("radius", "step", "steps"), SIZES)
def test_linf_as_torchattacks(radius, step, steps, random_start, trained, images):
    torchattacks = pytest.importorskip("torchattacks", reason="pip install --no-deps torchattacks")
    x, y = images
    attack = torchattacks.PGD(trained.network, radius, step, steps, random_start)
    torch.manual_seed(3)  # a uniform start takes the same numbers from a generator of this seed as ours does
    theirs = attack(x, y)
    assert (theirs - x).abs().max() > 0.9 * min(radius, steps * step)
    found = ours(trained.network, PGD(radius, step, steps, random_start=random_start), x, y, 3)
    same = (found - theirs).abs() < 1e-5
    assert same.double().mean() > 0.999, "but for pixels whose gradient is as good as 0"
    # Steps from a point that differs lead on to points that differ, so nearly all images have no such pixel.
    assert same.flatten(1).all(1).double().mean() > 0.9


@pytest.mark.parametrize(("radius", "step", "steps"), [(1.0, 0.25, 7), (0.5, 0.02, 10)])
def test_l2_as_torchattacks(radius, step, steps, trained, images):
    """Without a random start: theirs is not uniform in the ball."""
    torchattacks = pytest.importorskip("torchattacks", reason="pip install --no-deps torchattacks")
    x, y = images
    theirs = torchattacks.PGDL2(trained.network, radius, step, steps, random_start=False)(x, y)
    found = ours(trained.network, PGD(radius, step, steps, "l2", random_start=False), x, y)
    assert (theirs - x).flatten(1).norm(dim=1).max() > 0.1
    assert (found - theirs).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("norm", "radius", "step", "steps", "clamp"),
    [
        ("linf", *SIZES[0], True),
        ("linf", *SIZES[1], True),
        ("l2", 0.5, 0.02, 10, True),
        ("l2", 1.0, 0.25, 7, False),  # with both at work, ART clamps first and projects then, we the other way round
    ],
)
def test_both_norms_as_art(norm, radius, step, steps, clamp, trained, images):
    pytest.importorskip("art", reason="pip install 'guardclash[attacks]'")
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    x, y = images
    limits = (0.0, 1.0) if clamp else None
    loss = nn.CrossEntropyLoss()
    model = PyTorchClassifier(trained.network, loss, (1, 8, 8), 10, clip_values=limits, device_type="cpu")
    size = {"eps": radius, "eps_step": step, "max_iter": steps, "norm": "inf" if norm == "linf" else 2}
    attack = ProjectedGradientDescentPyTorch(model, **size, batch_size=100, verbose=False)
    theirs = torch.from_numpy(attack.generate(x.numpy(), np.eye(10, dtype=np.float32)[y.numpy()]))
    assert (theirs - x).abs().max() > 0.05
    found = ours(trained.network, PGD(radius, step, steps, norm, random_start=False, clamp=clamp), x, y)
    assert ((found - theirs).abs() < 1e-4).double().mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.15), ("l2", 1.0)])
def test_the_ensemble_is_as_strong_as_autoattack(norm, radius, context):
    """Without FAB and targeted losses, and by another library: within 3 of 100 images of the standard AutoAttack."""
    torchattacks = pytest.importorskip("torchattacks", reason="pip install --no-deps torchattacks")
    pytest.importorskip("art", reason="pip install 'guardclash[attacks]'")
    mechanism = AdversarialTraining(norm=norm, radius=radius, steps=7)
    model = train(compose(recipe("digits", "reduced", epochs=10).plan(), [mechanism]), context(0))
    found = replace(mechanism, ensemble=True).measure(model, context(0))
    x, y = context(0).examples("digits", "test")
    standard = torchattacks.AutoAttack(model.network, "Linf" if norm == "linf" else "L2", radius, n_classes=10, seed=0)
    theirs = (model.predict(standard(x, y)).argmax(1) == y).double().mean().item()
    assert found["adv_ensemble"] == pytest.approx(theirs, abs=0.03)
    assert theirs < found["adv_accuracy"]
