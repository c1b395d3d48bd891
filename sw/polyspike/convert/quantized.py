"""The quantized network as a torch module: float numbers that stand for integers, so that training can go through them.

It computes what the integer network will compute, up to float rounding: weights are integers times a membrane unit,
activations counts times a step. Gradients pass the roundings straight through; a layer's range is a learned parameter
(learned step size quantization, Esser et al., ICLR 2020).
"""

import copy
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyspike.network import CountRange, Input, draws, quantize
from polyspike.spec import ConversionError
from polyspike.spec.lfsr import DRAW_BITS, TAPS, Lfsr

from .graph import FloatLayer, FloatMaxPool, FloatNetwork, Role, Term, sources
from .options import Options
from .scales import Units, membrane_units, round_half_up

#: Spike counts of 8 bits, which pooling sums and pixels use.
WIDE = 8


class QuantizedLayer(nn.Module):
    """One layer: its float weights and biases, and the range of its activations.

    `range` is [1] or [channels]: the activation that n_pos spikes a timestep stand for. A pooling layer has no range
    of its own, an output layer none at all.
    """

    def __init__(self, node: FloatLayer, counts: CountRange | None, rectified: bool, options: Options):
        super().__init__()
        self.options = options
        self.node = node
        self.counts = counts
        self.rectified = rectified
        #: width of each term's weights
        self.weight_bits = tuple(8 if term.fixed else options.weight_bits for term in node.terms)
        self.weights = nn.ParameterList(
            nn.Parameter(term.weight.clone(), requires_grad=not term.fixed) for term in node.terms
        )
        self.bias = nn.Parameter(node.bias.clone(), requires_grad=node.role is not Role.POOL)
        self.spiking = node.role in (Role.RELU, Role.SIGNED)
        self.lfsr = None
        if options.probabilistic and node.role is Role.RELU:
            # Layers differ in their seeds, by their names.
            self.lfsr = Lfsr(TAPS, zlib.crc32(node.name.encode()) or 1)
        size = node.shape[0] if options.per_channel else 1
        self.range = nn.Parameter(torch.ones(size), requires_grad=self.spiking) if self.spiking else None

    @property
    def step(self) -> Tensor:
        """What one spike is worth, [1] or [channels], for a layer with a range."""
        assert self.range is not None and self.counts is not None
        return self.range / self.counts.n_pos

    @property
    def initial_potential(self) -> float:
        """What a membrane starts with, in thresholds."""
        return 0.5 if self.options.probabilistic and self.lfsr is None else self.options.initial_potential

    def units(self, steps: Sequence[Tensor]) -> Units:
        """Return the layer's membrane units, given the steps of its sources ([channels] each)."""
        return self.scaled_units(self.scaled_weights(steps))

    def scaled_weights(self, steps: Sequence[Tensor]) -> list[Tensor]:
        """Return each term's weights times the steps of its source: what one spike adds to a sum."""
        return [
            scale_inputs(weight.detach(), step, term)
            for term, weight, step in zip(self.node.terms, self.weights, steps, strict=True)
        ]

    def scaled_units(self, scaled: Sequence[Tensor], headroom: Tensor | None = None) -> Units:
        """Return the same for weights in activation units, see `membrane_units`."""
        target = self.step.detach().to(scaled[0].dtype).expand(self.node.shape[0]) if self.spiking else None
        bits = self.counts.bits if self.counts is not None else WIDE
        return membrane_units(scaled, target, bits, self.node.name, headroom, self.weight_bits)

    def sums(self, inputs: Sequence[Tensor], steps: Sequence[Tensor], exact: bool = False) -> Tensor:
        """Return the layer's sums, quantized weights and bias used unless `exact`."""
        units = None if exact else self.units(steps)
        bias: Tensor = self.bias
        if units is not None:
            bias = bias + (round_half_up(bias / units.unit) * units.unit - bias).detach()
        total = bias.view(-1, 1, 1)
        for index, (term, weight, x, step) in enumerate(zip(self.node.terms, self.weights, inputs, steps, strict=True)):
            if units is not None:
                whole = units.weight(scale_inputs(weight.detach(), step, term), index) * units.worth(index)
                weight = weight + (scale_inputs(whole, 1 / step, term) - weight).detach()
            total = total + term.apply(x, weight)
        return total

    def fire(self, sums: Sequence[Tensor]) -> list[Tensor]:
        """Return the activations a timestep, for the sums of every timestep."""
        assert self.range is not None and self.counts is not None
        step = self.step.detach().view(-1, 1, 1)
        if self.lfsr is not None:
            return self._fire_at_random(sums, self.lfsr, step)
        # Rounding is what half a threshold does; an initial potential counts from there.
        rest = (self.initial_potential - 0.5) * step
        if self.counts.n_neg and self.rectified and len(sums) == 1:
            return [_fire(sums[0] + rest, self.range, 0, self.counts.n_pos)]
        emitted: Tensor | None = None
        result = []
        for index, x in enumerate(sums):
            low: Tensor | float = float(self.counts.n_neg)
            if self.rectified:
                low = 0.0 if emitted is None else (emitted / step).round().clamp(max=self.counts.n_neg)
            potential = x + rest
            if self.counts.n_neg and self.options.negative_threshold:
                below = (potential / step).detach() < -0.5 - self.options.negative_threshold
                low = below * low
            spikes = _fire(potential, self.range, low, self.counts.n_pos)
            result.append(spikes)
            if index + 1 < len(sums):
                rest = potential - spikes
                emitted = spikes.detach() + (0.0 if emitted is None else emitted)
        return result

    def _fire_at_random(self, sums: Sequence[Tensor], lfsr: Lfsr, step: Tensor) -> list[Tensor]:
        """Fire with the very numbers that the integer network draws; gradients do not pass."""
        left = self.initial_potential * step + sum(sums[1:], start=sums[0]).detach()
        numbers = torch.from_numpy(draws(lfsr, self.node.shape, len(sums)).astype(np.float32))
        result = []
        for t, each in enumerate(numbers / (1 << DRAW_BITS)):
            result.append(step * ((left > 0) & (left > each * step * (len(sums) - t))))
            left = left - result[-1]
        return result


