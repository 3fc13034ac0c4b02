"""Why a verdict is what it is, and what it does not cover, in sentences for every form of report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from guardclash.judging.criteria import Absolute
from guardclash.judging.gain import Gain
from guardclash.judging.judgement import MINIMUM, Judgement
from guardclash.judging.rules import Rule
from guardclash.judging.stats import Sample
from guardclash.judging.verdict import Verdict
from guardclash.reporting.tables import bound, limit, number, p_value, percent
from guardclash.studies.study import Study

RARE = 0.10
"""A share of trainings from which on it is said that they may do the opposite of a verdict without having been seen."""


class Symbol(str):
    """A metric's symbol, which some forms set in type."""


class Said(NamedTuple):
    """A sentence with places for what it is about."""

    template: str
    parts: tuple[object, ...] = ()

    def __str__(self) -> str:
        return self.template.format(*self.parts)


def ruling(study: Study) -> str:
    """By what a study is judged, in a line: rule, level, correction, confidence of the intervals."""
    intervals = f"intervals at {percent(study.confidence)}"
    return f"rule {study.rule}, α = {study.alpha:g}, correction {study.correction}, {intervals}"


def reasons(verdict: Verdict, rule: Rule) -> Iterator[Said]:
    """What decides, metric by metric."""
    if verdict.clash:
        yield Said("The mechanisms cannot be built together: {}.", (verdict.clash,))
        return
    if verdict.does_not_train:
        yield _diverged(verdict)
    symbols = {one.metric.name: one.symbol for one in verdict.judgements}
    for one in verdict.judgements:
        yield from _reason(one, one.outcome(rule), symbols, rule)


def _diverged(verdict: Verdict) -> Said:
    together, *alone = verdict.trainings  # the combination first, then all that it is made of
    seeds = ", ".join(map(str, together.diverged))
    return Said(
        "{} of {} trainings together diverged (seeds {}), alone none of {}. The same seeds would end so again: no run "
        "of this study decides more.",
        (len(together.diverged), len(together.seeds), seeds, sum(len(one.seeds) for one in alone)),
    )


def _reason(one: Judgement, outcome: str, symbols: dict[str, str], rule: Rule) -> Iterator[Said]:
    own = Symbol(one.symbol)
    if outcome == "conflict":
        yield _conflict(one, own)
    elif outcome == "not credible":
        # By its name where it has no symbol: a control that is measured alone only is not among the judgements.
        fired = ", ".join(symbols.get(name, name) for name in one.fired)
        are = "are its controls" if len(one.fired) > 1 else "is its control"
        yield Said("{} is met, but so {} {}: not credible.", (own, are, Symbol(fired)))
    elif outcome == "ineffective" and one.gain:
        yield _ineffective(one, own, one.gain)
    elif outcome == "not measured together":
        yield Said("{} is measured alone ({} seeds) and never together, where it should be.", (own, one.alone.n))
    elif outcome == "undecided" and not one.missing:
        yield from _undecided(one, own, rule)


def _conflict(one: Judgement, own: Symbol) -> Said:
    values = f"{number(one.metric, one.alone.mean)} alone, {number(one.metric, one.together.mean)} together"
    # Either loss is a conflict, of too much or of the effect; the smaller p-value is the one that decides.
    if one.gain and one.gain.lost_effect is not None and one.gain.lost_effect < (one.raw.inferior or 0.0):
        share, bare = percent(one.metric.retain), number(one.metric, one.gain.unprotected.mean)
        kept = (
            "{} keeps less than {} of its gain over the unprotected model, whatever its limit ({}): {}, {} unprotected."
        )
        return Said(kept, (own, share, limit(one.metric), values, bare))
    return Said("{} breaks its limit ({}): {}.", (own, limit(one.metric), values))


def _ineffective(one: Judgement, own: Symbol, gain: Gain) -> Said:
    # A metric without a criterion may still make a claim, and miss that alone.
    if isinstance(one.metric.criterion or one.metric.claim, Absolute):
        claim = one.metric.claim
        demanded = limit(one.metric) if one.metric.criterion or claim is None else f"claim {bound(claim)}"
        return Said(
            "{} misses its limit ({}) already alone ({}): nothing to lose.",
            (own, demanded, number(one.metric, one.alone.mean)),
        )
    ends = gain.interval(one.alpha)
    spread = f" [{number(one.metric, ends[0])}, {number(one.metric, ends[1])}]" if ends else ""
    return Said(
        "{} shows no effect alone over the unprotected model ({}, an effect is more than {}): nothing to lose.",
        (own, number(one.metric, gain.estimate.value) + spread, number(one.metric, one.metric.effect)),
    )


def _undecided(one: Judgement, own: Symbol, rule: Rule) -> Iterator[Said]:
    # The first reason that applies is told, and advice only where no other does: seeds may not be what is lacking.
    if one.too_few:
        yield Said("{}: fewer than {} seeds in an arm decide nothing.", (own, MINIMUM))
    elif rule == "bounded" and one.uncorrected(rule).noninferior is None:
        yield Said('{} has no declared range or no drop as its limit, so the rule "bounded" cannot judge it.', (own,))
    elif (p := _only_uncorrected(one, rule)) is not None:
        template = (
            "{} would be a conflict by itself (p = {}), not as one of several metrics (p = {} after Holm): undecided."
        )
        yield Said(template, (own, *map(p_value, p)))
    elif one.gain and not one.gain.shown(one.alpha):
        ends = one.gain.interval(one.alpha)
        spread = f" [{number(one.metric, ends[0])}, {number(one.metric, ends[1])}]" if ends else ""
        template = "{} is undecided: its own effect alone is not shown yet ({})."
        yield Said(template, (own, number(one.metric, one.gain.estimate.value) + spread))
    elif one.replicates_needed and rule != "bounded":  # the advice is worked out for t tests
        yield Said(
            "{} is undecided; {} replicates in each arm would probably decide. Plan them beforehand, as {{ start, most "
            "}} or as one new study with other seeds: each further test, of these seeds or others, may err once more "
            "by α.",
            (own, one.replicates_needed),
        )


