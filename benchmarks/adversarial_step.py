"""One step of adversarial training: ours, the textbook loop and other libraries, side by side.

    python benchmarks/adversarial_step.py --json adversarial_step.json

Every variant has its own copy of the same network and does the same work on the same batch: so many PGD steps, then
one SGD update on the adversarial images. In each round every variant runs once, in turn, on one thread; what counts is
processor time, and of that the ratio within the round, so that other load on the machine and a changing clock strike
all alike. Peers that are not installed are skipped with a word.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # ART draws a progress bar around every batch

import torch
from torch import Tensor, nn
from torch.nn import functional

from guardclash.compose import compose
from guardclash.mechanisms.advtr import AdversarialTraining
from guardclash.numerics.attacks import has_bfloat16
from guardclash.plan.examples import Data
from guardclash.plan.plan import Plan
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.train import Run

Step = Callable[[Tensor, Tensor], None]
TEXTBOOK = "loss.backward(), train mode"
OURS = {"bfloat16": "ours, bfloat16 attack", "float32": "ours, float32 attack"}
GOALS = {"textbook": 0.35, "fastest peer": 0.5}
RADIUS, STEP_SIZE, RATE = 0.25, 0.025, 0.005


@dataclass(frozen=True)
class OneBatch(RunContext):
    """A context whose only data is one batch of random images: the time does not depend on what they show."""

    batch: tuple[Tensor, ...] = ()

    def data(self, source: object) -> Data:
        return Data(*self.batch)


def ours(plan: Plan, batch: tuple[Tensor, Tensor], steps: int, precision: str) -> Step:
    """The product's own step: the map, the gradient, the update."""
    mechanism = AdversarialTraining(steps=steps, radius=RADIUS, step=STEP_SIZE, precision=precision)
    run = Run(compose(plan, [mechanism]), OneBatch(0, Path(), batch=batch), torch.device("cpu"))
    return lambda x, y: run.step(run.plan.task, Data(x, y), 0) and None


def textbook(network: nn.Module, steps: int) -> Step:
    """What most published code does: gradients of all parameters in every attack step, the network in training mode."""
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9)

    def step(x: Tensor, y: Tensor) -> None:
        network.train()
        delta = (2 * torch.rand_like(x) - 1).mul_(RADIUS).requires_grad_()
        for _ in range(steps):
            functional.cross_entropy(network(x + delta), y).backward()
            moved = (delta + STEP_SIZE * delta.grad.sign()).clamp(-RADIUS, RADIUS)
            delta.data = (x + moved.detach()).clamp(0, 1) - x
            delta.grad.zero_()
        optimizer.zero_grad()
        functional.cross_entropy(network((x + delta).detach()), y).backward()
        optimizer.step()

    return step


def torchattacks_pgd(network: nn.Module, steps: int) -> Step:
    """torchattacks' PGD, which attacks in evaluation mode, and an update."""
    import torchattacks

    attack = torchattacks.PGD(network, eps=RADIUS, alpha=STEP_SIZE, steps=steps, random_start=True)
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9)

    def step(x: Tensor, y: Tensor) -> None:
        network.train()
        adversarial = attack(x, y)
        optimizer.zero_grad()
        functional.cross_entropy(network(adversarial), y).backward()
        optimizer.step()

    return step


def art_madry(network: nn.Module, steps: int) -> Step:
    """ART's AdversarialTrainerMadryPGD on one batch."""
    from art.defences.trainer import AdversarialTrainerMadryPGD
    from art.estimators.classification import PyTorchClassifier

    shape, classes = (1, 28, 28), 10
    optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9)
    loss = nn.CrossEntropyLoss()
    model = PyTorchClassifier(network, loss, shape, classes, optimizer, clip_values=(0.0, 1.0), device_type="cpu")

    def step(x: Tensor, y: Tensor) -> None:
        images, labels = x.numpy(), functional.one_hot(y, classes).numpy()
        trainer = AdversarialTrainerMadryPGD(model, 1, len(x), RADIUS, STEP_SIZE, steps, num_random_init=1)
        trainer.fit(images, labels)

    return step


