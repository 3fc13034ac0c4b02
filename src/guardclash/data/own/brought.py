"""What somebody brings, read and checked: the splits of a data set, and in words what was done to them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from guardclash.data.contents import digest
from guardclash.data.examples import Examples
from guardclash.data.space import Images, Rows, Space, Tokens

LARGEST = 4 * 2**30
"""Bytes of all arrays of a data set together: they are held in memory, by each process that trains."""
SPACES: dict[str, type[Any]] = {kind.__name__: kind for kind in (Images, Rows, Tokens)}


@dataclass(frozen=True)
class Facts:
    """All that must be known of a data set before any of its arrays is needed; kept as JSON data."""

    space: Space
    classes: int
    sizes: tuple[tuple[str, int], ...]
    """Examples by split."""
    several_labels: bool
    notes: tuple[str, ...]
    """What was done to the data, sentences for reports."""
    parts: tuple[tuple[str, str], ...]
    """Digests by what they are of, such as "labels of train": to say what changed."""

    @property
    def digest(self) -> str:
        """20 hexadecimal digits: which data these are, for models that are trained on them."""
        # Notes are words about them, and may be worded better one day.
        space = [(name, value) for name, value in _form(self.space).items() if value not in (None, False, ())]
        text = repr((space, self.classes, self.sizes, self.several_labels, self.parts))
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {**vars(self), "space": _form(self.space)}


def _form(space: Space) -> dict[str, Any]:
    return {"kind": type(space).__name__, **vars(space)}


def facts_from(content: Mapping[str, Any]) -> Facts:
    """Reads what `to_dict` wrote.

    Raises:
        KeyError, TypeError, ValueError: It is of another form.
    """
    space = _tuples(content["space"])
    return Facts(**{**_tuples(content), "space": SPACES[space.pop("kind")](**space)})


def _tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _tuple(value) for name, value in content.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


@dataclass(frozen=True, eq=False)
class Brought:
    """A data set in memory."""

    space: Space
    classes: int
    splits: Mapping[str, Examples]
    """ "train", "test", and "ood" where there are inputs that are no examples of the task."""
    notes: tuple[str, ...] = ()
    several_labels: bool = False
    names: tuple[str, ...] = field(default=())
    """Of the classes, where they have some."""

    def facts(self) -> Facts:
        """What is known of it."""
        parts: list[tuple[str, str]] = []
        for split, examples in self.splits.items():
            kinds = {"inputs": examples.x, "labels": examples.y, **examples.about}
            parts += [(f"{kind} of {split}", _sum(values)) for kind, values in kinds.items()]
        sizes = tuple((split, len(examples.x)) for split, examples in self.splits.items())
        return Facts(self.space, self.classes, sizes, self.several_labels, self.notes, tuple(parts))


def _sum(values: Any) -> str:
    return digest(Examples(values, values[:0]))
