"""Tables in the docs that are made from the records: read, written into their places, or only checked."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from guardclash.records.file import read_results
from guardclash.reporting.findings import Findings, find
from guardclash.studies.study_file import read_study

ROOT = Path(__file__).parent.parent


@cache
def on_record(folder: str, name: str) -> Findings | None:
    """What a study says; None where it is not on record yet.

    Args:
        folder: Of the study, below studies/.
        name: Of its file, without suffix.
    """
    path, records = ROOT / f"studies/{folder}/{name}.toml", ROOT / f"results/{folder}-{name}/results.json"
    return find(read_study(path), read_results(records)) if path.is_file() and records.is_file() else None


def written(page: str, tables: Mapping[str, str]) -> str:
    """A page with its tables made anew, each between `<!-- NAME -->` and `<!-- end -->`.

    Raises:
        SystemExit: The page has no place for one.
    """
    for name, table in tables.items():
        mark = f"<!-- {name} -->"
        if mark not in page:
            raise SystemExit(f"no place {mark}")
        place = f"{mark}\n\n{table}\n\n<!-- end -->"
        page = re.sub(f"{mark}.*?<!-- end -->", lambda _, place=place: place, page, flags=re.S)
    return page


def run(said: str | None, page: Path, tables: Mapping[str, str]) -> int:
    """Writes a page's tables anew, or with --check tells by its exit code whether they are those of the records."""
    asked = argparse.ArgumentParser(description=said, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--check", action="store_true", help="change nothing; fail if the page is not up to date")
    only = asked.parse_args().check
    before = page.read_text(encoding="utf-8")
    now = written(before, tables)
    if only:
        return int(now != before)
    page.write_text(now, encoding="utf-8")
    return 0
