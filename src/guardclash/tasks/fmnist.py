"""FashionMNIST as in the paper, with MNIST as its neighbour."""

from __future__ import annotations

from guardclash.data.sets.fmnist import FASHION_MNIST
from guardclash.tasks.recipe import grey
from guardclash.tasks.task import Task

TASK = Task(FASHION_MNIST, recipes=grey("fmnist"), neighbour="mnist", mark_radius=25)
