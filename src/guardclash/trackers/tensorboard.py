"""TensorBoard: losses by epoch and metrics of each trial, verdicts as text. Files in a local folder, no server."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch.utils.tensorboard import SummaryWriter

from guardclash.trackers.tracker import TrackedTrial, Tracker


class TensorBoard(Tracker):
    """One TensorBoard run for each trial, in `<folder>/<study>/<recipe and combination>/<seed and key>`."""

    def trial_finished(self, trial: TrackedTrial, history: Sequence[Mapping[str, float]], seconds: float) -> None:
        """Losses over epochs, seconds, and the settings as text."""
        with self._writer(*_place(trial)) as writer:
            for line in history:
                for stream in line.keys() - {"epoch"}:
                    writer.add_scalar(f"loss/{stream}", line[stream], int(line["epoch"]))
            writer.add_scalar("training/seconds", seconds, 0)
            rows = "".join(f"| {name} | {value} |\n" for name, value in trial.settings.items())
            writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}")

    def trial_failed(self, trial: TrackedTrial, error: str) -> None:
        """The error as text."""
        with self._writer(*_place(trial)) as writer:
            writer.add_text("failed", error)

    def measured(self, trial: TrackedTrial, metrics: Mapping[str, float]) -> None:
        """Each metric as a scalar of one point."""
        with self._writer(*_place(trial)) as writer:
            for name, value in metrics.items():
                writer.add_scalar(name, value, 0)

    def verdict(self, study: str, recipe: str, combination: str, outcome: str, broken: Sequence[str]) -> None:
        """The outcome as text."""
        with self._writer(study, "verdicts") as writer:
            text = outcome + (f" ({', '.join(broken)})" if broken else "")
            writer.add_text(f"{recipe} {combination}", text)

    def _writer(self, *parts: str) -> SummaryWriter:
        return SummaryWriter(str(self.folder.joinpath(*map(_file_name, parts))))


def _place(trial: TrackedTrial) -> tuple[str, str, str]:
    return trial.study, f"{trial.recipe} {trial.combination}", f"seed {trial.seed} {trial.key[:8]}"


def _file_name(text: str) -> str:
    """A text as the name of a folder on any system; labels are the user's own."""
    return re.sub(r"[^\w=+,(){}.-]+", "_", text).strip(".")[:150] or "_"  # no "..", which would lead out
