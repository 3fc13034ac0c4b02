"""What the commands share: their options, and what these make of a study; where results come from, where a run is."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from guardclash.cli.console import say
from guardclash.errors import UserError, suggestion
from guardclash.judging import rules
from guardclash.studies.study import Study


class RuleName(StrEnum):
    """The rules for verdicts."""

    paper = "paper"
    strict = "strict"
    bounded = "bounded"


StudyPath = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file, such as studies/digits.toml.")]
StorePath = Annotated[Path, typer.Option("--store", envvar="GUARDCLASH_STORE", help="Folder that results are kept in.")]
DataPath = Annotated[Path | None, typer.Option("--data-dir", envvar="GUARDCLASH_DATA", help="Folder of the data sets.")]
ResultsPath = Annotated[Path | None, typer.Option("--results", help="A results.json to read instead of the store.")]
Rule = Annotated[RuleName | None, typer.Option("--rule", help="Which rule decides; by default the study's own.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Trainings at a time, each in a process of its own; by default one for each core. 0: in this process.",
    ),
]
Scale = Annotated[
    str | None, typer.Option("--scale", help="paper, reduced or smoke, for all recipes; by default their own.")
]
Datasets = Annotated[list[str] | None, typer.Option("--dataset", help="Only this data set's recipes; may be repeated.")]
Wide = Annotated[bool, typer.Option("--wide", help="Whole tables, whatever the terminal's width.")]
RUNS = Path("runs")


def known(datasets: list[str] | None, study: Study) -> tuple[str, ...]:
    """Names of data sets that the study has.

    Raises:
        UserError: For any other.
    """
    have = {recipe.name for recipe in study.recipes}
    for name in datasets or ():
        if name not in have:
            raise UserError("the study has no such data set", where="--dataset", got=name, mend=suggestion(name, have))
    return tuple(datasets or ())


def restricted(study: Study, datasets: list[str] | None) -> Study:
    """A study as if it had these data sets only; none: the study."""
    chosen = known(datasets, study)
    return replace(study, recipes=tuple(one for one in study.recipes if not chosen or one.name in chosen))


def results_of(study: Study, store: Path, given: Path | None, data_dir: Path | None) -> Any:
    """As `results_there`.

    Raises:
        UserError: If there are none.
    """
    found = results_there(study, store, given, data_dir)
    if found is None:
        raise UserError("no results yet", where=store, mend="Run the study first: guardclash run STUDY.")
    return found


def results_there(study: Study, store: Path, given: Path | None, data_dir: Path | None) -> Any:
    """A study's results: of the file that is given, or all that the store holds; if that is nothing, of its records.

    Args:
        study: The whole study.
        store: Folder that results are kept in.
        given: A results file to read instead; it must be there.
        data_dir: Folder of the data sets.

    Returns:
        The results; None if there are none yet.
    """
    from guardclash.records.file import read_results
    from guardclash.studies.held import held

    # A report multiplies no matrices, and numpy's threads, if it is let, wait busily: a tenth of the time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if given:
        return read_results(given)
    if (found := held(study, store, data_dir, say)) is not None:
        return found
    recorded = study.records / study.name / "results.json" if study.records else None
    if recorded is None or not recorded.is_file():
        return None
    say(f"from the records: {recorded}")
    return read_results(recorded)


def ruled(study: Study, given: RuleName | None) -> Study:
    """A study under the rule that is asked for, or its own.

    Raises:
        UserError: The study cannot be judged by that rule.
    """
    return study.under(rule_of(given) or study.rule)


def rule_of(given: RuleName | None) -> rules.Rule | None:
    """The rule that is asked for; None: the study's own."""
    return rules.check_rule(given.value) if given else None


def site_of(store: Path, data_dir: Path | None, device: str = "cpu") -> Any:
    """Where a run reads data and keeps results, and what it computes on."""
    from guardclash.data.loading import data_folder
    from guardclash.studies.jobs import Site
    from guardclash.studies.store import Store
    from guardclash.training.train import Execution

    return Site(Store(store.resolve()), data_folder(data_dir), Execution(device=device))


def cores() -> int:
    """Processor cores that this process may use."""
    # A container or a queue may give a process fewer cores than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
