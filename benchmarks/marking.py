"""Marking radioactive images: ours in bfloat16 and float32, and one image at a time, side by side.

    python benchmarks/marking.py --json marking.json

Every variant marks images of the same random batch by the same untrained network, with the same iterations. In each
round every variant runs once, in turn; what counts is processor time per image, and of that the ratio within the round.
The wall-clock time of a whole run of 1,000 images on all cores is given at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from guardclash.numerics.attacks import attacked, has_bfloat16
from guardclash.numerics.features import classifier, penultimate
from guardclash.numerics.radioactive import Marking, carriers
from guardclash.tasks.recipe import recipe

ONE_BY_ONE = "one image at a time, float32"


def mark(network: nn.Module, x: Tensor, precision: str, iterations: int, batch: int) -> float:
    """What a training does when it marks its images; how far their features moved along the carriers, on average."""
    rng = torch.Generator().manual_seed(0)
    directions = carriers(10, classifier(network).in_features, rng)[torch.arange(len(x)) % 10]
    marked = []
    features = penultimate(network)
    with attacked(network, precision=precision):
        for images, carrier in zip(x.split(batch), directions.split(batch), strict=True):
            marked.append(Marking(64, iterations)(features, images, carrier, torch.tensor([0.5]), rng))
    with torch.no_grad():
        moved = features(torch.cat(marked)[:500]) - features(x[:500])
    return (moved * directions[:500]).sum(1).mean().item()


def measure(name: str, options: argparse.Namespace) -> dict[str, object]:
    torch.manual_seed(0)
    network = recipe("mnist", "paper", model=name).plan().model.build().eval().to(memory_format=torch.channels_last)
    x = (torch.rand(1000, 1, 28, 28) * 255).round().div(255)
    variants = {"float32": (500, 500), ONE_BY_ONE: (10, 1)}
    if has_bfloat16():
        variants = {"bfloat16": (500, 500), **variants}
    taken: dict[str, list[float]] = {variant: [] for variant in variants}
    moved = {}
    torch.set_num_threads(1)
    for number in range(options.rounds + 1):
        for variant, (count, batch) in variants.items():
            start = time.process_time()
            precision = "bfloat16" if variant == "bfloat16" else "float32"
            moved[variant] = mark(network, x[:count], precision, 10, batch)
            if number:  # the first round warms up
                taken[variant].append((time.process_time() - start) / count / 10)
    torch.set_num_threads(os.cpu_count() or 1)
    start = time.perf_counter()
    mark(network, x, "auto", options.iterations, 500)
    whole = time.perf_counter() - start
    print(f"\n{name}: processor time per image and iteration over that of {ONE_BY_ONE}, {options.rounds} rounds")
    rows = {}
    for variant, seconds in taken.items():
        ratios = [one / other for one, other in zip(seconds, taken[ONE_BY_ONE], strict=True)]
        spread = [statistics.median(ratios), min(ratios), max(ratios)]
        rows[variant] = {"seconds": seconds, "ratio": spread, "moved along the carriers": moved[variant]}
        print("{:32}{:.3f} [{:.3f}, {:.3f}], moved {:.4f}".format(variant, *spread, moved[variant]))
    print(
        f"1,000 images, {options.iterations} iterations, {os.cpu_count()} cores: {whole:.1f} s, "
        f"{1000 / whole:.0f} images/s"
    )
    return {
        "model": name,
        "variants": rows,
        "whole": {"images": 1000, "seconds": whole, "images per second": 1000 / whole},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", default=["cnn4-small", "cnn4"])
    parser.add_argument("--json", type=Path, help="write all numbers here")
    options = parser.parse_args()
    results = [measure(name, options) for name in options.models]
    if options.json:
        machine = {"system": platform.platform(terse=True), "cores": os.cpu_count(), "torch": torch.__version__}
        content = {"iterations": options.iterations, "rounds": options.rounds, "machine": machine, "results": results}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
