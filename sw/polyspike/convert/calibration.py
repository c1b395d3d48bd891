"""Calibration: choosing every layer's range from a few hundred training images, without training."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from polyspike.spec import ConversionError

from .graph import FloatLayer, FloatMaxPool, FloatNetwork, Role, sources
from .options import Options
from .quantized import QuantizedLayer, QuantizedModel
from .ranges import choose_range
from .reconstruction import reconstruct
from .tracing import trace

_SAMPLE = 1 << 20


def calibrate(
    model: nn.Module | FloatNetwork,
    images: NDArray[np.uint8],
    options: Options | None = None,
    *,
    progress: bool = False,
) -> QuantizedModel:
    """Trace and quantize a float network.

    Layers are taken in order, each seeing the already quantized outputs of those before it. Its range is chosen from
    the float network's sums; then its weights are chosen so that its own sums are like them; then its biases are moved
    so that the mean of each channel's sums is the float network's again. The same images give the same result.

    Parameters
    ----------
    model
        A module, or the result of `trace`.
    images
        Some hundred training images, uint8 [number, channels, height, width] or [number, height, width]. They fix the
        shape of the input.
    options
        How to quantize.
    progress
        Show a progress bar.

    Raises
    ------
    ConversionError
        The network cannot be converted, see `trace`.
    """
    options = options or Options()
    if images.ndim == 3:
        images = images[:, None]
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
        raise ConversionError(
            f"calibration images are {images.dtype} {images.shape}, but must be uint8 [number, channels, height, width]"
        )
    network = model if isinstance(model, FloatNetwork) else trace(model, images.shape[1:])
    quantized = QuantizedModel(network, options).eval()
    with torch.no_grad():
        _calibrate(quantized, images, progress)
    return quantized


def _calibrate(model: QuantizedModel, images: NDArray[np.uint8], progress: bool) -> None:
    network, options = model.network, model.options
    entry = model.prepare(images)
    wanted = {network.input.name: entry}
    got = {network.input.name: [entry] * options.timesteps}
    uses = network.last_use()
    for node in tqdm(network.nodes[1:], desc="calibrate", disable=not progress, mininterval=1.0):
        if isinstance(node, FloatMaxPool):
            wanted[node.name] = node.apply(wanted[node.source])
            got[node.name] = [node.apply(x) for x in got[node.source]]
        elif isinstance(node, FloatLayer):
            sums = network.sums(node, wanted)
            layer = model.layer(node.name)
            if layer.spiking:
                _set_range(layer, sums, options)
            steps = model.steps()
            if options.reconstruct and node.role is not Role.POOL:
                inputs = [torch.stack(got[term.source]).mean(0) for term in node.terms]
                reconstruct(layer, inputs, [steps[term.source] for term in node.terms], sums)
            if options.correct_bias and node.role is not Role.POOL:
                _correct_bias(model, layer, sums, model.sums(node, got, steps))
            wanted[node.name] = node.activate(sums)
            if node.role is not Role.OUTPUT:
                got[node.name] = model.emit(node, got, steps)
        for source in sources(node):
            if uses[source] == node.name:
                del wanted[source], got[source]


def _set_range(layer: QuantizedLayer, sums: Tensor, options: Options) -> None:
    assert layer.range is not None and layer.counts is not None
    if layer.node.limit is not None:
        sums = sums.clamp(max=layer.node.limit)
    rectified = layer.node.role is Role.RELU
    groups = [sums] if len(layer.range) == 1 else list(sums.unbind(1))
    for index, group in enumerate(groups):
        values = group.flatten()
        # Every k-th value is sample enough.
        values = values[:: max(1, len(values) // _SAMPLE)]
        layer.range[index] = choose_range(
            values.numpy(),
            layer.counts,
            rectified=rectified,
            timesteps=options.timesteps,
            method=options.method,
            percentile=options.percentile,
        )


def _correct_bias(model: QuantizedModel, layer: QuantizedLayer, wanted: Tensor, got: list[Tensor]) -> None:
    mean = torch.stack([sums.mean((0, 2, 3)) for sums in got]).mean(0)
    layer.bias.data += wanted.mean((0, 2, 3)) - mean
