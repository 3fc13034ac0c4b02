"""A job: train what is missing of one trial, measure it, keep both. This is what a worker process runs."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from guardclash.errors import SiteError, UserError
from guardclash.modules import told
from guardclash.numerics.layout import channels_last
from guardclash.plan.identity import Remembered, describe, fingerprint, nested, refuse_changed_default
from guardclash.plan.plan import Plan
from guardclash.registry import adopt_tasks
from guardclash.studies.activity import noted, seldom
from guardclash.studies.claims import claimed
from guardclash.studies.code_since import codes_of_plan
from guardclash.studies.environment import environment
from guardclash.studies.files import SCHEMA
from guardclash.studies.measuring import measured
from guardclash.studies.seal import KEY, OPEN
from guardclash.studies.signals import signals_kept
from guardclash.studies.store import LEFT, Store, kept_error, now
from guardclash.studies.tensors import load_into, to_bytes
from guardclash.studies.trials import Probe, Trial
from guardclash.telling import heard
from guardclash.training.context import RunContext
from guardclash.training.train import Diverged, EpochLog, Execution, build_network, train
from guardclash.training.trained import Trained, predictor

T = TypeVar("T")
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Job:
    """One trial and the measurements to make of it."""

    trial: Trial
    probes: tuple[Probe, ...]


@dataclass(frozen=True)
class Site:
    """Where jobs run: the store, the data and the execution; the same for a whole study."""

    store: Store
    data_folder: Path
    execution: Execution = field(default_factory=Execution)
    tasks: tuple[Any, ...] = ()
    """The study's own tasks, open; a worker process learns of them here."""

    def context(self, seed: int) -> RunContext:
        """The context of one replicate, its trained models read from the store."""
        return RunContext(seed, self.data_folder, self.read, self.keep, strict=True)

    def keep(self, identity: Any, seed: int, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Tensors that were dear to make, from the store if they were made before."""
        key = kept_key(identity, seed)
        content = self.store.data(key)
        if content is not None:
            try:
                return safetensors.torch.load(content)  # numbers and names: the format holds no code
            except safetensors.SafetensorError as error:  # of before there were checksums
                self.store.damaged[f"data/{key}.safetensors"] = str(error)
        content = to_bytes(make(), {KEY: OPEN, "source": json.dumps(describe(identity))})
        self.store.keep_data(key, content)
        # Read back even if just made: whoever finds it later gets the very same tensors.
        return safetensors.torch.load(content)  # what was just written

    def read(self, plan: Plan, seed: int) -> Trained:
        """A finished training from the store; one whose weights are damaged, or were left elsewhere, is trained anew.

        Raises:
            LookupError: If it is not there; the runner trains what a plan needs before the plan itself.
            UserError: Its weights are whole, and are not those of such a network.
        """
        trial = Trial(plan, seed)
        folder = self.store.trial(trial.key)
        if folder is None:
            raise LookupError(f"{trial.key} is not in the store")
        # As for a training: the rewrites make the layers that the weights are of.
        network = build_network(plan, self.context(seed))
        try:
            load_into(network, self.store.part(trial.key, WEIGHTS) or b"")
        except safetensors.SafetensorError as error:
            if WEIGHTS not in (self.store.record(trial.key) or {}).get(LEFT, ()):
                self.store.damaged.setdefault(f"trials/{trial.key}/{WEIGHTS}", str(error))
            return _train(trial, self)[0]
        except RuntimeError as error:
            mend = f"If its code has changed, raise the version of its class, or remove {folder}: it is trained anew."
            raise UserError(f"the weights of a trial do not fit: {error}", where=folder, mend=mend) from error
        channels_last(network, self.execution.device).eval()
        return Trained(plan, seed, network, predictor(network))


@dataclass(frozen=True)
class Done:
    """What became of a job."""

    job: Job
    seconds: float
    """Wall-clock seconds of training; 0 if it was in the store."""
    error: str | None = None
    damaged: tuple[str, ...] = ()
    """Files that were found damaged, and why; they are made anew."""
    elsewhere: bool = False
    """Whether nothing was done, since another process is at it."""


def kept_key(identity: object, seed: int) -> str:
    """The name in the store of what was kept for a value under a seed."""
    return f"{fingerprint(identity)}-{seed}"


def run_job(job: Job, site: Site) -> Done:
    """Trains the trial unless it is in the store, then makes the measurements that are missing.

    A failure is noted in the store and returned; it does not stop the study. Nothing is done where another process
    does the same.

    Raises:
        SiteError: For what would fail every other job as well, such as missing data or a full disk.
        KeyboardInterrupt: The user asked for it.
    """
    site = replace(site, store=Store(site.store.folder))
    adopt_tasks(site.tasks)
    threads = site.execution.threads  # a worker's own: those of all workers would fight for the cores
    torch.set_num_threads(threads)
    # Also numpy's: sums of floats hang on how many there are, and results must not on who runs the job.
    with threadpool_limits(threads), claimed(site.store, job.trial.key) as ours, signals_kept() as interrupted:
        if not ours:
            return Done(job, 0.0, elsewhere=True)
        done = _done(job, site, interrupted)
    return replace(done, damaged=tuple(f"{name}: {why}" for name, why in site.store.damaged.items()))


def _done(job: Job, site: Site, interrupted: Callable[[], bool]) -> Done:
    start = time.perf_counter()
    found = _tried(partial(_trained, job.trial, site), interrupted)
    if isinstance(found, _Failure):
        return _failed(job, site, found, time.perf_counter() - start)
    trained, seconds = found
    # All are tried before one is told: each that succeeds is kept.
    tried = [_tried(partial(_measured, probe, trained, site), interrupted) for probe in job.probes]
    for failure in tried:
        if failure:
            return _failed(job, site, failure, seconds)
    site.store.forget_failure(job.trial.key)  # of an earlier run
    return Done(job, seconds)


@dataclass(frozen=True)
class _Failure:
    """What a mechanism raised: whatever it is, a failure of its own trial."""

    error: BaseException


def _tried(work: Callable[[], T], interrupted: Callable[[], bool]) -> T | _Failure:
    """What some work gives, or how it failed.

    `SystemExit` and a `KeyboardInterrupt` that nobody asked for are failures too: they would end the study for all.
    """
    try:
        return work()
    except SiteError:
        raise
    except BaseException as error:
        if interrupted():
            raise
        return _Failure(error)


def _failed(job: Job, site: Site, failure: _Failure, seconds: float) -> Done:
    error = failure.error
    # One that diverged is noted as such: it would diverge again.
    site.store.keep_failure(job.trial.key, "".join(traceback.format_exception(error)), isinstance(error, Diverged))
    return Done(job, seconds, kept_error(told(error)))


def _measured(probe: Probe, trained: Trained, site: Site) -> None:
    """Makes one measurement, unless it is there."""
    if Checked(site.store).measurement(probe):
        return
    with noted(site.store, f"{probe.key}.measuring") as write, heard(seldom(write)):
        content = measured(probe, trained, site.context(probe.trial.seed))
    site.store.keep_measurement(probe.key, content)


_full: Remembered[Any] = Remembered(partial(describe, full=True))
"""One plan is that of many trials, and one measure that of many probes."""


@dataclass(frozen=True)
class Checked:
    """What is in a store, made by the same defaults; looked at once for each key."""

    store: Store
    _seen: dict[str, bool] = field(default_factory=dict)

    def record(self, trial: Trial) -> bool:
        """Whether a trial is there.

        Raises:
            UserError: If a default of one of its parts has changed since.
        """
        return self._there(trial.key, self.store.intact, "plan", trial.plan, "trial")

    def measurement(self, probe: Probe) -> bool:
        """Whether a measurement is there.

        Raises:
            UserError: If a default of its mechanism has changed since.
        """
        return self._there(probe.key, self.store.measurement, "measure", probe.measure, "measurement")

    def _there(self, key: str, read: Callable[[str], Any], part: str, value: Any, where: str) -> bool:
        if key not in self._seen:
            found = read(key)
            if found is not None:
                refuse_changed_default(found[part], _full(value), f"{where} {key}")
            self._seen[key] = found is not None
        return self._seen[key]


def _trained(trial: Trial, site: Site) -> tuple[Trained, float]:
    if Checked(site.store).record(trial):
        return site.read(trial.plan, trial.seed), 0.0
    return _train(trial, site)


def _train(trial: Trial, site: Site) -> tuple[Trained, float]:
    history: list[dict[str, Any]] = []
    with noted(site.store, f"{trial.key}.progress", epochs=trial.plan.epochs, epoch=0) as note:

        def log(entry: EpochLog) -> None:
            history.append({"epoch": entry.epoch, **{name: round(loss, 6) for name, loss in entry.losses.items()}})
            note(epoch=entry.epoch, losses=entry.losses)

        start = time.perf_counter()
        trained = train(trial.plan, site.context(trial.seed), site.execution, log)
        seconds = time.perf_counter() - start
        _keep(trial, trained, history, seconds, site)
    return trained, seconds


def _keep(trial: Trial, trained: Trained, history: list[dict[str, Any]], seconds: float, site: Site) -> None:
    record = {
        "schema": SCHEMA,
        "trial": trial.key,
        "seed": trial.seed,
        "plan": describe(trial.plan, full=True),
        "codes": codes_of_plan(trial.plan),
        "data": _kept_in(trial),
        "execution": describe(site.execution, full=True),
        "seconds": round(seconds, 3),
        "finished": now(),
        "environment": environment(site.execution.device),
    }
    files = {
        WEIGHTS: to_bytes(trained.network.state_dict()),
        "history.jsonl": "".join(json.dumps(line) + "\n" for line in history).encode(),
    }
    site.store.keep_trial(trial.key, record, files)


def _kept_in(trial: Trial) -> list[str]:
    """The files in the store of the images that were dear to make for this training: evidence."""
    sources = (part for part in nested(trial.plan, object) if getattr(part, "kept", False))
    return list(dict.fromkeys(f"data/{kept_key(source, trial.seed)}.safetensors" for source in sources))
