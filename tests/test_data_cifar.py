"""The binary version of CIFAR-10."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardclash.data.cifar import BATCHES, DIRECTORY, RECORD, CifarReader
from guardclash.errors import UserError

READER = CifarReader(records=4)


def write_cifar(folder: Path, seed: int = 0) -> dict[str, np.ndarray]:
    (folder / DIRECTORY).mkdir(parents=True)
    rng = np.random.RandomState(seed)
    tables = {}
    for names in BATCHES.values():
        for name in names:
            table = rng.randint(0, 256, (4, RECORD)).astype(np.uint8)
            table[:, 0] %= 10
            (folder / DIRECTORY / name).write_bytes(table.tobytes())
            tables[name] = table
    return tables


@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 1000))
def test_what_is_written_is_read(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("cifar")
    tables = write_cifar(folder, seed)
    for split, names in BATCHES.items():
        x, y = READER(split, folder)
        whole = np.concatenate([tables[name] for name in names])
        assert (x.dtype, x.shape) == (np.uint8, (len(whole), 3, 32, 32))
        np.testing.assert_array_equal(x.reshape(len(whole), -1), whole[:, 1:])
        np.testing.assert_array_equal(y, whole[:, 0])


def test_pixels_are_planes_of_red_green_and_blue(tmp_path):
    tables = write_cifar(tmp_path)
    x, _ = READER("test", tmp_path)
    record = tables["test_batch.bin"][2]
    assert x[2, 0, 0, 1] == record[2]
    assert x[2, 1, 0, 0] == record[1 + 1024]
    assert x[2, 2, 31, 31] == record[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], "cut short .*got '12291 bytes'; allowed: 12292 bytes"),
        (lambda content: content + content[:RECORD], "goes on after its last value"),
        (lambda content: b"", "cut short"),
        (lambda content: b"\x0a" + content[1:], "label is out of range .*got 10; allowed: 0 to 9"),
    ],
)
def test_a_wrong_batch_is_named_with_the_mend(tmp_path, change, message):
    write_cifar(tmp_path)
    path = tmp_path / DIRECTORY / "data_batch_3.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        READER("train", tmp_path)
    assert str(path) in str(caught.value)
    assert "guardclash data fetch cifar10" in str(caught.value)
    assert READER("test", tmp_path).y.shape == (4,)


def test_a_missing_batch_is_named(tmp_path):
    write_cifar(tmp_path)
    (tmp_path / DIRECTORY / "data_batch_5.bin").unlink()
    with pytest.raises(UserError, match=r"file is missing .*data_batch_5"):
        READER("train", tmp_path)


def test_the_version_of_pickles_is_refused(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(UserError, match=r"pickles.*binary version.*data fetch cifar10"):
        READER("train", tmp_path)
    write_cifar(tmp_path)  # with the binary version beside it, all is well
    assert READER("test", tmp_path).y.shape == (4,)
