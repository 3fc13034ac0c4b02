"""Suspects: stolen and innocent models as plans, their trainings, and the tests of ownership on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.mechanisms.advtr import AdversarialTraining
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.wm import Watermark
from guardclash.plan.deployed import Deployed
from guardclash.plan.examples import Data, Moment
from guardclash.plan.identity import fingerprint
from guardclash.plan.marked import Marked
from guardclash.plan.objectives import Distilled
from guardclash.plan.sources import Answers, Drawn, Split
from guardclash.records.cells import Named
from guardclash.records.plain import results_from
from guardclash.records.results import Results
from guardclash.registry import SUSPECTS, find_mechanism, known
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.studies.jobs import Site
from guardclash.studies.store import Store
from guardclash.studies.study import Study
from guardclash.studies.study_file import study_from
from guardclash.studies.trials import Trial, needed_trials
from guardclash.suspect import disjoint
from guardclash.suspects.extraction import Extraction
from guardclash.suspects.fine_tuning import FineTuning
from guardclash.suspects.independent import Independent
from guardclash.suspects.retraining import Retraining
from guardclash.suspects.unrelated import Unrelated
from guardclash.tasks.recipe import recipe
from guardclash.training.train import build_network, train
from guardclash.training.trained import accuracy
from running import ran

WM = {"name": "wm", "triggers": 20, "batch_size": 10, "passes": 4, "cadence": "mixed"}


def study(*suspects: dict[str, Any], mechanisms: list[Any] | None = None, **keys: Any) -> Study:
    return study_from(
        {
            "recipes": [{"dataset": "digits", "scale": "smoke"}],
            "combinations": [{"mechanisms": mechanisms or [WM]}],
            "replicates": {"alone": 1, "together": 1},
            "suspects": list(suspects),
            **keys,
        }
    )


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", known(SUSPECTS))
def test_every_suspect_is_a_training_of_its_own(kind, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    safetensors.torch.save_file(base.model.build().state_dict(), "suspect.safetensors")  # of the one from outside
    victim = compose(base, [Watermark()])
    plan = known(SUSPECTS)[kind]().plan(Deployed(victim), base)
    assert plan.party and not victim.party
    assert fingerprint(plan) not in (fingerprint(victim), fingerprint(base))
    assert [stream.name for stream in plan.streams] == ["task"], "nobody steals the owner's triggers"


@pytest.mark.parametrize(
    ("suspect", "stolen"),
    [(Extraction(), True), (FineTuning(), True), (Retraining(), True), (Independent(), False), (Unrelated(), False)],
)
def test_who_is_innocent(suspect, stolen):
    assert suspect.stolen is stolen


def test_who_depends_on_the_victim_waits_for_it(base):
    victim = compose(base, [Watermark()])
    for suspect in (Extraction(), FineTuning()):
        needed = [trial.key for trial in needed_trials(Trial(suspect.plan(Deployed(victim), base), 3))]
        assert needed == [Trial(victim, 3).key]
    for suspect in (Retraining(), Independent(), Unrelated()):
        assert needed_trials(Trial(suspect.plan(Deployed(victim), base), 3)) == ()


def test_an_independent_party_has_none_of_the_owners_images(base, context):
    owner, other = (context(0).data(plan.task.source).x for plan in (base, Independent().plan(Deployed(base), base)))
    assert len(owner) == len(other)
    assert len(torch.cat([owner, other]).flatten(1).unique(dim=0)) > 1.9 * len(owner), "digits has few duplicates"
    assert Independent("test").plan(Deployed(base), base).task.source == Split("digits", "test")


def test_queries_are_the_partys_own_the_owners_or_of_another_data_set(base):
    sources = [
        Extraction(queries).plan(Deployed(base), base).task.source
        for queries in ("task", "out-of-distribution", "members")
    ]
    assert [source.images for source in sources] == [
        disjoint(base.task.source),
        Split("photo-patches", "train", 256),
        base.task.source,
    ]
    assert all(source.model == Deployed(base) for source in sources)


def test_stolen_data_brings_its_marks_along(base):
    victim = compose(base, [find_mechanism("raddata")()])
    assert isinstance(Retraining().plan(Deployed(victim), base).task.source, Marked)
    assert Retraining(more=True).plan(Deployed(victim), base).task.source == Split("digits", "train", 512)


def test_a_model_for_another_data_set_is_made_for_its_classes(base):
    plan = Unrelated().plan(Deployed(base), base)
    assert (plan.task.source.dataset, plan.model.classes) == ("photo-patches", 2)
    mnist = recipe("mnist", "smoke")
    assert Unrelated().plan(Deployed(mnist.plan()), mnist.plan()).model == recipe("fmnist", "smoke").plan().model


def test_a_party_needs_images_that_are_left():
    whole = recipe("digits", "reduced").plan()
    for suspect in (Extraction(), FineTuning(), Retraining(more=True), Independent()):
        with pytest.raises(UserError, match="too few train images of digits are left"):
            suspect.plan(Deployed(whole), whole)
    assert disjoint(Split("digits", "train", 800)) == Split("digits", "train", 497, start=800)
    with pytest.raises(UserError, match="no neighbour"):
        Unrelated().plan(whole, replace(whole, purpose=replace(whole.purpose, neighbour_train=None)))


# --- trainings --------------------------------------------------------------------------------------------------------


def test_parties_draw_weights_of_their_own(base, context):
    def weights(plan):
        return build_network(plan, context(0)).state_dict()["1.weight"]

    assert torch.equal(weights(base), weights(replace(base, epochs=9)))
    assert not torch.equal(weights(base), weights(replace(base, party="thief")))
    assert not torch.equal(weights(replace(base, party="independent")), weights(replace(base, party="thief")))


def test_fine_tuning_goes_on_from_the_victims_weights(base, context):
    plan = FineTuning().plan(Deployed(base), base)
    assert plan.epochs == 1 and plan.optimizer.learning_rate == pytest.approx(base.optimizer.learning_rate / 10)
    victim = context(0).trained(base).network.state_dict()
    start = build_network(plan, context(0)).state_dict()
    assert all(torch.equal(start[name], value) for name, value in victim.items())
    tuned = train(plan, context(0)).network.state_dict()
    assert any(not torch.equal(tuned[name], value) for name, value in victim.items())
    after = context(0).trained(base).network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in victim.items()), "the victim itself is left alone"


def test_fine_tuning_keeps_the_victims_network_and_adds_the_thiefs(base, context):
    victim = compose(base, [DPSGD()])
    plan = compose(FineTuning().plan(Deployed(victim), base), [])
    names = [type(module).__name__ for module in build_network(plan, context(0)).modules()]
    assert "GroupNorm" in names and "BatchNorm2d" not in names
    thief = compose(FineTuning().plan(Deployed(base), base), [DPSGD()])
    names = [type(module).__name__ for module in build_network(thief, context(0)).modules()]
    assert "GroupNorm" in names and "BatchNorm2d" not in names
    with pytest.raises(UserError, match="goes on with the network"):
        replace(plan, model=replace(plan.model, hidden=7))


@pytest.mark.parametrize("answers", ["labels", "probabilities"])
@pytest.mark.parametrize("own", [(), (DPSGD(),), (AdversarialTraining(steps=1),)], ids=["bare", "dpsgd", "advtr"])
def test_a_surrogate_is_trained_on_either_answer_under_the_thiefs_own_mechanisms(answers, own, base, context):
    plan = compose(Extraction(answers=answers).plan(Deployed(base), base), own)
    _, y = context(0).data(plan.task.source)
    assert (y.shape, y.dtype) == (((256,), torch.int64) if answers == "labels" else ((256, 10), torch.float32))
    train(plan, context(0))


def test_answers_are_the_models_own(base, context):
    images = Split("digits", "test", 50)
    x, labels = context(0).data(Answers(images, Deployed(base)))
    _, probabilities = context(0).data(Answers(images, Deployed(base), "probabilities"))
    torch.testing.assert_close(probabilities, context(0).trained(base).predict(x).softmax(1))
    assert torch.equal(probabilities.argmax(1), labels)
    assert Answers(images, Deployed(base)).size == 50


def test_a_surrogate_answers_like_its_victim(base, context):
    longer = replace(base, epochs=8)
    victim = train(longer, context(0))
    thief = train(Extraction(answers="probabilities").plan(Deployed(longer), longer), context(0))
    x, _ = context(0).data(Split("digits", "test"))
    assert accuracy(thief.predict, x, victim.predict(x).argmax(1)) > 0.7


# --- sources ----------------------------------------------------------------------------------------------------------


def test_a_split_may_start_later(context):
    x, y = context(0).data(Split("digits", "train"))
    rest = context(0).data(Split("digits", "train", start=1000))
    assert torch.equal(rest.x, x[1000:]) and torch.equal(rest.y, y[1000:])
    assert Split("digits", "train", start=1000).size == 297 == len(rest.y)
    assert fingerprint(Split("digits", "train", 5)) == fingerprint(Split("digits", "train", 5, 0))


@pytest.mark.parametrize(("limit", "start"), [(None, 1297), (None, -1), (298, 1000), (0, 1000)])
def test_a_split_ends_where_the_data_end(limit, start):
    with pytest.raises(UserError, match=r"digits\.train\.(limit|start)"):
        Split("digits", "train", limit, start)


def test_draws_are_disjoint_and_new_for_every_seed(context):
    images = Split("digits", "train", 100)
    parts = [context(0).data(Drawn(images, 25, "a", start)).x for start in (0, 25, 50, 75)]
    whole = context(0).data(images).x
    assert torch.equal(torch.cat(parts).flatten(1).sort(0).values, whole.flatten(1).sort(0).values)
    assert not torch.equal(parts[0], context(1).data(Drawn(images, 25, "a")).x)
    assert not torch.equal(parts[0], context(0).data(Drawn(images, 25, "b")).x)
    for size, start in ((0, 0), (101, 0), (50, 51), (5, -1)):
        with pytest.raises(UserError, match="so many examples cannot be drawn"):
            Drawn(images, size, "a", start)


# --- studies ----------------------------------------------------------------------------------------------------------


def test_suspects_leave_the_other_cells_alone():
    bare, suspecting = study(), study({"kind": "extraction"})
    assert bare.cells() == suspecting.cells()
    assert bare.suspect_cells() == ()
    (cell,) = suspecting.suspect_cells()
    assert cell.key not in {other.key for other in suspecting.cells()}


def test_sweeps_make_suspects():
    found = study(
        {"kind": "extraction", "sweep": {"answers": ["labels", "probabilities"], "queries": ["task", "members"]}},
        {"kind": "extraction", "mechanisms": [{"name": "dpsgd", "sweep": {"epsilon": [1, 3]}}]},
        {"kind": "independent"},
    )
    assert [found.suspect_label(suspect) for suspect in found.suspects] == [
        "extraction(answers=labels, queries=task)",
        "extraction(answers=labels, queries=members)",
        "extraction(answers=probabilities, queries=task)",
        "extraction(answers=probabilities, queries=members)",
        "extraction with dpsgd(epsilon=1)",
        "extraction with dpsgd(epsilon=3)",
        "independent",
    ]


@pytest.mark.parametrize(
    ("suspect", "said"),
    [
        ({"kind": "extrication"}, "Did you mean 'extraction'"),
        ({"kind": "extraction", "querys": "task"}, "Did you mean 'queries'"),
        ({"kind": "extraction", "queries": "mine"}, "extraction.queries"),
        ({"kind": "extraction", "answers": "logits"}, "extraction.answers"),
        ({"kind": "fine-tuning", "epochs": 0}, "fine-tuning.epochs"),
        ({"kind": "fine-tuning", "learning_rate": 2.0}, "fine-tuning.learning_rate"),
        ({"kind": "fine-tuning", "images": "test"}, "fine-tuning.images"),
        ({"kind": "independent", "images": "all"}, "independent.images"),
        ({"kind": "retraining", "more": 3}, "retraining.more"),
        ({"kind": "extraction", "mechanisms": ["dqsgd"]}, "dpsgd"),
        ({"queries": "task"}, "kind"),
    ],
)
def test_impossible_suspects_are_refused(suspect, said):
    with pytest.raises(UserError, match=said):
        compose_study(study(suspect))


def test_only_owners_suspect_anybody():
    with pytest.raises(UserError, match="proves ownership"):
        compose_study(study({"kind": "extraction"}, mechanisms=["dpsgd"]))


def test_a_thief_may_clash_with_itself():
    plugin = Path(__file__).parent / "plugins" / "gradient_sign.py"
    clash = study({"kind": "extraction", "mechanisms": ["dpsgd", "gradient-sign"]}, plugins=[str(plugin)])
    composed = compose_study(clash)
    assert [bool(entry.clash) for entry in composed] == [False, False, True]


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Results]:
    """A watermarked model, a model fine-tuned from it, and two innocent ones."""
    folder: Path = tmp_path_factory.mktemp("suspects")
    asked = study(
        {"kind": "fine-tuning"},
        {"kind": "independent"},
        {"kind": "unrelated"},
        recipes=[{"dataset": "digits", "scale": "smoke", "epochs": 8, "norm": "group"}],
    )
    return asked, results_from(ran(asked, Site(Store(folder / "runs"), folder), Inline()))


def test_an_owner_finds_the_watermark_in_the_stolen_model_only(verified):
    asked, results = verified
    wm = asked.mechanisms()[0]
    (own,) = [cell for cell in asked.cells() if cell.combination]
    shares = [results.values(cell, wm, "wm_accuracy", range(1))[0] for cell in (own, *asked.suspect_cells())]
    assert shares[0] > 0.8 and shares[1] > 0.5, "the owner's and the fine-tuned model"
    assert max(shares[2:]) < 0.4, "the innocent models"
    assert [results.cell(cell).stolen for cell in asked.suspect_cells()] == [True, False, False]


def test_a_suspects_accuracy_is_that_of_the_owners_task(verified):
    asked, results = verified
    tuned, independent, unrelated = (
        results.values(cell, None, "accuracy", range(1))[0] for cell in asked.suspect_cells()
    )
    assert min(tuned, independent) > 0.6 and unrelated < 0.4


def test_suspects_may_have_fewer_replicates():
    asked = study({"kind": "independent"}, replicates={"alone": 4, "together": 4, "suspects": 2})
    assert [cell.replicates for cell in asked.suspect_cells()] == [2]
    assert isinstance(asked.suspect_cells()[0].suspect.kind, Named)


# --- a thief meets what stands between it and the network -------------------------------------------------------------

SERVING = """
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from guardclash.mechanism import Mechanism
from guardclash.plan.plan import OtherSeed


