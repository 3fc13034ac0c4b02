"""What a report says beside its tables: privacy spent, what is missing or failed, seeds that would decide, scale."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from guardclash.judging.verdict import Verdict
from guardclash.records.cells import Cell, Named, braces
from guardclash.records.results import UNKNOWN, CellRecord, Results
from guardclash.reporting.claims_text import claim_notes
from guardclash.reporting.findings import Findings
from guardclash.reporting.reasons import coverage, reasons, warnings
from guardclash.reporting.tables import duration, limit, models_of
from guardclash.reporting.versions import made_with, mixed
from guardclash.studies.study import Study
from guardclash.words import cut

Noted = tuple[str, str, str]
"""A recipe, models on it, and what is to be known of them."""
NOT_RUN = "not run yet."
EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(:|$)")
"""How the line of a traceback begins that says what went wrong; those of its places are indented."""
SCALE = {"examples", "epochs", "protected_epochs", "batch_size", "test_examples", "model", "norm"}
"""Fields of a recipe that tell how large its trainings are."""
GIVEN = {"type", "shape", "classes", "mean", "std"}
"""Of a network, what its type and its data say anyway."""


def notes(found: Findings) -> list[str]:
    """What a reader must know beside the tables: privacy spent, what is missing or failed, seeds that would decide."""
    study, results = found.study, found.results
    cells = (*study.cells(), *study.suspect_cells())
    of_cells = [note for cell in cells for note in _cell_notes(study, results, cell)]
    # Of these a verdict would only say the same again, metric by metric.
    unknown = {note[:2] for note in of_cells if note[2] == NOT_RUN}
    of_verdicts = [
        note for verdict in found.verdicts for note in _verdict_notes(study, verdict) if note[:2] not in unknown
    ]
    lines = [*_grouped(of_cells), *claim_notes(study, results), *_grouped(of_verdicts)]
    lines += [coverage(study, found.verdicts)] if found.verdicts else []
    lines += _limits(results, cells)
    lines += scales(study, results, study.recipes)
    if said := mixed(results):
        lines += [said, *_grouped(made_with(study, results, cells))]
    lines += [f"{words[0].upper()}{words[1:]}." for words in results.changed]
    lines += [f"Damaged in the store, and left out: {flaw}." for flaw in results.damaged]
    lines += _compute(results, cells)
    return list(dict.fromkeys(lines))


def _grouped(notes: Iterable[Noted]) -> list[str]:
    """What is noted of several places alike, once; and once the models of which it is noted on several recipes."""
    places: dict[str, dict[str, list[str]]] = {}
    for recipe, models, text in notes:
        places.setdefault(text, {}).setdefault(recipe, []).append(models)
    lines = []
    for text, by_recipe in places.items():
        by_models: dict[str, list[str]] = {}
        for recipe, alike in by_recipe.items():
            by_models.setdefault(", ".join(dict.fromkeys(alike)), []).append(recipe)
        lines.append("; ".join(f"{', '.join(found)} {models}" for models, found in by_models.items()) + f": {text}")
    return lines


def _limits(results: Results, cells: Iterable[Cell]) -> Iterator[str]:
    """Metrics that the results hold with several limits, so that verdicts on them are not by one measure.

    Limits are those of the results; what a mechanism asks for today is not known here, without torch.
    """
    found: dict[tuple[Named, str, str], dict[str, str]] = {}
    for cell in cells:
        for of, metrics in (results.cell(cell) or UNKNOWN).measures.items():
            for metric in metrics:
                found.setdefault((cell.recipe, of, metric.name), {})[limit(metric)] = metric.symbol
    for limits in found.values():
        if len(limits) > 1:
            symbol = next(iter(limits.values()))
            yield f"{symbol}: the results hold several limits, {', '.join(limits)}; each table says by which it judges."


def _compute(results: Results, cells: Iterable[Cell]) -> Iterator[str]:
    """How many models were trained for cells, in what time, and where."""
    known = [entry for cell in cells if (entry := results.cell(cell))]
    # By key: a training that serves several cells took its time once.
    taken = {trial.key: trial.seconds for entry in known for trial in entry.trials}
    seconds = [time for time in taken.values() if time is not None]
    machines = dict.fromkeys(
        " with ".join(filter(None, (str(one.get("processor", "unknown")), one.get("accelerator"))))
        for one in results.environments
    )
    if seconds:
        where = f" on {'; '.join(machines)}" if machines else ""
        yield f"Compute: {len(seconds)} models, {duration(sum(seconds))} of training{where}; measuring comes on top."


def _cell_notes(study: Study, results: Results, cell: Cell) -> Iterator[Noted]:
    entry, recipe, models = results.cell(cell), study.recipe_label(cell.recipe), models_of(study, cell)
    if entry is None or not (entry.clash or entry.trials):
        yield recipe, models, NOT_RUN
        return
    for name, facts in entry.facts.items():
        yield recipe, models, f"{name}: " + "; ".join(f"{fact} {cut(value)}" for fact, value in facts.items()) + "."
    for trial in entry.trials:
        if trial.error:
            yield recipe, models, f"seed {trial.seed} failed: {failure(trial.error)}"
        for measurement in trial.measurements.values():
            for warning in measurement.warnings:
                yield recipe, models, f"seed {trial.seed}: {cut(warning)}."


def _verdict_notes(study: Study, verdict: Verdict) -> Iterator[Noted]:
    recipe, models = verdict.recipe, braces(verdict.combination)
    if verdict.missing:
        yield recipe, models, "still to be measured: " + "; ".join(verdict.missing) + "."
    if not verdict.clash:
        for said in (*reasons(verdict, study.rule), *warnings(study, verdict, study.rule)):
            yield recipe, models, str(said)


def scales(study: Study, results: Results, recipes: Iterable[Named]) -> Iterator[str]:
    """How large trainings are, said once for all recipes that share it."""
    shared: dict[str | None, list[str]] = {}
    for recipe in recipes:
        shared.setdefault(_scale_of(study, results, recipe), []).append(study.recipe_label(recipe))
    for scale, labels in shared.items():
        if scale:
            yield f"Scale of {', '.join(labels)}: {scale}."
    told: dict[str, list[str]] = {}
    for recipe in recipes:
        told.setdefault(_data_of(study, results, recipe), []).append(study.recipe_label(recipe))
    for said, labels in told.items():
        if said:
            yield f"Data of {', '.join(labels)}: {said}"


def _data_of(study: Study, results: Results, recipe: Named) -> str:
    """What was done to a recipe's data; "" where there is nothing to say."""
    data = (results.cell(Cell(recipe, (), study.alone)) or UNKNOWN).data
    if not data:
        return ""
    sizes = ", ".join(f"{size:,} {split}" for split, size in data["sizes"].items())
    return " ".join((f"{sizes}.", *data["notes"]))


