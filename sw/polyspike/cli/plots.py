"""Figures of the command, and how they are saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from polyspike.convert.analysis import LayerAnalysis
from polyspike.spec import InputError

from .describe import counts_text

_BLUE, _GREY, _RED = "#1565c0", "#90a4ae", "#c62828"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the file's name ends in; the same figure gives the same file.

    Raises InputError when that is no format of figures.
    """
    known = figure.canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".")
    if kind not in known:
        raise InputError(
            f"{path}: a figure's file name ends in one of {', '.join('.' + each for each in sorted(known))}"
        )
    with matplotlib.rc_context({"svg.hashsalt": "polyspike", "svg.fonttype": "none"}):
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if kind == "svg" else None)


def draw_sweeps(layers: Sequence[LayerAnalysis], method: str) -> Figure:
    """Draw what each layer's counts keep, over ranges; `method` is what chose the range that is marked."""
    across = min(4, max(1, len(layers)))
    down = max(1, -(-len(layers) // across))
    figure = Figure(figsize=(3.2 * across, 2.5 * down), layout="constrained")
    grid: Any = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(layers) :]:
        axes.set_visible(False)
    for axes, layer in zip(grid.flat, layers, strict=False):
        axes.set_title(f"{layer.name}   {counts_text(layer.chosen.counts)}", fontsize=9)
        axes.tick_params(labelsize=8)
        if not layer.largest:
            continue
        axes.plot(layer.sweep.shares, layer.sweep.after, color=_GREY, label="entropy of the counts")
        axes.plot(layer.sweep.shares, layer.sweep.passed, color=_BLUE, label="information passed")
        axes.axvline(layer.chosen.range / layer.largest, color=_RED, linestyle="--", label=f"chosen ({method})")
        axes.set_ylim(0)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    figure.supxlabel("range λ, as a share of the one that clips nothing", fontsize=9)
    figure.supylabel("bits an activation", fontsize=9)
    return figure
