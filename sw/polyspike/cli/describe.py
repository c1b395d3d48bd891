"""Networks, programs and configurations as readable text."""

import dataclasses

from polyspike.compiler import Program
from polyspike.network import CountRange, Input, Layer, MaxPool, Network, Node, Synapse, membrane_ranges
from polyspike.network.file import weight_bits
from polyspike.spec import NAMED

from .text import number, table


def counts_text(counts: CountRange) -> str:
    """Return a count range, e.g. "-3..12 (4 bit)"."""
    return f"{-counts.n_neg}..{counts.n_pos} ({counts.bits} bit)"


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape, e.g. "32x14x14"."""
    return "x".join(str(size) for size in shape)


def _synapse_text(network: Network, synapse: Synapse) -> str:
    window = shape_text(synapse.window)
    whole_map = synapse.window == network[synapse.source].shape[1:]
    if synapse.shared:
        kind = f"sum {window}" if synapse.depthwise else f"linear over sum {window}"
    elif whole_map and synapse.groups == 1:
        kind = "linear"
    elif synapse.depthwise:
        kind = "identity" if synapse.window == (1, 1) else f"depthwise {window}"
    else:
        kind = f"conv {window}" + (f" in {synapse.groups} groups" if synapse.groups > 1 else "")
    if synapse.stride != (1, 1) and not whole_map:
        kind += f"/{synapse.stride[0]}" if len(set(synapse.stride)) == 1 else f"/{shape_text(synapse.stride)}"
    return f"{kind} of {synapse.source}"


def _node_text(network: Network, node: Node) -> str:
    if isinstance(node, Input):
        return f"image {shape_text(node.image)}" if node.bins is None else f"events {shape_text(node.item)}"
    if isinstance(node, MaxPool):
        return f"max {shape_text(node.window)} of {node.source}"
    return " + ".join(_synapse_text(network, synapse) for synapse in node.synapses)


def describe_network(network: Network) -> str:
    """Return a network's layers, count ranges, weights and membrane widths as a table with a heading."""
    ranges = membrane_ranges(network)
    rows, weights = [], 0
    for node in network:
        counts, size, bits = "membranes", "", ""
        if not isinstance(node, Layer) or node.neuron is not None:
            counts = counts_text(network.counts(node.name))
        if isinstance(node, Layer):
            size = number(sum(synapse.weight.size for synapse in node.synapses))
            widths = {weight_bits(synapse.weight) for synapse in node.synapses}
            size += f" ({' and '.join(map(str, sorted(widths)))} bit)"
            weights += sum(synapse.weight.size for synapse in node.synapses)
            bits = str(int(ranges[node.name].bits().max()))
            if node.neuron is not None and node.neuron.rectified:
                counts += " rectified"
        rows.append((node.name, _node_text(network, node), shape_text(node.shape), counts, size, bits))
    head = (
        f"integer network {network.name!r}: T = {network.timesteps}, {len(rows)} nodes, {number(weights)} weights, "
        f"{network.output.shape[0]} outputs"
    )
    if network.classes:
        head += f" ({', '.join(network.classes)})"
    headings = ("node", "computes", "shape", "spike counts", "weights", "membrane bits")
    return f"{head}\n\n{table(headings, rows, left=4)}"


def report_table(program: Program) -> str:
    """Return what the compiler decided for each layer."""
    rows = [
        (
            layer.layer,
            layer.mapping,
            number(layer.macs),
            number(layer.cycles),
            number(layer.weight_rows),
            number(layer.output_words),
            layer.residency,
            layer.reason,
        )
        for layer in program.report
    ]
    headings = ("layer", "columns are", "MACs", "cycles", "weight rows", "output words", "residency", "because")
    lines = table(headings, rows, left=2).splitlines()
    return "\n".join([*lines, f"predicted cycles an image: {number(program.cycles)}"])


def describe_program(program: Program) -> str:
    """Return a program's hardware, memory use and layers."""
    configuration = program.configuration
    writes = [write for segment in program.segments for write in segment.writes]
    words = sum(write.words.size for write in writes)
    instructions = sum(len(segment.instructions) for segment in program.segments)
    columns = f"{configuration.columns} column{'s' * (configuration.columns > 1)} of {configuration.lanes} lanes"
    lines = [
        f"program for configuration {configuration.name!r}: {columns}, digest {configuration.digest}",
        f"{len(program.segments)} segment{'s' if len(program.segments) != 1 else ''} "
        f"({'everything stays on the device' if program.resident else 'streamed by the driver'}), "
        f"{number(instructions)} instructions, {number(words * 8)} bytes to write",
        "",
        report_table(program),
        "",
        describe_network(program.network),
    ]
    return "\n".join(lines)


def configuration_table() -> str:
    """Return the named hardware configurations, one a column."""
    configurations = list(NAMED.values())
    rows = [
        (field.name, *(str(getattr(each, field.name)) for each in configurations))
        for field in dataclasses.fields(configurations[0])
        if field.name != "name"
    ]
    rows.append(("digest", *(each.digest for each in configurations)))
    return table(("configuration", *(each.name for each in configurations)), rows)
