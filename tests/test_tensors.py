"""What shares memory is kept as well as what does not, and read back as it was."""

from __future__ import annotations

import copy

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from guardclash.reporting.notes import failure
from guardclash.studies.tensors import load_into, to_bytes

BASE = torch.arange(96.0).view(4, 2, 3, 4)
VIEWS = {
    "itself": lambda one: one,
    "a slice": lambda one: one[1:3],
    "every second": lambda one: one[..., ::2],
    "turned": lambda one: one.transpose(1, 3),
    "channels last": lambda one: one.contiguous(memory_format=torch.channels_last),
    "expanded": lambda one: one[:1].expand(5, -1, -1, -1),
    "one number": lambda one: one[0, 0, 0, 0],
    "nothing": lambda one: one[:0],
    "integers": lambda one: one.long(),
    "bytes of it": lambda one: one.view(torch.uint8),
    "a parameter": nn.Parameter,
    "bfloat16": lambda one: one.bfloat16(),
}


@given(st.lists(st.sampled_from(sorted(VIEWS)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_whatever_shares_memory_comes_back_in_full(kinds):
    given_ = {f"{place}": VIEWS[kind](BASE) for place, kind in enumerate(kinds)}
    found = safetensors.torch.load(to_bytes(given_, {"source": "a test"}))
    assert found.keys() == given_.keys()
    for name, tensor in given_.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach()), kinds


class Tied(nn.Module):
    """One layer at two places, one buffer that is part of another, and one that is repeated."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 4)
        self.second = self.first
        self.last = nn.Linear(4, 4)
        self.last.weight = self.first.weight
        self.register_buffer("whole", torch.rand(8))
        self.register_buffer("part", self.whole[2:4])
        self.register_buffer("repeated", torch.rand(1).expand(3))


def test_a_network_that_ties_its_weights_is_kept_and_read():
    network = Tied()
    before = copy.deepcopy(network.state_dict())
    other = Tied()
    with torch.no_grad():
        other.first.weight.zero_()  # of both places
    load_into(other, to_bytes(network.state_dict()))
    assert all(torch.equal(other.state_dict()[name], value) for name, value in before.items())
    assert other.first.weight is other.last.weight, "they stay tied"
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())


def test_ordinary_weights_are_kept_in_the_very_bytes_as_ever():
    state = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(4, 2)).to(memory_format=torch.channels_last).state_dict()
    as_ever = safetensors.torch.save({name: value.contiguous().cpu() for name, value in state.items()})
    assert to_bytes(state) == as_ever


# --- how a failure is told --------------------------------------------------------------------------------------------

SEVERAL = """Traceback (most recent call last):
  File "jobs.py", line 3, in run
    save()
RuntimeError: Some tensors share memory: {'a', 'b'}.
            A potential way to save them is `save_model`.
More information at https://example.org
"""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SEVERAL, "RuntimeError: Some tensors share memory: {'a', 'b'}."),
        (
            "Traceback (most recent call last):\n  x\nValueError: first\n\nDuring it:\n\n" + SEVERAL,
            SEVERAL.splitlines()[3],
        ),
        ('Traceback (most recent call last):\n  File "x"\nKeyError', "KeyError"),
        ('Traceback (most recent call last):\n  File "x"\nmine.Odd: what\nnote: more', "mine.Odd: what"),
        ("ValueError: no traceback\nsee below", "ValueError: no traceback"),
        ("it was killed (signal 9)", "it was killed (signal 9)"),
        ("Traceback (most recent call last):\n  cut off", "  cut off"),
        ("\n", ""),
    ],
)
def test_of_an_error_of_several_lines_the_one_that_names_it_is_told(error, told):
    assert failure(error) == told
