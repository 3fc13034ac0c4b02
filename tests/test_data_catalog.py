"""The catalogue of data sets, and loading through it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guardclash.data import catalog
from guardclash.data.catalog import BUILT_IN, DATASETS, Dataset, find_dataset, register
from guardclash.data.images import Images
from guardclash.data.loading import data_folder, load, read
from guardclash.errors import UserError

CALLS: list[str] = []


def read_toy(split: str, folder: Path) -> Images:
    CALLS.append(split)
    return Images(np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, 1, 0], np.int64))


def read_wrong_type(split: str, folder: Path) -> Images:
    return Images(np.zeros((4, 1, 2, 2), np.float32), np.zeros(4, np.int64))


def read_wrong_count(split: str, folder: Path) -> Images:
    return Images(np.zeros((3, 1, 2, 2), np.uint8), np.zeros(4, np.int64))


def read_too_few_labels(split: str, folder: Path) -> Images:
    return Images(np.zeros((4, 1, 2, 2), np.uint8), np.zeros(3, np.int64))


def read_wrong_label(split: str, folder: Path) -> Images:
    return Images(np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, 2, -1], np.int64))


TOY = Dataset("toy", "Toy", (1, 2, 2), 2, (("train", 4),), (0.5,), (0.5,), read_toy, note="It is a toy.")


def test_the_catalogue():
    assert set(DATASETS) >= {"digits", "photo-patches", "mnist", "fmnist", "cifar10", "gtsrb"}
    pairs = {name: dataset.out_of_distribution for name, dataset in DATASETS.items()}
    assert pairs["digits"] == "photo-patches"
    assert (pairs["mnist"], pairs["fmnist"], pairs["cifar10"]) == ("fmnist", "mnist", "gtsrb")


@pytest.mark.parametrize("dataset", BUILT_IN, ids=lambda dataset: dataset.name)
def test_every_built_in_data_set_is_complete(dataset):
    assert len({dataset, dataset}) == 1
    assert hash(dataset) == hash(replace(dataset))
    assert dataset.title and dataset.source and dataset.license
    assert "test" in dataset.splits
    assert len(dataset.mean) == len(dataset.std) == dataset.shape[0]
    if dataset.out_of_distribution:
        assert DATASETS[dataset.out_of_distribution].shape == dataset.shape
    for download in dataset.files:
        algorithm, _, digits = download.known_hash.partition(":")
        assert algorithm == "sha256"
        assert len(digits) == 64
        assert all(url.endswith(Path(download.path).name) for url in download.urls)
        assert all(len(known) == 64 for _, known in download.contents)


def test_sizes_and_unknown_splits():
    assert DATASETS["mnist"].size("train") == 60_000
    assert DATASETS["gtsrb"].size("test") == 12_630
    with pytest.raises(UserError, match=r"no such split .*got 'train'; allowed: test.*trigger sets"):
        DATASETS["gtsrb"].size("train")
    with pytest.raises(UserError, match=r"got 'valid'; allowed: train\. It is a toy"):
        load(TOY, "valid")


def test_a_mean_per_channel():
    with pytest.raises(UserError, match=r"toy.mean.*got \(0.5, 0.5\); allowed: 1 values"):
        replace(TOY, mean=(0.5, 0.5))


def test_finding_by_name():
    assert find_dataset("mnist") is DATASETS["mnist"]
    with pytest.raises(UserError, match="Did you mean 'mnist'"):
        find_dataset("mnits")


def test_plugins_add_data_sets(monkeypatch):
    monkeypatch.setattr(catalog, "DATASETS", dict(DATASETS))
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
        (read_wrong_type, r"images of another type or shape .*got 'float32 \(4, 1, 2, 2\)'; allowed: uint8"),
        (read_wrong_count, r"images of another type or shape .*got 'uint8 \(3, 1, 2, 2\)'"),
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
