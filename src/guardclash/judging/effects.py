"""What a mechanism does to something that it was not made for: harmed, unharmed, improved, or undecided.

The other kind of interaction in Appendix C of the paper, beside conflicts between two protections: a mechanism may make
the model more vulnerable to a threat that nobody protects it from.
"""

from __future__ import annotations

from typing import Literal

from guardclash.judging.judgement import Judgement
from guardclash.judging.rules import Rule, met

Effect = Literal["harmed", "unharmed", "improved", "undecided", "reported"]


def effect(judgement: Judgement, rule: Rule) -> Effect:
    """What a rule says of a measure with one mechanism (together) against the unprotected model (alone).

    The criterion is the metric's own: as much as a combination may lose, a mechanism may take away. "improved" is said
    of what is unharmed where the difference is significant and for the better.

    Args:
        judgement: Of the mechanism's models against the unprotected ones.
        rule: Which rule decides.
    """
    if judgement.metric.criterion is None:
        return "reported"
    word = judgement.outcome(rule)
    if word == "conflict":
        return "harmed"
    if not met(word):
        return "undecided"
    p, better = judgement.raw.difference, (judgement.drop or 0.0) < 0
    return "improved" if word == "improved" or (better and p is not None and p < judgement.alpha) else "unharmed"
