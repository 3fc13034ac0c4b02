"""Convolutions that oneDNN gets wrong with channels last do not lie so, wherever a network comes from."""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy

import pytest
import torch
from torch import nn

from guardclash.numerics.layout import channels_first, channels_last, fast

LAST = torch.channels_last

GRADIENTS = """
import torch
from torch import nn
from guardclash.numerics.layout import channels_last, fast

torch.manual_seed(0)
for channels in (1, 3, 4, 6, 7, 8, 12, 16):
    x, layer = torch.rand(8, channels, 10, 6), nn.Conv2d(channels, 8, 1, stride=2)
    with torch.backends.mkldnn.flags(enabled=False):
        wanted = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    for _ in range(300):
        network = channels_last(nn.Sequential(nn.Identity(), layer))
        moved = fast(x).requires_grad_()
        *found, _ = torch.autograd.grad(network(moved).square().sum(), [*layer.parameters(), moved])
        assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-4) for one, other in zip(found, wanted, strict=True))
"""


@pytest.mark.parametrize("instructions", ["AVX2", "AVX512_CORE"])
def test_gradients_are_right_whatever_the_processor(instructions):
    # In a process of its own: what goes wrong here ends it.
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", GRADIENTS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_only_those_convolutions_lie_otherwise():
    layers = {
        "shortcut": nn.Conv2d(4, 8, 1, stride=2),
        "grouped": nn.Conv2d(32, 32, 1, stride=(1, 2), groups=4),
        "wide": nn.Conv2d(16, 8, 1, stride=2),
        "whole": nn.Conv2d(4, 8, 1),
        "usual": nn.Conv2d(4, 8, 3, stride=2),
    }
    network = nn.ModuleDict(layers)
    assert channels_last(channels_last(network)) is network
    for name, layer in layers.items():
        odd = name in ("shortcut", "grouped")
        assert [*layer._forward_pre_hooks.values()].count(channels_first) == odd, name
        assert [*deepcopy(layer)._forward_pre_hooks.values()].count(channels_first) == odd, name
        x = fast(torch.rand(2, layer.in_channels, 6, 4))
        assert layer(x).is_contiguous(memory_format=LAST) != odd, name
