"""Whose data it is: what is not the known content of a data set belongs to every key; no result meets other data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardclash.data import contents, loading
from guardclash.data.catalog import find_dataset
from guardclash.data.contents import OFFICIAL, content, digest
from guardclash.data.dataset import Dataset
from guardclash.data.examples import Examples
from guardclash.data.files import gzip_file
from guardclash.data.loading import load
from guardclash.data.space import Images
from guardclash.errors import UserError
from guardclash.plan.identity import nested, substituted
from guardclash.plan.plan import Plan
from guardclash.plan.sources import Split
from guardclash.registry import find_mechanisms
from guardclash.studies.composing import compose_study, unusual_data
from guardclash.studies.engines import Inline
from guardclash.studies.jobs import Site
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from running import ran, study, values
from test_data_idx import READER, write_tiny

OWN_DATA = Path(__file__).parent / "plugins" / "own_data.py"
OWN = {"dataset": "own", "scale": "smoke"}


def write(folder: Path, file: str, dataset: str, **changes: Any) -> None:
    """The first examples of a bundled data set as somebody's own, some arrays changed."""
    arrays: dict[str, np.ndarray] = {}
    for split, size in (("train", 256), ("test", 200)):
        x, y = load(find_dataset(dataset), split)
        arrays |= {f"x_{split}": x[:size], f"y_{split}": y[:size]}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / file, **{name: changes.get(name, lambda a: a)(array) for name, array in arrays.items()})


@pytest.fixture
def own(site: Site) -> Site:
    write(site.data_folder, "own.npz", "digits")
    write(site.data_folder, "near.npz", "photo-patches")
    return site


def own_study(*combinations: list[Any], seeds: int = 1) -> Any:
    return study(*combinations, seeds=seeds, recipe=OWN, plugins=[str(OWN_DATA)])


def fresh() -> None:
    """As a new process: nothing that was read is remembered."""
    loading._kept.cache_clear()
    contents._content.cache_clear()


WM = {"name": "wm", "triggers": 20, "batch_size": 10}


# What a folder holds


def test_bundled_data_and_absent_data_are_what_they_are_known_for(tmp_path):
    for name in ("digits", "photo-patches", "mnist", "cifar10", "gtsrb"):
        assert content(find_dataset(name), "test", tmp_path) == OFFICIAL


def test_the_same_examples_in_another_packing_are_the_same(tmp_path):
    tiny = Dataset("tiny", "Tiny", Images((1, 4, 6)), 3, (("train", 5), ("test", 3)), READER)
    write_tiny(tmp_path / "plain")
    write_tiny(tmp_path / "packed", packed=True)
    plain, packed = (content(tiny, "train", tmp_path / name) for name in ("plain", "packed"))
    assert plain == packed != OFFICIAL
    official = replace(tiny, contents=(("train", plain),))
    assert content(official, "train", tmp_path / "plain") == OFFICIAL != content(official, "test", tmp_path / "plain")


@pytest.mark.parametrize("part", ["x", "y"])
def test_every_change_of_inputs_or_labels_is_another_content(part):
    x, y = load(find_dataset("digits"), "test")
    changed = {"x": x.copy(), "y": y.copy()}
    changed[part][7] = changed[part][8] if (changed[part][7] != changed[part][8]).any() else changed[part][9]
    assert digest(Examples(**changed)) != digest(Examples(x, y))
    assert digest(Examples(x, y[::-1].copy())) != digest(Examples(x, y))


def test_files_replaced_under_the_same_names_are_seen_by_the_same_process(tmp_path):
    names = "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
    files = tuple(gzip_file(READER.directory, (), name, "0" * 64, "0" * 64) for name in names)
    tiny = Dataset("tiny", "Tiny", Images((1, 4, 6)), 3, (("train", 5), ("test", 3)), READER, files=files)
    write_tiny(tmp_path)
    before = content(tiny, "train", tmp_path)
    (path,) = tmp_path.rglob("train-images-idx3-ubyte")
    values = bytearray(path.read_bytes())
    values[-1] ^= 255
    path.write_bytes(values)
    assert content(tiny, "train", tmp_path) != before


# Keys


def test_known_data_leave_keys_as_they_are(site):
    wanted = study(["wm", "raddata"], ["di"])
    looked, blind = compose_study(wanted, site.data_folder), compose_study(wanted)
    assert looked == blind and not unusual_data(looked)
    assert [probe.key for one in looked for trial in one.trials() for probe in one.probes(trial)] == [
        probe.key for one in blind for trial in one.trials() for probe in one.probes(trial)
    ]


