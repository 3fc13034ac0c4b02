"""Weights from outside: what a network holds that nobody here has trained."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from guardclash.errors import UserError
from guardclash.handed import content_of

MOST_BYTES = 16 * 2**30
"""Of a file of weights, which is held in memory twice while it is read."""
SAVED = "Save the weights anew: safetensors.torch.save_file(model.state_dict(), FILE)."


@dataclass(frozen=True)
class Foreign:
    """Puts the weights of a file into a network, all of them; the model is known by what the file holds."""

    sha256: str
    """Of the file, as it was when the training was planned."""
    file: Path = field(compare=False, metadata={"described": False})
    """Where it lies on this machine."""

    def __call__(self, network: nn.Module) -> nn.Module:
        """The network with these weights.

        Raises:
            UserError: The file is gone or has changed, or does not fit.
        """
        found = weights_file(self.file)
        if found.sha256 != self.sha256:
            mend = "Leave the file alone while a study runs, or give the new one another name."
            raise UserError(
                "the weights are not those that were planned with",
                where=self.file,
                got=f"SHA-256 {found.sha256}",
                allowed=self.sha256,
                mend=mend,
            )
        if misfit := found.misfit(network):
            raise UserError(misfit, where=self.file)
        if not any(tensor.is_meta for tensor in network.state_dict().values()):  # whose structure is looked at only
            network.load_state_dict(dict(found.tensors))
        return network


@dataclass(frozen=True, eq=False)
class WeightsFile:
    """What a file of weights holds."""

    sha256: str
    tensors: Mapping[str, Tensor]

    def misfit(self, network: nn.Module, ignored: Collection[str] = ()) -> str:
        """Why these are no weights of a network, by the first tensor that does not fit; "" where all do.

        Some tensors of the network may be ignored.
        """
        own = network.state_dict()
        wanted = {name: tuple(tensor.shape) for name, tensor in own.items() if name not in ignored}
        for name, shape in wanted.items():
            if name not in self.tensors:
                return f"the weights lack the tensor {name} of {len(wanted)} that the network has"
            if (got := tuple(self.tensors[name].shape)) != shape:
                return f"the tensor {name} has the shape {got}, and {shape} in the network"
        extra = next((name for name in self.tensors if name not in wanted), None)
        return f"the network has no tensor {extra}" if extra else ""


def weights_file(path: Path) -> WeightsFile:
    """Reads a safetensors file; one that has not changed since is read once.

    Raises:
        UserError: There is none, it is another kind of file, or a weight is no number.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise UserError(f"the weights cannot be read: {error.strerror}", where=path) from error
    return _weights_file(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)
def _weights_file(path: Path, size: int, changed: int) -> WeightsFile:
    try:
        content = content_of(path, MOST_BYTES)
        tensors = safetensors.torch.load(content)  # safe from anyone: the format holds numbers and names, no code
    except OSError as error:
        raise UserError(f"the weights cannot be read: {error.strerror}", where=path) from error
    except safetensors.SafetensorError as error:
        mend = f"{SAVED} Pickles, such as .pt and .pth, are not read: loading one runs whatever it holds."
        raise UserError(f"no safetensors file: {error}", where=path, mend=mend) from error
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")], object_pairs_hook=list)
    twice = next((name for name, times in Counter(name for name, _ in header).items() if times > 1), None)
    if twice is not None:  # one of them would be read, and the other one be lost
        raise UserError("two tensors have one name", where=path, got=twice)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UserError("weights must be numbers", where=f"{path}, tensor {name}", got="NaN or infinity")
    return WeightsFile(hashlib.sha256(content).hexdigest(), tensors)
