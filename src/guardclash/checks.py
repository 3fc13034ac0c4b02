"""Whether values are allowed: how frozen values check their fields, in words that a user reads.

def __post_init__(self) -> None:
    within("raddata", "> 0, < 1", ratio=self.ratio)
    within("raddata", ">= 1", **given(network_epochs=self.network_epochs))
    one_of("raddata", PRECISIONS, precision=self.precision)
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from functools import lru_cache
from numbers import Real
from typing import Any

from guardclash.errors import UserError

LARGEST_WHOLE = 2**63 - 1
"""The largest whole number that a file may say and a value may have: that of tensors' sizes, tables and TOML."""


def is_reachable(value: Any) -> bool:
    """Whether a number is no whole number beyond those: Python would hold it, and whatever computes with it would not.

    Example:
        >>> is_reachable(2**63), is_reachable(1e300)
        (False, True)
    """
    return not isinstance(value, int) or -LARGEST_WHOLE <= value <= LARGEST_WHOLE


COMPARISONS: dict[str, Callable[[Any, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
WORDS: dict[str, Callable[[Any], bool]] = {
    "finite": math.isfinite,
    "whole": lambda value: value % 1 == 0,  # also false of inf and NaN
    "a number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}
"""What a rule can ask beside comparisons; "a number" is for what is written as JSON, where true is none."""


def within(where: object, rule: str, /, **values: Any) -> None:
    """Checks numbers by a rule, which is also what a complaint says is allowed.

    Args:
        where: What the values belong to; "": nothing that has a name.
        rule: Comparisons and `WORDS`, all of which must hold: "> 0, finite". NaN satisfies none of them but the last.
        values: The numbers, by the names that a user knows them by.

    Raises:
        UserError: If one is no real number, breaks the rule, or is a whole number beyond `LARGEST_WHOLE`.

    Example:
        >>> within("raddata", "> 0, < 1", ratio=0.1)
        >>> within("raddata", "> 0, < 1", ratio=1.5)
        Traceback (most recent call last):
        guardclash.errors.UserError: not a usable value (in raddata.ratio): got 1.5; allowed: > 0, < 1
    """
    for name, value in values.items():
        if not is_reachable(value):
            got, allowed = f"a whole number of {value.bit_length():,} bits", f"{rule}, at most {LARGEST_WHOLE}"
            raise UserError("so large a number cannot be used", where=_key(where, name), got=got, allowed=allowed)
        if not (isinstance(value, Real) and all(holds(value) for holds in _tests(rule))):
            raise UserError("not a usable value", where=_key(where, name), got=value, allowed=rule)


def one_of(where: object, allowed: Iterable[str], /, **values: Any) -> None:
    """Checks choices; `where` and `values` are those of `within`.

    Raises:
        UserError: If one is none of those that are allowed.

    Example:
        >>> one_of("wm", ("random", "native"), labels="randm")
        Traceback (most recent call last):
        guardclash.errors.UserError: unknown choice (in wm.labels): got 'randm'; allowed: random, native
    """
    choices = tuple(allowed)
    for name, value in values.items():
        if value not in choices:
            raise UserError("unknown choice", where=_key(where, name), got=value, allowed=", ".join(choices))


def given(**values: Any) -> dict[str, Any]:
    """Those that are not None, which stands for a default.

    Example:
        >>> given(step=None, radius=8)
        {'radius': 8}
    """
    return {name: value for name, value in values.items() if value is not None}


def _key(where: object, name: str) -> str:
    return f"{where}.{name}" if where else name


@lru_cache
def _tests(rule: str) -> tuple[Callable[[Any], bool], ...]:
    return tuple(WORDS.get(part) or _comparison(*part.split()) for part in rule.split(", "))


def _comparison(sign: str, bound: str) -> Callable[[Any], bool]:
    compare, number = COMPARISONS[sign], float(bound)
    return lambda value: compare(value, number)
