"""What quantization costs each layer of a network, in bits: by width of a count, by polarity, by range.

The first part of PMSM (arXiv 2508.14520). `entropy.py` defines the quantities.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from torch import nn

from polyspike.network import CountRange

from .calibration import activations, network_and_images
from .entropy import Histogram
from .graph import FloatLayer, FloatNetwork, Role
from .options import Options
from .quantized import QuantizedModel
from .ranges import CANDIDATES, choose_range, counted, largest_range, levels

#: Ranges of counts that are compared, of layers with a ReLU.
UNSIGNED = (CountRange(0, 1, 4), CountRange(0, 3, 4), CountRange(0, 7, 4), CountRange(0, 15, 4), CountRange(0, 255, 8))
#: And of as many bits for layers without one; with one bit they could not have both signs.
SIGNED = (CountRange(1, 1, 4), CountRange(2, 1, 4), CountRange(4, 3, 4), CountRange(8, 7, 4), CountRange(128, 127, 8))


@dataclasses.dataclass(frozen=True)
class Quantization:
    """What a layer's activations become with some counts and a range, at T timesteps.

    `range` is the largest activation that the counts express. `after` is the entropy of the counts, `lost` what is
    missing of the entropy before, `passed` the information passed on (what lies below zero is no error behind a ReLU),
    all in bits.
    """

    counts: CountRange
    range: float
    after: float
    lost: float
    passed: float


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Ranges, as shares of the one that clips nothing, and what counts keep with them, in bits; tuples of one length.

    Both are of the activations which ranges are chosen by: all, or behind a ReLU those above zero.
    """

    shares: tuple[float, ...]
    after: tuple[float, ...]
    passed: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class LayerAnalysis:
    """One spiking layer.

    Parameters
    ----------
    name
        The layer.
    rectified
        Whether it has a ReLU.
    largest
        The range that clips nothing.
    before, differential
        Entropy of its sums, before ReLU and quantizer, in bits: in bins, and differential (for the network's units).
    polarity
        What a ReLU takes away of `before`, or would take away: that negative sums differ from each other.
    chosen
        The layer as the options have it.
    widths
        With other counts, ranges chosen by the same method.
    signed
        With both polarities, and as many counts as `chosen`.
    sweep
        Over ranges, with the counts of `chosen`.
    """

    name: str
    rectified: bool
    largest: float
    before: float
    differential: float
    polarity: float
    chosen: Quantization
    widths: tuple[Quantization, ...]
    signed: Quantization
    sweep: Sweep


def analyze(
    model: nn.Module | FloatNetwork, images: NDArray[np.uint8], options: Options | None = None
) -> tuple[LayerAnalysis, ...]:
    """Analyze every spiking layer of a float network.

    Parameters
    ----------
    model
        A module, or the result of `trace`.
    images
        Some hundred training images, uint8 [number, channels, height, width] or [number, height, width].
    options
        How it is to be quantized. `scale` and `per_channel` are ignored: an analysis has one range a layer.

    Raises
    ------
    ConversionError
        The network cannot be converted, see `trace`.
    """
    options = options or Options()
    network, images = network_and_images(model, images, options)
    # The float network sees the bins of events one by one.
    entry = QuantizedModel(network, options).prepare(images).flatten(0, -4)
    return tuple(
        _analyze(node, activations(node, sums), options)
        for node, sums in network.all_sums(entry)
        if node.role in (Role.RELU, Role.SIGNED)
    )


def _analyze(node: FloatLayer, values: NDArray[np.float32], options: Options) -> LayerAnalysis:
    rectified = node.role is Role.RELU
    counts = options.relu_counts if rectified else options.linear_counts
    everything = Histogram.of(values)
    before, behind = everything.entropy, everything.rectified()

    def quantization(counts: CountRange, rectified: bool) -> Quantization:
        span = choose_range(
            values,
            counts,
            rectified=rectified,
            timesteps=options.timesteps,
            method=options.method,
            percentile=options.percentile,
        )
        least, most = levels(counts, rectified, options.timesteps)
        got = (behind if rectified else everything).quantized(span / most, least, most)
        return Quantization(counts, span, got.entropy, before - got.entropy, got.information)

    largest = largest_range(values, counts, rectified)
    codes = counts.n_neg + counts.n_pos
    return LayerAnalysis(
        node.name,
        rectified,
        largest,
        before,
        before + float(np.log2(everything.width)),
        before - behind.entropy,
        quantization(counts, rectified),
        tuple(quantization(each, rectified) for each in (UNSIGNED if rectified else SIGNED)),
        quantization(CountRange((codes + 1) // 2, max(1, codes // 2), counts.bits), False),
        _sweep(values, counts, rectified, largest, options),
    )


def _sweep(values: NDArray[np.float32], counts: CountRange, rectified: bool, largest: float, options: Options) -> Sweep:
    if not largest:
        return Sweep((), (), ())
    histogram = Histogram.of(counted(values, rectified))
    least, most = levels(counts, rectified, options.timesteps)
    tried = [histogram.quantized(share * largest / most, least, most) for share in CANDIDATES]
    return Sweep(
        tuple(float(share) for share in CANDIDATES),
        tuple(each.entropy for each in tried),
        tuple(each.information for each in tried),
    )
