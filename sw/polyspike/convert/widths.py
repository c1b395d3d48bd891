"""Choosing bit widths: how much each layer suffers from 4 bits, and which layers 8 bits are best spent on.

A layer's sensitivity is what narrowing it alone, all else wide, adds to the squared error of the logits on calibration
images. Losses of several layers are taken to add up. Then, beginning with 4 bits everywhere, widening the layer whose
loss is largest for what it costs is repeated while the budget allows; a greedy answer to a knapsack problem.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from polyspike.network import Network
from polyspike.spec import ConversionError

from .calibration import calibrate, network_and_images
from .conversion import to_network
from .graph import FloatNetwork, Role
from .options import LayerOptions, Options
from .quantized import QuantizedModel

#: Images that sensitivities are measured on.
_IMAGES = 128

#: Widths by layer.
Layers = dict[str, LayerOptions]


def choose_widths(
    model: nn.Module | FloatNetwork,
    images: NDArray[np.uint8],
    options: Options | None = None,
    *,
    weight_bytes: int | None = None,
    cycles: int | None = None,
    cost: Callable[[Network], int] | None = None,
    progress: bool = False,
) -> Options:
    """Choose which layers have 4 and which 8 bits, and return the options that say so, for `calibrate`.

    Parameters
    ----------
    model
        A module, or the result of `trace`.
    images
        Calibration images, uint8 [number, channels, height, width].
    options
        How to quantize. Widths in its `layers` are kept.
    weight_bytes
        What all weights may take, in bytes, at 4 or 8 bits each, as in a network file. Left out, the widths of weights
        are those of `options`.
    cycles
        What an image may take, in whatever `cost` counts. Left out, the widths of counts are those of `options`.
    cost
        Returns what an integer network costs, such as the cycles that the compiler predicts; needed for `cycles`.
    progress
        Show progress bars.

    Raises
    ------
    ConversionError
        The network cannot be converted, or not even 4 bits everywhere are within a budget.
    """
    options = options or Options()
    if cycles is not None and cost is None:
        raise ConversionError("a budget of cycles needs a function that returns those of a network")
    fields = [name for name, budget in (("weight_bits", weight_bytes), ("bits", cycles)) if budget is not None]
    search = _Search(model, images, options, fields, progress)
    if weight_bytes is not None:
        search.spend("weight_bits", search.weight_bytes, weight_bytes, "bytes of weights")
    if cycles is not None and cost is not None:
        search.spend("bits", lambda layers: cost(to_network(search.model(layers), "widths")), cycles, "cycles")
    return options.replace(layers=search.layers)


def sensitivities(
    model: nn.Module | FloatNetwork,
    images: NDArray[np.uint8],
    options: Options | None = None,
    *,
    progress: bool = False,
) -> dict[tuple[str, str], float]:
    """Return for (layer, "weight_bits" or "bits") what 4 bits there add to the logits' error, all else having 8 bits.

    The error is the mean square of the difference from the float network's, relative to their variance. Arguments and
    errors are those of `choose_widths`.
    """
    return _Search(model, images, options or Options(), ["weight_bits", "bits"], progress).losses


class _Search:
    """Sensitivities of a network's layers, and the widths chosen so far: 4 bits where nothing else was."""

    def __init__(
        self,
        model: nn.Module | FloatNetwork,
        images: NDArray[np.uint8],
        options: Options,
        fields: list[str],
        progress: bool,
    ):
        network, images = network_and_images(model, images, options)
        self.network, self.options = network, options
        self.progress = progress
        plain = options.replace(weight_bits=8, counts=None, signed_counts=None, reconstruct=False, layers={})
        # Ranges follow the float network, so those of any mixture of widths come from these two.
        self.ranges = {
            width: calibrate(network, images, plain.replace(bits=width), progress=progress) for width in (8, 4)
        }
        self.free = {
            field: [
                node.name
                for node in network.layers
                if node.role is not Role.POOL
                and (field == "weight_bits" or node.role is not Role.OUTPUT)
                and getattr(options.layers.get(node.name), field, None) is None
            ]
            for field in fields
        }
        inputs = self.ranges[8].prepare(images[:_IMAGES])
        wanted = network.logits(inputs)
        wide: Layers = dict(options.layers)
        for field, names in self.free.items():
            wide = _with(wide, field, dict.fromkeys(names, 8))
        least = self._error(wide, inputs, wanted)
        cases = [(name, field) for field, names in self.free.items() for name in names]
        self.losses = {
            (name, field): self._error(_with(wide, field, {name: 4}), inputs, wanted) - least
            for name, field in tqdm(cases, desc="sensitivity", disable=not progress, mininterval=1.0)
        }
        self.layers: Layers = dict(options.layers)
        for field, names in self.free.items():
            self.layers = _with(self.layers, field, dict.fromkeys(names, 4))

    def model(self, layers: Mapping[str, LayerOptions]) -> QuantizedModel:
        """Return a quantized model with these widths: calibrated weights and ranges, not reconstructed."""
        wide = self.ranges[8]
        model = QuantizedModel(self.network, self.options.replace(layers=dict(layers))).eval()
        with torch.no_grad():
            for node in self.network.layers:
                layer, calibrated = model.layer(node.name), wide.layer(node.name)
                layer.bias.copy_(calibrated.bias)
                if layer.range is not None and layer.counts is not None:
                    source = self.ranges[4] if layer.counts.bits == 4 else wide
                    found = source.layer(node.name).range
                    assert found is not None
                    layer.range.copy_(found)
        return model

    @torch.no_grad()
    def _error(self, layers: Layers, inputs: Tensor, wanted: Tensor) -> float:
        return float((self.model(layers)(inputs) - wanted).square().mean() / wanted.var().clamp(min=1e-12))

    def weight_bytes(self, layers: Mapping[str, LayerOptions]) -> int:
        """Return the bytes of all trained weights at these widths."""
        options = self.options.replace(layers=dict(layers))
        return sum(
            (term.weight.numel() * options.of_layer(node.name).weight_bits + 7) // 8
            for node in self.network.layers
            for term in node.terms
            if not term.fixed
        )

    def spend(self, field: str, cost: Callable[[Layers], int], budget: int, unit: str) -> None:
        """Widen layers while the budget allows."""
        start = cost(self.layers)
        if start > budget:
            raise ConversionError(
                f"with 4 bits wherever it can the network needs {start} {unit}, but only {budget} are allowed"
            )
        names = tqdm(self.free[field], desc=f"{unit} a layer", disable=not self.progress, mininterval=1.0)
        extra = {name: cost(_with(self.layers, field, {name: 8})) - start for name in names}

        def worth(name: str) -> float:
            return self.losses[name, field] / max(extra[name], 1)

        for name in sorted(self.free[field], key=worth, reverse=True):
            # Widening a layer that loses nothing by 4 bits would be noise, at a price.
            tried = _with(self.layers, field, {name: 8})
            if self.losses[name, field] > 0 and cost(tried) <= budget:
                self.layers = tried


def _with(layers: Mapping[str, LayerOptions], field: str, widths: Mapping[str, int]) -> Layers:
    """Return `layers` with one of the widths changed for some layers."""
    result = dict(layers)
    for name, width in widths.items():
        own = result.get(name, LayerOptions())
        result[name] = LayerOptions(width, own.bits) if field == "weight_bits" else LayerOptions(own.weight_bits, width)
    return result
