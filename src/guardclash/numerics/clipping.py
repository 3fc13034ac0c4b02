"""The sum of clipped per-example gradients, DP-SGD's inner step, without one gradient per example and layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.utils._pytree import tree_leaves

from guardclash.errors import UserError
from guardclash.numerics.clipping_layers import Factors, rule_of


class Clipped(NamedTuple):
    total: dict[str, Tensor]
    norms: Tensor


class _Parameter:
    def __init__(self, parameter):
        self.shape=parameter.shape; self.dense=None; self.factors=[]
    def add(self, g):
        if isinstance(g, Factors): self.factors.append(g)
        else: self.dense = g if self.dense is None else self.dense + g
    def _join(self):
        return Factors(*(torch.cat(p,1) if len(self.factors)>1 else p[0] for p in zip(*self.factors)))
    def norms(self):
        if self.factors and self.dense is not None:
            f=self._join(); self.factors=[]; self.add((f.left.mT@f.right).view(-1,*self.shape))
        if self.factors:
            f=self._join()
            return ((f.left@f.left.mT)*(f.right@f.right.mT)).sum((1,2))
        o=_order(self.dense)
        return torch.linalg.vector_norm(self.dense.permute(o).flatten(1),dim=1).square()
    def total(self,c):
        if self.factors:
            f=self._join()
            return (f.left*c[:,None,None]).flatten(0,1).mT@f.right.flatten(0,1)
        o=_order(self.dense); d=self.dense.permute(o)
        v=(c@d.flatten(1)).view(d.shape[1:])
        inv=[o.index(i)-1 for i in range(1,len(o))]
        return v.permute(inv)
def _order(t):
    return [0]+sorted(range(1,t.dim()),key=lambda i:-t.stride(i))

def clipped_sum(network, losses, clip):
    names={id(p):n for n,p in network.named_parameters() if p.requires_grad}
    book={id(p):_Parameter(p) for p in network.parameters() if p.requires_grad}
    calls={}
    roots=[]
    def record(module, forward, x):
        edge_in = get_gradient_edge(x) if x.requires_grad else None
        y=forward(x)
        def hook(g):
            for p,c in rule_of(module)(module,x,g):
                if p is not None: book[id(p)].add(c)
        y.register_hook(hook)
        if edge_in is None: roots.append(get_gradient_edge(y))
        return y
    mods=[m for m in network.modules() if rule_of(m)]
    for m in mods: m.forward=partial(record,m,m.forward)
    try: v=losses()
    finally:
        for m in mods: del m.forward
    torch.autograd.grad(v.sum(),roots)
    with torch.no_grad():
        norms=sum(b.norms() for b in book.values()).sqrt()
        c=(clip/norms).clamp(max=1)
        return Clipped({names[k]:b.total(c) for k,b in book.items()},norms)
