"""The command line: list, plan, run, status, report, compare, figure, export, evidence, show, data.

Mistakes of the user's end with exit code 2 and one message, an interrupted run with 130. Commands that only read
results do not import torch, which is why imports stand inside the commands.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from guardclash.cli_data import DataPath, data, out
from guardclash.cli_interruption import Interruption
from guardclash.cli_options import (
    RUNS,
    Datasets,
    Rule,
    Scale,
    StorePath,
    StudyPath,
    Workers,
    known,
    print_text,
    restricted,
    ruled,
    say,
)
from guardclash.cli_reports import compare, export_records, figure, report
from guardclash.errors import UserError
from guardclash.studies.study_file import read_study

RARELY = 100_000, 20, 20
"""How often garbage is looked for: what is imported and read stays until the end of a command, and looking through it
again and again takes a fifth of the time."""
app = typer.Typer(
    name="guardclash",
    help="Which protections of a machine-learning model survive each other? Trains, measures and tests combinations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data, name="data")


@app.command("list")
def list_all(
    plugins: Annotated[list[Path] | None, typer.Option("--plugin", help="A file with mechanisms.")] = None,
) -> None:
    """Mechanisms, measures, conditions, suspects and data sets that can be used by name."""
    from guardclash.data.catalog import datasets
    from guardclash.registry import CONDITIONS, MEASURES, SUSPECTS, find_mechanisms
    from guardclash.registry import known as all_of
    from guardclash.reporting.listing import listing
    from guardclash.tasks.catalog import tasks

    files = tuple(path.resolve() for path in plugins or ())
    mechanisms = find_mechanisms(files)
    doors = {"Measures": MEASURES, "Conditions": CONDITIONS, "Suspects": SUSPECTS}
    others = {title: all_of(door, files) for title, door in doors.items()}
    out.print(listing(mechanisms.values(), others, datasets().values(), tasks()))


@app.command()
def plan(
    study: StudyPath,
    store: StorePath = RUNS,
    data_dir: DataPath = None,
    workers: Workers = None,
    full: Annotated[bool, typer.Option("--full", help="Print every plan with all its parts.")] = False,
    scale: Scale = None,
    datasets: Datasets = None,
) -> None:
    """What a run would train, what is shared and how long it would take. Trains nothing."""
    from guardclash.planning import planned

    wanted = restricted(read_study(study, scale), datasets)
    for part in planned(wanted, _site(store, data_dir), workers or _cores(), full):
        out.print(part)


@app.command()
def run(  # noqa: PLR0913, PLR0917  (options of a command, given by name)
    study: StudyPath,
    store: StorePath = RUNS,
    data_dir: DataPath = None,
    workers: Workers = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    rule: Rule = None,
    track: Annotated[
        list[str] | None, typer.Option("--track", help="tensorboard, mlflow or an installed tracker; may be repeated.")
    ] = None,
    scale: Scale = None,
    datasets: Datasets = None,
) -> None:
    """Trains and measures what is missing, then reports. The same command continues after an interruption."""
    from guardclash.studies.engines import Inline, processes
    from guardclash.studies.run import Together, run_study
    from guardclash.watching.progress import Progress
    from guardclash.watching.tracking import Tracking

    wanted, count = ruled(read_study(study, scale), rule), workers or _cores()
    asked = restricted(wanted, datasets)
    site, chosen = _site(store, data_dir, device), wanted.rule
    executor: Any = Inline()
    interruption = Interruption()
    try:
        with (
            interruption,
            Progress(Console(stderr=True), count, asked, site, chosen) as progress,
            Tracking(track or (), wanted, site, chosen, progress.say) as tracking,
        ):
            if count > 1:
                executor = processes(count, wanted.plugins)
            watchers = Together((progress, tracking, interruption))
            results = run_study(wanted, site, executor, watchers, known(datasets, wanted))
    except BaseException as error:
        _kill_workers()
        executor.shutdown(cancel_futures=True)
        if isinstance(error, KeyboardInterrupt) or interruption.asked:
            say("interrupted; finished trials are kept, the same command continues")
            raise typer.Exit(130) from None
        raise
    executor.shutdown()
    print_text(asked, results)
    if progress.failed:
        raise typer.Exit(1)


@app.command()
def status(
    study: StudyPath,
    store: StorePath = RUNS,
    data_dir: DataPath = None,
    rule: Rule = None,
    scale: Scale = None,
    datasets: Datasets = None,
) -> None:
    """How far a study is: every cell, what runs and how long it will take, what is decided."""
    from guardclash.planning import standing

    wanted = ruled(restricted(read_study(study, scale), datasets), rule)
    for part in standing(wanted, _site(store, data_dir), wanted.rule):
        out.print(part)


for command in (report, figure, compare):
    app.command()(command)
app.command("export")(export_records)


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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _kill_workers() -> None:
    """Stops the workers at once; what they were training is trained again by the next run."""
    import multiprocessing

    for worker in multiprocessing.active_children():
        worker.kill()


def main() -> None:
    """Entry point: prints a user's mistake as one message and exits with code 2."""
    gc.set_threshold(*RARELY)
    try:
        app()
    except UserError as error:
        say(f"error: {error}")
        sys.exit(2)
