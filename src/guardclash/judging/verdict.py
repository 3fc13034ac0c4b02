"""A combination of mechanisms: compatible, in conflict, without effect, undecided, or impossible to build or train."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from guardclash.errors import UserError, suggestion
from guardclash.judging.advice import advised
from guardclash.judging.criteria import ACCURACY, Criterion, Metric, Relative
from guardclash.judging.judge import ALL, Look, judge
from guardclash.judging.judgement import Judgement
from guardclash.judging.rules import Outcome, Rule, beside, combined
from guardclash.judging.stats import Sample, holm

Correction = Literal["none", "verdict", "holm"]
"""Of p-values for their number: none, of conflicts within each verdict, of all claims over a whole study."""


@dataclass(frozen=True)
class Trainings:
    """Trainings of one cell, and those that ended in no numbers: the same seeds would end so again."""

    label: str
    """Of the mechanisms, such as "{wm, dpsgd}"."""
    seeds: tuple[int, ...]
    diverged: tuple[int, ...]
    """Those of the seeds that did."""


@dataclass(frozen=True)
class Verdict:
    """What is known about one combination of one recipe; outcomes follow from its judgements.

    A conflict is measured: one metric that breaks its criterion is enough (section 3). A clash is structural:
    the mechanisms do not admit joint deployment, so there is nothing to measure (section 8.2). Between them stand
    combinations that diverge although their mechanisms alone do not, and those in which nothing is broken, but
    something proves nothing.
    """

    recipe: str
    combination: tuple[str, ...]
    """Labels of the mechanisms."""
    judgements: tuple[Judgement, ...] = ()
    clash: str | None = None
    """Why the combination cannot be built."""
    trainings: tuple[Trainings, ...] = ()
    """Of the combination, of the unprotected model and of each mechanism alone, once all of them ended."""
    cell: str = ""
    """The key of the cell that it is about, by which records and reports know it."""

    @property
    def outcomes(self) -> dict[Rule, Outcome]:
        """By the strict rule and the paper's."""
        return {"paper": self.outcome("paper"), "strict": self.outcome("strict")}

    def outcome(self, rule: Rule) -> Outcome:
        """What one rule says about the combination.

        "compatible" needs every metric to be so, which keeps its error at alpha without any correction;
        "conflict" needs one, so its chance of error grows with the number of metrics: see `corrected`.
        """
        if self.clash:
            return "clash"
        found = combined(judgement.outcome(rule) for judgement in self.judgements)
        return "does not train together" if found != "conflict" and self.does_not_train else found

    @property
    def does_not_train(self) -> bool:
        """Whether the combination diverged, and nothing that it is made of did: more seeds would not make it train."""
        together, *alone = self.trainings or (Trainings("", (), ()),)
        return bool(together.diverged) and not any(one.diverged for one in alone)

    def broken(self, rule: Rule) -> tuple[str, ...]:
        """Names of the metrics that are in conflict."""
        return tuple(j.metric.name for j in self.judgements if j.outcome(rule) == "conflict")

    def settled(self, rule: Rule) -> bool:
        """Whether more replicates could not change it: a conflict, or nothing that is undecided any more."""
        if self.outcome(rule) in ("clash", "conflict", "does not train together"):
            return True
        return all(judgement.outcome(rule) != "undecided" for judgement in self.judgements)

    @property
    def missing(self) -> tuple[str, ...]:
        """What must still be measured; of a combination that does not train, nothing would help."""
        if self.does_not_train:
            return ()
        return tuple(f"{j.metric.name}, {missing}" for j in self.judgements for missing in j.missing)

    @property
    def tested(self) -> int:
        """Metrics of which a conflict can be claimed by chance."""
        return len([one for one in self.judgements if _claims_by_chance(one)])

    def to_dict(self, rule: Rule = "paper") -> dict[str, Any]:
        """Strictly valid JSON."""
        return {
            "recipe": self.recipe,
            "combination": list(self.combination),
            "rule": rule,
            "outcome": self.outcome(rule),
            "outcomes": {one: self.outcome(one) for one in beside(rule)},
            "clash": self.clash,
            "diverged": {one.label: list(one.diverged) for one in self.trainings if one.diverged},
            "broken": list(self.broken(rule)),
            "missing": list(self.missing),
            "judgements": [judgement.to_dict(rule) for judgement in self.judgements],
        }


def lowest(samples: Mapping[str, Sample]) -> str:
    """The name of the sample with the lowest mean; of equal ones the first by name, whatever the order.

    Raises:
        UserError: No sample has a value.
    """
    measured = [(sample.mean, name) for name, sample in samples.items() if sample.n]
    if not measured:
        raise UserError("nothing is measured yet", where="baselines", got=sorted(samples))
    return min(measured)[1]


