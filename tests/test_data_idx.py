"""IDX files: what the reader accepts, and what it says about files that are wrong."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from guardclash.data.files import Place
from guardclash.data.idx import IdxReader, read_idx
from guardclash.errors import UserError

READER = IdxReader("tiny", "TINY/raw", (("train", 5), ("test", 3)), side=(4, 6), classes=3)


def idx_bytes(values: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{values.ndim}I", 0, 0x08, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def tiny_files() -> dict[str, bytes]:
    rng = np.random.RandomState(1)
    files = {}
    for prefix, count in (("train", 5), ("t10k", 3)):
        files[f"TINY/raw/{prefix}-images-idx3-ubyte"] = idx_bytes(rng.randint(0, 256, (count, 4, 6)))
        files[f"TINY/raw/{prefix}-labels-idx1-ubyte"] = idx_bytes(rng.randint(0, 3, count))
    return files


def write_tiny(folder: Path, packed: bool = False) -> Path:
    for name, content in tiny_files().items():
        path = folder / (f"{name}.gz" if packed else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


@settings(deadline=None, max_examples=40)
@given(
    values=arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6)),
    packed=st.booleans(),
    named_gz=st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, values, packed, named_gz):
    path = tmp_path_factory.mktemp("idx") / ("values.gz" if named_gz else "values")
    path.write_bytes(gzip.compress(idx_bytes(values)) if packed else idx_bytes(values))
    read = read_idx(path, values.shape, Place("tiny", path.parent))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, values)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_no_damage_to_a_gzip_file_gives_other_values(tmp_path_factory, data):
    values = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    whole = gzip.compress(idx_bytes(values), mtime=0)
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("idx") / "values.gz"
    path.write_bytes(damaged)
    try:
        read = read_idx(path, values.shape, Place("tiny", path.parent))
    except UserError as error:
        assert str(path) in str(error)
    else:  # a byte of the gzip header that means nothing for the content, such as the time
        np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("packed", [False, True])
def test_both_splits_with_gzip_or_without(tmp_path, packed):
    write_tiny(tmp_path, packed)
    raw = tiny_files()
    for split, prefix, count in (("train", "train", 5), ("test", "t10k", 3)):
        x, y = READER(split, tmp_path)
        assert (x.dtype, x.shape, y.dtype, y.shape) == (np.uint8, (count, 1, 4, 6), np.int64, (count,))
        assert x.tobytes() == raw[f"TINY/raw/{prefix}-images-idx3-ubyte"][16:]
        assert y.astype(np.uint8).tobytes() == raw[f"TINY/raw/{prefix}-labels-idx1-ubyte"][8:]


def test_the_gzip_file_wins_because_fetching_replaces_it(tmp_path):
    write_tiny(tmp_path, packed=True)
    (tmp_path / "TINY/raw/train-images-idx3-ubyte").write_bytes(b"damaged")
    assert READER("train", tmp_path).x.shape == (5, 1, 4, 6)


IMAGES = "TINY/raw/train-images-idx3-ubyte"
LABELS = "TINY/raw/train-labels-idx1-ubyte"
WHOLE = tiny_files()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, b"", "wrong magic number"),
        (IMAGES, b"<html>not found</html>", "wrong magic number"),
        (IMAGES, WHOLE[LABELS], "wrong magic number .*got '00000801'; allowed: 00000803"),
        (IMAGES, b"\x00\x00\x0d\x03" + WHOLE[IMAGES][4:], "wrong magic number"),
        (IMAGES, WHOLE[IMAGES][:10], "cut short in its header"),
        (IMAGES, WHOLE[IMAGES][:-1], "cut short .*got '119 bytes'; allowed: 120 bytes"),
        (IMAGES, WHOLE[IMAGES] + b"\x00", "goes on after its last value"),
        (IMAGES, idx_bytes(np.zeros((4, 4, 6))), r"another number .*got \(4, 4, 6\); allowed: \(5, 4, 6\)"),
        (IMAGES, idx_bytes(np.zeros((5, 6, 4))), r"another number .*got \(5, 6, 4\)"),
        (LABELS, idx_bytes(np.zeros(4)), r"another number .*got \(4,\); allowed: \(5,\)"),
        (LABELS, idx_bytes(np.array([0, 1, 2, 3, 0])), "label is out of range.*got 3; allowed: 0 to 2"),
        (IMAGES, gzip.compress(WHOLE[IMAGES])[:-9], "damaged or cut short"),
        (IMAGES, gzip.compress(WHOLE[IMAGES])[:-8] + bytes(8), "damaged or cut short .*CRC"),
        (IMAGES, b"\x1f\x8b" + bytes(30), "damaged or cut short"),
    ],
)
def test_a_wrong_file_is_named_with_the_mend(tmp_path, name, content, message):
    write_tiny(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        READER("train", tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert f"guardclash data fetch tiny --data-dir {tmp_path}" in str(caught.value)
    assert "GUARDCLASH_DATA" in str(caught.value)


def test_a_header_that_promises_too_much_costs_no_memory(tmp_path):
    write_tiny(tmp_path)
    (tmp_path / IMAGES).write_bytes(struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1))
    with pytest.raises(UserError, match="another number"):
        READER("train", tmp_path)


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="data folder does not exist"):
        READER("train", tmp_path / "nowhere")


def test_missing_file(tmp_path):
    write_tiny(tmp_path)
    (tmp_path / LABELS).unlink()
    with pytest.raises(UserError, match="file is missing") as caught:
        READER("train", tmp_path)
    assert LABELS in str(caught.value)
    assert READER("test", tmp_path).y.shape == (3,)


def test_a_folder_instead_of_a_file(tmp_path):
    write_tiny(tmp_path)
    (tmp_path / IMAGES).unlink()
    (tmp_path / IMAGES).mkdir()
    with pytest.raises(UserError, match="a file is expected here, not a folder"):
        READER("train", tmp_path)


def test_no_permission(tmp_path, monkeypatch):
    write_tiny(tmp_path)

    def refuse(path: Path, *rest: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"no permission.*Change its permissions") as caught:
        READER("train", tmp_path)
    assert IMAGES in str(caught.value)


def test_a_folder_with_blanks_is_quoted_in_the_mend(tmp_path):
    folder = tmp_path / "my data"
    folder.mkdir()
    with pytest.raises(UserError, match=r"--data-dir '.*my data'`"):
        READER("train", folder)
