"""The part of the command line that is about data sets: data fetch, data check."""

from __future__ import annotations

from typing import Any

import typer

from guardclash.cli.console import out
from guardclash.cli.options import DataPath

data = typer.Typer(help="Data sets: fetch from the official sources, check what is there.", no_args_is_help=True)


@data.command("fetch")
def fetch_data(name: str, data_dir: DataPath = None) -> None:
    """Downloads a data set from its official sources.

    Verified by checksum. Run again to resume.
    """
    from guardclash.data.catalog import find_dataset
    from guardclash.data.download import fetch

    _print_findings(fetch(find_dataset(name), data_dir))


@data.command("check")
def check_data(name: str, data_dir: DataPath = None) -> None:
    """Verifies the files of a data set."""
    from guardclash.data.catalog import find_dataset
    from guardclash.data.check import check

    if not _print_findings(check(find_dataset(name), data_dir)):
        raise typer.Exit(2)


def _print_findings(findings: list[Any]) -> bool:
    for finding in findings:
        out.print(f"{'ok ' if finding.ok else 'BAD'} {finding.file}: {finding.detail}", markup=False, soft_wrap=True)
    return all(finding.ok for finding in findings)
