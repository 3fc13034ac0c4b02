"""Tensors as bytes of files that hold nothing but them, and back, whatever they share in memory."""

from __future__ import annotations

from collections.abc import Mapping

import safetensors.torch
from torch import Tensor, nn


def to_bytes(tensors: Mapping[str, Tensor], about: dict[str, str] | None = None) -> bytes:
    """Tensors in the format of safetensors, each in full.

    The format refuses tensors that share memory, such as the weights of a layer that stands at two places of a network,
    parts of one buffer, and what `expand` made; so each is a copy of its own where it is not already.

    Args:
        tensors: By name, on any device, laid out in any way.
        about: Texts that are kept beside them.
    """
    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        # Channels-last on the way, plain in the file: it is read on any device.
        plain = tensor.detach().contiguous().cpu()
        place = plain.untyped_storage().data_ptr()
        # Of a view, the rest of its memory may belong to others.
        own[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return safetensors.torch.save(own, about)


def load_into(network: nn.Module, content: bytes) -> None:
    """Gives a network its weights; layers that share some still do.

    Raises:
        safetensors.SafetensorError: The content is no such file.
        RuntimeError: It is of another network.
    """
    for module in network.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and any(
                step == 0 and size > 1 for step, size in zip(buffer.stride(), buffer.shape, strict=True)
            ):
                module._buffers[name] = buffer.clone()  # one number in many places cannot be written to
    network.load_state_dict(safetensors.torch.load(content))  # numbers and names: the format holds no code
