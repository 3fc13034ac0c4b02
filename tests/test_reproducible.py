"""The same plan, seed and machine give the same bits: wherever, in whatever order and beside whatever else."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from guardclash.compose import Clash, compose
from guardclash.mechanism import Mechanism
from guardclash.plan.codes import codes
from guardclash.plan.identity import fingerprint
from guardclash.plan.plan import Plan
from guardclash.registry import find_mechanisms
from guardclash.studies.engines import Inline, processes
from guardclash.studies.jobs import Site
from guardclash.studies.run import run_study
from guardclash.studies.store import Store
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.train import train
from guardclash.training.trained import Trained
from running import study

NAMES = tuple(sorted(find_mechanisms()))
TOY = {"examples": 64, "batch_size": 32, "epochs": 1}
PAIRS = tuple(itertools.combinations(NAMES, 2))


def toy() -> Plan:
    return recipe("digits", "smoke", **TOY).plan()


def named(names: tuple[str, ...]) -> list[Mechanism]:
    return [find_mechanisms()[name]() for name in names]


def weights(names: tuple[str, ...]) -> str:
    """The SHA-256 of what a training by some mechanisms gives, whatever it needs trained before."""

    @cache
    def nested(plan: Plan, seed: int) -> Trained:
        return train(plan, context(seed))

    def context(seed: int) -> RunContext:
        return RunContext(seed, Path("nowhere"), nested)

    return train(compose(toy(), named(names)), context(0)).weights


def disturb(number: int) -> None:
    """What else a process does: it draws from all generators, and makes and forgets tensors."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
    torch.rand(number + 1)


@cache
def elsewhere() -> dict[str, Any]:
    """What another process, of other hashes and in the other order, gives for each mechanism alone."""
    code = (
        "import json, test_reproducible as here; here.disturb(9);"
        "print(json.dumps({'codes': here.digests(), **{name: here.weights((name,)) for name in reversed(here.NAMES)}}))"
    )
    own = {**os.environ, "PYTHONHASHSEED": "4321", "OMP_NUM_THREADS": "1"}
    folder = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder, env=own)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_here_and_in_another_process_every_mechanism_trains_the_same_bits(name):
    disturb(len(name))
    assert weights((name,)) == elsewhere()[name]


def digests() -> dict[str, str]:
    """Of the code of every mechanism, and of what it adds to a plan."""
    return codes(*(value for name in NAMES for value in (*named((name,)), compose(toy(), named((name,))))))


def test_here_and_in_another_process_code_has_the_same_digests():
    assert digests() == elsewhere()["codes"]
    assert set(digests()) >= {type(one).__name__ for one in named(NAMES)}


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_the_order_in_which_mechanisms_are_named_is_no_part_of_a_plan(pair):
    found = []
    for names in (pair, pair[::-1]):
        try:
            found.append(fingerprint(compose(toy(), named(names))))
        except Clash:
            found.append("clash")
    assert found[0] == found[1]


# --- whole studies ----------------------------------------------------------------------------------------------------


def made(folder: Path, executor: Any, *combinations: list[Any], **keys: Any) -> dict[str, Any]:
    """All that a study leaves in a new store: sums of weights and kept tensors, measured values, by key."""
    store = Store(folder)
    try:
        run_study(study(*combinations, recipe=TOY, **keys), Site(store, folder / "data"), executor)
    finally:
        executor.shutdown()
    found: dict[str, Any] = {}
    for path in sorted((*folder.glob("trials/*/weights.safetensors"), *folder.glob("data/*.safetensors"))):
        # Not the bytes of the file: the format writes what is noted beside the tensors in any order.
        tensors = sorted(safetensors.torch.load_file(path).items())
        found[f"{path.parent.name}/{path.name}"] = hashlib.sha256(safetensors.torch.save(dict(tensors))).hexdigest()
    for path in sorted(folder.glob("measurements/*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        found[path.name] = [content.get(name) for name in ("metrics", "curves", "scatter", "warnings")]
    return found


def agree(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one, "something was made"
    assert not {key for key in one.keys() & other.keys() if one[key] != other[key]}


@pytest.mark.slow
def test_a_study_made_again_after_other_work_is_the_same_to_the_last_bit(tmp_path):
    first = made(tmp_path / "one", Inline(), ["wm", "dpsgd-control"], seeds=1)
    disturb(5)
    again = made(tmp_path / "two", Inline(), ["dpsgd-control"], ["dpsgd-control", "wm"], seeds=2)
    assert first.keys() < again.keys(), "in another order, with more beside it, it has the same keys"
    agree(first, again)


@pytest.mark.slow
def test_two_processes_make_what_one_makes_of_every_mechanism(tmp_path):
    """In the other order, and with other combinations beside."""
    first = made(tmp_path / "one", Inline(), *([name, "wm"] for name in NAMES if name != "wm"), seeds=1)
    others = [*(["wm", name] for name in reversed(NAMES) if name != "wm"), ["dpsgd-control", "advtr"]]
    second = made(tmp_path / "two", processes(2), *others, seeds=1)
    assert first.keys() <= second.keys()
    agree(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["extraction", "fine-tuning", "pruning", "quantisation", "independent", "unrelated"])
def test_suspects_are_the_same_wherever_they_come_from(kind, tmp_path):
    suspects = {"suspects": [{"kind": kind}], "seeds": 1}
    first = made(tmp_path / "one", Inline(), ["wm", "distance"], **suspects)
    second = made(tmp_path / "two", processes(2), ["distance", "wm"], ["raddata", "advtr"], **suspects)
    assert first.keys() <= second.keys()
    agree(first, second)
