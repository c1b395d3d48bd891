"""Calibration: choosing every layer's range, weights and biases by a few hundred training images, without training."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from polyspike.spec import ConversionError

from .graph import FloatLayer, FloatNetwork, Role
from .options import Options
from .quantized import QuantizedLayer, QuantizedModel
from .ranges import choose_range
from .reconstruction import reconstruct
from .scaling import search_scale
from .tracing import trace

_SAMPLE = 1 << 20
#: Most spikes that one input spike may be worth. A channel that hardly fires on the calibration images may do so on
#: others, and the tiny step that fits the former is one that no 8-bit weights can be expressed in.
_MOST_GAIN = 256


def calibrate(
    model: nn.Module | FloatNetwork,
    images: NDArray[np.uint8],
    options: Options | None = None,
    *,
    progress: bool = False,
) -> QuantizedModel:
    """Trace and quantize a float network.

    Every layer's range is chosen from the float network's sums, and multiplied by `options.scale`. Then layers are
    taken in order, each seeing the quantized outputs of those before it: its weights are chosen so that its own sums
    are like the float network's (`options.reconstruct`), and its biases are moved so that the mean of each channel's
    sums is the float network's again (`options.correct_bias`). With `options.trials` scales are tried, with corrected
    biases, and the model's `options.scale` is the best one. The same images give the same result.

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
        Show progress bars.

    Raises
    ------
    ConversionError
        The network cannot be converted, see `trace`.
    """
    options = options or Options()
    network, images = network_and_images(model, images, options)
    quantized = QuantizedModel(network, options).eval()
    entry = quantized.prepare(images)
    with torch.no_grad():
        # The float network sees the bins of events one by one.
        means, logits = choose_ranges(quantized, entry.flatten(0, -4))
        scale = options.scale
        if options.trials:
            wanted = logits.view(len(entry), -1, logits.shape[1]).mean(1).softmax(1)

            def divergence(scale: float) -> float:
                """Return the mean Kullback-Leibler divergence of the outputs from the float network's, in nats."""
                tried = quantized.with_options(options)
                scale_ranges(tried, scale)
                got = correct_biases(tried, entry, means) if options.correct_bias else tried(entry)
                return F.kl_div(got.log_softmax(1), wanted, reduction="batchmean").item()

            scale = search_scale(divergence, scale, options.trials, options.seed, progress=progress)
            quantized = quantized.with_options(options.replace(scale=scale))
        scale_ranges(quantized, scale)
        if options.reconstruct:
            reconstruct_layers(quantized, entry, progress=progress)
        elif options.correct_bias:
            correct_biases(quantized, entry, means)
    return quantized


def network_and_images(
    model: nn.Module | FloatNetwork, images: NDArray[np.uint8], options: Options
) -> tuple[FloatNetwork, NDArray[np.uint8]]:
    """Return the network that images are for, and the images with four axes, five of events.

    Raises
    ------
    ConversionError
        The network cannot be converted, or they cannot be calibration images.
    """
    if images.ndim == 3:
        images = images[:, None]
    if images.dtype != np.uint8 or images.ndim not in (4, 5) or len(images) == 0:
        raise ConversionError(
            f"calibration images are {images.dtype} {images.shape}, but must be uint8 [number, channels, height, width]"
        )
    network = model if isinstance(model, FloatNetwork) else trace(model, images.shape[-3:])
    if images.ndim == 5:
        if images.shape[1] != options.timesteps:
            raise ConversionError(
                f"calibration images are events in {images.shape[1]} bins, one for each timestep, but timesteps is "
                f"{options.timesteps}; make it {images.shape[1]}, or bin the events anew"
            )
        network = network.on_events()
    return network, images


def choose_ranges(model: QuantizedModel, entry: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Set every range; return the mean of each channel's sums by layer, and the logits, of the float network."""
    means: dict[str, Tensor] = {}
    sums = entry
    for node, sums in model.network.all_sums(entry):
        layer = model.layer(node.name)
        if layer.spiking:
            steps = model.steps()
            _set_range(layer, sums, [steps[term.source] for term in node.terms], model.options)
        means[node.name] = sums.mean((0, 2, 3))
    return means, sums.flatten(1)


def scale_ranges(model: QuantizedModel, scale: float) -> None:
    """Multiply every range."""
    for layer in model.layers.values():
        assert isinstance(layer, QuantizedLayer)
        if layer.range is not None:
            layer.range.mul_(scale)


def correct_biases(model: QuantizedModel, entry: Tensor, means: dict[str, Tensor]) -> Tensor:
    """Move each layer's biases so that its mean sums are `means`, given the quantized outputs of those before it.

    Returns the logits.
    """

    def correct(layer: QuantizedLayer, values: dict[str, list[Tensor]], steps: dict[str, Tensor]) -> None:
        _correct_bias(layer, model.sums(layer.node, values, steps), means[layer.node.name])

    logits: Tensor = model(entry, change=correct)
    return logits


def reconstruct_layers(model: QuantizedModel, entry: Tensor, *, progress: bool) -> None:
    """Choose each layer's weights anew, and correct its biases, given the quantized outputs of those before it."""
    events = model.network.input.events
    wanted = (pair for pair in model.network.all_sums(entry.flatten(0, -4)) if pair[0].role is not Role.POOL)
    layers = sum(node.role is not Role.POOL for node in model.network.layers)
    with tqdm(total=layers, desc="calibrate", disable=not progress, mininterval=1.0) as bar:

        def fit(layer: QuantizedLayer, values: dict[str, list[Tensor]], steps: dict[str, Tensor]) -> None:
            node, sums = next(wanted)
            streams = [torch.stack(values[term.source], 1) for term in node.terms]
            inputs = [stream.flatten(0, 1) if events else stream.mean(1) for stream in streams]
            reconstruct(layer, inputs, [steps[term.source] for term in node.terms], sums)
            if model.options.correct_bias:
                _correct_bias(layer, model.sums(layer.node, values, steps), sums.mean((0, 2, 3)))
            bar.update()

        model(entry, change=fit)


def _correct_bias(layer: QuantizedLayer, got: list[Tensor], wanted: Tensor) -> None:
    """Move a layer's biases so that the mean over its sums at each timestep, which were `got`, is `wanted` [out]."""
    layer.bias.add_(wanted - torch.stack([sums.mean((0, 2, 3)) for sums in got]).mean(0))


def activations(node: FloatLayer, sums: Tensor) -> NDArray[np.float32]:
    """Return a sample of a layer's sums (any shape) as its quantizer gets them, one axis; a ReLU is the quantizer's."""
    values = sums.flatten()
    # Every k-th value is sample enough.
    values = values[:: max(1, len(values) // _SAMPLE)]
    return (values if node.limit is None else values.clamp(max=node.limit)).numpy()


def _set_range(layer: QuantizedLayer, sums: Tensor, steps: Sequence[Tensor], options: Options) -> None:
    """Choose a layer's range for the float network's sums, given the steps of its sources."""
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
    largest = torch.stack([weight.abs().flatten(1).amax(1) for weight in layer.scaled_weights(steps)]).amax(0)
    least = largest * (layer.counts.n_pos / _MOST_GAIN)
    layer.range.copy_(torch.maximum(layer.range, least if len(layer.range) > 1 else least.max()))
