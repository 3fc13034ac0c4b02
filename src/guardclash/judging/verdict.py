"""A combination of mechanisms: compatible, in conflict, without effect, undecided, or impossible to build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from guardclash.errors import UserError, suggestion
from guardclash.judging.criteria import ACCURACY, Absolute, Criterion, Metric, Relative
from guardclash.judging.judgement import Judgement, judge
from guardclash.judging.rules import Outcome, PValues, Rule, combined
from guardclash.judging.stats import Sample, holm

Correction = Literal["none", "holm"]


@dataclass(frozen=True)
class Verdict:
    """What is known about one combination of one recipe; outcomes follow from its judgements.

    A conflict is measured: one metric that breaks its criterion is enough (section 3). A clash is structural:
    the mechanisms do not admit joint deployment, so there is nothing to measure (section 8.2). Between them stand
    combinations in which nothing is broken, but something proves nothing: see `rules.qualified`.
    """

    recipe: str
    combination: tuple[str, ...]
    """Labels of the mechanisms."""
    judgements: tuple[Judgement, ...] = ()
    clash: str | None = None
    """Why the combination cannot be built."""

    @property
    def outcomes(self) -> dict[Rule, Outcome]:
        """By rule."""
        return {"paper": self.outcome("paper"), "strict": self.outcome("strict")}

    def outcome(self, rule: Rule) -> Outcome:
        """What one rule says about the combination.

        "compatible" needs every metric to be so, which keeps its error at alpha without any correction;
        "conflict" needs one, so its chance of error grows with the number of metrics: see `corrected`.
        """
        return "clash" if self.clash else combined(judgement.outcome(rule) for judgement in self.judgements)

    def broken(self, rule: Rule) -> tuple[str, ...]:
        """Names of the metrics that are in conflict."""
        return tuple(j.metric.name for j in self.judgements if j.outcome(rule) == "conflict")

    @property
    def missing(self) -> tuple[str, ...]:
        """What must still be measured."""
        return tuple(f"{j.metric.name}, {missing}" for j in self.judgements for missing in j.missing)

    def to_dict(self, rule: Rule = "paper") -> dict[str, Any]:
        """Strictly valid JSON."""
        return {
            "recipe": self.recipe,
            "combination": list(self.combination),
            "rule": rule,
            "outcome": self.outcome(rule),
            "outcomes": self.outcomes,
            "clash": self.clash,
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
    asked: tuple[int, int] = (1, 1),
) -> Judgement:
    """Judges the accuracy of a combination against the lowest of its mechanisms' own accuracies (equation 9).

    Choosing the lowest favours "compatible" (with two equal baselines of 5 replicates, at the threshold, 9 %
    instead of 5 % in simulation), which the strict rule makes up for: see `Judgement.chosen`.

    Args:
        baselines: Accuracy of each mechanism on its own, by its label.
        together: Accuracy of the combination.
        criterion: What is demanded.
        alpha: Level of every test.
        metric: Accuracy as a record describes it, or another shared metric of which more is better.
        asked: Replicates planned for each baseline and together.

    Raises:
        UserError: Less of the metric is better, so that the lowest baseline is not the worst.
    """
    if not metric.higher_is_better:
        raise UserError("the shared metric must be one of which more is better", where=metric.name)
    measured = {name: sample for name, sample in baselines.items() if sample.n}
    against = lowest(measured) if measured else min(baselines, default="")
    others = tuple((name, sample.mean) for name, sample in measured.items() if name != against)
    alone = measured.get(against)
    judged = judge(metric, criterion, alone, together, alpha, against=against, others=others, asked=asked)
    if not isinstance(criterion, Relative):
        return judged
    short = [name for name, sample in baselines.items() if name != against and sample.n < asked[0]]
    missing = tuple(f"{name} alone: {baselines[name].n} of {asked[0]}" for name in short)
    return replace(judged, missing=judged.missing + missing)


def corrected(verdicts: Sequence[Verdict], correction: Correction = "holm") -> tuple[Verdict, ...]:
    """Corrects the tests of a whole study for their number; raw p-values stay beside the adjusted ones.

    Each question, asked of every judged metric of the study, is one family: does it differ (Welch), is it
    equivalent (TOST), is it within its criterion, is it beyond it. Holm's adjustment keeps the chance of even
    one false "yes" in a family at alpha, whatever the dependence between tests that share baselines. The
    questions are not pooled, because each stands for one kind of mistake: under the strict rule, the chance
    of any false conflict in the study is at most alpha, and so is that of any false compatibility. Under the
    paper's rule the Welch tests guard against conflicts that are mere noise.

    Args:
        verdicts: All verdicts of the study.
        correction: "none" returns them as they are.

    Raises:
        UserError: No such correction.
    """
    if correction not in get_args(Correction):
        raise UserError("no such correction", got=correction, mend=suggestion(str(correction), get_args(Correction)))
    if correction == "none":
        return tuple(verdicts)
    judgements = [judgement for verdict in verdicts for judgement in verdict.judgements]
    columns = [_family(judgements, field.name) for field in fields(PValues)]
    adjusted = iter([PValues(*row) for row in zip(*columns, strict=True)])
    return tuple(
        replace(v, judgements=tuple(replace(j, adjusted=next(adjusted)) for j in v.judgements)) for v in verdicts
    )


def _family(judgements: Sequence[Judgement], question: str) -> list[float | None]:
    """Adjusted p-values of one question; the untested count as p = 1, so that the family keeps its size."""
    raw = {i: getattr(j.chosen, question) for i, j in enumerate(judgements) if question in _questions(j.metric)}
    adjusted = dict(zip(raw, holm([1.0 if p is None else p for p in raw.values()]), strict=True))
    return [adjusted[i] if raw.get(i) is not None else None for i in range(len(judgements))]


def _questions(metric: Metric) -> tuple[str, ...]:
    """The tests that can decide about a metric under either rule."""
    if metric.criterion is None:
        return ()
    if isinstance(metric.criterion, Absolute):
        return ("noninferior", "inferior")
    return tuple(field.name for field in fields(PValues))
