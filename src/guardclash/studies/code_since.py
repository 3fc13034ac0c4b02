"""Whether the code of what a study is made of is still that which made its results, where nobody raised a version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from guardclash.plan.codes import changed, code_digest, codes
from guardclash.plan.identity import Remembered
from guardclash.plan.plan import Plan
from guardclash.studies.store import Store
from guardclash.studies.trials import ComposedCell, Probe

TRAINING = "guardclash.training.train", "train"


def _of_plan(plan: Plan) -> dict[str, str]:
    return codes(plan) | {"training": code_digest(*TRAINING)}


codes_of_plan: Remembered[dict[str, str]] = Remembered(_of_plan)
"""Digests of the code that a training runs; one plan is that of many trials."""
_of_measure: Remembered[dict[str, str]] = Remembered(codes)


def codes_of_probe(probe: Probe) -> dict[str, str]:
    """Digests of the code that a measurement runs beside that of its model."""
    serving = (_of_measure(mechanism) for mechanism in probe.serving)
    return {name: digest for found in (_of_measure(probe.measure), *serving) for name, digest in found.items()}


def code_since(composed: Iterable[ComposedCell], store: Store) -> tuple[str, ...]:
    """In one sentence, if any, which classes have another code than the one that made results of a study.

    Code may change and mean the same, so results are still used; where it changes what is meant, the class's `version`
    has to be raised.
    """
    results = {key: names for entry in composed for key, names in _changed(entry, store)}
    counts = Counter(name for names in results.values() for name in names)
    if not counts:
        return ()
    # An edited file changes many classes at once: a sentence for each would hide what else is noted.
    told = ", ".join(f"{name} ({count} result{'s' * (count > 1)})" for name, count in sorted(counts.items()))
    mend = "if it means something else now, raise the version of the class"
    return (f"another code than today's made results of {told}; {mend}",)


def _changed(entry: ComposedCell, store: Store) -> Iterator[tuple[str, tuple[str, ...]]]:
    for trial in entry.trials():
        if (record := store.record(trial.key)) is not None:
            yield trial.key, changed(_recorded(record), codes_of_plan(trial.plan))
        for probe in entry.probes(trial):
            if (found := store.measurement(probe.key)) is not None:
                yield probe.key, changed(_recorded(found), codes_of_probe(probe))


def _recorded(content: Mapping[str, Any]) -> dict[str, str]:
    known = content.get("codes")  # of before they were noted there are none
    return dict(known) if isinstance(known, dict) else {}
