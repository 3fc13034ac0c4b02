"""Robustness: accuracy under attack, and the signs that the attack fails."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from guardclash.checks import given, one_of, within
from guardclash.data.space import Images, Space
from guardclash.judging.criteria import SHARE, MaxDrop, Metric
from guardclash.measure import Measure
from guardclash.numerics.attacks import PGD, attacked, ensemble, ensemble_version
from guardclash.numerics.layout import fast
from guardclash.plan.adversarial import cross_entropies
from guardclash.plan.examples import class_indices
from guardclash.plan.plan import Context, Plan
from guardclash.training.trained import Trained

DOUBT = 0.02
"""More than this share of images on which a weaker attack beats a stronger one is a sign that the attack fails."""
STRONGER = 0.05
"""More than this share of images that only the ensemble breaks makes phi_ADV misleading."""
ENSEMBLE = Metric(
    "adv_ensemble", "φ_ADV*", None, title="accuracy under PGD and an ensemble of stronger attacks", range=SHARE
)
"""Reported only, as the verdicts are about the attack that was trained against; a study may set a criterion."""


@dataclass(frozen=True)
class Robustness(Measure):
    """Accuracy under projected gradient descent on the bare network, in evaluation mode (equation 5)."""

    name: ClassVar[str] = "robustness"
    spaces: ClassVar[tuple[type[Space], ...]] = (Images,)
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "adv_accuracy",
            "φ_ADV",
            MaxDrop(0.10),
            title="accuracy under PGD in evaluation mode, float32",
            range=SHARE,
        ),
        Metric("adv_doubt", "attack doubt", None, False, title="share by which a weaker attack beats a stronger one"),
    )

    radius: float = 0.25
    """Radius gamma of the ball, in the chosen units."""
    norm: str = "linf"
    """"linf" or "l2"."""
    steps: int = 25
    step: float | None = None
    """Step size alpha; None: 2.5 radius / steps in pixels, 0.01 (the published one) in published units."""
    random_start: bool = True
    units: str = "pixel"
    """"pixel": radius in [0, 1] pixels, images kept there; "published": radius in the model's normalised space, images
    not clamped, as in the code behind the paper's tables (a radius of 0.25 is then 0.125 pixels on MNIST)."""
    restarts: int = 1
    """Random starts; an image counts only if it withstands all."""
    test_examples: int = 1000
    """Test images that phi_ADV is measured on, the first ones."""
    ensemble: bool = False
    """Also measure accuracy under an ensemble of stronger attacks; minutes per model. Needs guardclash[attacks]."""

    def __post_init__(self) -> None:
        check_attack(self.name, self)
        if self.ensemble:
            ensemble_version()
            object.__setattr__(self, "metrics", (*self.metrics, ENSEMBLE))  # frozen; only who asks for it declares it

    def attack(self, plan: Plan) -> PGD:
        """The attack, in pixels, on the model of a plan."""
        published = self.units == "published"
        standard = 0.01 if published else 2.5 * self.radius / self.steps
        scale = plan.model.std if published else (1.0,)
        step = standard if self.step is None else self.step
        return PGD(self.radius, step, self.steps, self.norm, self.random_start, not published, scale)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """phi_ADV of any model, and the largest share by which a weaker attack beats it."""
        attack = self.attack(trained.plan)
        x, labels = context.data(trained.plan.judged_by.test).take(slice(self.test_examples))
        y = class_indices(labels)
        withstood = _withstands(trained, attack, x, y, context, self.restarts)
        few = slice(0, max(1, len(x) // 5))
        doubt = _doubt(trained, attack, x[few], y[few], context, self.restarts, withstood[few].double().mean().item())
        measured = {"adv_accuracy": withstood.double().mean().item(), "adv_doubt": doubt}
        if self.ensemble:
            withstood = _withstands_ensemble(trained, attack, x, y, context, withstood)
            measured[ENSEMBLE.name] = withstood.double().mean().item()
        return measured

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That the attack may be failing, so that phi_ADV says too much."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        doubt = metrics.get("adv_doubt", 0.0)
        if doubt > DOUBT:
            signs = "noise beats it, more steps or a larger radius weaken it, or an unlimited one is not enough"
            yield f"the attack may be failing: {signs} (by {doubt:.2f})"
        stronger = metrics.get("adv_accuracy", 0.0) - metrics.get(ENSEMBLE.name, 1.0)
        if stronger > STRONGER:
            yield f"φ_ADV says too much: an ensemble of stronger attacks takes {stronger:.2f} more"


def check_attack(where: str, options: Any) -> None:
    """Checks the options of an attack, of the measure or of a mechanism that trains against it.

    Raises:
        UserError: If one is unknown or out of range.
    """
    one_of(where, ("linf", "l2"), norm=options.norm)
    one_of(where, ("pixel", "published"), units=options.units)
    within(where, "> 0, finite", radius=options.radius, **given(step=options.step))
    within(where, ">= 1", steps=options.steps, restarts=options.restarts, test_examples=options.test_examples)


def _withstands(
    trained: Trained, attack: PGD, x: Tensor, y: Tensor, context: Context, restarts: int = 1, batch_size: int = 500
) -> Tensor:
    """Which images [N] keep their label under every restart."""
    rng = context.rng("attack")
    kept = torch.ones(len(x), dtype=torch.bool)
    for _ in range(restarts if attack.random_start else 1):
        for where in torch.arange(len(x)).split(batch_size):
            kept[where] &= trained.predict(_attacked(trained, attack, x[where], y[where], rng)).argmax(1) == y[where]
    return kept


def _attacked(trained: Trained, attack: PGD, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    network = trained.network
    device = next(network.parameters()).device
    point, label = fast(x.to(device)), y.to(device)
    with attacked(network):
        return attack(lambda images: cross_entropies(network, images, label), point, rng).cpu()


def _withstands_ensemble(
    trained: Trained, ball: PGD, x: Tensor, y: Tensor, context: Context, withstood: Tensor
) -> Tensor:
    """Which of the images that withstood PGD, [N], also withstand every attack of the ensemble."""
    network = trained.network
    device = next(network.parameters()).device
    kept = withstood & (trained.predict(x).argmax(1) == y)
    with attacked(network):
        for attack in ensemble(network, ball, trained.plan.model.classes, context.rng("ensemble")):
            left = kept.nonzero().flatten()
            if len(left):
                found = attack(x[left].to(device), y[left].to(device)).cpu()
                kept[left] = trained.predict(found).argmax(1) == y[left]
    return kept


def _doubt(
    trained: Trained, attack: PGD, x: Tensor, y: Tensor, context: Context, restarts: int, accuracy: float
) -> float:
    """The signs of a failing attack (Carlini et al. 2019, section 5): each should be 0 or below, or nearly."""

    def under(other: PGD) -> float:
        return _withstands(trained, other, x, y, context, restarts).double().mean().item()

    noise = replace(attack, random_start=True).start(x, context.rng("noise"))
    whole = (math.sqrt(x[0].numel()) if attack.norm == "l2" else 1.0) / min(attack.scale)
    steps = max(25, attack.steps)
    unbounded = replace(attack, radius=whole, step=2.5 * whole / steps, steps=steps, random_start=False)
    signs = [
        accuracy - (trained.predict(noise).argmax(1) == y).double().mean().item(),  # random points fool it more often
        under(replace(attack, steps=4 * attack.steps)) - accuracy,
        under(replace(attack, radius=2 * attack.radius)) - accuracy,
        under(unbounded),  # any image is allowed, and yet the gradients find none
    ]
    return max(0.0, *signs)