def _scale_of(study: Study, results: Results, recipe: Named) -> str | None:
    """How large a recipe's trainings are; None while the results know nothing of it."""
    entry = results.cell(Cell(recipe, (), study.alone))
    if entry is None:
        return None
    made = entry.recipe
    if not made.keys() >= SCALE:
        return "not recorded"
    protected = f" ({made['protected_epochs']} protected)" if made["protected_epochs"] else ""
    left = f"{made['trained_on']} of " if "trained_on" in made else ""
    examples = f"{left}{made['examples'] or 'all'} training examples, {made['epochs']} epochs{protected}"
    trained = f"batch {made['batch_size']}, {_network_of(entry)}"
    return f"{examples}, {trained}; {made['test_examples'] or 'all'} test examples"


def _network_of(entry: CellRecord) -> str:
    """The network that was trained, from its plan; a recipe's word for it may mean another one elsewhere."""
    made, size = (entry.composed or {}).get("model"), entry.recipe.get("parameters")
    large = f", {size:,} parameters" if size else ""
    if not isinstance(made, Mapping):
        return f"{entry.recipe['model']} with {entry.recipe['norm']} norm{large}"
    if "code" in made:  # of somebody's own
        return f"{entry.recipe['model']}{large}"
    told = {name: value for name, value in made.items() if name not in GIVEN and not isinstance(value, Mapping)}
    options = ", ".join(f"{name} {_said(value)}" for name, value in told.items())
    return f"{made.get('type', 'network')} ({options}){large}"


def _said(value: Any) -> str:
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def failure(error: str) -> str:
    r"""Of a traceback: what went wrong, the line that names the exception; its text may go on below.

    Example:
        >>> failure("Traceback (most recent call last):\n  File ...\nRuntimeError: tied weights\nSee https://...")
        'RuntimeError: tied weights'
    """
    lines = [line.rstrip() for line in error.strip().splitlines()] or [""]
    # The last one is what came out in the end, whatever it was caused by.
    last = max((place for place, line in enumerate(lines) if line.startswith("Traceback")), default=-1)
    return cut(next((line for line in lines[last + 1 :] if EXCEPTION.match(line)), lines[-1]))
