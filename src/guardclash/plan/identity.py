"""Identity of frozen values: their description, their fingerprint, the values nested in them.

A training, a measurement and a study are made of frozen dataclasses. What a value *is* follows from its
description: the name of its class, its `version` and the fields that differ from their defaults. So a new field with a
default leaves old keys valid, and a changed meaning is declared by raising `version` (docs/design/identity.md).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import operator
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar, cast

from guardclash.errors import UserError

T = TypeVar("T")


class Remembered(Generic[T]):
    """A function of frozen values that finds out about each of them once and forgets it with the value.

    What is known belongs to the very object: equal ones (1 == True) may differ. It is kept beside the values, not in
    them, so that copies and pickles, which other definitions of their classes may meet, take nothing of it along.
    Values that cannot be referred to weakly, such as tuples, are looked at each time.

    Args:
        find: The function; it must depend on nothing but the value, and the class of it.
    """

    def __init__(self, find: Callable[[Any], T]):
        self._find = find
        self._known: dict[int, tuple[weakref.ref[Any], T]] = {}

    def __call__(self, value: Any) -> T:
        """What the function says of a value."""
        number = id(value)
        known = self._known.get(number)
        if known is not None and known[0]() is value:
            return known[1]
        found = self._find(value)
        if type(value).__weakrefoffset__:
            self._known[number] = weakref.ref(value, partial(self._forget, number)), found
        return found

    def _forget(self, number: int, gone: weakref.ref[Any]) -> None:
        known = self._known.get(number)
        if known is not None and known[0] is gone:  # not of a later value at the same place in memory
            del self._known[number]


def type_name(cls: type) -> str:
    """The name of a class in a description: stable when our own files move, distinct for other people's.

    A single-file plugin has no version that its author could be trusted to raise while writing it, so the hash of its
    source is part of the name: an edited plugin never meets its old results.
    """
    module = cls.__module__
    if module.split(".")[0] == "guardclash":
        return cls.__qualname__
    module = "__main__" if module == "__mp_main__" else module  # a spawned worker calls the main script so
    source = getattr(sys.modules.get(module), "__guardclash_source__", "")
    return f"{module}:{cls.__qualname__}" + (f"@{source}" if source else "")


def describe(value: Any, *, full: bool = False) -> Any:
    """The description of a frozen value, as JSON data.

    Args:
        value: None, bool, int, float, str, a tuple of values, or a frozen dataclass of values.
        full: Also list the fields that are at their default (for records; keys use the short form).

    Returns:
        JSON data; a dataclass becomes a dict with its class name under "type". A field with the metadata
        `{"described": False}` is left out: it changes nothing of what its value stands for.

    Raises:
        TypeError: For anything else, such as a lambda: it would have no stable identity.

    Example:
        >>> from guardclash.plan.samplers import Shuffled
        >>> describe(Shuffled(64))
        {'type': 'Shuffled', 'batch_size': 64}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, tuple):
        return [describe(item, full=full) for item in value]
    if _is_instance(value):
        if meant := _described(value):
            return describe(meant, full=full)
        return {name: describe(item, full=full) for name, item in _members(value, full).items()}
    raise TypeError(
        f"{value!r} of type {type(value).__name__} cannot be part of a plan. Use numbers, strings, tuples and frozen"
        " dataclasses (a dataclass with __call__ instead of a lambda)."
    )


def _number(value: float) -> float | int | str:
    if not math.isfinite(value):
        return str(value)
    return int(value) if value.is_integer() else value  # 3 and 3.0 are one hyperparameter


