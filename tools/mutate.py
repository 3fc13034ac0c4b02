"""Plants mistakes in a copy of the package, one at a time, and lists those that no test notices.

    python tools/mutate.py --named
    python tools/mutate.py --file 'src/guardclash/judging/*.py' --limit 40

Generic mutants swap an operator, a constant or a return value inside a function. Named ones stand in
tools/mutants.toml: mistakes that would make a verdict or an epsilon wrong, and that must be noticed. The exit code is 1
if a named one survives, and 2 if nothing can be said: an entry is stale, or the tests fail without any mistake.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatch
from pathlib import Path
from queue import Queue
from typing import Any

ROOT = Path(__file__).parents[1]
LINKED = ("tools", "benchmarks", "docs", "results", "studies", "README.md")
"""What tests read besides the package; they do not write there."""
COMPARISONS: dict[type, tuple[type, ...]] = {
    **{ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt)},
    **{ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,)},
    **{ast.In: (ast.NotIn,), ast.NotIn: (ast.In,)},
}
OPERATORS: dict[type, type] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And},
}
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One mistake in one file."""

    file: str
    line: int
    change: str
    text: str
    """The whole file with the mistake in it."""
    tests: tuple[str, ...]
    """Files of tests, one of which should notice."""
    name: str = ""
    """"" for a generic mutant."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}  {self.name + ': ' * bool(self.name)}{self.change}"


def generic(source: str) -> Iterator[tuple[int, str, str]]:
    """All generic mutants of a Python source: line, change, and the source with the change, comments left out."""
    tree = ast.parse(source)
    whole = ast.unparse(tree)
    for node in _code(tree):
        for field, value in [*_operators(node), *_values(node)]:
            kept = getattr(node, field)
            setattr(node, field, value)
            changed = ast.unparse(tree)
            setattr(node, field, kept)
            yield getattr(node, "lineno", 0), _difference(whole, changed), changed


def _code(node: ast.AST, inside: bool = False) -> Iterator[ast.AST]:
    """The nodes inside functions. Errors that are raised, annotations and `strict=True` stay as they are."""
    if isinstance(node, ast.Raise) or (isinstance(node, ast.keyword) and node.arg == "strict"):
        return
    if inside:
        yield node
    function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    parts: Iterable[ast.AST] = node.body if function else ast.iter_child_nodes(node)  # type: ignore[attr-defined]
    for part in parts:
        if part is not getattr(node, "annotation", None):
            yield from _code(part, inside or function)


def _operators(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Fields of a node and what to put there instead, where the node does something to its parts."""
    match node:
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                yield from (("ops", [*ops[:i], other(), *ops[i + 1 :]]) for other in COMPARISONS[type(op)])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in OPERATORS:
            yield "op", OPERATORS[type(op)]()
        case ast.UnaryOp(op=ast.Not(), operand=part):
            yield "operand", ast.UnaryOp(ast.Not(), part)
        case ast.If(test=part) | ast.IfExp(test=part) if isinstance(part, ast.Name | ast.Attribute | ast.Call):
            yield "test", ast.UnaryOp(ast.Not(), part)


def _values(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """The same where a node is, or names, or gives back a value."""
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
            yield "func", ast.Name(FUNCTIONS[name])
        case ast.Constant(value=bool(value)):
            yield "value", not value
        case ast.Constant(value=int(value) | float(value)):
            yield "value", value + 1
        case ast.Return(value=ast.expr() as part) if ast.unparse(part) != "None":
            yield "value", ast.Constant(None)


def _difference(before: str, after: str) -> str:
    """The line in which two sources differ, with what is there and what comes instead: "if x [< -> <=] y:"."""
    lines = next(pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1])
    one, other = (re.findall(r"[\w.]+|\s+|[^\w\s.]+", line.strip()) for line in lines)
    codes = [code for code in SequenceMatcher(None, one, other, autojunk=False).get_opcodes() if code[0] != "equal"]
    (_, a, _, c, _), (_, _, b, _, d) = codes[0], codes[-1]
    return "".join([*one[:a], "[", *one[a:b], " -> ", *other[c:d], "]", *one[b:]])


def planted(source: str, name: str, old: str, new: str) -> str:
    """The source with a named mistake.

    Raises:
        ValueError: If the entry is stale: the old text does not occur just once.
    """
    if source.count(old) != 1:
        raise ValueError(f"mutant {name} is stale: its old text occurs {source.count(old)} times, not once:\n{old}")
    return source.replace(old, new)


