"""Data that a stranger hands in: no header is believed, nothing is read without end, no pickle runs."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from guardclash.data import table_files
from guardclash.data.catalog import find_dataset
from guardclash.data.check import check
from guardclash.data.cifar import CifarReader
from guardclash.data.download import _unpack
from guardclash.data.files import Download, Place
from guardclash.data.gtsrb import IMAGES, GtsrbReader
from guardclash.data.idx import IdxReader
from guardclash.data.own.arrays import from_arrays
from guardclash.data.own.origins import ArrayFile, ImageFolder
from guardclash.data.table_files import read_columns
from guardclash.errors import UserError
from guardclash.plan.foreign import weights_file
from guardclash.studies.store import Store
from guardclash.watching.tracking import told_before
from test_data_gtsrb import COUNT, LABEL_OF, READER, signs, table, write_archives, write_unpacked

MIB = 1 << 20


def refused(call: Callable[[], object], *said: str, most: int = 32 * MIB) -> str:
    """The message of a mistake that is found without much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most
    assert all(word in str(caught.value) for word in said), str(caught.value)
    return str(caught.value)


# Traffic signs


def repacked(path: Path, change: Callable[[str, bytes], bytes], method: int) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: change(name, archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("archive", ["GTSRB_Final_Test_Images.zip", "GTSRB_Final_Test_GT.zip"])
@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_members_that_may_claim_a_dictionary_of_any_size_are_refused(tmp_path, archive, method):
    path = write_archives(tmp_path) / "gtsrb" / archive
    repacked(path, lambda name, content: content, method)
    refused(lambda: READER("test", tmp_path), "packed in an unusual way", archive)


@pytest.mark.parametrize("label", ["9" * 30, "9" * 5000, "-1", "1e3", "\x00", ""])
def test_labels_that_no_class_has(tmp_path, label):
    write_archives(tmp_path, text=table([label, *LABEL_OF[1:]]))
    refused(lambda: READER("test", tmp_path), "GTSRB_Final_Test_GT.zip")


@pytest.mark.parametrize(
    "head", [b"P6\n100000 100000\n255\n", b"P6\n12000 9000\n255\n", b"P4\n9000 9000\n", b"P6 0 0 255 "]
)
@pytest.mark.parametrize("packed", [True, False])
def test_an_image_that_claims_to_be_huge_gets_no_room(tmp_path, head, packed):
    """Pillow only warns at 90 million pixels, and makes room for them."""
    if packed:
        write_archives(tmp_path, {**signs(), "00002.ppm": head + bytes(1000)})
    else:
        write_unpacked(tmp_path)
        (tmp_path / "gtsrb" / IMAGES / "00002.ppm").write_bytes(head + bytes(1000))
    refused(lambda: READER("test", tmp_path))


def test_a_member_beyond_its_bound_is_not_unpacked(tmp_path):
    write_archives(tmp_path, {**signs(), "00002.ppm": bytes(200 * MIB)})
    refused(lambda: READER("test", tmp_path), "would unpack to")
    write_unpacked(tmp_path / "other")
    with (tmp_path / "other" / "gtsrb" / IMAGES / "00002.ppm").open("wb") as stream:
        stream.truncate(1 << 40)
    refused(lambda: READER("test", tmp_path / "other"), "00002.ppm")


@pytest.mark.parametrize("packed", [True, False])
def test_a_table_of_labels_with_a_byte_order_mark(tmp_path, packed):
    if packed:
        write_archives(tmp_path, text="\ufeff" + table())
    else:
        write_unpacked(tmp_path)
        (tmp_path / "gtsrb" / "GT-final_test.csv").write_text(table(), encoding="utf-8-sig")
    assert GtsrbReader(count=COUNT)("test", tmp_path).y.tolist() == LABEL_OF


# Gzip, pipes and links


def bomb(size: int) -> bytes:
    return gzip.compress(bytes(size), mtime=0)


def test_a_gzip_bomb_is_given_up_early(tmp_path):
    """The check would unpack all of it for its sum; 8 MB here, as many GB as somebody likes elsewhere."""
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(bomb(8 * MIB))
    found = {one.file: one for one in check(find_dataset("mnist"), tmp_path)}
    assert "100 times its size" in found["MNIST/raw/train-images-idx3-ubyte.gz"].detail
    assert not any(one.ok for one in found.values())


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "idx": ("t/t10k-images-idx3-ubyte", lambda folder: IdxReader("t", "t", (("test", 1),))("test", folder)),
    "cifar": ("cifar-10-batches-bin/test_batch.bin", lambda folder: CifarReader(records=1)("test", folder)),
    "adult": ("adult/adult.test", lambda folder: find_dataset("adult").read("test", folder)),
    "gtsrb": ("gtsrb/GTSRB_Final_Test_GT.zip", lambda folder: READER("test", folder)),
    "npz": ("a.npz", lambda folder: ArrayFile(folder / "a.npz").read()),
    "csv": ("a.csv", lambda folder: read_columns(folder / "a.csv")),
    "parquet": ("a.parquet", lambda folder: read_columns(folder / "a.parquet")),
    "weights": ("a.safetensors", lambda folder: weights_file(folder / "a.safetensors")),
}


