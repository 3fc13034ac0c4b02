"""Audits private training: what canaries in real trainings show of epsilon, noise, clipping and sampling.

    python tools/privacy_audit.py --json results/benchmarks/privacy_audit.json

A canary is an example whose clipped gradient has full norm in a direction of its own (the Dirac canaries of Nasr et al.
2023). Many stand in one training (Steinke et al. 2023), each there or not by a coin of its own; one that is not there
has weight 0, which is a gradient of 0. What is looked at is what the optimizer gets in each step of the trainer's own
loop, on plans that `compose` made. docs/design/privacy.md says what this shows and what it cannot.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from privacy_canaries import QUIET, People, observed, quiet, training
from privacy_faults import FAULTS, OF_SAMPLING, planted
from scipy.optimize import brentq
from scipy.stats import beta, chi2, norm

from guardclash.mechanisms.dpsgd import DPSGD
from guardclash.plan.gradients import ClippedNoisy
from guardclash.plan.plan import Plan
from guardclash.plan.samplers import Poisson


class Estimate(NamedTuple):
    """A number that trainings show, with an interval."""

    name: str
    value: float
    low: float
    high: float
    claimed: float

    @property
    def holds(self) -> bool:
        """Whether what is claimed lies within the interval."""
        return bool(self.low <= self.claimed <= self.high)


@dataclass(frozen=True)
class Audit:
    """What trainings show, and the bound on epsilon that follows."""

    rate: float
    epsilon: float
    """Claimed, as is the rate."""
    delta: float
    risk: float
    epsilon_at_least: float
    canaries: int
    """In all trainings together."""
    steps: int
    estimates: tuple[Estimate, ...]

    def complaints(self) -> list[str]:
        """What does not fit the claims."""
        wrong = [estimate.name for estimate in self.estimates if not estimate.holds]
        return wrong + (["epsilon"] if self.epsilon_at_least > self.epsilon else [])


def audit(
    seeds: Iterable[int], canaries: int = 1000, batches: int = 10, mechanism: DPSGD | None = None, risk: float = 1e-6
) -> Audit:
    """Audits DP-SGD by trainings of its own: one for each seed, and as many with hardly any noise.

    Args:
        seeds: Of the trainings.
        canaries: In each of them.
        batches: Per epoch, so that an example joins one with a probability of 1 / batches.
        mechanism: What is audited; None: as by default.
        risk: Chance that one interval, or the bound, is wrong about a sound training.
    """
    mechanism = mechanism or DPSGD()
    plans = {seed: training(canaries, seed, mechanism, batches) for seed in seeds}
    plan = next(iter(plans.values()))
    rule, rate = plan.task.gradient, Poisson(plan.task.sampler.batch_size).rate(plan.task.source.size)
    assert isinstance(rule, ClippedNoisy)
    there = np.concatenate([_there(plan) for plan in plans.values()])
    noisy = np.concatenate([observed(plan, seed) for seed, plan in plans.items()])
    hushed = np.concatenate([observed(quiet(plan), seed) for seed, plan in plans.items()])
    score, delta = scores(noisy, rate, rule.noise_multiplier), mechanism.delta
    return Audit(
        rate,
        mechanism.spent(plan)["task"],
        delta,
        risk,
        epsilon_at_least(score, there, delta, risk, gaussian=rate == 1),
        *noisy.shape,
        (*of_noise(noisy[~there], rule.noise_multiplier, risk), *of_joins(hushed[there], rate, risk)),
    )


def _there(plan: Plan) -> np.ndarray:
    source = plan.task.source
    assert isinstance(source, People)
    return source.there().numpy()


def of_noise(absent: np.ndarray, noise: float, risk: float) -> Iterator[Estimate]:
    """What canaries that are not there show, [canaries, steps]: noise alone."""
    count, steps = absent.shape
    yield spread("noise multiplier", absent, noise, risk)
    # Sums over steps vary as much as independent noise does, or more.
    sums = (absent.sum(1) ** 2).sum() / max(float((absent**2).sum()) / count, 1e-300)
    ends = [sums / chi2.ppf(share, count) for share in (0.5, 1 - risk / 2, risk / 2)]
    yield Estimate("correlation of steps", *((end - 1) / (steps - 1) for end in ends), 0.0)


def of_joins(there: np.ndarray, rate: float, risk: float) -> Iterator[Estimate]:
    """What canaries that are there show under hardly any noise: how often they join, and with which weight."""
    joined = there > 0.5
    times, draws = int(joined.sum()), joined.size
    yield Estimate("rate of joining", times / draws, *_share(times, draws, risk / 2), rate)
    if rate < 1:  # else everybody joins every time
        yield _scatter(joined.sum(1), joined.shape[1], rate, risk)
    values = there[joined] if times else np.full(1, np.nan)
    reach = norm.isf(risk / 2) * QUIET / math.sqrt(len(values))
    yield Estimate("clipped gradient, of the bound", values.mean(), values.mean() - reach, values.mean() + reach, 1.0)
    yield spread("noise around it", values - 1, QUIET, risk)


def _scatter(times: np.ndarray, steps: int, rate: float, risk: float) -> Estimate:
    """The variance of how often each canary joined, by the fourth moment of binomials; its mean is nearly normal."""
    variance = steps * rate * (1 - rate)
    found = ((times - steps * rate) ** 2).mean() / variance
    reach = norm.isf(risk / 2) * math.sqrt((2 + (1 - 6 * rate * (1 - rate)) / variance) / len(times))
    return Estimate("variance of joins, of binomial", found, found - reach, found + reach, 1.0)


def spread(name: str, values: np.ndarray, claimed: float, risk: float) -> Estimate:
    """A standard deviation around 0."""
    total, size = float((values**2).sum()), values.size
    ends = [math.sqrt(total / degrees) for degrees in (size, chi2.isf(risk / 2, size), chi2.ppf(risk / 2, size))]
    return Estimate(name, *ends, claimed)


def scores(found: np.ndarray, rate: float, noise: float) -> np.ndarray:
    """The log likelihood ratio of being there, [canaries]: no other score tells better."""
    gains = (2 * found - 1) / (2 * noise**2)
    mixed = gains if rate == 1 else np.logaddexp(math.log1p(-rate), math.log(rate) + gains)
    return mixed.sum(1)


def epsilon_at_least(score: np.ndarray, there: np.ndarray, delta: float, risk: float, gaussian: bool) -> float:
    """A lower bound on epsilon: who tells canaries apart this well contradicts any smaller one.

    The threshold is chosen on every second canary. Of the others, the rates of error have Clopper-Pearson bounds; each
    may be wrong with risk / 4, as two inequalities of two rates are looked at.

    Args:
        score: [canaries], larger where somebody seems to be there.
        there: Who is, bool [canaries].
        delta: That of the claim.
        risk: Chance that the bound is above the true epsilon.
        gaussian: Presume Gaussian noise of some size on everybody's sum: then one point of the curve of errors gives
            the whole curve, and the bound is far closer (Nasr et al. 2023). Otherwise nothing is presumed.
    """
    chosen, kept = ((score[part::2], there[part::2]) for part in (0, 1))
    thresholds = np.quantile(chosen[0], np.linspace(0.002, 0.998, 100))
    best = thresholds[np.argmax(_told_apart(*chosen, thresholds, delta, risk, gaussian))]
    [least] = _told_apart(*kept, best[None], delta, risk, gaussian)
    return _of_shift(float(least), delta) if gaussian else max(0.0, float(least))


def _told_apart(
    score: np.ndarray, there: np.ndarray, thresholds: np.ndarray, delta: float, risk: float, gaussian: bool
) -> np.ndarray:
    """At each threshold, how far apart a Gaussian would have to be shifted, at least; or epsilon, of any noise."""
    members, others = (np.sort(score[who]) for who in (there, ~there))
    hits, alarms = (len(those) - np.searchsorted(those, thresholds, side="right") for those in (members, others))
    missed, cleared = len(members) - hits, len(others) - alarms
    ways = (hits, len(members), alarms, len(others)), (cleared, len(others), missed, len(members))
    found = []
    for right, of_right, wrong, of_wrong in ways:
        least, most = _share(right, of_right, risk / 4)[0], _share(wrong, of_wrong, risk / 4)[1]
        with np.errstate(divide="ignore"):
            apart = norm.ppf(least) - norm.ppf(most) if gaussian else np.log(np.maximum(least - delta, 0) / most)
        found.append(apart)
    return np.maximum(*found)


def _share(times: int | np.ndarray, draws: int, risk: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on probabilities, each wrong with at most this risk (Clopper and Pearson 1934)."""
    times = np.asarray(times)
    low = np.where(times > 0, beta.ppf(risk, np.maximum(times, 1), draws - times + 1), 0.0)
    return low, np.where(times < draws, beta.isf(risk, times + 1, np.maximum(draws - times, 1)), 1.0)


