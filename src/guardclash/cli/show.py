"""`guardclash show`."""

from __future__ import annotations

from typing import Annotated

import typer

from guardclash.cli.console import out
from guardclash.cli.options import RUNS, StorePath


def show(
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="A trial's key, or the beginning of one.")],
    store: StorePath = RUNS,
) -> None:
    """One trial: its plan, losses, measurements, time and machine."""
    from guardclash.reporting.trial import trial_page

    out.print(trial_page(trial, store))
