"""Decisions about queries that hang on a secret key and on the query alone: the same for ever, in whatever batch."""

from __future__ import annotations

import hmac
from collections.abc import Iterator

from torch import Tensor

WORD = 2.0**64


def keyed_hashes(queries: Iterator[bytes], key: bytes) -> list[bytes]:
    """HMAC-SHA256 of each query: 32 bytes that nobody foresees without the key."""
    return [hmac.digest(key, query, "sha256") for query in queries]


def is_chosen(digest: bytes, rate: float) -> bool:
    """Whether a query is among a share of all, by the first 8 bytes of its hash as a number in [0, 1).

    Example:
        >>> is_chosen(bytes([127] * 32), 0.5), is_chosen(bytes([128] * 32), 0.5)
        (True, False)
    """
    return int.from_bytes(digest[:8], "big") / WORD < rate


def other_class(digest: bytes, label: int, classes: int) -> int:
    """A class that is not a label, by the next 8 bytes of the hash; uniform over the others.

    Example:
        >>> other_class(bytes(32), 9, 10)
        0
    """
    return (label + 1 + int.from_bytes(digest[8:16], "big") % (classes - 1)) % classes


def plain_bytes(x: Tensor, pixels: bool) -> Iterator[bytes]:
    """Each input as bytes.

    Args:
        x: [N, ...].
        pixels: As whole pixel values, so that two float representations of one image are one query; else as float32.
    """
    whole = (x.detach().cpu() * 255).round().clamp(0, 255).byte() if pixels else x.detach().cpu() + 0  # no -0.0
    return (one.numpy().tobytes() for one in whole.contiguous())


def bits(features: Tensor, borders: Tensor) -> Iterator[bytes]:
    """Which of its features [N, F] are above a border [F], as bytes of each query."""
    return (one.numpy().tobytes() for one in (features > borders).contiguous())
