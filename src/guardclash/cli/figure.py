"""`guardclash figure`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guardclash.cli.console import write
from guardclash.cli.options import (
    RUNS,
    DataPath,
    Datasets,
    ResultsPath,
    Rule,
    Scale,
    StorePath,
    StudyPath,
    restricted,
    results_of,
    rule_of,
)
from guardclash.reporting.figures import FIGURES
from guardclash.studies.study_file import read_study

if TYPE_CHECKING:
    from guardclash.reporting.findings import Findings


def figure(  # noqa: PLR0913, PLR0917  (options of a command, given by name)
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"Which figure: {', '.join(FIGURES)}.")],
    study: StudyPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="A file to write: .svg, .pdf or .png.")],
    store: StorePath = RUNS,
    results: ResultsPath = None,
    rule: Rule = None,
    scale: Scale = None,
    datasets: Datasets = None,
    data_dir: DataPath = None,
    further: Annotated[
        list[Path] | None,
        typer.Option("--with", help="Another study, drawn in the same matrix by its records; may be repeated."),
    ] = None,
) -> None:
    """Draws what is measured so far.

    It works on a half-finished study, and needs matplotlib.
    """
    from guardclash.reporting.figures import draw, figure_named, form_of
    from guardclash.reporting.findings import find

    form, _ = form_of(output), figure_named(name)  # mistakes are told before anything is read

    def said(path: Path, given: Path | None) -> Findings:
        whole = read_study(path, scale)
        return find(restricted(whole, datasets), results_of(whole, store, given, data_dir), rule_of(rule))

    others = [said(path, None) for path in further or ()]
    write(draw(name, said(study, results), form, *others), output, "figure")