def _only_uncorrected(one: Judgement, rule: Rule) -> tuple[float, float] | None:
    """p-values of a conflict before and after a correction, where it takes the conflict away."""
    before, after = one.uncorrected(rule).inferior, one.decisive(rule).inferior
    lost = rule != "paper" and before is not None and after is not None and before < one.alpha <= after
    return (before, after) if lost and before is not None and after is not None else None  # mypy cannot read `lost`


def warnings(study: Study, verdict: Verdict, rule: Rule) -> Iterator[Said]:
    """What a reader must know before believing a verdict: seeds that lie apart, failures too rare to be seen."""
    for one in verdict.judgements:
        for arm, place, value in one.apart:
            sample = one.alone if arm == "alone" else one.together
            seed = f"seed {sample.seeds[place]}" if sample.seeds else f"replicate {place + 1}"
            rest = sample.without(place)
            yield Said(
                "{}: {} {} lies apart, {} against {} to {}: means and t tests say little where single trainings fail.",
                (Symbol(one.symbol), seed, arm, *_range(one, value, rest)),
            )
        if one.metric.criterion and (one.metric.net or one.metric.paired):
            yield _compared(one)
        if one.metric.computed and one.metric.criterion and one.outcome(rule) == "compatible":
            yield Said("{} is compatible by construction: it follows from the combined plan.", (Symbol(one.symbol),))
    yield from _unseen(verdict, rule)


def _compared(one: Judgement) -> Said:
    """How a metric is compared that is not by Welch's test of its values."""
    net = "is what the mechanism adds, with minus without it; it " if one.metric.net else ""
    how = "seed by seed, on the seeds that both have ({})" if one.metric.paired else "as independent samples ({})"
    seeds = min(one.alone.n, one.together.n)
    return Said(
        "{} " + net + "is compared " + how + "; all other metrics are by Welch's test.", (Symbol(one.symbol), seeds)
    )


def _range(one: Judgement, value: float, rest: Sample) -> tuple[str, str, str]:
    low, high = min(rest.values), max(rest.values)
    return number(one.metric, value), number(one.metric, low), number(one.metric, high)


def _unseen(verdict: Verdict, rule: Rule) -> Iterator[Said]:
    """What so few seeds cannot exclude: single trainings that fail, or that do not."""
    judged = [one for one in verdict.judgements if one.unseen is not None]
    outcome = verdict.outcome(rule)
    if outcome == "compatible" and judged:
        one = max(judged, key=lambda one: one.unseen or 0.0)  # compatible needs all metrics: the weakest counts
        said = "compatible on {} seeds: single trainings, up to {} of them, may still break the limit of {}."
    elif broken := [one for one in judged if outcome == one.outcome(rule) == "conflict"]:
        one = min(broken, key=lambda one: one.unseen_success or 0.0)  # a conflict needs one: the surest counts
        said = "conflict on {} seeds: single trainings, up to {} of them, may still keep the limit of {}."
    else:
        return
    share = one.unseen if outcome == "compatible" else one.unseen_success
    if share is not None and share > RARE:
        yield Said(said, (one.together.n, percent(round(share, 2)), Symbol(one.symbol)))


def coverage(study: Study, found: Iterable[Verdict]) -> str:
    """What the level of the tests covers: metrics, verdicts, the study."""
    verdicts = [one for one in found if any(judged.together.n for judged in one.judgements)]  # others claim nothing
    level, many = f"{study.alpha:g}", len(verdicts)
    most = max((verdict.tested for verdict in verdicts), default=1)
    if study.rule == "paper":
        return (
            f"α = {level} is the level of single tests. The paper's rule decides by the mean once a difference is "
            "shown, so a drop of exactly the limit is a conflict in about half of the cases (docs/trust.md)."
        )
    about = "if seeds are about normal" + (" and 5 or more in an arm" if study.correction != "none" else "")
    presumed = "whatever the distribution" if study.rule == "bounded" else f"{about} (docs/trust.md)"
    if study.correction == "holm":
        return f"α = {level} covers this whole study: any wrong conflict, and any wrong compatible, {presumed}."
    by_chance = (
        f"over the {many} verdicts of this study nothing is corrected (up to {study.alpha * many:.2g} wrong ones)"
    )
    beyond = f'{by_chance}; correction = "holm" would' if many > 1 else ""
    if study.correction == "none":
        rest = f"; {beyond}" if beyond else ""
        wrong = min(1.0, study.alpha * most)  # Bonferroni's bound, whatever the dependence
        return f"α = {level} covers each metric, {presumed}; a verdict is a wrong conflict in up to {wrong:.2g}{rest}."
    rest = f"; {beyond}" if beyond else ""
    metrics = f"up to {most} metrics" if most > 1 else "1 metric"
    return f"α = {level} covers each verdict: its conflict over {metrics} by Holm, {presumed}{rest}."
