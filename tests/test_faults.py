"""Twenty small inputs from public bug reports, each of which was answered wrongly once: what they should give.

Each stands for a kind, and other tests hold the kinds; here the inputs themselves are typed, as somebody would.
"""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from guardclash.compose import compose
from guardclash.data.loading import data_folder
from guardclash.errors import UserError
from guardclash.judging.criteria import Ceiling, Floor, Metric
from guardclash.judging.judge import judge
from guardclash.judging.stats import Sample
from guardclash.numerics.accounting import calibrated_noise
from guardclash.numerics.attacks import PGD, ensemble
from guardclash.plan.gradients import ClippedNoisy
from guardclash.plan.models import CNN
from guardclash.registry import find_mechanism
from guardclash.studies.engines import Inline
from guardclash.studies.jobs import Site
from guardclash.studies.run import run_study
from guardclash.studies.store import Store
from guardclash.studies.study_file import study_from
from guardclash.suspects.unrelated import Unrelated
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.train import train
from guardclash.training.trained import predictor

pytestmark = pytest.mark.slow
DIGITS = '[[recipes]]\ndataset = "digits"\nscale = "smoke"\nnorm = "group"\n'
ONE = "replicates = { alone = 1, together = 1 }\n"
Typed = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    """Types a command in an empty folder."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from guardclash.cli.app import main; main()", *map(str, arguments)]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "GUARDCLASH_CHECK": "1", **environment}
        return subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False, errors="replace"
        )

    return run


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., str]:
    """Writes a study."""

    def write(mechanisms: str, more: str = "", head: str = ONE, recipes: str = DIGITS, name: str = "s.toml") -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{head}{recipes}[[combinations]]\nmechanisms = [{mechanisms}]\n{more}")
        return name

    return write


def test_f01_a_suspect_of_other_classes(typed: Typed, study: Callable[..., str]):
    name = study('"wm", { name = "raddata", iterations = 3 }', '[[suspects]]\nkind = "unrelated"\n')
    said = typed("run", name, "--workers", 1)
    assert said.returncode == 0, said.stderr
    assert "failed" not in said.stderr
    assert "classes" in said.stdout


@pytest.mark.parametrize(("norm", "radius"), [("l2", 0.8), ("linf", 0.15)])
def test_f02_robustness_of_confident_models(norm: str, radius: float):
    context = RunContext(0, data_folder())
    model = train(recipe("digits", "reduced", norm="group").plan(), context)
    attack = find_mechanism("advtr")(norm=norm, radius=radius, test_examples=200)
    found = []
    for factor in (1, 4, 10, 100):
        network = copy.deepcopy(model.network)
        network[-1].weight.data.mul_(factor)
        network[-1].bias.data.mul_(factor)
        found.append(attack.measure(replace(model, network=network, predict=predictor(network)), context))
    assert all(abs(one["adv_accuracy"] - found[0]["adv_accuracy"]) <= 0.06 for one in found), found
    assert all(one["adv_doubt"] <= 0.02 for one in found)


@pytest.mark.parametrize(
    "thief", ['kind = "fine-tuning"\nimages = "members"', 'kind = "extraction"\nqueries = "members"']
)
def test_f03_epsilon_over_all_trainings(typed: Typed, study: Callable[..., str], thief: str):
    said = typed("run", study('"wm"', f'[[suspects]]\n{thief}\nmechanisms = ["dpsgd"]\n'), "--workers", 0)
    assert said.returncode == 0
    assert "ε of task ∞" in said.stdout
    assert "ε of task 3" not in said.stdout


def test_f04_two_studies_of_one_name(typed: Typed, study: Callable[..., str], tmp_path: Path):
    two = "replicates = { alone = 2, together = 2 }\n"
    for folder, other in (("a", "dpsgd"), ("b", "dpsgd-control")):
        (tmp_path / folder).mkdir()
        study(f'"wm", "{other}"', head=two, name=f"{folder}/study.toml")
        assert typed("run", f"{folder}/study.toml", "--store", "s", "--workers", 0).returncode == 0
    for folder in ("a", "b"):
        said = typed("report", f"{folder}/study.toml", "--store", "s")
        assert said.returncode == 0
        assert "not run yet" not in said.stdout
        typed("export", f"{folder}/study.toml", f"kept-{folder}", "--store", "s")
        kept = typed("report", f"{folder}/study.toml", "--results", f"kept-{folder}")
        assert kept.stdout == said.stdout
    study('"dpsgd"', head=two, name="third.toml")
    assert "not run yet" not in typed("report", "third.toml", "--store", "s").stdout


def test_f05_a_report_after_a_kill(typed: Typed, study: Callable[..., str], tmp_path: Path):
    name = study('"wm", "dpsgd-control"', head="replicates = { alone = 12, together = 12 }\n")
    command = [sys.executable, "-c", "from guardclash.cli.app import main; main()", "run", name, "--no-check"]
    process = subprocess.Popen(
        [*command, "--workers", "1"], cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True
    )
    trials = tmp_path / "runs" / "trials"
    while process.poll() is None and (not trials.is_dir() or len(list(trials.iterdir())) < 15):
        pass
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    there = {json.loads(path.read_text())["trial"] for path in (tmp_path / "runs" / "measurements").iterdir()}
    said = typed("report", name, "--format", "csv")
    assert said.returncode == 0
    told = {key for key in (path.parent.name for path in trials.glob("*/record.json")) if key in said.stdout}
    assert told == there
    assert len(there) >= 10


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 0.5), (5, 0.9), (0.05, 0.1), (0.001, 0.01)])
def test_f06_large_delta(typed: Typed, study: Callable[..., str], epsilon: float, delta: float):
    said = typed("plan", study(f'{{ name = "dpsgd", epsilon = {epsilon}, delta = {delta} }}'))
    assert (said.returncode, "Traceback" in said.stderr) in ((0, False), (2, False)), said.stderr


def test_f07_prv_of_a_large_epsilon_in_bounded_memory(study: Callable[..., str], tmp_path: Path):
    name = study('{ name = "dpsgd", epsilon = 1000, accountant = "prv" }')
    limited = f"ulimit -v 9000000; {sys.executable} -c 'from guardclash.cli.app import main; main()' plan {name}"
    said = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr


def test_f08_small_epsilon_takes_no_more_noise_than_needed():
    rate, steps, delta = 64 / 1297, 400, 1e-5
    assert calibrated_noise(0.01, rate, steps, delta, "prv") < 300
    assert calibrated_noise(0.01, rate, steps, delta, "rdp") < 300
    assert calibrated_noise(0.02, rate, steps, delta, "rdp") < 155


def test_f09_the_forecast_of_batches_that_cannot_be(typed: Typed, study: Callable[..., str]):
    large = DIGITS + "epochs = 20\nbatch_size = 500000\n"
    said = typed("plan", study('"wm", "dpsgd"', recipes=large))
    seconds = re.search(r"About (\d+(?:\.\d+)?) s of one core", " ".join(said.stdout.split()))
    assert seconds and float(seconds[1]) < 30, said.stdout


TIED = """
from dataclasses import dataclass, replace
from torch import nn
from guardclash.mechanism import Mechanism
@dataclass(frozen=True)
class Twice:
    def __call__(self, network):
        layer = nn.Linear(128, 128)
        return nn.Sequential(*network[:-1], layer, nn.ReLU(), layer, network[-1])
