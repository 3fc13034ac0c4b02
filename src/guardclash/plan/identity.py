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
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from guardclash.errors import UserError

T = TypeVar("T")


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
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _describe_dataclass(value, full)
    raise TypeError(
        f"{value!r} of type {type(value).__name__} cannot be part of a plan. Use numbers, strings, tuples and frozen"
        " dataclasses (a dataclass with __call__ instead of a lambda)."
    )


def _number(value: float) -> float | int | str:
    if not math.isfinite(value):
        return str(value)
    return int(value) if value.is_integer() else value  # 3 and 3.0 are one hyperparameter


def _describe_dataclass(value: Any, full: bool) -> dict[str, Any]:
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
            described[field.name] = describe(item, full=full)
    return described


def _is_default(field: dataclasses.Field[Any], item: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        return _text(item) == _text(field.default)
    return field.default_factory is not dataclasses.MISSING and _text(item) == _text(field.default_factory())


def _text(value: Any) -> str:
    return json.dumps(describe(value), sort_keys=True, ensure_ascii=True)


def fingerprint(*values: Any) -> str:
    """The key of one or several values: 20 hexadecimal digits of the SHA-256 of their descriptions."""
    text = json.dumps([describe(value) for value in values], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def parts(value: Any) -> tuple[Any, ...]:
    """What a value is made of: the items of a tuple, the fields of a dataclass, nothing of anything else."""
    if isinstance(value, tuple):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
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
    changes = list(_differences(recorded, current, ""))
    if changes:
        path, old, new = changes[0]
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
