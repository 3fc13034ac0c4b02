"""Suspects that try to remove a mark, and the door by which suspects come in."""

from __future__ import annotations

from dataclasses import replace

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.mechanisms.raddata import RadioactiveData
from guardclash.mechanisms.wm import Watermark
from guardclash.plan.deployed import Deployed
from guardclash.plan.owned import Owned
from guardclash.records.plain import results_from
from guardclash.registry import SUSPECTS, known
from guardclash.reporting.claims import claims
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.suspects.overwriting import Overwriting
from guardclash.suspects.pruning import Pruned, Pruning
from guardclash.suspects.quantisation import Quantisation, Quantised
from guardclash.training.train import train
from running import ran, study

WM = {"name": "wm", "triggers": 20, "batch_size": 10, "passes": 4, "cadence": "mixed"}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))
    return made.to(memory_format=torch.channels_last)  # as models come from the store


# Changes of weights


@settings(deadline=None, max_examples=40)
@given(sparsity=st.floats(0.01, 0.99), seed=st.integers(0, 50))
def test_the_smallest_share_of_every_weight_tensor_is_pruned_and_nothing_else(sparsity, seed):
    before, after = network(seed), Pruned(sparsity)(network(seed))
    for (name, one), (_, other) in zip(before.named_parameters(), after.named_parameters(), strict=True):
        gone = other == 0
        if one.dim() == 1:
            assert torch.equal(one, other), f"{name}: biases and norms are left alone"
            continue
        assert gone.sum() == round(sparsity * one.numel())
        assert torch.equal(one[~gone], other[~gone])
        if gone.any() and not gone.all():
            assert one[gone].abs().max() <= one[~gone].abs().min()


@settings(deadline=None, max_examples=40)
@given(bits=st.integers(1, 12), seed=st.integers(0, 50))
def test_every_weight_goes_to_the_nearest_of_few_values(bits, seed):
    before, after = network(seed), Quantised(bits)(network(seed))
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        if one.dim() == 1:
            assert torch.equal(one, other)
            continue
        step = (one.max() - one.min()) / (2**bits - 1)
        assert len(other.unique()) <= 2**bits
        assert ((one - other).abs() <= step / 2 * (1 + 1e-4) + 1e-7).all()
        assert torch.allclose(torch.stack([one.min(), one.max()]), torch.stack([other.min(), other.max()]), atol=1e-6)


def test_a_constant_tensor_stays():
    made = network()
    with torch.no_grad():
        made[0].weight.fill_(0.25)
    assert (Quantised(3)(made)[0].weight == 0.25).all()


@pytest.mark.parametrize("suspect", [Pruning(0.3), Quantisation(4)])
def test_the_victims_weights_are_changed_without_any_training(suspect, base, context):
    victim = compose(base, [Watermark(triggers=20)])
    plan = suspect.plan(Deployed(victim), base)
    assert (plan.initial, plan.epochs, plan.party) == (victim, 0, "thief")
    stolen, own = train(plan, context(0)), train(victim, context(0))
    expected = plan.rewrites[0](own.network)
    assert all(
        torch.equal(one, other) for one, other in zip(stolen.network.parameters(), expected.parameters(), strict=True)
    )
    assert not stolen.network.training


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Pruning(0.0), "pruning.sparsity"),
        (lambda: Pruning(1.0), "pruning.sparsity"),
        (lambda: Quantisation(0), "quantisation.bits"),
        (lambda: Quantisation(17), "quantisation.bits"),
    ],
)
def test_impossible_options_are_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


# A mark of the thief's own


def overwritten(mechanism: dict, **recipe: object):
    wanted = study([mechanism], seeds=1, recipe={"examples": 200, **recipe}, suspects=[{"kind": "overwriting"}])
    return next(entry for entry in compose_study(wanted) if entry.cell.suspect), wanted


def test_a_thief_draws_triggers_of_its_own(context):
    """Before, a thief's own watermark had the owner's triggers: it would have strengthened the owner's claim."""
    entry, _ = overwritten(WM)
    thief, owner = entry.plan.stream("trigger").source, entry.plan.initial.stream("trigger").source
    assert thief == Owned(owner, "thief")
    theirs, ours = context(0).data(thief), context(0).data(owner)
    assert not torch.equal(theirs.y, ours.y) and not torch.equal(theirs.x, ours.x)
    assert torch.equal(theirs.x, context(0).data(thief).x)
    assert not torch.equal(theirs.x, context(1).data(thief).x)