@pytest.mark.skipif(os.name != "posix", reason="has no such files")
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_no_reader_waits_for_a_pipe_or_reads_a_device(tmp_path, reader, kind):
    name, read = READERS[reader]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    refused(lambda: read(tmp_path), path.name)


def test_an_archive_writes_what_is_asked_for_and_nowhere_else(tmp_path):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, link in (("../out", None), ("/abs/out", None), ("in/a", "/etc/passwd"), ("in/b", "../../../x")):
            one = tarfile.TarInfo(name)
            one.size = 0 if link else 4
            if link:
                one.type, one.linkname = tarfile.SYMTYPE, link
            archive.addfile(one, None if link else io.BytesIO(b"evil"))
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "t.tar.gz").write_bytes(made.getvalue())
    for name in ("in/a", "in/b"):
        refused(lambda name=name: _unpack(Download("t.tar.gz", (), "", ((name, ""),), True), Place("t", folder)))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["t.tar.gz"]


def test_a_damaged_archive_is_not_called_unwritable(tmp_path):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    (tmp_path / "t.tar.gz").write_bytes(made.getvalue() + b"\x1f\x8b" + made.getvalue()[20:])
    (tmp_path / "u.tar.gz").write_bytes(made.getvalue()[:-8] + bytes(8))
    for name in ("t.tar.gz", "u.tar.gz"):
        refused(lambda name=name: _unpack(Download(name, (), "", (("b", ""),), True), Place("t", tmp_path)), "unpacked")


# Arrays


def npz(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Callable[[], object]:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return lambda: ArrayFile(path).read()


def npy(shape: str, dtype: str = "<f8", content: bytes = b"", version: int = 1) -> bytes:
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(head)) + head + content


def plain(array: Any) -> bytes:
    made = io.BytesIO()
    np.save(made, np.asarray(array), allow_pickle=True)
    return made.getvalue()


Y = plain(np.arange(8) % 2)
ARRAYS = {
    "10^12 items": (npy("(1000000000000,)"), "says another shape"),
    "10^400 items": (npy(f"({10**400},)"), "damaged"),
    "fewer than none": (npy("(-1, -1)", content=bytes(8)), "says another shape"),
    "more than it says": (npy("(1, 2)", content=bytes(800)), "says another shape"),
    "a header of 10 MB": (npy("(" + "1," * 5_000_000 + ")", version=2), "damaged"),
    "a header that calls": (npy("__import__('os').system('true')"), "damaged"),
    "a header without end": (npy("((((((((("), "damaged"),
    "objects": (plain(np.array([{}, []], object)), "pickles"),
    "a pickle": (pickle.dumps([1]), "damaged"),
    "fields": (plain(np.zeros(8, [("a", "f4"), ("b", "O")])), "pickles"),
    "fields of numbers": (plain(np.zeros(8, [("a", "f4")])), "another kind"),
    "dates": (plain(np.zeros(8, "M8[s]")), "another kind"),
    "complex numbers": (plain(np.zeros(8, complex)), "another kind"),
    "letters that there are none of": (npy("(1,)", "<U1", bytes([255] * 4)), "no letters"),
    "no axis": (plain(1.0), "x_train is empty"),
    "no side": (plain(np.zeros((8, 1, 0, 5))), "x_train is empty"),
    "no columns": (plain(np.zeros((8, 0))), "x_train is empty"),
    "numbers beyond scaling": (plain(np.array([[1e308], [-1e308]] * 4)), "cannot be scaled"),
}


