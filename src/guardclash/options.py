"""Options as files give them, for values of frozen classes: unknown names and wrong types are told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from guardclash.errors import UserError, suggestion
from guardclash.handed import path_in

T = TypeVar("T")
PLAIN = (bool, int, float, str, Path, NoneType)
LISTS = (tuple, list, frozenset)


def built(
    cls: type[T],
    options: Mapping[str, Any],
    where: str,
    known: Mapping[str, Any] | None = None,
    folder: Path = Path(),
) -> T:
    """A value of a class with options, each of the type of its field; paths are relative to the folder.

    A field whose type no file can say, such as a plan or `Any`, is no option: it is the class's own, or given from
    Python. `field(metadata={"option": True})` makes it one.

    Raises:
        UserError: An option is unknown, of another type, or not allowed.
    """
    fields = _options(cast(Any, cls))
    for name in options:
        if name not in fields:
            raise UserError(f"unknown key {name!r}", where=where, mend=suggestion(name, fields))
    found = {name: _value(_adapter(cast(Any, cls), name), value, f"{where}.{name}") for name, value in options.items()}
    made = cls(**{**(known or {}), **found})
    given = {name: value for name in fields if isinstance(value := getattr(made, name), Path)}
    paths = {name: path_in(folder, str(value), f"{where}.{name}") for name, value in given.items()}
    return replace(cast(Any, made), **paths) if paths else made


@cache
def _options(cls: type) -> frozenset[str]:
    """The fields that files may say."""
    every = dataclasses.fields(cls)
    return frozenset(one.name for one in every if one.metadata.get("option") or _plain(_hints(cls)[one.name]))


def _plain(hint: Any) -> bool:
    """Whether a type is of what files hold: texts, numbers, true and false, paths, and lists and choices of these."""
    if get_origin(hint) is Literal or (isinstance(hint, type) and issubclass(hint, (*PLAIN, Enum))):
        return True
    parts = [part for part in get_args(hint) if part is not Ellipsis]
    return bool(parts) and get_origin(hint) in (*LISTS, Union, UnionType) and all(map(_plain, parts))


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


@cache
def _adapter(cls: type, field: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hints(cls)[field])


def _value(adapter: TypeAdapter[Any], value: Any, where: str) -> Any:
    try:
        # Through JSON, where a list may become a tuple but "3" no number.
        return adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join([where, *(str(part) for part in first["loc"])])
        raise UserError(first["msg"][:1].lower() + first["msg"][1:], where=path, got=first["input"]) from None
