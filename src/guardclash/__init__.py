"""guardclash: which protections of a machine-learning model survive each other?

The names below are the Python interface; each is imported from its own module when it is first used, so that reading
results does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = {
    "guardclash.compose": ("Clash",),  # and compose.compose: as a name here its module would hide it
    "guardclash.data.loading": ("data_folder",),
    "guardclash.errors": ("UserError",),
    "guardclash.interface": ("Study", "Task"),
    "guardclash.judging.criteria": ("Ceiling", "Floor", "MaxDrop", "MaxGrowth", "Metric"),
    "guardclash.mechanism": ("Mechanism",),
    "guardclash.plan.identity": ("describe", "fingerprint"),
    "guardclash.plan.plan": ("Plan", "Stream"),
    "guardclash.registry": ("find_mechanism", "find_mechanisms"),
    "guardclash.reporting.rows": ("frame",),
    "guardclash.reporting.sentences": ("explain",),
    "guardclash.studies.verdicts": ("verdicts",),
    "guardclash.studies.dry_run": ("check_study",),
    "guardclash.studies.engines": ("Inline", "processes"),
    "guardclash.studies.jobs": ("Site",),
    "guardclash.records.file": ("read_results",),
    "guardclash.records.results": ("Results",),
    "guardclash.studies.run": ("run_study",),
    "guardclash.studies.store": ("Store",),
    "guardclash.studies.study_file": ("read_study", "study_from"),
    "guardclash.tasks.recipe": ("Recipe", "recipe"),
    "guardclash.trackers.tracker": ("Tracker",),
    "guardclash.training.context": ("RunContext",),
    "guardclash.training.train": ("Execution", "train"),
    "guardclash.training.trained": ("Trained", "accuracy"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'guardclash' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__]
