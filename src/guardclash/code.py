"""Functions of users' files and packages: found by name, called with what they take, and known by their source."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from guardclash.errors import UserError, suggestion
from guardclash.handed import path_in
from guardclash.modules import DIGITS, installed, line, module_of, source_of, told

FORMS = '"file.py:function" or "package.module:function"'
"""How a study names a function."""


@dataclass(frozen=True)
class Code:
    """A function of somebody's, with the hash of its source: an edited one never meets its old results."""

    name: str
    source: str
    """The first digits of the SHA-256 of its file and of the files beside it that this one imports; of an installed
    package, its name and version."""
    options: tuple[tuple[str, Any], ...] = ()
    """What it is called with beside what is offered."""
    place: str = field(default="", compare=False, metadata={"described": False})
    """The file, absolute, or the module that it is in."""
    folder: str = field(default="", compare=False, metadata={"described": False})
    """Where a module is looked for beside where Python looks."""
    function: Callable[..., Any] | None = field(default=None, compare=False, repr=False, metadata={"described": False})
    """Itself, where it came from Python."""

    @property
    def called(self) -> str:
        """For people: "build of nets.py"."""
        return f"{self.name} of {Path(self.place).name or 'this session'}"

    def call(self, offered: Mapping[str, Any]) -> Any:
        """What it returns, called with its options and with what it takes of what is offered.

        Raises:
            UserError: It cannot be found, needs further arguments, or raises; the message says the line.
        """
        function = self.function or _found(self.place, self.name, self.folder)
        given = {**{name: value for name, value in offered.items() if name in _takes(function)}, **dict(self.options)}
        needed = [name for name in _needs(function) if name not in given]
        if needed:
            allowed = f"arguments called {', '.join(offered)}" if offered else "no arguments"
            mend = f"Give them a default, or a value: options = {{ {needed[0]} = ... }}."
            raise UserError(
                f"{self.name} needs further arguments",
                where=self.place,
                got=", ".join(needed),
                allowed=allowed,
                mend=mend,
            )
        try:
            return function(**given)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{self.name} raises {told(error)}", where=line(self.place, error)) from error

    def __reduce__(self) -> Any:
        """For other processes, which find it anew; one of a notebook they cannot."""
        if self.function is not None and not self.place:
            mend = "Put it into a file, or run in this process: Inline()."
            raise UserError("a function of a notebook is not found by other processes", got=self.name, mend=mend)
        return Code, (self.name, self.source, self.options, self.place, self.folder)


def code_from(text: str, folder: Path, options: Mapping[str, Any] | None = None) -> Code:
    """The function that a study names.

    Args:
        text: "nets.py:build", a file relative to the folder, or "package.module:build".
        folder: That of the study.
        options: What it is called with beside what is offered.

    Raises:
        UserError: There is no such file, module or function, or it cannot be imported.
    """
    where, _, name = text.rpartition(":")
    if not where or not name.isidentifier():
        raise UserError("no function", got=text, allowed=FORMS)
    if where.endswith(".py"):
        place, beside = str(path_in(folder, where, text)), ""
    elif all(part.isidentifier() for part in where.split(".")):
        place, beside = where, str(folder.resolve())
    else:
        raise UserError(
            "no module can be called so", got=text, allowed='"file.py:function" or "package.module:function"'
        )
    _found(place, name, beside)
    return Code(name, source_of(module_of(place, beside)), tuple(sorted((options or {}).items())), place, beside)


def code_of(function: Callable[..., Any], options: Mapping[str, Any] | None = None) -> Code:
    """A function that is at hand, or a class; the same value as by its name.

    Raises:
        UserError: It cannot be called, or its source cannot be read.
    """
    if isinstance(function, partial):
        if function.args:
            raise UserError("arguments without names", got=function, mend="Name them: partial(build, depth=18).")
        return code_of(function.func, {**function.keywords, **(options or {})})
    name = getattr(function, "__qualname__", None)
    if not callable(function) or name is None:
        raise UserError("no function", got=type(function).__name__, allowed="a function or a class")
    if "<" in name:  # several may be called so, and what they close over is in no file
        mend = "Define it at the top level of a file or notebook, where its name says which one it is."
        raise UserError("a function inside of another one, or without a name", got=name, mend=mend)
    module = sys.modules.get(function.__module__)
    file = getattr(module, "__file__", None)
    given = tuple(sorted((options or {}).items()))
    if module is None or file is None:  # a notebook, or a session
        try:
            text = inspect.getsource(function)
        except (OSError, TypeError) as error:
            raise UserError("the source of a function cannot be read", got=name, mend="Put it into a file.") from error
        return Code(name, hashlib.sha256(text.encode()).hexdigest()[:DIGITS], given, function=function)
    path = Path(file).resolve()
    package = module.__name__.partition(".")[0] if "." in module.__name__ else ""
    if package or installed(path):
        top = Path(str(getattr(sys.modules.get(package), "__file__", path))).resolve().parent
        return Code(name, source_of(module), given, module.__name__, str(top.parent), function)
    return Code(name, source_of(module), given, str(path), function=function)


def _found(place: str, name: str, folder: str) -> Callable[..., Any]:
    module = module_of(place, folder)
    found = getattr(module, name, None)
    if not callable(found):
        known = [other for other, value in vars(module).items() if inspect.isfunction(value)]
        raise UserError(f"there is no function {name!r}", where=place, mend=suggestion(name, known))
    return found


def _takes(function: Callable[..., Any]) -> set[str]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name for name, one in _signature(function).items() if one.kind in named}


def _needs(function: Callable[..., Any]) -> list[str]:
    some = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [name for name, one in _signature(function).items() if one.default is one.empty and one.kind not in some]


def _signature(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (ValueError, TypeError):  # some are written in C
        return {}
