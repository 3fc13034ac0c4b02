"""Files that are asked for by name, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file beside its place and moves it there: what fails on the way leaves an older file as it was.

    The folder is made if it is not there. A link stays a link, an older file's permissions stay as they are, and what
    is no regular file, such as /dev/stdout, is written to and not replaced.

    Args:
        path: The file.
        content: All of it.

    Raises:
        OSError: It cannot be written; nothing of it is left behind.
    """
    place, mode = Path(os.path.realpath(path)), _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        path.write_bytes(content)  # not to its real path: that of /dev/stdout is the name of a pipe, and no file
        return
    if mode is not None and not os.access(place, os.W_OK):
        raise PermissionError(13, "Permission denied", str(path))  # a new file in its place would get around that
    place.parent.mkdir(parents=True, exist_ok=True)
    # A name that nobody else has, and short: that of the file may be as long as names can be.
    part = place.with_name(f".guardclash-{uuid.uuid4().hex}")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name with nothing in it
        if mode is not None:
            part.chmod(stat.S_IMODE(mode))
        os.replace(part, place)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _mode(path: Path) -> int | None:
    """Kind and permissions of a file; None if there is none.

    Raises:
        OSError: That cannot be known.
    """
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None