def _of_shift(shift: float, delta: float) -> float:
    """Epsilon of Gaussians of deviation 1 this far apart (Balle and Wang 2018, theorem 8)."""

    def excess(epsilon: float) -> float:
        below = norm.logcdf(-shift / 2 - epsilon / shift)
        return float(norm.cdf(shift / 2 - epsilon / shift) - math.exp(epsilon + below) - delta)

    if shift <= 0 or excess(0.0) <= 0:
        return 0.0
    return brentq(excess, 0.0, 500.0) if shift < 25 else math.inf


# --- the long form ----------------------------------------------------------------------------------------------------


def told(title: str, found: Audit) -> dict[str, object]:
    """An audit as a record, printed as a line of a table."""
    complaints = found.complaints()
    cells = (title, f"{found.rate:.3g}", f"{found.epsilon:.3g}", f"{found.epsilon_at_least:.3g}")
    print("|", " | ".join((*cells, ", ".join(complaints) or "nothing")), "|", flush=True)
    estimates = [{**one._asdict(), "holds": one.holds} for one in found.estimates]
    return {"audited": title, **vars(found), "estimates": estimates, "complaints": complaints}


def main() -> None:
    """Audits the sound training at length and each planted fault shortly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--json", type=Path, help="where to write the record")
    parser.add_argument("--seeds", type=int, default=200, help="trainings of each kind")
    parser.add_argument("--canaries", type=int, default=1000, help="in each training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    print("| audited | rate | ε claimed | ε at least | does not fit |\n|---|---|---|---|---|")
    records = [told("as it is", audit(range(options.seeds), options.canaries, batches)) for batches in (1, 10)]
    for fault in FAULTS:
        for batches in (10,) if fault in OF_SAMPLING else (1, 10):
            with planted(fault):
                records.append(told(fault, audit(range(5), options.canaries, batches)))
    if options.json:
        made = {"cpu_seconds": round(time.process_time() - start), "torch": torch.__version__, "audits": records}
        options.json.write_text(json.dumps(made, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
