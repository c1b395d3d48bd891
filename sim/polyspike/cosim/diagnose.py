"""Where a wrong integer comes from: the spike word that holds it, who wrote it, and in which cycle.

`Probe` watches an engine in a cocotb simulation: it keeps when programs ran and what went into the spike memory.
`diagnose` puts that together with the first difference from the golden model. `record` writes the waveform of the
cycles around it in a second simulation; a simulation that gets the same stimuli does the same in every cycle.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.handle import HierarchyObject, LogicArrayObject, LogicObject, PackedObject
from cocotb.triggers import FallingEdge, RisingEdge, Timer
from cocotb.utils import get_sim_time
from vcd import VCDWriter

from polyspike.compiler import Block, Box, Program, Run
from polyspike.driver.compare import Comparison, Mismatch
from polyspike.gateware import layouts
from polyspike.spec import Configuration

from .cocotb_streams import PERIOD_NS, cycle
from .payload import Payload

#: Cycles of the waveform before the write of a wrong word, and after it.
BEFORE, AFTER = 200, 20

#: Clocks of designs, by name.
_CLOCKS = ("clk", "aclk")

#: Bits of a membrane in a spike word.
_MEMBRANE_BITS = 32


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the driver has read an integer: `bits` bits from bit `low` on of the spike word at `address`.

    `run` is the number of the RUN request after which it was read, counted from 0 over a traced batch, and `first_run`
    that of the first one which may have written it: a layer can take several.
    """

    box: Box
    address: int
    low: int
    bits: int
    first_run: int
    run: int
    block: Block


@dataclasses.dataclass(frozen=True)
class Written:
    """A word that went into the spike memory: in which cycle, and which halves of it (`mask`, bit 0 the lower one)."""

    cycle: int
    address: int
    data: int
    mask: int


