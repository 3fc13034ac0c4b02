"""How far a long measurement is, as others see it."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from guardclash.numerics.walks import BlindWalk
from guardclash.studies.activity import noted, notes, seldom
from guardclash.studies.store import Store
from guardclash.telling import counted, heard


def test_what_is_done_is_told_and_nothing_where_nobody_listens():
    told: list[tuple[int, int]] = []
    assert list(counted("ab")) == ["a", "b"]
    with heard(lambda *numbers: told.append(numbers)):
        assert list(counted("abc")) == ["a", "b", "c"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert list(counted("ab")) == ["a", "b"]
    assert len(told) == 3


def test_of_loops_inside_of_each_other_the_outermost_tells():
    told: list[tuple[int, int]] = []
    with heard(lambda *numbers: told.append(numbers)):
        for _ in counted(range(2)):
            assert list(counted(range(5))) == [0, 1, 2, 3, 4]
        assert told == [(1, 2), (2, 2)]
        assert list(counted(range(1))) == [0]
    assert told[2:] == [(1, 1)]


def test_a_loop_that_ends_in_the_middle_leaves_the_next_one_heard():
    told: list[tuple[int, int]] = []
    with heard(lambda *numbers: told.append(numbers)):
        with pytest.raises(ValueError, match="no"):
            for item in counted(range(4)):
                if item == 1:
                    raise ValueError("no")
        list(counted(range(1)))
    assert told == [(1, 4), (1, 1)]


def test_a_note_says_so_at_most_once_a_second(tmp_path):
    store, now = Store(tmp_path), [100.0]
    with noted(store, "key.measuring") as write:
        tell = seldom(write, lambda: now[0])
        for done, later in ((1, 0.0), (2, 0.5), (3, 0.6), (4, 0.1)):
            now[0] += later
            tell(done, 9)
        (note,) = notes(store, "measuring").values()
        assert (note["done"], note["of"]) == (3, 9)
        assert json.loads((tmp_path / "work/key.measuring.json").read_text())["started"] == note["started"]


def test_walks_tell_how_many_images_they_have_walked_from():
    told: list[tuple[int, int]] = []
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    x = torch.rand(70, 1, 4, 4)

    def label(images: torch.Tensor) -> torch.Tensor:
        return network(images).argmax(1)

    with heard(lambda *numbers: told.append(numbers)), torch.no_grad():
        BlindWalk(1.0, walks=2, steps=3)(label, x, label(x), torch.Generator())
    assert told == [(place, len(told)) for place in range(1, len(told) + 1)]
    assert told
