"""Models from outside: files of weights as suspects; and which model answers."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from guardclash.cli.app import app
from guardclash.errors import UserError
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.plan.deployed import Deployed
from guardclash.plan.foreign import Foreign, weights_file
from guardclash.plan.identity import describe, fingerprint
from guardclash.plan.trainings import trainings
from guardclash.records.plain import results_from
from guardclash.reporting.claims import Claim, claims
from guardclash.reporting.findings import find
from guardclash.reporting.text import render
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.studies.jobs import Site
from guardclash.studies.study import Study
from guardclash.suspects.foreign import ForeignModel
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.train import build_network
from running import ran, study

WM = {"name": "wm", "triggers": 20, "batch_size": 10, "passes": 4, "cadence": "mixed"}
SMALL = {"examples": 256, "epochs": 8}


def watermarked(*suspects: dict[str, Any], seeds: int = 3) -> Study:
    return study([WM], seeds=seeds, recipe=SMALL, suspects=list(suspects))


def kept_weights(wanted: Study, site: Site, combination: tuple[str, ...], seed: int) -> Path:
    names = lambda entry: tuple(named.name for named in entry.cell.combination)  # noqa: E731
    found = next(one for one in compose_study(wanted) if names(one) == combination and not one.cell.suspect)
    folder = site.store.trial(found.trials()[seed].key)
    assert folder
    return folder / "weights.safetensors"


def found_claims(wanted: Study, content: dict[str, Any]) -> dict[str, Claim]:
    return {claim.suspect: claim for claim in claims(wanted, results_from(content))}


def test_a_stolen_file_is_claimed_by_its_owner_alone(site, tmp_path):
    """Each seed is another owner: the file of one of them is a control for the others."""
    ran(watermarked(), site, Inline())
    stolen, innocent = (kept_weights(watermarked(), site, of, seed) for of, seed in ((("wm",), 1), ((), 1)))
    (tmp_path / "suspect.safetensors").write_bytes(stolen.read_bytes())
    wanted = watermarked(
        {"kind": "foreign", "file": str(tmp_path / "suspect.safetensors")},
        {"kind": "foreign", "file": str(innocent)},
        {"kind": "foreign", "file": str(innocent), "stolen": False},
        {"kind": "foreign", "file": str(stolen), "stolen": True},
    )
    content = ran(wanted, site, Inline())
    by_truth = {(claim.stolen, claim.outcome): claim for claim in found_claims(wanted, content).values()}
    taken = by_truth[None, "claimed"]
    assert taken.finding.claimed == (1,), "by the owner who lost it"
    assert by_truth[None, "not claimed"].finding.claimed == ()
    assert by_truth[False, "cleared"].finding.claimed == ()
    assert by_truth[True, "mixed"].finding.claimed == (1,)
    own = found_claims(wanted, content)["itself"]
    assert taken.finding.sample.values[1] == own.finding.sample.values[1], "the very model"
    text = render(find(wanted, results_from(content), "strict"))
    assert "unknown" in text and "not claimed" in text


def test_the_network_answers_as_it_did_outside(site, tmp_path):
    ran(watermarked(seeds=1), site, Inline())
    file = kept_weights(watermarked(seeds=1), site, ("wm",), 0)
    base = recipe("digits", "smoke", **SMALL).plan()
    plan = ForeignModel(file).plan(Deployed(base), base)
    network = build_network(plan, site.context(7)).eval()
    original = base.model.build().eval()
    original.load_state_dict(safetensors.torch.load_file(file))
    x = torch.rand(5, *base.model.shape)
    assert torch.equal(network(x), original(x))
    assert plan.epochs == 0 and not list(trainings(plan))


def test_a_file_may_be_of_the_victims_network(tmp_path):
    """DP-SGD replaces norms and has other tensors than the recipe's network."""
    base = recipe("digits", "smoke", norm="batch", **SMALL).plan()
    victim = DPSGD().architecture(base)
    network = victim.model.build()
    for rewrite in victim.rewrites:
        network = rewrite(network)
    weights = {name: torch.randn_like(value) for name, value in network.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "dp.safetensors")
    suspect = ForeignModel(tmp_path / "dp.safetensors")
    plan = suspect.plan(Deployed(victim), base)
    assert plan.rewrites[:-1] == victim.rewrites != ()
    built = build_network(plan, RunContext(0, tmp_path))
    assert all(torch.equal(value, weights[name]) for name, value in built.state_dict().items())
    with pytest.raises(UserError, match="neither the recipe's network nor the victim's"):
        suspect.plan(Deployed(base), base)


