"""How many events a network's spikes are, and how many if two neighbouring output positions shared a multiplier."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyspike.network import Layer, Network, Synapse

#: Widest count that two of fit one multiplier.
PAIRED_BITS = 4


def events(network: Network, counts: dict[str, NDArray[np.int16]], lanes: int) -> dict[str, tuple[float, float]]:
    """Return the events of each layer for an image, of all timesteps, and those in pairs.

    An event is a nonzero count that one tile of `lanes` output channels adds at one position. In pairs, the taps of
    positions 2x and 2x + 1 of a row are added together, in one event where either count is not zero. Counts that are
    too wide for that keep their events. Grouped and depthwise synapses are left out.

    Parameters
    ----------
    network
        The integer network.
    counts
        Its spike counts by node, int16 [images, timesteps, channels, height, width].
    lanes
        Output channels of a tile.
    """
    found = {}
    for node in network:
        if not isinstance(node, Layer):
            continue
        single = paired = 0.0
        for synapse in node.synapses:
            if synapse.depthwise or synapse.groups > 1:
                continue
            marks = (counts[synapse.source] != 0).astype(np.uint8)
            tiles = -(-node.shape[0] // lanes)
            alone, together = _taps(marks, synapse, node.shape[1:])
            narrow = network.counts(synapse.source).bits <= PAIRED_BITS
            single += tiles * alone / len(marks)
            paired += tiles * (together if narrow else alone) / len(marks)
        found[node.name] = single, paired
    return found


def _taps(marks: NDArray[np.uint8], synapse: Synapse, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return how many marks the taps of all positions see, and how many events pairs of positions make of them."""
    (kh, kw), (sy, sx), (py, px) = synapse.window, synapse.stride, synapse.padding
    height, width = shape
    rows, columns = (height - 1) * sy + kh, (width + width % 2 - 1) * sx + kw
    padded = np.zeros((*marks.shape[:-2], max(rows, py + marks.shape[-2]), max(columns, px + marks.shape[-1])), bool)
    padded[..., py : py + marks.shape[-2], px : px + marks.shape[-1]] = marks
    alone = together = 0.0
    for ky in range(kh):
        for kx in range(kw):
            seen: Any = padded[..., ky : ky + (height - 1) * sy + 1 : sy, kx : kx + (width - 1) * sx + 1 : sx]
            alone += seen.sum()
            left, right = seen[..., 0::2], seen[..., 1::2]
            both = left.copy()
            both[..., : right.shape[-1]] |= right
            together += both.sum()
    return float(alone), float(together)
