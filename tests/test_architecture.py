"""The shape of the package, read from its source: imports go down, nothing goes in circles, reports need no torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import guardclash
from guardclash.data.catalog import datasets
from guardclash.registry import CONDITIONS, MEASURES, SUSPECTS, find_mechanisms, known

ROOT = Path(guardclash.__file__).parent

FLOORS = (
    "words writing telling",
    "errors",
    "handed",
    "checks modules options",
    "code",
    "judging data numerics trackers",
    "plan",
    "conditions",
    "suspect training tasks",
    "suspects",
    "measure",
    "measures mechanism",
    "compose",
    "mechanisms",
    "registry",
    "records",
    "studies",
    "reporting",
    "watching",
    "planning interface",
    "cli",
    "__main__",
)
"""From the ground up. A module may import from its own package and from lower floors; packages that share a floor know
nothing of each other."""

WITHOUT_TORCH = (
    *("errors", "checks", "judging", "data", "reporting", "cli"),
    *("records", "studies.study", "studies.study_file", "studies.store", "studies.verdicts"),
)
"""What a report needs: it opens in a second, on a machine where torch may not even be installed."""

EFFECTS = (
    *("data", "studies.engines", "studies.jobs", "studies.files", "studies.store", "studies.claims", "trackers"),
    *("studies.evidence", "studies.workers", "studies.inspection", "writing"),
    "cli.console",
    "cli.run",
)
"""Who may write files and end processes."""


def name_of(path: Path) -> str:
    """A module's name below the package, "" for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8"), str(path)) for name, path in PATHS.items()}


def own(name: str) -> str | None:
    """A full module name without "guardclash."; None for other people's modules."""
    return name.removeprefix("guardclash").removeprefix(".") if name.split(".")[0] == "guardclash" else None


def nodes(tree: ast.AST, lazy: bool = True) -> Iterator[ast.AST]:
    """All nodes; those of functions and of what only type checkers see are left out unless `lazy`."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        late = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        late |= isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if lazy or not late:
            yield from nodes(child, lazy)


def imports(module: str, lazy: bool = True) -> set[str]:
    """Full names of the modules that a module imports."""
    found = set()
    for node in nodes(TREES[module], lazy):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in below if own(name) in PATHS}
            found |= modules | ({str(node.module)} if modules != below else set())
    return found


def own_imports(module: str) -> set[str]:
    """Those of the package's own modules, without "guardclash."; the package itself left out."""
    return {name for full in imports(module) if (name := own(full))}


def calls(module: str) -> set[str]:
    """All that is called, as written: "torch.load", "path.unlink"."""
    return {ast.unparse(node.func) for node in nodes(TREES[module]) if isinstance(node, ast.Call)}


