"""Study files: what they stand for, and that every mistake in one is told as one message that says where."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardclash.errors import UserError
from guardclash.judging.criteria import Floor, MaxDrop
from guardclash.records.cells import Cell, Named
from guardclash.studies.study import Study
from guardclash.studies.study_file import read_study, study_from

DIGITS = {"dataset": "digits", "scale": "smoke"}
WM, DPSGD = Named("wm"), Named("dpsgd")
RELAXED = Named("dpsgd", (("on", ("task",)),))


def table(*combinations: list[Any], recipes: tuple[dict[str, Any], ...] = (DIGITS,), **keys: Any) -> dict[str, Any]:
    """A study as TOML gives it; each combination is a list of mechanisms."""
    wanted = [{"mechanisms": mechanisms} for mechanisms in combinations or (["wm", "dpsgd"],)]
    return {"recipes": list(recipes), "combinations": wanted, **keys}


def refused(content: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        study_from(content, where="my.toml")
    return str(caught.value)


# What a study stands for


def test_defaults_are_the_papers():
    """But for the rule, which says only what is shown, and a correction for the metrics of each verdict."""
    study = study_from(table(), name="file-name")
    assert study == Study("file-name", (Named("digits", (("scale", "smoke"),)),), ((WM, DPSGD),))
    assert (study.alone, study.together, study.first_seed) == (5, 10, 0)
    assert (study.rule, study.alpha, study.correction, study.criteria, study.plugins) == (
        "strict",
        0.05,
        "verdict",
        (),
        (),
    )


def test_a_recipe_is_reduced_unless_it_says_otherwise():
    (recipe,) = study_from(table(recipes=({"dataset": "mnist"},))).recipes
    assert dict(recipe.options) == {"scale": "reduced"}


def test_keys_are_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        """
        name = "another name"
        plugins = ["p.py", "sub/q.py"]
        rule = "bounded"
        alpha = 0.01
        correction = "holm"
        first_seed = 7
        replicates = { alone = 3, together = 4 }
        criteria = { wm_accuracy = { max_drop = 0.2 }, accuracy = { floor = 0.9 } }
        [[recipes]]
        dataset = "digits"
        epochs = 3
        [[combinations]]
        mechanisms = ["wm", { name = "dpsgd", on = ["task"] }]
        """
    )
    study = read_study(path)
    assert (study.name, study.rule, study.alpha, study.correction) == ("another name", "bounded", 0.01, "holm")
    assert (study.alone, study.together, study.first_seed) == (3, 4, 7)
    assert dict(study.criteria) == {"wm_accuracy": MaxDrop(0.2), "accuracy": Floor(0.9)}
    assert study.plugins == (tmp_path / "p.py", tmp_path / "sub" / "q.py")
    assert dict(study.recipes[0].options) == {"scale": "reduced", "epochs": 3}
    assert study.combinations == ((WM, RELAXED),)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"correction": "holm"}, 'correction = "holm"'),
        ({"replicates": {"start": 3, "most": 9}}, "seeds that are added step by step"),
    ],
)
def test_the_papers_rule_takes_no_smaller_level(keys, said):
    """Its "no difference" is a test that does not reject, which a smaller level makes easier."""
    told = refused(table(rule="paper", **keys))
    assert f"the paper's rule does not go with {said}" in told
    assert "allowed: strict, bounded" in told
    for rule in ("strict", "bounded"):
        study = study_from(table(rule=rule, **keys))
        assert study.rule == rule
        with pytest.raises(UserError, match="the paper's rule does not go with"):
            study.under("paper")
    for correction in ("none", "verdict"):
        assert study_from(table(rule="paper", correction=correction)).correction == correction


def test_a_rule_has_another_beside_it():
    for rule, other in (("strict", "paper"), ("bounded", "paper"), ("paper", "strict")):
        study = study_from(table(rule=rule))
        assert study.rules == (rule, other)
        assert study.under(rule) is study
        assert study.under(other).rules[0] == other
        assert study.under(other).under(rule) == study


def test_intervals_are_of_the_level_of_the_tests():
    assert (study_from(table()).level, study_from(table()).confidence) == (0.05, 0.9)
    looks = study_from(table(alpha=0.06, replicates={"start": 4, "most": 9}))
    assert [look.together for look in looks.stages()] == [4, 6, 9]
    assert (looks.level, looks.confidence) == (pytest.approx(0.02), pytest.approx(0.96))
    assert {look.level for look in looks.stages()} == {looks.level}


def test_the_name_is_that_of_the_file(tmp_path):
    path = tmp_path / "my-study.toml"
    path.write_text('recipes = [{ dataset = "digits" }]\ncombinations = [{ mechanisms = ["wm"] }]')
    assert read_study(path).name == read_study(str(path)).name == "my-study"


def test_the_bundled_studies_can_be_read():
    folder = Path(__file__).parent.parent / "studies"
    studies = [read_study(path) for path in sorted(folder.glob("*.toml"))]
    assert studies
    assert all(study.cells() for study in studies)


def test_cells_are_the_baseline_the_singles_and_the_combinations_each_once():
    study = study_from(table(["wm", "dpsgd"], ["wm", {"name": "dpsgd", "on": ["task"]}], ["wm"], ["dpsgd", "wm"]))
    assert [cell.combination for cell in study.cells()] == [
        (),
        (WM,),
        (DPSGD,),
        (RELAXED,),
        (WM, DPSGD),
        (WM, RELAXED),
        (DPSGD, WM),  # an order of its own: slots that stack keep it
    ]
    assert [cell.replicates for cell in study.cells()] == [5, 5, 5, 5, 10, 10, 10]


def test_every_recipe_has_all_cells():
    study = study_from(table(["wm"], recipes=(DIGITS, {**DIGITS, "norm": "group"}, {"dataset": "mnist"})))
    assert [len(cell.combination) for cell in study.cells()] == [0, 1] * 3
    assert len({cell.key for cell in study.cells()}) == 6


def test_the_key_of_a_cell_knows_neither_replicates_nor_the_order_of_options():
    one = Cell(DPSGD, (Named("wm", (("a", 1), ("b", (2,)))),), 5)
    two = Cell(DPSGD, (Named("wm", (("b", (2,)), ("a", 1))),), 10)
    assert one.key == two.key
    assert one.key != Cell(DPSGD, (Named("wm", (("a", 1),)),), 5).key


def test_seeds_are_shared_by_alone_and_together():
    study = study_from(table(["wm", "dpsgd"], replicates={"alone": 2, "together": 4}, first_seed=10))
    seeds = {len(cell.combination): list(study.seeds(cell)) for cell in study.cells()}
    assert seeds == {0: [10, 11], 1: [10, 11], 2: [10, 11, 12, 13]}


def test_a_sweep_is_the_product_of_its_values():
    sweep = {"epsilon": [1, 3], "clip": [0.5, 1.0]}
    study = study_from(table([{"name": "wm", "sweep": {"triggers": [10, 20]}}, {"name": "dpsgd", "sweep": sweep}]))
    found = {
        (options["epsilon"], options["clip"]) for _, named in study.combinations if (options := dict(named.options))
    }
    assert found == {(1, 0.5), (1, 1.0), (3, 0.5), (3, 1.0)}
    assert len(study.combinations) == 8
    assert len(study.mechanisms()) == 2 + 4
    assert len(study.cells()) == 1 + 6 + 8


def test_a_sweep_goes_with_fixed_options_and_over_lists():
    study = study_from(table(["wm", {"name": "dpsgd", "clip": 2.0, "sweep": {"on": [["task"], ["task", "trigger"]]}}]))
    assert [dict(named.options) for _, named in study.combinations] == [
        {"clip": 2.0, "on": ("task",)},
        {"clip": 2.0, "on": ("task", "trigger")},
    ]


def test_a_value_that_stands_twice_in_a_sweep_counts_once():
    assert len(study_from(table([{"name": "dpsgd", "sweep": {"epsilon": [3, 1, 3]}}])).combinations) == 2


EPOCHS = {"epochs": [5, 10]}
COMBINATIONS = [{"mechanisms": ["wm"]}]


def epochs(table: dict[str, Any], scale: str | None = None) -> list[int]:
    recipes = study_from({"combinations": COMBINATIONS, **table}, scale=scale).recipes
    return [dict(recipe.options)["epochs"] for recipe in recipes]


def test_a_recipe_may_be_swept():
    recipe = {"dataset": "digits", "sweep": {**EPOCHS, "examples": [100, 200, 300]}}
    study = study_from({"combinations": COMBINATIONS, "recipes": [recipe]})
    assert len(study.recipes) == 6
    assert study.recipe_label(study.recipes[0]) == "digits/reduced (epochs=5, examples=100)"
    readings = {"one": {"recipe": {"norm": "group"}}, "two": {}}
    assert epochs({"recipes": [{"dataset": "digits", "sweep": EPOCHS}], "readings": readings}) == [5, 10] * 2


def test_a_scale_may_sweep_what_the_recipe_leaves_open():
    """The sweep of a scale counts before its fixed values, which may come from an extended file."""
    scales = {"reduced": {"digits": {"epochs": 7, "sweep": EPOCHS}}}
    assert epochs({"recipes": [{"dataset": "digits"}], "scales": scales}) == [5, 10]
    assert epochs({"recipes": [{"dataset": "digits", "epochs": 3}], "scales": scales}) == [3]
    assert epochs({"recipes": [{"dataset": "digits", "epochs": 3}], "scales": scales}, "smoke") == [3]


def test_one_meaning_has_one_form():
    """The order of options and 3 or 3.0 make no difference, so no cell stands there twice."""
    one = {"name": "dpsgd", "epsilon": 3, "clip": 0.5}
    two = {"clip": 0.5, "epsilon": 3.0, "name": "dpsgd"}
    study = study_from(table(["wm", one], ["wm", two], [two, "raddata"]))
    assert len(study.combinations) == 2
    assert len(study.cells()) == 1 + 3 + 2
    assert study.label(study.mechanisms()[1]) == "dpsgd"


def test_labels_show_the_options_that_vary_and_no_others():
    study = study_from(
        table(
            [{"name": "wm", "triggers": 50}, {"name": "dpsgd", "clip": 2.0, "epsilon": 1.5}],
            [{"name": "wm", "triggers": 50}, {"name": "dpsgd", "clip": 2.0, "epsilon": 3, "on": ["task", "trigger"]}],
        )
    )
    assert [study.label(mechanism) for mechanism in study.mechanisms()] == [
        "wm",
        "dpsgd(epsilon=1.5)",
        "dpsgd(epsilon=3, on=task+trigger)",
    ]


def test_recipe_labels_always_show_the_scale():
    study = study_from(table(["wm"], recipes=(DIGITS, {**DIGITS, "norm": "group"}, {"dataset": "mnist", "epochs": 2})))
    labels = [study.recipe_label(recipe) for recipe in study.recipes]
    assert labels == ["digits/smoke", "digits/smoke (norm=group)", "mnist/reduced"]


# What is refused


BAD_TABLES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unknown key": ({**table(), "rules": "paper"}, ("my.toml", "'rules'", "'rule'")),
    "unknown key of replicates": (table(replicates={"alon": 3}), ("my.toml", "replicates", "'alon'", "'alone'")),
    "unknown key of a combination": (
        {**table(), "combinations": [{"mechanisms": ["wm"], "mechanism": []}]},
        ("my.toml", "combinations[0]", "'mechanism'", "'mechanisms'"),
    ),
    "misspelt recipes": (
        {"recipe": [DIGITS], "combinations": [{"mechanisms": ["wm"]}]},
        ("my.toml", "'recipe'", "'recipes'"),
    ),
    "misspelt mechanisms": (
        {**table(), "combinations": [{"mechanism": ["wm"]}]},
        ("my.toml", "combinations[0]", "'mechanism'", "'mechanisms'"),
    ),
    "empty": ({}, ("my.toml", "recipes")),
    "no recipes": (table(recipes=()), ("my.toml", "recipes is empty", "at least one recipe")),
    "no combinations": ({**table(), "combinations": []}, ("my.toml", "combinations is empty", "at least one")),
    "no mechanisms": (table([]), ("my.toml", "combinations[0].mechanisms is empty")),
    "no data set": (table(recipes=({"scale": "smoke"},)), ("my.toml", "recipes[0].dataset is missing")),
    "bad scale": (table(recipes=({**DIGITS, "scale": "smok"},)), ("my.toml", "recipes[0].scale", "'smoke'", "'smok'")),
    "recipes is no list": ({**table(), "recipes": DIGITS}, ("my.toml", "recipes", "list")),
    "replicates is no table": (table(replicates=5), ("my.toml", "replicates", "5")),
    "a text for a number": (table(replicates={"alone": "5"}), ("my.toml", "replicates.alone", "'5'")),
    "a fraction of a replicate": (table(replicates={"alone": 5.5}), ("my.toml", "replicates.alone", "5.5")),
    "truth for a number": (table(replicates={"alone": True}), ("my.toml", "replicates.alone", "True")),
    "no replicates": (table(replicates={"together": 0}), ("my.toml", "replicates.together", "0")),
    "alpha out of range": (table(alpha=0.5), ("my.toml", "alpha", "0.5")),
    "negative seed": (table(first_seed=-1), ("my.toml", "first_seed", "-1")),
    "unknown rule": (table(rule="strickt"), ("my.toml", "rule", "'strickt'", "'strict'")),
    "unknown correction": (table(correction="bonferroni"), ("my.toml", "correction", "'holm'")),
    "plugins is no list": (table(plugins="p.py"), ("my.toml", "plugins")),
    "a number for a mechanism": (table(["wm", 5]), ("my.toml", "combinations[0].mechanisms[1]", "5")),
    "a mechanism without a name": (table([{"nme": "wm"}]), ("my.toml", "combinations[0].mechanisms[0]", "name")),
    "a sweep that is no table": (table([{"name": "wm", "sweep": [1]}]), ("my.toml", "mechanisms[0].sweep")),
    "a sweep over no list": (
        table([{"name": "wm", "sweep": {"triggers": 3}}]),
        ("my.toml", "mechanisms[0].sweep.triggers"),
    ),
    "a recipe's sweep that is no table": (table(recipes=({**DIGITS, "sweep": [1]},)), ("my.toml: digits.sweep",)),
    "a recipe's sweep over no list": (
        table(recipes=({**DIGITS, "sweep": {"epochs": 3}},)),
        ("my.toml: digits.sweep", "3"),
    ),
    "an empty sweep of a recipe": (table(recipes=({**DIGITS, "sweep": {"epochs": []}},)), ("my.toml: digits.sweep",)),
    "a recipe's option that is swept and fixed": (
        table(recipes=({**DIGITS, "epochs": 3, "sweep": {"epochs": [1, 2]}},)),
        ("my.toml: digits.sweep.epochs",),
    ),
    "a scale's sweep that is no table": (
        {**table(["wm"]), "scales": {"smoke": {"digits": {"sweep": 3}}}},
        ("my.toml: scales.smoke.digits.sweep",),
    ),
    "an empty sweep": (table([{"name": "wm", "sweep": {"triggers": []}}]), ("my.toml", "sweep.triggers")),
    "swept and fixed": (
        table([{"name": "wm", "triggers": 5, "sweep": {"triggers": [1, 2]}}]),
        ("my.toml", "triggers"),
    ),
    "a table for a value": (table([{"name": "wm", "triggers": {"a": 1}}]), ("my.toml", "triggers")),
    "lists in a list": (table([{"name": "wm", "on": [["task"]]}]), ("my.toml", "on")),
    "a table in a sweep": (table([{"name": "wm", "sweep": {"triggers": [{}]}}]), ("my.toml", "triggers")),
    "a table in a recipe": (table(recipes=({**DIGITS, "epochs": {"a": 1}},)), ("my.toml", "epochs")),
    "the same mechanism twice": (table(["wm", "dpsgd", "wm"]), ("my.toml", "'wm'", "twice")),
    "unknown criterion": (
        table(criteria={"wm_accuracy": {"max_drp": 0.1}}),
        ("my.toml", "wm_accuracy", "'max_drp'", "'max_drop'"),
    ),
    "criterion out of range": (table(criteria={"wm_accuracy": {"max_drop": -1}}), ("my.toml", "wm_accuracy", "-1")),
    "two criteria": (
        table(criteria={"wm_accuracy": {"max_drop": 0.1, "floor": 0.5}}),
        ("my.toml", "wm_accuracy", "one kind"),
    ),
    "criterion is no table": (table(criteria={"wm_accuracy": 0.3}), ("my.toml", "criteria.wm_accuracy", "0.3")),
    "a name that leaves the store": (table(name="../../outside"), ("my.toml", "name", "outside")),
    "a name with a slash": (table(name="a/b"), ("my.toml", "name", "a/b")),
    "a name that is no file name": (table(name="a\0b"), ("my.toml", "name")),
}


@pytest.mark.parametrize("mistake", BAD_TABLES)
def test_mistakes_are_told_with_their_place(mistake):
    content, parts = BAD_TABLES[mistake]
    message = refused(content)
    missing = [part for part in parts if part not in message]
    assert not missing, f"{message!r} does not say {missing}"
    assert "_Replicates" not in message, "the name of a class of ours says nothing to a user"
    assert "\n" not in message


def test_syntax_errors_name_file_and_line(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('name = "a"\nalpha = = 3\n')
    with pytest.raises(UserError, match=r"bad\.toml") as caught:
        read_study(path)
    assert "line 2" in str(caught.value)


def _folder(path: Path) -> None:
    path.mkdir()


def _latin1(path: Path) -> None:
    path.write_bytes('name = "é"'.encode("latin-1"))


def _two_keys(path: Path) -> None:
    path.write_text("alpha = 0.1\nalpha = 0.2")


def _folder_below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


@pytest.mark.parametrize(
    "make", [lambda path: None, _folder, _latin1, _two_keys, _folder_below_a_file], ids=lambda make: make.__name__
)
def test_files_that_are_no_studies(tmp_path, make: Callable[[Path], None]):
    path = tmp_path / "sub" / "study.toml"
    path.parent.mkdir()
    make(path)
    with pytest.raises(UserError) as caught:
        read_study(path)
    assert str(path) in str(caught.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text("")
    path.chmod(0)
    with pytest.raises(UserError, match="cannot be read"):
        read_study(path)


def test_unreadable_says_why(tmp_path, monkeypatch):
    def denied(*args: Any, **kwargs: Any) -> str:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "study.toml").touch()
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UserError, match="Permission denied") as caught:
        read_study(tmp_path / "study.toml")
    assert "study.toml" in str(caught.value)


# Any table at all


SCALARS = st.one_of(
    st.booleans(),
    st.integers(-1000, 1000),
    st.floats(),
    st.text(max_size=5),
    st.dates(),
    st.times(),
    st.datetimes(),
)
WORDS = "name dataset scale mechanisms sweep on triggers epochs alone together plugins criteria replicates alpha rule"
KEYS = st.sampled_from(WORDS.split()) | st.text(max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside a table."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inner in items for found in places(inner, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A table with one value inside replaced."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


FULL = table(
    ["wm", {"name": "dpsgd-control", "on": ["task"]}],
    [{"name": "wm", "triggers": 5, "sweep": {"passes": [1, 2]}}],
    recipes=({**DIGITS, "epochs": 2, "learning_rate": 0.1},),
    name="n",
    plugins=[],
    rule="bounded",
    alpha=0.1,
    correction="holm",
    first_seed=1,
    replicates={"alone": 2, "together": 3},
    criteria={"wm_accuracy": {"max_drop": 0.1}},
)
FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


def names_all(study: Study) -> None:
    """Asks a study all that reports ask of it."""
    labels = {study.label(mechanism) for mechanism in study.mechanisms()}
    assert labels
    for cell in study.cells():
        assert len(study.seeds(cell)) == cell.replicates
        assert cell.key
        assert "/" in study.recipe_label(cell.recipe)


@FUZZ
@given(st.dictionaries(st.sampled_from(sorted(FULL)) | KEYS, VALUES, max_size=8))
def test_any_table_is_a_study_or_a_user_error(content):
    try:
        study = study_from(content)
    except UserError:
        return
    names_all(study)


@FUZZ
@given(st.sampled_from(places(FULL)[1:]), VALUES)
def test_a_study_with_one_value_changed_is_a_study_or_a_user_error(path, value):
    try:
        study = study_from(replaced(FULL, path, value))
    except UserError:
        return
    names_all(study)


def test_the_full_table_is_a_study():
    names_all(study_from(FULL))
