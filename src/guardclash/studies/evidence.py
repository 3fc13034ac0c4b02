"""What mechanisms put into the trainings of a study: as pictures in the store, for reports, and as files."""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from guardclash.data.pictures import Picture, reduced
from guardclash.errors import UserError
from guardclash.mechanism import Mechanism
from guardclash.plan.identity import fingerprint
from guardclash.plan.plan import Plan
from guardclash.studies.composing import compose_study
from guardclash.studies.jobs import Site
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.trials import ComposedCell, Trial
from guardclash.words import cut, shown
from guardclash.writing import write_whole

LARGEST = 64 * 1024
"""Bytes of a picture in the records: a page may show it in the details of dozens of combinations."""
ALL = 4 * LARGEST
"""Bytes of all pictures of one mechanism."""


def keep_pictures(composed: Iterable[ComposedCell], site: Site) -> None:
    """Keeps in the store what reports show: the pictures of every mechanism alone, under the first of its seeds.

    They are made once, when that seed is trained. What cannot be made costs nothing but the picture, and a warning.
    """
    for entry, plan in _alone(composed):
        (mechanism,), seed, key = entry.combination, entry.seeds[0], _key(entry, plan)
        draws = type(mechanism).evidence is not Mechanism.evidence
        if not draws or site.store.trial(Trial(plan, seed).key) is None or site.store.pictures(key) is not None:
            continue
        if why := site.store.damaged.get(name := f"evidence/{key}.json"):
            warnings.warn(f"damaged, made anew: {name}: {why}", stacklevel=2)
        try:
            site.store.keep_pictures(key, list(_records(mechanism.evidence(plan, site.context(seed)))))
        except Exception as error:  # of a plugin, or because data is gone: results must not hang on it
            why = shown(cut(f"{type(error).__name__}: {error}"))
            warnings.warn(f"there are no pictures of what {mechanism.name} put in. {why}", stacklevel=2)


def kept_pictures(entry: ComposedCell, store: Store) -> list[dict[str, Any]]:
    """The pictures in the store of a mechanism alone; none of other cells.

    Returns:
        For each picture its name, its caption and either `png` (base64) with the `width` in screen pixels to show it
        at, or the `bytes` of a picture that is too large for a report.
    """
    return [found for one, plan in _alone([entry]) for found in store.pictures(_key(one, plan)) or ()]


def _alone(composed: Iterable[ComposedCell]) -> Iterator[tuple[ComposedCell, Plan]]:
    """The cells in which a mechanism stands alone, each with its plan."""
    for entry in composed:
        if entry.plan and not entry.cell.suspect and len(entry.combination) == 1:
            yield entry, entry.plan


def _key(entry: ComposedCell, plan: Plan) -> str:
    """Pictures follow from a mechanism, what it is trained in, and the seed; several mechanisms may share a plan."""
    return f"{fingerprint(plan, *entry.combination)}-{entry.seeds[0]}"


def _records(pictures: Iterable[Picture]) -> Iterator[dict[str, Any]]:
    left = ALL
    for picture in pictures:
        words = {"name": picture.name, "caption": picture.caption}
        small = reduced(picture.png, min(LARGEST, left))
        if small is None:
            yield {**words, "bytes": len(picture.png)}
            continue
        left -= len(small.png)
        if small.colours:
            words["caption"] += f" Reduced to {small.colours} colours."
        yield {**words, "png": base64.b64encode(small.png).decode(), "width": small.width}


def keep_evidence(study: Study, site: Site, folder: Path, seed: int) -> tuple[tuple[Path, Picture], ...]:
    """Writes the pictures of every mechanism of a study, one set for each recipe, and gives their paths.

    Raises:
        UserError: If a training that a picture is made with is not in the store yet, or a file cannot be written.
    """
    written = []
    for entry, plan in _alone(compose_study(study, site.data_folder)):
        (mechanism,), (named,) = entry.combination, entry.cell.combination
        try:
            pictures = mechanism.evidence(plan, site.context(seed))
        except LookupError as error:
            raise UserError(f"there is no such picture yet: {error}", mend="Run the study first.") from error
        for picture in pictures:
            label = f"{study.recipe_label(entry.cell.recipe)} {study.label(named)} {picture.name}"
            path = folder / (re.sub(r"[^a-z0-9.=]+", "-", label.lower()).strip("-") + ".png")
            try:
                write_whole(path, picture.png)
            except OSError as error:
                raise UserError(f"a picture cannot be written: {error.strerror}", where=path) from error
            written.append((path, picture))
    return tuple(written)
