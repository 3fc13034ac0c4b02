"""What the parts of a record must be, each said with its place: texts, numbers, lists and tables of them."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from guardclash.errors import UserError

T = TypeVar("T")
U = TypeVar("U")
Read = Callable[[Any], T]
"""From JSON data to a value, or a `Misfit`."""
LONGEST = 1_000_000
"""Letters of a text."""
NAME = 2_000
"""Letters of a name, a symbol or a key: they stand in tables and figures."""
KEY = 100_000
"""Letters of the key of a cell, which holds every option of every mechanism."""
MOST = 1_000_000
"""Parts of a list or table."""
DEEPEST = 60
"""Tables and lists inside each other; the deepest plans of ours have a dozen."""
LARGEST = 1e150
"""Of a number that is not infinite: the square of a larger one is none that a float holds, and spreads are squares."""
WIDE = 2**63
"""Whole numbers are below: what columns of tables hold."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


class Misfit(Exception):
    """A part that is not what it must be; every reader around it puts its own place in front.

    Args:
        got: The part; `...`: it is not there, or too large to be shown.
        allowed: What it must be.
        why: In words, where neither says it.
    """

    def __init__(self, got: Any, allowed: str, why: str = ""):
        super().__init__(why or allowed)
        self.got, self.allowed, self.why, self.place = got, allowed, why, ""

    def within(self, place: str) -> Misfit:
        """The same, seen from further outside."""
        self.place = place + self.place
        return self

    def told(self, where: object, mend: str = "") -> UserError:
        """As a user reads it: file, field, what stands there, what may."""
        place = f"{where}, {self.place.removeprefix('.')}" if self.place else where
        what = "a damaged results file" + (f": {self.why}" if self.why else "")
        got = self.got if self.got is ... else _Shown(self.got)
        return UserError(what, where=place, got=got, allowed=self.allowed, mend=mend)


@dataclass(frozen=True)
class _Shown:
    """A value whose `repr` is short, whatever it is."""

    value: Any

    def __repr__(self) -> str:
        return _SHORT.repr(self.value)


def table(value: Any) -> Mapping[str, Any]:
    """A table."""
    if not isinstance(value, Mapping):
        raise Misfit(value, "a table")
    return value


def field(data: Mapping[str, Any], name: str, read: Read[T]) -> T:
    """What stands under a name, which must be there."""
    if name not in data:
        raise Misfit(..., f"a table with {name!r}")
    try:
        return read(data[name])
    except Misfit as error:
        raise error.within(f".{name}") from None


def given(data: Mapping[str, Any], name: str, read: Read[T], otherwise: U) -> T | U:
    """What stands under a name; something else, where nothing or null does."""
    return otherwise if data.get(name) is None else field(data, name, read)


def listed(value: Any, read: Read[T], most: int = MOST) -> tuple[T, ...]:
    """A list of things of one kind."""
    if not isinstance(value, list | tuple):
        raise Misfit(value, "a list")
    if len(value) > most:
        raise Misfit(..., f"at most {most:,} parts")
    place, found = 0, []
    try:
        for place, part in enumerate(value):  # noqa: B007
            found.append(read(part))
    except Misfit as error:
        raise error.within(f"[{place}]") from None
    return tuple(found)


def named(value: Any, read: Read[T]) -> dict[str, T]:
    """A table of things of one kind, each under its name."""
    if len(table(value)) > MOST:
        raise Misfit(..., f"at most {MOST:,} parts")
    name: Any = ""
    try:
        return {called(name := key): read(part) for key, part in value.items()}
    except Misfit as error:
        raise error.within("." + str(name)[:40].encode(errors="backslashreplace").decode()) from None


def text(value: Any, longest: int = LONGEST) -> str:
    """A text that can be written in any encoding of Unicode; control characters are data like any other."""
    if not isinstance(value, str):
        raise Misfit(value, "a text")
    if len(value) > longest:
        raise Misfit(value, f"at most {longest:,} letters")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Misfit(value, "a text without halves of letters (U+D800 to U+DFFF)") from None
    return value


def called(value: Any) -> str:
    """A name."""
    return text(value, NAME)


def key(value: Any) -> str:
    """The key of a cell."""
    return text(value, KEY)


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Misfit(value, "true or false")
    return value


def whole(value: Any, least: int = -WIDE + 1, most: int = WIDE - 1) -> int:
    """A whole number."""
    if type(value) is not int or not least <= value <= most:
        bounds = "a whole number" + f", >= {least}" * (least > -WIDE + 1) + f", <= {most}" * (most < WIDE - 1)
        raise Misfit(value, bounds if type(value) is not int else f"{bounds}, of at most 63 bits")
    return value


def count(value: Any) -> int:
    """How many there are of something."""
    return whole(value, 0)


def finite(value: Any) -> float:
    """A number that is neither infinite nor too large to be squared."""
    if (type(value) is float or type(value) is int) and -LARGEST <= value <= LARGEST:  # NaN is not; true is no number
        return float(value)
    raise Misfit(value, f"a finite number up to {LARGEST:g}")


def duration(value: Any) -> float:
    """Seconds."""
    found = finite(value)
    if found < 0:
        raise Misfit(value, "a number >= 0")
    return found


def number(value: Any) -> float:
    """A number; infinity is written as a text, since strict JSON has none."""
    infinite = isinstance(value, float) and math.isinf(value)
    return float(value) if infinite or value in ("inf", "-inf") else finite(value)


def said(value: Any) -> str:
    """A text, or a number or a flag as text."""
    kind = type(value)
    return str(PLAIN[kind](value)) if kind in PLAIN else text(value)


def data(value: Any, depth: int = 0) -> Any:
    """Anything that JSON holds, and every form of report can show: sound texts and numbers, not too deep."""
    kind = type(value)
    if kind in PLAIN:
        return PLAIN[kind](value)
    if depth > DEEPEST:
        raise Misfit(..., f"at most {DEEPEST} tables and lists inside each other")
    if isinstance(value, Mapping):
        return named(value, lambda part: data(part, depth + 1))
    return list(listed(value, lambda part: data(part, depth + 1)))


def _integer(value: int) -> int:
    finite(value)
    return value  # as it stands: a float holds fewer digits


PLAIN: dict[type, Read[Any]] = {str: text, int: _integer, float: finite, bool: flag, type(None): lambda value: value}
"""What has no parts."""


def shared(read: Read[T]) -> Read[T]:
    """The same reader for parts of one file that are often the same value in many places: each is read once.

    It goes by identity, so it must not outlive the data.
    """
    known: dict[int, T] = {}

    def once(value: Any) -> T:
        place = id(value)
        if place not in known:
            known[place] = read(value)
        return known[place]

    return once
