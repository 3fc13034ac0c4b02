"""What protections against model evasion share: the attack that they train against and are measured by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

from guardclash.checks import one_of
from guardclash.data.space import Images, Rows, Space, Tokens, called
from guardclash.judging.criteria import Metric
from guardclash.measure import Measure
from guardclash.measures.robustness import Robustness, check_attack
from guardclash.mechanism import Mechanism
from guardclash.numerics.attacks import (
    ENSEMBLE_QUERIES,
    ENSEMBLE_STARTS,
    ENSEMBLE_STEPS,
    PGD,
    PRECISIONS,
    ensemble_version,
    use_bfloat16,
)
from guardclash.plan.plan import Context, Plan
from guardclash.training.trained import Trained


@dataclass(frozen=True)
class Evasion(Mechanism):
    """A protection against model evasion: the options of its attack, and phi_ADV. Abstract: it trains nothing."""

    concern: ClassVar[str] = "model evasion"
    order: ClassVar[int] = 1  # the attack is on the images as the network would see them, other maps applied
    spaces: ClassVar[tuple[type[Space], ...]] = Robustness.spaces
    metrics: ClassVar[tuple[Metric, ...]] = Robustness.metrics

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
    mode: str = "eval"
    """The inner attack sees the network in "eval" or, as published, in "train" mode."""
    batch_norm: str = "freeze"
    """What the inner attack's passes in train mode do to running statistics: "freeze", or as published "update"."""
    precision: str = "auto"
    """Of the inner attack: "float32", "bfloat16", or "auto": bfloat16 where the processor computes in it."""
    restarts: int = 1
    """Random starts when measuring; an image counts only if it withstands all."""
    test_examples: int = 1000
    """Test images that phi_ADV is measured on, the first ones."""
    ensemble: bool = False
    """Also measure accuracy under an ensemble of stronger attacks; minutes per model. Needs guardclash[attacks]."""
    embeddings: bool = False
    """Of tokens: shift the vectors that the network's embedding gives them (Miyato et al. 2017); the radius is then in
    units of these, of a whole text where norm = "l2"."""

    def __post_init__(self) -> None:
        check_attack(self.name, self)
        one_of(self.name, ("eval", "train"), mode=self.mode)
        one_of(self.name, ("freeze", "update"), batch_norm=self.batch_norm)
        one_of(self.name, PRECISIONS, precision=self.precision)
        if self.ensemble:
            object.__setattr__(self, "metrics", self.robustness().metrics)  # frozen; only who asks for it declares it

    def robustness(self) -> Robustness:
        """What shows that it works: accuracy under the attack that it trains against."""
        shared = {field.name: getattr(self, field.name) for field in fields(Robustness)}
        return Robustness(**shared)

    def measures(self) -> tuple[Measure, ...]:
        """Robustness; mechanisms with the same attack share it."""
        return (self.robustness(),)

    def misfit(self, plan: Plan) -> str:
        """As for the attack that it trains against."""
        return self.robustness().misfit(plan)

    def attack(self, plan: Plan) -> PGD:
        """The attack on the model of a plan, in the units of its inputs.

        Raises:
            UserError: If an option has no meaning for such inputs.
        """
        return self.robustness().attack(plan, self.name)

    def seen(self) -> tuple[bool, bool, str]:
        """How the training's attack sees the network: in training mode, moving statistics, in what precision."""
        return self.mode == "train", self.batch_norm == "update", self.precision

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """phi_ADV (equation 5) of any model, as `Robustness` measures it."""
        return self.robustness().measure(trained, context)

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """That the attack may be failing, so that phi_ADV says too much."""
        return self.robustness().warnings(metrics)

    def facts(self, plan: Plan) -> dict[str, str]:
        """The attack in words, its radius in the units of the inputs, and what is odd about it."""
        attack = self.attack(plan)
        start = "random start" if self.random_start else "no random start"
        narrow = use_bfloat16(self.precision)
        space = plan.purpose.space if plan.purpose else None
        units = f"({self.units} units)" if space is None or isinstance(space, Images) else f"({_unit(space)})"
        found = {
            "attack": f"PGD-{self.steps}, {self.norm}, step {attack.step:.4g} {units}, {start}",
            **self._radius(attack, space),
            "trained in": f"{self.mode} mode, {'bfloat16' if narrow else 'float32'}",
        }
        if self.precision == "bfloat16" and not narrow:
            found["note"] = "this processor has no bfloat16 arithmetic, so the attack runs in float32"
        if self.random_start and attack.reach < 1:
            found["warning"] = f"{self.steps} steps of {attack.step:.4g} cannot cross the ball from a random start"
        if not self.random_start and attack.reach < 0.5:
            found["warning"] = f"{self.steps} steps of {attack.step:.4g} cannot reach the edge of the ball"
        if self.ensemble:
            queries = f", Square ({ENSEMBLE_QUERIES} queries)" if self.norm == "linf" else ""
            gradual = f"APGD-CE, APGD-DLR ({ENSEMBLE_STEPS} steps, {ENSEMBLE_STARTS} starts)"
            found["ensemble"] = f"{gradual}{queries}, ART {ensemble_version()}"
        return found

    def _radius(self, attack: PGD, space: Space | None) -> dict[str, str]:
        if space is None or isinstance(space, Images):
            return {"radius in pixels": ", ".join(f"{self.radius * scale:.4g}" for scale in attack.scale)}
        kept = len(space.categories) if isinstance(space, Rows) else 0
        stay = f"; {kept} {'category' if kept == 1 else 'categories'} cannot be changed" if kept else ""
        of = f", of a whole {called(space)[:-1]}" if self.norm == "l2" else ""
        return {"radius": f"{self.radius:g} {_unit(space)}{of}{stay}"}


def _unit(space: Space) -> str:
    """In what inputs that are no images are moved."""
    return "units of the tokens' embedding" if isinstance(space, Tokens) else "standard deviations"
