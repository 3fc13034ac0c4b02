"""`guardclash atlas`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guardclash.cli.console import out, write
from guardclash.errors import UserError


def atlas(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Folders of studies that have records, a lab each; by default studies.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A .md or .json file, instead of the terminal.")
    ] = None,
    literature: Annotated[
        Path | None,
        typer.Option("--literature", help="What publications expect, as studies/table9/literature.json."),
    ] = None,
) -> None:
    """Every combination on record, of one lab or several.

    All verdicts by data set, each by its study's own rule, with what it rests on; where labs or studies differ, that is
    said.
    """
    from guardclash.reporting.atlas import atlas as sights_of
    from guardclash.reporting.atlas import literature_from, to_json, to_markdown

    forms = {".md": "Markdown", ".json": "JSON"}
    if output is not None and output.suffix not in forms:
        raise UserError("no such form of an atlas", where="--output", got=output, allowed=", ".join(forms))
    known = literature_from(literature) if literature else {}
    sights = sights_of(folders or [Path("studies")])
    text = to_json(sights) if output and output.suffix == ".json" else to_markdown(sights, known)
    if output is None:
        out.print(text, markup=False, soft_wrap=True)
    else:
        write(text.encode(), output, "atlas")
