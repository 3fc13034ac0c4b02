"""The command line: a file for each command, put together here in the order of the help.

Mistakes of the user's end with exit code 2 and one message, an interrupted run with 130. Commands that only read
results do not import torch, which is why imports stand inside the commands.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from guardclash.cli.atlas import atlas
from guardclash.cli.check import check
from guardclash.cli.compare import compare
from guardclash.cli.console import say, streams
from guardclash.cli.data import data
from guardclash.cli.demo import demo
from guardclash.cli.evidence import evidence
from guardclash.cli.export import export_records
from guardclash.cli.figure import figure
from guardclash.cli.listing import list_all
from guardclash.cli.new import new
from guardclash.cli.plan import plan
from guardclash.cli.report import report
from guardclash.cli.run import run
from guardclash.cli.show import show
from guardclash.cli.status import status
from guardclash.cli.store import store
from guardclash.errors import UserError

RARELY = 100_000, 20, 20
"""How often garbage is looked for: what is imported and read stays until the end of a command, and looking through it
again and again takes a fifth of the time."""
app = typer.Typer(
    name="guardclash",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"guardclash {version('guardclash')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Which protections of a machine-learning model survive each other?

    Trains, measures and tests combinations.
    """


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "new": new,
    "list": list_all,
    "check": check,
    "plan": plan,
    "run": run,
    "status": status,
    "report": report,
    "figure": figure,
    "compare": compare,
    "atlas": atlas,
    "export": export_records,
    "evidence": evidence,
    "show": show,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(data, name="data")
app.add_typer(store, name="store")


def main() -> None:
    """Entry point: prints a user's mistake as one message and exits with code 2, as where output cannot be written."""
    gc.set_threshold(*RARELY)
    with streams():
        try:
            app()
        except UserError as error:
            say(f"error: {error}")
            sys.exit(2)
