"""Window rows packed into the input's words: fewer fetches for a first layer whose pixels leave words nearly empty.

A pixel of the input takes whole words, however few its channels are, and every tap of a window fetches them again. With
one channel of 8 bits, 3 x 3 taps fetch nine words for nine counts. Where they fit in the same words, the host puts the
counts of all taps of a window's row into one pixel instead::

    packed[c + C * kx, y, x] = counts[c, y, x * stride_x - pad_x + kx]      (0 outside the map)

The layer then has a window of one column over C * kernel_w channels, and adds up the same products.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyspike.network import Input, Layer, MaxPool, Network, Node
from polyspike.spec import Configuration, ConfigurationError
from polyspike.spec.configuration import WORD_BITS
from polyspike.spec.registers import InputLayout

from .words import pack_counts, words_per_pixel


@dataclasses.dataclass(frozen=True)
class InputPacking:
    """Which counts a pixel of the input's host map holds: those under the taps of one row of a window.

    `layer` is the layer whose window it is. `width` is the number of pixels in a row of the packed map, which is that
    layer's width.
    """

    layer: str
    kernel_w: int
    stride_x: int
    pad_x: int
    width: int

    def apply(self, counts: NDArray[Any]) -> NDArray[Any]:
        """Rearrange counts [..., C, H, W] as [..., C * kernel_w, H, width]."""
        padded = self.pad(counts)
        span = self.row - self.kernel_w + 1
        taps = [padded[..., kx : kx + span : self.stride_x] for kx in range(self.kernel_w)]
        return np.concatenate(taps, axis=-3)

    @property
    def row(self) -> int:
        """Pixels of a padded row: from the first window's first tap to the last window's last."""
        return (self.width - 1) * self.stride_x + self.kernel_w

    def pad(self, counts: NDArray[Any]) -> NDArray[Any]:
        """Return counts [..., W] as [..., `row`]: shifted by the padding, zeros around them."""
        padded = np.zeros((*counts.shape[:-1], max(self.row, self.pad_x + counts.shape[-1])), counts.dtype)
        padded[..., self.pad_x : self.pad_x + counts.shape[-1]] = counts
        return padded[..., : self.row]


def pack_input(counts: NDArray[np.integer], bits: int, packing: InputPacking | None) -> NDArray[np.uint64]:
    """Return the words of the input's host map.

    Parameters
    ----------
    counts
        integers, [..., C, H, W]
    bits
        4 or 8
    packing
        the program's `packing`

    Returns
    -------
    uint64, [..., rows, pixels, words]
    """
    return pack_counts(counts if packing is None else packing.apply(counts), bits)


@dataclasses.dataclass(frozen=True)
class DenseInput:
    """How the input's counts travel to a device that has an unpacker: without the gaps that they have in words.

    `layout` tells the device where a pixel's counts are. `rows` of the map fit a frame; each becomes `row_words` words.
    """

    layout: InputLayout
    rows: int
    row_words: int

    def payload(self, counts: NDArray[np.integer], bits: int, packing: InputPacking | None) -> NDArray[np.uint64]:
        """Return what is sent for some rows of an image.

        Parameters
        ----------
        counts
            integers, [C, rows, W]
        bits, packing
            as for `pack_input`

        Returns
        -------
        uint64, the payload of one frame
        """
        rows = counts if packing is None else packing.pad(counts)
        codes = (np.moveaxis(rows, 0, -1).reshape(-1) & ((1 << bits) - 1)).astype(np.uint8)
        per_word = WORD_BITS // bits
        stream = np.zeros(-(-len(codes) // per_word) * per_word, np.uint8)
        stream[: len(codes)] = codes
        packed = stream if bits == 8 else stream[::2] | stream[1::2] << 4
        return packed.view("<u8").astype(np.uint64)


def dense_input(network: Network, configuration: Configuration, packing: InputPacking | None) -> DenseInput | None:
    """Return how the device unpacks the input; None if it does not: no unpacker, long pixels, or long rows."""
    source = network.input
    channels, _, width = source.shape
    bits = source.counts.bits
    taps, stride, row, row_words = 1, 1, width, width
    if packing is not None:
        taps, stride, row, row_words = packing.kernel_w, packing.stride_x, packing.row, packing.width
    try:
        layout = InputLayout(channels * bits // 4, row, taps, stride)
    except ConfigurationError:
        return None
    rows = configuration.frame_words * WORD_BITS // (row * channels * bits)
    return DenseInput(layout, rows, row_words) if configuration.unpacker and rows else None


def pack_window_rows(network: Network) -> tuple[Network, InputPacking | None]:
    """Let the first layer read whole rows of its window from one pixel, where that costs nothing.

    It costs nothing where one synapse alone reads the input, and the packed map is in no direction larger than the
    input: as many words a pixel, and no more pixels in a row. Elsewhere the network is returned as it is.

    Returns
    -------
    An equivalent network over the packed input, for the compiler's eyes only, and what the host has to do.
    """
    source, layer = network.nodes[:2]
    assert isinstance(source, Input)
    # The second node has nothing but the input to read.
    if not isinstance(layer, Layer) or len(layer.synapses) > 1:
        return network, None
    (synapse,) = layer.synapses
    channels, height, width = source.shape
    (kh, kw), bits = synapse.window, source.counts.bits
    if (
        kw == 1
        or synapse.groups > 1
        or synapse.depthwise
        or synapse.shared
        or words_per_pixel(channels * kw, bits) > words_per_pixel(channels, bits)
        or layer.shape[2] > width
        or any(_reads(node, source.name) for node in network.nodes[2:])
    ):
        return network, None
    packing = InputPacking(layer.name, kw, synapse.stride[1], synapse.padding[1], layer.shape[2])
    shape = (channels * kw, height, packing.width)
    # Images become counts by the network's own input; this one only has to be consistent.
    mean, std = (0.0,) * shape[0], (1.0,) * shape[0]
    packed_source = dataclasses.replace(source, shape=shape, image=shape, mean=mean, std=std)
    packed_synapse = dataclasses.replace(
        synapse,
        weight=np.ascontiguousarray(synapse.weight.transpose(0, 3, 1, 2)).reshape(-1, shape[0], kh, 1),
        window=(kh, 1),
        stride=(synapse.stride[0], 1),
        padding=(synapse.padding[0], 0),
    )
    packed_layer = dataclasses.replace(layer, synapses=(packed_synapse,))
    return network.replace(nodes=(packed_source, packed_layer, *network.nodes[2:])), packing


def _reads(node: Node, source: str) -> bool:
    if isinstance(node, Layer):
        return any(synapse.source == source for synapse in node.synapses)
    return isinstance(node, MaxPool) and node.source == source
