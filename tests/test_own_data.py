"""Data of somebody's own: arrays, folders, functions and what Python holds become data sets named by their content."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from guardclash.code import code_from
from guardclash.data.own import keeping
from guardclash.data.own.arrays import from_arrays
from guardclash.data.own.brought import facts_from
from guardclash.data.own.keeping import cache_folder, dataset_of
from guardclash.data.own.memory import pair
from guardclash.data.own.origins import ArrayFile, Function, ImageFolder, Memory, Origin
from guardclash.data.space import Images, Rows, Tokens
from guardclash.errors import UserError

RNG = np.random.default_rng(0)


def images(count: int = 40, shape: tuple[int, ...] = (3, 6, 5), classes: int = 4) -> dict[str, Any]:
    return {
        "x_train": RNG.integers(0, 256, (count, *shape)).astype(np.uint8),
        "y_train": np.arange(count) % classes,
        "x_test": RNG.integers(0, 256, (12, *shape)).astype(np.uint8),
        "y_test": np.arange(12) % classes,
    }


# What arrays are


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_images_of_any_number_of_channels(channels: int):
    found = from_arrays(images(shape=(channels, 6, 5)), "here")
    assert found.space == Images((channels, 6, 5)) and found.classes == 4
    assert {split: len(one.x) for split, one in found.splits.items()} == {"train": 40, "test": 12}


def test_fractions_of_255_are_the_same_pictures_as_bytes():
    whole = images()
    same = {name: (x / 255 if name.startswith("x") else x) for name, x in whole.items()}
    assert from_arrays(same, "here").facts().digest == from_arrays(whole, "here").facts().digest
    other = {name: (np.sqrt(x / 255) if name.startswith("x") else x) for name, x in whole.items()}
    found = from_arrays(other, "here")
    assert found.space == Images((3, 6, 5), floats=True) and found.splits["train"].x.dtype == np.float32


def test_rows_are_scaled_by_their_training_part():
    x, xt = RNG.normal(3, 5, (50, 4)), RNG.normal(3, 5, (20, 4))
    x[:, 3] = xt[:, 3] = 7  # never changes
    arrays = {"x_train": x, "y_train": np.arange(50) % 2, "x_test": xt, "y_test": np.arange(20) % 2}
    found = from_arrays(arrays, "here")
    assert isinstance(found.space, Rows) and "50 training rows" in found.notes[0]
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x)
    np.testing.assert_allclose(found.splits["train"].x, scaler.transform(x), atol=1e-5)
    np.testing.assert_allclose(found.splits["test"].x, scaler.transform(xt), atol=1e-5)


def test_masked_tokens_are_padding():
    x = RNG.integers(0, 9, (20, 6))
    mask = np.arange(6) < RNG.integers(2, 7, (20, 1))
    arrays = {"x_train": x, "y_train": np.arange(20) % 2, "mask_train": mask}
    found = from_arrays(arrays, "here")
    assert found.space == Tokens(6, 10, padding=9)
    for one in found.splits.values():
        assert ((one.x == 9).sum(1) < 5).all()
    zero = np.where(mask, x + 1, 0)
    assert from_arrays({**arrays, "x_train": zero}, "here").space == Tokens(6, 10, padding=0)  # as it was already
    assert from_arrays({"x_train": x, "y_train": np.arange(20) % 2}, "here", 100).space == Tokens(6, 100)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(30, 90), st.integers(0, 2**32 - 1))
def test_without_test_examples_every_class_is_split_alike(classes: int, count: int, seed: int):
    y = np.random.default_rng(seed).permutation(np.arange(count) % classes)
    x = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    arrays = {"x_train": x, "y_train": y}
    found, again = from_arrays(arrays, "here"), from_arrays(arrays, "here")
    train, test = found.splits["train"], found.splits["test"]
    assert sorted([*train.x[:, 0, 0, 0], *test.x[:, 0, 0, 0]]) == list(range(count))  # each once
    assert np.ptp(np.bincount(test.y, minlength=classes) / np.bincount(y)) < 0.2
    assert found.facts() == again.facts() and any("No test examples" in note for note in found.notes)


def test_vectors_are_classes_or_several_labels():
    hot = np.eye(4)[np.arange(40) % 4]
    found = from_arrays({**images(), "y_train": hot, "y_test": np.eye(4)[np.arange(12) % 4]}, "here")
    assert not found.several_labels and found.splits["train"].y.tolist() == (np.arange(40) % 4).tolist()
    many = np.ones((40, 4)) - hot
    found = from_arrays({**images(), "y_train": many, "y_test": np.ones((12, 4))}, "here")
    assert found.several_labels and found.classes == 4 and found.splits["train"].y.dtype == np.float32


def test_groups_are_numbers_by_their_names_in_order():
    groups = np.array(["f", "m"])[np.arange(40) % 2]
    found = from_arrays({**images(), "group_train": groups, "group_test": groups[:12]}, "here")
    assert found.splits["train"].about["group"].tolist() == [0, 1] * 20
    assert "Groups: f, m." in found.notes


def test_what_is_known_of_data_survives_being_written():
    for arrays in (images(), {"x_train": RNG.normal(size=(20, 3)), "y_train": np.arange(20) % 2}):
        facts = from_arrays(arrays, "here").facts()
        import json

        again = facts_from(json.loads(json.dumps(facts.to_dict())))
        assert again == facts and again.digest == facts.digest


# Wrong arrays

X, Y = images()["x_train"], images()["y_train"]
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no inputs": ({"x_train": None}, "there is no array x_train"),
    "no labels": ({"y_train": None}, "there is no array y_train"),
    "unknown name": ({"x_trian": X}, "unknown name 'x_trian'"),
    "labels of the test missing": ({"y_test": None}, "no array y_test"),
    "inputs of the test missing": ({"x_test": None}, "no array x_test"),
    "lengths": ({"y_train": Y[:-1]}, "different lengths"),
    "empty": ({"x_train": X[:0], "y_train": Y[:0]}, "x_train is empty"),
    "another shape": ({"x_test": np.zeros((12, 3, 5, 6), np.uint8)}, "inputs of another shape"),
    "another type": ({"x_test": np.zeros((12, 3, 6, 5))}, "of another type"),
    "channels last": ({"x_train": X.transpose(0, 2, 3, 1), "x_test": None, "y_test": None}, "transpose(0, 3, 1, 2)"),
    "too large": (
        {"x_train": np.zeros((8, 1, 225, 10), np.uint8), "y_train": Y[:8], "x_test": None, "y_test": None},
        "224",
    ),
    "pixels to 255": ({"x_train": X.astype(float), "x_test": X[:12].astype(float)}, "Divide by 255"),
    "pixels of integers": ({"x_train": X.astype(np.int64), "x_test": X[:12].astype(np.int64)}, "astype(np.uint8)"),
    "NaN": ({"x_train": np.full(X.shape, np.nan), "x_test": np.zeros((12, 3, 6, 5))}, "NaN or infinity"),
    "one axis": ({"x_train": np.arange(40.0), "x_test": np.arange(12.0)}, "of no known kind"),
    "labels from 1": ({"y_train": Y + 1, "y_test": Y[:12] + 1}, "labels begin at 0"),
    "a gap": ({"y_train": Y * 2}, "a class has no training example"),
    "one class": ({"y_train": Y * 0, "y_test": Y[:12] * 0}, "all examples have one label"),
    "floats": ({"y_train": Y.astype(float)}, "astype(np.int64)"),
    "texts": ({"y_train": Y.astype(str)}, "numbers them"),
    "a label of the test": ({"y_test": np.arange(12) % 5}, "no training example has"),
    "a class without test": ({"y_test": np.arange(12) % 3}, "classes without a test example"),
    "vectors of others": ({"y_train": np.eye(4)[Y] * 2, "y_test": np.eye(4)[Y[:12]]}, "other numbers than 0 and 1"),
    "groups of the test missing": ({"group_train": Y}, "no array group_test"),
    "others of another shape": ({"x_ood": np.zeros((9, 3, 5, 5), np.uint8)}, "another shape"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_array_is_told_in_a_line(kind: str):
    change, said = WRONG[kind]
    arrays = {name: values for name, values in {**images(), **change}.items() if values is not None}
    with pytest.raises(UserError) as error:
        from_arrays(arrays, "signs.npz")
    assert said in str(error.value) and "signs.npz" in str(error.value) and "\n" not in str(error.value)


def test_tokens_below_zero_and_outside_the_vocabulary_are_told():
    arrays = {"x_train": RNG.integers(0, 9, (20, 6)), "y_train": np.arange(20) % 2}
    with pytest.raises(UserError, match="outside the vocabulary"):
        from_arrays(arrays, "here", vocabulary=3)
    with pytest.raises(UserError, match="below 0"):
        from_arrays({**arrays, "x_train": arrays["x_train"] - 1}, "here")


# Files


def test_files_that_hold_no_arrays_are_told(tmp_path: Path):
    path = tmp_path / "x.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="file of arrays, or a damaged one"):
        ArrayFile(path).read()
    np.savez(path, x_train=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="objects are pickles"):
        ArrayFile(path).read()


def picture(path: Path, colour: int, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour if mode == "L" else (colour, 0, 255 - colour)).save(path)


def test_a_folder_of_images_is_read_with_its_classes_in_order(tmp_path: Path):
    for split, count in (("train", 4), ("test", 2)):
        for number in range(count):
            picture(tmp_path / split / "cats" / f"{number}.png", 10 * number)
            picture(tmp_path / split / "dogs" / f"{number}.png", 200 + number)
    found = ImageFolder(tmp_path).read()
    assert found.space == Images((3, 4, 6)) and found.names == ("cats", "dogs")
    assert found.splits["train"].y.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found.splits["train"].x[1, :, 0, 0].tolist() == [10, 0, 245]
    assert "12 images of 2 classes" in found.notes[0]
    assert ImageFolder(tmp_path, (2, 2)).read().space == Images((3, 2, 2))


def test_grey_images_have_one_channel_and_a_folder_without_a_test_is_split(tmp_path: Path):
    for number in range(10):
        picture(tmp_path / "a" / f"{number}.png", number, "L")
        picture(tmp_path / "b" / f"{number}.png", number, "L")
    found = ImageFolder(tmp_path).read()
    assert found.space == Images((1, 4, 6)) and len(found.splits["test"].x) == 4


BAD_FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda path: None, "no classes in a folder"),
    "files only": (lambda path: picture(path / "a.png", 0), "no classes in a folder"),
    "an empty class": (lambda path: (path / "a").mkdir() or picture(path / "b" / "0.png", 0), "a class without images"),
    "sizes": (
        lambda path: [picture(path / one / "0.png", 0, size=(len(one), 2)) for one in ("a", "bb")],
        "different sizes",
    ),
    "no image": (
        lambda path: [picture(path / one / "0.png", 0) for one in "ab"] and (path / "a" / "1.png").write_bytes(b"no"),
        "an image cannot be read",
    ),
    "a class of the test": (
        lambda path: (
            [picture(path / "train" / one / "0.png", 0) for one in "ab"]
            + [picture(path / "test" / one / "0.png", 0) for one in "bc"]
        ),
        "a class without training images",
    ),
}


@pytest.mark.parametrize("kind", BAD_FOLDERS)
def test_a_bad_folder_is_told_with_its_place(kind: str, tmp_path: Path):
    make, said = BAD_FOLDERS[kind]
    make(tmp_path)
    with pytest.raises(UserError, match=said) as error:
        ImageFolder(tmp_path).read()
    assert str(tmp_path) in str(error.value)


# Known by their content


def test_a_data_set_is_named_by_what_is_in_it(tmp_path: Path):
    arrays = images()
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    names = {dataset_of("own", ArrayFile(tmp_path / name)).name for name in ("a.npz", "b.npz")}
    names.add(dataset_of("own", Memory(arrays, "here")).name)
    assert len(names) == 1
    for name, values in arrays.items():  # any number counts
        other = {**arrays, name: np.roll(values, 1, axis=0)}
        assert dataset_of("own", Memory(other, "here")).name not in names


def test_decoding_is_kept_once_and_forgotten_where_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GUARDCLASH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    for number in range(6):
        for name in "ab":
            picture(folder / name / f"{number}.png", number)
    reads = []
    read = ImageFolder.read
    monkeypatch.setattr(ImageFolder, "read", lambda self: reads.append(self) or read(self))
    first = dataset_of("own", ImageFolder(folder))
    keeping._splits.cache_clear()
    again = dataset_of("own", ImageFolder(folder))
    assert again == first and len(reads) == 1
    x, y = again.read("train", tmp_path)
    assert len(x) == len(y) == again.size("train") and len(reads) == 1  # from the cache
    picture(folder / "a" / "0.png", 99)
    assert dataset_of("own", ImageFolder(folder)).name != first.name and len(reads) == 2


def test_a_damaged_cache_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GUARDCLASH_CACHE", str(tmp_path))
    made = dataset_of("own", Memory(images(), "here"))
    for path in cache_folder().rglob("train.x.npy"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    keeping._splits.cache_clear()
    assert len(made.read("train", tmp_path).x) == 40  # from memory
    again = keeping.Kept(made.read.digest, keeping.Gone())  # type: ignore[attr-defined]
    keeping._splits.cache_clear()
    with pytest.raises(UserError, match="no longer in the cache"):
        again("train", tmp_path)


def test_a_cache_that_cannot_be_written_to_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("GUARDCLASH_CACHE", str(tmp_path / "file"))
    np.savez(tmp_path / "a.npz", **images())
    assert dataset_of("own", ArrayFile(tmp_path / "a.npz")).classes == 4


# What Python holds


class Pairs:
    """A map-style data set."""

    def __init__(self, count: int, label: Any = int):
        self.count, self.label = count, label

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[torch.Tensor, Any]:
        return torch.full((3, 4, 4), number / 100), self.label(number % 3)


def test_a_map_style_data_set_is_read_once():
    x, y = pair(Pairs(9), "here")
    assert x.shape == (9, 3, 4, 4) and x.dtype == np.float32 and y.tolist() == [0, 1, 2] * 3


def test_a_data_set_beyond_memory_is_refused_before_it_is_read():
    class Huge(Pairs):
        def __getitem__(self, number: int) -> tuple[Any, int]:
            assert number == 0
            return np.zeros((3, 224, 224), np.float32), 0

    with pytest.raises(UserError, match="4 GiB"):
        pair(Huge(10_000), "here")


@pytest.mark.parametrize("given", [3, "data", {"x": 1}, [1, 2, 3], Pairs(0), None])
def test_what_are_no_examples_is_told(given: Any):
    with pytest.raises(UserError):
        pair(given, "here")


def test_a_function_may_give_arrays_pairs_or_data_sets(tmp_path: Path):
    (tmp_path / "load.py").write_text(
        "import numpy as np\n"
        "x, y = np.zeros((8, 1, 2, 2), np.uint8), np.arange(8) % 2\n"
        "def named(): return {'x_train': x, 'y_train': y}\n"
        "def pairs(): return (x, y), (x, y)\n"
        "def broken(): return 1 / 0\n"
        "def demanding(folder): return x, y\n"
    )

    def origin(name: str) -> Origin:
        return Function(code_from(f"load.py:{name}", tmp_path))

    assert dict(origin("named").read().facts().sizes) == {"train": 6, "test": 2}
    assert dict(origin("pairs").read().facts().sizes) == {"train": 8, "test": 8}
    with pytest.raises(UserError, match=r"ZeroDivisionError.*load\.py, line 5"):
        origin("broken").read()
    with pytest.raises(UserError, match=r"needs further arguments.*folder"):
        origin("demanding").read()


def test_a_function_is_called_once_by_each_process(tmp_path: Path):
    (tmp_path / "counted.py").write_text(
        "import numpy as np\ncalls = []\n"
        "def load():\n    calls.append(1)\n    return np.zeros((8, 1, 2, 2), np.uint8), np.arange(8) % 2\n"
    )
    code = code_from("counted.py:load", tmp_path)
    names = {dataset_of(name, Function(code)).label for name in ("one", "two", "three")}
    assert names == {"one", "two", "three"}
    assert len(code_from("counted.py:load", tmp_path).call({})) == 2
    module = next(one for name, one in sys.modules.items() if name.endswith("_counted"))
    assert len(module.calls) == 2  # of which one was the last line but two


def test_groups_of_a_file_may_have_another_name(tmp_path: Path):
    groups = np.arange(40) % 3
    np.savez(tmp_path / "a.npz", **images(), sex_train=groups, sex_test=groups[:12])
    assert ArrayFile(tmp_path / "a.npz", groups="sex").read().splits["train"].about["group"].tolist() == groups.tolist()
    with pytest.raises(UserError, match="no array race_train"):
        ArrayFile(tmp_path / "a.npz", groups="race").read()
