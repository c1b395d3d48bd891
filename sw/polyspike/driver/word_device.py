"""A device that executes programs: memories, a sequencer and counters behind a memory port."""

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from polyspike.compiler.packing import pack_input
from polyspike.compiler.program import Block, Box, Download, Program, Run, Segment, Upload
from polyspike.compiler.words import unpack_counts, unpack_membranes, words_per_pixel
from polyspike.network import Input
from polyspike.spec import NAMED, Configuration, DeviceError
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME, COUNTERS, MAGIC

from .device import (
    Counters,
    Identity,
    LayerProfile,
    Result,
    as_program,
    describe,
    input_counts,
    make_result,
    require_configuration,
)
from .ports import Connection, MemoryPort

Words = NDArray[np.uint64]

#: Most bytes of host maps that are held at once; a larger batch is run in parts.
HOST_MAP_BYTES = 1 << 29


class WordDevice:
    """The driver of everything that executes programs.

    Parameters
    ----------
    connect
        Makes the connection to a device of a given configuration.
    description
        What the device is, until the connection says it better.
    configuration
        The device's configuration. With None, the connection is made when the first program is loaded, for its
        configuration.

    Raises
    ------
    DeviceError
        There is no polyspike device, or one of another configuration.
    """

    def __init__(
        self,
        connect: Callable[[Configuration], Connection],
        description: str,
        configuration: Configuration | None = None,
    ) -> None:
        self._connect = connect
        self._description = description
        self._configuration = configuration
        self._connection: Connection | None = None
        self._program: Program | None = None
        self._closed = False
        if configuration is not None:
            self._open(configuration)

    @property
    def identity(self) -> Identity:
        """What the device is."""
        connection = self._connection
        return Identity(self._description if connection is None else connection.description, self._configuration)

    def load(self, program: Program | Path | str) -> None:
        """Load a program. A resident one is written to the device now, others are while they are executed."""
        self._need_open()
        program = as_program(program)
        if self._configuration is None:
            self._open(program.configuration)
        assert self._configuration is not None
        require_configuration(program, self._configuration)
        self._program = None
        if program.resident:
            self._write(program.segments[0])
        self._program = program

    def infer(
        self, images: NDArray[np.uint8], *, progress: bool = False, trace: bool = False, profile: bool = False
    ) -> Result:
        """Run the loaded network on a batch, uint8 [N, C, H, W] or [N, H, W]. See `Device.infer`."""
        self._need_open()
        program = self._program
        if program is None:
            raise DeviceError("no program is loaded; call load() before infer()")
        counts = input_counts(program.network, images)
        image_bytes = 8 * sum(int(np.prod(shape)) for shape in program.maps.values())
        part = max(1, HOST_MAP_BYTES // image_bytes)
        batches = [
            _Batch(program, self._port, counts[start : start + part], trace, profile)
            for start in range(0, len(counts), part)
        ]
        # Where weights are streamed, each segment brings every image a step further.
        unit = "image" if program.resident else "image segment"
        with tqdm(total=len(counts) * len(program.segments), unit=unit, disable=not progress) as bar:
            for batch in batches:
                for segment in program.segments:
                    if not program.resident:
                        self._write(segment)
                    batch.execute(segment, bar.update)
                batch.finish()
        return _gather(program, batches, trace, profile)

    def counters(self) -> Counters:
        """Return the counters. They are zero when the device opens and add up from run to run."""
        self._need_open()
        return Counters() if self._connection is None else read_counters(self._port)

    def reset(self) -> None:
        """Set the counters to zero. The loaded program stays and needs no reload."""
        self._need_open()
        if self._connection is not None:
            self._port.write(Space.REGISTERS, 0, BY_NAME["COUNTERS_CLEAR"].address, np.ones(1, np.uint64))

    def close(self) -> None:
        """Let go of the device. Closing twice is harmless."""
        self._closed = True
        self._program = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _port(self) -> MemoryPort:
        assert self._connection is not None
        return self._connection.port

    def _need_open(self) -> None:
        if self._closed:
            raise DeviceError(f"the device ({self._description}) is closed")

    def _open(self, configuration: Configuration) -> None:
        connection = self._connect(configuration)
        try:
            check_identity(connection.port, configuration)
            self._connection = connection
            self.reset()
        except BaseException:
            self._connection = None
            connection.close()
            raise
        self._configuration = configuration

    def _write(self, segment: Segment) -> None:
        for each in segment.writes:
            self._port.write(each.space, each.mask, each.address, each.words)


def check_identity(port: MemoryPort, configuration: Configuration) -> None:
    """Make sure that the device behind `port` is a polyspike of that configuration. DeviceError if not."""
    magic = int(port.read(Space.REGISTERS, BY_NAME["MAGIC"].address, 1)[0])
    if magic != MAGIC:
        raise DeviceError(f"this is no polyspike device: register MAGIC reads {magic:#018x}, not {MAGIC:#018x}")
    digest = f"{int(port.read(Space.REGISTERS, BY_NAME['DIGEST'].address, 1)[0]):016x}"
    if digest != configuration.digest:
        known = [each for each in NAMED.values() if each.digest == digest]
        found = describe(known[0]) if known else f"an unknown configuration (digest {digest})"
        raise DeviceError(f"the device has {found}, but {describe(configuration)} was asked for")


def read_counters(port: MemoryPort) -> Counters:
    """Read all counters at once."""
    values = port.read(Space.REGISTERS, COUNTERS[0].address, len(COUNTERS))
    return Counters(**{register.name.lower(): int(value) for register, value in zip(COUNTERS, values, strict=True)})


class _Batch:
    """A batch on its way through the segments of a program: host maps, and what is observed."""

    def __init__(
        self, program: Program, port: MemoryPort, counts: NDArray[np.int16], trace: bool, profile: bool
    ) -> None:
        self.program = program
        self.port = port
        self.counts = counts
        self.size = len(counts)
        self.maps = {name: np.zeros((self.size, *shape), np.uint64) for name, shape in program.maps.items()}
        node = program.network.input
        words = pack_input(counts, node.counts.bits, program.packing)
        # The input is the same at every timestep, however many of them its map holds.
        self.maps[node.name][..., : words.shape[-1]] = words[:, None]
        self.traces = _trace_maps(program, self.size) if trace else {}
        self.profiles: dict[str, Counters] | None = {} if profile else None
        self.result: tuple[NDArray[np.int32], dict[str, NDArray[np.int16]]]

    def execute(self, segment: Segment, done: Callable[[int], object]) -> None:
        """Execute the steps of a segment for every image."""
        for image in range(self.size):
            for step in segment.steps:
                if isinstance(step, Upload):
                    box = step.box
                    words = self.maps[box.map][(image, *box.slices)]
                    self.port.write(Space.SPIKES, 0, box.address, words.reshape(-1))
                elif isinstance(step, Download):
                    self._download(step.box, self.maps, image)
                else:
                    self._run(step, image)
            done(1)

    def finish(self) -> None:
        """Turn words into integers and let go of the maps."""
        network = self.program.network
        output = network.output
        membranes = unpack_membranes(self.maps[output.name][:, 0], output.shape[0])
        counts: dict[str, NDArray[np.int16]] = {}
        for name, words in self.traces.items():
            node = network[name]
            if isinstance(node, Input):
                counts[name] = np.repeat(self.counts[:, None], network.timesteps, axis=1)
            else:
                emitted = network.counts(name)
                counts[name] = unpack_counts(words, node.shape[0], emitted.bits, emitted.n_pos)
        self.result = membranes, counts
        self.maps = {}
        self.traces = {}

    def _download(self, box: Box, maps: dict[str, Words], image: int) -> None:
        words = self.port.read(Space.SPIKES, box.address, box.size)
        maps[box.map][(image, *box.slices)] = words.reshape(box.shape)

    def _run(self, step: Run, image: int) -> None:
        if not self.traces and self.profiles is None:
            self.port.run(step.first, step.count)
            return
        for block in step.blocks:
            before = read_counters(self.port) if self.profiles is not None else Counters()
            self.port.run(block.first, block.count)
            if self.profiles is not None:
                gained = read_counters(self.port) - before
                self.profiles[block.layer] = self.profiles.get(block.layer, Counters()) + gained
            if block.output is not None and block.output.map in self.traces:
                self._download(block.output, self.traces, image)


def _blocks(program: Program) -> Iterable[Block]:
    for segment in program.segments:
        for step in segment.steps:
            if isinstance(step, Run):
                yield from step.blocks


def _trace_maps(program: Program, size: int) -> dict[str, Words]:
    """Return a map for the counts of every node but the output layer, as wide as what is downloaded into it."""
    widths = {node.name: 0 for node in program.network.nodes[:-1]}
    for block in _blocks(program):
        if block.output is not None and block.output.map in widths:
            widths[block.output.map] = max(widths[block.output.map], block.output.words[1])
    maps = {}
    for node in program.network.nodes[:-1]:
        channels, height, width = node.shape
        words = max(widths[node.name], words_per_pixel(channels, program.network.counts(node.name).bits))
        timesteps = 0 if isinstance(node, Input) else program.network.timesteps
        maps[node.name] = np.zeros((size, timesteps, height, width, words), np.uint64)
    return maps


def _gather(program: Program, batches: list[_Batch], trace: bool, profile: bool) -> Result:
    membranes = np.concatenate([batch.result[0] for batch in batches])
    counts = None
    if trace:
        names = batches[0].result[1]
        counts = {name: np.concatenate([batch.result[1][name] for batch in batches]) for name in names}
    layers = None
    if profile:
        order = dict.fromkeys(block.layer for block in _blocks(program))
        total = {name: Counters() for name in order}
        for batch in batches:
            assert batch.profiles is not None
            for name, gained in batch.profiles.items():
                total[name] += gained
        layers = tuple(LayerProfile(name, gained) for name, gained in total.items())
    return make_result(program.network, membranes, counts, layers)
