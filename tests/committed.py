"""The studies whose records are committed, for tests over all of them."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import pytest

from guardclash.records.file import read_results
from guardclash.records.results import Results
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study

ROOT = Path(__file__).parents[1]
RECORDS = {
    str(path.parent.relative_to(ROOT / "results")): path for path in sorted(ROOT.glob("results/**/results.json"))
}
"""By name, such as "raddata-wm", or "paper/table4-reduced" for studies/paper/table4.toml at scale reduced."""
NAMED = {tomllib.loads(path.read_text()).get("name", ""): path for path in sorted(ROOT.glob("studies/**/*.toml"))}
"""Study files by the name that they give themselves, such as "table9-mnist" of studies/table9/mnist.toml."""
LARGEST = max(RECORDS, key=lambda name: RECORDS[name].stat().st_size)
SMALL = sorted(RECORDS, key=lambda name: RECORDS[name].stat().st_size)[:6]
COMMITTED = tuple(pytest.param(name, marks=[pytest.mark.slow] * (name not in (*SMALL, LARGEST))) for name in RECORDS)
"""For tests over all of them; the fast ones take the largest and a few small ones."""

EVERY = tuple(
    pytest.param(name, marks=[pytest.mark.slow] * (name.startswith("paper/") and name != LARGEST)) for name in RECORDS
)
"""For what takes no time; the fast ones leave out most of the paper's tables, which are alike."""


@cache
def committed(name: str) -> tuple[Study, Results]:
    """A study and its records."""
    own = ROOT / "studies" / f"{name}.toml"
    own = own if own.is_file() else NAMED.get(name, own)
    stem, _, scale = name.rpartition("-")
    asked = read_study(own) if own.is_file() else read_study(ROOT / "studies" / f"{stem}.toml", scale)
    return asked, read_results(RECORDS[name])
