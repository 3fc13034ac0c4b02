"""How the page calls and marks things: outcomes, symbols, scales, texts without shape."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, cast

from markupsafe import Markup, escape

from guardclash.judging.rules import Outcome, combined
from guardclash.reporting.looks import LIKE
from guardclash.words import shown as visible

MEANINGS: dict[str, str] = {
    "compatible": "every judged metric stays within its limit",
    "conflict": "at least one metric is lost beyond its limit",
    "does not train together": "trainings of the combination diverge, those of its parts alone do not",
    "not credible": "a claim of ownership is met, but so is one of its controls: it would accuse the innocent too",
    "ineffective": "a mechanism is not shown to work already alone: there was nothing to lose",
    "not measured together": "a metric is measured alone and left out together, so nobody knows",
    "undecided": "the seeds measured so far cannot tell",
    "clash": "the mechanisms cannot be built together: nothing was trained",
    "not asked": "not part of this study",
}
"""Of verdicts; the keys but the last are `rules.OUTCOMES`."""
CLAIMS: dict[str, str] = {
    "detected": "a stolen model, claimed under every seed",
    "missed": "a stolen model, claimed under no seed",
    "removed with the model": "a stolen model, claimed under no seed, but more than 5 points worse than the owner's",
    "mixed": "a stolen model, claimed under some seeds",
    "claimed": "a model of unknown origin, claimed under a seed at least: each is another owner",
    "not claimed": "a model of unknown origin, claimed under no seed",
    "not credible": "a stolen model is claimed, and under the same seed a control fires: so would an innocent one be",
    "cleared": "an innocent model, claimed under no seed",
    "false claim": "an innocent model, claimed under at least one seed",
    "undecided": "not all seeds are measured",
    "not measured": "no seed is measured",
    "clash": "the suspect cannot be built",
    "not asked": "not part of this study",
}
"""Of ownership claims; the keys but the last are `claims.Outcome`."""
SAME_LOOK: dict[str, Outcome] = {
    **{word: cast(Outcome, like) for word, like in LIKE.items()},
    "does not train together": "conflict",
    "not measured together": "undecided",
}
"""Words that look like one of the main outcomes."""
QUIET = ("not asked", "not measured", "reported", "silent", "no verdict")
"""What neither praises nor warns; so does every word that nobody knows."""
RULES_IN_WORDS = {
    "strict": "strict: says only what a one-sided test shows",
    "paper": "paper: the procedure of the paper's section 4.2",
    "bounded": "bounded: as strict, presuming nothing about a metric but its range",
}
SCALES = {
    "paper": "the paper's scale",
    "reduced": "reduced scale: minutes for each training on two cores, less than the paper trains",
    "smoke": "smoke scale: it shows that the machinery runs and says nothing about the mechanisms",
}
"""In words, by the scale of a recipe."""


def look(word: str) -> str:
    """The class by which an outcome's colour and symbol are chosen; "quiet" of what decides nothing.

    Example:
        >>> look("no difference"), look("not credible"), look("reported")
        ('compatible', 'not-credible', 'quiet')
    """
    if word in QUIET or not word:
        return "quiet"
    known = SAME_LOOK.get(word) or (word if word in MEANINGS else combined([word]))  # such as "equivalent"
    return known.replace(" ", "-")


def symbol(text: str) -> Markup:
    """A metric's symbol, what follows its underscore as an index.

    Example:
        >>> symbol("φ_WM")
        Markup('φ<sub>WM</sub>')
    """
    base, _, rest = str(shown(text)).partition("_")
    index, blank, more = rest.partition(" ")
    return Markup("{}<sub>{}</sub>{}{}").format(base, index, blank, more) if index else escape(shown(text))


def shown(value: Any) -> Any:
    """Any value as a page may hold it: letters without a shape of their own are made visible, markup is left alone.

    A control character would make the page unreadable, a mark of direction could turn its words around.
    """
    return value if not isinstance(value, str) or isinstance(value, Markup) else visible(value)


def prose(template: str, *parts: object) -> Markup:
    """A sentence: what stands in for its braces is escaped, but for markup such as symbols."""
    return Markup(template).format(*(part if isinstance(part, Markup) else str(shown(str(part))) for part in parts))


def broken(text: str) -> Markup:
    """A label that may be broken into lines inside its words: after brackets, slashes, and last of all after "="."""
    pieces = re.split(r"(?<=[=/])|(?<=\w\()", str(shown(text)))
    breaks = (Markup('<wbr class="late">' if piece.endswith("=") else "<wbr>") for piece in pieces[:-1])
    return Markup("").join(part for both in zip(pieces, (*breaks, ""), strict=True) for part in both)


def slug(text: str) -> str:
    """A text as part of an address: small letters, digits and hyphens.

    Example:
        >>> slug("mnist/reduced {wm, dpsgd(on=task)}")
        'mnist-reduced-wm-dpsgd-on-task'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def unique(names: Iterable[str], taken: Collection[str] = ()) -> Iterator[str]:
    """Names for the elements of a page; of equal ones, the later get a number."""
    seen = set(taken)
    for name in names:
        wanted, number = name or "part", 1
        while wanted in seen:
            number += 1
            wanted = f"{name or 'part'}-{number}"
        seen.add(wanted)
        yield wanted


def plural(count: int, what: str) -> str:
    """A count with its noun.

    Example:
        >>> plural(1, "seed"), plural(3, "seed")
        ('1 seed', '3 seeds')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def listed(items: Iterable[str]) -> str:
    """Items as a part of a sentence; markup stays markup.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    *most, last = list(items) or [""]
    if not most:
        return last
    joiner = Markup(", ") if isinstance(last, Markup) else ", "  # a plain one would make text of the markup
    return joiner.join(most) + " and " + last
