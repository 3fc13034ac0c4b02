"""Did a model train on these images? The test of dataset inference on embeddings (Maini et al. 2021).

A small network, the distinguisher, learns on the owner's model to tell the embeddings of members, images that it
trained on, from those of others. A suspect is then tested on further members and others: if the distinguisher also
scores the suspect's others higher than its members, by Welch's test, it has seen the members too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import special
from torch import Tensor

from guardclash.errors import UserError, suggestion

LN10 = math.log(10)
LOG10_FLOOR = -324.0
"""Of a p-value that scores without any spread would make 0; no positive double is below 5e-324."""
ARRANGEMENTS = ("per_image", "published")
TERMS = 30
"""Of the continued fraction, which is used only deep in the tail, where 10 would do."""


def layout(features: Tensor, arrangement: str = "per_image") -> Tensor:
    """Embeddings as rows.

    Args:
        features: [N, K, 3], K distances of each image in three norms.
        arrangement: "per_image": row i has all that is known of image i, norm after norm. "published": what
            `features.T.reshape(N, 3 K)` of the published notebook gives, in which a row has one distance of each of 3 K
            consecutive images, and the same images come back in further rows. Rows for training and for testing are
            then not independent, and the test finds members where there are none; for replication only.

    Returns:
        [N, 3 K].
    """
    if features.dim() != 3:
        raise UserError("embeddings have three axes", got=tuple(features.shape), allowed="[N, K, norms]")
    if arrangement not in ARRANGEMENTS:
        mend = suggestion(arrangement, ARRANGEMENTS)
        raise UserError("unknown layout", where="arrangement", got=arrangement, mend=mend)
    axes = (0, 2, 1) if arrangement == "per_image" else (2, 1, 0)
    return features.permute(axes).reshape(len(features), -1)


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Brings the embeddings of all models to the units of the owner's members."""

    mean: Tensor
    """[3], of each norm."""
    std: Tensor
    """[3]; 1 where distances do not vary."""

    @classmethod
    def of(cls, members: Tensor) -> Normalisation:
        """From the embeddings [N, K, 3] of the owner's members on the owner's model."""
        std, mean = torch.std_mean(members, (0, 1))
        return cls(mean, torch.where(std > 0, std, 1))

    def __call__(self, features: Tensor) -> Tensor:
        """Embeddings [N, K, 3] of any model, in these units."""
        return (features - self.mean) / self.std


@dataclass(frozen=True, eq=False)
class Distinguisher:
    """Two layers, ReLU between, tanh at the end."""

    hidden_weight: Tensor
    hidden_bias: Tensor
    weight: Tensor
    bias: Tensor

    def score(self, rows: Tensor) -> Tensor:
        """From rows [N, features] to scores [N] in [-1, 1]: low for members, high for others."""
        hidden = torch.relu(torch.addmm(self.hidden_bias, rows.to(self.hidden_weight), self.hidden_weight.T))
        return torch.tanh(hidden @ self.weight + self.bias)


def separation_loss(members: Tensor, others: Tensor) -> Tensor:
    """-mean((2 y - 1) score) with y = 0 for members and 1 for others: -1 if perfect, 0 if all scores are the same.

    Args:
        members: Scores of members [N].
        others: Scores of others [M].
    """
    return (members.sum() - others.sum()) / (len(members) + len(others))


def train_distinguisher(
    members: Tensor, others: Tensor, rng: torch.Generator, hidden: int = 100, epochs: int = 1000, rate: float = 0.1
) -> Distinguisher:
    """Trains by plain gradient descent on all rows at once; in float32 on the CPU, where it takes a second.

    Args:
        members: Rows [N, features] of normalised embeddings; none of the images may be tested on.
        others: Rows [M, features].
        rng: For the weights it starts from.
        hidden: Units of the hidden layer.
        epochs: Steps.
        rate: Learning rate.

    Raises:
        UserError: If there are no rows, or they do not match or are not finite.
    """
    if not (len(members) and len(others)) or members.shape[1:] != others.shape[1:] or members.dim() != 2:
        raise UserError("rows of members and others are needed", got=(tuple(members.shape), tuple(others.shape)))
    rows = torch.cat([members, others]).detach().to("cpu", torch.float32)
    if not rows.isfinite().all():
        raise UserError("an embedding has a distance that is no number", got="nan or inf", allowed="finite distances")
    width = rows.shape[1]
    shapes = (((hidden, width), width), ((hidden,), width), ((hidden,), hidden), ((), hidden))
    weights = [(2 * torch.rand(shape, generator=rng) - 1) / math.sqrt(inputs) for shape, inputs in shapes]
    for _ in range(epochs):
        with torch.enable_grad():
            weights = [weight.requires_grad_() for weight in weights]
            scores = Distinguisher(*weights).score(rows)
            loss = separation_loss(scores[: len(members)], scores[len(members) :])
            gradients = torch.autograd.grad(loss, weights)
        weights = [weight.detach() - rate * gradient for weight, gradient in zip(weights, gradients, strict=True)]
    return Distinguisher(*weights)


class Evidence(NamedTuple):
    """How sure it is that a model trained on the members.

    Fields:
        full: log10 p of Welch's test on all scores.
        sampled: log10 of the harmonic mean of the p-values of many small samples, which is what the paper on dataset
            inference prints. It is no p-value: values of 0.03 are common where nothing is to be found.
        difference: Mean score of others minus that of members, in [-2, 2].
    """

    full: float
    sampled: float
    difference: float


