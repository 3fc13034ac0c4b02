"""MLflow: an experiment for each study, a run for each trial. A local database, no server, no telemetry."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when it is imported

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run

from guardclash.trackers.tracker import TrackedTrial, Tracker

METRICS_AT_ONCE, PARAMS_AT_ONCE, LONGEST = 1000, 100, 500
"""Limits of MLflow's own interface."""


class MLflow(Tracker):
    """Writes `<folder>/mlflow.db`; `mlflow ui --backend-store-uri sqlite:///<folder>/mlflow.db` shows it.

    Where a study runs in pieces, a trial's later measurements go to the run that it has.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        for name in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)  # they tell how they make the tables
        folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(f"sqlite:///{(folder / 'mlflow.db').resolve()}")

    def trial_finished(self, trial: TrackedTrial, history: Sequence[Mapping[str, float]], seconds: float) -> None:
        """Losses by epoch, seconds, settings as parameters."""
        run, now = self._run(trial), _now()
        losses = [
            Metric(_name(f"loss/{stream}"), line[stream], now, int(line["epoch"]))
            for line in history
            for stream in line.keys() - {"epoch"}
        ]
        metrics = [*losses, Metric("training/seconds", seconds, now, 0)]
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            self._client.log_batch(run, metrics=metrics[start : start + METRICS_AT_ONCE])
        self._client.set_terminated(run, "FINISHED")

    def trial_failed(self, trial: TrackedTrial, error: str) -> None:
        """The run is marked as failed."""
        run = self._run(trial)
        self._client.set_tag(run, "error", error[:LONGEST])
        self._client.set_terminated(run, "FAILED")

    def measured(self, trial: TrackedTrial, metrics: Mapping[str, float]) -> None:
        """Each metric under its name."""
        now = _now()
        self._client.log_batch(self._run(trial), metrics=[Metric(_name(n), v, now, 0) for n, v in metrics.items()])

    def verdict(self, study: str, recipe: str, combination: str, outcome: str, broken: Sequence[str]) -> None:
        """A tag of the experiment."""
        text = outcome + (f" ({', '.join(broken)})" if broken else "")
        self._client.set_experiment_tag(self._experiment(study), _name(f"verdict {recipe} {combination}"), text)

    def _experiment(self, study: str) -> str:
        found = self._client.get_experiment_by_name(study)
        if found:
            return str(found.experiment_id)
        return self._client.create_experiment(study, artifact_location=(self.folder / "artifacts").resolve().as_uri())

    def _run(self, trial: TrackedTrial) -> str:
        """The id of the trial's run, which is made if there is none."""
        experiment = self._experiment(trial.study)
        found: list[Run] = self._client.search_runs([experiment], f"tags.trial = '{trial.key}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {"trial": trial.key, "recipe": trial.recipe, "combination": trial.combination, "seed": str(trial.seed)}
        name = f"{trial.recipe} {trial.combination}, seed {trial.seed}"
        run = str(self._client.create_run(experiment, tags=tags, run_name=name).info.run_id)
        params = [Param(_name(key), str(value)[:LONGEST]) for key, value in trial.settings.items()]
        for start in range(0, len(params), PARAMS_AT_ONCE):
            self._client.log_batch(run, params=params[start : start + PARAMS_AT_ONCE])
        return run


def _name(text: str) -> str:
    """A text as MLflow takes it for a name."""
    return re.sub(r"[^\w\-./ ]", "_", text)[:250]  # longer ones are refused


def _now() -> int:
    return int(time.time() * 1000)  # MLflow counts milliseconds
