"""Answers that are wrong enough to mislead who learns from them: MAD and the reverse sigmoid."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

SUBSETS = 10
"""Classes up to which all vertices that keep the top class are tried; of more, sets grow class by class."""
AHEAD = 1e-5
"""By which the top class stays ahead in a vertex that keeps it."""
CLIP = 1e-9
"""Probabilities nearer to 0 or 1 have no finite logit."""


def last_layer(p: Tensor) -> Tensor:
    """Gradients of -ln p_k by the logits, for each class k: [N, K, K].

    What a thief's last layer learns of an answer y is p - y times its features, which cancel where only directions
    count.

    Args:
        p: The probabilities of a thief's model, [N, K].
    """
    return p.unsqueeze(1) - torch.eye(p.shape[1], dtype=p.dtype, device=p.device)


def deviation(gradients: Tensor, told: Tensor, answers: Tensor) -> Tensor:
    """How far the gradient that a thief is told points away from that of the true answer: 2 - 2 cos, in [0, 4].

    Args:
        gradients: By class, [N, K, d].
        told: Answers that a thief may be told, [N, V, K].
        answers: The true ones, [N, K].

    Returns:
        [N, V]; 0 where one of the two gradients is 0.
    """
    u = told @ gradients
    v = (answers.unsqueeze(1) @ gradients).expand_as(u)
    lengths = u.norm(dim=2) * v.norm(dim=2)
    cosine = (u * v).sum(2) / lengths.clamp(min=torch.finfo(u.dtype).tiny)
    return torch.where(lengths > 0, 2 - 2 * cosine, 0.0)


def vertices(top: Tensor, classes: int, keep: bool) -> Tensor:
    """Answers among which the worst is looked for, [N, V, K].

    Args:
        top: The most likely class of each true answer, int64 [N].
        classes: K; at most `SUBSETS` if `keep`.
        keep: Only those whose most likely class is that of the true answer: even ones over sets that hold it. Else
            the certain answers.
    """
    if not keep:
        return torch.eye(classes, dtype=torch.float64).expand(len(top), -1, -1)
    sets = torch.tensor(list(itertools.product((0.0, 1.0), repeat=classes - 1)), dtype=torch.float64)
    found = torch.ones(len(top), len(sets), classes, dtype=torch.float64)
    every = torch.arange(classes).expand(len(top), -1)
    others = every[every != top.unsqueeze(1)].view(len(top), classes - 1)
    found.scatter_(2, others.unsqueeze(1).expand(-1, len(sets), -1), sets.expand(len(top), -1, -1))
    return _ahead(found, top)


def _ahead(sets: Tensor, top: Tensor) -> Tensor:
    even = sets / sets.sum(2, keepdim=True)
    even[torch.arange(len(top)), :, top] += AHEAD
    return even / even.sum(2, keepdim=True)


def worst(gradients: Tensor, answers: Tensor, keep: bool) -> Tensor:
    """The vertex that misleads most, for each answer [N, K]: [N, K]."""
    top, classes = answers.argmax(1), answers.shape[1]
    if keep and classes > SUBSETS:
        return _grown(gradients, answers, top)
    told = vertices(top, classes, keep).to(answers)
    best = deviation(gradients, told, answers).argmax(1)
    return told[torch.arange(len(top)), best]


def _grown(gradients: Tensor, answers: Tensor, top: Tensor) -> Tensor:
    """The same over sets that grow from the top class by whichever class misleads most, until none does more."""
    rows, classes = torch.arange(len(top)), answers.shape[1]
    sets = torch.zeros_like(answers)
    sets[rows, top] = 1
    score = deviation(gradients, _ahead(sets.unsqueeze(1), top), answers)[:, 0]
    for _ in range(classes - 1):
        larger = (sets.unsqueeze(1) + torch.eye(classes).to(sets)).clamp(max=1)
        scores = deviation(gradients, _ahead(larger, top), answers)
        best = scores.argmax(1)
        better = scores[rows, best] > score
        if not better.any():
            break
        sets[better], score[better] = larger[rows, best][better], scores[rows, best][better]
    return _ahead(sets.unsqueeze(1), top)[:, 0]


def misleading(gradients: Tensor, answers: Tensor, budget: float, norm: int, keep: bool) -> Tensor:
    """MAD (Orekondy et al. 2020): answers moved towards the vertex that misleads most, as far as a budget goes.

    Args:
        gradients: Of a thief's model by class, [N, K, d], such as `last_layer` gives.
        answers: Probabilities, [N, K].
        budget: How far an answer may be moved.
        norm: 1 or 2: in which length.
        keep: Let the most likely class stay.

    Returns:
        Probabilities [N, K].
    """
    goal = worst(gradients, answers, keep)
    way = goal - answers
    share = (budget / (way.norm(p=norm, dim=1, keepdim=True) + 1e-7)).clamp(max=1)
    return answers + share * way


def reverse_sigmoid(answers: Tensor, magnitude: float, slope: float) -> Tensor:
    """Answers less a sigmoid of flattened logits, normalised (Lee et al. 2018): probabilities [N, K].

    Not monotone for slopes below 1: small probabilities change their order, and the least likely class may come out
    first.

    Args:
        answers: Probabilities, [N, K].
        magnitude: Beta.
        slope: Gamma; 1 only flattens.
    """
    known = answers.clamp(CLIP, 1 - CLIP)
    moved = known - magnitude * ((slope * known.logit()).sigmoid() - 0.5)
    moved = moved.clamp(0, 1)
    return moved / moved.sum(1, keepdim=True)


def keeping_top(changed: Tensor, answers: Tensor) -> Tensor:
    """Changed answers [N, K] whose most likely class is that of the true ones: the two change places where not."""
    rows = torch.arange(len(answers))
    own, first = answers.argmax(1), changed.argmax(1)
    found = changed.clone()
    found[rows, own], found[rows, first] = changed[rows, first], changed[rows, own]
    return found
