"""One gradient step of DP-SGD (forward, clip each example, add up): ours beside Opacus, time and memory.

    python benchmarks/dpsgd_step.py --json dpsgd_step.json

Every variant has its own copy of the same network and takes the same batch. First their clipped sums are compared, in
double precision. Then each variant runs once per round, in turn, on one thread; what counts is processor time, and of
that the ratio within the round, so that other load on the machine and a changing clock strike all alike. Last, each
variant runs in a process of its own for its peak memory above that of the network and the batch. Noise is left out: it
is the same for all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import Tensor, nn
from torch.nn import functional

from guardclash.numerics.clipping import clipped_sum
from guardclash.plan.models import CNN, ResNet

Step = Callable[[Tensor, Tensor], list[Tensor]]
CLIP = 1.0
GOAL = 0.5
LAST = ", channels last"
NO_NOISE = {"noise_multiplier": 0.0, "max_grad_norm": CLIP, "expected_batch_size": None, "loss_reduction": "sum"}


def cnn4() -> tuple[nn.Module, tuple[int, ...]]:
    """The network of the paper for MNIST with group norms, and the shape of an image."""
    shape = (1, 28, 28)
    return CNN(shape, 10, (0.5,), (0.5,), dropout=0.0, norm="group").build(), shape


def resnet20() -> tuple[nn.Module, tuple[int, ...]]:
    """The network of the paper for CIFAR-10 with group norms, and the shape of an image."""
    shape = (3, 32, 32)
    return ResNet(shape, 10, (0.5,) * 3, (0.5,) * 3, norm="group").build(), shape


MODELS = {"cnn4": cnn4, "resnet20": resnet20}


def plain(network: nn.Module) -> Step:
    """Without privacy: the gradient of the sum of the losses."""

    def step(x: Tensor, y: Tensor) -> list[Tensor]:
        losses = functional.cross_entropy(network(x), y, reduction="sum")
        return list(torch.autograd.grad(losses, list(network.parameters())))

    return step


def ours(network: nn.Module) -> Step:
    def step(x: Tensor, y: Tensor) -> list[Tensor]:
        found = clipped_sum(network, lambda: functional.cross_entropy(network(x), y, reduction="none"), CLIP)
        return list(found.total.values())

    return step


def opacus_samples(network: nn.Module, functorch: bool) -> Step:
    """Opacus with per-example gradients, from hooks or from torch.func."""
    wrapped = GradSampleModule(network, loss_reduction="sum", force_functorch=functorch)
    optimizer = DPOptimizer(sgd(wrapped), **NO_NOISE)

    def step(x: Tensor, y: Tensor) -> list[Tensor]:
        functional.cross_entropy(wrapped(x), y, reduction="sum").backward()
        optimizer.clip_and_accumulate()
        found = [p.summed_grad for p in optimizer.params]
        optimizer.zero_grad(set_to_none=True)
        return found

    return step


def opacus_ghost(network: nn.Module) -> Step:
    """Opacus with ghost clipping: norms first, then a second backward pass of the weighted losses."""
    wrapped = GradSampleModuleFastGradientClipping(network, max_grad_norm=CLIP, loss_reduction="sum")
    optimizer = DPOptimizerFastGradientClipping(sgd(wrapped), **NO_NOISE)
    criterion = DPLossFastGradientClipping(wrapped, optimizer, nn.CrossEntropyLoss(reduction="sum"), "sum")

    def step(x: Tensor, y: Tensor) -> list[Tensor]:
        criterion(wrapped(x), y).backward()
        optimizer.accumulate()
        found = [p.summed_grad for p in optimizer.params]
        optimizer.zero_grad(set_to_none=True)
        return found

    return step


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), 0.1)


PLAIN, OURS = "plain step", "ours"
PEERS = {
    "Opacus hooks": lambda network: opacus_samples(network, functorch=False),
    "Opacus functorch": lambda network: opacus_samples(network, functorch=True),
    "Opacus ghost": opacus_ghost,
}
METHODS = {PLAIN: plain, OURS: ours, **PEERS}
VARIANTS = [*METHODS, *(name + LAST for name in METHODS)]


def prepared(model: str, batch: int, variant: str, dtype: torch.dtype = torch.float32) -> Callable[[], list[Tensor]]:
    """A step of a variant on a batch that is the same for all variants."""
    torch.manual_seed(0)
    network, shape = MODELS[model]()
    images, labels = torch.rand(batch, *shape).to(dtype), torch.arange(batch) % 10
    network = deepcopy(network).to(dtype)
    if variant.endswith(LAST):
        network, images = (x.to(memory_format=torch.channels_last) for x in (network, images))
    step = METHODS[variant.removesuffix(LAST)](network)
    return lambda: step(images, labels)


def difference(model: str, variant: str, batch: int = 8) -> float:
    """Largest relative difference of a parameter's clipped sum from that of Opacus's hooks, in double precision."""
    wanted, found = (prepared(model, batch, name, torch.float64)() for name in ("Opacus hooks", variant))
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, wanted, strict=True))


def seconds_of(steps: dict[str, Callable[[], list[Tensor]]], rounds: int) -> list[dict[str, float]]:
    """Processor seconds by variant, one dictionary per round; a first round warms up and is left out."""
    names, taken = list(steps), []
    for number in range(rounds + 1):
        seconds = {}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = time.process_time()
            steps[name]()
            seconds[name] = time.process_time() - start
        taken.append(seconds)
    return taken[1:]


def ratios(seconds: list[dict[str, float]], name: str, to: str) -> tuple[float, float, float]:
    """Median, least and largest ratio of two variants over the rounds."""
    found = [taken[name] / taken[to] for taken in seconds]
    return statistics.median(found), min(found), max(found)


def peak_megabytes(model: str, batch: int, variant: str) -> float:
    """Peak memory of three steps above that before them, in a process of its own."""
    command = [sys.executable, __file__, "--peak-of", model, str(batch), variant]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def print_peak(model: str, batch: int, variant: str) -> None:
    prepared(model, 2, variant)()  # what libraries set up once does not count
    step = prepared(model, batch, variant)
    before = resident_peak(reset=True)
    for _ in range(3):
        step()
    print(resident_peak() - before)


def resident_peak(reset: bool = False) -> float:
    """Peak resident memory in megabytes; on Linux since the last reset."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would begin with the memory of the process that started this one
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        return (
            next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 2**10
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (20 if sys.platform == "darwin" else 10)


def measure(model: str, batch: int, options: argparse.Namespace) -> dict[str, object]:
    differences = {name: difference(model, name) for name in VARIANTS if not name.startswith(PLAIN)}
    right = [name for name, value in differences.items() if value < 1e-6]  # Opacus adds 1e-6 to each norm
    names = [name for name in VARIANTS if name.startswith(PLAIN) or name in right]
    seconds = seconds_of({name: prepared(model, batch, name) for name in names}, options.rounds)
    medians = {name: statistics.median(taken[name] for taken in seconds) for name in names}
    fastest = min((name for name in right if name.startswith("Opacus")), key=lambda name: medians[name])
    print(f"\n{model}, batch {batch}, {options.rounds} rounds; ratio within the round: median [least, largest]")
    print(f"{'':32}{'ms':>8}{'over ' + PLAIN:>24}{'over ' + fastest:>28}{'peak MB':>10}{'difference':>12}", flush=True)
    rows: dict[str, object] = {}
    for name in VARIANTS:
        row: dict[str, object] = {"difference": differences.get(name)}
        cells = ["-", "-", "-", "-"]
        if name in names:
            to_plain, to_fastest = ratios(seconds, name, PLAIN), ratios(seconds, name, fastest)
            peak = None if options.no_memory else peak_megabytes(model, batch, name)
            row |= {"seconds": [taken[name] for taken in seconds], "over plain": to_plain}
            row |= {"over fastest Opacus": to_fastest, "peak megabytes": peak}
            cells = [
                f"{1e3 * medians[name]:.0f}",
                *("{:.2f} [{:.2f}, {:.2f}]".format(*r) for r in (to_plain, to_fastest)),
            ]
            cells.append("-" if peak is None else f"{peak:.0f}")
        else:
            cells[0] = "WRONG"
        cells.append(f"{row['difference']:.0e}" if name in differences else "-")
        print(f"{name:32}{cells[0]:>8}{cells[1]:>24}{cells[2]:>28}{cells[3]:>10}{cells[4]:>12}", flush=True)
        rows[name] = row
    print(f"{'goal for ours':32}{'':32}{f'<= {GOAL}':>28}")
    return {"model": model, "batch": batch, "fastest Opacus": fastest, "variants": rows}


def machine() -> dict[str, object]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor()
    return {
        "processor": processor,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("guardclash", "torch", "opacus")},
        "threads": torch.get_num_threads(),
        "malloc": {key: value for key, value in os.environ.items() if key.startswith("MALLOC_")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="small batches, two rounds: a trial, not a measurement")
    parser.add_argument("--cases", nargs="+", default=["cnn4:64", "cnn4:256", "resnet20:64"], help="MODEL:BATCH")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peak memory")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--peak-of", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.peak_of:
        print_peak(options.peak_of[0], int(options.peak_of[1]), options.peak_of[2])
        return
    if options.quick:
        options.rounds, options.cases = 2, ["cnn4:8", "resnet20:8"]
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    cases = [(model, int(batch)) for model, batch in (case.split(":") for case in options.cases)]
    results = [measure(model, batch, options) for model, batch in cases]
    if options.json:
        content = {"rounds": options.rounds, "clip": CLIP, "machine": machine(), "results": results}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
