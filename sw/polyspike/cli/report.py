"""The demo's HTML report: one file, its pictures inside."""

import base64
import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from .demonstration import Demonstration
from .describe import counts_text
from .figures import LayerFigures
from .text import number, percent

_BLUE, _GREY, _RED, _GREEN = "#1565c0", "#b0bec5", "#c62828", "#2e7d32"

#: Where column cycles go: label, colour and attribute of LayerFigures.
_CYCLES = (
    ("adding events", _BLUE, "events"),
    ("waiting for a word", "#ffb300", "stall_fetch"),
    ("waiting for a port", "#ef6c00", "stall_port"),
    ("waiting for the fire unit", "#8e24aa", "stall_drain"),
    ("without work", _GREY, "stall_idle"),
)

#: Images that are shown with their predictions.
_SHOWN = 24


def write_report(demonstration: Demonstration, path: Path) -> None:
    """Write the report of a demonstration to `path`."""
    template = resources.files(__package__).joinpath("report.html.j2").read_text()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(template).render(
        demonstration=demonstration,
        configuration=demonstration.configuration,
        number=number,
        percent=percent,
        histograms=_uri(_histograms(demonstration)),
        cycles=_uri(_cycles(demonstration.layers, demonstration.configuration.columns)),
        images=_uri(_images(demonstration)),
    )
    path.write_text(page, encoding="utf-8")


def _uri(figure: Figure) -> str:
    """Return a figure as a data URI."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()


def _histograms(demonstration: Demonstration) -> Figure:
    """Draw how often each spike count occurs in each layer's output."""
    network = demonstration.program.network
    counts = demonstration.result.counts or {}
    across = 4
    down = -(-len(counts) // across)
    figure = Figure(figsize=(3.2 * across, 2.3 * down), layout="constrained")
    grid: Any = figure.subplots(down, across, squeeze=False)
    for axes, (name, values) in zip(grid.flat, counts.items(), strict=False):
        span = network.counts(name)
        found, often = np.unique(values, return_counts=True)
        shares = often / values.size
        axes.bar(found, shares, width=0.9, color=[_GREY if value == 0 else _BLUE for value in found])
        axes.set_title(f"{name}   {counts_text(span)}", fontsize=9)
        axes.set_xlim(-span.n_neg - 1, span.n_pos + 1)
        axes.set_yscale("log")
        axes.tick_params(labelsize=8)
        nonzero = f"{percent(float(shares[found != 0].sum()), 0)} nonzero"
        axes.text(0.97, 0.93, nonzero, transform=axes.transAxes, ha="right", va="top", fontsize=8)
    for axes in list(grid.flat)[len(counts) :]:
        axes.set_visible(False)
    figure.supxlabel("spike count", fontsize=9)
    figure.supylabel("share of all counts", fontsize=9)
    return figure


def _cycles(layers: Sequence[LayerFigures], columns: int) -> Figure:
    """Draw where each layer's column cycles go."""
    figure = Figure(figsize=(10, 0.9 + 0.38 * len(layers)), layout="constrained")
    axes = figure.subplots()
    names = [layer.name for layer in layers]
    left = np.zeros(len(layers))
    for label, colour, attribute in _CYCLES:
        share = np.array([getattr(layer, attribute) / max(1.0, layer.cycles * columns) for layer in layers])
        axes.barh(names, 100 * share, left=100 * left, color=colour, label=label, height=0.75)
        left += share
    for index, layer in enumerate(layers):
        axes.text(1, index, percent(layer.utilization, 0), va="center", color="white", fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of column cycles")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(_CYCLES), fontsize=8, frameon=False)
    return figure


def _images(demonstration: Demonstration) -> Figure:
    """Draw images with what the device predicted: green where right, red where wrong with the label behind."""
    data, predictions = demonstration.images, demonstration.result.predictions
    # Mistakes are worth more to a reader than one more right answer: half of the places at most are kept for them.
    wrong = np.flatnonzero(predictions != data.labels)[: _SHOWN // 2]
    right = np.flatnonzero(predictions == data.labels)[: _SHOWN - len(wrong)]
    chosen = sorted([*wrong.tolist(), *right.tolist()])
    across = 8
    down = -(-len(chosen) // across)
    figure = Figure(figsize=(1.55 * across, 1.95 * down), layout="constrained")
    grid: Any = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, index in zip(grid.flat, chosen, strict=False):
        axes.imshow(data.images[index, 0], cmap="gray_r", interpolation="nearest")
        said, true = data.classes[predictions[index]], data.classes[data.labels[index]]
        text = said if said == true else f"{said}\n(is {true})"
        axes.set_title(text, fontsize=8, color=_GREEN if said == true else _RED)
    return figure
