"""From p-values to outcomes: the paper's rule, a strict one that takes no failed test for evidence, a bounded one.

All rules speak about one metric of one combination. "Worse" honours the direction of the metric; an improvement is a
negative drop and never a conflict.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from guardclash.errors import UserError, suggestion

Rule = Literal["paper", "strict", "bounded"]
Outcome = Literal[
    "compatible",
    "conflict",
    "does not train together",
    "not credible",
    "ineffective",
    "not measured together",
    "undecided",
    "clash",
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True)
class PValues:
    """The tests of one judgement; None where there was nothing to test or too few replicates to test it."""

    difference: float | None = None
    """Two-sided: small when together differs from alone."""
    equivalence: float | None = None
    """TOST: small when together differs from alone by less than the threshold, either way."""
    noninferior: float | None = None
    """One-sided: small when together stays within the criterion."""
    inferior: float | None = None
    """One-sided: small when together breaks the criterion."""


def check_rule(rule: str) -> Rule:
    """The rule of that name.

    Raises:
        UserError: There is none.
    """
    if rule not in RULES:
        raise UserError("no such rule", where="rule", got=rule, mend=suggestion(str(rule), RULES))
    return rule


def beside(rule: Rule) -> tuple[Rule, Rule]:
    """A rule and the one that reports show beside it: the paper's, and beside that the strict one."""
    return rule, "paper" if rule != "paper" else "strict"


def paper(p: PValues, drop: float, beyond: bool, alpha: float, *, level: float | None = None, last: bool = True) -> str:
    """The paper's rule for a drop or a growth (section 4.2): a t test first, TOST only where it rejects.

    Args:
        p: The decisive p-values.
        drop: How much worse together is than alone.
        beyond: Whether the drop itself, without any test, exceeds the threshold.
        alpha: Level of the tests whose rejection is a claim.
        level: Of the t test whose *non*-rejection is one, "no difference": the whole study's, since a smaller level
            would make that easier; None: alpha.
        last: Whether no more replicates will come; before, "no difference" is not said.

    Returns:
        "no difference" when the t test does not reject; else "equivalent" when TOST does; else "improved" or
        "conflict" by the point; else "undecided": a real loss, within the threshold by the point, but not
        shown to be within.
    """
    if p.difference is None or p.equivalence is None:
        return "undecided"
    if p.difference >= (level or alpha):
        return "no difference" if last else "undecided"
    if p.equivalence < alpha:
        return "equivalent"
    if p.difference >= alpha:
        return "undecided"
    if drop < 0:
        return "improved"
    return "conflict" if beyond else "undecided"


def paper_absolute(p: PValues, beyond: bool, alpha: float) -> str:
    """The paper's rule for a floor or a ceiling (sections 6.1 and 6.2, RADDATA and DI).

    Returns:
        "effective" when the mean is on the good side, "conflict" when it is significantly on the bad side and worse
        than alone, else "undecided".
    """
    if p.inferior is None:
        return "undecided"
    if not beyond:
        return "effective"
    return "conflict" if p.inferior < alpha else "undecided"


def strict(p: PValues, alpha: float) -> str:
    """Claims only what a one-sided test shows, so that wrong claims of either kind have at most chance alpha.

    Returns:
        "compatible" when the loss is significantly within the criterion, "conflict" when it is significantly
        beyond it, else "undecided".
    """
    if p.noninferior is not None and p.noninferior < alpha:
        return "compatible"
    return "conflict" if p.inferior is not None and p.inferior < alpha else "undecided"


def met(outcome: str) -> bool:
    """Whether a metric's word is one of those that its criterion is met."""
    return combined([outcome]) == "compatible"


def combined(outcomes: Iterable[str]) -> Outcome:
    """The outcome of a combination from those of its metrics: one conflict suffices (section 3).

    After a conflict, the gravest is a claim that is not credible, then a mechanism that is ineffective already
    alone, then one that could not be measured in company. Metrics that are only reported do not count; if nothing else
    is left, nothing is decided.
    """
    judged = {outcome for outcome in outcomes if outcome != "reported"} or {"undecided"}
    return next((outcome for outcome in OUTCOMES if outcome in judged and outcome != "compatible"), "compatible")