@pytest.mark.parametrize(("content", "said"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_are_none(tmp_path, content, said):
    refused(npz(tmp_path / "a.npz", {"x_train.npy": content, "y_train.npy": Y}), said, "a.npz")


def test_labels_without_an_axis(tmp_path):
    x = plain(np.zeros((8, 2)))
    refused(npz(tmp_path / "a.npz", {"x_train.npy": x, "y_train.npy": plain(1)}), "different lengths")


def test_an_archive_of_arrays_that_would_unpack_to_more_than_is_held(tmp_path):
    path = tmp_path / "a.npz"
    npz(path, {"x_train.npy": npy("(8,)", content=bytes(64)), "y_train.npy": Y})
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")  # the directory, which says the size
    content[place + 24 : place + 28] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(content)
    refused(lambda: ArrayFile(path).read(), "not held in memory")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_arrays_packed_in_other_ways(tmp_path, method):
    members = {"x_train.npy": plain(np.zeros((8, 2))), "y_train.npy": Y}
    refused(npz(tmp_path / "a.npz", members, method), "packed in an unusual way")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for value in (0.0, 1.0):
            archive.writestr("x_train.npy", plain(np.full((8, 2), value)))
    refused(lambda: ArrayFile(tmp_path / "a.npz").read(), "one name")


def test_what_is_read_is_what_numpy_reads(tmp_path):
    """Parity: for sound arrays of all kinds, orders and versions."""
    rng = np.random.default_rng(0)
    kinds = ["?", "u1", "<i8", ">i4", "<f2", "<f8", ">f4", "U3", "S2"]
    arrays = {f"a{number}": rng.integers(0, 2, (3, 4)).astype(kind) for number, kind in enumerate(kinds)}
    arrays["fortran"] = np.asfortranarray(rng.random((3, 4)))
    arrays["empty"] = np.zeros((0, 3))
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        with np.load(tmp_path / "a.npz") as expected:
            found = ArrayFile(tmp_path / "a.npz")._arrays()
            assert list(found) == list(expected.files)
            for name in arrays:
                assert found[name].dtype == expected[name].dtype
                np.testing.assert_array_equal(found[name], expected[name])


def test_rows_at_the_edge_of_what_floats_hold():
    x = np.array([[1e150], [-1e150]] * 4)
    assert np.isfinite(from_arrays({"x_train": x, "y_train": np.arange(8) // 4}, "here").splits["train"].x).all()


# Tables


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1,x\0\n2,y\n", "NUL"),
        (b"a,b\n" + b"x" * 2_000_000 + b",1\n", "field larger"),
        (b"a,b\n" + b"x" * 20_000 + b",1\n", "too long"),
        (b",".join(b"c%d" % number for number in range(20_000)) + b"\n" + b"1," * 19_999 + b"1\n", "so large a table"),
        (b",".join([b"c"] * 20_000) + b"\n", "so large a table"),
        (b'a,b\n"1,2\n', "no table"),
        (b"", "an empty table"),
        (b"\xff\xfea,b", "UTF-8"),
    ],
    ids=["NUL", "a field of 2 MB", "a long field", "20,000 columns", "of one name", "a quote", "empty", "UTF-16"],
)
def test_tables_that_are_none(tmp_path, content, said):
    (tmp_path / "t.csv").write_bytes(content)
    refused(lambda: read_columns(tmp_path / "t.csv"), said, "t.csv", most=64 * MIB)


def test_a_table_has_a_bound(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,2\n" * 100)
    with path.open("r+b") as stream:
        stream.truncate(1 << 40)
    monkeypatch.setattr(table_files, "MOST_BYTES", MIB)
    refused(lambda: read_columns(path), "so large a file")
    path.write_text("a,b\n" + "1,2\n" * 100)
    monkeypatch.setattr(table_files, "MOST_CELLS", 150)
    refused(lambda: read_columns(path), "so large a table")


def test_a_parquet_file_that_claims_many_rows(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"a": [1] * 10_000, "b": ["x"] * 10_000}), tmp_path / "t.parquet")
    assert len(read_columns(tmp_path / "t.parquet")["a"]) == 10_000
    monkeypatch.setattr(table_files, "MOST_CELLS", 19_999)
    refused(lambda: read_columns(tmp_path / "t.parquet"), "so large a table")


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_table_or_a_mistake(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    try:
        columns = read_columns(path)
    except UserError:
        return
    assert all(name and "\0" not in "".join(values) for name, values in columns.items())


# Images


def folder_of(folder: Path, content: bytes) -> Callable[[], object]:
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (6, 6), number).save(folder / name / f"{number}.png")
    (folder / "a" / "0.png").write_bytes(content)
    return lambda: ImageFolder(folder).read()


def picture(image: Image.Image, form: str) -> bytes:
    made = io.BytesIO()
    image.save(made, form)
    return made.getvalue()


def test_an_image_that_claims_to_be_huge(tmp_path):
    png = bytearray(picture(Image.new("L", (6, 6)), "PNG"))
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    import zlib

    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    refused(folder_of(tmp_path, bytes(png)), "cannot be read", "0.png")


def test_formats_whose_decoders_start_programs_are_not_tried(tmp_path, monkeypatch):
    """PostScript, called .png: pillow would hand it to Ghostscript."""
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n%%EndComments\n(x) run\n%%EOF\n"
    with Image.open(io.BytesIO(script)) as known:
        assert known.format == "EPS"
    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *asked, **more: started.append(asked))
    refused(folder_of(tmp_path, script), "cannot be read", "0.png")
    assert not started


def test_16_bits_are_not_cut_off_at_255(tmp_path):
    """They would have become a white image."""
    deep = Image.fromarray(np.full((6, 6), 40_000, np.uint16))
    refused(folder_of(tmp_path, picture(deep, "PNG")), "more than 8 bits", "0.png")


@given(st.integers(0, 6), st.binary(min_size=1, max_size=6), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_damaged_image_is_an_image_or_a_mistake(tmp_path_factory, form, bytes_, place):
    folder = tmp_path_factory.mktemp("images")
    forms = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP", "GIF")
    content = bytearray(picture(Image.new("RGB", (6, 6), (1, 2, 3)), forms[form]))
    at = int(place * (len(content) - 1))
    content[at : at + len(bytes_)] = bytes_
    try:
        folder_of(folder, bytes(content))()
    except UserError as error:
        assert str(folder) in str(error)


# Weights and notes

SOUND = safetensors.torch.save({"a": torch.ones(2, 3), "b": torch.ones(2)})


def weights(head: object, length: int | None = None, content: bytes = bytes(64)) -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
WEIGHTS = {
    "a length of 2^63": weights({}, 2**63),
    "a length of 2^64 - 1": weights({}, 2**64 - 1),
    "a header of 10 GB": weights({}, 10**10),
    "nothing": b"",
    "seven bytes": bytes(7),
    "cut off": SOUND[:-1],
    "longer": SOUND + b"x",
    "a pickle": pickle.dumps({"a": [1.0]}),
    "no JSON": weights(b"{" * 9000),
    "lists in lists": weights(b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}"),
    "a list": weights([1]),
    "two of one name": weights(b'{"a":%(t)s,"a":%(t)s}' % {b"t": json.dumps(TENSOR).encode()}, None, bytes(8)),
    "one over another": weights({"a": TENSOR, "b": {**TENSOR, "data_offsets": [4, 12]}}, None, bytes(12)),
    "a hole": weights({"a": TENSOR, "b": {**TENSOR, "data_offsets": [12, 20]}}, None, bytes(20)),
    "backwards": weights({"a": {**TENSOR, "data_offsets": [8, 0]}}, None, bytes(8)),
    "beyond its end": weights({"a": {**TENSOR, "data_offsets": [0, 800]}}, None, bytes(8)),
    "another shape": weights({"a": {**TENSOR, "shape": [2**40, 2**40]}}, None, bytes(8)),
    "below 0": weights({"a": {**TENSOR, "shape": [-2]}}, None, bytes(8)),
    "an unknown type": weights({"a": {**TENSOR, "dtype": "F33"}}, None, bytes(8)),
    "no type": weights({"a": {"shape": [2], "data_offsets": [0, 8]}}, None, bytes(8)),
    "NaN": safetensors.torch.save({"a": torch.tensor([float("nan")])}),
}


@pytest.mark.parametrize("content", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_are_none(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    refused(lambda: weights_file(path), "w.safetensors")


TOLD = ["[]", "5", "{", "[" * 3000, '{"told": 5}', '{"told": [[1]]}', '{"told": {}}', '{"told": [null]}']
TOLD += ['{"verdicts": []}', '{"verdicts": {"a": 1}}', '{"schema": "x"}']


@pytest.mark.parametrize("content", TOLD)
def test_a_damaged_note_of_what_a_tracker_was_told_is_named(tmp_path, content):
    (tmp_path / "told.json").write_text(content)
    refused(lambda: told_before(Store(tmp_path), "told.json"), "told.json", "emove it")
