"""Queries that a thief makes up: each known one, moved the way its own substitute learns most from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from guardclash.data.space import Images, movable
from guardclash.numerics.attacks import attacked
from guardclash.numerics.layout import at_a_time, fast
from guardclash.plan.adversarial import cross_entropies
from guardclash.plan.deployed import Deployed
from guardclash.plan.examples import Data
from guardclash.plan.plan import Context, Plan, Source
from guardclash.plan.sources import Answer, Answers


@dataclass(frozen=True)
class JacobianRound:
    """All queries of a round of Jacobian-based augmentation (Papernot et al. 2017), and after them each one moved.

    The move is a step along the sign of the gradient of the loss of the substitute by the answer. The substitute says
    which the former queries were, so that each round holds the one before once.
    """

    substitute: Plan
    """The training on the answers to the queries of the round before."""
    step: float
    """In the units of the inputs; below 0 it goes down the loss."""

    @property
    def size(self) -> int:
        """Twice as many as the round before."""
        return 2 * self.substitute.task.source.size

    def load(self, context: Context) -> Data:
        """The queries, first the former ones in their order, with the answers to these as labels of both."""
        known = context.data(self.substitute.task.source)
        network, space = context.trained(self.substitute).network, self.substitute.judged_by.space
        free = movable(space)
        device = next(network.parameters()).device
        moved = []
        with attacked(network):
            for some in torch.arange(len(known.x)).split(at_a_time(known.x, 1000)):
                point = fast(known.x[some].to(device)).requires_grad_()
                losses = cross_entropies(network, point, known.y[some].to(device), self.substitute.several_labels)
                (gradient,) = torch.autograd.grad(losses.sum(), point)
                direction = gradient.sign().cpu()
                if free is not None:
                    direction[..., free:] = 0
                moved.append(known.x[some] + self.step * direction)
        x = torch.cat([known.x, *moved])
        return Data(x.clamp(0, 1) if isinstance(space, Images) else x, torch.cat([known.y, known.y]))


def substitutes(
    images: Source, victim: Deployed, thief: Plan, rounds: int, step: float, turns: int = 5, answers: Answer = "labels"
) -> Plan:
    """The training of the last substitute of a thief who grows its own queries; it holds those before it.

    Args:
        images: What it begins with.
        victim: Who is asked, in every round about all queries so far.
        thief: Its training, whatever its examples.
        rounds: How often queries are doubled.
        step: How far each is moved.
        turns: After so many rounds the sign of the step changes, and again.
        answers: As of `guardclash.plan.sources.Answers`.
    """
    plan = _on(Answers(images, victim, answers, thief.several_labels), thief)
    for number in range(rounds):
        queries = JacobianRound(plan, turned(step, number, turns))
        plan = _on(Answers(queries, victim, answers, thief.several_labels), thief)
    return plan


def turned(step: float, number: int, turns: int = 5) -> float:
    """The step of a round, the first of which is number 0: its sign changes after so many rounds."""
    return step * (-1) ** (number // turns)


def _on(source: Source, thief: Plan) -> Plan:
    return replace(thief, streams=(replace(thief.task, source=source),))
