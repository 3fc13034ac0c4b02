"""The shape of the package, read from its source: imports go down, nothing goes in circles, reports need no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import guardclash
from guardclash.registry import find_mechanisms

ROOT = Path(guardclash.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

FLOORS = (
    "errors",
    "judging data numerics",
    "plan",
    "training",
    "mechanism",
    "compose",
    "mechanisms",
    "registry",
    "studies",
    "reporting",
    "planning",
    "cli",
)
"""From the ground up. A module may import from its own package and from lower floors; packages that share a floor know
nothing of each other."""

WITHOUT_TORCH = ("errors", "judging", "data", "reporting", "cli", "studies.study", "studies.store", "studies.results")
"""What a report needs: it opens in a second, on a machine where torch may not even be installed."""

EFFECTS = ("studies.jobs", "studies.store", "studies.engines", "studies.run", "data", "reporting.export", "cli")


def name_of(path: Path) -> str:
    """A module's name below the package, "" for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


MODULES = {name_of(path): path for path in FILES}


def own(name: str) -> str | None:
    """A full module name without "guardclash."; None for other people's modules."""
    return name.removeprefix("guardclash").removeprefix(".") if name.split(".")[0] == "guardclash" else None


@cache
def imports(path: Path, at_import: bool = False) -> frozenset[str]:
    """Full names of the modules that a file imports, inside functions as well unless only those `at_import` are asked."""
    nodes: list[ast.AST] = [tree(path)]
    found = set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            module = node.module or ""
            for alias in node.names:
                below = f"{module}.{alias.name}"
                found.add(below if own(below) in MODULES else module)
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _type_checking(node)
        if not (at_import and lazy):
            nodes += ast.iter_child_nodes(node)
    return frozenset(found)


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def own_imports(path: Path, at_import: bool = False) -> set[str]:
    return {name for full in imports(path, at_import) if (name := own(full)) is not None}


def floor(module: str) -> int:
    package = module.split(".")[0]
    return next(height for height, names in enumerate(FLOORS) if package in names.split())


def docstrings(module: ast.Module) -> set[ast.AST]:
    """The nodes of strings that document and do nothing: docstrings, and those below a field."""
    return {
        node.value for node in ast.walk(module) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def test_every_module_stands_on_a_floor():
    packages = {name.split(".")[0] for name in MODULES if name}
    assert packages == set(" ".join(FLOORS).split())


def test_imports_go_down_only():
    for path in FILES:
        module = name_of(path)
        for imported in own_imports(path) - {""}:
            same = imported.split(".")[0] == module.split(".")[0]
            assert same or floor(imported) < floor(module), f"{module} imports {imported}, which is not below it"


def test_there_are_no_circles():
    """Imports inside functions count as well: a circle that is cut by a late import is still a circle of ideas."""
    try:
        tuple(TopologicalSorter({name: own_imports(path) - {""} for name, path in MODULES.items()}).static_order())
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


def test_packages_hold_nothing_but_a_docstring():
    for path in FILES:
        if not (path.name == "__init__.py"):
            continue
        statements = [
            node
            for node in tree(path).body
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        ]
        assert statements == []


def test_names_are_imported_from_the_file_that_defines_them():
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and own(node.module or "") is not None:
                module = own(node.module or "") or ""
                source = MODULES[module]
                for alias in node.names:
                    if f"{module}.{alias.name}".strip(".") in MODULES:
                        continue
                    defined = {
                        getattr(target, "id", getattr(target, "name", ""))
                        for statement in tree(source).body
                        for target in [
                            statement,
                            *getattr(statement, "targets", []),
                            getattr(statement, "target", None),
                        ]
                    }
                    assert alias.name in defined, f"{name_of(path)} takes {alias.name} from {module}, which imports it"


def test_only_the_registry_knows_the_mechanisms_and_it_knows_their_folder_only():
    for name, path in MODULES.items():
        known = {found for found in own_imports(path) if found.split(".")[0] == "mechanisms"}
        if name == "registry":
            assert known == {"mechanisms"}
        else:
            assert not known, f"{name} imports {known}"


def test_no_code_outside_the_folder_names_a_mechanism():
    for path in FILES:
        if not (not name_of(path).startswith("mechanisms")):
            continue
        names = set(find_mechanisms())
        texts = docstrings(tree(path))
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and node not in texts:
                assert node.value not in names, f"line {node.lineno} names the mechanism {node.value!r}"


def test_mechanisms_do_not_know_each_other():
    for path in FILES:
        if not (name_of(path).startswith("mechanisms.")):
            continue
        assert not {name for name in own_imports(path) if name.split(".")[0] == "mechanisms"}


def torch_free() -> list[str]:
    return [name for name in MODULES if any(f"{name}.".startswith(f"{free}.") for free in WITHOUT_TORCH)]


def test_reports_reach_no_torch_by_any_import():
    """By the source: names the way to torch, which the next test cannot."""
    ways = {name: name for name in torch_free()}
    seen = list(ways)
    for module in seen:
        for full in imports(MODULES[module], at_import=True):
            assert full.split(".")[0] not in ("torch", "opacus", "safetensors"), f"{ways[module]} -> {full}"
            inner = own(full)
            if inner and inner not in ways:
                ways[inner] = f"{ways[module]} -> {inner}"
                seen.append(inner)


def test_reports_import_no_torch():
    """By running it, in a process of its own."""
    lines = [f"import guardclash.{name}" for name in torch_free()]
    heavy = "[name for name in ('torch', 'opacus', 'sklearn', 'scipy') if name in sys.modules]"
    code = "; ".join(["import sys", *lines, f"print({heavy})"])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"


def test_no_pickles():
    """Results are read on other machines than they were made on; a pickle runs what it says."""
    for path in FILES:
        assert not {full for full in imports(path) if full.split(".")[0] in ("pickle", "cloudpickle", "dill", "shelve")}
        calls = {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}
        assert not calls & {"torch.load", "torch.save", "np.load", "eval", "exec"}


def test_files_and_functions_are_short():
    """About 300 lines and 40; a little more where cutting would not help."""
    for path in FILES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                first = next((inner for inner in node.body if not _is_docstring(inner)), node)
                length = (node.end_lineno or 0) - first.lineno + 1
                assert length <= 45, f"{node.name} has {length} lines below its docstring"


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def test_user_data_is_never_asserted():
    for path in FILES:
        assert not [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Assert)]


def test_annotations_are_not_evaluated():
    for path in FILES:
        if not (path.name != "__init__.py"):
            continue
        body = [node for node in tree(path).body if not _is_docstring(node)]
        assert isinstance(body[0], ast.ImportFrom)
        assert body[0].module == "__future__"


def test_chance_comes_from_the_context_alone():
    """A draw from a global generator would depend on what ran before in the same process."""
    draws = {"torch.manual_seed", "torch.seed", "np.random.seed", "random.seed", "random.random", "time.time_ns"}
    for name, path in MODULES.items():
        calls = {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}
        assert not calls & draws, name


def test_only_few_modules_start_processes_or_write_files():
    for name, path in MODULES.items():
        calls = {
            node.func.attr
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        if calls & {"write_text", "write_bytes", "mkdir", "rename", "unlink", "rmtree", "kill"}:
            assert any(f"{name}.".startswith(f"{allowed}.") for allowed in EFFECTS), f"{name} has effects"
