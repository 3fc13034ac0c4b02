"""Lengths of vectors whose squares float32 may not hold: gradients of confident networks, balls of any radius.

Squares of entries below 1e-19 underflow in float32, those above 1e19 overflow. Such vectors are brought to a largest
entry of 1 first. All others are computed as plainly as ever, to the last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHORT = 1e-12
"""Shorter vectors may have lost entries whose squares vanished."""


def lengths(vectors: Tensor) -> Tensor:
    """The l2 norm of each vector, of whatever size.

    Args:
        vectors: Floats [B, ...], all finite.

    Returns:
        [B, 1, ...], of the rank of the vectors; 0 of a vector of zeros, and inf only where no float of the kind is it.
    """
    found = _plain(vectors)
    odd = _odd(found)
    if not odd.any():
        return found
    scale = torch.where(odd, _largest(vectors), 1)
    return torch.where(odd, _plain(vectors / scale) * scale, found)


def tamed(vectors: Tensor, short: bool = True) -> Tensor:
    """The vectors, of which those whose squares are not to be trusted have a largest entry of 1.

    Args:
        vectors: Floats [B, ...]; an infinite entry counts as the largest number that there is.
        short: Whether those that are too short are among them, or only those that are too long.
    """
    found = _plain(vectors)
    odd = _odd(found) if short else found.isinf()
    if not odd.any():
        return vectors
    limit = torch.finfo(vectors.dtype).max
    finite = vectors.clamp(-limit, limit)
    return torch.where(odd, finite / _largest(finite), vectors)


def directions(vectors: Tensor) -> Tensor:
    """Each vector brought to length 1, [B, ...]; one of zeros stays as it is.

    Args:
        vectors: As for `tamed`.
    """
    unit = tamed(vectors)
    return unit / _plain(unit).clamp(min=SHORT)


def _plain(vectors: Tensor) -> Tensor:
    return vectors.flatten(1).norm(dim=1).view(-1, *(1,) * (vectors.dim() - 1))


def _odd(found: Tensor) -> Tensor:
    return (found < SHORT) | found.isinf()


def _largest(vectors: Tensor) -> Tensor:
    """The largest absolute entry of each vector, [B, 1, ...]; 1 of a vector of zeros."""
    found = vectors.flatten(1).abs().amax(1).view(-1, *(1,) * (vectors.dim() - 1))
    return torch.where(found > 0, found, 1)
