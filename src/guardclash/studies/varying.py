"""Which options tell variants of one name apart: those that a label must show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Protocol


class Optioned(Protocol):
    """A name with options."""

    @property
    def name(self) -> str:
        """Of a mechanism, a data set or a kind of suspect."""

    @property
    def options(self) -> tuple[tuple[str, Any], ...]:
        """Names and values."""


def varying(values: Iterable[Optioned]) -> Mapping[str, set[str]]:
    """By name, the options in which the values of that name differ; none of a name that is not there."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for one in values:
        by_name.setdefault(one.name, []).append(dict(one.options))
    found = defaultdict[str, set[str]](set)
    for name, same in by_name.items():
        options = {option for one in same for option in one}
        found[name] = {option for option in options if len({repr(one.get(option)) for one in same}) > 1}
    return found
