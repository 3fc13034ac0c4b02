"""How large a study may be: beyond these bounds is no study that anybody trains, but a mistake, or a way to stop us."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from guardclash.checks import LARGEST_WHOLE, is_reachable
from guardclash.errors import UserError

T = TypeVar("T")

DEPTH = 20
"""Tables and lists within each other; the form of a study has 7."""
EXTENDED = 20
"""Files that extend each other."""
REPLICATES = 10_000
"""Of a cell; a difference of a hundredth of a standard deviation shows at about so many."""
COMBINATIONS = 10_000
"""Of one study, and recipes and suspects: reports are read by people, and each holds a training at least."""
TRAININGS = 1_000_000
"""Of one study: all of them are held in memory, a few kB each, before the first one begins."""
KEY_PARTS = 100
"""Of a dotted key: reading one takes time with the square of its parts."""

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
"""Names that mean devices on Windows, whatever comes after a dot."""
NAME_BYTES = 200
"""Of a study's name in UTF-8; a file's name has 255 at most, and files of a study are called `<name>.told.json`."""

_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_DOTTED = re.compile(rf"{_PART}(?:[ \t]*+\.[ \t]*+{_PART})*+")


def check_keys(text: str, where: object) -> None:
    """Refuses dotted keys of so many parts that reading them would take minutes.

    Raises:
        UserError: There is one.
    """
    for found in _DOTTED.finditer(text):
        parts = found.group().count(".") + 1
        if parts > KEY_PARTS:
            allowed = f"at most {KEY_PARTS} parts"
            raise UserError("nested too deeply", where=where, got=f"a key of {parts:,} parts", allowed=allowed)


def check_form(table: Mapping[str, Any], where: object) -> None:
    """Refuses tables that are nested too deeply, whole numbers that TOML does not promise, and keys without a shape.

    Without recursion, for it is what protects all that comes after it.

    Raises:
        UserError: There is one; the message says where.
    """
    waiting: list[tuple[Any, str, int]] = [(table, "", 0)]
    while waiting:
        value, place, depth = waiting.pop()
        at = f"{where}: {place}" if place else where
        if isinstance(value, int) and not is_reachable(value):
            got, allowed = f"a whole number of {value.bit_length():,} bits", f"-{LARGEST_WHOLE} to {LARGEST_WHOLE}"
            raise UserError("so large a number cannot be used", where=at, got=got, allowed=allowed)
        if isinstance(value, Mapping | list | tuple) and depth > DEPTH:
            allowed = f"at most {DEPTH} tables and lists within each other"
            raise UserError("nested too deeply", where=at, allowed=allowed)
        if isinstance(value, Mapping):
            odd = next((key for key in value if not isinstance(key, str) or not key.isprintable()), None)
            if odd is not None:
                raise UserError("a key that cannot be shown", where=at, got=ascii(odd)[:80])
            waiting += [(one, f"{place}.{key}" if place else str(key), depth + 1) for key, one in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(one, f"{place}[{number}]", depth + 1) for number, one in enumerate(value)]


def at_most(found: Iterable[T], where: str, what: str = "combinations") -> Iterator[T]:
    """The same, and a complaint in place of one too many: a sweep of nine options of ten values has 10^9.

    Raises:
        UserError: There are more than `COMBINATIONS`.
    """
    for number, one in enumerate(found):
        if number == COMBINATIONS:
            raise _too_many(what, where, f"more than {COMBINATIONS:,}", COMBINATIONS)
        yield one


def check_size(recipes: int, combinations: int, suspects: int, replicates: tuple[int, int], where: str) -> None:
    """Refuses a study of more trainings than a process holds.

    Args:
        recipes: How many it has.
        combinations: On each of them.
        suspects: Of each combination.
        replicates: Of a combination, and of a suspect.
        where: The study.

    Raises:
        UserError: It would have more than `TRAININGS`.
    """
    trainings = recipes * combinations * (replicates[0] + suspects * replicates[1])
    if trainings > TRAININGS:
        raise _too_many("trainings", where, f"about {trainings:,}", TRAININGS)


def _too_many(what: str, where: str, got: str, most: int) -> UserError:
    mend = "Sweep fewer options at once, or make several studies of it: a store trains equal work once."
    return UserError(f"a study of too many {what}", where=where, got=got, allowed=f"at most {most:,}", mend=mend)


def check_name(name: str, where: object, given: bool = True) -> str:
    """A study's name, which is that of its files: one rule, whether a key, an argument or a file's stem says it.

    Args:
        name: The name.
        where: The file.
        given: Whether somebody said it; else it is the stem of the file.

    Raises:
        UserError: It would leave the store's folder, means something to a system, or shows as another one.
    """
    reason = _misfit(name)
    if not reason:
        return name
    allowed = "letters, digits, spaces and . _ -, a letter or digit first"
    if given:
        raise UserError(f"no name for a study: {reason}", where=where, got=name, allowed=allowed)
    safe = re.sub(r"[^\w. -]+", "-", name).strip(" .-_")[:40] or "my-study"
    safe = f"{safe}-study" if _misfit(safe) else safe
    mend = f'Say in the file how it is called: name = "{safe}".'
    raise UserError(
        f"a file's name is no name for a study: {reason}", where=where, got=name, allowed=allowed, mend=mend
    )


def _misfit(name: str) -> str:
    """Why a study cannot be called so; "" if it can."""
    if not re.fullmatch(r"\w[\w. -]*", name):
        return "its files are called by it" if name else "it is empty"
    if name.endswith((".", " ")):
        return "a system may drop its end"
    if name.partition(".")[0].strip().lower() in RESERVED:
        return "it means a device on Windows"
    if len(name.encode()) > NAME_BYTES:
        return f"it has more than {NAME_BYTES} bytes"
    return ""
