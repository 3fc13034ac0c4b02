"""Options as files give them, for values of frozen classes: unknown names and wrong types are told."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from guardclash.errors import UserError, suggestion

T = TypeVar("T")


def built(
    cls: type[T],
    options: Mapping[str, Any],
    where: str,
    known: Mapping[str, Any] | None = None,
    folder: Path = Path(),
) -> T:
    """A value of a class with options, each of the type of its field; paths are relative to the folder.

    Raises:
        UserError: An option is unknown, of another type, or not allowed.
    """
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in options:
        if name not in fields:
            raise UserError(f"unknown key {name!r}", where=where, mend=suggestion(name, fields))
    found = {name: _value(_adapter(cast(Any, cls), name), value, f"{where}.{name}") for name, value in options.items()}
    made = cls(**{**(known or {}), **found})
    paths = {name: (folder / value).resolve() for name in fields if isinstance(value := getattr(made, name), Path)}
    return replace(cast(Any, made), **paths) if paths else made


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
