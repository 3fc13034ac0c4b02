"""Tables: numbers are scaled and categories become columns as the training rows say, and what is wrong is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import guardclash as product
from guardclash.data.adult import COLUMNS
from guardclash.data.catalog import find_dataset
from guardclash.data.loading import data_folder, load
from guardclash.data.own.keeping import dataset_of
from guardclash.data.own.origins import TableFile
from guardclash.data.own.rows import from_table
from guardclash.data.space import Rows
from guardclash.data.table import encoding_of
from guardclash.data.table_files import read_columns
from guardclash.errors import UserError
from guardclash.measures.robustness import Robustness
from guardclash.training.trained import Trained, predictor
from own import NETS
from test_cli import Guardclash, guardclash  # noqa: F401  (a fixture)

RNG = np.random.default_rng(0)


def people(count: int = 120) -> pd.DataFrame:
    """Rows of people, some with values missing."""
    work = RNG.choice(["private", "public", "?"], count)
    age = RNG.integers(17, 90, count)
    income = np.where(age + 10 * (work == "public") + RNG.normal(0, 10, count) > 50, ">50K", "<=50K")
    sex, area = RNG.choice(["f", "m"], count), RNG.integers(1, 4, count)
    return pd.DataFrame({"age": age, "work": work, "sex": sex, "zip": area, "income": income})


def read(table: pd.DataFrame, path: Path) -> Any:
    table.to_csv(path, index=False)
    return read_columns(path)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(10, 60), st.integers(1, 4), st.integers(0, 3))
def test_rows_are_encoded_as_scikit_learn_does(seed: int, count: int, numbers: int, categories: int):
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(seed)
    values = rng.normal(rng.normal(0, 100), 10, (count, numbers)).round(3)
    kinds = rng.choice(["a", "b", "c", ""], (count, categories))
    columns = {f"n{place}": values[:, place].astype(str) for place in range(numbers)}
    columns |= {f"c{place}": kinds[:, place] for place in range(categories)}
    train = {name: column[: count // 2] for name, column in columns.items()}
    found = encoding_of(train, (), "here")
    assert len(found.numbers) == numbers
    x = found.encode(columns, "here")
    half = slice(count // 2)
    expected = [StandardScaler().fit(values[half]).transform(values)]
    if categories:
        expected.append(OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(kinds[half]).transform(kinds))
    np.testing.assert_allclose(x, np.concatenate(expected, 1), atol=1e-4)
    assert found.space.numbers == numbers and len(found.space.columns) == x.shape[1]


def test_a_table_is_a_data_set_with_its_groups_and_says_what_was_done(tmp_path: Path):
    table = people()
    columns = read(table, tmp_path / "people.csv")
    found = from_table(columns, None, "income", "sex", ("zip",), "people.csv")
    assert isinstance(found.space, Rows) and found.space.columns[0] == "age" and found.space.numbers == 1
    assert dict(found.space.categories) == {"work": 3, "sex": 2, "zip": 3} and found.names == ("<=50K", ">50K")
    assert sorted(one.about["group"].max() for one in found.splits.values()) == [1, 1]
    said = " ".join(found.notes)
    for words in ("96 training rows", "3 categories as 8 columns", "Groups by 'sex'", "set apart", "'income' is told"):
        assert words in said, said


def test_missing_numbers_and_unknown_values_are_said(tmp_path: Path):
    train, test = people(), people(60)
    train["age"] = train["age"].astype(object)
    train.loc[3, "age"] = ""
    test.loc[:4, "work"] = "abroad"
    found = from_table(read(train, tmp_path / "a.csv"), read(test, tmp_path / "b.csv"), "income", None, (), "a.csv")
    said = " ".join(found.notes)
    assert "1 missing values of age became the training mean" in said and "5 test rows have a value" in said
    assert found.splits["train"].x[3, 0] == pytest.approx(0, abs=1e-6)
    assert (found.splits["test"].x[:5, found.space.columns.index("work=?") :][:, :3] == 0).all()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_forms_of_files_hold_the_same(suffix: str, tmp_path: Path):
    table = people()
    path = tmp_path / f"people{suffix}"
    (table.to_csv if suffix == ".csv" else table.to_parquet)(path, index=False)
    assert dataset_of("people", TableFile(path, "income")).name == dataset_of("people", TableFile(path, "income")).name
    table.to_csv(tmp_path / "semicolon.csv", index=False, sep=";", encoding="utf-8-sig")
    same = dataset_of("people", TableFile(tmp_path / "semicolon.csv", "income"))
    assert same.name == dataset_of("people", TableFile(path, "income")).name


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "nothing": ("", {}, "an empty table"),
    "no rows": ("a,b\n", {"target": "b"}, "without rows"),
    "ragged": ("a,b\n1,2\n\n\n1\n", {"target": "b"}, "line 5"),
    "no name": (",b\n1,x\n2,y\n", {"target": "b"}, "a column without a name"),
    "one class twice": ("a,b\n1,1\n2,1.0\n3,0\n", {"target": "b"}, "written in two ways"),
    "two names": ("a,a\n1,2\n", {"target": "a"}, "one name"),
    "no target": ("age,income\n1,x\n2,y\n", {"target": "incom"}, "Did you mean 'income'"),
    "one class": ("a,b\n1,x\n2,x\n", {"target": "b"}, "all rows have one value"),
    "a row without a target": ("a,b\n1,x\n2,\n", {"target": "b"}, "row 3"),
    "nothing else": ("b\nx\ny\n", {"target": "b"}, "without columns"),
    "no such category": ("a,b\n1,x\n2,y\n", {"target": "b", "categories": ("c",)}, "no column 'c'"),
    "no such group": ("a,b\n" + "1,x\n2,y\n" * 6, {"target": "b", "group": "sex"}, "no column 'sex'"),
    "numbers that are too large": ("a,b\n" + "1e300,x\n-1e300,y\n" * 9, {"target": "b"}, "cannot be scaled"),
    "names of rows": ("a,b\n" + "".join(f"n{i},{i % 2}\n" for i in range(2_000)), {"target": "b"}, "too many values"),
    "a target of numbers": ("a,b\n" + "".join(f"1,{i}\n" for i in range(2_000)), {"target": "b"}, "too many values"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_table_is_told_in_a_line(kind: str, tmp_path: Path):
    text, options, said = BAD[kind]
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        TableFile(path, **{"target": "b", **options}).read()
    assert said in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_test_row_that_is_no_number_is_told(tmp_path: Path):
    (tmp_path / "a.csv").write_text("a,b\n1,x\n2,y\n3,x\n")
    (tmp_path / "b.csv").write_text("a,b\n1,x\nold,y\n")
    with pytest.raises(UserError, match=r"'a' is no number.*test, row 3"):
        TableFile(tmp_path / "a.csv", "b", test=tmp_path / "b.csv").read()


@pytest.mark.parametrize("value", ["0.1", "1e300", "-3", "7.3"])
def test_a_column_that_never_changes_in_training_keeps_its_scale_and_is_said(value: str):
    train = {"a": np.array([value] * 29 + ["?"]), "c": np.array(["1", "2"] * 15), "b": np.array(["x", "y"] * 15)}
    test = {"a": np.array([value, repr(float(value) + 0.5)]), "c": np.array(["1", "2"]), "b": np.array(["x", "y"])}
    found = from_table(train, test, "b", None, (), "here")
    assert (found.splits["train"].x[:, 0] == 0).all()
    expected = [0, float(value) + 0.5 - float(value)]
    np.testing.assert_allclose(found.splits["test"].x[:, 0], expected, rtol=1e-6)
    assert "All training rows have one value of a," in " ".join(found.notes)


def test_a_number_that_no_float_holds_is_told():
    train = {"a": np.array(["1", "2"] * 9), "b": np.array(["x", "y"] * 9)}
    test = {"a": np.array(["1", "1e300"]), "b": np.array(["x", "y"])}
    with pytest.raises(UserError, match=r"'a' is too far.*test, row 3"):
        from_table(train, test, "b", None, (), "here")


@given(st.integers(0, 39))
def test_a_single_odd_value_is_told_with_its_row_wherever_it_stands(place: int):
    """In the training or the test part alike: nobody sees where rows are set apart."""
    values = [str(row) for row in range(40)]
    values[place] = "old"
    columns = {"a": np.array(values), "b": np.array(["x", "y"] * 20)}
    with pytest.raises(UserError, match=rf"1 of 40 values are none \(in here, row {place + 2}\): got 'old'"):
        from_table(columns, None, "b", None, (), "here")
    assert from_table(columns, None, "b", None, ("a",), "here").space.numbers == 0  # type: ignore[union-attr]


def test_what_only_test_rows_have_is_left_out_and_said():
    train = {"a": np.array(["1", "2"] * 9), "b": np.array(["x", "y"] * 9)}
    found = from_table(train, {"z": np.array(["1", "2"]), **{k: v[:2] for k, v in train.items()}}, "b", None, (), "h")
    assert found.space.columns == ("a",)  # type: ignore[union-attr]
    assert "only test rows have it: z." in " ".join(found.notes)


def test_a_study_on_a_table_from_file_to_report(guardclash: Guardclash, tmp_path: Path):  # noqa: F811
    people(200).to_csv(tmp_path / "people.csv", index=False)
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "study.toml").write_text(
        """
