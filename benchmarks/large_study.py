"""What a large study costs beside its trainings: processor time of `status`, `plan`, `run`, and of a run's driver.

    python benchmarks/large_study.py --json large_study.json

The study has two mechanisms that do nothing, on the bundled digits: for each number of epochs of a sweep the
unprotected model, each mechanism alone, and both. Nothing is trained: records, measurements and histories of the usual
size are written into a store in a temporary folder. The commands run in a process of their own, their imports
included, on a store that holds everything. The driver (`run_study` with what the terminal shows of it) gets an
executor whose jobs write a prepared result: what it takes by itself is counted, the writing is not.

    PYTHONPATH=OTHER/src python benchmarks/large_study.py

measures another checkout's package, for comparisons side by side. `--seeds 10` has five times as many cells, tables
and verdicts for the same number of trials.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

CELLS = 4
"""Of each number of epochs: {}, {idle}, {still}, {idle, still}."""
PLUGIN = '''
from __future__ import annotations
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from guardclash.judging.criteria import MaxDrop, Metric
from guardclash.mechanism import Mechanism
from guardclash.plan.plan import Stream


@dataclass(frozen=True)
class Same:
    """The batch as it is."""

    strength: float

    def __call__(self, network: Any, batch: Any, rng: Any, now: Any) -> Any:
        return batch


@dataclass(frozen=True)
class Idle(Mechanism):
    """Does nothing."""

    name: ClassVar[str] = "idle"
    concern: ClassVar[str] = "none"
    strength: float = 1.0

    def batch(self, stream: Stream, plan: Any) -> Stream:
        return replace(stream, maps=(*stream.maps, Same(self.strength)))


@dataclass(frozen=True)
class Still(Idle):
    """Does nothing, and has a metric."""

    name: ClassVar[str] = "still"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("stillness", "still", MaxDrop(0.1)),)
    strength: float = 2.0
'''
STUDY = """
name = "large"
plugins = ["idle.py"]
replicates = {{ alone = {seeds}, together = {seeds} }}
recipes = [{{ dataset = "digits", scale = "smoke", sweep = {{ epochs = {epochs} }} }}]
combinations = [{{ mechanisms = ["idle", "still"] }}]
"""


def write_study(folder: Path, trials: int, seeds: int) -> Path:
    """A study of so many trials, and its plugin beside it."""
    (folder / "idle.py").write_text(PLUGIN)
    path = folder / "large.toml"
    epochs = list(range(1, 1 + max(1, trials // seeds // CELLS)))
    path.write_text(STUDY.format(seeds=seeds, epochs=epochs))
    return path


Keep = Callable[[], None]


def results(study: Any, store: Any) -> Iterator[tuple[str, Keep]]:
    """What a run would leave of each trial and each measurement, by key; not written yet."""
    import safetensors.torch
    import torch

    from guardclash.plan.identity import describe
    from guardclash.studies.composing import compose_study
    from guardclash.studies.environment import environment
    from guardclash.training.train import Execution

    weights = safetensors.torch.save({"weight": torch.zeros(4)})
    where = {"execution": describe(Execution(), full=True), "environment": environment(), "schema": 2}
    where["finished"] = "2000-01-01T00:00:00Z"
    for entry in compose_study(study):
        plan = describe(entry.plan, full=True)
        history = "".join(json.dumps({"epoch": n, "task": 1 / n}) + "\n" for n in range(1, 6)).encode()
        for trial in entry.trials():
            record = {**where, "trial": trial.key, "seed": trial.seed, "plan": plan, "data": [], "seconds": 1.5}
            files = {"weights.safetensors": weights, "history.jsonl": history}
            yield trial.key, lambda key=trial.key, record=record, files=files: store.keep_trial(key, record, files)
            for probe in entry.probes(trial):
                content = {
                    "schema": 2,
                    "trial": trial.key,
                    "measure": describe(probe.measure, full=True),
                    "serving": [],
                    "metrics": {metric.name: 0.9 + trial.seed / 1000 for metric in probe.measure.metrics},
                    "warnings": [],
                    "seconds": 0.01,
                    "finished": "2000-01-01T00:00:00Z",
                }
                yield probe.key, lambda key=probe.key, content=content: store.keep_measurement(key, content)


def processor_seconds(code: str, *arguments: object) -> tuple[float, str]:
    """Processor time of a child process and its own ones, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


