"""The no-overflow proof: refuses a network whose membranes could leave a configuration's accumulators."""

from polyspike.network import Layer, Network, membrane_ranges
from polyspike.spec import CompileError, Configuration, MembraneOverflowError


def prove(network: Network, configuration: Configuration) -> None:
    """Check every membrane, threshold, parameter and count range against the configuration's widths.

    Raises
    ------
    MembraneOverflowError
        A membrane could need more than `membrane_bits`; names layer, channel, bound and the width that would fit.
    CompileError
        A threshold is too large, or counts are wider than the fire units emit.
    """
    bits = configuration.membrane_bits
    ranges = membrane_ranges(network)
    for layer in network:
        if not isinstance(layer, Layer):
            continue
        where = f"network {network.name!r}, layer {layer.name!r}"
        needed = ranges[layer.name].bits()
        if (needed > bits).any():
            channel = int(needed.argmax())
            bound = int(ranges[layer.name].reach[channel])
            raise MembraneOverflowError(
                f"{where}, channel {channel}: the membrane can reach a magnitude of {bound}, "
                f"which needs {int(needed[channel])} bits; configuration {configuration.name!r} has {bits}. "
                f"Membranes of {int(needed[channel])} bits would fit"
                + ("" if needed[channel] <= 32 else ", but 32 is the widest; use smaller weights or fewer inputs")
            )
        if layer.neuron is None:
            continue
        counts = layer.neuron.counts
        if counts.bits > configuration.count_bits:
            raise CompileError(
                f"{where}: emits counts of {counts.bits} bits, but configuration {configuration.name!r} emits at most "
                f"{configuration.count_bits}; use neurons of {configuration.count_bits} bits or a configuration with "
                f"count_bits = {counts.bits}"
            )
        if layer.neuron.lfsr is not None and not configuration.probabilistic:
            raise CompileError(
                f"{where}: has probabilistic neurons, which configuration {configuration.name!r} does not; "
                "use one with probabilistic = 1"
            )
        theta_neg = layer.neuron.negative_threshold
        if theta_neg.any() and not configuration.negative_threshold:
            raise CompileError(
                f"{where}: has a negative threshold of its own, which configuration {configuration.name!r} does not; "
                "use one with negative_threshold = 1"
            )
        if (theta_neg >> configuration.threshold_bits).any():
            raise CompileError(
                f"{where}, channel {int(theta_neg.argmax())}: theta_neg is {int(theta_neg.max())}, but with membranes "
                f"of {bits} bits it can be at most {(1 << configuration.threshold_bits) - 1}"
            )
        limit = 1 << (bits - 2 - counts.bits)
        if (layer.neuron.theta > limit).any():
            channel = int(layer.neuron.theta.argmax())
            raise CompileError(
                f"{where}, channel {channel}: theta is {int(layer.neuron.theta[channel])}, but with counts of "
                f"{counts.bits} bits and membranes of {bits} bits it can be at most {limit}"
            )
