"""The command line: list, plan, run, status, report, figure, export, evidence, show, data.

Mistakes of the user's end with exit code 2 and one message, an interrupted run with 130. Commands that only read
results do not import torch, which is why imports stand inside the commands.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from guardclash.cli_data import DataPath, data, out
from guardclash.errors import UserError
from guardclash.reporting.figures import FIGURES
from guardclash.reporting.forms import FORMS, form_asked
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study

app = typer.Typer(
    name="guardclash",
    help="Which protections of a machine-learning model survive each other? Trains, measures and tests combinations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data, name="data")


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
RUNS = Path("runs")


@app.command("list")
def list_all(
    plugins: Annotated[list[Path] | None, typer.Option("--plugin", help="A file with mechanisms.")] = None,
) -> None:
    """Mechanisms, data sets and recipes that can be used by name."""
    from guardclash.data.catalog import DATASETS
    from guardclash.registry import find_mechanisms
    from guardclash.reporting.listing import listing
    from guardclash.studies.recipes import RECIPES

    mechanisms = find_mechanisms(tuple(path.resolve() for path in plugins or ()))
    out.print(listing(mechanisms.values(), DATASETS.values(), RECIPES))


@app.command()
def plan(
    study: StudyPath,
    store: StorePath = RUNS,
    data_dir: DataPath = None,
    workers: Workers = None,
    full: Annotated[bool, typer.Option("--full", help="Print every plan with all its parts.")] = False,
) -> None:
    """What a run would train, what is shared and how long it would take. Trains nothing."""
    from guardclash.planning import planned

    for part in planned(read_study(study), _site(store, data_dir), workers or _cores(), full):
        out.print(part)


@app.command()
def run(
    study: StudyPath,
    store: StorePath = RUNS,
    data_dir: DataPath = None,
    workers: Workers = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    rule: Rule = None,
    track: Annotated[
        list[str] | None, typer.Option("--track", help="tensorboard, mlflow or an installed tracker; may be repeated.")
    ] = None,
) -> None:
    """Trains and measures what is missing, then reports. The same command continues after an interruption."""
    from guardclash.studies.engines import Inline, processes
    from guardclash.studies.results import Results
    from guardclash.studies.run import Together, run_study
    from guardclash.watching.progress import Progress
    from guardclash.watching.tracking import Tracking

    wanted, count = read_study(study), workers or _cores()
    site, chosen = _site(store, data_dir, device), _rule(rule, wanted)
    executor: Any = Inline()
    try:
        with (
            Progress(Console(stderr=True), count, wanted, site.store, chosen) as progress,
            Tracking(track or (), wanted, site.store, chosen, progress.say) as tracking,
        ):
            if count > 1:
                executor = processes(count, wanted.plugins)
            results = run_study(wanted, site, executor, Together((progress, tracking)))
    except BaseException as error:
        _kill_workers()
        executor.shutdown(cancel_futures=True)
        if isinstance(error, KeyboardInterrupt):
            _say("interrupted; finished trials are kept, the same command continues")
            raise typer.Exit(130) from None
        raise
    executor.shutdown()
    _print_report(wanted, Results(results), rule)
    if progress.failed:
        raise typer.Exit(1)


@app.command()
def status(study: StudyPath, store: StorePath = RUNS, rule: Rule = None) -> None:
    """How far a study is: every cell, what runs and how long it will take, what is decided."""
    from guardclash.planning import standing

    wanted = read_study(study)
    for part in standing(wanted, store, _rule(rule, wanted)):
        out.print(part)


@app.command()
def report(
    study: StudyPath,
    store: StorePath = RUNS,
    results: ResultsPath = None,
    rule: Rule = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help=f"{', '.join(FORMS)}; by default what the file's suffix says, else text."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A file to write instead of the terminal.")
    ] = None,
) -> None:
    """What is measured so far, in the form that is asked for; works on a half-finished study."""
    from guardclash.reporting.missing import unfinished

    chosen = form_asked(form, output)
    wanted = read_study(study)
    found = _results(wanted, store, results)
    if chosen == "text" and output is None:
        _print_report(wanted, found, rule)
        return
    content = FORMS[chosen](wanted, found, _rule(rule, wanted))
    if output is None:
        sys.stdout.buffer.write(content)
    else:
        _write(content, output, "report")
    if lacking := unfinished(wanted, found):
        _say(f"note: {lacking}")


@app.command()
def figure(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"Which figure: {', '.join(FIGURES)}.")],
    study: StudyPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="A file to write: .svg, .pdf or .png.")],
    store: StorePath = RUNS,
    results: ResultsPath = None,
    rule: Rule = None,
) -> None:
    """Draws what is measured so far; works on a half-finished study. Needs matplotlib."""
    from guardclash.reporting.figures import draw, figure_named, form_of

    form, _ = form_of(output), figure_named(name)
    wanted = read_study(study)
    _write(draw(name, wanted, _results(wanted, store, results), _rule(rule, wanted), form), output, "figure")


@app.command("export")
def export_records(
    study: StudyPath,
    folder: Annotated[Path, typer.Argument(help="Where to write.")],
    store: StorePath = RUNS,
    rule: Rule = None,
) -> None:
    """Writes raw values per seed, plans, verdicts and the report into a folder, without weights, to be committed."""
    from guardclash.reporting.export import export

    wanted = read_study(study)
    for path in export(wanted, _results(wanted, store, None), _rule(rule, wanted), folder):
        out.print(str(path))


@app.command()
def evidence(
    study: StudyPath,
    folder: Annotated[Path, typer.Argument(help="Where to write the pictures.")],
    store: StorePath = RUNS,
    data_dir: DataPath = None,
    seed: Annotated[int, typer.Option(help="The replicate whose secrets are drawn.", min=0)] = 0,
) -> None:
    """Writes pictures of what mechanisms put into the training: trigger images, pairs of clean and marked images."""
    from guardclash.studies.evidence import keep_evidence

    for path, picture in keep_evidence(read_study(study), _site(store, data_dir), folder, seed):
        out.print(f"{path}: {picture.caption}", soft_wrap=True, markup=False)


@app.command()
def show(
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="A trial's key, or the beginning of one.")],
    store: StorePath = RUNS,
) -> None:
    """One trial: its plan, losses by epoch, measurements, time and machine."""
    from guardclash.reporting.trial import trial_page

    out.print(trial_page(trial, store))


def _site(store: Path, data_dir: Path | None, device: str = "cpu") -> Any:
    from guardclash.data.loading import data_folder
    from guardclash.studies.jobs import Site
    from guardclash.studies.store import Store
    from guardclash.training.train import Execution

    return Site(Store(store.resolve()), data_folder(data_dir), Execution(device=device))


def _results(study: Study, store: Path, given: Path | None) -> Any:
    from guardclash.studies.results import read_results

    return read_results(given or store / "studies" / f"{study.name}.json")


def _rule(given: RuleName | None, study: Study) -> Any:
    return given.value if given else study.rule


def _print_report(study: Study, results: Any, rule: RuleName | None) -> None:
    from guardclash.reporting.text import print_report

    print_report(out, study, results, _rule(rule, study))


def _write(content: bytes, output: Path, what: str) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(content)
    except OSError as error:
        raise UserError(f"the {what} cannot be written: {error.strerror}", where=output) from error
    _say(f"wrote {output}")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _kill_workers() -> None:
    """Stops the workers at once; what they were training is trained again by the next run."""
    import multiprocessing

    for worker in multiprocessing.active_children():
        worker.kill()


def _say(message: str) -> None:
    Console(stderr=True).print(message, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point: prints a user's mistake as one message and exits with code 2."""
    try:
        app()
    except UserError as error:
        _say(f"error: {error}")
        sys.exit(2)
