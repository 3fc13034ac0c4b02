"""Figures by name, as the content of files. Needs matplotlib, not torch.

A figure is a function that lays out what a study says; `draw` makes a file of it, byte for byte the same
for the same records. Texts of studies stay text: neither mathematics nor markup is read into them.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from guardclash.errors import UserError, suggestion
from guardclash.reporting.figure_parts.style import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from guardclash.reporting.findings import Findings

FIGURES = "metrics", "matrix", "sweep", "pareto", "distances", "embeddings"
"""As the command line names them: each a function in the module of its name in figure_parts/. That is imported when it
is drawn, for every command lists these. They are made under `STYLE`."""

OF_SEVERAL = ("matrix",)
"""Those that show several studies at once."""

METADATA: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
"""The forms of a figure. Files that name the time of their making would never be equal."""

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so that a layout is the same on every machine
    "font.size": 7,
    "text.parse_math": False,  # a name may hold two dollars
    "axes.linewidth": 0.5,
    "xtick.major.width": 0.5,
    "xtick.major.size": 2,
    "xtick.major.pad": 2,
    "svg.fonttype": "none",  # text that can be searched, copied and read aloud, at half the size of outlines
    "svg.hashsalt": "guardclash",  # without one, ids in the file are random
    "pdf.fonttype": 42,  # TrueType; many journals refuse matplotlib's Type 3
}
PIXELS = 60_000
"""No side of a png may have more; longer figures get coarser."""


def form_of(path: Path) -> str:
    """The form of a figure, by the suffix of its file.

    Raises:
        UserError: It is none of .svg, .pdf and .png.
    """
    form = path.suffix.lower().removeprefix(".")
    if form not in METADATA:
        allowed = ", ".join(f".{known}" for known in METADATA)
        raise UserError("no such form of a figure", where=path, got=path.suffix, allowed=allowed)
    return form


def figure_named(name: str) -> Callable[..., Figure]:
    """The figure of that name.

    Raises:
        UserError: There is none.
    """
    if name not in FIGURES:
        raise UserError("no such figure", got=name, mend=suggestion(name, FIGURES))
    module = import_module(f"guardclash.reporting.figure_parts.{name}")
    return cast("Callable[..., Figure]", getattr(module, name))


def draw(name: str, found: Findings, form: str, *others: Findings) -> bytes:
    """A figure as a file's content.

    Args:
        name: One of `FIGURES`.
        found: What the study says.
        form: "svg", "pdf" or "png".
        others: What further studies say, for a figure that shows several at once.

    Raises:
        UserError: There is no such figure, or no matplotlib; or the figure is of one study.
    """
    make = figure_named(name)
    if others and name not in OF_SEVERAL:
        raise UserError("this figure is of one study", got=name, allowed=f"of several: {', '.join(OF_SEVERAL)}")
    try:
        import matplotlib
    except ImportError as error:
        mend = "Install it: pip install matplotlib, or guardclash with its extra: guardclash[figures]."
        raise UserError("figures need matplotlib, which is not installed", mend=mend) from error
    content = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():  # who draws from Python keeps their own settings
        warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks is drawn as a box
        matplotlib.rcdefaults()  # whatever a user's matplotlibrc says
        matplotlib.rcParams.update(STYLE)
        figure = make(found, *others)
        dpi = min(200.0, PIXELS / max(figure.get_size_inches()))
        metadata = {**METADATA[form], "Title": plain(f"{found.study.name}: {name}")}
        figure.savefig(content, format=form, metadata=metadata, dpi=dpi)
    return _few_colours(content, dpi) if form == "png" else content.getvalue()


def _few_colours(png: io.BytesIO, dpi: float) -> bytes:
    """The same picture in 128 colours: a third of the size and no difference to see."""
    from PIL import Image

    content = io.BytesIO()
    method = Image.Quantize.MAXCOVERAGE  # keeps colours that are rare
    picture = Image.open(png).convert("RGB").quantize(128, method, dither=Image.Dither.NONE)
    picture.save(content, format="png", optimize=True, dpi=(dpi, dpi))
    return content.getvalue()
