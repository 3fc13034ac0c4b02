"""MNIST as in the paper, with FashionMNIST as its neighbour."""

from __future__ import annotations

from guardclash.data.sets.mnist import MNIST
from guardclash.tasks.recipe import grey
from guardclash.tasks.task import Task

TASK = Task(MNIST, recipes=grey("mnist"), neighbour="fmnist", mark_radius=96)
