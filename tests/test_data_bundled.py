"""The two data sets that need no download."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from guardclash.data.bundled import read_digits, read_photo_patches
from guardclash.data.catalog import datasets
from guardclash.data.loading import load

NOWHERE = Path("nowhere")


def rows(x: np.ndarray) -> list[bytes]:
    return [image.tobytes() for image in x]


def test_digits_are_all_of_them_once():
    train, test = read_digits("train", NOWHERE), read_digits("test", NOWHERE)
    assert (train.x.shape, test.x.shape) == ((1297, 1, 8, 8), (500, 1, 8, 8))
    bunch = load_digits()
    original = np.rint(bunch.images * 255 / 16).astype(np.uint8)
    labelled = sorted(zip(rows(original), bunch.target.tolist(), strict=True))
    both = zip(rows(train.x) + rows(test.x), train.y.tolist() + test.y.tolist(), strict=True)
    assert sorted(both) == labelled
    assert (train.x.min(), train.x.max()) == (0, 255)


def test_digits_are_stratified():
    counts = np.bincount(load_digits().target)
    test = np.bincount(read_digits("test", NOWHERE).y)
    assert np.abs(test - counts * 500 / 1797).max() < 1


def test_the_first_digits_are_a_fair_sample():
    """Studies may take the first n images of a split, so its order must not be by class."""
    assert np.bincount(read_digits("train", NOWHERE).y[:200], minlength=10).min() >= 10


def test_the_split_of_the_digits_never_changes():
    """Figures of published studies depend on it."""
    digest = hashlib.sha256()
    for split in ("train", "test"):
        x, y = read_digits(split, NOWHERE)
        digest.update(x.tobytes() + y.astype("<i8").tobytes())
    assert digest.hexdigest() == "4aed3d60df0f274960c988567bcf06ebf453eae8eaad208da574d273ae8719e4"


def test_patches_are_disjoint_textured_and_balanced():
    train, test = read_photo_patches("train", NOWHERE), read_photo_patches("test", NOWHERE)
    assert (train.x.shape, test.x.shape) == ((1800, 1, 8, 8), (600, 1, 8, 8))
    assert np.bincount(train.y).tolist() == [900, 900]
    assert np.bincount(test.y).tolist() == [300, 300]
    assert not set(rows(train.x)) & set(rows(test.x))
    assert len(set(rows(train.x))) == 1800
    assert min(train.x.std(axis=(1, 2, 3)).min(), test.x.std(axis=(1, 2, 3)).min()) > 3
    assert 20 < np.bincount(train.y[:100], minlength=2).min()


@pytest.mark.parametrize("read", [read_digits, read_photo_patches])
def test_reading_again_gives_the_same(read):
    first, second = read("test", NOWHERE), read("test", NOWHERE)
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.y, second.y)


def test_the_readers_do_not_touch_the_global_random_state():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    read_digits("test", NOWHERE)
    read_photo_patches("test", NOWHERE)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("name", ["digits", "photo-patches"])
def test_no_folder_is_needed(name, tmp_path):
    for split in datasets()[name].splits:
        assert len(load(datasets()[name], split, tmp_path / "missing").y) == datasets()[name].size(split)
