"""`guardclash demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guardclash.cli.console import say
from guardclash.cli.options import RUNS, Scale, StorePath, Workers
from guardclash.cli.report import report
from guardclash.cli.run import run
from guardclash.errors import UserError

HERE = Path(__file__)
PLACES = HERE.with_name("demo_parts"), HERE.parents[3] / "studies"
"""Folders that may have the bundled study: of an installed package, into which the build puts it (pyproject.toml), and
of a clone, which has it once, in studies/."""
STUDY = "digits.toml"


def demo(
    store: StorePath = RUNS,
    workers: Workers = None,
    scale: Scale = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")] = Path("demo.html"),
) -> None:
    """Runs the bundled study, as a first look.

    Minutes on two cores, half a minute at --scale smoke.

    Does a watermark survive differentially private training? Prints the verdicts and writes the report as a page.
    """
    study = bundled()
    say(f"The bundled study {study}: does a watermark survive differentially private training?")
    say(f"Trains small models on digits, keeps them in {store}, prints the verdicts and writes {output}.")
    run(study, store=store, workers=workers, scale=scale)
    report(study, store=store, output=output, form="html", scale=scale)
    say(f"next: open {output} in a browser, then guardclash new study NAME for a study of your own")


def bundled() -> Path:
    """The bundled study's file.

    Raises:
        UserError: The installation lacks it.
    """
    for place in PLACES:
        if (place / STUDY).is_file():
            return place / STUDY
    raise UserError("the bundled study is not installed", where=PLACES[0] / STUDY, mend="Install guardclash anew.")
