"""One metric of one combination: alone against together, under each rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from guardclash.judging import bounded
from guardclash.judging.criteria import Absolute, Criterion, MaxDrop, Metric
from guardclash.judging.gain import Gain
from guardclash.judging.rules import PValues, Rule, beside, check_rule, met, paper, paper_absolute, strict
from guardclash.judging.spread import apart, unseen
from guardclash.judging.stats import (
    TOLERANCE,
    Estimate,
    Sample,
    estimate_difference,
    estimate_mean,
    interval,
)

NOTHING = Sample()
"""No replicate yet."""
MINIMUM = 3
"""Replicates in each arm below which nothing is claimed: two cannot show that they are alike by chance."""


@dataclass(frozen=True)
class Judgement:
    """What the replicates say about one metric; outcomes follow from the p-values, so they are not kept."""

    metric: Metric
    """With the criterion that was applied, which a study may have set."""
    alone: Sample
    """Of a net metric: what the mechanism adds alone."""
    together: Sample
    """Of a net metric: what the mechanism adds in the combination."""
    alpha: float
    """Level of every test."""
    raw: PValues
    """The tests of the criterion against `alone`."""
    claims: PValues
    """What the rules look at: the same, with what a claim also needs (the gain kept, a loss shown, every baseline)."""
    threshold: float | None = None
    """The largest admissible drop, or the fixed bound, in the units of the metric."""
    beyond: bool | None = None
    """Whether the means alone, without any test, break the criterion."""
    gain: Gain | None = None
    """What the mechanism gains over the unprotected model; None: that is not asked or not known."""
    replicates_needed: int | None = None
    """Replicates per arm that would probably decide where the strict rule cannot; see `advice.advised`."""
    against: str = ""
    """Whose own value `alone` is."""
    baselines: tuple[tuple[str, Sample], ...] = ()
    """Name and sample of every baseline where there are several, the chosen one among them."""
    missing: tuple[str, ...] = ()
    """What must still be measured; until then every rule says "undecided", because peeking inflates errors."""
    unmeasured: bool = False
    """Whether it is measured alone and never in company, although it should be."""
    fired: tuple[str, ...] = ()
    """Names of the metric's controls that made its claim more often than chance explains, together or alone."""
    level: float | None = None
    """Level of the whole study where `alpha` is a share of it; None: alpha."""
    last: bool = True
    """Whether these are all replicates that the study may have."""
    adjusted: Mapping[Rule, PValues] = field(default_factory=dict, hash=False)
    """By rule: `claims` after a correction for the number of tests (`verdict.corrected`)."""

    @property
    def symbol(self) -> str:
        """As tables show what is judged."""
        return self.metric.judged_symbol if self.metric.criterion else self.metric.symbol

    @property
    def others(self) -> tuple[tuple[str, float], ...]:
        """Name and mean of the baselines that were not chosen."""
        return tuple((name, sample.mean) for name, sample in self.baselines if name != self.against)

    @cached_property
    def change(self) -> Estimate:
        """Mean together minus mean alone, in the units of the metric; seed by seed if the metric is `paired`."""
        return estimate_difference(self.together, self.alone, self.metric.paired)

    @property
    def difference(self) -> float | None:
        """The value of `change`."""
        return known(self.change.value)

    @property
    def drop(self) -> float | None:
        """The difference as a loss: positive when together is worse (Δφ of section 3, with its sign)."""
        return None if self.difference is None else direction(self.metric) * -self.difference

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the difference, at confidence 1 - 2 alpha: uncorrected tests against a drop can be read off."""
        return _ends(self.change, self.alpha)

    @property
    def together_interval(self) -> tuple[float, float] | None:
        """Of the mean together, at confidence 1 - 2 alpha: tests against a fixed bound can be read off."""
        return _ends(estimate_mean(self.together), self.alpha)

    @property
    def point(self) -> str | None:
        """What the means say without a test: "compatible" or "conflict"; None when nothing can be said."""
        return None if self.beyond is None else "conflict" if self.beyond else "compatible"

    @property
    def failing(self) -> int:
        """How many seeds of the combination break the criterion by themselves, held against the mean alone."""
        criterion = self.metric.criterion
        if criterion is None or not (self.alone.n or isinstance(criterion, Absolute)):
            return 0
        limit = last_admissible(criterion, self.alone.mean, direction(self.metric))
        excess = (direction(self.metric) * (limit - value) for value in self.together.values)
        return sum(one > TOLERANCE * max(1.0, abs(limit)) for one in excess)

    @property
    def unseen(self) -> float | None:
        """The largest share of trainings that may break the criterion although so few seeds do (1 - alpha)."""
        return unseen(self.failing, self.together.n, self.alpha) if self._counts else None

    @property
    def unseen_success(self) -> float | None:
        """The largest share of trainings that may keep the criterion although so few seeds do (1 - alpha)."""
        return unseen(self.together.n - self.failing, self.together.n, self.alpha) if self._counts else None

    @property
    def _counts(self) -> bool:
        """Whether its seeds can be counted by what they do to the criterion."""
        return self.metric.criterion is not None and not self.metric.computed and bool(self.together.values)

    @property
    def apart(self) -> tuple[tuple[str, int, float], ...]:
        """Seeds that lie far from all others of their arm, by more than half of what may be lost: arm, place, value."""
        if self.metric.criterion is None or self.threshold is None:
            return ()
        places = ((arm, sample, apart(sample)) for arm, sample in (("alone", self.alone), ("together", self.together)))
        found = ((arm, sample, place) for arm, sample, place in places if place is not None)
        return tuple((arm, place, one.values[place]) for arm, one, place in found if self._matters(one, place))

    def _matters(self, sample: Sample, place: int) -> bool:
        value, rest = sample.values[place], sample.without(place)
        if isinstance(self.metric.criterion, Absolute):
            return (value > self.metric.criterion.threshold) != (rest.mean > self.metric.criterion.threshold)
        return min(abs(value - other) for other in rest.values) > (self.threshold or 0.0) / 2

    @property
    def too_few(self) -> bool:
        """Whether an arm has fewer than `MINIMUM` replicates, so that nothing is claimed; if computed, one will do."""
        return not self.metric.computed and min(self.alone.n, self.together.n) < MINIMUM

    def decisive(self, rule: Rule) -> PValues:
        """The p-values that a rule looks at: corrected for their number, if they are.

        Those of the paper's rule never are: it takes a test that does not reject for a claim, which a correction would
        make easier.
        """
        return self.adjusted.get(rule) or self.uncorrected(rule)

    def uncorrected(self, rule: Rule) -> PValues:
        """The p-values of a rule before a correction."""
        return self._bounded if rule == "bounded" else self.claims

    @cached_property
    def _bounded(self) -> PValues:
        """By tests without normality, for a drop of a metric with a range; what is computed is as it is."""
        metric, criterion = self.metric, self.metric.criterion
        if metric.computed:
            return self.claims
        arms = [sample for _, sample in self.baselines] or [self.alone]
        complete = all(sample.values for sample in (self.together, *arms))
        if metric.range is None or not isinstance(criterion, MaxDrop) or metric.net or not complete:
            return PValues()
        bare = self.gain.unprotected if self.gain is not None else Sample()
        every = (self.together, bare, *arms)
        samples = every if metric.higher_is_better else [_mirrored(one, sum(metric.range)) for one in every]
        return bounded.of_a_drop(samples[0], samples[2:], samples[1], criterion.threshold, metric.range)

    @property
    def outcomes(self) -> dict[Rule, str]:
        """By the strict rule and the paper's; "reported" for a metric without a criterion."""
        return {"paper": self.outcome("paper"), "strict": self.outcome("strict")}

    def outcome(self, rule: Rule) -> str:
        """What one rule says; see the functions of `rules`, and docs/verdicts.md for what takes their word back."""
        check_rule(rule)
        if self.metric.criterion is None:
            return "ineffective" if self.gain is not None and self.gain.missed(self.alpha) else "reported"
        if self.unmeasured:
            return "not measured together"
        if self.missing or self.beyond is None or self.too_few:
            return "undecided"
        return self._qualified(self._word(rule, self.beyond))

    def _word(self, rule: Rule, beyond: bool) -> str:
        """What the tests of the combination say, whatever its controls do."""
        if rule != "paper":
            return strict(self.decisive(rule), self.alpha)
        if isinstance(self.metric.criterion, Absolute):
            return paper_absolute(self.claims, beyond, self.alpha)
        last = self.last or self.metric.computed  # no further seed changes what is computed
        return paper(self.claims, self.drop or 0.0, beyond, self.alpha, level=self.level, last=last)

    def _qualified(self, word: str) -> str:
        """What is left of a rule's word, given the controls and what the mechanism does alone.

        Where a control makes the claim as well, meeting the criterion proves nothing. A mechanism that is ineffective
        alone has nothing that could be destroyed. And "compatible" needs an effect of its own, alone or in company.
        """
        if met(word) and self.fired:
            return "not credible"
        gain, alpha = self.gain, self.alpha
        if gain is None or gain.shown(alpha):
            return word
        if met(word) and (isinstance(self.metric.criterion, Absolute) or gain.shown_together(alpha)):
            return word
        return "ineffective" if gain.missed(alpha) else "undecided" if met(word) else word

    def to_dict(self, rule: Rule = "paper") -> dict[str, Any]:
        """Strictly valid JSON: what cannot be known is null, never NaN."""
        return {
            "metric": self.metric.name,
            "symbol": self.symbol,
            "definition": self.metric.to_dict(),
            "outcome": self.outcome(rule),
            "outcomes": {one: self.outcome(one) for one in beside(rule)},
            "point": self.point,
            "alone": _sample_dict(self.alone),
            "together": _sample_dict(self.together),
            "difference": self.difference,
            "drop": self.drop,
            "interval": self.interval and list(self.interval),
            "together_interval": self.together_interval and list(self.together_interval),
            "confidence": 1 - 2 * self.alpha,
            "paired": self.metric.paired,
            **_p_dict(self.raw),
            "adjusted": _p_dict(self.decisive(rule)) if self.decisive(rule) != self.raw else None,
            "gain": self.gain and self.gain.to_dict(self.alpha),
            "threshold": known(self.threshold),
            "alpha": self.alpha,
            "failing": self.failing,
            "unseen": self.unseen,
            "apart": [{"arm": arm, "place": place, "value": value} for arm, place, value in self.apart],
            "replicates_needed": self.replicates_needed,
            "against": self.against,
            "others": dict(self.others),
            "missing": list(self.missing),
            "fired": list(self.fired),
        }


