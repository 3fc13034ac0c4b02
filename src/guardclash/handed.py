"""Files that somebody hands in, by paths that somebody wrote: what a path may be, and how much is read of a file."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from guardclash.errors import UserError

MOST_BYTES = 1_000_000
"""Of a text that people write, such as a study: the longest of ours has 20,000; a larger one is another file."""
BLOCK = 1 << 20
LONGEST_NAME = 255
"""Bytes of a file's name, on every common system."""
LONGEST_PATH = 4_096
"""Bytes of a path."""


def path_in(folder: Path, text: str, where: object = "") -> Path:
    """The absolute path that a text names.

    Args:
        folder: What it is relative to.
        text: A path, as somebody wrote it.
        where: The file and key that it stands in, for the message.

    Raises:
        UserError: No file can be called so: it holds a NUL or letters without an encoding, is too long, or runs in
            a circle of links.
    """
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise UserError("no file can have such a name", where=where, got=text)
    longest = max(map(len, encoded.replace(b"\\", b"/").split(b"/")))
    if longest > LONGEST_NAME or len(encoded) > LONGEST_PATH:
        got, allowed = f"{text[:40]}... ({len(encoded)} bytes)", f"at most {LONGEST_NAME} bytes a name"
        raise UserError("no file can have so long a name", where=where, got=got, allowed=allowed)
    try:
        return (folder / text).resolve()
    except (OSError, RuntimeError) as error:  # links in a circle, which is a RuntimeError before Python 3.13
        raise UserError("the path leads nowhere: links in a circle", where=where, got=text) from error


def open_regular(path: Path) -> BufferedReader:
    """Opens a file for its bytes; a device or a pipe may never end, or wait for ever.

    Raises:
        UserError: It is no regular file.
        OSError: It is not there, a folder, or may not be read; the caller knows what it is for.
    """
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a NUL
        raise UserError("no file can have such a name", got=str(path)) from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a folder says so
        raise UserError("this is no regular file", where=path, allowed="a file, not a device or a pipe")
    return path.open("rb")


def content_of(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file, no more than are allowed: a stranger's may be as large as it likes.

    Args:
        path: The file.
        most: How many bytes are allowed.

    Raises:
        UserError: It is no regular file, or too large.
        OSError: As `open_regular`.
    """
    with open_regular(path) as stream:
        parts, left = [], most + 1
        # As much as it says at first: `read` makes room for all that it is asked for.
        block = stream.read(min(most, os.fstat(stream.fileno()).st_size) + 1)
        while block and left > 0:
            parts.append(block)
            left -= len(block)
            block = stream.read(min(max(left, 0), BLOCK))
    content = b"".join(parts)
    if len(content) > most:
        raise UserError("so large a file is not read", where=path, allowed=f"at most {most:,} bytes")
    return content


def text_of(path: Path, most: int = MOST_BYTES) -> str:
    """The text of such a file, UTF-8; some editors put a byte order mark before it, which says nothing.

    Raises:
        UserError, OSError: As `content_of`.
        UnicodeDecodeError: It is no UTF-8.
    """
    return content_of(path, most).decode("utf-8-sig")
