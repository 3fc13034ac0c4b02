"""What mechanisms put into the trainings of a study, as picture files."""

from __future__ import annotations

import re
from pathlib import Path

from guardclash.data.pictures import Picture
from guardclash.errors import UserError
from guardclash.studies.jobs import Site
from guardclash.studies.study import Study
from guardclash.studies.trials import compose_study


def keep_evidence(study: Study, site: Site, folder: Path, seed: int) -> tuple[tuple[Path, Picture], ...]:
    """Writes the pictures of every mechanism of a study, one set for each recipe, and gives their paths.

    Raises:
        UserError: If a training that a picture is made with is not in the store yet, or a file cannot be written.
    """
    written = []
    for entry in compose_study(study):
        if entry.plan is None or len(entry.combination) != 1:
            continue
        (mechanism,), (named,) = entry.combination, entry.cell.combination
        try:
            pictures = mechanism.evidence(entry.plan, site.context(seed))
        except LookupError as error:
            raise UserError(f"there is no such picture yet: {error}", mend="Run the study first.") from error
        for picture in pictures:
            label = f"{study.recipe_label(entry.cell.recipe)} {study.label(named)} {picture.name}"
            path = folder / (re.sub(r"[^a-z0-9.=]+", "-", label.lower()).strip("-") + ".png")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture.png)
            except OSError as error:
                raise UserError(f"a picture cannot be written: {error.strerror}", where=path) from error
            written.append((path, picture))
    return tuple(written)
