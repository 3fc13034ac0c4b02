"""Embedding images for dataset inference: blind walks in bfloat16 and float32, and how many forward passes they take.

    python benchmarks/dataset_inference.py --json dataset_inference.json

The images are blurred noise of ten classes, on which the network is trained for a moment, so that walks end at many
lengths. How far they get depends on data and training, so passes per second say more than images per second. In each
round every variant runs once, in turn, on one core; what counts is processor time. The passes of the published scheme
are computed, not run: of a walk of K steps, at most 50, 3 + 2 K.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from guardclash.numerics.attacks import attacked, has_bfloat16
from guardclash.numerics.walks import BlindWalk, Embedding
from guardclash.tasks.recipe import recipe

VARIANTS = ("bfloat16", "float32")


def labels(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: network(x.contiguous(memory_format=torch.channels_last)).argmax(1)


def embed(network: nn.Module, walk: BlindWalk, x: Tensor, y: Tensor, precision: str) -> Embedding:
    with attacked(network, precision=precision):
        return walk(labels(network), x, y, torch.Generator().manual_seed(0))


def blurred(count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images of ten classes, each around one pattern of its own."""
    patterns = torch.rand(10, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    y = torch.randint(10, (count,), generator=rng)
    x = patterns[y] + torch.randn(count, 1, 7, 7, generator=rng) / 2
    return nn.functional.interpolate(x, size=28, mode="bilinear").clamp(0, 1), y


def trained(name: str, rng: torch.Generator) -> nn.Module:
    torch.manual_seed(0)
    network = recipe("mnist", "paper", model=name).plan().model.build().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters())
    for _ in range(40):
        x, y = blurred(100, rng)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    return network.eval()


def passes(embedding: Embedding, walk: BlindWalk) -> dict[str, int]:
    """Images through the network: ours, the least that the walks need, and the published scheme's."""
    needed = embedding.lengths.clamp(max=walk.steps)
    return {"ours": embedding.forwards, "needed": int(needed.sum()), "published": int((3 + 2 * needed).sum())}


def measure(name: str, options: argparse.Namespace) -> dict[str, object]:
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(0)
    network, walk = trained(name, rng), BlindWalk(options.scale)
    x, y = blurred(options.images, rng)
    variants = VARIANTS if has_bfloat16() else VARIANTS[1:]
    taken: dict[str, list[float]] = {variant: [] for variant in variants}
    found: dict[str, Embedding] = {}
    for variant in variants:
        embed(network, walk, x[:2], y[:2], variant)  # warms up
    for _ in range(options.rounds):
        for variant in variants:
            start = time.process_time()
            found[variant] = embed(network, walk, x, y, variant)
            taken[variant].append(time.process_time() - start)
    exact = found["float32"]
    print(f"\n{name}: {options.images} images, noise scale {walk.scale:g}, {options.rounds} rounds, one core")
    rows = {}
    for variant, embedding in found.items():
        seconds = statistics.median(taken[variant])
        rows[variant] = {
            "seconds": taken[variant],
            "images per second": options.images / seconds,
            "forwards per second": embedding.forwards / seconds,
            "forwards": passes(embedding, walk),
            "censored": embedding.censored,
            "mean length": embedding.lengths.double().mean().item(),
            "equal lengths": (embedding.lengths == exact.lengths).double().mean().item(),
        }
        print(
            "{:10}{images per second:.2f} images/s, {forwards per second:.0f} passes/s, mean length {mean length:.1f}, "
            "{equal lengths:.1%} as in float32".format(variant, **rows[variant])
        )
    counted = passes(exact, walk)
    shares = ", ".join(f"{share:.0%}" for share in exact.censored)
    print("passes: {ours} ours, {needed} needed, {published} published; censored: ".format(**counted) + shares)
    return {"model": name, "variants": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--scale", type=float, default=8.0, help="of the noise")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["cnn4-small", "cnn4"])
    parser.add_argument("--json", type=Path, help="write all numbers here")
    options = parser.parse_args()
    results = [measure(name, options) for name in options.models]
    if options.json:
        machine = {"system": platform.platform(terse=True), "cores": os.cpu_count(), "torch": torch.__version__}
        content = {"images": options.images, "rounds": options.rounds, "machine": machine, "results": results}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
