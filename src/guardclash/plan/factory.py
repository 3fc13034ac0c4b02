"""Networks of somebody's own, built by a function of theirs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guardclash.code import Code
from guardclash.errors import UserError
from guardclash.modules import told
from guardclash.plan.foreign import WeightsFile, weights_file

TRIED = 2
"""Inputs on which a network is tried before anything is trained."""


@dataclass(frozen=True)
class Factory:
    """A network that a function builds, with weights of its own or with those of a file to start from.

    The function is called with `classes` (also as `num_classes`) and `shape`, for tokens also with `length`,
    `vocabulary` and `padding`, as far as it takes them.
    """

    code: Code
    shape: tuple[int, ...]
    classes: int
    vocabulary: int | None = None
    """Of tokens: how many there are."""
    padding: int | None = None
    """The token that fills places behind shorter texts, if there is one."""
    weights: str = ""
    """SHA-256 of the file of the start weights; "": those that the function gives."""
    weights_at: Path | None = field(default=None, compare=False, metadata={"described": False})
    """Where that file lies on this machine."""

    @property
    def std(self) -> tuple[float, ...]:
        """Whatever the network divides by is its own affair: pixels are its unit."""
        return (1.0,)

    def build(self) -> nn.Module:
        """A fresh network, initialised from torch's global generator.

        Raises:
            UserError: The function raises, needs further arguments, gives no network, or the weights do not fit.
        """
        network = self.code.call(self._offered())
        if not isinstance(network, nn.Module):
            got, allowed = type(network).__name__, "a torch.nn.Module"
            raise UserError(f"{self.code.name} gives no network", where=self.code.place, got=got, allowed=allowed)
        if self.weights:
            self._start(network)
        network.register_forward_hook(_logits)
        if self.padding is not None and "attention_mask" in inspect.signature(network.forward).parameters:
            network.register_forward_pre_hook(partial(_masked, self.padding), with_kwargs=True)
        return network

    def _offered(self) -> dict[str, Any]:
        found: dict[str, Any] = {"classes": self.classes, "num_classes": self.classes, "shape": self.shape}
        if self.vocabulary is not None:
            found |= {"length": self.shape[0], "vocabulary": self.vocabulary, "padding": self.padding}
        return found

    def _start(self, network: nn.Module) -> None:
        """Puts the file's weights into a network; one that ends in other classes keeps its own last layer."""
        file = weights_file(Path(self.weights_at or ""))
        if file.sha256 != self.weights:
            mend = "Leave the file alone while a study runs, or give the new one another name."
            raise UserError("the weights are not those that were planned with", where=self.weights_at, mend=mend)
        heads = heads_of(network, file, self.classes)
        named = {name: tensor for name, tensor in file.tensors.items() if name not in heads}
        misfit = WeightsFile(file.sha256, named).misfit(network, ignored=heads)
        if misfit:
            raise UserError(misfit, where=self.weights_at)
        if not any(tensor.is_meta for tensor in network.state_dict().values()):  # whose structure is looked at only
            network.load_state_dict(named, strict=False)


def heads_of(network: nn.Module, file: WeightsFile, classes: int) -> tuple[str, ...]:
    """The tensors of a network's last layer, where those of a file are for another number of classes."""
    own = network.state_dict()
    return tuple(
        name
        for name, tensor in own.items()
        if name in file.tensors
        and tensor.shape[:1] == (classes,)
        and file.tensors[name].shape[:1] != (classes,)
        and file.tensors[name].shape[1:] == tensor.shape[1:]
    )


def _logits(module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
    """Of an output that carries logits beside other things, the logits."""
    if isinstance(output, Tensor):
        return None
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if not isinstance(found, Tensor):
        got = type(output).__name__
        raise UserError("a network must give logits", got=got, allowed="a tensor [B, classes], or what has `.logits`")
    return found


def _masked(padding: int, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Tells a network which tokens there are, where it asks for that."""
    return given, {**named, "attention_mask": (given[0] != padding).long()}


@lru_cache(maxsize=64)
def check_factory(model: Factory) -> None:
    """Builds a network and tries it on random inputs, before anything is trained.

    Raises:
        UserError: It cannot be built, does not take the task's inputs, or gives something else than logits.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        network = model.build().eval()
        if not any(True for _ in network.parameters()):
            raise UserError("a network without parameters cannot be trained", where=model.code.place)
        shape = TRIED, *model.shape
        x = torch.rand(shape) if model.vocabulary is None else torch.randint(model.vocabulary, shape)
        try:
            y = network(x)
        except UserError:
            raise
        except Exception as error:
            got = f"inputs {shape} of {x.dtype}"
            what = f"the network of {model.code.name} does not take the task's inputs: {told(error)}"
            raise UserError(what, where=model.code.place, got=got) from error
    if tuple(y.shape) != (TRIED, model.classes):
        raise UserError(
            "the network gives logits of another shape",
            where=f"{model.code.name} of {model.code.place}",
            got=tuple(y.shape),
            allowed=f"[B, classes], here {(TRIED, model.classes)}",
            mend="Let the function take `classes`, and give its last layer as many outputs.",
        )
