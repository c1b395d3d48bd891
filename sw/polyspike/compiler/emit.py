"""From items to segments: packing, mapping, weight and parameter placement, and the instructions themselves."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from polyspike.network import Layer
from polyspike.spec.configuration import ADDRESS_BITS
from polyspike.spec.instructions import (
    FIRE,
    OUTPUT,
    RANDOM,
    RUN,
    SHAPE,
    SOURCE,
    WEIGHTS,
    WINDOW,
    FireKind,
    Instruction,
    PassMode,
    encode,
    make,
)
from polyspike.spec.memory import Space

from .density import Density
from .lowering import Lowering, Task
from .mapping import choose, fastest
from .program import Block, Box, Run, Segment, Step, Write
from .schedule import Item, Launch, instruction_count
from .words import pack_params, pack_weight_rows

_ADDRESSES = 1 << ADDRESS_BITS


@dataclasses.dataclass(frozen=True)
class Placement:
    """How a task is mapped, and where its weight rows (one base a term) and parameters lie in every column."""

    position_log2: int
    rows: tuple[int, ...]
    params: int


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """What one segment does for one node, for the report."""

    layer: str
    position_log2: int
    tiles: int
    cycles: int
    rows: int
    #: whether it adds up the parts of a divided window
    divided: bool
    #: its RUNs, and those of them that work on pairs of positions
    runs: int
    paired: int


def pack(lowering: Lowering, items: Iterable[Item]) -> list[list[Item]]:
    """Put consecutive items into segments as long as weights, parameters and instructions fit."""
    c = lowering.configuration
    segments: list[list[Item]] = []
    for item in items:
        if segments:
            launches = [launch for each in (*segments[-1], item) for launch in each.launches]
            tasks = list(dict.fromkeys(launch.task for launch in launches))
            unique = {launch.geometry: instruction_count(launch.task) for launch in launches}
            if (
                sum(lowering.task_rows(task) for task in tasks) <= c.weight_depth
                and sum(lowering.task_params(task) for task in tasks) <= c.param_depth
                and sum(unique.values()) <= c.program_depth
            ):
                segments[-1].append(item)
                continue
        segments.append([item])
    return segments


def emit(lowering: Lowering, items: Sequence[Item], density: Density) -> tuple[Segment, list[Part]]:
    """Build a segment from items that fit together."""
    launches = [launch for item in items for launch in item.launches]
    chosen = choose(lowering, launches, density)
    placements: dict[Task, Placement] = {}
    rows = params = 0
    for task, position_log2 in chosen.items():
        bases = []
        for term in task.terms:
            bases.append(rows)
            rows += lowering.rounds(task, position_log2) * lowering.term_rows(term)
        placements[task] = Placement(position_log2, tuple(bases), params)
        params += lowering.task_params(task, position_log2)
    writes = [
        write
        for task, placement in placements.items()
        for write in (*_weight_writes(lowering, task, placement), *_param_writes(lowering, task, placement))
    ]
    # Predicted cycles of each RUN, and whether it works on pairs.
    costs = {launch: fastest(lowering, launch, chosen[launch.task], density) for launch in launches}
    instructions: list[Instruction] = []
    known: dict[tuple[int, ...], int] = {}
    steps: list[Step] = []
    for item in items:
        for step in item.steps:
            if not isinstance(step, Launch):
                steps.append(step)
                continue
            code = _instructions(lowering, step, placements[step.task], pairs=costs[step][1])
            words = tuple(encode(each) for each in code)
            if words not in known:
                known[words] = len(instructions)
                instructions += code
            name = step.task.node.name
            # A map that only the compiler knows is nothing to observe.
            leaves = step.leaves if lowering.owner(name) == name else None
            block = Block(lowering.owner(name), known[words], len(code), leaves)
            before = steps[-1] if steps else None
            if isinstance(before, Run) and before.first + before.count == block.first:
                steps[-1] = Run((*before.blocks, block))
            else:
                steps.append(Run((block,)))
    program = np.array([encode(each) for each in instructions], np.uint64)
    writes.append(Write(Space.PROGRAM, 0, 0, program))
    parts = []
    for task, position_log2 in chosen.items():
        mine = [launch for launch in launches if launch.task is task]
        parts.append(
            Part(
                lowering.owner(task.node.name),
                position_log2,
                task.tile_count,
                sum(costs[launch][0] for launch in mine),
                lowering.task_rows(task, position_log2),
                task.sums is not None and any(launch.sums_window != (1, 1) for launch in mine),
                len(mine),
                sum(costs[launch][1] for launch in mine),
            )
        )
    return Segment(tuple(writes), tuple(steps), tuple(instructions)), parts


def _group_mask(group: int, position_log2: int) -> int:
    """Columns of a group, as a mask: group g has columns g * P to g * P + P - 1."""
    positions = 1 << position_log2
    return ((1 << positions) - 1) << group * positions


def _tiles_of(lowering: Lowering, task: Task, position_log2: int) -> list[tuple[int, list[int]]]:
    """Return (mask, tiles in the order of rounds) of every group that has a tile."""
    groups = lowering.configuration.columns >> position_log2
    return [
        (_group_mask(group, position_log2), list(range(task.tiles[0] + group, task.tiles[1], groups)))
        for group in range(min(groups, task.tile_count))
    ]


def _weight_writes(lowering: Lowering, task: Task, placement: Placement) -> list[Write]:
    writes = []
    for term, base in zip(task.terms, placement.rows, strict=True):
        if lowering.term_rows(term) == 0:
            continue
        for mask, tiles in _tiles_of(lowering, task, placement.position_log2):
            rows = np.concatenate([lowering.weight_rows(term, tile) for tile in tiles])
            address = base * lowering.configuration.weight_row_words
            writes.append(Write(Space.WEIGHTS, mask, address, pack_weight_rows(rows)))
    return writes


def _param_writes(lowering: Lowering, task: Task, placement: Placement) -> list[Write]:
    if task.kind is FireKind.RAW:
        return []
    writes = []
    for mask, tiles in _tiles_of(lowering, task, placement.position_log2):
        words = np.concatenate([pack_params(*lowering.parameters(task, tile)) for tile in tiles])
        writes.append(Write(Space.PARAMS, mask, 2 * placement.params, words))
    return writes


def _pitches(box: Box) -> tuple[int, int, int]:
    """Return words from one pixel, row and timestep of a box to the next."""
    _, rows, pixels, words = box.shape
    return words, pixels * words, rows * pixels * words


def _instructions(lowering: Lowering, launch: Launch, placement: Placement, pairs: bool) -> list[Instruction]:
    task = launch.task
    together = 2 if pairs else 1
    code: list[Instruction] = []
    height, width = (stop - start for start, stop in (launch.rows, launch.pixels))
    if task.sums is not None:
        box = launch.sources[0]
        pixel, row, time = _pitches(box)
        kernel_h, kernel_w = launch.sums_window
        code += [
            make(SOURCE, slot=0, origin=box.address, row_pitch=row, pixel_pitch=pixel, time_pitch=time),
            make(
                WINDOW,
                slot=0,
                height=box.shape[1],
                width=box.shape[2],
                kernel_h=kernel_h,
                kernel_w=kernel_w,
                stride_y=1,
                stride_x=1,
                pad_y=0,
                pad_x=0,
            ),
            make(
                WEIGHTS,
                slot=0,
                mode=PassMode.RAW,
                base=0,
                words=lowering.lanes // 2,
                tile_step=0,
                shared=0,
                wide=0,
                positive=0,
                shift=0,
            ),
        ]
    for (term, box), base in zip(launch.placed_terms, placement.rows, strict=True):
        slot = len(code) // 3
        layout = lowering.maps[term.source]
        pixel, row, time = _pitches(box)
        seen = box.size > 0
        pad_y, pad_x = launch.pad(term, box)
        origin = box.address + term.words[0] - box.words[0] - pad_y * row - pad_x * pixel
        # Strides of a single row or pixel are never taken.
        stride_y, stride_x = (
            stride if count > 1 else 1 for stride, count in zip(term.stride, (height, width), strict=True)
        )
        code += [
            make(
                SOURCE,
                slot=slot,
                origin=origin % _ADDRESSES,
                row_pitch=row,
                pixel_pitch=pixel,
                time_pitch=time if layout.timesteps > 1 else 0,
            ),
            make(
                WINDOW,
                slot=slot,
                height=box.shape[1] if seen else 0,
                width=box.shape[2] if seen else 0,
                kernel_h=term.kernel[0],
                kernel_w=term.kernel[1],
                stride_y=stride_y,
                stride_x=together * stride_x,
                pad_y=pad_y,
                pad_x=pad_x,
            ),
            make(
                WEIGHTS,
                slot=slot,
                mode=term.mode,
                base=base,
                words=lowering.term_words(term),
                tile_step=lowering.term_rows(term),
                shared=int(term.shared),
                wide=int(layout.bits == 8),
                positive=layout.n_pos,
                shift=term.synapse.shift if term.synapse is not None else 0,
            ),
        ]
    pixel, row, time = _pitches(launch.output)
    base = launch.output.address + launch.offset
    code.append(make(OUTPUT, base=base, row_pitch=row, pixel_pitch=together * pixel, time_pitch=time))
    code.append(
        make(
            SHAPE,
            height=height,
            width=width // together,
            timesteps=launch.time[1] - launch.time[0],
            tiles=task.tile_count,
            position_log2=placement.position_log2,
            passes=task.passes,
            pairs=int(pairs),
        )
    )
    spiking = task.kind is FireKind.SPIKE
    counts = lowering.network.counts(task.node.name) if spiking else None
    neuron = task.node.neuron if isinstance(task.node, Layer) else None
    code.append(
        make(
            FIRE,
            kind=task.kind,
            params=placement.params,
            wide=int(counts is not None and counts.bits == 8),
            n_neg=counts.n_neg if counts is not None else 0,
            n_pos=counts.n_pos if counts is not None else 0,
            rectified=int(spiking and neuron is not None and neuron.rectified),
        )
    )
    if task.kind is FireKind.PROBABILISTIC:
        assert isinstance(task.node, Layer)
        for which, value in lowering.random_values(task.node, launch.rows, launch.pixels).items():
            code.append(make(RANDOM, which=which, value=value))
    code.append(make(RUN))
    return code
