"""How far a long computation is: told by whoever computes, heard by whoever waits for it. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[int, int], None]
"""Of how many are done, and of how many."""
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard(listener: Listener | None) -> Iterator[None]:
    """Hands what is counted in the body to a listener; None: to nobody."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def counted(items: Sequence[T]) -> Iterator[T]:
    """The items one by one; each that is done is told. Of loops inside of each other, the outermost one tells.

    Example:
        >>> with heard(lambda done, total: print(done, "of", total)):
        ...     doubled = [2 * item for item in counted([1, 2])]
        1 of 2
        2 of 2
    """
    listener = _listener.get()
    if listener is None:
        yield from items
        return
    with heard(None):
        for done, item in enumerate(items, 1):
            yield item
            listener(done, len(items))