def variants(plan: Plan, batch: tuple[Tensor, Tensor], steps: int) -> Iterator[tuple[str, Step]]:
    torch.manual_seed(0)
    network = plan.model.build()
    yield TEXTBOOK, textbook(deepcopy(network), steps)
    for precision, name in OURS.items():
        if precision == "bfloat16" and not has_bfloat16():
            print(f"skipped: {name}: this processor has no bfloat16 arithmetic", file=sys.stderr)
            continue
        yield name, ours(plan, batch, steps, precision)
    for package, name, make in (
        ("torchattacks", "torchattacks PGD", torchattacks_pgd),
        ("adversarial-robustness-toolbox", "ART AdversarialTrainerMadryPGD", art_madry),
    ):
        try:
            yield f"{name} {version(package)}", make(deepcopy(network), steps)
        except ImportError:
            print(f"skipped: {name}: not installed (pip install --no-deps {package})", file=sys.stderr)


def rounds(steps: dict[str, Step], batch: tuple[Tensor, Tensor], count: int) -> Iterator[dict[str, float]]:
    """Processor seconds by variant, one dictionary per round; a first round warms up and is left out."""
    names = list(steps)
    for number in range(count + 1):
        seconds = {}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.process_time()
            steps[name](*batch)
            seconds[name] = time.process_time() - start
        if number:
            yield seconds


def ratios(seconds: list[dict[str, float]], name: str, to: str) -> tuple[float, float, float]:
    """Median, least and largest ratio of two variants over the rounds."""
    found = [taken[name] / taken[to] for taken in seconds]
    return statistics.median(found), min(found), max(found)


def measure(label: str, plan: Plan, options: argparse.Namespace) -> dict[str, object]:
    generator = torch.Generator().manual_seed(0)
    batch = torch.rand(options.batch, 1, 28, 28, generator=generator), torch.arange(options.batch) % 10
    found = dict(variants(plan, batch, options.steps))
    seconds = list(rounds(found, batch, options.rounds))
    peers = [name for name in found if name != TEXTBOOK and name not in OURS.values()]
    fastest = min(peers, key=lambda name: ratios(seconds, name, TEXTBOOK)[0], default=None)
    print(f"\n{label}: {options.steps} attack steps, batch {options.batch}, {options.rounds} rounds; time over that of")
    print(f"{'':42}{'textbook loop':>24}{'fastest peer':>24}")
    rows = {}
    for name in found:
        rows[name] = {"seconds": [taken[name] for taken in seconds], "textbook": ratios(seconds, name, TEXTBOOK)}
        if fastest:
            rows[name]["fastest peer"] = ratios(seconds, name, fastest)
        cells = ("{:.2f} [{:.2f}, {:.2f}]".format(*rows[name][to]) if to in rows[name] else "-" for to in GOALS)
        print(f"{name:42}" + "".join(f"{cell:>24}" for cell in cells))
    print(f"{'goal':42}" + "".join(f"{f'<= {goal}':>24}" for goal in GOALS.values()))
    return {"model": label, "fastest peer": fastest, "variants": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=25, help="attack steps")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=["cnn4", "cnn4-small"])
    parser.add_argument("--json", type=Path, help="write all numbers here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure(name, recipe("mnist", "paper", model=name).plan(), options) for name in options.models]
    packages = ("guardclash", "torch", "torchattacks", "adversarial-robustness-toolbox")
    if options.json:
        content = {
            "batch": options.batch,
            "steps": options.steps,
            "rounds": options.rounds,
            "machine": platform.platform(terse=True),
            "packages": {name: installed(name) for name in packages},
            "results": results,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def installed(package: str) -> str | None:
    try:
        return version(package)
    except ImportError:
        return None


if __name__ == "__main__":
    main()
