"""A store as one command sees it: what is finished is read once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from guardclash.studies.store import Store

T = TypeVar("T")
ALIKE = ("plan", "execution", "environment", "measure", "serving", "codes")
"""Parts of records and measurements that are the same for all seeds; they are held once."""


@dataclass(frozen=True)
class ReadOnce(Store):
    """A store whose finished trials and measurements are read at most once: they do not change. Others may come.

    For as long as a command takes, and in its own process: one that is made anew is for the next command.
    """

    _read: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _alike: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def record(self, key: str) -> dict[str, Any] | None:
        """The record of a finished trial, if there is one; not to be changed."""
        return self._once(f"record {key}", key, super().record)

    def measurement(self, key: str) -> dict[str, Any] | None:
        """A measurement, if there is one; not to be changed."""
        return self._once(f"measurement {key}", key, super().measurement)

    def losses(self, key: str) -> dict[str, list[float]]:
        """Mean losses by epoch of each stream of a finished trial; not to be changed."""
        return self._once(f"losses {key}", key, super().losses)

    def _once(self, name: str, key: str, read: Callable[[str], T]) -> T:
        if name in self._read:
            return self._read[name]
        found = read(key)
        if found:
            self._read[name] = self._shared(found, key.rpartition("-")[0])
        return found

    def _shared(self, found: Any, plan: str) -> Any:
        """The same content; its large parts are those of other seeds where they are equal."""
        for part in ALIKE:
            if part in found:
                name = f"{part} {plan}"
                if self._alike.setdefault(name, found[part]) == found[part]:
                    found[part] = self._alike[name]
        return found
