"""A task as a study names it, before anything of it is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Options = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class OwnTask:
    """A task of somebody's own; each field is a key of `[[tasks]]` in a study file."""

    name: str
    data: str
    """A `.npz` file, a folder of images, a `.csv` or `.parquet` file, or "module:function"."""
    test: str | None = None
    """Of a table, the file of the test rows; None: some of the training rows are set apart."""
    model: str | None = None
    """ "file.py:function", or one of our networks by name; None: the smallest of ours for such inputs."""
    options: Options = ()
    """What the model's function is called with beside classes and shape."""
    weights: str | None = None
    """A safetensors file of weights to start from."""
    utility: str | None = None
    """What every combination is judged by beside its protections; None: what tasks usually are."""
    groups: str | None = None
    """Of a table, the column that says the group of a row; of a `.npz`, what its arrays of groups are called."""
    target: str | None = None
    """Of a table, the column that is to be told."""
    categories: tuple[str, ...] = ()
    """Of a table, columns that are categories although they hold numbers."""
    size: int | tuple[int, int] | None = None
    """Of a folder, the side of the images, or height and width, to which they are cut and scaled."""
    vocabulary: int | None = None
    """Of tokens, how many there are; None: up to the largest one."""
    neighbour: str | None = None
    """A built-in data set of inputs of the same form, which triggers are drawn from; None: `x_ood`, or made ones."""
    mean: tuple[float, ...] = ()
    """Per channel, what our networks subtract from images; 0.5 by default."""
    std: tuple[float, ...] = ()
    """Per channel, what they divide by; 0.5 by default."""
    training: Options = ()
    """How the unprotected model is trained: fields of `Recipe`."""
    folder: Path = field(default=Path(), compare=False)
    """Which files are relative to: that of the study."""
