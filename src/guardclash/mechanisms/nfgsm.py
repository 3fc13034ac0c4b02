"""Adversarial training by single steps with noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from guardclash.checks import one_of, within
from guardclash.data.space import Tokens, unmoved
from guardclash.errors import UserError
from guardclash.judging.criteria import SHARE, Metric
from guardclash.measure import Measure
from guardclash.measures.robustness import Robustness, Target
from guardclash.mechanisms.evasion import Evasion
from guardclash.numerics.attacks import PGD
from guardclash.numerics.single_step import NoisyStep
from guardclash.plan.adversarial import Adversarial
from guardclash.plan.examples import class_indices
from guardclash.plan.plan import Context, Plan, Stream
from guardclash.training.trained import Trained

OVERFITTED = 0.3
"""Ordinary networks are more accurate under one step than under many by a few hundredths, overfitted ones by most."""
GAP = (
    Metric("fgsm_accuracy", "φ_FGSM", None, title="accuracy under a single step", range=SHARE),
    Metric("fgsm_gap", "φ_FGSM - φ_ADV", None, False, title="accuracy under a single step minus that under many"),
)


@dataclass(frozen=True)
class SingleStep(Measure):
    """How much weaker a single step is than many: the sign of catastrophic overfitting (Wong et al. 2020)."""

    name: ClassVar[str] = "single-step"
    metrics: ClassVar[tuple[Metric, ...]] = GAP

    robustness: Robustness = field(default_factory=Robustness)
    """With the attack of many steps."""

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """Both on the same test inputs, a fifth of those that robustness is measured on."""
        many: PGD = self.robustness.attack(trained.plan)
        one = replace(many, steps=1, step=many.radius, random_start=False)
        count = max(1, self.robustness.test_examples // 5)
        x, labels = context.data(trained.plan.judged_by.test).take(slice(count))
        y = labels if trained.plan.several_labels else class_indices(labels)
        target = Target(trained, context)
        single, whole = (target.withstands(attack, x, y).double().mean().item() for attack in (one, many))
        return {"fgsm_accuracy": single, "fgsm_gap": single - whole}

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That it is overfitted to single steps."""
        return tuple(self._doubts(metrics))

    def _doubts(self, metrics: Mapping[str, float]) -> Iterator[str]:
        gap = metrics.get("fgsm_gap", 0.0)
        if gap > OVERFITTED:
            yield f"catastrophic overfitting: many steps take {gap:.2f} more than one step: more noise prevents it"


@dataclass(frozen=True)
class NFGSM(Evasion):
    """N-FGSM (de Jorge et al. 2022): adversarial training by one step from a noisy input, which is not projected back.

    It costs two passes for a step instead of one for every step of an attack. Robustness is measured as that of
    adversarial training is, by many steps. Beside it: how much more accurate the model is under a single step, which
    tells whether it has learnt to mislead single steps only.
    """

    name: ClassVar[str] = "nfgsm"
    title: ClassVar[str] = "N-FGSM"
    paper: ClassVar[str] = "de Jorge et al. 2022"
    metrics: ClassVar[tuple[Metric, ...]] = (*Evasion.metrics, *GAP)

    noise: float = 2.0
    """Half the width of the noise, in radii."""
    stride: float = 1.0
    """Length of the training's single step, in radii; `steps` and `step` are those of the attack that measures."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self.name, ">= 0, finite", noise=self.noise)
        within(self.name, "> 0, finite", stride=self.stride)
        one_of(self.name, ("linf",), norm=self.norm)
        if self.embeddings:
            raise UserError("single steps move inputs", where=f"{self.name}.embeddings", got=True, allowed="false")
        if self.ensemble:
            object.__setattr__(self, "metrics", (*self.robustness().metrics, *GAP))

    def misfit(self, plan: Plan) -> str:
        """As for the attack; and none is written of the vectors of tokens."""
        if plan.purpose is not None and isinstance(plan.purpose.space, Tokens):
            return f"moves inputs a little, and {unmoved(plan.purpose.space)}; of their vectors only advtr is written"
        return super().misfit(plan)

    def measures(self) -> tuple[Measure, ...]:
        """Robustness, and what a single step does."""
        return (*super().measures(), SingleStep(self.robustness()))

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """All of its metrics."""
        return {name: value for one in self.measures() for name, value in one.measure(trained, context).items()}

    def batch(self, stream: Stream, plan: Plan) -> Stream:
        """Adds the step after all other maps of the stream."""
        ball = self.attack(plan)
        step = NoisyStep(ball.radius, self.noise, self.stride, ball.clamp, ball.scale, ball.free)
        return replace(stream, maps=(*stream.maps, Adversarial(step, *self.seen(), plan.several_labels)))

    def facts(self, plan: Plan) -> dict[str, str]:
        """The single step, and the attack that measures it."""
        found = super().facts(plan)
        step = f"a step of {self.stride:g} radii from noise of ±{self.noise:g} radii, not projected back"
        return {"trained on": step, "measured by": found.pop("attack"), **found}
