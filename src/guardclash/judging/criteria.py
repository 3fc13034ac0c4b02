"""What is measured, and how much of it may be lost: metrics φ and their criteria (section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from guardclash.errors import UserError, suggestion
from guardclash.judging.stats import TOLERANCE, Sample

LOG10_FLOOR = -324.0
"""The least log10 p-value told apart: no positive double is below 5e-324, so a p-value of 0 says no more."""


@dataclass(frozen=True)
class MaxDrop:
    """Together, φ may be worse than alone by at most `threshold`: Δφ <= t (section 3, below equation 8)."""

    kind: ClassVar[str] = "max_drop"
    threshold: float
    """In the units of φ, above 0: 0.30 is 30 percentage points of an accuracy."""

    def __post_init__(self) -> None:
        _check("max_drop", self.threshold, above=0)


@dataclass(frozen=True)
class MaxGrowth:
    """Together, φ may be at most `factor` times what it is alone: the privacy budget ε by 1.5 (section 3)."""

    kind: ClassVar[str] = "max_growth"
    factor: float
    """Above 1."""

    def __post_init__(self) -> None:
        _check("max_growth", self.factor, above=1)


@dataclass(frozen=True)
class Floor:
    """Together, φ must be at least `threshold`, whatever it is alone: φ_RAD >= 0.01 (section 3)."""

    kind: ClassVar[str] = "floor"
    threshold: float
    """In the units of φ."""

    def __post_init__(self) -> None:
        _check("floor", self.threshold)


@dataclass(frozen=True)
class Ceiling:
    """Together, φ must be at most `threshold`, whatever it is alone: log10 φ_DI <= -3 (section 3)."""

    kind: ClassVar[str] = "ceiling"
    threshold: float
    """In the units of φ."""

    def __post_init__(self) -> None:
        _check("ceiling", self.threshold)


Relative = MaxDrop | MaxGrowth
"""Criteria that ask what a metric is alone."""
Absolute = Floor | Ceiling
"""Criteria that are fixed bounds."""
Criterion = Relative | Absolute
KINDS: dict[str, type[Criterion]] = {kind.kind: kind for kind in (MaxDrop, MaxGrowth, Floor, Ceiling)}


def _check(kind: str, number: Any, above: float = -math.inf) -> None:
    valid = isinstance(number, int | float) and not isinstance(number, bool) and above < number < math.inf
    if not valid:
        allowed = "a finite number" + (f" above {above}" if math.isfinite(above) else "")
        raise UserError("not a usable criterion", where=kind, got=number, allowed=allowed)


def criterion_from(data: Any, where: object = "criterion") -> Criterion:
    """Reads a criterion as studies and records write it: the inverse of `criterion_dict`.

    Args:
        data: A table with one entry, kind and number: `{"max_drop": 0.3}`.
        where: What to name in a complaint.

    Raises:
        UserError: Not such a table, an unknown kind, or a number out of range.

    Example:
        >>> criterion_from({"max_drop": 0.3})
        MaxDrop(threshold=0.3)
    """
    if not isinstance(data, Mapping) or len(data) != 1:
        raise UserError("a criterion is one kind with one number", where=where, got=data, allowed="{max_drop = 0.3}")
    ((kind, number),) = data.items()
    if kind not in KINDS:
        raise UserError("no such criterion", where=where, got=kind, mend=suggestion(str(kind), KINDS))
    return KINDS[kind](number)


def criterion_dict(criterion: Criterion) -> dict[str, float]:
    """A criterion as JSON: `{"max_drop": 0.3}`."""
    return {criterion.kind: criterion.factor if isinstance(criterion, MaxGrowth) else criterion.threshold}


@dataclass(frozen=True)
class Metric:
    """A number φ that a mechanism is measured by, and what is expected of it when the mechanism is not alone.

    Raises:
        UserError: The criterion or the claim does not suit the metric, such as a floor under what should be low; or
            there are controls, but no bound for them to meet.
    """

    name: str
    """As measurements name it."""
    symbol: str
    """As tables show it."""
    criterion: Criterion | None
    """None: reported, not judged."""
    higher_is_better: bool = True
    decimals: int = 2
    title: str = ""
    log10: bool = False
    """The value is the log10 of a p-value. Thresholds are on that scale too: -3, not 1e-3."""
    controls: tuple[str, ...] = ()
    """Names of metrics of the same mechanism that must not reach `claimed_at`, such as the same test on a model that
    owes nothing to the owner: if one does, a claim is not credible, whatever its own value."""
    claim: Absolute | None = None
    """From which value on the owner claims a suspect model as stolen; None: see `claimed_at`."""

    def __post_init__(self) -> None:
        if self.claim is not None and not isinstance(self.claim, Absolute):
            raise UserError("a claim is a fixed bound", where=self.name, got=self.claim, allowed="a floor or a ceiling")
        for bound in (self.criterion, self.claim):
            self._check_suits(bound)
        if self.controls and self.claimed_at is None:
            mend = "Judge it by a floor or a ceiling, or say from where on it is a claim"
            raise UserError("controls need a fixed bound that they must not reach", where=self.name, mend=mend)
        if self.name in self.controls:
            raise UserError("a metric is not its own control", where=self.name, got=self.controls)

    def _check_suits(self, bound: Criterion | None) -> None:
        unsuited = Ceiling | MaxGrowth if self.higher_is_better else Floor
        if isinstance(bound, unsuited):
            direction = "high" if self.higher_is_better else "low"
            raise UserError(f"no such criterion for what should be {direction}", where=self.name, got=bound)
        if isinstance(bound, MaxGrowth) and self.log10:
            raise UserError("a logarithm does not grow by a factor", where=self.name, mend="Use max_drop, in decades")
        if self.log10 and isinstance(bound, Absolute) and bound.threshold >= 0:
            raise UserError(
                "the threshold of a log10 p-value is negative",
                where=self.name,
                got=bound.threshold,
                mend="Write the log10 of the p-value: -3 for 1e-3",
            )

    @property
    def claimed_at(self) -> Absolute | None:
        """The bound of a claim of ownership: `claim`, else the criterion if it is a bound; None: no claim is made."""
        if self.claim is not None:
            return self.claim
        return self.criterion if isinstance(self.criterion, Absolute) else None

    def claims(self, value: float) -> bool:
        """Whether one value, of this metric or of a control, makes a claim; a value on the bound does.

        Example:
            >>> Metric("di", "φ_DI", Ceiling(-3), higher_is_better=False, log10=True).claims(-3.5)
            True
        """
        bound = self.claimed_at
        if bound is None:
            return False
        beyond = value > bound.threshold if self.higher_is_better else value < bound.threshold
        return beyond or math.isclose(value, bound.threshold, rel_tol=TOLERANCE)

    def sample(self, values: Iterable[float]) -> Sample:
        """Replicates of this metric as a sample.

        A log10 p-value below `LOG10_FLOOR`, also -inf, counts as `LOG10_FLOOR`. The mean of such values is
        the logarithm of a geometric mean.

        Raises:
            UserError: A value is not finite; the metric is named.
        """
        lowest = LOG10_FLOOR if self.log10 else -math.inf
        numbers = tuple(max(float(value), lowest) for value in values)  # nan stays nan
        if not all(math.isfinite(number) for number in numbers):
            raise UserError("measured values must be finite", where=self.name, got=numbers)
        return Sample(numbers)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON, criterion and claim by `criterion_dict`."""
        return {
            **vars(self),
            "criterion": self.criterion and criterion_dict(self.criterion),
            "controls": list(self.controls),
            "claim": self.claim and criterion_dict(self.claim),
        }


def metric_from(data: Mapping[str, Any]) -> Metric:
    """Reads a metric that `Metric.to_dict` wrote, also before there were controls and claims.

    Raises:
        UserError: The criterion or the claim is none, or a field is unknown or missing.
    """
    where = data.get("name", "metric")
    try:
        bounds = {"criterion": data["criterion"], "claim": data.get("claim")}
        read = {name: bound and criterion_from(bound, where) for name, bound in bounds.items()}
        return Metric(**{**data, **read, "controls": tuple(data.get("controls", ()))})
    except (KeyError, TypeError) as error:
        raise UserError("not a metric", where=where, got=dict(data), mend=str(error)) from error


ACCURACY = Metric("accuracy", "φ_ACC", MaxDrop(0.10), title="test accuracy")
"""Every combination is also judged by accuracy: at most 10 percentage points may be lost (section 3)."""
