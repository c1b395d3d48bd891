"""Calibration: choosing every layer's range from a few hundred training images, without training."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from polyspike.spec import ConversionError

from .graph import FloatLayer, FloatMaxPool, FloatNetwork, Role, sources
from .options import Options
from .quantized import QuantizedLayer, QuantizedModel
from .ranges import choose_range
from .scaling import search_scale
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

    Every layer's range is chosen from the float network's sums, and multiplied by `options.scale`. Then, in order, each
    layer, seeing the quantized outputs of those before it, gets biases for which the mean of each channel's sums is
    the float network's again. With `options.trials` both is tried with so many scales, and the model's
    `options.scale` is the one found.

    Parameters
    ----------
    model
        A module, or the result of `trace`.
    images
        Some hundred training images, uint8 [number, channels, height, width] or [number, height, width]. They fix the
        shape of the input. With another axis, [number, timesteps, channels, height, width], they are counts of events,
        and the float network's logits are the mean over its logits of each timestep.
    options
        How to quantize.
    progress
        Show a progress bar of the trials, if there are any.

    Raises
    ------
    ConversionError
        The network cannot be converted, see `trace`.
    """
    options = options or Options()
    images = check_images(images)
    network = model if isinstance(model, FloatNetwork) else trace(model, images.shape[-3:])
    if images.ndim == 5:
        if images.shape[1] != options.timesteps:
            raise ConversionError(
                f"calibration images are events in {images.shape[1]} bins, one for each timestep, but timesteps is "
                f"{options.timesteps}; make it {images.shape[1]}, or bin the events anew"
            )
        network = network.on_events()
    quantized = QuantizedModel(network, options).eval()
    entry = quantized.prepare(images)
    with torch.no_grad():
        # The float network sees the bins of events one by one.
        means, wanted = choose_ranges(quantized, entry.flatten(0, -4))
        wanted = wanted.view(len(entry), -1, wanted.shape[1]).mean(1)
        if not options.trials:
            apply_scale(quantized, options.scale, entry, means)
            return quantized

        def divergence(scale: float) -> float:
            """Return the mean Kullback-Leibler divergence of the outputs from the float network's, in nats."""
            got = apply_scale(quantized.with_options(options), scale, entry, means)
            return F.kl_div(got.log_softmax(1), wanted.softmax(1), reduction="batchmean").item()

        scale = search_scale(divergence, options.scale, options.trials, options.seed, progress=progress)
        quantized = quantized.with_options(options.replace(scale=scale))
        apply_scale(quantized, scale, entry, means)
    return quantized


def check_images(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return calibration images with four axes, five of events; raises ConversionError if they cannot be such."""
    if images.ndim == 3:
        images = images[:, None]
    if images.dtype != np.uint8 or images.ndim not in (4, 5) or len(images) == 0:
        raise ConversionError(
            f"calibration images are {images.dtype} {images.shape}, but must be uint8 [number, channels, height, width]"
        )
    return images


def apply_scale(model: QuantizedModel, scale: float, entry: Tensor, means: dict[str, Tensor]) -> Tensor:
    """Scale every range and correct the biases; return the logits."""
    for layer in model.layers.values():
        assert isinstance(layer, QuantizedLayer)
        if layer.range is not None:
            layer.range.mul_(scale)
    return correct_biases(model, entry, means) if model.options.correct_bias else model(entry)


def choose_ranges(model: QuantizedModel, entry: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Set every range; return the mean of each channel's sums by layer, and the logits, of the float network."""
    means: dict[str, Tensor] = {}
    sums = entry
    for node, sums in model.network.all_sums(entry):
        layer = model.layer(node.name)
        if layer.spiking:
            _set_range(layer, sums, model.options)
        means[node.name] = sums.mean((0, 2, 3))
    return means, sums.flatten(1)


def correct_biases(model: QuantizedModel, entry: Tensor, means: dict[str, Tensor]) -> Tensor:
    """Move each layer's biases so that its mean sums are `means`, given the quantized outputs of those before it.

    Returns the logits.
    """
    network = model.network
    values = {network.input.name: model.at_each_timestep(entry)}
    steps = model.steps()
    uses = network.last_use()
    for node in network.nodes[1:]:
        if isinstance(node, FloatMaxPool):
            values[node.name] = [node.apply(x) for x in values[node.source]]
        elif isinstance(node, FloatLayer):
            if node.role is not Role.POOL:
                layer = model.layer(node.name)
                got = torch.stack([sums.mean((0, 2, 3)) for sums in model.sums(node, values, steps)]).mean(0)
                layer.bias.add_(means[node.name] - got)
            if node.role is Role.OUTPUT:
                values[node.name] = model.sums(node, values, steps)
            else:
                values[node.name] = model.emit(node, values, steps)
        for source in sources(node):
            if uses[source] == node.name:
                del values[source]
    return torch.stack(values[network.nodes[-1].name]).mean(0).flatten(1)


def activations(node: FloatLayer, sums: Tensor) -> NDArray[np.float32]:
    """Return a sample of a layer's sums (any shape) as its quantizer gets them, one axis; a ReLU is the quantizer's."""
    values = sums.flatten()
    # Every k-th value is sample enough.
    values = values[:: max(1, len(values) // _SAMPLE)]
    return (values if node.limit is None else values.clamp(max=node.limit)).numpy()


def _set_range(layer: QuantizedLayer, sums: Tensor, options: Options) -> None:
    assert layer.range is not None and layer.counts is not None
    groups = [sums] if len(layer.range) == 1 else list(sums.unbind(1))
    for index, group in enumerate(groups):
        layer.range[index] = choose_range(
            activations(layer.node, group),
            layer.counts,
            rectified=layer.node.role is Role.RELU,
            timesteps=options.timesteps,
            method=options.method,
            percentile=options.percentile,
        )
