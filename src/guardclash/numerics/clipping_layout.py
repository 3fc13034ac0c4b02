"""Which rows of what a layer sees belong to which example: found out once for a network, by trying.

Most layers get one row for each example. Position embeddings get rows that all examples share; layers inside of windows
get several rows for each example; others may get the rows of all examples in any order. Shapes do not tell them apart
(a text of 64 places in a batch of 64), so the network is asked: it runs on two examples, on two others and on three,
and what changes with which example says whose row it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._pytree import tree_leaves, tree_map

from guardclash.numerics.inexact import exactly

Key = tuple[str, int]
"""A layer's name, and how many calls of it come before in one call of the network."""
Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments."""
ELSEWHERE = -1
"""A tensor that depends on the examples, which lie along another axis than the first, or not in order."""


class Rows(NamedTuple):
    """Of one call of a layer, for each tensor among its arguments: rows for each example; 0: it is shared by all."""

    each: tuple[int, ...]

    @property
    def shared(self) -> bool:
        """Whether the call depends on no example."""
        return not any(self.each)

    @property
    def known(self) -> bool:
        """Whether it is known whose rows they are."""
        return ELSEWHERE not in self.each

    @property
    def most(self) -> int:
        """Rows for each example of what is not shared."""
        return max(self.each, default=1)


Layout = Mapping[Key, Rows]
_known: WeakKeyDictionary[nn.Module, Layout] = WeakKeyDictionary()


def units_of(module: nn.Module, whole: Collection[str] = (), name: str = "") -> Iterator[tuple[nn.Module, str]]:
    """The outermost modules that hold trainable parameters of their own or are to be taken as one, with their names.

    Parameters in a parameter list or behind a parametrization count as the module's own.
    """
    lists = [child for child in module.children() if isinstance(child, nn.ParameterList | nn.ParameterDict)]
    own = [p for holder in (module, *lists) for p in holder.parameters(recurse=False)]
    wrapped = list(module.parameters()) if is_parametrized(module) or name in whole else []
    if any(p.requires_grad for p in own + wrapped):
        yield module, name
    else:
        for key, child in module.named_children():
            yield from units_of(child, whole, f"{name}.{key}" if name else key)


def layout_of(network: nn.Module, units: Mapping[nn.Module, str], call: Call) -> Layout:
    """Whose rows the layers of a network see; found out when it is first asked for, and then remembered.

    Args:
        network: The network; chance and buffers are as before.
        units: The layers that are asked about, with their names.
        call: Arguments of a call of the network, with one or more examples along the first axis of the first tensor
            and of each that is as long.

    Returns:
        By layer and number of its call; nothing where the network cannot be tried.
    """
    if network not in _known:
        _known[network] = _tried(network, units, call)
    return _known[network]


def forget(network: nn.Module) -> None:
    """Lets a network be tried again: its layers are taken together in other ways."""
    _known.pop(network, None)


def _tried(network: nn.Module, units: Mapping[nn.Module, str], call: Call) -> Layout:
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}

    def restore() -> None:
        for name, buffer in network.named_buffers():
            if not torch.equal(buffer, buffers[name]):
                buffer.copy_(buffers[name])

    def seen(batch: Call) -> dict[Key, list[Tensor]]:
        restore()  # spectral norm moves with every call
        return _seen(network, units, batch, chance)

    try:
        with torch.no_grad(), exactly(), torch.random.fork_rng(devices=_devices(network)):
            chance = torch.random.get_rng_state()
            alike, other, three = map(seen, _batches(call))
    except Exception:  # it takes no such batches: nothing is known, and what cannot be followed is refused where it is
        return {}
    finally:
        restore()
    if not alike.keys() == other.keys() == three.keys():
        return {}
    return {key: _rows(alike[key], other[key], three[key]) for key in alike}


def _devices(network: nn.Module) -> list[torch.device]:
    return list({one.device for one in network.parameters() if one.device.type == "cuda"})


def _batches(call: Call) -> Iterable[Call]:
    """One example twice, it and another one, and it three times."""
    size = next(len(leaf) for leaf in tree_leaves(call) if isinstance(leaf, Tensor) and leaf.dim())

    def batch(chosen: list[int], change: Callable[[Tensor], Tensor] = lambda x: x) -> Call:
        def taken(leaf: Any) -> Any:
            batched = isinstance(leaf, Tensor) and leaf.dim() > 0 and len(leaf) == size
            return change(leaf[chosen]) if batched else leaf

        args, kwargs = tree_map(taken, call)
        return args, kwargs

    yield batch([0, 0])
    yield batch([0, size - 1]) if size > 1 else batch([0, 0], _second_changed)
    yield batch([0, 0, 0])


def _second_changed(x: Tensor) -> Tensor:
    """Two equal examples, of which the second becomes another one."""
    changed = x.clone()
    changed[1] = x[1].flatten().flip(0).view_as(x[1])
    return changed


def _seen(network: nn.Module, units: Mapping[nn.Module, str], call: Call, chance: Tensor) -> dict[Key, list[Tensor]]:
    """The tensors that each call of each layer gets, whatever is drawn being drawn alike."""
    torch.random.set_rng_state(chance)
    found: dict[Key, list[Tensor]] = {}
    inside: list[nn.Module] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not inside:
            number = sum(name == units[module] for name, _ in found)
            leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            found[units[module], number] = [leaf.clone() for leaf in leaves]
        inside.append(module)

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        inside.pop()

    with ExitStack() as stack:
        for module in units:
            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(after, always_call=True).remove)
        args, kwargs = call
        network(*args, **kwargs)
    return found


def _rows(alike: list[Tensor], other: list[Tensor], three: list[Tensor]) -> Rows:
    if not len(alike) == len(other) == len(three):
        return Rows((ELSEWHERE,))
    return Rows(tuple(map(_rows_each, alike, other, three)))


def _rows_each(alike: Tensor, other: Tensor, three: Tensor) -> int:
    """Rows for each example of one tensor; 0: none, `ELSEWHERE`: nobody can tell."""
    if alike.shape != other.shape or not alike.dim():
        return ELSEWHERE
    changed = (alike != other).flatten(1).any(1) if alike.dim() > 1 else alike != other
    if alike.shape == three.shape:
        return ELSEWHERE if changed.any() else 0
    each, odd = divmod(len(alike), 2)
    grows = not odd and len(three) == 3 * each and three.shape[1:] == alike.shape[1:]
    # With the second example only its own rows may change, which are the last ones where they are together.
    return each if grows and not changed[:each].any() else ELSEWHERE
