"""What protections against inversion share: the two attacks that they are measured by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from guardclash.checks import within
from guardclash.data.space import Images, Space
from guardclash.errors import UserError
from guardclash.judging.criteria import Metric
from guardclash.measure import Measure
from guardclash.measures.gradient_inversion import GradientInversion
from guardclash.measures.inversion import Inversion
from guardclash.mechanism import Mechanism
from guardclash.plan.plan import Context, OtherSeed, Plan
from guardclash.training.trained import Trained


@dataclass(frozen=True)
class AgainstInversion(Mechanism):
    """A protection against model inversion: what it is measured by. Abstract: it trains nothing."""

    concern: ClassVar[str] = "model inversion"
    spaces: ClassVar[tuple[type[Space], ...]] = (Images,)
    does: ClassVar[str] = "is measured by images of classes"
    one_class: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = Inversion.metrics

    attack: str = "margin"
    """The class inversion that is judged: "margin", or "cross_entropy" as published. Both are measured."""
    gradient_images: int = 8
    """Training images that gradient inversion is tried on; 0: it is not measured."""
    unprotected: Any = None
    """The study's unprotected training, of which the evaluator is; see the measure. From Python only."""

    def __post_init__(self) -> None:
        within(self.name, ">= 0", gradient_images=self.gradient_images)
        if self.unprotected is not None and not isinstance(self.unprotected, Plan):
            raise UserError("what is unprotected is a plan", where=f"{self.name}.unprotected", got=self.unprotected)
        if self.attack != "margin":
            object.__setattr__(self, "metrics", self.inversion().metrics)  # frozen; only who asks for it declares it

    def bind(self, unprotected: Plan) -> AgainstInversion:
        """With the unprotected training."""
        return self if self.unprotected else replace(self, unprotected=unprotected)

    def inversion(self) -> Inversion:
        """Class inversion, which it is judged by."""
        return Inversion(self.attack, unprotected=self.unprotected)

    def measures(self) -> tuple[Measure, ...]:
        """Class inversion, and beside it gradient inversion."""
        gradients = (GradientInversion(images=self.gradient_images),) if self.gradient_images else ()
        return (self.inversion(), *gradients)

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """As class inversion does."""
        return self.inversion().needs(plan)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """Class inversion of any model."""
        return self.inversion().measure(trained, context)

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """As of class inversion."""
        return self.inversion().warnings(metrics)
