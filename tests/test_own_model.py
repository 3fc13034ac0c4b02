"""Networks of somebody's own: built by their functions, known by their code, tried before anything is trained."""

from __future__ import annotations

import hashlib
import os
import py_compile
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from guardclash.code import Code, code_from, code_of
from guardclash.errors import UserError
from guardclash.modules import _loaded
from guardclash.plan.factory import Factory, check_factory
from guardclash.plan.identity import fingerprint
from guardclash.plan.structure import looks_of
from guardclash.studies.composing import compose_study
from guardclash.studies.study_file import read_study, study_from
from guardclash.tasks.own import open_task
from own import COMBINATION, NETS, SMALL, STUDY, signs, write
from test_cli import Guardclash, guardclash  # noqa: F401  (a fixture)


def linear(classes: int, shape: tuple[int, ...]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes))


def made(function: Callable[..., Any], **more: Any) -> Factory:
    return Factory(code_of(function, more.pop("options", None)), (1, 4, 4), 3, **more)


# Functions


def test_a_function_is_the_same_by_its_file_and_by_itself(tmp_path: Path):
    (tmp_path / "nets.py").write_text(NETS)
    sys.path.insert(0, str(tmp_path))
    try:
        import nets  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(tmp_path))
    named = code_from("nets.py:build", tmp_path)
    assert code_of(nets.build) == named and len(named.source) == 12
    assert code_of(partial(nets.build, width=8)) == code_from("nets.py:build", tmp_path, {"width": 8})
    assert fingerprint(code_of(nets.build)) == fingerprint(named)
    (tmp_path / "nets.py").write_text(NETS + "# more\n")
    assert code_from("nets.py:build", tmp_path) != named


def beside(folder: Path, width: int) -> Code:
    folder.mkdir(exist_ok=True)
    (folder / "parts_of_nets.py").write_text(f"WIDTH = {width}\ndef width(): return WIDTH\n")
    (folder / "nets.py").write_text("from parts_of_nets import width\nimport torch\ndef build(): return width()\n")
    return code_from("nets.py:build", folder)


def test_what_a_file_imports_beside_it_is_part_of_its_identity(tmp_path: Path):
    before = beside(tmp_path, 4)
    assert before.call({}) == 4 and "parts_of_nets" not in sys.modules
    after = beside(tmp_path, 5)
    assert after != before and after.call({}) == 5  # not what was imported before


def test_files_of_one_name_in_two_folders_are_two(tmp_path: Path):
    codes = [beside(tmp_path / name, width) for name, width in (("one", 1), ("two", 2))]
    assert codes[0] != codes[1] and [code.call({}) for code in codes] == [1, 2]


