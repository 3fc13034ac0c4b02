"""What the commands share: their options, where results come from, how they speak."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from guardclash.cli_data import out
from guardclash.errors import UserError
from guardclash.studies.study import Study


class RuleName(StrEnum):
    """The two rules for verdicts."""

    paper = "paper"
    strict = "strict"


StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file, such as studies/digits.toml.")]
StorePath = Annotated[Path, typer.Option("--store", envvar="GUARDCLASH_STORE", help="Folder that results are kept in.")]
ResultsPath = Annotated[Path | None, typer.Option("--results", help="A results.json to read instead of the store.")]
Rule = Annotated[RuleName | None, typer.Option("--rule", help="Which rule decides; by default the study's own.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Trainings at a time; by default one for each processor core.")
]
Scale = Annotated[
    str | None, typer.Option("--scale", help="paper, reduced or smoke, for all recipes; by default their own.")
]
RUNS = Path("runs")


def results_of(study: Study, store: Path, given: Path | None) -> Any:
    """The results file that is given, or the study's own in the store."""
    from guardclash.studies.results import read_results

    return read_results(given or store / "studies" / f"{study.name}.json")


def rule_of(given: RuleName | None, study: Study) -> Any:
    """The rule that is asked for, or the study's own."""
    return given.value if given else study.rule


def print_text(study: Study, results: Any, rule: RuleName | None) -> None:
    """Prints the report as text."""
    from guardclash.reporting.text import print_report

    print_report(out, study, results, rule_of(rule, study))


def write(content: bytes, output: Path, what: str) -> None:
    """Writes a file that was asked for, and says so."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(content)
    except OSError as error:
        raise UserError(f"the {what} cannot be written: {error.strerror}", where=output) from error
    say(f"wrote {output}")


def say(message: str) -> None:
    """A word beside the output proper."""
    Console(stderr=True).print(message, markup=False, highlight=False, soft_wrap=True)