def saved(path: Path, change: float = 0.0, **replaced: Any) -> Path:
    network = recipe("digits", "smoke", **SMALL).plan().model.build()
    weights = {name: torch.full_like(value, change) for name, value in network.state_dict().items()}
    weights = {name: value for name, value in {**weights, **replaced}.items() if value is not None}
    safetensors.torch.save_file(weights, path)
    return path


def keys(file: Path, **options: Any) -> set[str]:
    wanted = watermarked({"kind": "foreign", "file": str(file), **options})
    return {trial.key for entry in compose_study(wanted) if entry.cell.suspect for trial in entry.trials()}


def test_the_content_is_the_key_and_not_the_place(tmp_path):
    first = keys(saved(tmp_path / "one.safetensors"))
    assert keys(saved(tmp_path / "two.safetensors")) == first
    assert keys(saved(tmp_path / "one.safetensors", 1.0)) != first
    assert keys(saved(tmp_path / "one.safetensors")) == first, "as before"
    digest = weights_file(tmp_path / "one.safetensors").sha256
    assert keys(tmp_path / "one.safetensors", sha256=digest.upper()) == first


def test_a_file_that_changes_after_planning_is_refused(tmp_path):
    base = recipe("digits", "smoke", **SMALL).plan()
    plan = ForeignModel(saved(tmp_path / "one.safetensors")).plan(Deployed(base), base)
    saved(tmp_path / "one.safetensors", 1.0)
    with pytest.raises(UserError, match="not those that were planned with"):
        build_network(plan, RunContext(0, tmp_path))


def test_the_file_lies_beside_the_study(tmp_path):
    saved(tmp_path / "suspect.safetensors")
    path = tmp_path / "study.toml"
    path.write_text("""
recipes = [{ dataset = "digits", scale = "smoke", examples = 256 }]
combinations = [{ mechanisms = ["wm"] }]
suspects = [{ kind = "foreign" }]
""")
    done = CliRunner().invoke(app, ["plan", str(path), "--store", str(tmp_path / "runs")])
    assert done.exit_code == 0, done.output
    assert "foreign of {wm}" in done.output


SCALE = torch.tensor([float("nan")])
FAULTS = {
    "no file": (lambda path: None, "cannot be read"),
    "a folder": (lambda path: path.mkdir(), "cannot be read"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps({})), "no safetensors file.*not read"),
    "empty": (lambda path: path.write_bytes(b""), "no safetensors file"),
    "another network": (lambda path: safetensors.torch.save_file({"w": torch.ones(3)}, path), "lack the tensor"),
    "one too many": (lambda path: saved(path, extra=torch.ones(1)), "no tensor extra"),
    "not a number": (lambda path: saved(path, extra=SCALE), "must be numbers"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_mistakes_are_told_before_anything_is_trained(fault, tmp_path):
    make, said = FAULTS[fault]
    make(tmp_path / "suspect.safetensors")
    with pytest.raises(UserError, match=said) as caught:
        keys(tmp_path / "suspect.safetensors")
    assert "suspect.safetensors" in str(caught.value)


def test_another_file_than_asked_for_is_refused(tmp_path):
    with pytest.raises(UserError, match="another one"):
        keys(saved(tmp_path / "suspect.safetensors"), sha256="0" * 64)


def test_mechanisms_on_what_is_not_trained_are_a_clash_and_not_without_effect(tmp_path):
    wanted = watermarked({"kind": "foreign", "file": str(saved(tmp_path / "a.safetensors")), "mechanisms": ["wm"]})
    entry = next(entry for entry in compose_study(wanted) if entry.cell.suspect)
    assert entry.plan is None and "nothing is trained" in str(entry.clash)


# Which model answers


@dataclass(frozen=True)
class Silent:
    level: int = 1

    def serve(self, predict: Any, trained: Any, context: Any) -> Any:
        return lambda x: predict(x) * 0

    def needs(self, plan: Any) -> tuple[Any, ...]:
        return ()


def test_a_deployed_model_is_its_plan_until_something_acts_at_inference():
    plan = recipe("digits", "smoke").plan()
    bare, silent = Deployed(plan), Deployed(plan, (Silent(),))
    assert describe(bare) == describe(plan) and fingerprint(bare) == fingerprint(plan)
    assert describe(bare, full=True) == describe(plan, full=True)
    assert len({fingerprint(one) for one in (bare, silent, Deployed(plan, (Silent(2),)))}) == 3
    assert fingerprint(Deployed(replace(plan, epochs=9))) != fingerprint(bare)


def test_foreign_weights_are_compared_by_content():
    one, other = (Foreign("00", Path(name)) for name in ("a", "b"))
    assert one == other and hash(one) == hash(other) and fingerprint(one) == fingerprint(other)
    assert describe(one) == {"type": "Foreign", "sha256": "00"}
