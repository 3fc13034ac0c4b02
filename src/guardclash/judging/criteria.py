"""What is measured, and how much of it may be lost: metrics φ and their criteria (section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from guardclash.checks import given, within
from guardclash.errors import UserError, suggestion
from guardclash.judging.stats import TOLERANCE, Sample

RETAINED = 0.5
"""The usual share of an effect that must be preserved where its loss is tolerated up to a margin: a margin never makes
up for a lost effect (U.S. Food and Drug Administration, Non-Inferiority Clinical Trials, 2016, section IV)."""
LOG10_FLOOR = -324.0
"""The least log10 p-value told apart: no positive double is below 5e-324, so a p-value of 0 says no more."""


@dataclass(frozen=True)
class MaxDrop:
    """Together, φ may be worse than alone by at most `threshold`: Δφ <= t (section 3, below equation 8)."""

    kind: ClassVar[str] = "max_drop"
    threshold: float
    """In the units of φ, above 0: 0.30 is 30 percentage points of an accuracy."""

    def __post_init__(self) -> None:
        within("max_drop", "a number, > 0, finite", threshold=self.threshold)


@dataclass(frozen=True)
class MaxGrowth:
    """Together, φ may be at most `factor` times what it is alone: the privacy budget ε by 1.5 (section 3)."""

    kind: ClassVar[str] = "max_growth"
    factor: float
    """Above 1."""

    def __post_init__(self) -> None:
        within("max_growth", "a number, > 1, finite", factor=self.factor)


@dataclass(frozen=True)
class Floor:
    """Together, φ must be at least `threshold`, whatever it is alone: φ_RAD >= 0.01 (section 3)."""

    kind: ClassVar[str] = "floor"
    threshold: float
    """In the units of φ."""

    def __post_init__(self) -> None:
        within("floor", "a number, finite", threshold=self.threshold)


@dataclass(frozen=True)
class Ceiling:
    """Together, φ must be at most `threshold`, whatever it is alone: log10 φ_DI <= -3 (section 3)."""

    kind: ClassVar[str] = "ceiling"
    threshold: float
    """In the units of φ."""

    def __post_init__(self) -> None:
        within("ceiling", "a number, finite", threshold=self.threshold)


Relative = MaxDrop | MaxGrowth
"""Criteria that ask what a metric is alone."""
Absolute = Floor | Ceiling
"""Criteria that are fixed bounds."""
Criterion = Relative | Absolute
KINDS: dict[str, type[Criterion]] = {kind.kind: kind for kind in (MaxDrop, MaxGrowth, Floor, Ceiling)}


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


JUDGING = ("range", "gain", "least_gain", "retain", "net", "paired", "computed", "optional", "model")
"""Fields of a metric that most leave as they are."""


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
    """Of its values in tables, 0 to 12."""
    title: str = ""
    log10: bool = False
    """The value is the log10 of a p-value. Thresholds are on that scale too: -3, not 1e-3."""
    controls: tuple[str, ...] = ()
    """Names of metrics of the same mechanism that must not reach `claimed_at`, such as the same test on a model that
    owes nothing to the owner: if one does, a claim is not credible, whatever its own value."""
    claim: Absolute | None = None
    """From which value on the owner claims a suspect model as stolen; None: see `claimed_at`. A mechanism that does not
    reach it alone is ineffective, whether or not the metric has a criterion."""
    range: tuple[float, float] | None = None
    """The least and the largest possible value: others are refused, and the rule "bounded" needs it. None: unknown."""
    gain: bool = True
    """Whether the mechanism must be shown to better the unprotected model's value when it is alone (section 3: "must be
    effective"). False: what an unprotected model scores says nothing about it."""
    least_gain: float | None = None
    """From which gain on it is an effect, in the units of the metric; None: more than half of what a drop may be. A
    convention of ours: an effect whose whole loss the criterion would hardly see is none to be judged by it."""
    retain: float = RETAINED
    """The share of that gain that must be left together, in [0, 1), whatever a drop may be."""
    net: bool = False
    """Judged is what the mechanism adds: the value with it minus the value of the same combination without it, seed by
    seed. For metrics of which 0 is not what an unprotected model scores."""
    paired: bool = False
    """Values of one seed share a secret on which most of their spread rests, so alone and together are compared seed by
    seed. To be declared by the design, never after looking at values."""
    computed: bool = False
    """It follows from the plan and not from a trained model: all seeds have one value, and no seed adds evidence."""
    optional: bool = False
    """It may have no meaning in company, and `measure` then leaves it out. Any other metric that is measured alone and
    left out together is "not measured together"."""
    model: str = ""
    """What a claim is tested on where a combination is measured, if not its own model: such as "its thief"."""

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
        if self.range is not None and not -math.inf < self.range[0] < self.range[1] < math.inf:
            raise UserError("a range has a least and a largest value", where=self.name, got=self.range)
        within(self.name, ">= 0, finite", **given(least_gain=self.least_gain))
        within(self.name, ">= 0, < 1", retain=self.retain)
        within(self.name, "a number, whole, >= 0, <= 12", decimals=self.decimals)

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
    def judged_symbol(self) -> str:
        """As tables show what is judged."""
        return f"{self.symbol} net" if self.net else self.symbol

    @property
    def effect(self) -> float:
        """The least gain that is an effect."""
        half = self.criterion.threshold / 2 if isinstance(self.criterion, MaxDrop) else 0.0
        return half if self.least_gain is None else self.least_gain

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

    def checked(self, value: float) -> float:
        """A value as samples and records hold it.

        A log10 p-value below `LOG10_FLOOR`, also -inf, counts as `LOG10_FLOOR`. Of what should be low, inf is a value:
        no epsilon bounds a training without privacy.

        Raises:
            UserError: The value is not a number, or outside of the metric's range; the metric is named.
        """
        number = max(float(value), LOG10_FLOOR) if self.log10 else float(value)  # nan stays nan
        unbounded = number == math.inf and not (self.higher_is_better or self.log10)
        if not (math.isfinite(number) or unbounded):
            raise UserError("a measured value must be a finite number", where=self.name, got=value)
        low, high = self.range or (-math.inf, math.inf)
        slack = TOLERANCE * max(abs(low), abs(high)) if self.range else 0.0
        if not low - slack <= number <= high + slack:
            raise UserError(
                "a value outside of its metric's range", where=self.name, got=value, allowed=f"{low} to {high}"
            )
        return number

    def sample(self, values: Iterable[float], seeds: Iterable[int] = ()) -> Sample:
        """Replicates of this metric as a sample, each as `checked`.

        The mean of log10 p-values is the logarithm of a geometric mean.

        Raises:
            UserError: As `checked`.
        """
        return Sample(tuple(map(self.checked, values)), seeds=tuple(seeds))

    def to_dict(self) -> dict[str, Any]:
        """JSON: criterion and claim by `criterion_dict`; of how it is judged, what is not the usual way."""
        usual = {field.name: field.default for field in fields(self)}
        said = {name: value for name, value in vars(self).items() if name not in JUDGING or value != usual[name]}
        return {
            **said,
            "criterion": self.criterion and criterion_dict(self.criterion),
            "controls": list(self.controls),
            "claim": self.claim and criterion_dict(self.claim),
            **({"range": list(self.range)} if self.range else {}),
        }


def metric_from(data: Mapping[str, Any]) -> Metric:
    """Reads a metric that `Metric.to_dict` wrote, also before there were controls and claims.

    Raises:
        UserError: The criterion or the claim is none, or a field is unknown or missing.
    """
    where = data.get("name", "metric")
    try:
        bounds = {"criterion": data["criterion"], "claim": data.get("claim")}
        read = {name: None if bound is None else criterion_from(bound, where) for name, bound in bounds.items()}
        span = data.get("range")
        given = {**data, **read, "controls": tuple(data.get("controls", ())), "range": tuple(span) if span else None}
        return Metric(**given)
    except (KeyError, TypeError) as error:
        raise UserError("not a metric", where=where, got=dict(data), mend=str(error)) from error


SHARE = (0.0, 1.0)
"""The range of accuracies and other shares."""
ACCURACY = Metric("accuracy", "φ_ACC", MaxDrop(0.10), title="test accuracy", range=SHARE, gain=False)
"""Every combination is also judged by accuracy: at most 10 percentage points may be lost (section 3)."""
