"""Robustness: accuracy under attack, and the signs that the attack fails."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from guardclash.checks import given, one_of, within
from guardclash.data.space import Images, Rows, Space, Tokens, called, movable, unmoved
from guardclash.errors import UserError
from guardclash.judging.criteria import SHARE, MaxDrop, Metric
from guardclash.measure import Measure
from guardclash.numerics.attacks import ENSEMBLE_CLASSES, PGD, attacked, ensemble, ensemble_version
from guardclash.numerics.layout import at_a_time, fast
from guardclash.numerics.tokens import embedding_of, random_shift, shifted, worst_shift
from guardclash.plan.adversarial import cross_entropies
from guardclash.plan.examples import class_indices
from guardclash.plan.plan import Context, Plan
from guardclash.plan.structure import has_embedding
from guardclash.telling import counted
from guardclash.training.trained import Trained, told_right

DOUBT = 0.02
"""More than this share of images on which a weaker attack beats a stronger one is a sign that the attack fails."""
STRONGER = 0.05
"""More than this share of images that only the ensemble breaks makes phi_ADV misleading."""
BATCH = 500
"""Inputs that are attacked at once."""
ENSEMBLE = Metric(
    "adv_ensemble", "φ_ADV*", None, title="accuracy under PGD and an ensemble of stronger attacks", range=SHARE
)
"""Reported only, as the verdicts are about the attack that was trained against; a study may set a criterion."""


@dataclass(frozen=True)
class Robustness(Measure):
    """Accuracy under projected gradient descent on the bare network, in evaluation mode (equation 5).

    Images move within [0, 1]; of rows the numbers move, and categories stay; of tokens the vectors, if it is asked for.
    """

    name: ClassVar[str] = "robustness"
    spaces: ClassVar[tuple[type[Space], ...]] = (Images, Rows, Tokens)
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
    """Radius gamma of the ball, in the chosen units; of rows in standard deviations of their columns."""
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
    embeddings: bool = False
    """Of tokens: shift the vectors that the network's embedding gives them (Miyato et al. 2017); the radius is then in
    units of these, of a whole text where norm = "l2"."""

    def __post_init__(self) -> None:
        check_attack(self.name, self)
        if self.ensemble:
            ensemble_version()
            object.__setattr__(self, "metrics", (*self.metrics, ENSEMBLE))  # frozen; only who asks for it declares it

    def misfit(self, plan: Plan) -> str:
        """As for every measure; also that the inputs cannot be moved a little."""
        reason = super().misfit(plan)
        if reason or plan.purpose is None:
            return reason
        space = plan.purpose.space
        if not isinstance(space, Tokens):
            stuck = unmoved(space)
            return f"moves inputs a little, and {stuck}" if stuck else ""
        if not self.embeddings:
            return f"moves inputs a little, and {unmoved(space)}: embeddings = true shifts their vectors instead"
        known = has_embedding(plan.model, plan.all_rewrites)
        return "" if known else "shifts the vectors of tokens, and the network has no layer torch.nn.Embedding"

    def attack(self, plan: Plan, where: str = "robustness") -> PGD:
        """The attack on the model of a plan, in the units of its inputs: pixels, standard deviations of columns.

        Args:
            plan: The plan.
            where: Whose options these are.

        Raises:
            UserError: If an option has no meaning for such inputs.
        """
        published = self.units == "published"
        standard = 0.01 if published else 2.5 * self.radius / self.steps
        step = standard if self.step is None else self.step
        if plan.purpose is not None and not isinstance(plan.purpose.space, Images):
            self._check_no_images(plan.purpose.space, where)
            free = movable(plan.purpose.space)
            return PGD(self.radius, step, self.steps, self.norm, self.random_start, clamp=False, free=free)
        if self.embeddings:
            what = "images are attacked as they are, and have no embedding"
            raise UserError(what, where=f"{where}.embeddings", got=True, allowed="false")
        if self.ensemble and plan.several_labels:
            what = "the ensemble attacks models that tell one class of each example"
            raise UserError(what, where=f"{where}.ensemble", got=True, allowed="false")
        if self.ensemble and plan.model.classes < ENSEMBLE_CLASSES:
            what = "the ensemble compares the three greatest logits, and the model tells fewer classes apart"
            raise UserError(what, where=f"{where}.ensemble", got=f"{plan.model.classes} classes", allowed="false")
        scale = plan.model.std if published else (1.0,)
        return PGD(self.radius, step, self.steps, self.norm, self.random_start, not published, scale)

    def _check_no_images(self, space: Space, where: str) -> None:
        inputs = called(space)
        if self.units == "published":
            what = f"the published units are those of images that a network normalises, and {inputs} have none"
            raise UserError(what, where=f"{where}.units", got=self.units, allowed="pixel")
        if self.ensemble:
            what = f"the ensemble attacks images, and the inputs of this task are {inputs}"
            raise UserError(what, where=f"{where}.ensemble", got=True, allowed="false")
        if self.embeddings and not isinstance(space, Tokens):
            what = f"embeddings are of tokens, and the inputs of this task are {inputs}"
            raise UserError(what, where=f"{where}.embeddings", got=True, allowed="false")

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """phi_ADV of any model, and the largest share by which a weaker attack beats it."""
        attack = self.attack(trained.plan)
        x, labels = context.data(trained.plan.judged_by.test).take(slice(self.test_examples))
        y = labels if trained.plan.several_labels else class_indices(labels)
        target = Target(trained, context, self.embeddings)
        withstood = target.withstands(attack, x, y, self.restarts)
        few = slice(0, max(1, len(x) // 5))
        share = withstood[few].double().mean().item()
        measured = {
            "adv_accuracy": withstood.double().mean().item(),
            "adv_doubt": _doubt(target, attack, x[few], y[few], self.restarts, share),
        }
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


@dataclass(frozen=True)
class Target:
    """A model under attack."""

    trained: Trained
    context: Context
    embeddings: bool = False
    """Whether the vectors of its tokens are attacked, and not its inputs."""

    def withstands(self, attack: PGD, x: Tensor, y: Tensor, restarts: int = 1, batch_size: int = BATCH) -> Tensor:
        """Which inputs [N], or of several labels which labels [N, classes], are told right under every restart."""
        rng = self.context.rng("attack")
        kept = torch.ones(y.shape, dtype=torch.bool)
        for _ in range(restarts if attack.random_start else 1):
            for where in counted(torch.arange(len(x)).split(at_a_time(x, batch_size))):
                kept[where] &= told_right(self._attacked(attack, x[where], y[where], rng), y[where])
        return kept

    def _attacked(self, attack: PGD, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
        """The answers to attacked inputs."""
        network = self.trained.network
        device = next(network.parameters()).device
        point, label, several = fast(x.to(device)), y.to(device), self.trained.plan.several_labels
        with attacked(network):
            if not self.embeddings:
                found = attack(lambda inputs: cross_entropies(network, inputs, label, several), point, rng)
            else:
                losses = partial(cross_entropies, network, point, label, several)
                found = worst_shift(attack, network, losses, point, rng, self._padding)
        return self._answers_under(found, point) if self.embeddings else self.trained.predict(found.cpu())

    def disturbed(self, attack: PGD, x: Tensor, rng: torch.Generator) -> Tensor:
        """The answers to random points of the balls."""
        if not self.embeddings:
            return self.trained.predict(replace(attack, random_start=True).start(x, rng))
        point = x.to(next(self.trained.network.parameters()).device)
        random = replace(attack, random_start=True)
        return self._answers_under(random_shift(random, self.trained.network, point, rng, self._padding), point)

    def _answers_under(self, shift: Tensor, tokens: Tensor) -> Tensor:
        answers = []
        for some, own in zip(tokens.split(BATCH), shift.split(BATCH), strict=True):  # as one batch of the network each
            with shifted(self.trained.network, some, own):
                answers.append(self.trained.predict(some.cpu()))
        return torch.cat(answers)

    @property
    def _padding(self) -> int | None:
        return getattr(self.trained.plan.judged_by.space, "padding", None)

    def whole(self, attack: PGD, x: Tensor) -> float:
        """The radius of a ball that holds all that there is: of images every image, else as far as inputs reach."""
        if isinstance(self.trained.plan.judged_by.space, Images):
            return (math.sqrt(x[0].numel()) if attack.norm == "l2" else 1.0) / min(attack.scale)
        values = x[..., : attack.free]
        entries = values[0].numel()
        if self.embeddings:
            values = embedding_of(self.trained.network, x[:1].to(next(self.trained.network.parameters()).device)).weight
            entries *= values.shape[1]
        reach = max(1.0, (values.max() - values.min()).item())
        return reach * (math.sqrt(entries) if attack.norm == "l2" else 1.0)


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


def _doubt(target: Target, attack: PGD, x: Tensor, y: Tensor, restarts: int, accuracy: float) -> float:
    """The signs of a failing attack (Carlini et al. 2019, section 5): each should be 0 or below, or nearly."""

    def under(other: PGD) -> float:
        return target.withstands(other, x, y, restarts).double().mean().item()

    noise = told_right(target.disturbed(attack, x, target.context.rng("noise")), y)
    signs = [
        accuracy - noise.double().mean().item(),  # random points fool it more often
        under(replace(attack, steps=4 * attack.steps)) - accuracy,
        under(replace(attack, radius=2 * attack.radius)) - accuracy,
    ]
    if attack.free is None or attack.free == x.shape[-1]:  # where categories stay, no radius need be enough
        whole, steps = target.whole(attack, x), max(25, attack.steps)
        # Any input is allowed, and yet the gradients find none.
        signs.append(under(replace(attack, radius=whole, step=2.5 * whole / steps, steps=steps, random_start=False)))
    return max(0.0, *signs)