class Prepared:
    """An executor that writes prepared results; it notes the processor time that this takes."""

    def __init__(self, kept: dict[str, Keep]):
        self.kept, self.seconds = kept, 0.0

    def submit(self, fn: Any, /, job: Any, site: Any) -> Future[Any]:
        """A future that is done."""
        from guardclash.studies.jobs import Done, run_job

        future: Future[Any] = Future()
        if fn is not run_job:  # timing a few steps of a plan is training
            future.set_result(1.5)
            return future
        start = time.process_time()
        for key in (job.trial.key, *(probe.key for probe in job.probes)):
            self.kept[key]()
        future.set_result(Done(job, 1.5))
        self.seconds += time.process_time() - start
        return future


def seconds_in_child(*arguments: object) -> float:
    """Processor time of a command of `guardclash`."""
    return processor_seconds("from guardclash.cli.app import main; main()", *arguments)[0]


def drive(path: Path, folder: Path) -> None:
    """In a process of its own: the driver's processor time for each trial of a study of which all is missing."""
    from rich.console import Console

    from guardclash.studies import run
    from guardclash.studies.jobs import Site
    from guardclash.studies.store import Store
    from guardclash.studies.study_file import read_study
    from guardclash.watching.progress import Progress

    study, site = read_study(path), Site(Store(folder), folder)
    executor = Prepared(dict(results(study, Store(folder))))
    with Progress(Console(file=io.StringIO()), 1, study, site, study.rule) as progress:
        start = time.process_time()
        found = run.run_study(study, site, executor, progress)
        seconds = time.process_time() - start - executor.seconds
    trials = sum(len(cell.trials) for cell in found.cells.values())
    print(json.dumps({"trials": trials, "milliseconds": 1e3 * seconds / trials}))


def fill(path: Path, folder: Path) -> tuple[int, int]:
    """Writes all results of a study into a store; how many trials and measurements these are."""
    from guardclash.studies.store import Store
    from guardclash.studies.study_file import read_study

    store = Store(folder)
    for _, keep in results(read_study(path), store):
        keep()
    return tuple(sum(1 for _ in (folder / name).iterdir()) for name in ("trials", "measurements"))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    path, runs = write_study(folder, options.trials, options.seeds), folder / "runs"
    trials, measurements = fill(path, runs)
    found: dict[str, Any] = {"trials": trials, "measurements": measurements, "commands": {}, "driver": {}}
    print(f"{trials} trials of {options.seeds} seeds, {measurements} measurements")
    for name in options.commands:
        taken = [seconds_in_child(name, path, "--store", runs) for _ in range(options.rounds)]
        found["commands"][name] = taken
        print(f"{name:8} {min(taken):6.2f} s of processor time", flush=True)
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from large_study import *; "
    for trials in options.drivers:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            path = write_study(Path(own), trials, options.seeds)
            _, printed = processor_seconds(here + "drive(Path(sys.argv[1]), Path(sys.argv[2]))", path, f"{own}/runs")
        driver = json.loads(printed)
        found["driver"][driver["trials"]] = driver["milliseconds"]
        print(f"driver   {driver['milliseconds']:6.2f} ms a trial, of {driver['trials']}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000, help="of the store that commands read")
    parser.add_argument("--seeds", type=int, default=50, help="of each cell")
    parser.add_argument("--commands", nargs="*", default=["status", "plan", "run"], help="which of them")
    parser.add_argument("--drivers", nargs="*", type=int, default=[1_000, 10_000], help="trials of the runs")
    parser.add_argument("--rounds", type=int, default=3, help="of each command; the least counts")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options, Path(folder))
    if options.json:
        machine = {"system": platform.platform(terse=True), "cores": os.cpu_count()}
        options.json.write_text(json.dumps({"machine": machine, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
