"""The catalogue of data sets, and loading through it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guardclash.data import catalog
from guardclash.data.catalog import datasets, find_dataset, register
from guardclash.data.dataset import Dataset
from guardclash.data.examples import Examples
from guardclash.data.loading import data_folder, load, read
from guardclash.data.space import Images
from guardclash.errors import UserError
from guardclash.tasks.catalog import tasks

CALLS: list[str] = []


def read_toy(split: str, folder: Path) -> Examples:
    CALLS.append(split)
    return Examples(np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, 1, 0], np.int64))


def read_wrong_type(split: str, folder: Path) -> Examples:
    return Examples(np.zeros((4, 1, 2, 2), np.float32), np.zeros(4, np.int64))


def read_wrong_count(split: str, folder: Path) -> Examples:
    return Examples(np.zeros((3, 1, 2, 2), np.uint8), np.zeros(4, np.int64))


def read_too_few_labels(split: str, folder: Path) -> Examples:
    return Examples(np.zeros((4, 1, 2, 2), np.uint8), np.zeros(3, np.int64))


def read_wrong_label(split: str, folder: Path) -> Examples:
    return Examples(np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, 2, -1], np.int64))


TOY = Dataset("toy", "Toy", Images((1, 2, 2)), 2, (("train", 4),), read_toy, note="It is a toy.")


def test_the_catalogue():
    assert set(datasets()) >= {"digits", "photo-patches", "mnist", "fmnist", "cifar10", "gtsrb"}
    pairs = {name: task.neighbour for name, task in tasks().items()}
    assert pairs["digits"] == "photo-patches"
    assert (pairs["mnist"], pairs["fmnist"], pairs["cifar10"]) == ("fmnist", "mnist", "gtsrb")


@pytest.mark.parametrize("dataset", tuple(datasets().values()), ids=lambda dataset: dataset.name)
def test_every_built_in_data_set_is_complete(dataset):
    assert len({dataset, dataset}) == 1
    assert hash(dataset) == hash(replace(dataset))
    assert dataset.title and dataset.source and dataset.license
    assert "test" in dataset.splits
    images = isinstance(dataset.space, Images)
    assert len(dataset.mean) == len(dataset.std) == (dataset.shape[0] if images else 0)
    for download in dataset.files:
        algorithm, _, digits = download.known_hash.partition(":")
        assert algorithm == "sha256"
        assert len(digits) == 64
        assert all(url.endswith(Path(download.path).name) for url in download.urls)
        assert all(len(known) == 64 for _, known in download.contents)


def test_sizes_and_unknown_splits():
    assert datasets()["mnist"].size("train") == 60_000
    assert datasets()["gtsrb"].size("test") == 12_630
    with pytest.raises(UserError, match=r"no such split .*got 'train'; allowed: test.*trigger sets"):
        datasets()["gtsrb"].size("train")
    with pytest.raises(UserError, match=r"got 'valid'; allowed: train\. It is a toy"):
        load(TOY, "valid")


def test_a_mean_per_channel():
    with pytest.raises(UserError, match=r"toy.mean.*got \(0.5, 0.5\); allowed: 1 values"):
        replace(TOY, mean=(0.5, 0.5))


def test_finding_by_name():
    assert find_dataset("mnist") is datasets()["mnist"]
    with pytest.raises(UserError, match="Did you mean 'mnist'"):
        find_dataset("mnits")


def test_plugins_add_data_sets(monkeypatch):
    known = dict(datasets())
    monkeypatch.setattr(catalog, "datasets", lambda: known)
    register(TOY)
    register(replace(TOY))
    assert find_dataset("toy") == TOY
    with pytest.raises(UserError, match="two data sets have the same name"):
        register(replace(TOY, classes=3))
    with pytest.raises(UserError, match="two data sets have the same name"):
        register(replace(TOY, name="mnist"))
    assert find_dataset("toy").classes == 2


def test_loading_twice_reads_once_and_gives_read_only_arrays(tmp_path):
    CALLS.clear()
    first = load(TOY, "train", tmp_path)
    second = load(TOY, "train", str(tmp_path))
    assert first.x is second.x
    assert CALLS == ["train"]
    for values in first:
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1
    read(TOY, "train", tmp_path)
    assert CALLS == ["train", "train"]


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (read_wrong_type, r"inputs of another type or shape .*got 'float32 \(4, 1, 2, 2\)'; allowed: uint8"),
        (read_wrong_count, r"inputs of another type or shape .*got 'uint8 \(3, 1, 2, 2\)'"),
        (read_too_few_labels, r"labels of another type or shape .*got 'int64 \(3,\)'; allowed: int64 \(4,\)"),
        (read_wrong_label, r"labels are out of range .*got \(-1, 2\); allowed: 0 to 1"),
    ],
)
def test_a_reader_must_keep_its_word(reader, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        load(replace(TOY, read=reader), "train", tmp_path)
    assert "train split" in str(caught.value)


def test_which_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("GUARDCLASH_DATA", str(tmp_path / "environment"))
    assert data_folder(tmp_path / "given") == tmp_path / "given"
    assert data_folder(str(tmp_path / "a" / ".." / "b")) == tmp_path / "b"
    assert data_folder() == tmp_path / "environment"
    monkeypatch.setenv("GUARDCLASH_DATA", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_folder().is_absolute()
    assert "guardclash" in str(data_folder())
    assert data_folder("~/data") == Path("~/data").expanduser()


def test_the_package_needs_no_torch_and_starts_fast():
    code = (
        "import sys; import guardclash.data.download, guardclash.data.check; "
        "print([name for name in ('torch', 'sklearn', 'PIL', 'pooch', 'requests') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
