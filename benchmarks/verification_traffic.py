"""Whether a detector of made-up queries takes an owner who verifies a suspect for a thief.

    python benchmarks/verification_traffic.py --data-dir DATA --json verification_traffic.json

A suspect that is deployed behind PRADA is asked by honest clients, by a thief, and by owners who look for their mark
or fingerprint in it. What each of them asks is watched as one session: the least normality W, and after how many
queries there is an alarm. Dataset inference is asked as somebody outside would, image by image and walk by walk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import torch
from torch import Tensor

from guardclash.mechanisms.prada import PRADA, first_alarm, least
from guardclash.numerics.queries import Session
from guardclash.numerics.walks import BlindWalk
from guardclash.plan.deployed import Deployed
from guardclash.plan.plan import OtherSeed, Plan
from guardclash.plan.sources import Drawn
from guardclash.tasks.recipe import recipe
from guardclash.training.context import RunContext
from guardclash.training.train import train
from guardclash.training.trained import Trained

EXAMPLES, EPOCHS = 10_000, 10
SCALE = 4
"""Of the walks' noise: what the calibration of dataset inference chooses most often on MNIST (results/di-pairs)."""


class Models:
    """Trained plans of a seed, each once."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._known: dict[tuple[Plan, int], Trained] = {}

    def context(self, seed: int) -> RunContext:
        return RunContext(seed, self._folder, self)

    def __call__(self, plan: Plan | OtherSeed, seed: int) -> Trained:
        if (plan, seed) not in self._known:
            self._known[plan, seed] = train(plan, self.context(seed))
        return self._known[plan, seed]


def walked(trained: Trained, x: Tensor, y: Tensor, count: int) -> Tensor:
    """The first queries of dataset inference: walks from one image after another, one walk after another."""
    asked: list[Tensor] = []
    rng = torch.Generator().manual_seed(0)

    def label(batch: Tensor) -> Tensor:
        asked.append(batch)
        return trained.predict(batch).argmax(1)

    for image, right in zip(x.split(1), y.split(1), strict=True):
        for _ in range(3):
            BlindWalk(SCALE, walks=1)(label, image, right, rng, chunk=1)
        if sum(map(len, asked)) >= count:
            break
    return torch.cat(asked)[:count]


def sessions(trained: Trained, own: PRADA, context: RunContext, count: int) -> dict[str, Tensor]:
    """What clients and owners ask, by what they do."""
    plan = trained.plan
    others, members = own.others(plan), context.data(plan.task.source)
    foreign = plan.judged_by.neighbour_train.first(count)
    return {
        "honest client": context.data(Drawn(others, count, "traffic/honest")).x,
        "thief (Jacobian)": context.data(own.queries(Deployed(plan))).x[:count],
        "owner, dataset inference": walked(trained, members.x, members.y, count),
        "owner, DUCI": members.x[:count],
        "owner, watermark (other images)": context.data(foreign).x,
    }


def measure(seed: int, options: argparse.Namespace) -> dict[str, dict[str, float | None]]:
    """W and first alarm of each session."""
    plan = recipe("mnist", "reduced", examples=EXAMPLES, epochs=EPOCHS).plan()
    context = Models(options.data_dir).context(seed)
    own, trained = PRADA().bind(plan), context.trained(plan)
    delta = own.threshold(plan, trained.predict, context)
    found = {}
    for name, x in sessions(trained, own, context, options.queries).items():
        session: Session = own.session(x, trained.predict)
        found[name] = {"W": least(session, own.every), "first alarm": first_alarm(session, delta, own.every)}
        print(f"seed {seed}, δ {delta:.3f}, {name}: W {found[name]['W']:.3f}, alarm after {found[name]['first alarm']}")
    return {**found, "δ": {"W": delta, "first alarm": None}}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--data-dir", type=Path, required=True, help="folder of the data sets")
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--queries", type=int, default=2000, help="of each session")
    asked.add_argument("--json", type=Path)
    options = asked.parse_args()
    torch.set_num_threads(1)
    seeds = {seed: measure(seed, options) for seed in range(options.seeds)}
    machine = {"system": platform.platform(), "cores": os.cpu_count(), "torch": torch.__version__}
    told = {"examples": EXAMPLES, "epochs": EPOCHS, "queries": options.queries, "machine": machine, "seeds": seeds}
    if options.json:
        options.json.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
