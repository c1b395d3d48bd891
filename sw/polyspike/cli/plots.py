"""Figures of the command, and how they are saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from polyspike.spec import InputError

from .describe import counts_text

if TYPE_CHECKING:
    from polyspike.convert.analysis import LayerAnalysis
    from polyspike.explore import Candidate

_BLUE, _GREY, _RED = "#1565c0", "#90a4ae", "#c62828"


def save_figure(figure: Figure, path: Path, **how: Any) -> None:
    """Write a figure in the format that the file's name ends in; the same figure gives the same file.

    `how` are options of matplotlib's `savefig`. Raises InputError when that is no format of figures.
    """
    known = figure.canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".")
    if kind not in known:
        raise InputError(
            f"{path}: a figure's file name ends in one of {', '.join('.' + each for each in sorted(known))}"
        )
    with matplotlib.rc_context({"svg.hashsalt": "polyspike", "svg.fonttype": "none"}):
        figure.savefig(path, metadata={"Date": None} if kind == "svg" else None, **how)


def draw_sweeps(layers: Sequence["LayerAnalysis"], method: str) -> Figure:
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


def draw_bins(recordings: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> Figure:
    """Draw recordings of events, uint8 [bins, 2, height, width] each, a row each: ON blue, OFF red, both black."""
    bins = max(len(each) for each in recordings)
    figure = Figure(figsize=(1.35 * bins, 1.5 * len(recordings) + 0.3), dpi=110, layout="constrained")
    grid: Any = figure.subplots(len(recordings), bins, squeeze=False)
    for counts, name, axes_row in zip(recordings, names, grid, strict=True):
        # Few counts reach the largest, and white is where there are none.
        full = max(1.0, float(np.percentile(counts[counts > 0], 95)) if counts.any() else 1.0)
        off, on = np.clip(counts.astype(np.float64) / full, 0, 1).swapaxes(0, 1)
        pixels = np.stack([1 - on, 1 - np.maximum(on, off), 1 - off], axis=-1)
        for bin_, axes in enumerate(axes_row):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_visible(bin_ < len(counts))
            if bin_ < len(counts):
                axes.imshow(pixels[bin_], interpolation="nearest")
                axes.set_xlabel(f"bin {bin_}", fontsize=8)
        axes_row[0].set_ylabel(name, fontsize=8)
    return figure


def draw_frontier(candidates: Sequence["Candidate"], best: Sequence["Candidate"], title: str) -> Figure:
    """Draw the predicted rate of configurations over their look-up tables; `best` are joined and named."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes: Any = figure.subplots()
    for resident, colour, label in ((False, _GREY, "streamed (link not counted)"), (True, _BLUE, "on the chip")):
        chosen = [each for each in candidates if each.resident is resident]
        if chosen:
            x, y = zip(*((each.resources.lut, each.images_per_second) for each in chosen), strict=True)
            axes.scatter(x, y, s=14, color=colour, label=label)
    axes.plot([each.resources.lut for each in best], [each.images_per_second for each in best], color=_RED, linewidth=1)
    # One name stands for all configurations of its columns and lanes, at the fastest.
    for each in {each.configuration.name: each for each in best}.values():
        axes.annotate(
            each.configuration.name,
            (each.resources.lut, each.images_per_second),
            xytext=(0, 5),
            textcoords="offset points",
            fontsize=8,
            ha="right",
        )
    axes.set_xlabel("look-up tables, predicted")
    axes.set_ylabel("images a second of the core, predicted")
    axes.set_title(title, fontsize=10)
    axes.set_ylim(0)
    axes.legend(fontsize=8)
    return figure