def is_text(node: ast.AST) -> bool:
    """Whether a statement documents and does nothing: a docstring, or a string below a field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def below(module: str, packages: tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


# Imports


def test_every_module_stands_on_a_floor():
    assert {name.split(".")[0] for name in PATHS if name} == set(" ".join(FLOORS).split())


def test_imports_go_down_only():
    height = {package: floor for floor, packages in enumerate(FLOORS) for package in packages.split()}
    for module in PATHS:
        package = module.split(".")[0]
        for imported in own_imports(module):
            other = imported.split(".")[0]
            assert other == package or height[other] < height[package], f"{module} imports {imported} from above"


def test_there_are_no_circles():
    """Imports inside functions count as well: a circle that is cut by a late import is still a circle of ideas."""
    try:
        tuple(TopologicalSorter({module: own_imports(module) for module in PATHS}).static_order())
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


def test_names_are_imported_from_the_file_that_defines_them():
    for module, tree in TREES.items():
        for node in nodes(tree):
            source = own(node.module or "") if isinstance(node, ast.ImportFrom) else None
            for alias in node.names if source is not None else ():
                where = f"{module} takes {alias.name} from {source}"
                assert f"{source}.{alias.name}".strip(".") in PATHS or alias.name in defined(source), where


def defined(module: str) -> set[str]:
    """The names that a module makes itself."""
    found = set()
    for node in TREES[module].body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = {name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)}
        found |= names | {getattr(node, "name", "")}
    return found


def test_packages_hold_nothing_but_a_docstring():
    for module, path in PATHS.items():
        if module and path.name == "__init__.py":
            assert all(is_text(node) for node in TREES[module].body), module


def test_the_package_itself_names_things_and_imports_them_when_they_are_used():
    assert not {name for name in imports("", lazy=False) if own(name) is not None}
    for name in guardclash.__all__:
        found = getattr(guardclash, name)
        assert found.__module__.startswith("guardclash.") or name == "Criterion", name
    assert set(dir(guardclash)) == set(guardclash.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        guardclash.nonsense  # noqa: B018
    for module in PATHS:
        assert "guardclash" not in imports(module), f"{module} imports the package, not the file that defines a name"


def test_only_the_registry_knows_the_mechanisms_and_it_knows_their_folder_only():
    for module in PATHS:
        known = {name for name in own_imports(module) if below(name, ("mechanisms",))}
        if not below(module, ("mechanisms",)):
            assert known == ({"mechanisms"} if module == "registry" else set()), module


NAMED = {
    "mechanisms": (set(find_mechanisms()), ("mechanisms",)),
    "measures": (set(known(MEASURES)), ("measures", "judging.criteria", "tasks.task")),  # what tasks are judged by
    "conditions": (set(known(CONDITIONS)), ("conditions",)),
    "suspects": (set(known(SUSPECTS)), ("suspects", "mechanisms.di")),  # whose controls are called like two of them
    "data sets": (set(datasets()), ("data", "tasks")),
}
"""What is found by name, and the files that may know a name: its own folder, and few others, which say why."""


@pytest.mark.parametrize("kind", NAMED)
def test_no_code_outside_its_folder_names_one(kind):
    names, allowed = NAMED[kind]
    for module, tree in TREES.items():
        if module and not below(module, allowed):  # the package itself has attributes of such names
            texts = {node.value for node in nodes(tree) if is_text(node)}
            named = {node.value for node in nodes(tree) if isinstance(node, ast.Constant) and node not in texts}
            assert not {name for name in named if isinstance(name, str)} & names, module


def test_where_data_are_known_by_name_they_are_made_into_sources():
    """The test set is what a plan's task says: nobody looks for a split by reflection or by its name."""
    makers = {
        module
        for module, tree in TREES.items()
        for node in nodes(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Split"
    }
    assert makers == {"tasks.task", "tasks.recipe", "mechanisms.wm"}, "wm: for the data set that its `source` names"


JUDGES = {
    "studies.verdicts": {"verdicts", "verdict_so_far", "wanted", "sample", "judged_sample"},
    "studies.side_effects": {"side_effects"},
    "reporting.controls": {"controls"},
    "reporting.claims": {"claims"},
    "reporting.missing": {"missing", "unfinished"},
    "reporting.swept": {"sweeps"},
    "reporting.pairs": {"pairs_of"},
    "reporting.entries": {"columns_of", "entry_of"},
}
"""What finds something in results."""
PARTS = {"reporting.findings", "reporting.controls", "reporting.claims", "reporting.swept", "reporting.entries"}
"""Of findings; all else in reporting looks at these."""


def test_forms_tell_findings_and_judge_nothing_anew():
    """Else two forms may say two things of one cell."""
    for module, tree in TREES.items():
        if not below(module, ("reporting",)) or module in PARTS:
            continue
        for node in nodes(tree):
            if isinstance(node, ast.ImportFrom):
                taken = JUDGES.get(own(node.module or "") or "", set()) & {alias.name for alias in node.names}
                assert not taken, f"{module} takes {taken} from {node.module}; Findings has it"


# Torch


def torch_free() -> list[str]:
    return [module for module in PATHS if below(module, WITHOUT_TORCH)]


def test_reports_reach_no_torch_by_any_import():
    """By the source, which tells the way to torch; the next test cannot."""
    ways = {module: module for module in torch_free()}
    waiting = list(ways)
    for module in waiting:
        for full in imports(module, lazy=False):
            assert full.split(".")[0] not in ("torch", "opacus", "safetensors"), f"{ways[module]} -> {full}"
            inner = own(full)
            if inner and inner not in ways:
                ways[inner] = f"{ways[module]} -> {inner}"
                waiting.append(inner)


def test_reports_import_no_torch():
    """By importing them, in a process of its own."""
    heavy = "[name for name in ('torch', 'opacus', 'sklearn', 'scipy') if name in sys.modules]"
    code = "\n".join(["import sys", *(f"import guardclash.{name}" for name in torch_free()), f"print({heavy})"])
    command = [sys.executable, "-W", "error", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip() == "[]"


def test_commands_start_with_nothing_heavy():
    heavy = "torch numpy scipy sklearn jinja2 matplotlib"
    code = f"import sys, guardclash.cli.app; print([name for name in {heavy.split()} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip() == "[]"


# House rules


NUMPY_FILES = ("np.load", "np.save", "np.fromfile", "numpy.load", "numpy.save")


def test_no_pickles():
    """Results are read on other machines than they were made on; a pickle runs what it says."""
    for module in PATHS:
        packages = {full.split(".")[0] for full in imports(module)}
        assert not packages & {"pickle", "cloudpickle", "dill", "shelve", "joblib", "marshal", "yaml"}, module
        assert not calls(module) & {"torch.load", "torch.save", "torch.hub.load", "torch.jit.load"}, module
        assert not calls(module) & {"eval", "exec", "compile", "pd.read_pickle", "os.system", "os.popen"}, module
        for node in (node for node in nodes(TREES[module]) if isinstance(node, ast.Call)):
            name, said = ast.unparse(node.func), set(map(ast.unparse, node.keywords))
            if name in NUMPY_FILES or name.rpartition(".")[2] in ("read_array", "write_array"):
                assert "allow_pickle=False" in said, f"{module}: {name}"
            assert "shell=True" not in said, f"{module}: {name}"
            if name == "partial" and node.args and ast.unparse(node.args[0]) in NUMPY_FILES:
                assert "allow_pickle=False" in said, f"{module}: {ast.unparse(node)}"


def test_chance_comes_from_the_context_alone():
    """A draw from a global generator would depend on what ran before in the same process."""
    for module in PATHS:
        assert not calls(module) & {"torch.manual_seed", "torch.seed", "np.random.seed", "random.seed"}, module
        assert not {full.split(".")[0] for full in imports(module)} & {"random", "secrets"}, module


def test_only_few_modules_have_effects():
    effects = {"write_text", "write_bytes", "mkdir", "rename", "unlink", "rmtree", "kill", "replace"}
    for module in PATHS:
        found = {call for call in calls(module) if call.rpartition(".")[2] in effects}
        found = {call for call in found if not call.endswith("replace") or call == "os.replace"}  # not str, dataclasses
        assert not found or below(module, EFFECTS), f"{module}: {found}"


def test_files_and_functions_are_short():
    """About 300 lines and 40; a little more where cutting would not help."""
    for module, path in PATHS.items():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, module
        for node in nodes(TREES[module]):
            if isinstance(node, ast.FunctionDef):
                first = next((inner for inner in node.body if not is_text(inner)), node)
                assert (node.end_lineno or 0) - first.lineno < 45, f"{module}.{node.name}"


def test_user_data_is_never_asserted():
    for module, tree in TREES.items():
        lines = [node.lineno for node in nodes(tree) if isinstance(node, ast.Assert)]
        assert not lines, module


def test_annotations_are_not_evaluated():
    for module, path in PATHS.items():
        if path.name != "__init__.py":
            first = next(node for node in TREES[module].body if not is_text(node))
            assert ast.unparse(first) == "from __future__ import annotations", module


def test_every_package_that_is_imported_is_declared():
    """One that comes with another by luck is gone when that one changes."""
    declared = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    listed = [
        *declared["dependencies"],
        *(name for extra in declared["optional-dependencies"].values() for name in extra),
    ]
    known = {re.split(r"[^\w.-]", name)[0].lower().replace("_", "-") for name in listed}
    distributions = packages_distributions()
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for name in (name.split(".")[0] for name in names):
                if name in sys.stdlib_module_names or name == "guardclash":
                    continue
                owners = {owner.lower().replace("_", "-") for owner in distributions.get(name, [name])}
                owners |= {"adversarial-robustness-toolbox"} if name == "art" else set()
                assert owners & known, f"{path.name} imports {name}"
