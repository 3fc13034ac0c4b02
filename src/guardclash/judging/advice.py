"""How many replicates would probably decide what the strict rule cannot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from guardclash.judging.criteria import Absolute, MaxDrop, MaxGrowth
from guardclash.judging.judgement import Judgement
from guardclash.judging.rules import strict
from guardclash.judging.stats import Sample, Terms, contrast, replicates_needed, t_test


class Question(NamedTuple):
    """A one-sided test that a claim needs: on which side of 0 a weighted sum of means lies."""

    terms: Terms
    limit: float
    """Subtracted from the sum."""
    level: float
    paired: bool

    @property
    def distance(self) -> float:
        """From 0, by the means."""
        return contrast(self.terms, self.paired).value - self.limit

    @property
    def decided(self) -> bool:
        """Whether the test rejects already, on the side of the mean."""
        test = t_test(contrast(self.terms, self.paired), self.limit)
        return min(test.p_less, test.p_greater) < self.level  # nan is not below

    @property
    def needed(self) -> int | None:
        """Replicates in each arm with which it would probably reject."""
        estimate = contrast(self.terms, self.paired)
        if self.paired and len(self.terms) > 1:  # the spread of the differences
            return replicates_needed(self.distance, (estimate.error * math.sqrt(estimate.df + 1),), self.level)
        return replicates_needed(self.distance, [abs(weight) * one.std for weight, one in self.terms], self.level)


def advised(judged: Judgement) -> int | None:
    """Replicates in each arm that would probably decide, without regard to a correction over several metrics.

    Returns:
        None where the strict rule decides already, where a mean sits on its limit, or where 1,000 would not do.
    """
    if judged.metric.criterion is None or judged.beyond is None or judged.metric.computed:
        return None
    if strict(judged.claims, judged.alpha) != "undecided":
        return None
    found = [question.needed for question in _questions(judged) if not question.decided]
    return max(one or 0 for one in found) if found and None not in found else None


def _questions(judged: Judgement) -> Iterator[Question]:
    """All tests that the claim needs which the means suggest."""
    criterion, paired = judged.metric.criterion, judged.metric.paired
    arms = [sample for _, sample in judged.baselines] or [judged.alone]
    if isinstance(criterion, Absolute):
        yield Question(((1.0, judged.together),), criterion.threshold, judged.alpha, False)
        if judged.beyond:
            yield from (Question(((1.0, judged.together), (-1.0, arm)), 0.0, judged.alpha, paired) for arm in arms)
    elif judged.beyond:
        yield from _beyond(judged, arms)
    else:
        yield _limit(judged, judged.alone, judged.alpha / len(arms))
        if judged.gain is not None and judged.gain.unprotected.n:
            yield _left(judged, judged.gain.unprotected, judged.alpha)


def _beyond(judged: Judgement, arms: list[Sample]) -> Iterator[Question]:
    """A conflict with every baseline, or the loss of the gain: the one that is nearer to be shown."""
    gain = judged.gain
    if gain is None or not gain.unprotected.n:
        yield from (_limit(judged, arm, judged.alpha) for arm in arms)
        return
    limit, left = _limit(judged, judged.alone, judged.alpha / 2), _left(judged, gain.unprotected, judged.alpha / 2)
    lost = [one for one, broken in ((limit, _breaks(judged, limit)), (left, gain.is_lost)) if broken]
    nearest = min(lost, key=lambda one: one.needed or math.inf)
    yield nearest
    if nearest is left:  # and that there was an effect alone
        better = 1.0 if judged.metric.higher_is_better else -1.0
        terms = ((better, judged.alone), (-better, gain.unprotected))
        yield Question(terms, judged.metric.effect, left.level, judged.metric.paired)


def _limit(judged: Judgement, alone: Sample, level: float) -> Question:
    criterion, better = judged.metric.criterion, 1 if judged.metric.higher_is_better else -1
    if isinstance(criterion, MaxGrowth):
        factor = 1 + math.copysign(criterion.factor - 1, -better * alone.mean)
        return Question(((1.0, judged.together), (-factor, alone)), 0.0, level, judged.metric.paired)
    drop = criterion.threshold if isinstance(criterion, MaxDrop) else 0.0
    return Question(((1.0, judged.together), (-1.0, alone)), -better * drop, level, judged.metric.paired)


def _left(judged: Judgement, unprotected: Sample, level: float) -> Question:
    share = judged.metric.retain
    terms = ((1.0, judged.together), (-share, judged.alone), (share - 1, unprotected))
    return Question(terms, 0.0, level, judged.metric.paired)


def _breaks(judged: Judgement, limit: Question) -> bool:
    return (limit.distance < 0) == judged.metric.higher_is_better
