"""The rows of UCI Adult as short texts: a token for the value of each column, as a transformer for tables reads them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from guardclash import data_folder

COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)
NUMBERS = ("age", "education-num", "capital-gain", "capital-loss", "hours-per-week")
LEFT_OUT = ("fnlwgt", "income")  # a weight of the sample, and what is to be told
PARTS = 10


def load() -> dict[str, np.ndarray]:
    """Tokens [N, 13], incomes above 50,000 and sex, of the official files in the data folder.

    Numbers are cut into ten parts that hold equally many training rows.
    """
    folder = data_folder() / "adult"
    train, test = (_rows(folder / name) for name in ("adult.data", "adult.test"))
    arrays: dict[str, np.ndarray] = {}
    columns = [name for name in COLUMNS if name not in LEFT_OUT]
    tokens, first = {"train": [], "test": []}, 0
    for name in columns:
        codes, count = _codes(train[name], test[name], name in NUMBERS)
        for split, values in zip(("train", "test"), codes, strict=True):
            tokens[split].append(values + first)
        first += count
    for split, rows in (("train", train), ("test", test)):
        arrays[f"x_{split}"] = np.stack(tokens[split], axis=1).astype(np.int64)
        arrays[f"y_{split}"] = np.char.startswith(rows["income"], ">").astype(np.int64)
        arrays[f"group_{split}"] = rows["sex"]
    return arrays


def _rows(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file, skipinitialspace=True) if len(row) == len(COLUMNS)]
    return {name: np.array(values) for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=True)}


def _codes(train: np.ndarray, test: np.ndarray, number: bool) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """Both columns as numbers from 0 on, and how many there are; a value that no training row has is the last one."""
    if number:
        edges = np.unique(np.quantile(train.astype(float), np.linspace(0, 1, PARTS + 1)[1:-1]))
        return tuple(np.digitize(one.astype(float), edges) for one in (train, test)), len(edges) + 1  # type: ignore
    names = np.unique(train)
    places = np.searchsorted(names, test).clip(max=len(names) - 1)
    return (np.searchsorted(names, train), np.where(names[places] == test, places, len(names))), len(names) + 1