class _Fire(torch.autograd.Function):
    """Rounding to counts: step * clip(floor(x / step + 1/2), -low, n_pos) with step = range / n_pos.

    The gradient of x passes inside the range; that of the range is LSQ's: s - x / step inside, s outside, scaled by
    1 / sqrt(values a step * n_pos), and by n_pos because the range is n_pos steps.
    """

    @staticmethod
    def forward(ctx, x, span, low, n_pos):  # type: ignore[no-untyped-def]  # signature given by torch
        step = (span / n_pos).view(-1, 1, 1)
        scaled = x / step
        code = (scaled + 0.5).floor_()
        code = torch.maximum(code, -low).clamp_(max=n_pos) if isinstance(low, Tensor) else code.clamp_(-low, n_pos)
        if ctx.needs_input_grad[0]:
            slope = torch.sub(code, scaled, out=scaled)
            inside = slope.abs() <= 0.5
            ctx.save_for_backward(inside, torch.where(inside, slope, code))
            ctx.shape, ctx.n_pos = span.shape, n_pos
        return code * step

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]  # signature given by torch
        inside, slope = ctx.saved_tensors
        product = gradient.float() * slope
        by_step = product.sum().view(1) if ctx.shape[0] == 1 else product.sum((0, 2, 3))
        values = product[0].numel() / ctx.shape[0]
        return gradient * inside, by_step * (ctx.n_pos / (values * ctx.n_pos) ** 0.5), None, None


def _fire(x: Tensor, span: Tensor, low: Tensor | float, n_pos: int) -> Tensor:
    result: Tensor = _Fire.apply(x, span, low, n_pos)  # type: ignore[no-untyped-call]  # torch has no types for it
    return result