replicates = { alone = 1, together = 1 }
[[tasks]]
name = "people"
data = "people.csv"
target = "income"
groups = "sex"
utility = "balanced_accuracy"
training = { epochs = 1 }
[[recipes]]
dataset = "people"
[[combinations]]
mechanisms = [{ name = "wm", triggers = 20 }, { name = "advtr", steps = 2 }, "dpsgd"]
"""
    )
    for command in ("check", "run"):
        said = guardclash(command, "study.toml")
        assert said.code == 0, said.err
    assert "3 categories" in said.out or "2 categories" in said.out
    assert "made-up rows" in said.out and "φ_BACC" in said.out


# Adult


@pytest.fixture
def adult() -> Path:
    folder = data_folder() / "adult"
    if not (folder / "adult.data").is_file():
        pytest.skip("the files of Adult are not here")
    return folder


def test_adult_is_read_as_pandas_reads_it(adult: Path):
    dataset = find_dataset("adult")
    for split, name, skipped in (("train", "adult.data", 0), ("test", "adult.test", 1)):
        table = pd.read_csv(adult / name, names=COLUMNS, skipinitialspace=True, skiprows=skipped)
        found = load(dataset, split)
        assert len(table) == len(found.x) == dataset.size(split)
        assert (found.y == table["income"].str.startswith(">50K")).all()
        assert (found.about["group"] == (table["sex"] == "Male")).all()
        for place, one in enumerate(dataset.read.encoding.numbers):  # type: ignore[attr-defined]
            values = found.x[:, place] * one.deviation + one.mean
            np.testing.assert_allclose(values, table[one.name], rtol=1e-4, atol=0.05)
        for column, values in zip(dataset.space.columns[5:], found.x[:, 5:].T, strict=True):  # type: ignore[attr-defined]
            name, _, value = column.partition("=")
            assert (values == (table[name] == value)).all()


def test_the_constants_of_adult_are_those_of_its_training_rows(adult: Path):
    dataset = find_dataset("adult")
    table = pd.read_csv(adult / "adult.data", names=COLUMNS, skipinitialspace=True, dtype=str)
    columns = {name: table[name].to_numpy(np.str_) for name in COLUMNS if name not in ("fnlwgt", "income")}
    found = encoding_of(columns, (), "adult")
    assert found.space == dataset.space
    for ours, theirs in zip(dataset.read.encoding.numbers, found.numbers, strict=True):  # type: ignore[attr-defined]
        assert (ours.mean, ours.deviation) == pytest.approx((theirs.mean, theirs.deviation), rel=1e-8)


def test_adult_learns(adult: Path):
    recipe = product.recipe("adult", "smoke", epochs=10)
    context = product.RunContext(0, data_folder())
    trained = product.train(recipe.plan(), context)
    assert product.accuracy(trained.predict, *context.data(recipe.test())) > 0.78


class ReadsCategories(nn.Module):
    """Tells the class by the category alone, the last two columns."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(9.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x[:, -2:]


def test_an_attack_is_not_doubted_because_categories_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever reads them alone withstands any change of the numbers: that is no sign of a failing attack."""
    monkeypatch.chdir(tmp_path)
    kind = np.arange(80) % 2
    pd.DataFrame({"age": RNG.normal(size=80), "kind": np.array(["a", "b"])[kind], "y": kind}).to_csv(
        "t.csv", index=False
    )
    task = product.Task("kinds", data="t.csv", target="y", model=ReadsCategories)
    network = ReadsCategories()
    trained = Trained(task.recipes[0].plan(), 0, network, predictor(network))
    found = Robustness(steps=3).measure(trained, product.RunContext(0, tmp_path))
    assert found == {"adv_accuracy": 1.0, "adv_doubt": 0.0}