def evidence(
    members: Tensor, others: Tensor, rng: torch.Generator, sample: int = 10, repetitions: int = 100
) -> Evidence:
    """Tests whether others score higher than members.

    Args:
        members: Scores [N] of members on the model under test.
        others: Scores [N] of others.
        rng: Chooses the samples.
        sample: m, scores of each group in a sample, drawn without replacement, at the same positions in both.
        repetitions: Samples.

    Raises:
        UserError: If the groups differ in size, or a sample does not fit into them.
    """
    if members.shape != others.shape or members.dim() != 1:
        raise UserError("as many others as members are needed", got=(tuple(members.shape), tuple(others.shape)))
    if not 2 <= sample <= len(members) or repetitions < 1:
        raise UserError("no such sample", got=(sample, repetitions), allowed=f"2 to {len(members)} scores, >= 1 times")
    low, high = (scores.detach().cpu().double().numpy() for scores in (members, others))
    positions = torch.rand(repetitions, len(low), generator=rng).argsort(1)[:, :sample].numpy()
    return Evidence(
        float(log10_welch(high, low)),
        log10_harmonic_mean(log10_welch(high[positions], low[positions])),
        float(high.mean() - low.mean()),
    )


def log10_welch(high: ArrayLike, low: ArrayLike) -> NDArray[np.float64]:
    """Log10 p of Welch's one-sided test, along the last axis: small if mean(high) > mean(low).

    At least `LOG10_FLOOR`. Without any spread in both groups, it is the floor if high is higher, 0 if it is lower, and
    that of p = 1/2 if they are equal.

    Raises:
        UserError: If a group has fewer than two values.
    """
    groups = [np.asarray(group, dtype=np.float64) for group in (high, low)]
    sizes = [group.shape[-1] if group.ndim else 0 for group in groups]
    if min(sizes) < 2:
        raise UserError("a test needs two values of each group", got=sizes, allowed=">= 2")
    # Counted from the first value, equal values have a variance of exactly 0, and nearly equal ones a precise one.
    shifted = [group - group[..., :1] for group in groups]
    first, second = (values.var(axis=-1, ddof=1) / size for values, size in zip(shifted, sizes, strict=True))
    difference = groups[0][..., 0] - groups[1][..., 0] + shifted[0].mean(-1) - shifted[1].mean(-1)
    total = first + second
    spread = total > 0
    safe = np.where(spread, total, 1)
    # As shares, because the squares of tiny variances would underflow.
    df = 1 / ((first / safe) ** 2 / (sizes[0] - 1) + (second / safe) ** 2 / (sizes[1] - 1) + ~spread)
    logs = log_survival(difference / np.sqrt(safe), df) / LN10
    without = np.select([difference > 0, difference < 0], [LOG10_FLOOR, 0.0], math.log10(0.5))
    return np.maximum(np.where(spread, logs, without), LOG10_FLOOR)


def log_survival(t: ArrayLike, df: ArrayLike) -> NDArray[np.float64]:
    """Ln P(T > t) of Student's t, (1/2) I_x(df / 2, 1 / 2) with x = df / (df + t^2) for t > 0.

    Finite also where the p-value itself would underflow, in which `scipy.stats.t.logsf` is -inf.

    Args:
        t: Finite.
        df: Degrees of freedom, > 0, finite.

    Returns:
        Natural logarithms, of the shape of t and df together.
    """
    t, df = np.broadcast_arrays(np.asarray(t, dtype=np.float64), np.asarray(df, dtype=np.float64))
    with np.errstate(divide="ignore"):
        ratio = 2 * np.log(np.abs(t)) - np.log(df)
    log_x, log_rest = -np.logaddexp(0, ratio), -np.logaddexp(0, -ratio)
    a, x, rest = df / 2, np.exp(log_x), np.exp(log_rest)
    # Each formula where its argument is precise: 1 - x from x, or the other way, loses digits.
    tail = np.where(x < 0.5, special.betainc(a, 0.5, x), special.betaincc(0.5, a, rest)) / 2
    tiny = tail < 1e-280
    with np.errstate(divide="ignore", invalid="ignore"):
        deep = a * log_x + log_rest / 2 - np.log(2 * a) - special.betaln(a, 0.5) - np.log(_fraction(a, x))
    upper = np.where(tiny, deep, np.log(np.where(tiny, 1, tail)))
    return np.where(t > 0, upper, np.log1p(-tail))


def _fraction(a: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """x^a (1 - x)^b / (a B(a, b)) over I_x(a, b) with b = 1/2, by its continued fraction (DLMF 8.17.22)."""
    value = np.ones_like(x)
    for n in range(TERMS, 0, -1):
        m = n // 2
        top = m * (0.5 - m) if n % 2 == 0 else -(a + m) * (a + 0.5 + m)
        value = 1 + top * x / ((a + n - 1) * (a + n)) / value
    return value


def log10_harmonic_mean(log10_p: ArrayLike) -> float:
    """Log10 of the harmonic mean of p-values, from their log10 [k].

    Raises:
        UserError: If there is none.
    """
    logs = np.asarray(log10_p, dtype=np.float64).ravel()
    if not len(logs):
        raise UserError("a mean needs at least one p-value", got=0, allowed=">= 1")
    return math.log10(len(logs)) - float(special.logsumexp(-LN10 * logs)) / LN10
