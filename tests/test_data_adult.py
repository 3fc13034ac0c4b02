"""A damaged file of Adult is refused, whatever the damage: nothing of it becomes a number or a class by chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from guardclash.data.adult import AdultReader
from guardclash.data.sets.adult import ENCODING, RACE, SEX
from guardclash.errors import UserError

READ = AdultReader(ENCODING, (("train", 2), ("test", 2)), (("sex", SEX), ("race", RACE)))
ROWS = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 2174, 0, 40, "
    "United-States, <=50K",
    "28, ?, 338409, Masters, 14, Married-civ-spouse, ?, Wife, Black, Female, 0, 0, 40, Cuba, >50K",
)


def written(folder: Path, old: str = "", new: str = "") -> Path:
    """The folder, with both files in it, in which a text stands for another one."""
    (folder / "adult").mkdir(parents=True)
    train = "\n".join(ROWS) + "\n\n"
    test = "|1x3 Cross validator\n" + "\n".join(f"{row}." for row in ROWS) + "\n\n"
    for name, text in (("adult.data", train), ("adult.test", test)):
        assert old in text
        (folder / "adult" / name).write_text(text.replace(old, new, 1) if old else text, "latin-1")
    return folder


def test_both_files_hold_the_same(tmp_path: Path):
    train, test = (READ(split, written(tmp_path / split)) for split in ("train", "test"))
    np.testing.assert_array_equal(train.x, test.x)
    assert train.y.tolist() == test.y.tolist() == [0, 1]
    assert train.x.shape == (2, 107) and (train.x[:, 5:].sum(axis=1) == 8).all()
    assert {name: train.about[name].tolist() for name in train.about} == {
        "group": [1, 0],
        "sex": [1, 0],
        "race": [4, 2],
    }


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<=50K", "poor"),
        ("39,", "x,"),
        ("39,", "?,"),
        ("39,", "inf,"),
        ("39,", "39, 1,"),
        ("Cuba", "Atlantis"),
        ("Cuba", "C\xfcba"),
        (ROWS[1], ""),
    ],
)
def test_a_damaged_file_is_refused(split: str, old: str, new: str, tmp_path: Path):
    with pytest.raises(UserError) as error:
        READ(split, written(tmp_path, old, new))
    said = str(error.value)
    assert "adult." in said and "data fetch adult" in said and "categories = [" not in said
