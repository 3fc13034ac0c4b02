"""What a mechanism gains alone over the unprotected model, and what of it is left in company (section 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from guardclash.judging.criteria import Absolute, Metric
from guardclash.judging.stats import TOLERANCE, Estimate, Sample, Terms, contrast, estimate_mean, interval, t_test


@dataclass(frozen=True)
class Gain:
    """A mechanism's own effect: over the unprotected model, or beyond the fixed bound that it must meet.

    All p-values are one-sided; None where there are too few replicates.
    """

    estimate: Estimate
    """Of the gain alone, positive when the mechanism betters the metric, in its units."""
    alone: float | None
    """Small when there is an effect alone: a gain that is more than the least one."""
    together: float | None
    """Small when the combination gains over the unprotected model, whoever of its mechanisms does that."""
    unprotected: Sample
    """Empty where the gain is over a fixed bound."""
    absent: bool = False
    """Whether there is none alone, by the mean."""
    retained: float | None = None
    """Small when more than the metric's share of the gain is left in company."""
    lost: float | None = None
    """Small when less than that share is left."""
    is_lost: bool = False
    """Whether less is left by the means alone."""
    added: float | None = None
    """Small when the combination also gains over itself without the mechanism; None where that is not known."""

    def shown(self, alpha: float) -> bool:
        """Whether an effect alone is shown; what cannot be tested yet counts as shown: it takes nothing back."""
        return self.alone is None or self.alone < alpha

    @property
    def lost_effect(self) -> float | None:
        """Small when there is an effect alone, and less than its share is left: what was no effect cannot be lost."""
        return None if self.lost is None or self.alone is None else max(self.lost, self.alone)

    def missed(self, alpha: float) -> bool:
        """Whether the mechanism is ineffective: no effect is shown, and by the mean there is none.

        Where the mean has one, few and noisy replicates must not pass for a mechanism that does not work.
        """
        return self.absent and not self.shown(alpha)

    def shown_together(self, alpha: float) -> bool:
        """Whether the mechanism is shown to gain in company: what the others do without it is none of its effect."""
        return all(p is not None and p < alpha for p in (self.together, self.added))

    def exceeds(self, value: float) -> float:
        """p-value, small when the gain alone is more than a value."""
        p = t_test(self.estimate, value).p_greater
        return p if math.isfinite(p) else 1.0

    def interval(self, alpha: float) -> tuple[float, float] | None:
        """Of the gain alone, at confidence 1 - 2 alpha."""
        ends = interval(self.estimate, alpha)
        return ends if all(map(math.isfinite, ends)) else None

    def to_dict(self, alpha: float) -> dict[str, Any]:
        """Strictly valid JSON."""
        ends = self.interval(alpha)
        return {
            "value": self.estimate.value if math.isfinite(self.estimate.value) else None,
            "interval": ends and list(ends),
            "unprotected": list(self.unprotected.values),
            **{f"p_{name}": getattr(self, name) for name in ("alone", "together", "added", "retained", "lost")},
        }


def gain_of(
    metric: Metric, alone: Sample, together: Sample, unprotected: Sample | None, absent: Sample | None = None
) -> Gain | None:
    """The gain that a metric asks for, as far as the replicates tell; None where it asks for none, or nothing is known.

    Args:
        metric: With the criterion that is applied.
        alone: The mechanism on its own; of a net metric, what it adds.
        together: In the combination.
        unprotected: Models without any mechanism; None: unknown, or the metric has no meaning there.
        absent: The combination without the mechanism; None: unknown.
    """
    better = 1 if metric.higher_is_better else -1
    bound = metric.criterion if metric.criterion is not None else metric.claim
    if not metric.gain or not alone.n:
        return None
    if isinstance(bound, Absolute):
        here, there = (_beyond(sample, bound.threshold, better) for sample in (alone, together))
        return Gain(here, _above(here), _above(there), Sample(), here.value < 0)
    if metric.criterion is None or not (metric.net or (unprotected is not None and unprotected.n)):
        return None
    least, paired, share = metric.effect, metric.paired, metric.retain
    bare: Terms = () if metric.net or unprotected is None else ((-better, unprotected),)
    here, there = (contrast(((better, one), *bare), paired) for one in (alone, together))
    terms = ((better, together), (-better * share, alone), *((weight * (1 - share), one) for weight, one in bare))
    left = contrast(terms, paired)
    is_lost = left.value < -TOLERANCE * max(abs(sample.mean) for _, sample in terms)
    lost = None if math.isnan(left.error) else float(not is_lost) if left.error == 0 else t_test(left).p_less
    tested = _above(here, least), _above(there, least)
    own = () if metric.net else None if absent is None else ((-better, absent),)
    added = None if own is None else _above(contrast(((better, together), *own), paired), least)
    missed = _below(here, least, alone)
    return Gain(here, *tested, bare[0][1] if bare else Sample(), missed, _above(left), lost, is_lost, added)


def _beyond(sample: Sample, bound: float, better: int) -> Estimate:
    """How far the mean is on the good side of a bound."""
    mean = estimate_mean(sample)
    gap = better * (mean.value - bound)
    on = abs(gap) <= TOLERANCE * max(abs(mean.value), abs(bound))
    return Estimate(0.0 if on else gap, mean.error, mean.df)


def _above(estimate: Estimate, least: float = 0.0) -> float | None:
    p = t_test(estimate, least).p_greater
    return p if math.isfinite(p) else None


def _below(estimate: Estimate, least: float, alone: Sample) -> bool:
    """Whether a gain is no effect by its mean; one of exactly the least is none."""
    return estimate.value <= least + TOLERANCE * max(abs(alone.mean), least)
