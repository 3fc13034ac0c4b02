"""Axes of a study: scales, readings, and files that extend others."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest

from guardclash.errors import UserError
from guardclash.records.cells import Named
from guardclash.studies.build import build_recipe
from guardclash.studies.composing import compose_study
from guardclash.studies.study_file import read_study, study_from
from guardclash.tasks.catalog import find_task, tasks
from guardclash.tasks.recipe import Recipe, recipe

READINGS = {
    "published": {"wm": {"labels": "native", "triggers": 30}, "recipe": {"batch_size": 32}},
    "sound": {"wm": {"labels": "random"}},
}


def table(**keys: Any) -> dict[str, Any]:
    return {
        "recipes": [{"dataset": "digits", "scale": "smoke"}],
        "combinations": [{"mechanisms": ["wm", "dpsgd"]}],
        "replicates": {"alone": 1, "together": 1},
        **keys,
    }


def test_every_recipe_comes_in_every_reading():
    study = study_from(table(readings=READINGS))
    assert [study.recipe_label(recipe) for recipe in study.recipes] == [
        "digits/smoke (batch_size=32, reading=published)",
        "digits/smoke (reading=sound)",
    ]
    assert study.combinations == ((Named("wm"), Named("dpsgd")),), "mechanisms are named alike in all readings"


def test_a_reading_lies_under_what_a_study_says():
    study = study_from(
        table(readings=READINGS, combinations=[{"mechanisms": [{"name": "wm", "triggers": 25}, "dpsgd"]}])
    )
    (published, sound), (wm, _) = study.recipes, study.combinations[0]
    assert dict(study.read(wm, published).options) == {"labels": "native", "triggers": 25}
    assert dict(study.read(wm, sound).options) == {"labels": "random", "triggers": 25}
    assert study.read(Named("dpsgd"), published) == Named("dpsgd")


def test_a_reading_may_say_more_for_a_data_set():
    readings = {"small": {"wm": {"triggers": 30, "digits": {"labels": "native"}}, "recipe": {"digits": {"epochs": 2}}}}
    digits, mnist = study_from(table(readings=readings, recipes=[{"dataset": "digits"}, {"dataset": "mnist"}])).recipes
    study = study_from(table(readings=readings))
    assert dict(study.read(Named("wm"), digits).options) == {"labels": "native", "triggers": 30}
    assert dict(study.read(Named("wm"), mnist).options) == {"triggers": 30}
    assert (dict(digits.options).get("epochs"), dict(mnist.options).get("epochs")) == (2, None)


def test_plans_follow_the_reading():
    composed = compose_study(
        study_from(table(readings={"small": {"wm": {"triggers": 30}}, "large": {"wm": {"triggers": 40}}}))
    )
    triggers = [
        stream.source.size
        for entry in composed
        if len(entry.combination) == 2 and entry.plan
        for stream in entry.plan.streams
        if stream.name == "trigger"
    ]
    assert triggers == [30, 40]


def test_a_recipe_may_choose_its_reading():
    study = study_from(table(readings=READINGS, recipes=[{"dataset": "digits", "scale": "smoke", "reading": "sound"}]))
    assert len(study.recipes) == 1
    assert dict(study.recipes[0].options)["reading"] == "sound"


def test_without_readings_nothing_changes():
    plain, read = study_from(table()), study_from(table(readings={}))
    assert plain == read
    assert plain.recipes == (Named("digits", (("scale", "smoke"),)),)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"recipes": [{"dataset": "digits", "reading": "sounds"}], "readings": READINGS}, "Did you mean 'sound'"),
        ({"recipes": [{"dataset": "digits", "reading": "sound"}]}, "unknown reading"),
        ({"readings": {"a": {"wn": {"triggers": 3}}}}, "Did you mean 'wm'"),
        ({"readings": {"a": {"wm": {"trigger": 3}}}}, "Did you mean 'triggers'"),
        ({"readings": {"a": {"wm": {"digit": {"triggers": 3}}}}}, "Did you mean 'digits'"),
        ({"readings": {"a": {"recipe": {"epoch": 3}}}}, "Did you mean 'epochs'"),
        ({"readings": {"a": 3}}, "readings"),
        ({"scales": {"huge": {}}}, "scales"),
        ({"scales": {"smoke": {"digits": {"epoch": 3}}}}, "Did you mean 'epochs'"),
    ],
)
def test_mistakes_in_axes_are_told(keys, said):
    with pytest.raises(UserError, match=said):
        compose_study(study_from(table(**keys)))


def test_a_scale_is_chosen_for_all_recipes_and_brings_its_options():
    content = table(
        recipes=[{"dataset": "digits"}, {"dataset": "mnist", "scale": "paper", "epochs": 7}],
        scales={"smoke": {"digits": {"epochs": 3}, "mnist": {"epochs": 4, "batch_size": 9}}},
    )
    study = study_from(content, name="a", scale="smoke")
    assert study.name == "a-smoke"
    digits, mnist = (dict(recipe.options) for recipe in study.recipes)
    assert digits == {"scale": "smoke", "epochs": 3}
    assert mnist == {"scale": "smoke", "epochs": 7, "batch_size": 9}, "a recipe's own word counts"
    assert study_from(content, name="a").name == "a"
    with pytest.raises(UserError, match="unknown scale"):
        study_from(content, scale="large")


def test_a_file_extends_another(tmp_path: Path):
    (tmp_path / "common.toml").write_text(
        'rule = "paper"\nreplicates = { alone = 2, together = 3 }\n[[recipes]]\ndataset = "digits"\n'
        '[readings.sound.wm]\nlabels = "random"\n'
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "one.toml").write_text(
        'extends = "../common.toml"\nreplicates = { together = 4 }\n[[combinations]]\nmechanisms = ["wm", "dpsgd"]\n'
        "[readings.sound.wm]\ntriggers = 30\n"
    )
    study = read_study(tmp_path / "sub" / "one.toml")
    assert (study.name, study.rule, study.alone, study.together) == ("one", "paper", 2, 4)
    assert dict(study.read(Named("wm"), study.recipes[0]).options) == {"labels": "random", "triggers": 30}


def test_a_file_cannot_extend_itself_or_nothing(tmp_path: Path):
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text('extends = "other.toml"\n')
    other.write_text('extends = "one.toml"\n')
    with pytest.raises(UserError, match="extends itself"):
        read_study(one)
    one.write_text('extends = "one.toml"\n')
    with pytest.raises(UserError, match="extends itself"):
        read_study(one)
    one.write_text('extends = "missing.toml"\n')
    with pytest.raises(UserError, match="no such study file"):
        read_study(one)
    one.write_text("extends = 3\n")
    with pytest.raises(UserError, match="extends"):
        read_study(one)


def test_a_recipe_of_another_class_stays_one(monkeypatch):
    """Before, it was rebuilt as a plain recipe, and its model was never trained."""

    @dataclass(frozen=True)
    class Wider(Recipe):
        hidden: int = 7

        def _model(self, data):
            return replace(super()._model(data), hidden=self.hidden)

    standard = recipe("digits", "smoke")
    own = Wider(**{field.name: getattr(standard, field.name) for field in fields(standard)})
    monkeypatch.setitem(tasks(), "digits", replace(find_task("digits"), recipes=(own,)))
    built = build_recipe(Named("digits", (("epochs", 1), ("hidden", 9), ("scale", "smoke"))), study_from(table()))
    assert type(built) is Wider and built.epochs == 1
    assert built.plan().model.hidden == 9


NOTE = {"mechanisms": ["wm", "dpsgd"], "metric": "wm_accuracy", "text": "Known."}


@pytest.mark.parametrize(
    ("of", "shown"),
    [
        ({}, ["digits published", "digits sound", "mnist published", "mnist sound"]),
        ({"dataset": "mnist"}, ["mnist published", "mnist sound"]),
        ({"reading": "sound"}, ["digits sound", "mnist sound"]),
        ({"dataset": "digits", "reading": "published"}, ["digits published"]),
    ],
)
def test_a_note_is_about_its_data_set_and_reading_only(of, shown):
    recipes = [{"dataset": name, "scale": "smoke"} for name in ("digits", "mnist")]
    asked = study_from(table(readings=READINGS, recipes=recipes, notes=[{**NOTE, **of}]))
    (note,) = asked.notes
    found = [
        f"{cell.recipe.name} {dict(cell.recipe.options)['reading']}"
        for cell in asked.cells()
        if note.about(cell, "wm_accuracy")
    ]
    assert sorted(found) == shown


@pytest.mark.parametrize("of", [{"dataset": "mnits"}, {"reading": "sounds"}])
def test_a_note_about_nothing_is_refused(of):
    with pytest.raises(UserError) as caught:
        compose_study(study_from(table(readings=READINGS, notes=[{**NOTE, **of}])))
    assert next(iter(of.values())) in str(caught.value)
