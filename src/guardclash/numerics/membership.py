"""Who was trained on: scores of membership by shadow models, and what they are worth.

Everything starts from margins, phi = ln p - ln(1 - p) of the probability p of an example's class. They are taken from
logits, and averages of p are formed so that neither p near 1 nor p near 0 loses its digits: members of a confident
model differ in 1 - p = 1e-9.

Sources: Carlini et al. 2022 (LiRA), Zarifzadeh et al. 2024 (RMIA), Kairouz et al. 2015 (bounds by privacy).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from torch import Tensor

from guardclash.checks import within
from guardclash.errors import UserError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
VARIANCES = ("fixed", "pooled", "image", "shrunk")


def margins(logits: ArrayLike, labels: ArrayLike) -> Floats:
    """Margins phi = ln p - ln(1 - p) of each example's class, [N].

    Args:
        logits: [N, classes], of two classes at least.
        labels: Class indices [N].
    """
    values, own = np.asarray(logits, np.float64), np.asarray(labels)[:, None]
    others = values.copy()
    np.put_along_axis(others, own, -np.inf, 1)
    return np.take_along_axis(values, own, 1)[:, 0] - special.logsumexp(others, axis=1)


def margins_of(answering: Iterable[Callable[[Tensor], Tensor]], x: Tensor, y: Tensor) -> Floats | None:
    """Margins [models, N] of some models; None where they say nothing of a label, or no number.

    Args:
        answering: From inputs to logits [N, classes], one for each model.
        x: Inputs [N, ...].
        y: Class indices [N].
    """
    found = []
    for predict in answering:
        logits = predict(x).double()
        if logits.shape[1] < 2 or logits.shape[1] <= int(y.max()) or not logits.isfinite().all():
            return None
        found.append(margins(logits.numpy(), y.numpy()))
    return np.stack(found)


def log_confidence(phi: ArrayLike) -> Floats:
    """Logarithm of p, of margins."""
    return -np.logaddexp(0.0, -np.asarray(phi, np.float64))


def mean_log_confidence(phi: Floats, weights: ArrayLike, even: float = 0.0) -> Floats:
    """Logarithm of a weighted mean of probabilities, [N].

    Args:
        phi: Margins of models [S, N].
        weights: [S, N] or [S, 1], 0 or above; those of an example sum up to 1 - even.
        even: Weight of the probability 1, which counts as one more model.
    """
    shares = np.broadcast_to(np.asarray(weights, np.float64), phi.shape)
    missing = (shares * special.expit(-phi)).sum(0)  # 1 - the mean
    with np.errstate(divide="ignore"):  # of weights that are 0
        terms = np.log(shares) + log_confidence(phi)
        rest = np.full((1, phi.shape[1]), np.log(even))
    small = special.logsumexp(np.concatenate([terms, rest]), axis=0)
    return np.where(missing < 0.5, np.log1p(-np.minimum(missing, 0.5)), small)


def halves(members: Mask) -> Floats:
    """Weights [S, N] by which models that have seen an example, and those that have not, count as much together.

    Args:
        members: Which model has seen which example, [S, N]; of each example there is one of both kinds.

    Raises:
        UserError: If some example lacks models of a kind.
    """
    seen = members.sum(0)
    if not ((seen > 0) & (seen < len(members))).all():
        got, allowed = "examples that all or none have seen", "one model of each kind for every example"
        raise UserError("shadow models do not tell members from others", where="members", got=got, allowed=allowed)
    return np.where(members, 0.5 / seen, 0.5 / (len(members) - seen))


def rmia_online(target: Floats, shadows: Floats, members: Mask) -> Floats:
    """Logarithm of p_target(x) / p(x), [N], where p(x) is the mean of the models with x and of those without it.

    Args:
        target: Margins of the attacked model, [N].
        shadows: Margins of the shadow models, [S, N].
        members: Which shadow model has seen which example, [S, N].
    """
    return log_confidence(target) - mean_log_confidence(shadows, halves(members))


def rmia_population(target: Floats, shadows: Floats) -> Floats:
    """Logarithm of p_target(z) / p(z), [Z], of examples that no model has seen; shapes as for `rmia_online`."""
    return log_confidence(target) - mean_log_confidence(shadows, 1 / len(shadows))


def rmia_offline(target: Floats, shadows: Floats, a: float = 0.3, others: Mask | None = None) -> Floats:
    """Logarithm of p_target(x) / p(x), [N], by models without x alone: p(x) = ((1 + a) mean p + (1 - a)) / 2.

    Args:
        target: Margins of the attacked model, [N].
        shadows: Margins of models [S, N].
        a: From 0 to 1: how much lower p is without x, a line through (1, 1).
        others: Which models have not seen which example, [S, N]; None: none has.
    """
    within("rmia", ">= 0, <= 1", a=a)
    out = np.ones(shadows.shape, bool) if others is None else others
    return log_confidence(target) - mean_log_confidence(shadows, (1 + a) / 2 * out / out.sum(0), (1 - a) / 2)


def out_from_in(p: ArrayLike, a: float) -> Floats:
    """What p would be without x, by a model with x: the line of `rmia_offline` read backwards, at least 0."""
    return np.maximum((np.asarray(p, np.float64) + a - 1) / a, 0)


def rmia(x: Floats, z: Floats, gamma: float = 1.0) -> Floats:
    """The score of RMIA, [N] in [0, 1]: the share of a population whose ratio that of x exceeds by a factor.

    As it is monotone in the ratio, the population decides on ties and on nothing else of a ranking.

    Args:
        x: ln of the ratios of examples, [N].
        z: ln of the ratios of the population, [Z].
        gamma: The factor, strictly exceeded.
    """
    return np.searchsorted(np.sort(z), x - math.log(gamma), side="left") / len(z)


def spreads(shadows: Floats, members: Mask, how: str = "fixed", freedom: float = 4.0, prior: float = 1.0) -> Floats:
    """Variances of margins with and without each example, [2, N].

    Args:
        shadows: Margins [S, N].
        members: Which model has seen which example, [S, N].
        how: "image": of each example by itself (16 models of each kind at least; fewer destroy the tail); "pooled": the
            mean of both of an example; "shrunk": towards `prior`, which counts as much as `freedom` models; "fixed":
            one for all examples, that of all margins with and of all without.
        freedom: For "shrunk".
        prior: For "shrunk".
    """
    if how == "fixed":
        return np.stack([np.full(shadows.shape[1], shadows[chosen].var()) for chosen in (members, ~members)])
    own = np.stack([_moments(shadows, chosen)[1] for chosen in (members, ~members)])
    if how == "pooled":
        return np.broadcast_to(own.mean(0), own.shape)
    if how == "shrunk":
        counts = np.stack([members.sum(0), (~members).sum(0)])
        return (freedom * prior + counts * own) / (freedom + counts)
    if how != "image":
        raise UserError("unknown choice", where="spreads.how", got=how, allowed=", ".join(VARIANCES))
    return own


def _moments(shadows: Floats, chosen: Mask) -> tuple[Floats, Floats]:
    """Means and variances [N] of the margins that are chosen, dividing by their number."""
    count = chosen.sum(0)
    mean = np.where(chosen, shadows, 0).sum(0) / count
    return mean, (np.where(chosen, shadows - mean, 0) ** 2).sum(0) / count


def lira_online(target: Floats, shadows: Floats, members: Mask, how: str = "fixed") -> Floats:
    """The log likelihood ratio of the target's margins with against without each example, [N].

    Arguments are those of `rmia_online`; `how` that of `spreads`.
    """
    means = np.stack([_moments(shadows, chosen)[0] for chosen in (members, ~members)])
    variances = spreads(shadows, members, how)
    densities = -((target - means) ** 2) / (2 * variances) - np.log(variances) / 2
    return np.asarray(densities[0] - densities[1])


def lira_offline(target: Floats, shadows: Floats, members: Mask) -> Floats:
    """How far the target's margins are above those without each example, in standard deviations of all these, [N].

    One-sided: a margin below is no sign of membership. `scipy.special.ndtr` of it is the probability of the
    publication; the ranking is the same, without ties where it rounds to 1.
    """
    spread = shadows[~members].std()
    return (target - _moments(shadows, ~members)[0]) / (spread if spread > 0 else 1.0)


def auc(members: ArrayLike, others: ArrayLike) -> float:
    """The probability that a member's score is above that of another example, ties counting half."""
    first, second = np.asarray(members), np.asarray(others)
    ranks = stats.rankdata(np.concatenate([first, second]))[: len(first)]
    return float((ranks.sum() - len(first) * (len(first) + 1) / 2) / (len(first) * len(second)))


