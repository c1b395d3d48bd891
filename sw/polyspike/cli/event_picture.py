"""Drawing counts of events: a row of bins for each recording, ON blue, OFF red, both together black."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


def draw_bins(recordings: Sequence[NDArray[np.uint8]], names: Sequence[str], path: Path) -> None:
    """Draw recordings, uint8 [bins, 2, height, width] each, under their names, into a picture file."""
    bins = max(len(each) for each in recordings)
    figure = Figure(figsize=(1.35 * bins, 1.5 * len(recordings) + 0.3), layout="constrained")
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
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
