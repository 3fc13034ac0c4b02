"""Every verdict in one sentence that a colleague understands: what happened to what, and by how much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

from guardclash.judging.criteria import Absolute, MaxDrop, MaxGrowth
from guardclash.judging.judgement import Judgement
from guardclash.judging.rules import Rule
from guardclash.judging.verdict import Verdict
from guardclash.records.cells import Named, braces
from guardclash.records.results import Results
from guardclash.reporting.claims import ITSELF
from guardclash.reporting.findings import Findings, find
from guardclash.reporting.reasons import Said, Symbol
from guardclash.reporting.tables import bound, number
from guardclash.studies.study import Study

NOTHING = Said("")
MANY = 100
"""Seeds that nobody adds."""
MORE = " More than {} more seeds would be needed to decide."
DESTROYED = 0.25
"""The share of a gain below which its mechanism is said to be destroyed, not weakened."""


class Told(NamedTuple):
    """A verdict and its sentence."""

    verdict: Verdict
    outcome: str
    said: Said

    @property
    def begun(self) -> bool:
        """Whether there is anything to tell: a clash, or a model of the combination."""
        return self.outcome == "clash" or any(one.together.n for one in self.verdict.judgements)

    @property
    def pieces(self) -> tuple[str | Symbol, ...]:
        """The sentence piece by piece, symbols apart, for forms that set them in type."""
        first, *rest = _flat(self.said)
        # A label stays as it is written, a word begins with a capital letter.
        written = any(first.startswith(label) for label in self.verdict.combination) or isinstance(first, Symbol)
        return (first if written else first[0].upper() + first[1:], *rest)

    def __str__(self) -> str:
        return "".join(self.pieces)


def explain(study: Study, results: Results, rule: Rule | None = None) -> tuple[str, ...]:
    """Every verdict of a study in one sentence, in its order.

    Args:
        study: What was asked.
        results: What is measured so far.
        rule: Which rule decides; None: the study's own.

    Raises:
        UserError: If the study cannot be judged by that rule.
    """
    return tuple(map(str, sentences(find(study, results, rule))))


def sentences(found: Findings) -> tuple[Told, ...]:
    """A sentence for each verdict of a study, in its order; mechanisms are spelt out where they first stand."""
    kept = _kept(found)
    names = _Names({found.study.label(one): found.results.titles.get(one.name, "") for one in _mechanisms(found)})
    return tuple(
        Told(verdict, outcome, _sentence(verdict, found.rule, names, instead))
        for verdict in found.verdicts
        for outcome in (verdict.outcome(found.rule),)
        for instead in (kept.get(_alike(found, verdict), ()),)
    )


CLAIMED = {
    "false claim": "accuses {} falsely",
    "not credible": "claims {}, but so does a control: not credible",
    "detected": "rightly claims {}",
    "claimed": "claims {}, of unknown origin",
    "mixed": "claims {} under some seeds only",
    "missed": "misses {}",
    "removed with the model": "finds nothing in {}, which lost what the model was worth",
    "not claimed": "does not claim {}, of unknown origin",
    "cleared": "clears {}",
    "undecided": "is not measured under all seeds of {}",
    "not measured": "is not measured on {}",
    "clash": "has nothing to say of {}, which cannot be built",
}
"""Of ownership claims, by outcome, what is worst first."""


def claim_sentences(found: Findings) -> tuple[str, ...]:
    """A sentence for every mechanism that claims models, on each recipe and combination: whom, and whom not."""
    told: dict[tuple[str, tuple[str, ...], str, str], dict[str, list[str]]] = {}
    for claim in found.claims:
        place = claim.recipe, claim.combination, claim.mechanism, claim.finding.metric.symbol
        whom = "the owner's own model" if claim.suspect == ITSELF else claim.suspect
        told.setdefault(place, {}).setdefault(claim.outcome, []).append(whom)
    return tuple(
        f"On {recipe}, {mechanism} of {braces(combination)} ({symbol}) "
        + "; ".join(said.format(_and(by[outcome])) for outcome, said in CLAIMED.items() if outcome in by)
        + "."
        for (recipe, combination, mechanism, symbol), by in told.items()
    )


def _mechanisms(found: Findings) -> Iterator[Named]:
    for cell in found.study.cells():
        for named in cell.combination:
            yield from (named, named.plain)


class _Names:
    """How mechanisms are called: by title and label where they first stand, by their label from then on."""

    def __init__(self, titles: Mapping[str, str]):
        self._titles = dict(titles)

    def __call__(self, label: str) -> str:
        title = self._titles.pop(label, "")
        return f"{title} ({label})" if title and title != label else label

    def all(self, labels: Sequence[str]) -> str:
        """Several, as people list them."""
        return _and([self(label) for label in labels])


def _alike(found: Findings, verdict: Verdict) -> tuple[str, tuple[str, ...]]:
    """By what variants of a combination are known: its recipe, and its mechanisms without their options."""
    return verdict.recipe, tuple(sorted(named.name for named in found.cells[verdict.cell].combination))


def _kept(found: Findings) -> Mapping[tuple[str, tuple[str, ...]], tuple[str, ...]]:
    """The variants that are compatible, by what they are variants of."""
    kept: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
    for verdict in found.verdicts:
        if verdict.outcome(found.rule) == "compatible":
            place = _alike(found, verdict)
            kept[place] = (*kept.get(place, ()), braces(verdict.combination))
    return kept


def decisive(verdict: Verdict, rule: Rule) -> list[Judgement]:
    """The judgements that its outcome is of; of a compatible one all that have a limit."""
    outcome = verdict.outcome(rule)
    limited = [one for one in verdict.judgements if one.metric.criterion is not None and one.together.n]
    return limited if outcome == "compatible" else [one for one in verdict.judgements if one.outcome(rule) == outcome]


def _sentence(verdict: Verdict, rule: Rule, names: _Names, instead: Sequence[str]) -> Said:
    outcome, judged = verdict.outcome(rule), decisive(verdict, rule)
    if outcome == "conflict":
        rest = Said(" {} {} compatible.", (_and(instead), "is" if len(instead) == 1 else "are")) if instead else NOTHING
        return _joined([_harm(verdict, one, names) for one in judged], rest)
    everybody = names.all(verdict.combination)
    if outcome == "clash":
        return Said("{} cannot be deployed together: {}.", (everybody, verdict.clash))
    if outcome == "does not train together":
        return Said("{} do not train together: the loss leaves the numbers, which alone it does not.", (everybody,))
    if outcome == "compatible":
        return _joined([_listed(Said("{} are compatible: ", (everybody,)), map(_change, judged))])
    if outcome == "undecided":
        return _open(everybody, verdict, rule)
    word = {"ineffective": _ineffective, "not credible": _not_credible}.get(outcome, _not_measured)
    return _joined([_listed(Said("{}: ", (everybody,)), map(word, judged))])


def _not_credible(one: Judgement) -> Said:
    return Said("{} proves nothing, for a control of it makes the claim as well", (_change(one),))


def _not_measured(one: Judgement) -> Said:
    return Said("{} is measured alone and not together", (Symbol(one.symbol),))


def lacking(verdict: Verdict, rule: Rule) -> int | None:
    """How many more seeds would probably decide an undecided verdict; None where nobody can say."""
    judged = decisive(verdict, rule) if verdict.outcome(rule) == "undecided" else []
    wanted = [one.replicates_needed - one.together.n for one in judged if one.replicates_needed and not one.missing]
    return max(wanted, default=0) or None


def _open(everybody: str, verdict: Verdict, rule: Rule) -> Said:
    judged = decisive(verdict, rule)
    measured = [one for one in judged if one.alone.n and one.together.n]
    if not measured:
        return Said("{}: not measured yet.", (everybody,))
    more, rest = lacking(verdict, rule), NOTHING
    if any(one.missing for one in judged):
        rest = Said(" Not all is measured yet.")
    elif more:
        rest = Said(" About {} more seeds would decide." if more <= MANY else MORE, (min(more, MANY),))
    return _joined([_listed(Said("{}: undecided: ", (everybody,)), map(_change, measured))], rest)


def _harm(verdict: Verdict, one: Judgement, names: _Names) -> Said:
    """What is lost, and to whom."""
    title = Said("{}, ", (one.metric.title,)) if one.metric.title else NOTHING
    what = (title, _change(one), _allowed(one))
    others = [label for label in verdict.combination if label != one.against]
    # A utility is nobody's, and what is put on after the others is called otherwise alone.
    if one.baselines or len(others) != len(verdict.combination) - 1:
        return Said("{} together cost {}{}{}", (names.all(verdict.combination), *what))
    who = names.all(others)
    return Said("{} {} {}: {}{}{}", (who, _verb(one, len(others) > 1), names(one.against), *what))


def _verb(one: Judgement, plural: bool) -> str:
    left = _left(one)
    verb = "break" if left is None else "destroy" if left < DESTROYED else "weaken"
    return verb if plural else verb + "s"


def _left(one: Judgement) -> float | None:
    """The share of the gain over the unprotected model that is left; None where there is none to speak of."""
    bare = one.gain.unprotected if one.gain is not None else None
    if isinstance(one.metric.criterion, Absolute | MaxGrowth) or (bare is None and not one.metric.net):
        return None
    start = 0.0 if one.metric.net or bare is None else bare.mean
    return (one.together.mean - start) / (one.alone.mean - start) if one.alone.mean != start else None


def _change(one: Judgement) -> Said:
    ends = number(one.metric, one.alone.mean), number(one.metric, one.together.mean)
    return Said("{} {} → {}", (Symbol(one.symbol), *ends))


def _allowed(one: Judgement) -> Said:
    """What would have been admitted."""
    criterion = one.metric.criterion
    if isinstance(criterion, MaxDrop):
        way = "lost" if one.metric.higher_is_better else "added"
        return Said(" (at most {} may be {})", (f"{criterion.threshold:g}", way))
    if isinstance(criterion, MaxGrowth):
        return Said(" (at most {} times as much)", (f"{criterion.factor:g}",))
    return Said(" ({} is asked)", (bound(criterion),)) if criterion is not None else NOTHING


def _ineffective(one: Judgement) -> Said:
    bare, bound_ = one.gain.unprotected if one.gain is not None else None, one.metric.criterion or one.metric.claim
    beside = NOTHING
    if bare is not None and bare.n:
        less = "" if one.metric.higher_is_better else ", where less is better"
        beside = Said(", unprotected {}{}", (number(one.metric, bare.mean), less))
    elif isinstance(bound_, Absolute):
        beside = Said(", {} is asked", (bound(bound_),))
    alone = number(one.metric, one.alone.mean)
    return Said(
        "{} has no effect alone ({} {}{}), so nothing can be lost", (one.against, Symbol(one.symbol), alone, beside)
    )


def _and(names: Sequence[str]) -> str:
    """Names as people list them.

    Example:
        >>> _and(["a"]), _and(["a", "b"]), _and(["a", "b", "c"])
        ('a', 'a and b', 'a, b and c')
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _listed(first: Said, parts: Iterable[Said]) -> Said:
    """A beginning and what follows it, with commas."""
    held = tuple(parts)
    return Said("{}" + ", ".join(["{}"] * len(held)), (first, *held))


def _joined(parts: Sequence[Said], rest: Said = NOTHING) -> Said:
    """One sentence of several, with semicolons."""
    return Said("; ".join(["{}"] * len(parts)) + ".{}", (*parts, rest))


def unbegun(told: Iterable[Told]) -> str:
    """How many combinations there is nothing to tell of yet; "" if none."""
    count = sum(not one.begun for one in told)
    return f"{count} {'combination is' if count == 1 else 'combinations are'} not measured yet." if count else ""


def _flat(said: Said) -> Iterator[str | Symbol]:
    for text, part in zip_longest(said.template.split("{}"), said.parts, fillvalue=""):
        pieces = _flat(part) if isinstance(part, Said) else (part if isinstance(part, str) else str(part),)
        yield from (piece for piece in (text, *pieces) if piece)
