"""How long the trainings of a study will take: as other seeds took, or by a few steps of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from guardclash.errors import SiteError
from guardclash.plan.identity import plan_key
from guardclash.plan.plan import Plan
from guardclash.registry import adopt_tasks
from guardclash.studies.jobs import Job, Site
from guardclash.studies.signals import signals_kept
from guardclash.studies.store import Store
from guardclash.studies.trials import Trial
from guardclash.studies.workers import WorkerLost
from guardclash.training.stopwatch import estimate_seconds


class Executor(Protocol):
    """Runs calls, here or elsewhere: `concurrent.futures`, Dask's client and submitit have this shape.

    Futures of `concurrent.futures` are taken as they finish, others in the order in which they were submitted.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Something whose `result()` is that of `fn(*args)`."""


def trials_of(jobs: Iterable[tuple[Job, ...]], store: Store) -> dict[str, Trial]:
    """The trials that are still to be trained, by key."""
    return {job.trial.key: job.trial for wave in jobs for job in wave if store.intact(job.trial.key) is None}


def estimates(trials: Iterable[Trial], site: Site, executor: Executor) -> dict[str, float]:
    """Seconds that each training will take: as its other seeds took, or by timing a few of its steps.

    Trainings that are alike but for whose they are and on which of as many examples are timed once.
    """
    trials = tuple(trials)
    plans = {plan_key(trial.plan): trial for trial in reversed(trials)}
    found = _measured_seconds(site.store, plans)
    alike = {plan: plan_key(_outline(trial.plan)) for plan, trial in plans.items()}
    known = {alike[plan]: seconds for plan, seconds in found.items() if seconds}
    first = {alike[plan]: trial for plan, trial in plans.items() if alike[plan] not in known}
    timed = {outline: executor.submit(_estimate, trial, site) for outline, trial in first.items()}
    for outline, future in timed.items():
        try:
            known[outline] = future.result()
        except WorkerLost:
            known[outline] = 0.0  # its job will be lost as well, and say why
    return {trial.key: found.get(key := plan_key(trial.plan)) or known[alike[key]] for trial in trials}


@dataclass(frozen=True)
class _Examples:
    """So many examples, whichever."""

    size: int


def _outline(plan: Plan) -> Plan:
    """What the time of a training hangs on: timing takes inputs of its own, whatever a source holds."""
    streams = tuple(replace(one, source=_Examples(one.source.size)) for one in plan.streams)  # type: ignore[arg-type]
    return replace(plan, streams=streams, party="")


def _estimate(trial: Trial, site: Site) -> float:
    adopt_tasks(site.tasks)
    with signals_kept() as interrupted:
        try:
            return estimate_seconds(trial.plan, site.context(trial.seed), site.execution.device)
        except SiteError:
            raise
        except BaseException:
            if interrupted():
                raise
            return 0.0  # its job will fail as well, and say why


def _measured_seconds(store: Store, plans: Collection[str]) -> dict[str, float]:
    """Mean seconds by plan of what is in the store."""
    taken: dict[str, list[float]] = {}
    for key in store.trial_keys() if plans else ():
        plan = key.rpartition("-")[0]
        record = store.record(key) if plan in plans else None
        if record:
            taken.setdefault(plan, []).append(record["seconds"])
    return {plan: sum(values) / len(values) for plan, values in taken.items()}
