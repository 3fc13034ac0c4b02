"""What can go wrong by a user's hand, said so that the user can mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from guardclash.words import cut, shown


class UserError(Exception):
    """A mistake that the user can mend: the command line prints it and exits with code 2, without a traceback.

    Its text is fit to be shown: letters without a shape are marks, and long parts are cut (see `guardclash.words`).

    Args:
        what: What is wrong, as a sentence without a full stop.
        where: The file, key or argument at fault.
        got: The offending value, shown by `repr`.
        allowed: What would have been accepted.
        mend: What to do about it.

    Example:
        >>> print(UserError("epsilon must be positive", where="dpsgd.epsilon", got=-1, allowed="> 0"))
        epsilon must be positive (in dpsgd.epsilon): got -1; allowed: > 0
    """

    def __init__(self, what: str, *, where: object = "", got: Any = ..., allowed: str = "", mend: str = ""):
        message = cut(what) + (f" (in {cut(shown(str(where), lines=False))})" if where != "" else "")
        details = [f"got {cut(repr(got))}"] if got is not ... else []
        details += [f"allowed: {cut(allowed)}"] if allowed else []
        message += ": " + "; ".join(details) if details else ""
        super().__init__(shown(f"{message}. {cut(mend)}" if mend else message))
        self.where, self.allowed = str(where), allowed


class SiteError(UserError):
    """One of the machine, the store or the data: every other trial of a study would meet it as well."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The mend for an unknown name: its nearest neighbour and all that is known.

    Example:
        >>> suggestion("mnits", ["mnist", "cifar10"])
        "Did you mean 'mnist'? Known: cifar10, mnist."
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=len(names) or 1, cutoff=0.5)
    # Likeness alone would take "wn" for "dawn", which holds both letters, and not for "wm".
    best = max(near, key=lambda one: _likeness(name, one) - 0.1 * abs(len(one) - len(name)), default=None)
    return (f"Did you mean {best!r}? " if best else "") + f"Known: {', '.join(names) or 'none'}."


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