def _is_instance(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _described(value: Any) -> Any:
    """What is described in a value's place, if it says so: for what came to be a value of its own later."""
    described = getattr(value, "__described__", None)
    return described() if described else None


def _members(value: Any, full: bool) -> dict[str, Any]:
    """What the description of a dataclass lists, itself not described yet."""
    cls = type(value)
    own = vars(cls).get("__dataclass_params__")  # an undecorated subclass inherits its parent's, and its fields
    if own is None or not own.frozen:
        raise TypeError(f"{cls.__name__} cannot be part of a plan: declare it @dataclass(frozen=True).")
    described: dict[str, Any] = {"type": type_name(cls)}
    if getattr(cls, "version", 1) != 1:
        described["version"] = cls.version
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if field.metadata.get("described", True) and (full or not _is_default(field, item)):
            described[field.name] = item
    return described


def _is_default(field: dataclasses.Field[Any], item: Any) -> bool:
    # The usual case, found without making texts.
    if item is field.default and isinstance(item, bool | int | float | str | None):
        return True
    # By descriptions and not by ==, for 1 == True.
    if field.default is not dataclasses.MISSING:
        return _text(item) == _text(field.default)
    return field.default_factory is not dataclasses.MISSING and _text(item) == _text(field.default_factory())


# Of one form for good: every key is a hash of such texts.
_json = json.JSONEncoder(sort_keys=True, ensure_ascii=True).encode


def _text(value: Any) -> str:
    """The description as JSON text, its names in order: `_json(describe(value))`."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return _text_of_dataclass(value) if _is_instance(value) else _json(describe(value))


def _text_of_members(value: Any) -> str:
    if meant := _described(value):
        return _text(meant)
    members = sorted(_members(value, full=False).items())
    return f"{{{', '.join(f'{_json(name)}: {_text(item)}' for name, item in members)}}}"


_text_of_dataclass = Remembered(_text_of_members)
"""A plan is the key of all its seeds and measurements, and a default is compared with the field of every value."""


def fingerprint(*values: Any) -> str:
    """The key of one or several values: 20 hexadecimal digits of the SHA-256 of their descriptions."""
    # 80 bits: among a million keys, two are equal by chance with a probability below 1e-12.
    return hashlib.sha256(_text(values).encode()).hexdigest()[:20]


plan_key: Remembered[str] = Remembered(fingerprint)
"""The key of one plan, which is that of all its seeds."""


def parts(value: Any) -> tuple[Any, ...]:
    """What a value is made of: the items of a tuple, the fields of a dataclass, nothing of anything else."""
    if isinstance(value, tuple):
        return value
    if _is_instance(value):
        return tuple(getattr(value, field.name) for field in dataclasses.fields(value))
    return ()


def nested(value: Any, kind: type[T]) -> Iterator[T]:
    """All values of a class inside another value, itself left out, the innermost first.

    A plan whose source holds another plan (marked images hold their marking network) is found this way: dependencies
    need no declaration of their own.
    """
    for part in parts(value):
        yield from nested(part, kind)
        if isinstance(part, kind):
            yield part


def substituted(value: T, change: Callable[[Any], Any]) -> T:
    """A frozen value in which every dataclass inside it, the innermost first, and itself, is what `change` gives.

    What does not change stays the very same object.
    """
    if isinstance(value, tuple):
        items = [substituted(item, change) for item in value]
        return value if all(map(operator.is_, items, value)) else _rebuilt(value, items)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    old = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    new = {name: substituted(item, change) for name, item in old.items()}
    changed = {name: item for name, item in new.items() if item is not old[name]}
    return cast(T, change(dataclasses.replace(value, **changed) if changed else value))


def _rebuilt(value: Any, items: list[Any]) -> Any:
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)  # a named tuple takes them one by one


def refuse_changed_default(recorded: Any, current: Any, where: str) -> None:
    """Compares the full description in a record with today's of the same key.

    Raises:
        UserError: If a default changed since the record was made: the key is the same, the training is not.
    """
    first = None if recorded == current else next(_differences(recorded, current, ""), None)
    if first is not None:
        path, old, new = first
        raise UserError(
            f"a default changed since this result was made: {path} was {old!r} and is {new!r} now",
            where=where,
            mend="Raise `version` of its class (old results are then left aside), or restore the default.",
        )


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(set(old) & set(new)):  # a field on one side only is new or gone, at its default by the key
            yield from _differences(old[name], new[name], f"{path}.{name}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differences(left, right, f"{path}[{index}]")
    elif old != new:
        yield path, old, new