def test_a_thief_marks_images_of_its_own(context):
    entry, _ = overwritten({"name": "raddata", "iterations": 2, "ratio": 0.2, "network_epochs": 1})
    source = entry.plan.task.source
    assert isinstance(source, Owned) and source.party == "thief"
    inside = source.images.images
    assert inside == Owned(entry.plan.initial.task.source.images.__class__("digits", "train", 200, start=200), "")
    plain, marked = context(0).data(inside), context(0).data(source)
    changed = (plain.x != marked.x).flatten(1).any(1)
    assert changed.sum() == 40
    mine = RadioactiveData(iterations=2, ratio=0.2, network_epochs=1).bind(entry.recipe.plan()).marks(inside)
    assert not torch.equal(changed.nonzero().flatten(), mine.chosen(plain.y, context(0)).sort().values)


def test_what_the_victim_answers_stays_the_owners_business(context):
    """A thief with marks of its own asks the same victim the same questions."""
    wanted = study(
        [WM],
        seeds=1,
        recipe={"examples": 200},
        suspects=[{"kind": "extraction"}, {"kind": "extraction", "mechanisms": [WM]}],
    )
    plain, marking = (entry.plan for entry in compose_study(wanted) if entry.cell.suspect)
    assert marking.task.source == Owned(plain.task.source, "")
    assert torch.equal(context(0).data(marking.task.source).y, context(0).data(plain.task.source).y)


def test_a_thief_who_only_trains_otherwise_keeps_its_key():
    wanted = study(
        [WM],
        seeds=1,
        recipe={"examples": 200, "norm": "group"},
        suspects=[{"kind": "fine-tuning", "mechanisms": ["dpsgd"]}],
    )
    (plan,) = (entry.plan for entry in compose_study(wanted) if entry.cell.suspect)
    assert not any(isinstance(stream.source, Owned) for stream in plan.streams)


def test_a_victim_without_marks_cannot_be_overwritten():
    entry, _ = overwritten({"name": "di", "images": 12})
    assert entry.plan is None and "no mark that could be overwritten" in entry.clash


# The door


PLUGIN = """
import torch
from guardclash.suspect import Suspect, changed

@dataclass(frozen=True)
class Blurred:
    sigma: float
    def __call__(self, network):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(self.sigma * torch.randn(parameter.shape))
        return network

@dataclass(frozen=True)
class Blurring(Suspect):
    '''Noise on the weights.'''
    kind: ClassVar[str] = "blurring"
    sigma: float = 0.01
    def plan(self, victim, unprotected):
        return changed(victim, unprotected, Blurred(self.sigma))
"""


def test_suspects_are_found_and_judged_end_to_end(site, load):
    suspects = [
        {"kind": "pruning", "sweep": {"sparsity": [0.1, 0.99]}},
        {"kind": "quantisation", "bits": 8},
        {"kind": "overwriting", "epochs": 1},
        {"kind": "blurring", "sigma": 0.001},
        {"kind": "independent"},
    ]
    recipe = {"examples": 256, "epochs": 8, "norm": "group"}
    wanted = study([WM], seeds=2, recipe=recipe, suspects=suspects, plugins=[str(load(PLUGIN))])
    content = ran(wanted, site, Inline())
    assert not [trial for cell in content["cells"] for trial in cell["trials"] if trial.get("error")]
    found = {claim.suspect: claim for claim in claims(wanted, results_from(content)) if claim.mechanism == "wm"}
    assert found["pruning(sparsity=0.1)"].outcome == found["quantisation"].outcome == "detected"
    assert found["blurring"].outcome == "detected"
    assert found["pruning(sparsity=0.99)"].outcome == "removed with the model"
    assert found["independent"].outcome == "cleared"
    assert found["overwriting"].stolen


def test_mistakes_are_told(load):
    for suspect, said in (
        ({"kind": "prunning"}, "unknown kind of suspect 'prunning'.*pruning"),
        ({"kind": "pruning", "sparsty": 0.1}, "'sparsty'.*sparsity"),
        ({"kind": "pruning", "sparsity": "much"}, "pruning.sparsity"),
    ):
        with pytest.raises(UserError, match=said):
            compose_study(study([WM], recipe={"examples": 200}, suspects=[suspect]))


@pytest.mark.parametrize("kind", sorted(known(SUSPECTS)))
def test_every_suspect_is_complete(kind, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    safetensors.torch.save_file(base.model.build().state_dict(), "suspect.safetensors")  # of the one from outside
    suspect = known(SUSPECTS)[kind]()
    victim = compose(replace(base, streams=(replace(base.task, source=base.task.source.first(200)),)), [Watermark()])
    unprotected = replace(base, streams=(victim.task,))
    plan = suspect.plan(Deployed(victim), unprotected)
    assert type(suspect).__doc__ and plan.party in ("thief", "independent", "outside")
    assert suspect.stolen == {"thief": True, "independent": False, "outside": None}[plan.party]
    assert hash(plan) == hash(suspect.plan(Deployed(victim), unprotected))
    assert Overwriting.overwrites
