"""Suspects that tell another number of classes apart meet everything that the registry finds, and nothing crashes."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.measure import Utility
from guardclash.measures.robustness import Robustness
from guardclash.mechanism import OTHER_CLASSES, Mechanism
from guardclash.mechanisms.di import DatasetInference
from guardclash.mechanisms.raddata import NO_READOUT, RadioactiveData
from guardclash.registry import MEASURES, find_mechanisms, known
from guardclash.suspects.unrelated import Unrelated
from guardclash.training.train import train
from guardclash.training.trained import Trained, predictor

OWNERS = [cls for _, cls in sorted(find_mechanisms().items()) if cls.verify is not Mechanism.verify]
UTILITIES = [cls for _, cls in sorted(known(MEASURES).items()) if issubclass(cls, Utility)]


@pytest.fixture(scope="module")
def suspected(context, base):
    """Another network that tells so many classes of the same images apart, unprotected."""

    @cache
    def of(classes: int) -> Trained:
        plan = replace(base, model=replace(base.model, classes=classes), party="independent")
        torch.manual_seed(classes)
        network = plan.model.build().eval()
        return Trained(plan, 0, network, predictor(network))

    return of


@pytest.fixture(scope="module")
def owned(context, toy):
    @cache
    def of(cls: type[Mechanism]) -> Trained:
        return train(compose(toy, [cls()]), context(0))

    return of


@pytest.mark.parametrize("classes", [2, *(pytest.param(many, marks=pytest.mark.slow) for many in (9, 43))])
@pytest.mark.parametrize("cls", OWNERS, ids=[cls.name for cls in OWNERS])
def test_what_proves_ownership_tests_such_a_suspect_or_says_that_it_does_not(cls, classes, owned, suspected, context):
    victim, own = owned(cls), cls()
    found = own.verify(suspected(classes), victim, context(0))
    assert found.keys() <= {metric.name for metric in cls.metrics}
    assert all(math.isfinite(value) for value in found.values())
    said = own.warnings(found)
    assert all(isinstance(line, str) and line for line in said)
    if not found and cls.measure is not Mechanism.measure:
        assert said == (OTHER_CLASSES,)


@pytest.mark.parametrize(("classes", "tested"), [(2, False), pytest.param(43, True, marks=pytest.mark.slow)])
def test_descents_to_classes_that_a_suspect_lacks_are_not_made(classes, tested, owned, suspected, context):
    own = DatasetInference(embedding="mingd", images=10, steps=3)
    found = own.verify(suspected(classes), owned(DatasetInference), context(0))
    assert bool(found) is tested
    assert (OTHER_CLASSES in own.warnings(found)) is not tested


def test_marks_are_looked_for_in_weights_only_where_classes_are_read_off_the_last_layer(owned, context):
    victim = owned(RadioactiveData)
    wrapped = nn.Sequential(victim.network, nn.Linear(10, 20), nn.Unflatten(1, (10, 2)), nn.Flatten(2)).eval()
    odd = nn.Sequential(wrapped, _Mean()).eval()
    found = RadioactiveData().verify(replace(victim, network=odd, predict=predictor(odd)), victim, context(0))
    assert {"rad_loss_difference", "rad_log10_p"} <= found.keys()
    assert "rad_white_log10_p" not in found
    assert RadioactiveData().warnings(found) == (NO_READOUT,)


class _Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(2)


@pytest.mark.parametrize("classes", [2, 9, 10, 43])
@pytest.mark.parametrize("cls", UTILITIES, ids=[cls.name for cls in UTILITIES])
def test_how_good_such_a_suspect_is_at_the_task_is_a_share(cls, classes, base, suspected, context):
    found = cls().bind(base).measure(suspected(classes), context(0))
    assert found.keys() == {metric.name for metric in cls.metrics}
    assert all(0 <= value <= 1 for value in found.values())


def test_classes_that_nobody_told_of_cost_f1_and_have_no_area(base, suspected, context):
    few = suspected(2)
    ten = nn.Sequential(few.network, nn.ConstantPad1d((0, 8), -1e4))
    same = replace(few, network=ten, predict=predictor(ten))
    for cls in UTILITIES:
        measure = cls().bind(base)
        assert measure.measure(few, context(0)) == pytest.approx(measure.measure(same, context(0)))


# --- the ensemble of attacks ------------------------------------------------------------------------------------------


def test_the_ensemble_needs_three_classes(base, monkeypatch):
    monkeypatch.setattr("guardclash.measures.robustness.ensemble_version", lambda: "1")
    two = Unrelated().plan(base, base)
    assert two.model.classes == 2
    with pytest.raises(UserError, match="three greatest logits"):
        Robustness(ensemble=True).attack(two)
    assert Robustness(ensemble=True).attack(base)
    assert Robustness().attack(two)
