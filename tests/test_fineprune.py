"""Fine-pruning: which channels go, on which images a network is trained on, and whose training it is that goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from guardclash.compose import Clash, compose
from guardclash.conditions.backdoor import Backdoor
from guardclash.conditions.random_half import RandomHalf
from guardclash.conditions.rotated_minority import RotatedMinority
from guardclash.errors import UserError
from guardclash.measures.pruned import PrunedChannels
from guardclash.mechanisms.advtr import AdversarialTraining
from guardclash.mechanisms.di import DatasetInference
from guardclash.mechanisms.distance import ModelDistance
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.fineprune import FewerChannels, FinePruning
from guardclash.mechanisms.raddata import RadioactiveData
from guardclash.mechanisms.spectral import Spectral
from guardclash.mechanisms.wm import Watermark
from guardclash.plan.channels import ChannelMask, last_channels, masked
from guardclash.plan.condition import bound_in, origin
from guardclash.plan.deployed import Deployed
from guardclash.plan.identity import fingerprint
from guardclash.plan.models import CNN, ResNet
from guardclash.plan.plan import Plan
from guardclash.plan.sources import Split
from guardclash.plan.structure import skeleton
from guardclash.studies.dry_run import check_study
from guardclash.studies.engines import Inline
from guardclash.suspects.independent import Independent
from guardclash.suspects.retraining import Retraining
from guardclash.tasks.recipe import recipe
from guardclash.training.train import build_network, train
from guardclash.training.trained import accuracy, predictor
from running import ran, study, values

WM = Watermark(triggers=20, batch_size=10)
WORLD = (RotatedMinority(), RandomHalf(), Backdoor())


def pruned(plan: Plan, *others: Any, **options: Any) -> Plan:
    return compose(plan, [*others, FinePruning(**options)])


# Channels


def test_channels_are_those_of_the_last_convolution_or_of_the_norm_right_behind_it():
    shape, grey = (1, 8, 8), ((0.5,), (0.5,))
    pooled = CNN(shape, 10, *grey, widths=(4, 6), hidden=8, dropout=0.0)
    assert last_channels(pooled.build()) == ("5", 6), "pooling and ReLU come before the norm"
    residual = ResNet((3, 8, 8), 10, (0.5,) * 3, (0.5,) * 3, blocks=1, width=4)
    assert last_channels(residual.build()) == ("6.norm2", 16)
    assert last_channels(skeleton(replace(residual, norm="group"), ())) == ("6.norm2", 16)
    assert last_channels(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))) is None


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_an_open_mask_changes_no_answer_and_a_closed_channel_is_silent(norm):
    network = CNN((1, 8, 8), 10, (0.5,), (0.5,), widths=(4, 6), hidden=8, norm=norm).build().eval()
    x = torch.rand(5, 1, 8, 8)
    before = network(x)
    network, mask = masked(network)
    assert torch.equal(network(x), before) and not any(module.training for module in network.modules())
    mask.kept[2] = 0
    seen = []
    mask.register_forward_hook(lambda _, __, output: seen.append(output))
    network(x)
    assert (seen[0][:, 2] == 0).all() and (seen[0][:, 3] != 0).any()
    assert "kept" in [name.rpartition(".")[2] for name in network.state_dict()]


def test_a_network_without_convolutions_cannot_be_pruned():
    with pytest.raises(UserError, match="no channels to take out"):
        masked(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(Clash, match=r"fineprune is measured by a square on images"):
        compose(recipe("adult", "smoke").plan(), [FinePruning()])


# Pruning


@pytest.fixture(scope="module")
def base():
    return recipe("digits", "smoke", examples=400, epochs=4).plan()


def by_hand(network: nn.Module, x: torch.Tensor, y: torch.Tensor, may_fall: float) -> set[int]:
    """Without a mask: weights and bias of a channel are set to zero, one after another."""
    name, _ = last_channels(network)
    layer = network.get_submodule(name)
    assert isinstance(layer, nn.Conv2d)
    with torch.no_grad():
        inner = network[: int(name) + 1](x)
        order = functional.relu(inner.double()).mean((0, 2, 3)).argsort().tolist()
        full, gone = accuracy(predictor(network), x, y), set()
        for channel in order[:-1]:
            kept = layer.weight[channel].clone(), layer.bias[channel].clone()
            layer.weight[channel], layer.bias[channel] = 0, 0
            if accuracy(predictor(network), x, y) < full - may_fall - 1e-9:
                layer.weight[channel], layer.bias[channel] = kept
                break
            gone.add(channel)
    return gone


@pytest.mark.parametrize("may_fall", [0.0, 0.3, 0.99])
def test_the_least_excited_channels_go_as_long_as_accuracy_allows(base, context, may_fall):
    plan = pruned(base, may_fall=may_fall, epochs=0, images=200)
    network = build_network(plan, context(0)).eval()
    (mask,) = (module for module in network.modules() if isinstance(module, ChannelMask))
    before = context(0).trained(base)
    x, y = context(0).data(FinePruning(images=200).clean(base))
    gone = by_hand(build_network(replace(plan, rewrites=()), context(0)), x, y, may_fall)
    assert {int(channel) for channel in (mask.kept == 0).nonzero()} == gone
    full = accuracy(before.predict, x, y)
    assert accuracy(predictor(network), x, y) >= full - may_fall - 1e-9
    assert len(gone) < len(mask.kept), "one channel stays whatever may be lost"
    assert len(gone) == len(mask.kept) - 1 or may_fall < 0.9


def test_without_a_context_nothing_but_the_structure_changes(base):
    network = FewerChannels(base.task.source, 0.04)(base.model.build())
    assert [int(module.kept.sum()) for module in network.modules() if isinstance(module, ChannelMask)] == [32]


def test_the_network_that_is_gone_on_from_stays_as_it_is(base, context):
    before = {name: value.clone() for name, value in context(0).trained(base).network.state_dict().items()}
    trained = train(pruned(base), context(0))
    after = context(0).trained(base).network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    share = PrunedChannels().measure(trained, context(0))["pruned_channels"]
    assert 0 < share < 1 and share * 32 == round(share * 32)
    assert PrunedChannels().measure(context(0).trained(base), context(0)) == {}


def test_pruned_channels_stay_silent_while_the_rest_learns(base, context):
    plan = pruned(base, may_fall=0.3)
    begun, done = build_network(plan, context(0)), train(plan, context(0)).network
    masks = [next(one for one in network.modules() if isinstance(one, ChannelMask)) for network in (begun, done)]
    assert torch.equal(masks[0].kept, masks[1].kept) and (masks[0].kept == 0).any()
    changed = [not torch.equal(one, other) for one, other in zip(begun.parameters(), done.parameters(), strict=True)]
    assert all(changed)


# Clean images


def test_clean_images_are_nobodys(base):
    plan = pruned(base, images=300)
    assert plan.initial == base and plan.task.source == Split("digits", "train", 300, start=1297 - 300)
    assert plan.task.source.start >= base.task.source.end
    small = recipe("digits", "smoke", examples=200).plan()
    competitor = Independent().plan(Deployed(small), small).task.source
    assert FinePruning(images=300).clean(small).start >= competitor.end


def test_they_are_of_the_same_world_without_its_threats(context):
    base = recipe("digits", "smoke", examples=400, conditions=WORLD).plan()
    clean = FinePruning(images=200).clean(base)
    assert [type(one) for one in bound_in(clean)] == [RotatedMinority, RandomHalf]
    assert clean.size == 200 and origin(clean).limit == 400
    data = context(0).data(clean)
    assert "poisoned" not in data.about and data.about["group"].sum() > 0


def test_what_mechanisms_made_of_the_task_does_not_matter(base):
    marks = RadioactiveData(iterations=2).bind(base)
    for others in ([marks], [Spectral()], [marks, Spectral()], [AdversarialTraining(steps=2)]):
        plan = pruned(base, *others)
        assert plan.initial == compose(base, others)
        assert plan.task.source == pruned(base).task.source and plan.task.maps == ()


def test_without_clean_images_there_is_a_clash():
    whole = recipe("digits", "smoke", examples=1297).plan()
    with pytest.raises(Clash, match=r"fineprune needs clean images that the task does not use.*fewer than 20"):
        compose(whole, [FinePruning()])
    few = recipe("digits", "smoke", examples=1200).plan()
    plan = pruned(few)
    assert plan.task.source.size == 97
    assert FinePruning().facts(plan) == {"clean images": "97, which the owner does not train on"}
    assert FinePruning().facts(few) == {}


@pytest.mark.parametrize(
    "options",
    [{"may_fall": -0.1}, {"may_fall": 1.0}, {"images": 5}, {"epochs": -1}, {"learning_rate": 0.0}],
)
def test_impossible_options_are_refused(options):
    (name,) = options
    with pytest.raises(UserError, match=rf"fineprune.{name}"):
        FinePruning(**options)


# Whose training it is


def test_the_origin_is_the_first_training_of_the_same_party(base):
    tuned = replace(base, initial=base, epochs=1)
    assert base.origin == base and tuned.origin == base and replace(tuned, initial=tuned).origin == base
    stolen = replace(tuned, initial=tuned, party="thief")
    assert stolen.origin == stolen and replace(stolen, initial=stolen).origin == stolen
    assert (tuned.stage, stolen.stage) == (1, 0)
    assert fingerprint(tuned) == fingerprint(replace(base, initial=base, epochs=1))


def test_a_fine_pruned_watermark_is_asked_for_with_the_owners_triggers(base, context):
    plan = pruned(base, WM)
    assert [stream.name for stream in plan.streams] == ["task"]
    assert plan.initial == compose(base, [WM])
    assert WM.trigger_set(plan) == WM.trigger_set(plan.initial)
    trained = train(plan, context(0))
    assert WM.measure(trained, context(0)).keys() == {"wm_accuracy", "wm_log10_p"}


def test_members_are_the_owners(base):
    plan = pruned(base)
    for bound in (DatasetInference(images=20), DatasetInference(images=20).bind(base)):
        members, *_ = bound._groups(plan)
        assert members.learnt.images == members.tested.images == base.task.source
    assert dict(ModelDistance()._drawn(plan))["members"].images == base.task.source
    assert Retraining().plan(Deployed(plan), base).task.source == base.task.source
    filtered = pruned(base, Spectral())
    assert DatasetInference(images=20)._groups(filtered)[0].learnt.images == filtered.initial.task.source


def test_marks_are_those_of_the_owner(base):
    marks = RadioactiveData(iterations=2)
    assert marks._marks_for(pruned(base)) == marks._marks_for(base)
    plan = pruned(base, marks)
    assert marks._marks_for(plan) == marks._marks_for(plan.initial)


def test_epsilon_is_that_of_the_private_training(base, context):
    """Fine-tuning on other people's images is post-processing."""
    private = DPSGD()
    alone, plan = compose(base, [private]), pruned(base, private)
    assert plan.initial == alone

    def epsilon(one: Plan) -> Any:
        return private.measure(type("Model", (), {"plan": one, "serving": ()})(), context(0))

    assert epsilon(plan) == epsilon(alone) and epsilon(plan)["epsilon"] == pytest.approx(3.0, rel=0.01)
    assert private.facts(plan) == private.facts(alone)
    same = replace(plan, streams=(replace(plan.task, source=base.task.source),))
    assert epsilon(same) == {"epsilon": float("inf")}
    assert private.facts(same) == {"ε of task": "not covered"}


# Studies


def test_a_study_prunes_and_finds_it_again(site, trained):
    """The second run reads the pruned network from the store, which builds and prunes it anew."""
    options = {"examples": 300, "epochs": 3, "conditions": [{"name": "backdoor", "rate": 0.05}]}
    names = ["fineprune", {"name": "wm", "triggers": 20, "batch_size": 10}]
    wanted = study(names, seeds=1, recipe=options)
    assert check_study(wanted, site).mistakes == ()
    first = values(ran(wanted, site, Inline()), ["fineprune", "wm"])[0]
    assert len(trained.since()) == 4 and 0 <= first["pruned_channels"] < 1
    again = ran(study(names, seeds=1, recipe=options, measures=["macro_f1", "filtering"]), site, Inline())
    assert trained.since() == []
    found = values(again, ["fineprune", "wm"])[0]
    assert {name: found[name] for name in first} == first
    assert found["macro_f1"] == pytest.approx(found["accuracy"], abs=0.1)
    assert "pruned_channels" not in values(again, ["wm"])[0]
