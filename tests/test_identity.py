"""Descriptions and keys of frozen values."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import json
import os
import pickle
import pkgutil
import string
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import guardclash
from guardclash.compose import compose
from guardclash.errors import UserError
from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.mechanisms.wm import Watermark
from guardclash.plan.identity import describe, fingerprint, nested, refuse_changed_default
from guardclash.plan.optimizers import SGD
from guardclash.plan.plan import Plan
from guardclash.plan.samplers import Poisson, Shuffled
from guardclash.registry import find_mechanisms


@dataclass(frozen=True)
class Part:
    size: float
    label: str = "plain"
    strengths: tuple[float, ...] = (1.0, 2.0)
    inner: object = None
    made: tuple[int, ...] = field(default_factory=lambda: (1, 2))


@dataclass(frozen=True)
class Holder:
    plan: object
    plans: tuple[object, ...] = ()


numbers = st.integers() | st.floats(allow_nan=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.tuples(inner, inner) | st.builds(Part, numbers, st.text(max_size=3), st.just((1.0,)), inner),
    max_leaves=8,
)


def test_fields_at_their_default_are_left_out():
    assert describe(Part(3)) == {"type": "test_identity:Part", "size": 3}
    assert describe(Part(3, label="other", made=(1, 2))) == {"type": "test_identity:Part", "size": 3, "label": "other"}


def test_a_field_without_a_default_is_always_there():
    assert describe(Part(0))["size"] == 0


def test_the_full_description_has_every_field():
    assert describe(Part(3), full=True) == {
        "type": "test_identity:Part",
        "size": 3,
        "label": "plain",
        "strengths": [1, 2],
        "inner": None,
        "made": [1, 2],
    }


@pytest.mark.parametrize(
    "change",
    [{"size": 2}, {"label": "x"}, {"strengths": (1.0,)}, {"inner": 0}, {"inner": False}, {"made": ()}, {"label": ""}],
)
def test_setting_a_field_changes_the_key(change):
    assert fingerprint(replace(Part(1), **change)) != fingerprint(Part(1))


def test_a_new_field_with_a_default_leaves_old_keys_valid():
    old = dataclasses.make_dataclass("Grown", [("size", int)], frozen=True)
    new = dataclasses.make_dataclass("Grown", [("size", int), ("extra", float, field(default=0.5))], frozen=True)
    assert fingerprint(old(3)) == fingerprint(new(3)) != fingerprint(new(3, 0.6))


def test_version_is_part_of_the_key_once_raised():
    def made(version: int) -> object:
        return dataclasses.make_dataclass("Aged", [], frozen=True, namespace={"version": version})()

    unversioned = dataclasses.make_dataclass("Aged", [], frozen=True)()
    assert fingerprint(unversioned) == fingerprint(made(1))
    assert len({fingerprint(made(version)) for version in (1, 2, 3)}) == 3
    assert describe(made(2))["version"] == 2


def test_class_names_tell_values_apart():
    assert fingerprint(Shuffled(64)) != fingerprint(Poisson(64))


EXTRAS = {"mlflow", "tensorboard"}
"""Modules that need a library of their name, which may not be installed."""


def test_no_two_classes_of_the_package_have_one_name_in_descriptions():
    """Inside the package a description holds the class's name alone, so that files can move."""
    names = Counter()
    for module in pkgutil.walk_packages(guardclash.__path__, "guardclash."):
        if module.name.rsplit(".", 1)[-1] in EXTRAS and not importlib.util.find_spec(module.name.rsplit(".", 1)[-1]):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if dataclasses.is_dataclass(value) and isinstance(value, type) and value.__module__ == module.name:
                names[value.__qualname__] += 1
    assert names["Plan"] == 1
    assert {name for name, count in names.items() if count > 1} == set()


@given(st.integers(-(2**53), 2**53))
def test_an_integer_and_the_equal_float_are_one_hyperparameter(number):
    assert fingerprint(Part(number)) == fingerprint(Part(float(number)))


@pytest.mark.parametrize(("one", "other"), [(1, True), (0, False), (0, None), ("1", 1), ((), None), (("a",), "a")])
def test_what_is_not_the_same_has_another_key(one, other):
    assert fingerprint(Part(0, inner=one)) != fingerprint(Part(0, inner=other))


@pytest.mark.parametrize(("default", "given"), [(True, 1), (0, False), ((1, 2), (True, 2)), ((0,), (False,))])
def test_a_value_that_only_compares_equal_to_the_default_is_not_left_out(default, given):
    cls = dataclasses.make_dataclass("Typed", [("value", object, field(default=default))], frozen=True)
    assert fingerprint(cls(given)) != fingerprint(cls())


@given(values)
@settings(max_examples=60, deadline=None)
def test_descriptions_are_json_and_determine_the_key(value):
    short, full = describe(value), describe(value, full=True)
    assert json.loads(json.dumps(short, allow_nan=False)) == short
    assert json.loads(json.dumps(full, allow_nan=False)) == full
    assert fingerprint(value) == fingerprint(pickle.loads(pickle.dumps(value)))


@given(values, values)
@settings(max_examples=60, deadline=None)
def test_keys_are_equal_exactly_where_descriptions_are(one, other):
    same = json.dumps(describe(one), sort_keys=True) == json.dumps(describe(other), sort_keys=True)
    assert (fingerprint(one) == fingerprint(other)) == same


@given(values)
@settings(max_examples=60, deadline=None)
def test_a_key_is_that_of_the_description_as_json(value):
    """The text is put together from those of the parts, which are kept; it is the one that old keys were made of."""
    for _ in range(2):
        text = json.dumps([describe(value), describe(Part(0, inner=value))], sort_keys=True, ensure_ascii=True)
        assert fingerprint(value, Part(0, inner=value)) == hashlib.sha256(text.encode()).hexdigest()[:20]


