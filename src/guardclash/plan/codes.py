"""Which code a value is made of: a digest of each class in it, for those who changed code and raised no `version`.

A key names classes, their versions and their fields; what their methods do is no part of it. These digests are, so that
a record can say which code made it. They are no part of a key either: code may change and mean the same.

A digest covers the definition of a class, and of what it names in its own package, whatever module that is in: base
classes, functions, constants, and what these name in turn. It does not see what is said only to people (comments,
docstrings, annotations of functions, what is raised), what is found at run time (a method of a value: that value has a
digest of its own), or other packages, whose versions records hold.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from guardclash.plan.identity import nested, type_name

DIGITS = 12
SILENT = frozenset({"ctx", "kind", "type_comment", "type_ignores", "type_params", "returns", "annotation"})
"""Fields of a syntax tree that change nothing of what runs, or that some versions of Python do not have."""
ASIDE = frozenset({"errors", "checks", "judging"})
"""Parts of a package that make no value: they refuse some, or judge them later, from records."""
Place = tuple[str, str]
"""A module and a name in it."""


def codes(*values: Any) -> dict[str, str]:
    """The digest of the code of every class that some values are made of, by `type_name`.

    Args:
        values: A plan, a measure, and what else a result depends on.

    Returns:
        Names in order. Classes without a file, as in a notebook, are left out, and so are those of single-file plugins:
        the hash of their source is in their names.

    Example:
        >>> from guardclash.plan.samplers import Shuffled
        >>> list(codes(Shuffled(64)))
        ['Shuffled']
    """
    found = {type(part) for value in values for part in (value, *nested(value, object)) if _has_code(part)}
    known = {type_name(cls): code_digest(cls.__module__, cls.__qualname__.partition(".")[0]) for cls in found}
    return {name: digest for name, digest in sorted(known.items()) if digest}


def changed(recorded: dict[str, str], current: dict[str, str]) -> tuple[str, ...]:
    """The classes whose code is another one than a record says; those that only one side knows are none of them."""
    return tuple(name for name, digest in recorded.items() if current.get(name, digest) != digest)


@lru_cache(None)
def code_digest(module: str, name: str) -> str:
    """The digest of a class or function of a module that is imported; "" where there is no source.

    Its own name, those of modules and the order of their content play no part, so that code can be moved.
    """
    reached = _reached(module, name)
    if not reached:
        return ""
    texts = sorted(f"{where[1]} {text}" for where, text in reached.items())
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:DIGITS]


def _reached(module: str, name: str) -> dict[Place, str]:
    """The definition of a name, and of all that it names in its package, as texts."""
    package = module.partition(".")[0]
    reached: dict[Place, str] = {}
    left = [(module, name)]
    while left:
        place = left.pop()
        source = None if place in reached else _source(place[0])
        if source is None or place[1] not in source.defined:
            continue  # of another package, or made at run time
        statement = source.defined[place[1]]
        imported = {**source.imported, **_imports(statement)}
        used = {one: imported.get(one, (place[0], one)) for one in _names(statement)}
        left += [one for one in used.values() if _followed(one[0], package)]
        # What stands under a name is part of the meaning, even where it is not followed: relu as act, tanh as act.
        meant = (f"{one}={'.'.join(found)}" for one, found in sorted(used.items()) if not _own(found[0], package))
        reached[place] = " ".join((_canonical(statement), *meant))
    return reached


def _own(module: str, package: str) -> bool:
    return module.partition(".")[0] == package


def _followed(module: str, package: str) -> bool:
    return _own(module, package) and not ASIDE.intersection(module.split(".")[1:2])


def _has_code(part: Any) -> bool:
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return False
    return not hasattr(sys.modules.get(type(part).__module__), "__guardclash_source__")


@dataclass(frozen=True)
class _Source:
    """What a module defines, by name, and what it imports."""

    defined: dict[str, ast.stmt]
    imported: dict[str, Place]


@lru_cache(None)
def _source(module: str) -> _Source | None:
    """Read once: what is edited later is not what runs. None: it has no source."""
    try:
        # What is imported in a function may not be there yet, and the digest must be the same before and after.
        found = sys.modules.get(module) or importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    file = getattr(found, "__file__", None) or getattr(found, "origin", None)
    if not file or not str(file).endswith(".py"):
        return None
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None
    defined: dict[str, ast.stmt] = {}
    for statement in tree.body:
        for name in _bound(statement):
            defined.setdefault(name, statement)
    return _Source(defined, _imports(*tree.body))


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement of a module gives a meaning, by a definition or by assigning."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _imports(*statements: ast.stmt) -> dict[str, Place]:
    """What is imported, by the name that it has here; of a whole module the second part is empty."""
    found: dict[str, Place] = {}
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.partition(".")[0]: (alias.name, "") for alias in node.names}
    return found


def _aside(node: ast.AST) -> bool:
    """Whether a statement says where a name is from, or is there for people: a docstring, a text below a field."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return isinstance(node.value.value, str)
    return isinstance(node, ast.Import | ast.ImportFrom)


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """What of a node runs."""
    for name, value in ast.iter_fields(node):
        # Of an assignment the annotation counts: ClassVar or not decides what is a field.
        if name in SILENT and not (name == "annotation" and isinstance(node, ast.AnnAssign)):
            continue
        if not (isinstance(node, ast.Raise) or value is None or value == []):
            yield name, [one for one in value if not _aside(one)] if isinstance(value, list) else value


def _canonical(value: Any) -> str:
    """A syntax tree as text, the same for all versions of Python that parse it alike."""
    if isinstance(value, ast.AST):
        return f"{type(value).__name__}({', '.join(f'{name}={_canonical(one)}' for name, one in _fields(value))})"
    if isinstance(value, list):
        return f"[{', '.join(map(_canonical, value))}]"
    return repr(value)


def _names(node: ast.AST) -> set[str]:
    """The names that a statement reads, where it runs; those in an annotation do not."""
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    found: set[str] = set()
    for name, value in _fields(node):
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, ast.AST) and name != "annotation":
                found |= _names(one)
    return found
