"""A job: train what is missing of one trial, measure it, keep both. This is what a worker process runs."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from guardclash.errors import UserError
from guardclash.judging.criteria import Metric
from guardclash.judging.judgement import plain
from guardclash.measure import Measure
from guardclash.mechanism import Curve
from guardclash.plan.identity import Remembered, describe, fingerprint, nested, refuse_changed_default
from guardclash.plan.plan import Plan
from guardclash.registry import adopt_tasks
from guardclash.studies.activity import noted
from guardclash.studies.environment import environment
from guardclash.studies.store import SCHEMA, Store, now
from guardclash.studies.trials import Probe, Trial
from guardclash.studies.verification import Verification
from guardclash.training.context import RunContext
from guardclash.training.train import Diverged, EpochLog, Execution, build_network, train
from guardclash.training.trained import Trained, predictor


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
        path = self.store.data(key)
        if path is None:
            content = safetensors.torch.save(make(), {"source": json.dumps(describe(identity))})
            path = self.store.keep_data(key, content)
        # Read back even if just made: whoever finds it later gets the very same tensors.
        try:
            return safetensors.torch.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            mend = "Remove it; the next run makes it anew."
            raise UserError(f"kept data cannot be read: {error}", where=path, mend=mend) from error

    def read(self, plan: Plan, seed: int) -> Trained:
        """A finished training from the store.

        Raises:
            LookupError: If it is not there; the runner trains what a plan needs before the plan itself.
        """
        trial = Trial(plan, seed)
        folder = self.store.trial(trial.key)
        if folder is None:
            raise LookupError(f"{trial.key} is not in the store")
        # As for a training: the rewrites make the layers that the weights are of.
        network = build_network(plan, self.context(seed))
        try:
            network.load_state_dict(safetensors.torch.load_file(folder / "weights.safetensors"))
        except (safetensors.SafetensorError, RuntimeError, OSError) as error:
            mend = f"Remove the folder {folder}; the next run trains it anew."
            raise UserError(f"the weights of a trial cannot be read: {error}", where=folder, mend=mend) from error
        network.to(self.execution.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        return Trained(plan, seed, network, predictor(network))


@dataclass(frozen=True)
class Done:
    """What became of a job."""

    job: Job
    seconds: float
    """Wall-clock seconds of training; 0 if it was in the store."""
    error: str | None = None


def kept_key(identity: object, seed: int) -> str:
    """The name in the store of what was kept for a value under a seed."""
    return f"{fingerprint(identity)}-{seed}"


def run_job(job: Job, site: Site) -> Done:
    """Trains the trial unless it is in the store, then makes the measurements that are missing.

    A failure is noted in the store and returned; it does not stop the study.

    Raises:
        UserError: For what would fail every other job as well, such as missing data or a full disk.
    """
    start = time.perf_counter()
    adopt_tasks(site.tasks)
    torch.set_num_threads(site.execution.threads)  # a worker's own: those of all workers would fight for the cores
    try:
        trained, seconds = _trained(job.trial, site)
    except UserError:
        raise
    except Diverged as error:  # noted as such: it would diverge again
        return _failed(job, site, error, time.perf_counter() - start, diverged=True)
    except Exception as error:
        return _failed(job, site, error, time.perf_counter() - start)
    # All are tried before one is told: each that succeeds is kept.
    failures = [failure for probe in job.probes if (failure := _measured(probe, trained, site))]
    if failures:
        return _failed(job, site, failures[0], seconds)
    site.store.forget_failure(job.trial.key)  # of an earlier run
    return Done(job, seconds)


def _failed(job: Job, site: Site, error: Exception, seconds: float, diverged: bool = False) -> Done:
    site.store.keep_failure(job.trial.key, "".join(traceback.format_exception(error)), diverged)
    return Done(job, seconds, f"{type(error).__name__}: {error}")


def _measured(probe: Probe, trained: Trained, site: Site) -> Exception | None:
    """Makes one measurement; its failure must not keep others from being made."""
    try:
        _measure(probe, trained, site)
    except UserError:
        raise
    except Exception as error:
        return error
    return None


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
        return self._there(trial.key, self.store.record, "plan", trial.plan, "trial")

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
        "data": _kept_in(trial),
        "execution": describe(site.execution, full=True),
        "seconds": round(seconds, 3),
        "finished": now(),
        "environment": environment(site.execution.device),
    }
    # Channels-last on the way, plain in the file: it is read on any device.
    weights = {name: value.contiguous().cpu() for name, value in trained.network.state_dict().items()}
    files = {
        "weights.safetensors": safetensors.torch.save(weights),
        "history.jsonl": "".join(json.dumps(line) + "\n" for line in history).encode(),
        "record.json": (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode(),
    }
    site.store.keep_trial(trial.key, files)


def _kept_in(trial: Trial) -> list[str]:
    """The files in the store of the images that were dear to make for this training: evidence."""
    sources = (part for part in nested(trial.plan, object) if getattr(part, "kept", False))
    return list(dict.fromkeys(f"data/{kept_key(source, trial.seed)}.safetensors" for source in sources))


def _measure(probe: Probe, trained: Trained, site: Site) -> None:
    if Checked(site.store).measurement(probe):
        return
    start = time.perf_counter()
    with noted(site.store, f"{probe.key}.measuring"):
        metrics, curves, scatter = values_of(probe, trained, site.context(probe.trial.seed))
    content = {
        "schema": SCHEMA,
        "trial": probe.trial.key,
        "measure": describe(probe.measure, full=True),
        "serving": describe(probe.serving, full=True),
        "metrics": {
            metric.name: kept_value(metric, metrics[metric.name])
            for metric in probe.measure.metrics
            if metric.name in metrics
        },
        **({"curves": curves} if curves else {}),
        **({"scatter": scatter} if scatter else {}),
        "warnings": list(probe.measure.warnings(metrics)),
        "seconds": round(time.perf_counter() - start, 3),
        "finished": now(),
    }
    site.store.keep_measurement(probe.key, content)


def values_of(
    probe: Probe, trained: Trained, context: RunContext
) -> tuple[dict[str, float], dict[str, list[list[float]]], dict[str, Any]]:
    """Metrics as they were measured; curves and a scatter as records hold them."""
    answering = probe.model.answering(trained, context)
    metrics = probe.measure.measure(answering, context)
    declared = {metric.name for metric in probe.measure.metrics}
    if not set(metrics) <= declared:
        raise ValueError(
            f"{type(probe.measure).__name__}.measure() returned {sorted(metrics)}; declared: {sorted(declared)}"
        )
    curves = probe.measure.curves(answering, context) if isinstance(probe.measure, Verification) else {}
    scatter = probe.measure.scatter(answering, context) if isinstance(probe.measure, Measure) else None
    kept = {name: _kept_curve(name, curve) for name, curve in curves.items() if curve}
    return metrics, kept, scatter.to_dict() if scatter else {}


def kept_value(metric: Metric, value: float) -> float | str | None:
    """A measured value as records hold it.

    Raises:
        ValueError: It is none.
    """
    try:
        return plain(metric.checked(value))
    except UserError as error:
        raise ValueError(str(error)) from error  # of this measurement alone: others go on
    except (TypeError, ValueError) as error:
        raise ValueError(f"{metric.name} is {value!r}, which is no number") from error


def _kept_curve(name: str, curve: Curve) -> list[list[float]]:
    """A curve as records hold it: it is there to be drawn, so six digits of y are enough."""
    points = [[float(x), float(f"{y:.6g}")] for x, y in curve]
    if not all(math.isfinite(number) for point in points for number in point):
        raise ValueError(f"the curve {name} has points that are no numbers")
    return points
