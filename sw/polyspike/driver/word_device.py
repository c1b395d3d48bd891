"""A device that executes programs: memories, a sequencer and counters behind a memory port."""

import collections
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from polyspike.compiler.packing import DenseInput, dense_input, pack_input
from polyspike.compiler.program import Block, Box, Download, Program, Run, Segment, Upload
from polyspike.compiler.words import unpack_counts, unpack_membranes, words_per_pixel
from polyspike.network import Input
from polyspike.spec import Configuration, DeviceError
from polyspike.spec.link import Command, request
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME, COUNTERS

from .device import (
    Closing,
    Counters,
    Identity,
    LayerProfile,
    Rates,
    Result,
    as_program,
    input_counts,
    make_result,
    require_configuration,
)
from .ports import Connection, MemoryPort, Traffic, Words

#: Most bytes of host maps that are held at once; a larger batch is run in parts.
HOST_MAP_BYTES = 1 << 29

#: Boxes that are asked for before the first of them is waited for.
DOWNLOADS_AHEAD = 4

#: Bytes of a request without words.
_REQUEST_BYTES = len(request(0, 0, Command.READ))


class WordDevice(Closing):
    """The driver of everything that executes programs.

    Parameters
    ----------
    connect
        Makes the connection to a device of a given configuration; with `identifies`, of any, if None is given.
    description
        What the device is, until the connection says it better.
    configuration
        The device's configuration. With None, the connection is made when the first program is loaded, for its
        configuration.
    identifies
        The device itself knows its configuration: the connection is made now.

    Raises
    ------
    DeviceError
        There is no polyspike device, or one of another configuration.
    """

    def __init__(
        self,
        connect: Callable[[Configuration], Connection] | Callable[[Configuration | None], Connection],
        description: str,
        configuration: Configuration | None = None,
        *,
        identifies: bool = False,
    ) -> None:
        self._connect = connect
        self._description = description
        self._configuration = configuration
        self._connection: Connection | None = None
        self._program: Program | None = None
        self._dense: DenseInput | None = None
        self._clock_hz: int | None = None
        self._closed = False
        if configuration is not None or identifies:
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
        self._dense = dense_input(program.network, program.configuration, program.packing)
        if self._dense is not None:
            self._write_register("INPUT_LAYOUT", self._dense.layout.encode())
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
            _Batch(program, self._port, self._dense, counts[at : at + part], trace, profile)
            for at in range(0, len(counts), part)
        ]
        traffic, start = self._port.traffic(), time.perf_counter()
        cycles_before = _read_cycles(self._port)
        # Where weights are streamed, each segment brings every image a step further.
        unit = "image" if program.resident else "image segment"
        with tqdm(total=len(counts) * len(program.segments), unit=unit, disable=not progress) as bar:
            for batch in batches:
                for segment in program.segments:
                    if not program.resident:
                        self._write(segment)
                    batch.execute(segment, bar.update)
                batch.finish()
        cycles = int(_read_cycles(self._port)()[0] - cycles_before()[0])
        seconds = time.perf_counter() - start
        rates = _rates(len(counts), seconds, cycles, self._clock_hz, traffic, self._port.traffic())
        return _gather(program, batches, trace, profile, rates)

    def counters(self) -> Counters:
        """Return the counters. They are zero when the device opens and add up from run to run."""
        self._need_open()
        return Counters() if self._connection is None else read_counters(self._port)

    def reset(self) -> None:
        """Set the counters to zero. The loaded program stays and needs no reload."""
        self._need_open()
        if self._connection is not None:
            self._write_register("COUNTERS_CLEAR", 1)

    def close(self) -> None:
        """Let go of the device. Closing twice is harmless."""
        self._closed = True
        self._program = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @property
    def _port(self) -> MemoryPort:
        assert self._connection is not None
        return self._connection.port

    def _need_open(self) -> None:
        if self._closed:
            raise DeviceError(f"the device ({self._description}) is closed")

    def _open(self, configuration: Configuration | None) -> None:
        connection = self._connect(configuration)  # type: ignore[arg-type]
        try:
            self._connection = connection
            self.reset()
            self._clock_hz = int(self._port.read(Space.REGISTERS, BY_NAME["CLOCK_HZ"].address, 1)[0]) or None
        except BaseException:
            self._connection = None
            connection.close()
            raise
        self._configuration = connection.configuration

    def _write(self, segment: Segment) -> None:
        for each in segment.writes:
            self._port.write(each.space, each.mask, each.address, each.words)

    def _write_register(self, name: str, value: int) -> None:
        self._port.write(Space.REGISTERS, 0, BY_NAME[name].address, np.array([value], np.uint64))


def read_counters(port: MemoryPort) -> Counters:
    """Read all counters at once."""
    values = port.read(Space.REGISTERS, COUNTERS[0].address, len(COUNTERS))
    return Counters(**{register.name.lower(): int(value) for register, value in zip(COUNTERS, values, strict=True)})


def _read_cycles(port: MemoryPort) -> Callable[[], Words]:
    return port.read_later(Space.REGISTERS, BY_NAME["CYCLES"].address, 1)


def _rates(
    images: int, seconds: float, cycles: int, clock_hz: int | None, before: Traffic | None, after: Traffic | None
) -> Rates:
    if before is None or after is None:
        return Rates(images, seconds, cycles, clock_hz, None, None, None)
    sent, received = after.sent - before.sent, after.received - before.received
    busy = None
    if after.bytes_per_second is not None:
        busy = sent / after.bytes_per_second / (after.seconds - before.seconds)
    return Rates(images, seconds, cycles, clock_hz, sent, received, busy)


