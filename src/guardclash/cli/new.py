"""`guardclash new`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from keyword import iskeyword
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from guardclash.cli.console import say, write
from guardclash.errors import UserError, suggestion

TEMPLATES = Path(__file__).with_name("new_parts")
KINDS = tuple(sorted(folder.name for folder in TEMPLATES.iterdir() if folder.is_dir()))
"""What can be started: a folder of templates each, with the study NAME.toml and the test test_NAME.py among them."""
MADE = {"task": ("make_data.py", ".npz")}
"""By kind, a script among its files that writes another one beside itself, and how the name of that one ends."""


def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"{', '.join(KINDS)}.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower case, such as softening.")],
    folder: Annotated[Path, typer.Option("--folder", help="Where the files are written.")] = Path(),
) -> None:
    """Starts something of your own, with a test.

    Writes NAME.toml, a study that runs as it stands, test_NAME.py, and what these are about, with words on what to
    change. Never overwrites a file.
    """
    texts = started(kind, name)
    script, ending = MADE.get(kind, ("", ""))
    for path in (folder / one for one in (*texts, *([f"{name}{ending}"] if script else []))):
        if path.exists():
            raise UserError("this file is there already", where=path, mend="Choose another name or --folder.")
    for one, text in texts.items():
        write(text.encode(), folder / one, "file")
    if script:
        subprocess.run([sys.executable, folder / script], check=True)
        say(f"wrote {folder / name}{ending}")
    say(f"next: python -m pytest {folder / f'test_{name}.py'}, then guardclash run {folder / f'{name}.toml'}")


def started(kind: str, name: str) -> Mapping[str, str]:
    """The files that a start consists of.

    Args:
        kind: One of `KINDS`.
        name: What the new thing is called: lower case, a Python identifier, of nothing that there is already.

    Returns:
        Their texts by their names; the study NAME.toml and the test test_NAME.py among them.

    Raises:
        UserError: There is no such kind, or the name cannot be used.
    """
    if kind not in KINDS:
        raise UserError("nothing of this kind can be started", got=kind, mend=suggestion(kind, KINDS))
    _check(name)
    texts = filled(kind, name)
    if f"{name}.py" in texts:
        _check_module(name)
    return texts


def filled(kind: str, name: str) -> dict[str, str]:
    """The templates of a kind, whose file names have NAME where the name belongs, as texts by file name."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Python and TOML, not HTML: nothing is escaped.
    loader = PackageLoader("guardclash.cli", TEMPLATES.name)
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)
    words = {"name": name, "cls": "".join(map(str.capitalize, name.split("_"))), "symbol": name.upper()}
    return {
        PurePosixPath(template).stem.replace("NAME", name): environment.get_template(template).render(words)
        for template in loader.list_templates()
        if PurePosixPath(template).parent.name == kind
    }


def _check(name: str) -> None:
    """A name becomes a file's name, a class's name and what studies say, so it must be good for all of these."""
    from guardclash.data.catalog import datasets
    from guardclash.registry import DOORS, known
    from guardclash.tasks.catalog import tasks

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or iskeyword(name):
        allowed = "a Python identifier in lower case, such as softening or label_noise"
        raise UserError("no usable name", where="NAME", got=name, allowed=allowed)
    taken = {called: door.word for door in DOORS for called in known(door)}
    taken |= {called: "data set" for called in (*datasets(), *tasks())}
    if name in taken:
        raise UserError(f"there is a {taken[name]} of this name", where="NAME", got=name, mend="Choose another one.")


def _check_module(name: str) -> None:
    """A file NAME.py beside a test hides the module of that name from the test and from all that it imports."""
    from importlib.metadata import packages_distributions

    if name in sys.stdlib_module_names or name in packages_distributions():
        mend = f"{name}.py would hide it from tests beside it. Choose another one."
        raise UserError("there is a Python module of this name", where="NAME", got=name, mend=mend)
