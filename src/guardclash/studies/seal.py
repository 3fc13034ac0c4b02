"""Checksums of files that hold their own: a flipped byte is noticed by whoever reads the file next.

A sealed file is JSON, or begins with it as safetensors do, and holds the SHA-256 of itself, computed with zeros in the
place of the digest. So every byte of it counts, and one form does for all files of a store: those that have no room for
a seal, such as weights, stand with their digest in a sealed file beside them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

KEY = "seal"
OPEN = "0" * 64
"""In the place of the digest, until `sealed` puts it there."""
_PLACE = re.compile(rb'"seal": ?"([0-9a-f]{64})"')  # inside of a text the quotes would be escaped


def digest(content: bytes) -> str:
    """SHA-256 of a file's content, in hex."""
    return sha256(content).hexdigest()


def sealed_json(content: Mapping[str, Any]) -> bytes:
    """A JSON object as the text of a sealed file.

    Raises:
        ValueError: It holds what JSON does not know, such as NaN.
    """
    text = json.dumps({KEY: OPEN, **content}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return sealed(text.encode(errors="replace"))  # halves of letters, become question marks


def sealed(content: bytes) -> bytes:
    """The same content with its own digest in the first place that holds `OPEN` under `KEY`."""
    place = _PLACE.search(content)
    if place is None or place[1] != OPEN.encode():
        raise ValueError("no place for a seal")
    return content[: place.start(1)] + digest(content).encode() + content[place.end(1) :]


def flaw(content: bytes) -> str:
    """What is wrong with the content of a sealed file, in words; "" if nothing is."""
    place = _PLACE.search(content)
    if place is None:
        return "it holds no checksum"
    opened = content[: place.start(1)] + OPEN.encode() + content[place.end(1) :]
    return "" if digest(opened).encode() == place[1] else "its checksum does not fit"


def unsealed_json(text: bytes, newest: int) -> tuple[dict[str, Any] | None, str]:
    """The object of a sealed JSON file, or None and what is wrong with it.

    One of schema 1 may have no seal, and nor may one that is newer than the `newest` schema that is known here.
    """
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        return None, f"it is no JSON: {error}"
    schema = content.get("schema", 1) if isinstance(content, dict) else None
    if type(schema) is not int or schema < 1:
        return None, "it is none of ours"
    why = flaw(text) if 1 < schema <= newest or KEY in content else ""
    if not why:
        content.pop(KEY, None)
    return (None, why) if why else (content, "")


def tensors_flaw(content: bytes) -> str:
    """As `flaw`, of a safetensors file; one with no other metadata than its source is from before there were seals."""
    size = int.from_bytes(content[:8], "little")
    try:
        known = json.loads(content[8 : 8 + size])["__metadata__"].keys()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "its header cannot be read"
    return "" if known == {"source"} else flaw(content)