def test_compiled_code_beside_a_file_and_its_helper_is_not_run(tmp_path: Path):
    """An edit that keeps size and second would run the old code under the new hash."""
    nets, helper = tmp_path / "nets.py", tmp_path / "compiled_helper.py"
    nets.write_text("import compiled_helper\nVALUE = 1\ndef build():\n    return VALUE, compiled_helper.VALUE\n")
    helper.write_text("VALUE = 1\n")
    for path in (nets, helper):
        os.utime(path, (1_700_000_000, 1_700_000_000))
        py_compile.compile(str(path), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
        path.write_text(path.read_text().replace("VALUE = 1", "VALUE = 2"))
        os.utime(path, (1_700_000_000, 1_700_000_000))
    assert code_from("nets.py:build", tmp_path).call({}) == (2, 2)


def test_a_helper_edited_while_it_is_loaded_is_known_by_what_ran(tmp_path: Path):
    """Else the old code would be known by the hash of the new one."""
    nets, helper = tmp_path / "nets.py", tmp_path / "edited_helper.py"
    edit = "from pathlib import Path\nPath(edited_helper.__file__).write_text('VALUE = 2\\n')\n"
    call = "def build():\n    return edited_helper.VALUE\n"
    helper.write_text("VALUE = 1\n")
    nets.write_text("import edited_helper\n" + call)
    before = code_from("nets.py:build", tmp_path).source
    other = tmp_path / "other"
    other.mkdir()
    (other / "edited_helper.py").write_text("VALUE = 1\n")
    (other / "nets.py").write_text("import edited_helper\n" + call)
    assert code_from("nets.py:build", other).source == before
    (other / "nets.py").write_text("import edited_helper\n" + edit + call)
    loaded = _loaded(other / "nets.py")
    sums = [hashlib.sha256(text.encode()).hexdigest() for text in ("VALUE = 1\n", (other / "nets.py").read_text())]
    text = "".join(f"{name} {one}\n" for name, one in zip(("edited_helper.py", "nets.py"), sums, strict=True))
    assert loaded.source == hashlib.sha256(text.encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", ["a\0b.py:build", "a" * 300 + ".py:build", "..:build", ".a:build", "a b:build"])
def test_names_that_nothing_can_have_are_told(name: str, tmp_path: Path):
    with pytest.raises(UserError, match=r"no (file|module) can"):
        code_from(name, tmp_path)


def test_an_installed_package_is_known_by_its_version():
    import safetensors

    code = code_from("safetensors.torch:save_file", Path())
    assert code.source == f"safetensors {safetensors.__version__}"
    assert code_of(safetensors.torch.save_file) == code


def test_a_package_of_one_s_own_is_found_beside_the_study(tmp_path: Path):
    package = tmp_path / "my_pkg_of_nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "data.py").write_text("def load(): return 7\n")
    code = code_from("my_pkg_of_nets.data:load", tmp_path)
    assert code.call({}) == 7 and str(tmp_path) not in sys.path


def test_functions_of_sessions_cannot_be_sent_to_other_processes():
    session: dict[str, Any] = {"__name__": "no_such_module"}
    exec(compile("def build(): pass", "<session>", "exec"), session)
    with pytest.raises(UserError, match="Put it into a file"):
        code_of(session["build"])
    with pytest.raises(UserError, match="not found by other processes"):
        Code("build", "x", function=session["build"]).__reduce__()


def inside() -> Any:
    def build():
        pass

    return build


@pytest.mark.parametrize("function", [3, "build", partial(linear, 3), lambda classes: None, inside()])
def test_what_is_no_function_is_told(function: Any):
    with pytest.raises(UserError):
        code_of(function)


# Networks


def everything(classes, num_classes, shape, length=None, vocabulary=None, padding=7):
    assert (classes, num_classes, shape, length, vocabulary, padding) == (3, 3, (6,), 6, 11, None)
    return nn.Sequential(nn.Embedding(vocabulary, 3), nn.Flatten(), nn.Linear(18, classes))


class Carrying(nn.Module):
    def __init__(self, form: str):
        super().__init__()
        self.form, self.net = form, linear(3, (1, 4, 4))

    def forward(self, x):
        y = self.net(x)
        forms = {"object": SimpleNamespace(logits=y, loss=None), "dict": {"logits": y}, "tensor": y, "tuple": (y, y)}
        return forms[self.form]


class Asking(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 3)

    def forward(self, input_ids, attention_mask=None):
        assert attention_mask is not None and (attention_mask == (input_ids != 8)).all()
        return SimpleNamespace(logits=(self.embedding(input_ids) * attention_mask[..., None]).sum(1))


def test_a_function_is_called_with_what_it_takes():
    found = Factory(code_of(everything), (6,), 3, vocabulary=11)
    check_factory(found)
    assert looks_of(found, ()).parameters == 11 * 3 + 18 * 3 + 3


@pytest.mark.parametrize("form", ["object", "dict", "tensor"])
def test_networks_that_give_more_than_logits_are_read(form: str):
    found = made(Carrying, options={"form": form})
    check_factory(found)
    network = found.build()
    assert network(torch.rand(2, 1, 4, 4)).shape == (2, 3)
    assert set(network.state_dict()) == {"net.1.weight", "net.1.bias"}  # as its author knows them


def test_a_network_that_gives_no_logits_is_told():
    with pytest.raises(UserError, match="must give logits"):
        check_factory(made(Carrying, options={"form": "tuple"}))


def test_padding_is_told_to_who_asks():
    check_factory(Factory(code_of(Asking), (5,), 3, vocabulary=9, padding=8))


def test_start_weights_are_loaded_and_another_head_is_kept(tmp_path: Path):
    torch.manual_seed(0)
    path = tmp_path / "start.safetensors"
    study = STUDY.replace('model = "nets.py:build"', 'model = "nets.py:build"\nweights = "start.safetensors"')
    write(tmp_path, study + COMBINATION)
    (plain,) = {entry.plan.model for entry in compose_study(read_study(write(tmp_path))) if entry.plan}
    donor = replace(plain, classes=1000).build()
    safetensors.torch.save_file(donor.state_dict(), path)
    (tmp_path / "study.toml").write_text(study + COMBINATION)
    models = {entry.plan.model for entry in compose_study(read_study(tmp_path / "study.toml")) if entry.plan}
    (found,) = models
    network = found.build()
    assert torch.equal(network.conv1.weight, donor.conv1.weight)
    assert network.fc.weight.shape == (7, 32) and found != plain
    assert not any(one.is_meta for one in network.parameters())


# Twenty and more mistakes, each told in a line by the command that tries a study

NET = "nets.py"


def edited(old: str, new: str) -> dict[str, Any]:
    return {"study": (STUDY + SMALL).replace(old, new)}


def nets(text: str) -> dict[str, Any]:
    return {"nets": f"import torch\nfrom torch import nn\n\n{text}\n", "study": STUDY + SMALL}


X, Y, XT, YT = signs().values()
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "channels last": ({"x_train": X.transpose(0, 2, 3, 1), "x_test": XT.transpose(0, 2, 3, 1)}, "[N, C, H, W]"),
    "another shape": ({"x_test": XT[:, :, :-1]}, "another shape"),
    "labels from 1": ({"y_train": Y + 1, "y_test": YT + 1}, "labels begin at 0"),
    "float labels": ({"y_train": Y.astype(np.float32)}, "astype(np.int64)"),
    "text labels": ({"y_train": Y.astype(str)}, "np.unique"),
    "NaN": ({"x_train": np.full(X.shape, np.nan), "x_test": XT / 255}, "NaN"),
    "pixels to 255": ({"x_train": X.astype(np.float32), "x_test": XT.astype(np.float32)}, "Divide by 255"),
    "no test example of a class": ({"y_test": YT % 6}, "without a test example"),
    "a label only the test has": ({"y_test": np.where(YT == 0, 7, YT)}, "no training example has"),
    "lengths": ({"y_train": Y[:-1]}, "different lengths"),
    "no labels": ({"y_train": None}, "no array y_train"),
    "misspelt array": ({"y_trian": Y}, "y_train"),
    "no file": (edited('"signs.npz"', '"sings.npz"'), "no such file"),
    "an unknown kind of file": (edited('"signs.npz"', '"signs.mat"'), "no data that can be read"),
    "a folder without classes": (edited('"signs.npz"', '"."'), "no classes"),
    "a target of arrays": (edited('data = "signs.npz"', 'data = "signs.npz"\ntarget = "x"'), "has no target"),
    "unknown key": (edited("utility", "utilty"), "utility"),
    "unknown utility": (edited('utility = "accuracy"', 'utility = "acuracy"'), "accuracy"),
    "unknown option of the training": (edited("epochs = 1", "epochz = 1"), "epochs"),
    "a training of another type": (edited("epochs = 1", 'epochs = "one"'), "epochs"),
    "two tasks of one name": (
        edited("[[recipes]]", '[[tasks]]\nname = "signs"\ndata = "signs.npz"\n\n[[recipes]]'),
        "one name",
    ),
    "a built-in name": (edited('"signs"\ndata', '"mnist"\ndata'), "one name"),
    "an unknown data set": (edited('dataset = "signs"', 'dataset = "sings"'), "unknown data set"),
    "no such function": (edited("nets.py:build", "nets.py:biuld"), "Did you mean 'build'"),
    "no such module": (edited("nets.py:build", "no_nets.py:build"), "cannot be read"),
    "no function at all": (edited("nets.py:build", "nets.py"), "unknown network"),
    "a file that cannot be imported": (nets("def build(classes:"), "nets.py, line 4"),
    "a function that raises": (nets("def build(classes):\n    return nn.Linear(classes, -1)"), "nets.py, line 5"),
    "needs arguments": (nets("def build(classes, depth):\n    pass"), "depth"),
    "gives no network": (nets("def build(classes):\n    return 3"), "gives no network"),
    "another width": (
        nets("def build(shape):\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 40 * 24, 10))"),
        "got (2, 10)",
    ),
    "another input": (
        nets("def build(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(10, classes))"),
        "does not take the task's inputs",
    ),
    "no parameters": (nets("def build(classes):\n    return nn.Flatten()"), "without parameters"),
    "no weights": (edited('nets.py:build"', 'nets.py:build"\nweights = "none.safetensors"'), "weights cannot be read"),
    "weights of ours": (edited('"nets.py:build"', '"cnn4"\nweights = "x.safetensors"'), "one's own"),
    "norm of one's own network": (edited("epochs = 1", 'epochs = 1\nnorm = "group"'), "norm"),
    "a neighbour of another form": (edited("utility", 'neighbour = "gtsrb"\nutility'), "another form"),
    "an unknown neighbour": (edited("utility", 'neighbour = "gtrsb"\nutility'), "gtsrb"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_told_in_a_line(kind: str, guardclash: Guardclash, tmp_path: Path):  # noqa: F811
    change, said = MISTAKES[kind]
    path = write(tmp_path, **{"study": STUDY + SMALL, **change})
    found = guardclash("check", path)
    assert found.code == 2, found.out
    assert said in found.err.replace("\n", " ") and "Traceback" not in found.err
    assert len(found.err.strip().splitlines()) == 1, found.err
    assert not (tmp_path / "runs").exists()


def test_weights_that_do_not_fit_are_told_by_their_tensor(guardclash: Guardclash, tmp_path: Path):  # noqa: F811
    study = (STUDY + SMALL).replace('nets.py:build"', 'nets.py:build"\nweights = "start.safetensors"')
    path = write(tmp_path, study)
    safetensors.torch.save_file({"conv1.weight": torch.zeros(4, 3, 5, 5)}, tmp_path / "start.safetensors")
    found = guardclash("check", path)
    assert found.code == 2 and "conv1.weight has the shape (4, 3, 5, 5)" in found.err
    torch.save({}, tmp_path / "start.safetensors")
    found = guardclash("check", path)
    assert found.code == 2 and "no safetensors file" in found.err


# The same as a built-in task


def as_own(tmp_path: Path, name: str, neighbour: str, **training: Any) -> dict[str, Any]:
    """A built-in task through the door for others."""
    from guardclash.data.catalog import find_dataset
    from guardclash.data.loading import load

    arrays = {
        f"{kind}_{split}": values
        for split in ("train", "test")
        for kind, values in zip("xy", load(find_dataset(name), split), strict=True)
    }
    np.savez(tmp_path / "own.npz", **arrays)
    task = {"name": "own", "data": "own.npz", "model": "cnn4-small", "neighbour": neighbour, "training": training}
    return {"tasks": [task], "recipes": [{"dataset": "own", "scale": "smoke"}]}


def values_of(table: dict[str, Any], tmp_path: Path, store: str, mechanisms: list[Any]) -> dict[str, float]:
    from guardclash.data.loading import data_folder
    from guardclash.studies.engines import Inline
    from guardclash.studies.jobs import Site
    from guardclash.studies.run import run_study
    from guardclash.studies.store import Store

    replicates = {"alone": 1, "together": 1}
    study = study_from(
        {**table, "combinations": [{"mechanisms": mechanisms}], "replicates": replicates}, folder=tmp_path
    )
    results = run_study(study, Site(Store(tmp_path / store), data_folder()), Inline())
    return {
        f"{[named.name for named in cell.combination]} {of} {metric}": value
        for cell in results.cells.values()
        for trial in cell.trials
        for of, one in trial.measurements.items()
        for metric, value in one.values.items()
    }


SAME = {"optimizer": "sgd", "learning_rate": 0.1, "first_learning_rate": 0.02, "weight_decay": 5e-4, "batch_size": 64}
MECHANISMS = ["wm", {"name": "advtr", "steps": 2, "test_examples": 100}, "dpsgd"]


@pytest.mark.slow
def test_digits_through_the_door_measure_as_the_built_in(tmp_path: Path):
    built_in = {
        "recipes": [{"dataset": "digits", "scale": "smoke", "examples": 1000, "test_examples": 500, "epochs": 1}]
    }
    own = as_own(tmp_path, "digits", "photo-patches", epochs=1, **SAME)
    mechanisms = [*MECHANISMS, {"name": "raddata", "radius": 64, "iterations": 2, "held_out": 20}]
    assert values_of(own, tmp_path, "own", mechanisms) == values_of(built_in, tmp_path, "built-in", mechanisms)


def test_mnist_through_the_door_measures_as_the_built_in(tmp_path: Path):
    try:
        own = as_own(tmp_path, "mnist", "fmnist", epochs=1, **SAME)
    except UserError as error:
        pytest.skip(str(error))
    built_in = {"recipes": [{"dataset": "mnist", "scale": "smoke"}]}
    mechanisms = MECHANISMS
    assert values_of(own, tmp_path, "own", mechanisms) == values_of(built_in, tmp_path, "built-in", mechanisms)


def test_a_task_is_as_its_table_says(tmp_path: Path):
    study = read_study(write(tmp_path))
    (own,) = study.tasks
    task = open_task(own)
    full, reduced, smoke = task.recipes
    assert (full.epochs, full.optimizer, full.learning_rate, full.first_learning_rate) == (1, "adamw", 1e-3, 1e-4)
    assert reduced == replace(full, scale="reduced") and smoke.examples == 140
    assert task.utility == "accuracy" and task.data.label == "signs"
