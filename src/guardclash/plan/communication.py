"""What a training would cost two parties who compute it on shares: bytes and rounds, by a cost model.

Measured with CrypTen 0.4.1, two parties, as its communicator counts both; the triples that products use up are a
dealer's and are not counted. Sums, and products with what is public, cost nothing. Rounds are added up, layer after
layer, as if nothing ran at once but the elements of a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from guardclash.numerics.attacks import PGD
from guardclash.plan.identity import nested
from guardclash.plan.plan import Plan, Stream
from guardclash.plan.structure import TRIED, Operation, operations


class Cost(NamedTuple):
    """What is sent."""

    bytes: float = 0.0
    rounds: float = 0.0

    def plus(self, *others: Cost) -> Cost:
        """One after the other."""
        return Cost(*(sum(values) for values in zip(self, *others, strict=True)))

    def times(self, count: float) -> Cost:
        """So often."""
        return Cost(self.bytes * count, self.rounds * count)

    def __str__(self) -> str:
        return f"{self.bytes / 1e9:.3g} GB and {self.rounds:.0f} rounds"


# By element, where nothing else is said: bytes and rounds.
PRODUCT, SQUARE = Cost(32, 1), Cost(16, 1)
MATRIX = Cost(16, 1)
"""Of a product of matrices or a convolution, by number in both factors, whatever the size of what comes out."""
COMPARISON, RELU = Cost(432, 8), Cost(464, 9)
LARGER = Cost(5920 / 3, 23)
"""Of two numbers in a max pooling, by pair and by level: 2 x 2 places have three pairs and two levels."""
RECIPROCAL, INVERSE_ROOT = Cost(1104, 38), Cost(368, 17)
SOFTMAX = Cost(1659.2, 94)
"""CrypTen's, by class, measured for ten."""

PRODUCTS = ("conv1d", "conv2d", "conv3d", "linear")
NORMS = ("batch_norm", "group_norm", "layer_norm")


def _of(each: Cost, count: float) -> Cost:
    """So many elements at once."""
    return Cost(each.bytes * count, each.rounds if count else 0)


class _Sizes(NamedTuple):
    """How many numbers an operation has to do with, in a batch."""

    given: float
    weights: float
    made: float


def _sizes(operation: Operation, batch: int) -> _Sizes:
    given, *weights = (math.prod(shape) for shape in operation.inputs)
    scale = batch / TRIED
    return _Sizes(given * scale, weights[0] if weights else 0, math.prod(operation.output) * scale)


def _forward(operation: Operation, batch: int) -> Cost:
    given, weights, made = _sizes(operation, batch)
    if operation.name in PRODUCTS:
        return _of(MATRIX, given + weights)
    if operation.name == "relu":
        return _of(RELU, made)
    if operation.name == "square":
        return _of(SQUARE, made)
    if operation.name.startswith(("max_pool", "adaptive_max_pool")):
        places = given / made if made else 1
        levels = math.ceil(math.log2(places)) if places > 1 else 0
        return Cost(LARGER.bytes * made * (places - 1), LARGER.rounds * levels)
    if operation.name in NORMS:
        # Squares for the variance, then the root's product and the scale's.
        roots = operation.output[1] if operation.name == "batch_norm" else batch * operation.output[1]
        return _of(SQUARE, made).plus(_of(PRODUCT, made), _of(PRODUCT, made), _of(INVERSE_ROOT, roots))
    return Cost()


def _backward(operation: Operation, batch: int) -> Cost:
    """The gradient of what an operation was given, of which parameters are no part."""
    given, weights, made = _sizes(operation, batch)
    if operation.name in PRODUCTS:
        return _of(MATRIX, made + weights)
    if operation.name in ("relu", "square"):
        return _of(PRODUCT, made)
    if operation.name.startswith(("max_pool", "adaptive_max_pool")):
        return _of(PRODUCT, given)
    return _of(PRODUCT, 4 * made) if operation.name in NORMS else Cost()


def _pass(ran: Sequence[Operation], batch: int, softmax: Cost, weights: bool) -> Cost:
    """One pass forwards and back: to the weights, or to the inputs alone, as an attack's is."""
    first = next((at for at, one in enumerate(ran) if one.name in PRODUCTS), 0)
    # Nothing before the first weights needs a gradient in the former case.
    back = [_backward(one, batch) for one in (ran[first + 1 :] if weights else ran)]
    sizes = [_sizes(one, batch) for one in ran if one.name in PRODUCTS and weights]
    own = [Cost(MATRIX.bytes * (size.given + size.made)) for size in sizes]
    return Cost().plus(*(_forward(one, batch) for one in ran), _of(softmax, batch), *back, *own)


def _bounding(ran: Sequence[Operation], batch: int) -> Cost:
    """Norms of single examples by book-keeping, and the factors that clip them."""
    squares = 0.0
    for one in ran:
        given, weights, made = _sizes(one, batch)
        if one.name in PRODUCTS:
            squares += given + made if one.name == "linear" else batch * weights
    return _of(SQUARE, squares).plus(_of(INVERSE_ROOT, batch), _of(COMPARISON, batch), _of(PRODUCT, batch))


def step_cost(plan: Plan, stream: Stream, softmax: str = "crypten") -> Cost:
    """One step of a stream: its losses' passes, those of attacks in it, and the bound on examples where there is one.

    Args:
        plan: The training; its layers are those after all rewrites.
        stream: One of its streams.
        softmax: "secureml": by comparisons and one division; else CrypTen's.
    """
    ran = operations(plan.model, plan.all_rewrites)
    batch, classes = stream.sampler.batch_size, plan.model.classes
    taken = _of(SOFTMAX, classes)
    if softmax == "secureml":
        taken = _of(RELU, classes).plus(RECIPROCAL, _of(PRODUCT, classes))
    whole, attack = (_pass(ran, batch, taken, weights) for weights in (True, False))
    found = whole
    for one in nested(stream.maps, PGD):
        found = found.plus(attack.times(one.steps))
    for one in nested(stream.objectives, PGD):  # whose own loss is one of the neighbours as well
        found = found.plus(attack.times(one.steps), whole)
    return found.plus(_bounding(ran, batch)) if getattr(stream.gradient, "per_example", False) else found


def training_cost(plan: Plan, softmax: str = "crypten") -> Cost:
    """The whole training, all streams of all epochs."""
    steps = ((stream, stream.steps_per_epoch() * plan.epochs) for stream in plan.streams)
    return Cost().plus(*(step_cost(plan, stream, softmax).times(count) for stream, count in steps))
