"""Archives of arrays, `.npz`: what each claims is checked before room is made for it, and no pickle is loaded."""

from __future__ import annotations

import math
import sys
import tokenize
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from guardclash.data.files import PLAIN_METHODS
from guardclash.data.own.brought import LARGEST
from guardclash.errors import UserError

SUFFIX = ".npy"
LAST_LETTER = sys.maxunicode
"""Python cannot make a text of larger numbers, and numpy does not look at them."""
KINDS = "biufUS"
"""Of numpy's types: truth values, whole numbers, floats and texts."""
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
"""By version; the third is for names of fields, which arrays of numbers do not have."""


def read_arrays(stream: BinaryIO, path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an archive, by name.

    Args:
        stream: The archive.
        path: What it is called in messages.

    Raises:
        UserError: An array holds objects, there are two of one name, or all together are too large to be held.
        ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error: It is damaged, or no such archive.
    """
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        twice = next((name for name, times in Counter(one.filename for one in members).items() if times > 1), None)
        if twice is not None:
            raise UserError("two arrays have one name", where=path, got=twice)
        size = sum(one.file_size for one in members)
        if size > LARGEST:
            got, mend = f"{size / 2**30:.1f} GiB", "Take fewer examples, smaller images, or bytes in place of floats."
            what = "so large a data set is not held in memory"
            raise UserError(what, where=path, got=got, allowed="4 GiB", mend=mend)
        return {one.filename.removesuffix(SUFFIX): _array(archive, one, path) for one in members}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    name = member.filename
    if not name.endswith(SUFFIX):
        raise ValueError(f"{name} is no array")
    if member.compress_type not in PLAIN_METHODS:
        raise ValueError(f"{name} is packed in an unusual way")
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        if version not in HEADERS:
            raise ValueError(f"{name} is of another version of the format: {version}")
        try:
            shape, _, dtype = HEADERS[version](stream)
        except (tokenize.TokenError, SyntaxError, TypeError) as error:  # of a header that is no Python
            raise ValueError(f"{name} has a damaged header") from error
        head = stream.tell()
    if dtype.hasobject:
        mend = "Save arrays of numbers; objects are pickles, which can run any code."
        raise UserError("an array holds objects", where=path, got=name, mend=mend)
    if dtype.kind not in KINDS:
        raise UserError("an array of another kind", where=path, got=f"{name}: {dtype}", allowed="numbers or texts")
    if min(shape, default=0) < 0 or head + math.prod(shape) * dtype.itemsize != member.file_size:
        raise ValueError(f"{name} says another shape than it holds: {shape}")
    with archive.open(member) as stream:
        found = npy.read_array(stream, allow_pickle=False)
    if (
        dtype.kind == "U"
        and found.size
        and np.ascontiguousarray(found).view(f"{dtype.byteorder}u4").max() > LAST_LETTER
    ):
        raise ValueError(f"{name} holds texts of no letters")
    return found
