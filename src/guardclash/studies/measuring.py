"""What a measurement holds, as records keep it."""

from __future__ import annotations

import math
import time
from typing import Any

from guardclash.errors import UserError
from guardclash.judging.criteria import Metric
from guardclash.judging.judgement import plain
from guardclash.measure import Measure
from guardclash.mechanism import Curve
from guardclash.plan.identity import describe
from guardclash.studies.code_since import codes_of_probe
from guardclash.studies.files import SCHEMA
from guardclash.studies.store import now
from guardclash.studies.trials import Probe
from guardclash.studies.verification import Verification
from guardclash.training.context import RunContext
from guardclash.training.trained import Trained


def measured(probe: Probe, trained: Trained, context: RunContext) -> dict[str, Any]:
    """Makes a measurement: its metrics with what made them, how long it took, and what there is to be drawn."""
    start = time.perf_counter()
    metrics, curves, scatter = values_of(probe, trained, context)
    return {
        "schema": SCHEMA,
        "trial": probe.trial.key,
        "measure": describe(probe.measure, full=True),
        "serving": describe(probe.serving, full=True),
        "codes": codes_of_probe(probe),
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