def test_several_values_have_a_key_together():
    assert fingerprint(Part(1), Part(2)) != fingerprint(Part(2), Part(1))
    assert fingerprint(Part(1), ()) != fingerprint(Part(1))
    assert set(fingerprint(Part(1))) <= set(string.hexdigits)


class Plain:
    pass


@dataclass
class Thawed:
    size: int = 1


class Undecorated(Part):
    label: str = "other"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (lambda x: x, "function"),
        (Plain(), "Plain"),
        (Thawed(), "Thawed"),
        ([1, 2], "list"),
        ({"a": 1}, "dict"),
        (Part, "type"),
        (Undecorated(1), "Undecorated"),
    ],
    ids=["lambda", "object", "thawed dataclass", "list", "dict", "class", "undecorated subclass"],
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: Part(1, inner=(value,))], ids=["bare", "inside"])
def test_what_has_no_stable_identity_is_refused_by_name(value, named, wrap):
    with pytest.raises(TypeError, match=named):
        fingerprint(wrap(value))


SCRIPT = """
from guardclash.mechanisms.wm import Watermark
from guardclash.plan.identity import fingerprint
from guardclash.tasks.recipe import recipe
print(fingerprint(Watermark().data(recipe("digits", "smoke").plan())))
"""


def test_the_key_of_a_plan_is_the_same_in_every_process(base):
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    there = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == fingerprint(Watermark().data(base))


def test_keys_do_not_change_between_releases():
    """Every result in every store is found by them."""
    assert fingerprint(Shuffled(64)) == "6784faa99e725c7dfa7b"


def test_plans_pickle_and_keep_their_key(base):
    plan = compose(base, [Watermark(), DPSGD(on=("task",))])
    copy = pickle.loads(pickle.dumps(plan))
    assert copy == plan
    assert hash(copy) == hash(plan)
    assert fingerprint(copy) == fingerprint(plan)


def test_a_class_of_the_main_script_has_one_name_in_every_process(monkeypatch):
    """Spawned workers import the main script as `__mp_main__`: a result must be found under the same key there."""
    names = set()
    for module in ("__main__", "__mp_main__"):
        cls = dataclasses.make_dataclass("Own", [("size", int)], frozen=True)
        cls.__module__ = module
        names.add(fingerprint(cls(3)))
    assert len(names) == 1


def test_nested_values_come_innermost_first_and_the_value_itself_not_at_all(base):
    innermost = replace(base, epochs=1)
    middle = replace(base, rewrites=(Holder(innermost),))
    outer = replace(base, rewrites=(Holder(None, (middle, innermost)),))
    assert list(nested(outer, Plan)) == [innermost, middle, innermost]
    assert list(nested(base, Plan)) == []
    assert list(nested((base, Holder(base)), Plan)) == [base, base]
    assert list(nested(base, SGD)) == [base.optimizer]


def test_nested_values_are_part_of_the_key(base):
    assert fingerprint(Holder(base)) != fingerprint(Holder(replace(base, epochs=9)))


def test_an_unchanged_record_is_accepted(base):
    refuse_changed_default(describe(base, full=True), describe(base, full=True), "record")


def test_a_changed_default_is_refused_by_the_name_of_its_field(base):
    recorded = json.loads(json.dumps(describe(base, full=True)))
    recorded["streams"][0]["batch_norm"] = "freeze"
    with pytest.raises(UserError) as caught:
        refuse_changed_default(recorded, describe(base, full=True), "trials/abc")
    for part in ("streams[0].batch_norm", "'freeze'", "'update'", "trials/abc", "version"):
        assert part in str(caught.value)


def test_a_default_that_became_longer_or_another_class_is_refused():
    for old, new in (([1, 2], [1, 2, 3]), ({"type": "A"}, {"type": "B"}), (None, {"type": "A"}), (1, 2)):
        with pytest.raises(UserError, match="schedule"):
            refuse_changed_default({"schedule": old}, {"schedule": new}, "record")


def test_fields_that_one_side_does_not_know_are_no_change():
    refuse_changed_default({"type": "A", "gone": 1}, {"type": "A", "new": 2}, "record")


PLUGIN = """
from dataclasses import dataclass
from guardclash.mechanism import Mechanism

@dataclass(frozen=True)
class Harmless(Mechanism):
    '''Does nothing.'''
    name = "harmless"
    concern = "none"
    strength: float = {strength}
"""


def plugin_key(folder: Path, strength: float, monkeypatch: pytest.MonkeyPatch) -> str:
    folder.mkdir()
    path = folder / "harmless_plugin.py"
    path.write_text(PLUGIN.format(strength=strength))
    mechanism = find_mechanisms((path,))["harmless"]()
    assert describe(mechanism).keys() == {"type"}  # the change is invisible in the fields
    key = fingerprint(mechanism)
    monkeypatch.delitem(sys.modules, "guardclash_plugin_harmless_plugin")
    return key


def test_an_edited_plugin_has_another_key_and_an_unedited_one_the_same(tmp_path, monkeypatch):
    first, same, edited = (plugin_key(tmp_path / name, s, monkeypatch) for name, s in (("a", 1), ("b", 1), ("c", 2)))
    assert first == same != edited


def test_the_source_of_a_plugin_is_part_of_the_names_of_its_classes(monkeypatch):
    cls = dataclasses.make_dataclass("Foreign", [], frozen=True)
    cls.__module__ = "some_plugin"
    keys = set()
    for source in ("", "abc", "def"):
        module = ModuleType("some_plugin")
        if source:
            module.__guardclash_source__ = source
        monkeypatch.setitem(sys.modules, "some_plugin", module)
        keys.add(fingerprint(cls()))
    assert len(keys) == 3
