"""What adding seeds step by step would have saved on the recorded studies, and whether its verdicts are the same.

    python benchmarks/adaptive_replicates.py --json adaptive_replicates.json

Nothing is trained. Each record with at least four replicates everywhere is judged twice: with all its replicates, and
by `replicates = { start = 3, most = ... }`, which sees three seeds first and asks for more only where no verdict is
found. Trainings are counted once, whichever cells they serve.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from guardclash.records.file import read_results
from guardclash.records.results import UNKNOWN, Results
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study
from guardclash.studies.verdicts import judged_cells, verdicts, wanted

ROOT = Path(__file__).parents[1]
START = 3


def trainings(study: Study, results: Results) -> int:
    """How many models the study asks for, as the results stand."""
    needed, found = wanted(study, results), set()
    for cell in study.cells():
        entry = results.cell(cell) or UNKNOWN
        seeds = study.seeds(replace(cell, replicates=needed[cell.key]))
        found |= {trial.key for trial in entry.among(seeds)}
    return len(found)


def compared(study: Study, results: Results) -> dict[str, Any]:
    """Trainings and verdicts of both designs; a correction over the study is left out of both."""
    most = min(study.alone, study.together)
    fixed = replace(study, alone=most, together=most, start=None, correction="none")
    adaptive = replace(fixed, start=START)
    outcomes = [[verdict.outcome(study.rule) for verdict in verdicts(one, results)] for one in (fixed, adaptive)]
    counts = trainings(fixed, results), trainings(adaptive, results)
    return {
        "study": study.name,
        "most": most,
        "trainings, fixed": counts[0],
        "trainings, step by step": counts[1],
        "saved": round(1 - counts[1] / counts[0], 3),
        "verdicts": len(outcomes[0]),
        "changed": [f"{was} -> {now}" for was, now in zip(*outcomes, strict=True) if was != now],
    }


def study_of(record: str) -> Study:
    """The study of a folder of records, such as "theft", or "table4-reduced" for table4.toml at scale reduced.

    A study may also stand in a folder of its own and say its name.
    """
    named = (path for path in (ROOT / "studies").rglob("*.toml") if f'name = "{record}"' in path.read_text("utf-8"))
    own = next(named, ROOT / "studies" / f"{record}.toml")
    stem, _, scale = record.rpartition("-")
    return read_study(own) if own.is_file() else read_study(own.with_stem(stem), scale)


def recorded() -> Iterator[tuple[Study, Results]]:
    """Committed records of studies that judge something, with enough replicates, all of them."""
    for path in sorted((ROOT / "results").glob("*/results.json")):
        study = study_of(path.parent.name)
        by_steps = len(study.stages()) > 1  # its records hold what was needed already
        if min(study.alone, study.together) > START and judged_cells(study) and not by_steps:
            yield study, read_results(path)


def main() -> None:
    """Prints a line for each record, and writes them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    rows = [compared(study, results) for study, results in recorded()]
    for row in rows:
        counts = f"{row['trainings, step by step']} of {row['trainings, fixed']} trainings ({row['saved']:.0%} saved)"
        changed = ", ".join(row["changed"]) or "none"
        print(f"{row['study']}: {counts}; {row['verdicts']} verdicts, changed: {changed}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
