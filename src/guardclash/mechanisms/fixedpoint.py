"""Oblivious training, simulated: the arithmetic in which parties train on data that none of them sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from guardclash.checks import given, one_of, within
from guardclash.errors import UserError
from guardclash.judging.criteria import Metric
from guardclash.measure import Measure
from guardclash.measures.oblivious import Oblivious
from guardclash.mechanism import Mechanism
from guardclash.numerics.approximations import SOFTMAXES
from guardclash.numerics.fixedpoint import TRUNCATIONS, failure_probability
from guardclash.plan.communication import step_cost
from guardclash.plan.fixedpoint import (
    MOST_BITS,
    ApproximatedRoots,
    ApproximatedSoftmax,
    FixedPoint,
    PolynomialActivations,
    RoundedLayers,
)
from guardclash.plan.gradients import kept_in
from guardclash.plan.plan import Context, OtherSeed, Plan, Rewrite
from guardclash.plan.structure import looks_of, operations
from guardclash.training.trained import Trained

BEFORE_THE_POINT = 5
"""Bits before the point of a product, for the probability that its truncation fails."""
COMPARING = ("relu", "max_pool1d", "max_pool2d", "max_pool3d")
"""Functions of torch that a polynomial network must not call."""


@dataclass(frozen=True)
class FixedPointTraining(Mechanism):
    """Training in the fixed-point arithmetic of secure computation: parties train on data that none of them sees.

    It is a simulation in the clear of what such a training computes, not of how: weights, gradients, optimizer states
    and what layers give are kept on a grid of 2^-bits, and softmax is approximated. No secret is shared here.
    """

    name: ClassVar[str] = "fixedpoint"
    title: ClassVar[str] = "fixed-point training"
    concern: ClassVar[str] = "oblivious training"
    paper: ClassVar[str] = "Mohassel and Zhang 2017"
    order: ClassVar[int] = 9  # layers that others put in are rounded too
    metrics: ClassVar[tuple[Metric, ...]] = Oblivious.metrics

    bits: int = 16
    """Fractional bits, 1 to 31: 13 in SecureML and Falcon, 16 in CrypTen, 20 in CryptGPU, 26 in Piranha."""
    truncation: str = "probabilistic"
    """How products are cut back: "probabilistic", as local truncation of shares is, "nearest", "floor" (most trainings
    diverge) or "toward_zero"."""
    activations: str | None = None
    """The same for what layers give and its gradients; None: as `truncation`."""
    softmax: str = "crypten"
    """In the training: "crypten" (8 squarings, 10 Newton steps), "secureml" (shares of positive logits) or "exact"."""
    roots: str = "exact"
    """Inverse roots of norm layers, in training and answers: "exact" or "crypten" (3 Newton steps)."""
    activation: str = "relu"
    """"relu", or "polynomial": 0.125 x^2 + 0.5 x + 0.25 for ReLU and averages for max pooling."""
    where: str = "sum"
    """Under DP-SGD: "sum" rounds the noisy sum of clipped gradients, which costs no privacy; "examples" rounds each
    clipped gradient, which may lengthen it, so that epsilon grows."""

    def __post_init__(self) -> None:
        within("fixedpoint", f"whole, >= 1, <= {MOST_BITS}", bits=self.bits)
        one_of("fixedpoint", TRUNCATIONS, truncation=self.truncation, **given(activations=self.activations))
        one_of("fixedpoint", SOFTMAXES, softmax=self.softmax)
        one_of("fixedpoint", ("exact", "crypten"), roots=self.roots)
        one_of("fixedpoint", ("relu", "polynomial"), activation=self.activation)
        one_of("fixedpoint", ("sum", "examples"), where=self.where)

    def architecture(self, plan: Plan) -> Plan:
        """Sets the arithmetic, and rewrites the network to compute in it."""
        arithmetic = FixedPoint(self.bits, self.truncation, self.where == "examples")
        found: list[Rewrite] = []
        if self.activation == "polynomial":
            found.append(PolynomialActivations())
            self._check_nothing_compares(plan, (*plan.all_rewrites, *found))
        if self.roots == "crypten":
            found.append(ApproximatedRoots(self.bits))
        found.append(RoundedLayers(self.bits, self.activations or self.truncation))
        if self.softmax != "exact":
            found.append(ApproximatedSoftmax(self.softmax, self.bits, plan.several_labels))
        return replace(plan, arithmetic=arithmetic, rewrites=(*plan.rewrites, *found))

    def _check_nothing_compares(self, plan: Plan, rewrites: tuple[Rewrite, ...]) -> None:
        names = {one.name for one in operations(plan.model, rewrites)}
        if left := sorted(names.intersection(COMPARING)):
            raise UserError(
                "a network that compares numbers in its code cannot be made polynomial",
                where="fixedpoint.activation",
                got=", ".join(left),
                mend='Use layers (torch.nn.ReLU, torch.nn.MaxPool2d), or activation = "relu".',
            )

    def measures(self) -> tuple[Measure, ...]:
        """The agreement with the float twin, which no option changes: all variants share it."""
        return (Oblivious(),)

    def needs(self, plan: Plan) -> tuple[Plan | OtherSeed, ...]:
        """As its measure."""
        return Oblivious().needs(plan)

    def measure(self, trained: Trained, context: Context) -> dict[str, float]:
        """As its measure."""
        return Oblivious().measure(trained, context)

    def warnings(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """As its measure."""
        return Oblivious().warnings(metrics)

    def facts(self, plan: Plan) -> dict[str, str]:
        """The arithmetic, how often a real truncation would fail, and what a step costs two parties."""
        if not isinstance(plan.arithmetic, FixedPoint):
            return {}
        fails = failure_probability(2 * self.bits + BEFORE_THE_POINT)
        found = {
            "arithmetic": f"{self.bits} fractional bits, {self.truncation} truncation, simulated in the clear",
            "truncations that fail in a ring of 64 bits": f"{fails:.2g} ({BEFORE_THE_POINT} bits before the point)",
        }
        for stream in plan.streams:
            cost, count = step_cost(plan, stream, self.softmax), stream.steps_per_epoch()
            per_epoch = f"{cost.bytes * count / 1e9:.3g} GB per epoch"
            found[f"sent per step of {stream.name}"] = f"{cost}, {per_epoch} (cost model, two parties)"
        if any(kept_in(one.gradient, plan.arithmetic) != one.gradient for one in plan.streams):
            added = plan.arithmetic.added(looks_of(plan.model, plan.all_rewrites).trainable)
            found["length that rounding may add to an example's gradient"] = f"{added:.3g}"
        return found
