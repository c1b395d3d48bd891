"""From a quantized model to the integer network: the last step, after which there are no floats but the scales."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyspike.network import Layer, MaxPool, Network, Neuron, Node, Synapse, membrane_ranges, verify
from polyspike.spec import ConversionError

from .calibration import calibrate
from .graph import FloatInput, FloatLayer, FloatMaxPool, Role, Term
from .options import Options
from .quantized import QuantizedLayer, QuantizedModel, pooled_counts, scale_inputs
from .scales import Units, round_half_up


def convert(
    model: nn.Module | QuantizedModel,
    images: NDArray[np.uint8] | None = None,
    options: Options | None = None,
    *,
    name: str | None = None,
    classes: tuple[str, ...] = (),
    progress: bool = False,
) -> Network:
    """Convert a network to integers.

    Parameters
    ----------
    model
        A float module, which is calibrated first, or a quantized model (calibrated or fine-tuned).
    images
        Calibration images, uint8 [number, channels, height, width]; needed for a float module only.
    options
        How to quantize. For a quantized model: other options to apply to its weights and ranges, such as more
        timesteps.
    name, classes
        What the network and its outputs are called.
    progress
        Show a progress bar while calibrating.

    Raises
    ------
    ConversionError
        The network cannot be converted; the message names the module and its type.
    """
    title = name or type(model).__name__
    if isinstance(model, QuantizedModel):
        quantized = model if options is None else model.with_options(options)
    elif images is None:
        raise ConversionError("a float network needs calibration images: some hundred of its training images")
    else:
        quantized = calibrate(model, images, options, progress=progress)
    return to_network(quantized, title, classes)


@torch.no_grad()
def to_network(model: QuantizedModel, name: str, classes: tuple[str, ...] = ()) -> Network:
    """Turn a quantized model into an integer network."""
    steps = model.steps()
    headroom = {node.name: torch.ones(node.shape[0]) for node in model.network.layers}
    limit = model.options.accumulator_bits
    while True:
        nodes = tuple(_node(model, node, steps, headroom) for node in model.network)
        network = verify(Network(name, model.options.timesteps, nodes, classes))
        coarse = False
        for layer, ranges in membrane_ranges(network).items():
            excess = torch.from_numpy(np.maximum(ranges.bits() - limit, 0))
            if bool(excess.any()):
                coarse = True
                headroom[layer] = headroom[layer] * 2.0**excess
                if bool((headroom[layer] > 1 << 16).any()):
                    raise ConversionError(f"layer {layer!r}: no weights keep its membranes within {limit} bits")
        if not coarse:
            return network


def _node(model: QuantizedModel, node: object, steps: dict[str, Tensor], headroom: dict[str, Tensor]) -> Node:
    if isinstance(node, FloatInput):
        return model.input
    if isinstance(node, FloatMaxPool):
        return MaxPool(node.name, node.shape, node.source, node.window, node.stride, node.padding)
    assert isinstance(node, FloatLayer)
    layer = model.layer(node.name)
    if node.role is Role.POOL:
        return _pool(model, layer, steps)
    scaled = [
        scale_inputs(weight.detach().double(), steps[term.source].double(), term)
        for term, weight in zip(node.terms, layer.weights, strict=True)
    ]
    channels = node.shape[0]
    target = layer.step.detach().double().expand(channels) if layer.spiking else None
    units = layer.scaled_units(scaled, headroom[node.name].double())
    synapses = tuple(_synapse(term, units, index, scaled[index]) for index, term in enumerate(node.terms))
    bias = _integers(layer.bias.detach().double() / units.unit)
    if target is None:
        return Layer(node.name, node.shape, synapses, bias, None, units.unit.numpy().astype(np.float64))
    assert layer.counts is not None
    theta = np.maximum(_integers(target / units.unit), 1)
    v0 = np.floor(theta * layer.initial_potential).astype(np.int32)
    theta_neg = None
    if layer.counts.n_neg and model.options.negative_threshold:
        theta_neg = np.floor(theta * model.options.negative_threshold).astype(np.int32)
    neuron = Neuron(layer.counts, theta, v0, layer.rectified, theta_neg, layer.lfsr)
    return Layer(node.name, node.shape, synapses, bias, neuron, target.numpy().astype(np.float64))


def _pool(model: QuantizedModel, layer: QuantizedLayer, steps: dict[str, Tensor]) -> Layer:
    node = layer.node
    term = node.terms[0]
    counts, threshold = pooled_counts(model.counts[term.source], term.taps)
    weight = (term.weight != 0).to(torch.int8).numpy()
    channels = node.shape[0]
    theta = np.full(channels, threshold, np.int32)
    synapse = Synapse(term.source, weight, term.window, term.stride, term.padding, term.groups)
    neuron = Neuron(counts, theta, (theta // 2).astype(np.int32))
    scale = steps[node.name].double().numpy()
    return Layer(node.name, node.shape, (synapse,), np.zeros(channels, np.int32), neuron, scale)


def _synapse(term: Term, units: Units, index: int, scaled: Tensor) -> Synapse:
    weight = units.weight(scaled, index).to(torch.int8).numpy()
    return Synapse(term.source, weight, term.window, term.stride, term.padding, term.groups, units.shifts[index])


def _integers(values: Tensor) -> NDArray[np.int32]:
    rounded = round_half_up(values)
    if bool((rounded.abs() >= 1 << 31).any()):
        # Far beyond any accumulator: the overflow check behind this asks for coarser units.
        rounded = rounded.clamp(-(2**31) + 1, 2**31 - 1)
    return rounded.to(torch.int64).numpy().astype(np.int32)
