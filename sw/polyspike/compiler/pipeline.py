"""The compiler's one entry: prove, schedule, pack, emit, report."""

import math

from polyspike.network import Input, Layer, MaxPool, Network, Node, verify
from polyspike.spec import Configuration

from .density import DEFAULT_DENSITY, Density
from .emit import Part, emit, pack
from .lowering import Lowering
from .mapping import least_cycles
from .packing import InputPacking, pack_window_rows
from .program import Download, LayerReport, Program, Run, Segment, Upload
from .proof import prove
from .schedule import Item, Scheduler


def compile(network: Network, configuration: Configuration, *, density: Density = DEFAULT_DENSITY) -> Program:
    """Lower a network to a program for a configuration.

    Parameters
    ----------
    network
        Any network that passes `polyspike.network.verify`.
    configuration
        The hardware. What does not fit its memories is streamed.
    density
        Share of counts that are not zero, for predicted cycles and the choice of mappings: one number, or one for
        each map by name, or what `polyspike.golden.densities` measured. It never changes a result.

    Raises
    ------
    NetworkError
        The network breaks a rule of the IR.
    MembraneOverflowError
        A membrane could leave the accumulator.
    CompileError
        Thresholds or counts are too wide for the configuration, or not even one output position at a time fits.
    """
    prove(verify(network), configuration)
    packed_network, packing = pack_window_rows(network)
    lowering = Lowering(packed_network, configuration)
    scheduler = Scheduler(lowering, lambda launch: least_cycles(lowering, launch, density))
    packed = pack(lowering, scheduler.items())
    residency = _residency(lowering, packed)
    segments, parts = [], []
    for items in packed:
        segment, made = emit(lowering, items, density)
        segments.append(segment)
        parts += made
    layouts = {**lowering.maps, **scheduler.sums}
    used = {step.box.map for segment in segments for step in segment.steps if isinstance(step, Upload | Download)}
    report = tuple(
        _report(lowering, node, [part for part in parts if part.layer == node.name], residency[node.name], packing)
        for node in network
        if not isinstance(node, Input)
    )
    maps = {name: layout.shape for name, layout in layouts.items() if name in used}
    return Program(configuration, network, tuple(segments), maps, report, packing, _input_blocks(packed, segments))


def _input_blocks(packed: list[list[Item]], segments: list[Segment]) -> int:
    """Return `Program.input_blocks`."""
    if len(packed) > 1 or len(packed[0]) > 1:
        return 0
    steps = segments[0].steps
    if [type(step) for step in steps] != [Upload, Run, Download]:
        return 0
    (item,) = packed[0]
    # While its only block reads the input, none can be written.
    return item.input_launches if item.input_launches < len(item.launches) else 0


def _residency(lowering: Lowering, packed: list[list[Item]]) -> dict[str, tuple[str, str]]:
    """Return for each node where it lives, and why."""
    found = {}
    for index, items in enumerate(packed):
        for item in items:
            for name in item.nodes:
                if len(packed) == 1:
                    kind = "resident" if item.refusal is None else "maps streamed"
                    why = item.refusal or "weights and maps fit on the chip together"
                else:
                    kind = "weights streamed" if item.refusal is None else "weights and maps streamed"
                    why = item.refusal or f"segment {index + 1} of {len(packed)}: {_why_segments(lowering, packed)}"
                found[lowering.owner(name)] = kind, why
    return found


def _why_segments(lowering: Lowering, packed: list[list[Item]]) -> str:
    """Return what keeps the whole network from being one segment."""
    c = lowering.configuration
    tasks = {launch.task: None for items in packed for item in items for launch in item.launches}
    rows = sum(lowering.task_rows(task) for task in tasks)
    params = sum(lowering.task_params(task) for task in tasks)
    if rows > c.weight_depth:
        return f"all weights need {rows} rows a column, of which there are {c.weight_depth}"
    if params > c.param_depth:
        return f"all parameters need {params} channels a column, of which there are {c.param_depth}"
    return f"the whole program does not fit {c.program_depth} instructions"


def dense_macs(network: Network, node: Node) -> int:
    """Return the multiply-accumulates of the dense layer, for one image and timestep."""
    if not isinstance(node, Layer):
        return 0
    return sum(
        node.shape[0] * node.shape[1] * node.shape[2] * synapse.weight.shape[1] * math.prod(synapse.window)
        for synapse in node.synapses
    )


def _report(
    lowering: Lowering,
    node: Layer | MaxPool,
    parts: list[Part],
    residency: tuple[str, str],
    packing: InputPacking | None,
) -> LayerReport:
    positions = 1 << parts[0].position_log2
    groups = min(lowering.configuration.columns // positions, parts[0].tiles)
    mapping = f"{positions} position{'s' * (positions > 1)} x {groups} tile{'s' * (groups > 1)}"
    paired = sum(part.paired for part in parts)
    if paired:
        mapping += ", in pairs" if paired == sum(part.runs for part in parts) else ", partly in pairs"
    if any(part.divided for part in parts):
        mapping += ", window divided"
    elif len(parts) > 1:
        mapping += f", {len(parts)} parts"
    if packing is not None and packing.layer == node.name:
        mapping += ", window rows packed"
    return LayerReport(
        node.name,
        mapping,
        sum(part.cycles for part in parts),
        sum(part.rows for part in parts),
        lowering.maps[node.name].size,
        *residency,
        dense_macs(lowering.network, node),
    )