def scale_inputs(weight: Tensor, step: Tensor, term: Term) -> Tensor:
    """Multiply weights [out, in / groups, kh, kw] by a factor for each input channel [in]."""
    if bool((step == step[0]).all()):
        return weight * step[0]
    outputs, inputs = weight.shape[:2]
    factors = step.view(term.groups, 1, inputs).expand(term.groups, outputs // term.groups, inputs)
    return weight * factors.reshape(outputs, inputs, 1, 1)


class QuantizedModel(nn.Module):
    """A network in quantized form. Made by `calibrate`; `finetune` trains it, `to_network` turns it into integers.

    Called with inputs from `prepare`, it returns logits [batch, outputs] of `options.timesteps` timesteps. Its state
    dict holds weights, biases and ranges by layer; `/` stands for the dots of module paths.
    """

    def __init__(self, network: FloatNetwork, options: Options):
        super().__init__()
        self.network = network
        self.input = make_input(network, options)
        self.options = options
        self.layers = nn.ModuleDict()
        #: counts every node emits
        self.counts: dict[str, CountRange] = {network.input.name: self.input.counts}
        _check_layers(network, options)
        for node in network.nodes[1:]:
            if isinstance(node, FloatMaxPool):
                if options.timesteps > 1:
                    raise ConversionError(
                        f"max pooling {node.name!r}: the largest count of each timestep is exact at T = 1 only, and "
                        f"T = {options.timesteps} is asked for; use T = 1, or average pooling"
                    )
                self.counts[node.name] = self.counts[node.source]
            elif isinstance(node, FloatLayer):
                counts, rectified = self._counts_of(node)
                if counts is not None:
                    self.counts[node.name] = counts
                self.layers[_key(node.name)] = QuantizedLayer(node, counts, rectified, options.of_layer(node.name))

    def _counts_of(self, node: FloatLayer) -> tuple[CountRange | None, bool]:
        options = self.options.of_layer(node.name)
        if node.role is Role.RELU:
            counts = options.relu_counts
            return counts, counts.n_neg > 0
        if node.role is Role.SIGNED:
            return options.linear_counts, False
        if node.role is Role.POOL:
            return pooled_counts(self.counts[node.terms[0].source], node.terms[0].taps)[0], False
        return None, False

    def layer(self, name: str) -> QuantizedLayer:
        """Return a layer by its name."""
        layer = self.layers[_key(name)]
        assert isinstance(layer, QuantizedLayer)
        return layer

    def with_options(self, options: Options) -> "QuantizedModel":
        """Return a copy with the same weights and ranges under other options, e.g. more timesteps."""
        return copy.deepcopy(self).sharing(options)

    def sharing(self, options: Options) -> "QuantizedModel":
        """Return a model that shares this one's weights and ranges under other options: what trains one trains both."""
        if options.per_channel != self.options.per_channel:
            raise ConversionError(
                "steps a channel or a layer are a matter of calibration; calibrate with these options"
            )
        other = QuantizedModel(self.network, options)
        for name, layer in self.layers.items():
            for part in ("weights", "bias", "range"):
                setattr(other.layers[name], part, getattr(layer, part))
        return other.train(self.training)

    def prepare(self, images: NDArray[np.uint8]) -> Tensor:
        """Turn images (uint8, [batch, channels, height, width]) into the input, float [batch, *input shape].

        Events (uint8, [batch, timesteps, channels, height, width]) become float [batch, timesteps, *input shape].
        """
        return torch.from_numpy(quantize(self.input, images).astype(np.float32)) * self.input.scale

    def steps(self) -> dict[str, Tensor]:
        """Return what one spike of every emitting node is worth, float [channels], without gradients."""
        result = {self.network.input.name: torch.full((self.network.input.shape[0],), self.input.scale)}
        for node in self.network.nodes[1:]:
            if isinstance(node, FloatMaxPool):
                result[node.name] = result[node.source]
            elif isinstance(node, FloatLayer) and node.role is Role.POOL:
                term = node.terms[0]
                theta = pooled_counts(self.counts[term.source], term.taps)[1]
                rows = scale_inputs(term.weight, result[term.source], term).flatten(1).amax(1)
                # A row without weights (an added zero channel) emits nothing; any positive step will do.
                result[node.name] = torch.where(rows > 0, rows, rows.amax()) * theta
            elif isinstance(node, FloatLayer) and node.role is not Role.OUTPUT:
                result[node.name] = self.layer(node.name).step.detach().expand(node.shape[0])
        return result

    def emit(self, node: FloatLayer, values: dict[str, list[Tensor]], steps: dict[str, Tensor]) -> list[Tensor]:
        """Return the activations of a spiking node at each timestep, given its sources'."""
        layer = self.layer(node.name)
        if node.role is Role.POOL:
            return self._pool(layer, values, steps)
        return layer.fire(self.sums(node, values, steps))

    def sums(
        self, node: FloatLayer, values: dict[str, list[Tensor]], steps: dict[str, Tensor], exact: bool = False
    ) -> list[Tensor]:
        """Return a node's sums at each timestep; computed once where all of them are the same."""
        layer = self.layer(node.name)
        given = [steps[term.source] for term in node.terms]
        streams = [values[term.source] for term in node.terms]
        if all(x is stream[0] for stream in streams for x in stream):
            return [layer.sums([stream[0] for stream in streams], given, exact)] * len(streams[0])
        # All timesteps as one batch, so that weights are quantized once.
        timesteps = len(streams[0])
        return list(layer.sums([torch.cat(stream) for stream in streams], given, exact).chunk(timesteps))

    def _pool(self, layer: QuantizedLayer, values: dict[str, list[Tensor]], steps: dict[str, Tensor]) -> list[Tensor]:
        term, counts = layer.node.terms[0], layer.counts
        assert counts is not None
        pooled = [term.apply(x) for x in values[term.source]]
        theta = pooled_counts(self.counts[term.source], term.taps)[1]
        if theta == 1:
            return pooled
        span = steps[layer.node.name] * counts.n_pos
        result, rest = [], torch.zeros(())
        for x in pooled:
            result.append(_fire(x + rest, span, float(counts.n_neg), counts.n_pos))
            rest = x + rest - result[-1]
        return result

    def at_each_timestep(self, x: Tensor) -> list[Tensor]:
        """Return what the network sees at each timestep, [batch, *input shape] each, for x from `prepare`."""
        timesteps = self.options.timesteps
        if not self.network.input.events:
            return [x] * timesteps
        if x.shape[1] != timesteps:
            raise ConversionError(f"events in {x.shape[1]} bins do not make {timesteps} timesteps")
        return [each.contiguous(memory_format=torch.channels_last) for each in x.unbind(1)]

    def forward(
        self,
        x: Tensor,
        observe: Callable[[str, list[Tensor]], None] | None = None,
        change: Callable[[QuantizedLayer, dict[str, list[Tensor]], dict[str, Tensor]], None] | None = None,
    ) -> Tensor:
        """Return logits [batch, outputs] (a map is flattened) for x from `prepare`.

        `observe` gets every emitting node's name and activations [batch, channels, height, width] a timestep. `change`
        may change weights and biases, not ranges, of each layer before it is used: it gets the layer, the activations
        at each timestep of what it reads, and the steps.
        """
        steps = self.steps()
        values = {self.network.input.name: self.at_each_timestep(x)}
        uses = self.network.last_use()
        for node in self.network.nodes[1:]:
            if isinstance(node, FloatMaxPool):
                values[node.name] = [node.apply(value) for value in values[node.source]]
            elif isinstance(node, FloatLayer):
                if change is not None and node.role is not Role.POOL:
                    change(self.layer(node.name), values, steps)
                if node.role is Role.OUTPUT:
                    sums = self.sums(node, values, steps)
                    return (sum(sums[1:], start=sums[0]) / len(sums)).flatten(1)
                values[node.name] = self.emit(node, values, steps)
            if observe is not None:
                observe(node.name, values[node.name])
            for source in sources(node):
                if uses[source] == node.name:
                    values.pop(source, None)
        raise AssertionError("the last node of a float network is its output layer")


def _check_layers(network: FloatNetwork, options: Options) -> None:
    """Refuse widths for layers that there are not, or that have none."""
    weights = {node.name: node for node in network.layers if node.role is not Role.POOL}
    for name, own in options.layers.items():
        if name not in weights:
            raise ConversionError(f"no layer {name!r} has weights; those that do: {', '.join(weights)}")
        if weights[name].role is Role.OUTPUT and own.bits is not None:
            raise ConversionError(f"layer {name!r} emits no spikes, so its counts have no width; it is the output")


def pooled_counts(counts: CountRange, taps: int) -> tuple[CountRange, int]:
    """Return the counts of a sum over `taps` counts and its threshold: 1 (exact sums) where 8 bits hold them."""
    if taps == 1:
        return counts, 1
    for theta in range(1, 1 << 16):
        low, high = (int(np.floor(taps * value / theta + 0.5)) for value in (counts.n_neg, counts.n_pos))
        if low <= 1 << (WIDE - 1) and low + high < 1 << WIDE:
            return CountRange(low, max(high, 1), WIDE), theta
    raise ConversionError(f"a pooling window of {taps} taps is too large")


def make_input(network: FloatNetwork, options: Options) -> Input:
    """Choose the input's counts: 8 bits over the range of normalized pixels. Zero is a count, so padding is exact.

    Events are counts, of `options.bits` bits.
    """
    node = network.input
    mean, std = options.normalization(node.image[0])
    if node.events:
        if set(mean) != {0.0} or set(std) != {1.0}:
            raise ConversionError(
                f"a network sees counts of events as they are: mean is 0 and std 1, not {mean}, {std}"
            )
        counts = CountRange(0, (1 << options.bits) - 1, options.bits)
        return Input(node.name, node.shape, counts, 1.0, mean, std, node.image, options.timesteps)
    low = min(0.0, min(-m / s for m, s in zip(mean, std, strict=True)))
    high = max((1 - m) / s for m, s in zip(mean, std, strict=True))
    if high <= 0:
        raise ConversionError(f"with mean {mean} no pixel is above zero after normalization; is it in units of 0..1?")
    codes, half = (1 << WIDE) - 1, 1 << (WIDE - 1)
    if low == 0:
        scale, counts = high / codes, CountRange(0, codes, WIDE)
    else:
        scale = max((high - low) / (codes - 1), -low / half)
        counts = CountRange(min(half, round(-low / scale)), max(1, round(high / scale)), WIDE)
    return Input(node.name, node.shape, counts, scale, mean, std, node.image)


def _key(name: str) -> str:
    return name.replace(".", "/")