@dataclass(frozen=True)
class Tied(Mechanism):
    "One layer at two places."
    name, concern = "tied", "control"
    def architecture(self, plan):
        return replace(plan, rewrites=(*plan.rewrites, Twice()))
"""


def test_f10_tied_weights(typed: Typed, study: Callable[..., str], tmp_path: Path):
    (tmp_path / "tied.py").write_text(TIED)
    said = typed("run", study('"tied", "dpsgd"', head=f'plugins = ["tied.py"]\n{ONE}'), "--workers", 1)
    assert said.returncode == 0, said.stderr


def test_f11_running_statistics_under_dp(typed: Typed, study: Callable[..., str], tmp_path: Path):
    network = nn.Sequential(nn.InstanceNorm2d(1, track_running_stats=True), nn.Flatten(), nn.Linear(64, 4))
    private, x = ClippedNoisy(clip=1.0, noise_multiplier=1e6, expected_batch_size=5), torch.rand(5, 1, 8, 8)
    with pytest.raises(UserError, match="keeps statistics"):
        private(
            network,
            lambda: nn.functional.cross_entropy(network(x), torch.tensor([0, 1, 2, 3, 0]), reduction="none"),
            torch.Generator().manual_seed(0),
        )
    plugin = TIED.replace("nn.Sequential(*network[:-1], layer, nn.ReLU(), layer, network[-1])", "FRONT")
    front = "nn.Sequential(network[0], nn.InstanceNorm2d(1, track_running_stats=True), *network[1:])"
    (tmp_path / "tied.py").write_text(plugin.replace("FRONT", front))
    said = typed("run", study('"tied", "dpsgd"', head=f'plugins = ["tied.py"]\n{ONE}'), "--workers", 0)
    assert said.returncode == 2
    assert "keeps statistics" in said.stderr


def test_f12_a_byte_order_mark(typed: Typed, study: Callable[..., str], tmp_path: Path):
    path = tmp_path / study('"wm"')
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert typed("plan", path.name).returncode == 0


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_f13_output_that_cannot_be_encoded(typed: Typed, study: Callable[..., str], encoding: str):
    said = typed("run", study('"dpsgd"'), "--workers", 0, PYTHONIOENCODING=encoding)
    assert said.returncode == 0, said.stderr
    assert "?" in said.stdout


def test_f14_rounding_at_a_fixed_bound():
    values = ((0.3,) * 4, (2.3 - 2.0, 3.3 - 3.0, 5.3 - 5.0, 0.97 - 0.67))
    for criterion in (Floor(0.3), Ceiling(0.3)):
        metric = Metric("m", "m", criterion, higher_is_better=isinstance(criterion, Floor))
        found = [judge(metric, metric.criterion, None, Sample(one)).outcomes for one in values]
        assert found[0] == found[1]


def test_f15_an_ensemble_of_attacks_on_two_classes():
    plan, context = recipe("digits", "smoke", norm="group").plan(), RunContext(0, data_folder())
    model = train(Unrelated().plan(plan, plan), context)
    with pytest.raises(UserError, match="classes"):
        ensemble(model.network, PGD(radius=0.01, step=0.01, steps=3), plan.model.classes - 8, context.rng("ensemble"))
    pytest.importorskip("art")
    attack = find_mechanism("advtr")(steps=3, radius=0.01, test_examples=60, ensemble=True)
    with pytest.raises(UserError, match="classes"):
        attack.measure(model, context)


def test_f16_a_group_norm_over_a_single_value():
    model = CNN((1, 8, 8), 10, (0.5,), (0.5,), widths=(8, 16, 32), norm="batch")
    plan = replace(recipe("digits", "smoke").plan(), model=model)
    with pytest.raises(UserError, match="single value"):
        compose(plan, [find_mechanism("dpsgd-control")()])


FLAT = """
import numpy as np
from guardclash.data.dataset import Dataset
from guardclash.data.examples import Examples
from guardclash.data.space import Images
def read(split, folder):
    return Examples(np.full((600, 1, 8, 8), LEVEL, np.uint8), np.zeros(600, np.int64))