@dataclass(frozen=True)
class Turned(Mechanism):
    name: ClassVar[str] = "turned"
    concern: ClassVar[str] = "model extraction"
    helper: Any = None

    def bind(self, unprotected):
        return replace(self, helper=unprotected)

    def needs(self, plan):
        return (OtherSeed(self.helper),)

    def serve(self, predict, trained, context):
        context.trained(OtherSeed(self.helper))
        return lambda x: predict(x).roll(1, 1)
"""
"""A mechanism that answers the next class instead of the likeliest, and reads another training to do so."""


def test_a_thief_learns_what_the_deployed_model_answers(tmp_path):
    plugin = tmp_path / "turned.py"
    plugin.write_text(SERVING)
    pair = [{"mechanisms": [WM]}, {"mechanisms": [WM, "turned"]}]
    asked = study({"kind": "extraction"}, plugins=[str(plugin)], combinations=pair)
    site = Site(Store(tmp_path / "store"), tmp_path)
    ran(asked, site, Inline())
    entries = [entry for entry in compose_study(asked) if entry.cell.suspect]
    bare, turned = (entry.plan.task.source for entry in entries)
    assert bare.model.serving == () and [one.name for one in turned.model.serving] == ["turned"]
    assert len({fingerprint(entry.plan) for entry in entries}) == 2
    one, other = (site.context(0).data(source).y for source in (bare, turned))
    assert torch.equal((one + 1) % 10, other), "the same network, asked through the mechanism"
    needed = [trial.seed for trial in needed_trials(Trial(entries[1].plan, 0))]
    assert sorted(needed) == [0, 1], "the victim, and what answers with it"


def test_a_budget_is_so_many_of_the_queries(base, context):
    plan = Extraction(budget=40).plan(Deployed(base), base)
    whole = Extraction().plan(Deployed(base), base)
    assert plan.task.source.size == 40 < whole.task.source.size
    asked, images = (context(0).data(one.task.source.images).x.flatten(1) for one in (plan, whole))
    assert {one.numpy().tobytes() for one in asked} <= {one.numpy().tobytes() for one in images}
    assert not torch.equal(asked, context(1).data(plan.task.source.images).x.flatten(1)), "others for another seed"
    assert Extraction(budget=10**6).plan(Deployed(base), base) == whole


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_distillation_is_that_of_both_models_logits(temperature):
    rng = torch.Generator().manual_seed(0)
    teacher, weight = torch.randn(6, 4, generator=rng), torch.randn(5, 4, generator=rng)
    x = torch.randn(6, 5, generator=rng)
    found = Distilled(temperature)(lambda x: x @ weight, Data(x, teacher.softmax(1)), Moment())
    soft = (teacher / temperature).softmax(1)
    wanted = -(temperature**2) * (soft * (x @ weight / temperature).log_softmax(1)).sum(1)
    assert torch.allclose(found, wanted, atol=1e-5)
    certain = torch.eye(4)[:2]
    assert Distilled(temperature)(lambda x: x @ weight, Data(x[:2], certain), Moment()).isfinite().all()


def test_distillation_takes_the_place_of_cross_entropy(base):
    plan = Extraction(answers="probabilities", temperature=3.0).plan(Deployed(base), base)
    assert plan.task.objectives == (Distilled(3.0),)
    other = replace(base, streams=(replace(base.task, objectives=(Distilled(2.0),)),))
    with pytest.raises(UserError, match="takes the place of cross entropy"):
        Extraction(answers="probabilities", temperature=3.0).plan(Deployed(other), other)
    with pytest.raises(UserError, match="labels have no temperature"):
        Extraction(temperature=3.0)


@pytest.mark.parametrize(("layers", "forget"), [("last", False), ("last", True), ("all", True)])
def test_a_thief_may_train_the_last_layer_alone_or_forget_it(layers, forget, base, context):
    victim = context(0).trained(base).network.state_dict()
    plan = FineTuning(layers=layers, forget=forget, epochs=1).plan(Deployed(base), base)
    begun = build_network(plan, context(0)).state_dict()
    changed = {name for name in victim if not torch.equal(victim[name], begun[name])}
    *_, weight, bias = (name for name, _ in context(0).trained(base).network.named_parameters())
    assert changed == ({weight, bias} if forget else set())
    ended = train(plan, context(0)).network
    moved = {name for name, value in ended.named_parameters() if not torch.equal(value, begun[name])}
    assert moved == ({weight, bias} if layers == "last" else {name for name, _ in ended.named_parameters()})


def test_a_thief_without_labels_takes_the_victims(base, context):
    plan = FineTuning(labels="victim", epochs=1).plan(Deployed(base), base)
    told = context(0).trained(base).predict(context(0).data(plan.task.source.images).x).argmax(1)
    assert torch.equal(context(0).data(plan.task.source).y, told)
    assert FineTuning(labels="true").plan(Deployed(base), base) == FineTuning().plan(Deployed(base), base)
    with pytest.raises(UserError, match=r"fine-tuning\.layers"):
        FineTuning(layers="first")