def judge_accuracy(
    baselines: Mapping[str, Sample],
    together: Sample,
    criterion: Criterion | None = ACCURACY.criterion,
    alpha: float = 0.05,
    *,
    metric: Metric = ACCURACY,
    look: Look = ALL,
) -> Judgement:
    """Judges the accuracy of a combination against the lowest of its mechanisms' own accuracies (equation 9).

    Which baseline is truly the lowest is not known, and a noisy one may be it although a precise one was lower by
    chance. So a conflict must be shown against every baseline (intersection-union, at no price), and staying within
    the criterion against one of k, with k times its p-value (Bonferroni).

    Args:
        baselines: Accuracy of each mechanism on its own, by its label.
        together: Accuracy of the combination.
        criterion: What is demanded.
        alpha: Level of every test.
        metric: Accuracy as a record describes it, or another shared metric of which more is better.
        look: Which replicates were planned, for each baseline and together.

    Raises:
        UserError: Less of the metric is better, so that the lowest baseline is not the worst.
    """
    if not metric.higher_is_better:
        raise UserError("the shared metric must be one of which more is better", where=metric.name)
    metric = replace(metric, gain=False)  # utility is what all models have, and no protection's effect
    measured = {name: sample for name, sample in baselines.items() if sample.n}
    against = lowest(measured) if measured else min(baselines, default="")

    def judged_against(name: str) -> Judgement:
        sample = measured.get(name)
        return judge(metric, criterion, sample, together, alpha, against=name, look=look)

    judged = judged_against(against)
    if criterion is None or len(measured) < 2:
        return replace(judged, missing=judged.missing + _short(baselines, against, look.asked[0], criterion))
    each = [judged if name == against else judged_against(name) for name in measured]
    k = len(each) if isinstance(criterion, Relative) else 1
    claims = replace(
        judged.claims,
        noninferior=_all(min, (one.claims.noninferior for one in each), k),
        inferior=_all(max, (one.claims.inferior for one in each)),
    )
    missing = judged.missing + _short(baselines, against, look.asked[0], criterion)
    judged = replace(judged, claims=claims, baselines=tuple(measured.items()), missing=missing)
    return replace(judged, replicates_needed=advised(judged))


def _short(baselines: Mapping[str, Sample], against: str, asked: int, criterion: Criterion | None) -> tuple[str, ...]:
    """What is missing of the baselines that were not chosen."""
    short = [name for name, sample in baselines.items() if name != against and sample.n < asked and criterion]
    return tuple(f"{name} alone: {baselines[name].n} of {asked}" for name in short)


def _all(choose: Any, p_values: Iterable[float | None], factor: int = 1) -> float | None:
    """The smallest or largest p-value, times a factor; None where one could not be tested."""
    found = list(p_values)
    return None if None in found else min(1.0, float(choose(found)) * factor)


def corrected(
    verdicts: Sequence[Verdict], correction: Correction = "verdict", rules: Sequence[Rule] = ("strict",)
) -> tuple[Verdict, ...]:
    """Corrects tests for their number; uncorrected p-values stay beside the adjusted ones.

    "compatible" needs every metric of a combination, and so errs with chance alpha at most whatever their number.
    "conflict" needs one. With "verdict", Holm's adjustment keeps the chance of even one false conflict in a verdict at
    alpha; with "holm" that of any false conflict in the whole study, and that of any false compatibility. It holds
    whatever the dependence between tests that share baselines. The paper's rule is left alone: its "no difference" is a
    test that does not reject, which a correction would make easier.

    Args:
        verdicts: All verdicts of the study.
        correction: "none" returns them as they are.
        rules: Whose p-values are corrected; the paper's never are.

    Raises:
        UserError: No such correction.
    """
    if correction not in get_args(Correction):
        raise UserError("no such correction", got=correction, mend=suggestion(str(correction), get_args(Correction)))
    if correction == "none":
        return tuple(verdicts)
    for rule in (rule for rule in rules if rule != "paper"):
        if correction == "verdict":
            verdicts = [_adjusted([verdict], ("inferior",), rule)[0] for verdict in verdicts]
        else:
            verdicts = _adjusted(verdicts, ("noninferior", "inferior"), rule)
    return tuple(verdicts)


def _adjusted(verdicts: Sequence[Verdict], questions: Sequence[str], rule: Rule) -> list[Verdict]:
    """Verdicts whose tests are one family for each question."""
    judgements = [judgement for verdict in verdicts for judgement in verdict.judgements]
    columns = {question: _family(judgements, question, rule) for question in questions}

    def with_own(place: int, judgement: Judgement) -> Judgement:
        new = {question: column[place] for question, column in columns.items() if place in column}
        p = replace(judgement.uncorrected(rule), **new)
        return replace(judgement, adjusted={**judgement.adjusted, rule: p})

    made = iter([with_own(place, judgement) for place, judgement in enumerate(judgements)])
    return [replace(verdict, judgements=tuple(next(made) for _ in verdict.judgements)) for verdict in verdicts]


def _family(judgements: Sequence[Judgement], question: str, rule: Rule) -> dict[int, float]:
    """Adjusted p-values of one question, by place; the untested count as p = 1, so that the family keeps its size."""
    places = [place for place, judgement in enumerate(judgements) if _claims_by_chance(judgement)]
    raw = [getattr(judgements[place].uncorrected(rule), question) for place in places]
    adjusted = holm([1.0 if p is None else p for p in raw])
    return {place: p for place, p, tested in zip(places, adjusted, raw, strict=True) if tested is not None}


def _claims_by_chance(judgement: Judgement) -> bool:
    """Whether it is judged, by what varies from seed to seed."""
    return judgement.metric.criterion is not None and not judgement.metric.computed