def caught(members: ArrayLike, others: ArrayLike, rate: float, ties: ArrayLike) -> int:
    """How many members score above a threshold that at most a share of the others exceeds.

    The threshold is the (k + 1)-th largest score of the others with k = floor(rate * others), never one in between.

    Args:
        members: Scores [M].
        others: Scores [N].
        rate: The share, in [0, 1).
        ties: [M + N] random numbers that rank equal scores.
    """
    within("caught", ">= 0, < 1", rate=rate)
    first, second = np.asarray(members), np.asarray(others)
    order = np.lexsort((np.asarray(ties), np.concatenate([first, second])))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    exceeding = math.floor(rate * len(second) + 1e-9)  # 0.29 * 100 is 28.999...
    threshold = np.sort(place[len(first) :])[::-1][exceeding]
    return int((place[: len(first)] > threshold).sum())


def clopper_pearson(hits: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share, from 0 to 1."""
    tail = (1 - level) / 2
    low = stats.beta.ppf(tail, hits, of - hits + 1) if hits else 0.0
    high = stats.beta.ppf(1 - tail, hits + 1, of - hits) if hits < of else 1.0
    return float(low), float(high)


def most_caught(rate: float, epsilon: float, delta: float) -> float:
    """The true positive rate that no attack exceeds at a false positive rate, under (epsilon, delta) privacy."""
    # The second bound is the first of the attack that says the opposite.
    return max(0.0, min(1.0, math.exp(epsilon) * rate + delta, 1 - math.exp(-epsilon) * (1 - delta - rate)))


def most_advantage(epsilon: float, delta: float) -> float:
    """The largest difference of true and false positive rate under (epsilon, delta) privacy."""
    return (math.expm1(epsilon) + 2 * delta) / (math.exp(epsilon) + 1)


def least_epsilon(hit_rate: float, rate: float, delta: float) -> float:
    """The least epsilon under which an attack may have such true and false positive rates, by the bound on the first.

    Rates are taken for exact: put in the ends of intervals for a statement with a level.
    """
    return max(0.0, math.log((hit_rate - delta) / rate)) if hit_rate > delta else 0.0
