"""SECURITY.md says the bounds that the readers have, and of every reader of data that it has some."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardclash import handed, modules
from guardclash.data import adult, files, gtsrb, table_files
from guardclash.data.own import archive, brought, folder
from guardclash.plan import foreign
from guardclash.studies import limits

PAGE = (Path(__file__).parents[1] / "SECURITY.md").read_text(encoding="utf-8")
ROWS = dict(row.strip("|").split("|", 1) for row in PAGE.splitlines() if row.startswith("| "))
ROWS = {name.strip(): said.strip() for name, said in ROWS.items()}

SAID = {
    "study file, published numbers": [f"{handed.MOST_BYTES:,} bytes"],
    "study file": [f"{limits.EXTENDED} files", f"{limits.DEPTH} tables", f"{limits.KEY_PARTS} parts", "64 bits"],
    "study": [
        f"{limits.COMBINATIONS:,} combinations",
        f"{limits.REPLICATES:,} replicates",
        f"{limits.TRAININGS:,} trainings",
    ],
    "name of a study": [f"{limits.NAME_BYTES} bytes"],
    "paths in studies": [f"{handed.LONGEST_NAME} bytes", f"{handed.LONGEST_PATH:,} in all"],
    "plugins, functions": [f"{modules.MOST_BYTES:,} bytes"],
    "MNIST family, CIFAR-10, Adult": [f"{adult.MOST_BYTES:,} bytes"],
    "gzip": [f"{files.RATIO} times"],
    "GTSRB": [f"{gtsrb.LARGEST:,} bytes", f"{gtsrb.LARGEST:,} pixels"],
    "own arrays (`.npz`)": [f"{brought.LARGEST // 2**30} GiB"],
    "own tables": [
        f"{table_files.MOST_BYTES:,} bytes",
        f"{table_files.MOST_COLUMNS:,} columns",
        f"{table_files.MOST_CELLS:,} values",
        f"{table_files.LONGEST:,} letters",
    ],
    "own images": list(folder.FORMATS),
    "weights": [f"{foreign.MOST_BYTES // 2**30} GiB"],
}


@pytest.mark.parametrize("reader", SAID)
def test_the_page_says_the_bounds_that_are_kept(reader):
    for bound in SAID[reader]:
        assert bound in ROWS[reader], f"{reader}: {bound}"


def test_arrays_are_numbers_and_texts():
    assert archive.KINDS == "biufUS"
