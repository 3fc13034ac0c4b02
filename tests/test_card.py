"""`guardclash list NAME`: all about one thing that studies can name."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from typing import get_type_hints

import pytest

from guardclash.errors import UserError
from guardclash.mechanisms.wm import Watermark
from guardclash.registry import CONDITIONS, MEASURES, SUSPECTS, find_mechanisms, known
from guardclash.reporting.card import allowed, card, meanings
from guardclash.reporting.listing import in_study_files
from guardclash.reporting.text import plain
from guardclash.studies.study_file import study_from

EVERYTHING = {
    "Mechanisms": find_mechanisms(),
    "Measures": known(MEASURES),
    "Conditions": known(CONDITIONS),
    "Suspects": known(SUSPECTS),
}
NAMED = [(title, name) for title, classes in EVERYTHING.items() for name in classes]


@pytest.mark.parametrize(("title", "name"), NAMED, ids=[name for _, name in NAMED])
def test_of_everything_that_has_a_name_all_is_told(title, name):
    cls = EVERYTHING[title][name]
    text = plain(card(name, EVERYTHING), 100)
    assert text.startswith(f"{name}: ")
    assert " ".join(cls.__doc__.split())[:60].split()[0] in text
    options = [field.name for field in dataclasses.fields(cls) if field.name in meanings(cls)]
    told = " ".join(text.split())
    for option in options:
        if "From Python only" not in meanings(cls)[option]:
            assert option in told and meanings(cls)[option].split()[0] in told


@pytest.mark.parametrize(("title", "name"), NAMED, ids=[name for _, name in NAMED])
def test_the_example_is_a_part_of_a_study(title, name):
    text = plain(card(name, {title: EVERYTHING[title]}), 100)
    example = tomllib.loads(text.split("In a study:\n")[1])
    rest = {
        "recipes": [{"dataset": "digits", "scale": "smoke"}],
        "combinations": [{"mechanisms": ["wm"]}],
        "replicates": {"alone": 1, "together": 1},
    }
    if "recipes" in example:
        example["recipes"] = [{**rest["recipes"][0], **example["recipes"][0]}]
    wanted = study_from({**rest, **example})
    assert wanted.cells()


def test_what_is_meant_by_an_option_is_said_by_the_class_that_has_it():
    @dataclass(frozen=True)
    class Base:
        """A base."""

        one: int = 1
        """The first."""
        two: int = 2
        """Of the base."""

    @dataclass(frozen=True)
    class Sub(Base):
        """A class."""

        two: int = 3
        """Its
        own."""
        three: int = 4

    assert meanings(Sub) == {"one": "The first.", "two": "Its own."}


def test_what_an_option_may_be_is_what_its_class_says_when_it_refuses():
    told = {
        name: allowed(Watermark, name, kind) for name, kind in get_type_hints(Watermark).items() if name != "images"
    }
    assert told["triggers"] == ">= 1"
    assert told["cadence"] == "after_epoch, mixed"
    assert told["made"] == "true, false"
    assert told["source"] == "", "any data set, which only a plan can refuse"


@pytest.mark.parametrize("name", sorted(find_mechanisms()))
def test_most_options_say_what_they_may_be(name):
    cls = find_mechanisms()[name]
    hints = get_type_hints(cls)
    told = {
        field.name: allowed(cls, field.name, hints[field.name])
        for field in dataclasses.fields(cls)
        if in_study_files(hints[field.name])
    }
    # Names of streams, groups, layers and data sets are checked by what they stand in; a walk has bounds of its own.
    free = {"on", "group", "by_label", "layer", "source", "walks", "steps"}
    assert {option for option, text in told.items() if not text} <= free
    for option, text in told.items():
        default = next(field.default for field in dataclasses.fields(cls) if field.name == option)
        if isinstance(default, str) and text:
            assert default in text.split(", "), option


def test_an_unknown_name_is_told_with_what_is_meant():
    with pytest.raises(UserError, match="nothing is called so"):
        list(card("wmm", EVERYTHING))