class _Batch:
    """A batch on its way through the segments of a program: host maps, and what is observed."""

    def __init__(
        self,
        program: Program,
        port: MemoryPort,
        dense: DenseInput | None,
        counts: NDArray[np.int16],
        trace: bool,
        profile: bool,
    ) -> None:
        self.program = program
        self.port = port
        self.dense = dense
        node = program.network.input
        #: int16 [N, T or 1, C, H, W]
        self.counts = counts if node.bins is not None else counts[:, None]
        self.size = len(counts)
        self.maps = {name: np.zeros((self.size, *shape), np.uint64) for name, shape in program.maps.items()}
        words = pack_input(self.counts, node.counts.bits, program.packing)
        # An image is the same at every timestep, however many of them its map holds.
        self.maps[node.name][..., : words.shape[-1]] = words
        self.traces = _trace_maps(program, self.size) if trace else {}
        self.profiles: dict[str, Counters] | None = {} if profile else None
        #: What was asked for and is not yet in a map: box, map's words of the image, how to wait.
        self.downloads: collections.deque[tuple[Box, Words, Callable[[], Words]]] = collections.deque()
        self.result: tuple[NDArray[np.int32], dict[str, NDArray[np.int16]]]

    def execute(self, segment: Segment, done: Callable[[int], object]) -> None:
        """Execute the steps of a segment for every image."""
        if self.program.input_blocks and not self.traces and self.profiles is None:
            self._stream(segment, done)
        else:
            for image in range(self.size):
                for step in segment.steps:
                    if isinstance(step, Upload):
                        for frame in self._frames(step.box, image):
                            self.port.write(*frame)
                    elif isinstance(step, Download):
                        self._download(step.box, self.maps, image)
                    else:
                        self._run(step, image)
                done(1)
        self._collect(0)

    def finish(self) -> None:
        """Turn words into integers and let go of the maps."""
        network = self.program.network
        output = network.output
        membranes = unpack_membranes(self.maps[output.name][:, 0], output.shape[0])
        counts: dict[str, NDArray[np.int16]] = {}
        for name, words in self.traces.items():
            node = network[name]
            if isinstance(node, Input):
                repeats = network.timesteps // self.counts.shape[1]
                counts[name] = np.repeat(self.counts, repeats, axis=1)
            else:
                emitted = network.counts(name)
                counts[name] = unpack_counts(words, node.shape[0], emitted.bits, emitted.n_pos)
        self.result = membranes, counts
        self.maps = {}
        self.traces = {}

    def _stream(self, segment: Segment, done: Callable[[int], object]) -> None:
        """Send each image while the one before is computed, and fetch a result while the next image is sent."""
        upload, run, download = segment.steps
        assert isinstance(upload, Upload) and isinstance(run, Run) and isinstance(download, Download)
        read = Run(run.blocks[: self.program.input_blocks])
        rest = Run(run.blocks[self.program.input_blocks :])
        # Requests behind a READ wait in the device until the run is over.
        room = self.program.configuration.rx_bytes - 4 * _REQUEST_BYTES
        for frame in self._frames(upload.box, 0):
            self.port.write(*frame)
        for image in range(self.size):
            self.port.run(read.first, read.count)
            # Once this is taken, the input has been read.
            self.port.run(rest.first, rest.count)
            frames = list(self._frames(upload.box, image + 1)) if image + 1 < self.size else []
            left = sum(_REQUEST_BYTES + 8 * len(words) for _, _, _, words in frames)
            asked = False
            for frame in frames:
                if not asked and left <= room:
                    self._download(download.box, self.maps, image)
                    asked = True
                self.port.write(*frame, ahead=True)
                left -= _REQUEST_BYTES + 8 * len(frame[3])
            if not asked:
                self._download(download.box, self.maps, image)
            done(1)

    def _frames(self, box: Box, image: int) -> Iterable[tuple[Space, int, int, Words]]:
        """Yield the writes that upload a box, a frame each: space, mask, address, words."""
        # A part of this image's map may still be on its way from the device.
        if any(pending.map == box.map for pending, _, _ in self.downloads):
            self._collect(0)
        node, dense = self.program.network.input, self.dense
        timesteps, channels, height, width = self.counts.shape[1:]
        if dense is not None and box.map == node.name and box.shape == (timesteps, height, dense.row_words, 1):
            # The rows of all timesteps lie one behind the other.
            counts = self.counts[image].swapaxes(0, 1).reshape(channels, timesteps * height, width)
            for row in range(0, timesteps * height, dense.rows):
                rows = counts[:, row : row + dense.rows]
                count = rows.shape[1] * dense.row_words
                payload = dense.payload(rows, node.counts.bits, self.program.packing)
                yield Space.INPUT, count, box.address + row * dense.row_words, payload
            return
        words = self.maps[box.map][(image, *box.slices)].reshape(-1)
        most = self.program.configuration.frame_words
        for start in range(0, len(words), most):
            yield Space.SPIKES, 0, box.address + start, words[start : start + most]

    def _download(self, box: Box, maps: dict[str, Words], image: int) -> None:
        self.downloads.append((box, maps[box.map][image], self.port.read_later(Space.SPIKES, box.address, box.size)))
        self._collect(DOWNLOADS_AHEAD)

    def _collect(self, most: int) -> None:
        """Put what was asked for into the maps, until at most so many boxes are on their way."""
        while len(self.downloads) > most:
            box, words, wait = self.downloads.popleft()
            words[box.slices] = wait().reshape(box.shape)

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


def _gather(program: Program, batches: list[_Batch], trace: bool, profile: bool, rates: Rates) -> Result:
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
    return make_result(program.network, membranes, counts, layers, rates)