@dataclasses.dataclass(frozen=True)
class Activity:
    """What a `Probe` saw. `runs` are the first and last cycle of each RUN request."""

    runs: Sequence[tuple[int, int]]
    writes: Sequence[Written]


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The first differing integer and where it comes from. `cycle` is where to look in a waveform."""

    text: str
    cycle: int

    @property
    def window(self) -> tuple[int, int]:
        """First and last cycle of the neighbourhood."""
        return max(0, self.cycle - BEFORE), self.cycle + AFTER


def place(program: Program, mismatch: Mismatch, images: int) -> Place:
    """Return where an integer of a traced batch of `images` images was read.

    Parameters
    ----------
    program
        The program that ran.
    mismatch
        A difference that `polyspike.driver.compare` found.
    """
    layer, timestep, row, column, channel = _coordinates(program, mismatch)
    bits = _MEMBRANE_BITS if mismatch.layer is None else program.network.counts(layer).bits
    word, low = divmod(channel * bits, 64)
    # Membranes are written once, after the last timestep.
    at = (0 if mismatch.layer is None else timestep, row, column, word)
    first_run = None
    for run, (image, block) in enumerate(_runs(program, images)):
        if image != mismatch.image or block.layer != layer:
            first_run = None
            continue
        first_run = run if first_run is None else first_run
        box = block.output
        if box is None:
            continue
        spans = (box.time, box.rows, box.pixels, box.words)
        if all(start <= index < stop for index, (start, stop) in zip(at, spans, strict=True)):
            inside = [index - start for index, (start, _) in zip(at, spans, strict=True)]
            address = (box.address + int(np.ravel_multi_index(inside, box.shape))) % program.configuration.spike_depth
            return Place(box, address, low, bits, first_run, run, block)
    raise LookupError(f"no block of the program leaves layer {layer!r} at {at}")


def _runs(program: Program, images: int) -> Iterator[tuple[int, Block]]:
    """Yield image and block of every RUN request of a traced batch, in the order in which the driver makes them."""
    for segment in program.segments:
        for image in range(images):
            for step in segment.steps:
                if isinstance(step, Run):
                    yield from ((image, block) for block in step.blocks)


def diagnose(program: Program, comparison: Comparison, activity: Activity, images: int) -> Diagnosis:
    """Say what is known about the first difference.

    Parameters
    ----------
    program, images
        What ran: the program, on a traced batch of so many images.
    comparison
        Its result against the golden model's; at least one integer differs.
    activity
        What the probe saw during this batch.
    """
    mismatch = comparison.first
    assert mismatch is not None
    found = place(program, mismatch, images)
    start, end = activity.runs[found.first_run][0], activity.runs[found.run][1]
    half = 1 << found.low // 32
    text = (
        f"{comparison.differing} of {comparison.compared} integers differ; the first:\n{_describe(program, mismatch)}\n"
        f"it is in bits {found.low} to {found.low + found.bits - 1} of the spike word at address {found.address}, "
        f"read after instructions {found.block.first} to {found.block.first + found.block.count - 1} "
        f"(cycles {start} to {end})\n"
    )
    writes = [
        each
        for each in activity.writes
        if each.address == found.address and each.mask & half and start <= each.cycle <= end
    ]
    if writes:
        last = writes[-1]
        text += f"that word was written at cycle {last.cycle}: {last.data:#018x}, halves {last.mask:02b}"
        return Diagnosis(text, last.cycle)
    return Diagnosis(text + "that word was not written in these cycles", end)


def _coordinates(program: Program, mismatch: Mismatch) -> tuple[str, int, int, int, int]:
    """Return layer, timestep, row, pixel and channel."""
    if mismatch.layer is not None:
        return mismatch.layer, mismatch.timestep, mismatch.row, mismatch.column, mismatch.channel
    output = program.network.output
    channel, row, column = (int(each) for each in np.unravel_index(mismatch.channel, output.shape))
    return output.name, program.network.timesteps - 1, row, column, channel


def _describe(program: Program, mismatch: Mismatch) -> str:
    layer, timestep, row, column, channel = _coordinates(program, mismatch)
    what = "membrane" if mismatch.layer is None else "count"
    return (
        f"layer {layer!r}, image {mismatch.image}, timestep {timestep}, position (y {row}, x {column}), "
        f"channel {channel}: {what} {mismatch.value}, expected {mismatch.expected}"
    )


class Probe:
    """Watches the engine of a simulated design, which has it as `engine`, from construction on."""

    def __init__(self, dut: Any, configuration: Configuration) -> None:
        self._engine = dut.engine
        self._item = Payload(layouts.spike_write(configuration))
        spikes = dut.engine.spikes
        if configuration.compact:
            self._valid, self._payload, self._later = spikes.write0__valid, spikes.write0__payload, 0
        else:
            # Between the arbiter and the memory there is a register.
            arbiter = spikes.write_arbiter
            self._valid, self._payload, self._later = arbiter.o__valid, arbiter.o__payload, 1
        self._runs: list[tuple[int, int]] = []
        self._writes: list[Written] = []
        cocotb.start_soon(self._watch_runs())
        cocotb.start_soon(self._watch_writes())

    def take(self) -> Activity:
        """Return what was seen since the last call."""
        seen = Activity(self._runs, self._writes)
        self._runs, self._writes = [], []
        return seen

    async def _watch_runs(self) -> None:
        while True:
            await RisingEdge(self._engine.busy)
            start = cycle()
            await FallingEdge(self._engine.busy)
            self._runs.append((start, cycle()))

    async def _watch_writes(self) -> None:
        settled = FallingEdge(self._engine.clk)
        while True:
            # Sleeping until something is written spares the simulator a call each cycle.
            await RisingEdge(self._valid)
            await settled
            while self._valid.value:
                # It is written with the next rising edge.
                item = self._item.unpack(int(self._payload.value))
                self._writes.append(Written(cycle() + 1 + self._later, **item))
                await settled


async def record(dut: Any, window: tuple[int, int], path: Path) -> None:
    """Write the waveform (VCD) of a design from the first to the last cycle of a window.

    A cycle begins with its rising edge; what is shown of it is what has settled behind that. Signals that Yosys named
    and memories are left out.
    """
    first, last = window
    signals = list(_signals(dut))
    await Timer(max(1, first * PERIOD_NS - int(get_sim_time("ns"))), "ns")
    settled = FallingEdge(dut.engine.clk)
    with path.open("w") as file, VCDWriter(file, timescale="1 ns", date="") as writer:
        variables = [
            (writer.register_var(scope, name, "wire", size=len(handle), init="x"), name in _CLOCKS, handle)
            for scope, name, handle in signals
        ]
        while cycle() < last:
            await settled
            edge = cycle() * PERIOD_NS
            for variable, is_clock, handle in variables:
                writer.change(variable, edge, "1" if is_clock else str(handle.value).lower())
            for variable, is_clock, _ in variables:
                if is_clock:
                    writer.change(variable, edge + PERIOD_NS // 2, "0")


def _signals(block: Any, scope: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Yield scope, name and handle of the signals of a block and of those inside it."""
    scope = (*scope, block._name)
    for child in block:
        if isinstance(child, HierarchyObject):
            yield from _signals(child, scope)
        elif isinstance(child, LogicObject | LogicArrayObject | PackedObject) and _is_named(child._name):
            yield scope, child._name, child


def _is_named(name: str) -> bool:
    """Whether a signal has a name of its own, and not one of Yosys'."""
    return name.isidentifier() and not name.startswith("_")
