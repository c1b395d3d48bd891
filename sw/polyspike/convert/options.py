"""What a user can choose about a conversion."""

import dataclasses
import enum
from collections.abc import Mapping

from polyspike.network import CountRange
from polyspike.spec import ConversionError

#: The smallest and the largest factor of all ranges.
SCALES = (0.125, 4.0)


class Method(enum.StrEnum):
    """How a layer's range is chosen from its activations. See `ranges.py`."""

    ENTROPY = "entropy"
    MSE = "mse"
    PERCENTILE = "percentile"
    MAX = "max"


@dataclasses.dataclass(frozen=True)
class LayerOptions:
    """What one layer has otherwise than `Options` say: the width of its weights, of its spike counts, or both."""

    weight_bits: int | None = None
    bits: int | None = None

    def __post_init__(self) -> None:
        for name in ("weight_bits", "bits"):
            if getattr(self, name) not in (None, 4, 8):
                raise ConversionError(f"{name} of a layer is {getattr(self, name)}, but must be 4 or 8")


@dataclasses.dataclass(frozen=True)
class Options:
    """How to quantize a network.

    `mean` and `std` are the normalization the float network was trained with, one entry a channel: it sees
    (pixel / 255 - mean) / std. A single entry serves all channels.

    `counts` is the range of spike counts of layers with a ReLU, `signed_counts` that of layers without one. Left out,
    they follow from `bits` and `timesteps`: at T = 1 the whole unsigned range for ReLU; above it a few counts are
    negative, so that a neuron can take back what it emitted too early (a rectified layer, its sum over time never
    below zero).

    `initial_potential` is what a membrane starts with, and `negative_threshold` how far below zero it has to be before
    a negative spike is emitted, both in thresholds.

    With `probabilistic`, layers with a ReLU have two-phase probabilistic neurons, which emit one spike a timestep at
    most; layers without one are as elsewhere, and start with half a threshold whatever `initial_potential` is.

    `weight_bits` is the width of weights; shortcuts without weights of their own keep 8 bits. `layers` has what single
    layers, by name, are to have otherwise.

    `scale` multiplies every range that `method` chose. With `trials` above 0, calibration looks for a better one in so
    many trials, a Bayesian optimization that starts with `scale`, and that the same `seed` repeats exactly (see
    `scaling.py`).

    `per_channel` gives every channel its own step. `reconstruct` chooses each layer's weights anew, so that it computes
    the float network's sums from quantized inputs, see `reconstruction.py`. `correct_bias` moves each layer's biases so
    that its mean sums over the calibration images equal the float network's. `accumulator_bits` is the width that
    membranes must fit.
    """

    timesteps: int = 1
    bits: int = 4
    counts: CountRange | None = None
    signed_counts: CountRange | None = None
    weight_bits: int = 8
    layers: Mapping[str, LayerOptions] = dataclasses.field(default_factory=dict)
    initial_potential: float = 0.5
    negative_threshold: float = 0.0
    probabilistic: bool = False
    method: Method = Method.MSE
    percentile: float = 99.9
    scale: float = 1.0
    trials: int = 0
    seed: int = 0
    per_channel: bool = True
    reconstruct: bool = True
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    correct_bias: bool = True
    accumulator_bits: int = 24

    def __post_init__(self) -> None:
        if not 1 <= self.timesteps <= 255:
            raise ConversionError(f"timesteps is {self.timesteps}, but must be from 1 to 255")
        if self.bits not in (4, 8):
            raise ConversionError(f"bits is {self.bits}; spike counts have 4 or 8 bits")
        if self.weight_bits not in (4, 8):
            raise ConversionError(f"weight_bits is {self.weight_bits}; weights have 4 or 8 bits")
        if self.method not in tuple(Method):
            raise ConversionError(f"method is {self.method!r}; there are {', '.join(Method)}")
        # A plain string, as from a command line, becomes the method of that name.
        object.__setattr__(self, "method", Method(self.method))
        if not 0 < self.percentile <= 100:
            raise ConversionError(f"percentile is {self.percentile}, but must be above 0 and at most 100")
        if not SCALES[0] <= self.scale <= SCALES[1]:
            raise ConversionError(f"scale is {self.scale}, but must be from {SCALES[0]} to {SCALES[1]}")
        if self.trials < 0:
            raise ConversionError(f"trials is {self.trials}, but must not be negative")
        if any(value <= 0 for value in self.std) or not self.mean:
            raise ConversionError(f"std is {self.std}, but every entry must be positive")
        for name in ("counts", "signed_counts"):
            counts = getattr(self, name)
            if counts is not None and (
                counts.bits not in (4, 8)
                or counts.n_pos < 1
                or not 0 <= counts.n_neg <= 1 << (counts.bits - 1)
                or counts.n_neg + counts.n_pos >= 1 << counts.bits
            ):
                raise ConversionError(
                    f"{name} is -{counts.n_neg} .. {counts.n_pos} in {counts.bits} bits, but n_pos must be at least 1, "
                    "n_neg at most half the codes, and all of them must fit"
                )
        for name in ("initial_potential", "negative_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConversionError(f"{name} is {getattr(self, name)}, but must be from 0 to 1, in thresholds")
        if self.probabilistic and self.counts != CountRange(0, 1, 4):
            raise ConversionError(
                f"counts is {self.counts}, but probabilistic neurons emit 0 or 1 spike, in 4 bits: CountRange(0, 1, 4)"
            )
        if not 16 <= self.accumulator_bits <= 32:
            raise ConversionError(f"accumulator_bits is {self.accumulator_bits}, but must be from 16 to 32")

    @property
    def relu_counts(self) -> CountRange:
        """Counts of a layer with a ReLU."""
        if self.counts is not None:
            return self.counts
        codes = (1 << self.bits) - 1
        if self.timesteps == 1:
            return CountRange(0, codes, self.bits)
        # Measured at T = 2 on the demo network and ResNet-20: 0 to 5 negative counts differ by less than a point,
        # since few suffice and each costs resolution above.
        return CountRange(2, codes - 2, self.bits)

    @property
    def linear_counts(self) -> CountRange:
        """Counts of a layer without a ReLU."""
        if self.signed_counts is not None:
            return self.signed_counts
        half = 1 << (self.bits - 1)
        return CountRange(half, half - 1, self.bits)

    def of_layer(self, name: str) -> "Options":
        """Return the options of one layer; a width of counts of its own goes before `counts` and `signed_counts`."""
        own = self.layers.get(name)
        if own is None:
            return self
        result = self.replace(layers={})
        if own.weight_bits is not None:
            result = result.replace(weight_bits=own.weight_bits)
        if own.bits is not None:
            result = result.replace(bits=own.bits, counts=None, signed_counts=None)
        return result

    def normalization(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and std with one entry for each of `channels`."""
        result = []
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, channels):
                raise ConversionError(f"{name} has {len(values)} entries, but the images have {channels} channels")
            result.append(tuple(values) * channels if len(values) == 1 else tuple(values))
        return result[0], result[1]

    def replace(self, **changes: object) -> "Options":
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]