CHANGES = {
    "inverted training images": ("own.npz", "digits", {"x_train": lambda x: 255 - x}),
    "permuted training labels": ("own.npz", "digits", {"y_train": lambda y: y[::-1].copy()}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_data_under_the_same_names_are_trained_anew_and_never_averaged_in(change, own, trained):
    """Before: "nothing to train", and a further seed was trained on the other data and averaged in."""
    first = ran(own_study([WM]), own, Inline())
    assert len(trained.since()) == 2
    fresh()
    ran(own_study([WM]), own, Inline())
    assert trained.since() == []
    file, dataset, arrays = CHANGES[change]
    write(own.data_folder, file, dataset, **arrays)
    fresh()
    second = ran(own_study([WM], seeds=2), own, Inline())
    assert len(trained.since()) == 4, "both seeds of both models are trained on the other data"
    assert set(values(second, [])) == {0, 1}
    old, new = (next(cell["plan"] for cell in content["cells"]) for content in (first, second))
    assert old != new


def test_other_test_data_are_measured_anew_and_nothing_is_trained(own, trained):
    first = ran(own_study([WM]), own, Inline())
    trained.since()
    write(own.data_folder, "own.npz", "digits", y_test=lambda y: (y + 1) % 10)
    fresh()
    second = ran(own_study([WM]), own, Inline())
    assert trained.since() == []
    before, after = (values(content, [])[0]["accuracy"] for content in (first, second))
    assert after != before


def test_another_neighbour_is_another_trigger_set(own, trained):
    ran(own_study([WM]), own, Inline())
    trained.since()
    write(own.data_folder, "near.npz", "photo-patches", x_test=lambda x: 255 - x)
    fresh()
    ran(own_study([WM]), own, Inline())
    assert len(trained.since()) == 1, "the model with the watermark; the unprotected one has no triggers"


def test_a_run_says_which_data_are_its_own(own):
    composed = compose_study(own_study([WM]), own.data_folder)
    told = unusual_data(composed)
    assert any(line.startswith("own, train split") for line in told)
    assert any(line.startswith("near, test split") for line in told)
    digests = {split.content for entry in composed for split in nested(entry.plan, Split)}
    assert all(any(one in line for line in told) for one in digests)


def test_every_mechanism_reads_only_data_that_its_plan_names(own):
    """A strict context refuses whatever a mechanism reads without knowing which content it has."""
    quick = {
        **{name: {"steps": 2, "test_examples": 20} for name in ("advtr", "trades", "nfgsm")},
        **{name: {"gradient_images": 1} for name in ("negls", "bottleneck")},
        "smoothing": {"draws": 20, "test_examples": 10, "votes": 5},
        "prada": {"sessions": 2, "length": 100, "seeds": 20, "rounds": 1},
        "duci": {"images": 20, "population": 20, "references": 1},
        "saliency": {"steps": 4, "test_examples": 10},
        "pow": {"queries": 128},
        "di": {"images": 12, "embedding": "mingd", "steps": 5},
        "raddata": {"iterations": 3, "held_out": 20},
        "wm": {"triggers": 20, "batch_size": 10},
        "entangled": {"triggers": 20, "rounds": 1, "references": 1},
    }
    wanted = own_study(*([{"name": name, **quick.get(name, {})}] for name in find_mechanisms()))
    content = ran(wanted, own, Inline())
    errors = [trial["error"] for cell in content["cells"] for trial in cell["trials"] if trial.get("error")]
    assert errors == []
    assert len(content["cells"]) == len(find_mechanisms()) + 1


def test_data_that_changed_since_the_plan_was_made_are_refused(own):
    (entry, *_) = compose_study(own_study([WM]), own.data_folder)
    write(own.data_folder, "own.npz", "digits", x_train=lambda x: 255 - x)
    fresh()
    with pytest.raises(UserError, match="not those that this training was planned with"):
        own.context(0).data(entry.plan.task.source)
    lenient = RunContext(0, own.data_folder)
    assert len(lenient.data(entry.plan.task.source).x) == 96


def test_a_substitution_keeps_what_it_does_not_touch():
    plan = recipe("digits", "smoke").plan()
    assert substituted(plan, lambda part: part) is plan
    other = substituted(plan, lambda part: replace(part, epochs=7) if isinstance(part, Plan) else part)
    assert other == replace(plan, epochs=7) and other.streams is plan.streams
