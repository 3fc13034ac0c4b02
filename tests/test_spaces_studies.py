"""Studies of rows, of texts and of several labels, from the study file to the report."""

from __future__ import annotations

from typing import Any

import pytest

from guardclash.errors import UserError
from guardclash.plan.deployed import Deployed
from guardclash.records.plain import results_from
from guardclash.reporting.findings import find
from guardclash.reporting.forms import FORMS
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.suspects.extraction import Extraction
from guardclash.suspects.fine_tuning import FineTuning
from guardclash.suspects.unrelated import Unrelated
from guardclash.tasks.recipe import recipe
from guardclash.training.train import train
from inputs import every_space, name_of  # noqa: F401
from running import ran, report, study, values

WM = {"name": "wm", "triggers": 20, "batch_size": 10, "passes": 4, "cadence": "mixed"}
DI = {"name": "di", "images": 20, "walks": 3, "steps": 20}
QUICK = {"steps": 3, "test_examples": 60}


def on(kind: str, **keys: Any) -> dict[str, Any]:
    return {"dataset": name_of(kind), "scale": "smoke", "examples": 96, "batch_size": 32, **keys}


def failures(content: dict[str, Any]) -> list[Any]:
    return [trial["error"] for cell in content["cells"] for trial in cell["trials"] if trial.get("error")]


@pytest.mark.slow
def test_rows_are_marked_attacked_stolen_and_claimed(site):
    wanted = study(
        [WM, DI, {"name": "distance", "images": 20}],
        [WM, {"name": "advtr", **QUICK}],
        seeds=1,
        recipe=on("row", epochs=12),
        suspects=[
            {"kind": "extraction"},
            {"kind": "extraction", "queries": "out-of-distribution"},
            {"kind": "independent"},
            {"kind": "unrelated"},
            {"kind": "overwriting"},
        ],
    )
    content = ran(wanted, site, Inline())
    assert not failures(content)
    owned = {**content, "cells": [cell for cell in content["cells"] if not cell.get("suspect")]}
    bare, marked, robust = (values(owned, names)[0] for names in ([], ["wm"], ["wm", "advtr"]))
    assert bare["accuracy"] > 0.6
    assert marked["wm_accuracy"] > 0.8 > bare["wm_accuracy"], "rows outside the ranges are learnt as triggers"
    assert {"adv_accuracy", "wm_accuracy"} <= robust.keys() and robust["adv_accuracy"] <= robust["accuracy"]
    assert {"di_unrelated", "di_framed"} <= values(owned, ["di"])[0].keys()
    suspects = [cell for cell in content["cells"] if cell.get("suspect")]
    assert len(suspects) == 10 and all(cell["trials"] for cell in suspects)
    assert "made-up rows outside the ranges of the test rows" in report(wanted, content)


def test_triggers_that_are_made_up_cost_no_privacy_of_the_task(site):
    """Were they outside the ranges of training rows, they would tell of these."""
    relaxed = {"name": "dpsgd", "on": ["task"]}
    wanted = study([WM, "dpsgd"], [WM, relaxed], seeds=1, recipe=on("row", epochs=2))
    content = ran(wanted, site, Inline())
    assert not failures(content)
    spent = [
        entry["values"]["epsilon"]
        for cell in content["cells"]
        for trial in cell["trials"]
        for entry in trial["measurements"]
        if "epsilon" in entry["values"]
    ]
    assert spent and all(value == pytest.approx(3.0, rel=0.02) for value in spent)


def test_texts_are_marked_and_their_vectors_attacked(site):
    wanted = study(
        [WM, {"name": "advtr", "embeddings": True, **QUICK}],
        [WM, "advtr"],
        ["dpsgd", {"name": "advtr", "embeddings": True, **QUICK}],
        seeds=1,
        recipe=on("text", epochs=10),
        measures=[{"name": "robustness", "embeddings": True, **QUICK}],
    )
    content = ran(wanted, site, Inline())
    assert not failures(content)
    clashes = [cell["clash"] for cell in content["cells"] if cell["clash"]]
    assert len(clashes) == 2 and all("embeddings = true" in clash for clash in clashes)
    assert values(content, ["wm"])[0]["wm_accuracy"] > 0.8
    bare = values(content, [])[0]
    assert 0 <= bare["adv_accuracy"] <= bare["accuracy"]


def test_several_labels_are_trained_privately_and_robustly(site):
    utilities = ["balanced_accuracy", "macro_f1", "auroc"]
    wanted = study(
        ["dpsgd", {"name": "advtr", **QUICK}],
        ["dpsgd", "wm"],
        seeds=1,
        recipe=on("several", epochs=3),
        measures=[*utilities, {"name": "robustness", **QUICK}],
    )
    content = ran(wanted, site, Inline())
    assert not failures(content)
    both = values(content, ["dpsgd", "advtr"])[0]
    assert {"accuracy", "adv_accuracy", "epsilon", *utilities} <= both.keys()
    (clash,) = {cell["clash"] for cell in content["cells"] if cell["clash"]}
    assert clash == "wm needs one class for each example, and those of this task may have several labels"
    assert clash in FORMS["md"](find(wanted, results_from(content), "strict")).decode()


@pytest.mark.parametrize("suspect", [Extraction(), Extraction("members", "probabilities"), FineTuning()])
def test_a_model_of_several_labels_is_stolen_label_by_label(suspect, context):
    plan = recipe(**on("several", epochs=1)).plan()
    stolen = suspect.plan(Deployed(plan), plan)
    data = context(0).data(stolen.task.source)
    assert data.y.shape == (len(data.x), 4) and data.y.is_floating_point()
    train(stolen, context(0))


def test_what_is_not_for_several_labels_is_refused(site):
    plan = recipe(**on("several", epochs=1)).plan()
    with pytest.raises(UserError, match="one class each"):
        Unrelated().plan(Deployed(plan), plan)
    with pytest.raises(UserError, match="a condition for examples of one class"):
        compose_study(study(["dpsgd"], recipe=on("several-images", conditions=["backdoor"])))
    with pytest.raises(UserError, match=r"backdoor_success cannot be measured .* several labels"):
        compose_study(study(["dpsgd"], recipe=on("several-images"), measures=["backdoor_success"]))


def test_images_are_augmented_and_nothing_else():
    with pytest.raises(UserError, match="an augmentation of images"):
        recipe(**on("row", augmentation="flip-shift")).plan()
