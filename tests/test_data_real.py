"""The real files, where GUARDCLASH_DATA points at a folder that has them."""

from __future__ import annotations

import os

import numpy as np
import pytest

from guardclash.data.catalog import datasets
from guardclash.data.check import check
from guardclash.data.contents import OFFICIAL, content
from guardclash.data.loading import data_folder, load

PRESENT = {
    "mnist": "MNIST/raw",
    "fmnist": "FashionMNIST/raw",
    "cifar10": "cifar-10-batches-bin",
    "gtsrb": "gtsrb",
    "adult": "adult",
}


def needs(name: str) -> None:
    if not os.environ.get("GUARDCLASH_DATA") or not (data_folder() / PRESENT[name]).exists():
        pytest.skip(f"GUARDCLASH_DATA does not point at a folder with {PRESENT[name]}")


@pytest.mark.parametrize(
    ("name", "split", "first"),
    [
        ("mnist", "train", [5, 0, 4, 1, 9]),
        ("mnist", "test", [7, 2, 1, 0, 4]),
        ("fmnist", "train", [9, 0, 0, 3, 0]),
        ("fmnist", "test", [9, 2, 1, 1, 6]),
        ("gtsrb", "test", [16, 1, 38, 33, 11]),
        ("adult", "train", [0, 0, 0, 0, 0]),
        ("adult", "test", [0, 0, 1, 1, 0]),
    ],
)
def test_the_first_labels(name, split, first):
    needs(name)
    x, y = load(datasets()[name], split)
    assert y[:5].tolist() == first
    assert x.shape == (datasets()[name].size(split), *datasets()[name].shape)


def test_the_classes_of_cifar10_are_balanced():
    needs("cifar10")
    for split, count in (("train", 5000), ("test", 1000)):
        assert np.bincount(load(datasets()["cifar10"], split).y).tolist() == [count] * 10


@pytest.mark.parametrize("name", ["mnist", "fmnist"])
def test_the_mean_pixel(name):
    """The means that are commonly used to normalise these data sets."""
    needs(name)
    expected = {"mnist": 0.1307, "fmnist": 0.2860}[name]
    assert load(datasets()[name], "train").x.mean() / 255 == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", PRESENT)
def test_the_check_passes(name):
    needs(name)
    findings = check(datasets()[name])
    assert all(finding.ok for finding in findings), findings
    if name in ("mnist", "fmnist"):
        assert sum("identical to the official file" in finding.detail for finding in findings) == 4


@pytest.mark.parametrize("name", ["mnist", "fmnist"])
def test_the_official_files_are_known_by_their_content(name):
    """So that keys of results on them need not name it."""
    needs(name)
    assert [content(datasets()[name], split) for split in ("train", "test")] == [OFFICIAL, OFFICIAL]