def sampled(mutants: list[Mutant], limit: int | None) -> list[Mutant]:
    """At most so many, spread evenly over all and always the same."""
    count = len(mutants) if limit is None else min(limit, len(mutants))
    return [mutants[i * len(mutants) // count] for i in range(count)]


def named_mutants(table: dict[str, Any], pattern: str) -> Iterator[Mutant]:
    """Those of the table, in files that match a pattern."""
    for entry in table["mutants"]:
        if fnmatch(entry["file"], pattern):
            source = (ROOT / entry["file"]).read_text(encoding="utf-8")
            changed = planted(source, entry["name"], entry["old"], entry["new"])
            line = source[: source.index(entry["old"])].count("\n") + 1
            yield Mutant(entry["file"], line, entry["why"], changed, _files(entry["tests"]), entry["name"])


def generic_mutants(table: dict[str, Any], pattern: str) -> Iterator[Mutant]:
    """Those of all files of the table that match a pattern."""
    for files, tests in table["tests"].items():
        for file in filter(lambda file: fnmatch(file, pattern), _files([files])):
            source = (ROOT / file).read_text(encoding="utf-8")
            yield from (Mutant(file, *mutant, _files(tests)) for mutant in generic(source))


def _files(patterns: Iterable[str]) -> tuple[str, ...]:
    found = (path for pattern in patterns for path in sorted(ROOT.glob(pattern)))
    return tuple(dict.fromkeys(path.relative_to(ROOT).as_posix() for path in found))


def copied(target: Path) -> Path:
    """A copy of the project in a new folder, as far as tests need it.

    Raises:
        ValueError: If Python would import another one there.
    """
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", target)
    for name in LINKED:
        (target / name).symlink_to(ROOT / name)
    if not ends_well(target, "-c", f"import guardclash as it; assert it.__file__.startswith({str(target)!r})"):
        raise ValueError("tests would import another guardclash than the copy")
    return target


def ends_well(copy: Path, *arguments: str, timeout: float | None = None, show: bool = True) -> bool:
    """Whether Python ends without an error, and in time, in a copy and with the copy's package."""
    environment = os.environ | {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    # No byte code: a file that is changed twice in a second may have the same age and size.
    command, output = [sys.executable, "-B", *arguments], None if show else subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=copy, env=environment, stdout=output, stderr=output, start_new_session=True
    ) as process:
        try:
            return process.wait(timeout) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def survive(mutants: list[Mutant], jobs: int, timeout: float) -> Iterator[bool]:
    """Whether each mutant survives its tests, in order, so many at a time; one that hangs does not."""
    pytest = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        copies: Queue[Path] = Queue()
        for i in range(jobs):
            copies.put(copied(Path(folder).resolve() / str(i)))
        if not ends_well(copies.queue[0], *pytest, *dict.fromkeys(test for mutant in mutants for test in mutant.tests)):
            raise ValueError("the tests fail without any mutant")

        def survives(mutant: Mutant) -> bool:
            copy = copies.get()
            original = (copy / mutant.file).read_bytes()
            (copy / mutant.file).write_text(mutant.text, encoding="utf-8")
            try:
                return ends_well(copy, *pytest, *mutant.tests, timeout=timeout, show=False)
            finally:
                (copy / mutant.file).write_bytes(original)
                shutil.rmtree(copy / ".hypothesis", ignore_errors=True)  # or one mutant's failures would help the next
                copies.put(copy)

        yield from pool.map(survives, mutants)


def main() -> int:
    """Plants what is asked for and says what survives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--named", action="store_true", help="only the named mutants")
    parser.add_argument("--file", default="*", metavar="PATTERN", help="only in such files, from the project's root")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N generic mutants, spread evenly over all")
    parser.add_argument("--timeout", type=float, default=180, metavar="SECONDS", help="after which a mutant is killed")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="mutants at a time")
    asked = parser.parse_args()
    table = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text(encoding="utf-8"))
    alive = []
    try:
        mutants = list(named_mutants(table, asked.file))
        mutants += [] if asked.named else sampled(list(generic_mutants(table, asked.file)), asked.limit)
        for mutant, survives in zip(mutants, survive(mutants, asked.jobs, asked.timeout), strict=True):
            print("SURVIVES" if survives else "killed  ", mutant, flush=True)
            alive += [mutant] * survives
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\n{len(alive)} of {len(mutants)} mutants survive.", *alive, sep="\n")
    return int(any(mutant.name for mutant in alive))


if __name__ == "__main__":
    sys.exit(main())
