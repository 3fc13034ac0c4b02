"""`guardclash run`."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Annotated, Any

import typer

from guardclash.cli.check import refuse
from guardclash.cli.console import print_text, say
from guardclash.cli.interruption import Interruption
from guardclash.cli.options import (
    RUNS,
    DataPath,
    Datasets,
    Rule,
    Scale,
    StorePath,
    StudyPath,
    Workers,
    cores,
    known,
    restricted,
    ruled,
    site_of,
)
from guardclash.errors import UserError
from guardclash.reporting.screen import Screen
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study


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
    limit: Annotated[
        float | None, typer.Option("--limit", min=1, help="Seconds after which one trial is stopped; by default never.")
    ] = None,
    check: Annotated[
        bool, typer.Option(envvar="GUARDCLASH_CHECK", help="Try what is missing on few examples first.")
    ] = True,
) -> None:
    """Trains and measures what is missing, then reports.

    The same command continues after an interruption.
    """
    from guardclash.reporting.findings import find
    from guardclash.studies.engines import Inline, processes
    from guardclash.studies.run import Together, run_study
    from guardclash.watching.progress import Progress
    from guardclash.watching.tracking import Tracking

    wanted, count = ruled(read_study(study, scale), rule), cores() if workers is None else workers
    # What is shown. The run gets the whole study beside the data sets: results of all are kept in one file.
    asked = restricted(wanted, datasets)
    # At once: torch takes a second to import, and the trial of all parts a minute.
    say(f"study {asked.name}: {len(asked.cells())} cells, results in {store}")
    site, chosen = site_of(store, data_dir, device), wanted.rule
    if limit and not count:
        raise UserError(
            "nobody can stop a trial that runs in this process", where="--limit", mend="Leave out --workers 0."
        )
    executor: Any = Inline()
    interruption = Interruption()
    try:
        with (
            interruption,  # outermost, so that it still answers while the others close
            Progress(Screen(stderr=True), max(count, 1), asked, site, chosen) as progress,
            Tracking(track or (), wanted, site, chosen, progress.say) as tracking,
        ):
            if count:
                executor = processes(count, wanted.plugins, limit=limit)
            watchers = Together((progress, tracking, interruption))
            before = partial(_tried, wanted, site, executor) if check else None
            results = run_study(wanted, site, executor, watchers, known(datasets, wanted), before=before)
    except BaseException as error:  # Ctrl-C among them: workers must not outlive the command
        executor.shutdown(cancel_futures=True)
        if isinstance(error, KeyboardInterrupt) or interruption.asked:  # it may have become another error
            say("interrupted; finished trials are kept, the same command continues")
            raise typer.Exit(130) from None
        raise
    executor.shutdown()
    print_text(find(asked, results))
    if progress.failed:
        raise typer.Exit(1)


def _tried(study: Study, site: Any, executor: Any, cells: Collection[str]) -> None:
    """Tries the cells of which something is missing, and says how that went."""
    from guardclash.studies.dry_run import check_study
    from guardclash.studies.workers import WorkerLost

    try:
        dry = executor.submit(check_study, study, site, cells).result()
    except WorkerLost as error:
        say(f"note: the study could not be tried on few examples: {error}. The run will tell which trial does that.")
        return
    refuse(dry)
    say(str(dry))