FLAT = Dataset("flat", "Flat", Images((1, 8, 8)), 2, (("test", 600),), read, (0.5,), (0.5,))
"""


def test_f17_an_edited_data_set_of_a_plugin(typed: Typed, study: Callable[..., str], tmp_path: Path):
    name = study('{ name = "wm", source = "flat" }', head=f'plugins = ["flat.py"]\n{ONE}')
    (tmp_path / "flat.py").write_text(FLAT.replace("LEVEL", "0"))
    first = typed("run", name, "--workers", 0)
    assert first.returncode == 0, first.stderr
    (tmp_path / "flat.py").write_text(FLAT.replace("LEVEL", "255"))
    second = typed("run", name, "--workers", 0)
    assert "1 models to train" in second.stderr, second.stderr


@pytest.mark.parametrize("name", ["../../escaped", "", "..", "a\nb", "/abs/x"])
def test_f18_a_name_is_no_path(name: str, tmp_path: Path):
    table = {"recipes": [{"dataset": "digits", "scale": "smoke"}], "combinations": [{"mechanisms": ["wm"]}]}
    with pytest.raises(UserError, match="name"):
        run_study(study_from(table, name=name), Site(Store(tmp_path / "store"), data_folder()), Inline())
    assert not (tmp_path / "escaped.json").exists()


def test_f19_a_scale_of_0(typed: Typed, study: Callable[..., str]):
    said = typed("plan", study('{ name = "di", images = 20, sweep = { scale = [0, 1] } }'))
    assert said.returncode == 2
    assert "di.scale" in said.stderr


def test_f20_a_seed_beyond_64_bits(typed: Typed, study: Callable[..., str]):
    said = typed("plan", study('"wm"', head=f"first_seed = 9223372036854775808\n{ONE}"))
    assert said.returncode == 2
    assert "first_seed" in said.stderr