def last_admissible(criterion: Criterion, alone: float, better: int) -> float:
    """The worst value together that a criterion admits, given the mean alone and the direction of the metric."""
    if isinstance(criterion, Absolute):
        return criterion.threshold
    lost = criterion.threshold if isinstance(criterion, MaxDrop) else (criterion.factor - 1) * abs(alone)
    return alone - better * lost


def _mirrored(sample: Sample, both: float) -> Sample:
    return Sample(tuple(both - value for value in sample.values))


def _ends(estimate: Estimate, alpha: float) -> tuple[float, float] | None:
    ends = interval(estimate, alpha)
    return ends if all(map(math.isfinite, ends)) else None


def _sample_dict(sample: Sample) -> dict[str, Any]:
    return {
        "mean": plain(sample.mean),
        "std": known(sample.std),
        "n": sample.n,
        "values": [plain(value) for value in sample.values],
    }


def plain(value: float) -> float | str | None:
    """A number as strict JSON holds it: inf is the text "inf", which `float` reads; nan is null."""
    return "inf" if value == math.inf else known(value)


def _p_dict(p: PValues) -> dict[str, float | None]:
    return {f"p_{name}": value for name, value in vars(p).items()}


def direction(metric: Metric) -> int:
    """1 where more is better, -1 where less is."""
    return 1 if metric.higher_is_better else -1


def known(number: float | None) -> float | None:
    """A number, or None of what is none: nan and infinities."""
    return number if number is not None and math.isfinite(number) else None
