"""A device in plain Python behind the link's bytes, and programs for it.

It has real memories, registers and frames, but no datapath: its only instruction says "execute layer i", and it does
that by reading the layer's sources from its spike memory and computing each neuron with plain loops.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from golden import naive
from polyspike.compiler.program import Block, Box, Download, Program, Run, Segment, Upload, Write
from polyspike.compiler.words import pack_counts, unpack_counts, words_per_pixel
from polyspike.network import Input, Layer, MaxPool, Network, Node
from polyspike.spec import Configuration
from polyspike.spec.instructions import HALT, make
from polyspike.spec.memory import Space, depth
from polyspike.spec.registers import COUNTERS, MAGIC

#: Cycles that the fake takes for a layer.
CYCLES = 100


def map_shape(network: Network, node: Node) -> tuple[int, int, int, int]:
    channels, height, width = node.shape
    if node is network.output:
        return 1, height, width, -(-channels // 2)
    timesteps = 1 if isinstance(node, Input) else network.timesteps
    return timesteps, height, width, words_per_pixel(channels, network.counts(node.name).bits)


def addresses(network: Network) -> dict[str, int]:
    """Every map has a place of its own."""
    places, at = {}, 0
    for node in network:
        places[node.name] = at
        at += int(np.prod(map_shape(network, node)))
    return places


def box(network: Network, name: str) -> Box:
    t, h, w, words = map_shape(network, network[name])
    return Box(name, (0, t), (0, h), (0, w), (0, words), addresses(network)[name])


def fake_program(network: Network, configuration: Configuration, *, streamed: bool) -> Program:
    """One instruction a layer: all in one segment, or each layer in one with its own weights."""
    layers = list(network.nodes[1:])
    maps = {node.name: map_shape(network, node) for node in network}
    halt = make(HALT)
    blocks = [Block(node.name, index, 1, box(network, node.name)) for index, node in enumerate(layers)]
    code = Write(Space.PROGRAM, 0, 0, np.arange(1, len(layers) + 1, dtype=np.uint64) << np.uint64(8))
    if not streamed:
        weights = Write(Space.WEIGHTS, 1, 5, np.arange(len(layers), dtype=np.uint64) + 1000)
        steps = (
            Upload(box(network, network.input.name)),
            Run(tuple(blocks)),
            Download(box(network, network.output.name)),
        )
        segments = [Segment((code, weights), steps, (halt,))]
        maps = {name: maps[name] for name in (network.input.name, network.output.name)}
    else:
        segments = []
        for index, node in enumerate(layers):
            sources = [node.source] if isinstance(node, MaxPool) else [each.source for each in node.synapses]
            uploads = [Upload(box(network, source)) for source in dict.fromkeys(sources)]
            download = Download(box(network, node.name))
            weights = Write(Space.WEIGHTS, 1, 5 + index, np.array([1000 + index], np.uint64))
            erased = Write(Space.WEIGHTS, 1, 5 + (index + 1) % len(layers), np.zeros(1, np.uint64))
            writes = (code, erased, weights)
            segments.append(Segment(writes, (*uploads, Run((blocks[index],)), download), (halt,)))
    return Program(configuration, network, tuple(segments), maps, ())


class FakeCore:
    """Memories, registers, and the one instruction."""

    def __init__(self, network: Network, configuration: Configuration) -> None:
        self.network = network
        self.configuration = configuration
        self.memories = {space: np.zeros(depth(configuration, space), np.uint64) for space in Space}
        registers = self.memories[Space.REGISTERS]
        registers[0] = MAGIC
        registers[1] = int(configuration.digest, 16)
        self.runs: list[int] = []

    def run(self, first: int, count: int) -> None:
        for at in range(first, first + count):
            index = int(self.memories[Space.PROGRAM][at] >> np.uint64(8))
            if index == 0:
                return
            self.runs.append(index)
            self._layer(index)

    def _load(self, name: str) -> np.ndarray:
        node = self.network[name]
        shape = map_shape(self.network, node)
        at = addresses(self.network)[name]
        words = self.memories[Space.SPIKES][at : at + int(np.prod(shape))].reshape(shape)
        counts = self.network.counts(name)
        values = unpack_counts(words, node.shape[0], counts.bits, counts.n_pos)
        return np.repeat(values, self.network.timesteps, axis=0) if isinstance(node, Input) else values

    def _layer(self, index: int) -> None:
        network, node = self.network, self.network.nodes[index]
        # Weights that were not written give wrong answers, as on a real device.
        known = int(self.memories[Space.WEIGHTS][5 + index - 1]) == 1000 + index - 1
        timesteps = network.timesteps
        result = np.zeros((timesteps, *node.shape), np.int64)
        if isinstance(node, MaxPool):
            result[:] = [naive.max_pool(node, frame) for frame in self._load(node.source)]
        else:
            assert isinstance(node, Layer)
            maps = {each.source: self._load(each.source) for each in node.synapses}
            for place in np.ndindex(node.shape):
                counts, membrane = naive.neuron(network, node, place, maps, timesteps)
                if node.neuron is None:
                    result[(0, *place)] = membrane
                else:
                    result[(slice(None), *place)] = counts
        if not known:
            result += 1
        words = self._words(node, result).reshape(-1)
        at = addresses(network)[node.name]
        self.memories[Space.SPIKES][at : at + len(words)] = words
        registers = self.memories[Space.REGISTERS]
        registers[COUNTERS[0].address] += np.uint64(CYCLES)
        registers[COUNTERS[1].address] += np.uint64(index)

    def _words(self, node: Node, values: np.ndarray) -> np.ndarray:
        if node is not self.network.output:
            return pack_counts(values, self.network.counts(node.name).bits)
        last_axis = np.moveaxis(values[:1], 1, -1)
        padded = np.zeros((*last_axis.shape[:-1], -(-node.shape[0] // 2) * 2), np.int64)
        padded[..., : node.shape[0]] = last_axis
        halves = padded & 0xFFFFFFFF
        return (halves[..., ::2] | halves[..., 1::2] << 32).astype(np.uint64)


def plain_crc(data: bytes) -> int:
    """CRC-32 bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


#: Takes (number of the frame since the start, its bytes), returns what arrives.
Fault = Callable[[int, bytes], bytes]


@dataclasses.dataclass
class FakeTransport:
    """The device's end of the link. `on_request` and `on_response` may damage what passes."""

    core: FakeCore
    on_request: Fault = lambda number, data: data
    on_response: Fault = lambda number, data: data

    def __post_init__(self) -> None:
        self.waiting = bytearray()
        self.answers = bytearray()
        self.requests = 0
        self.responses = 0
        self.closed = False
        self.last_run: int | None = None
        self.commands: list[tuple[int, int, int, int, int]] = []

    def write(self, data: bytes) -> None:
        if data[0] == 0x5A:
            self.requests += 1
            data = self.on_request(self.requests - 1, data)
        self.waiting += data
        while self._step():
            pass

    def read(self, most: int, timeout: float) -> bytes:
        # In small pieces, as a serial port gives them.
        size = min(most, 7)
        data = bytes(self.answers[:size])
        del self.answers[:size]
        return data

    def close(self) -> None:
        self.closed = True

    def _step(self) -> bool:
        """Take one frame, or one byte that starts none."""
        if not self.waiting:
            return False
        if self.waiting[0] != 0x5A:
            del self.waiting[0]
            return True
        if len(self.waiting) < 13:
            return False
        sequence, command, space = self.waiting[1:4]
        mask = int.from_bytes(self.waiting[4:6], "little")
        address = int.from_bytes(self.waiting[6:10], "little")
        count = int.from_bytes(self.waiting[10:12], "little")
        if command == 1 and count > self.core.configuration.frame_words:
            # Damaged: no frame is that long.
            del self.waiting[:12]
            return True
        size = 12 + 4 + (count * 8 if command == 1 else 0)
        if len(self.waiting) < size:
            return False
        frame = bytes(self.waiting[:size])
        del self.waiting[:size]
        if int.from_bytes(frame[-4:], "little") != plain_crc(frame[1:-4]):
            return True
        self.commands.append((command, space, mask, address, count))
        payload = np.frombuffer(frame[12:-4], "<u8")
        if command == 3 and sequence == self.last_run:
            status, answer = 0, np.zeros(0, np.uint64)
        else:
            status, answer = self._execute(command, space, address, count, payload)
        self.last_run = sequence if command == 3 else None
        body = bytes([sequence, status, len(answer) & 0xFF, len(answer) >> 8]) + answer.astype("<u8").tobytes()
        response = b"\xa5" + body + plain_crc(body).to_bytes(4, "little")
        self.responses += 1
        self.answers += self.on_response(self.responses - 1, response)
        return True

    def _execute(
        self, command: int, space: int, address: int, count: int, payload: np.ndarray
    ) -> tuple[int, np.ndarray]:
        nothing = np.zeros(0, np.uint64)
        if command == 3:
            self.core.run(address, count)
            return 0, nothing
        frame_words = self.core.configuration.frame_words
        if space > 4 or count > frame_words or address + count > len(self.core.memories[Space(space)]):
            return 1, nothing
        memory = self.core.memories[Space(space)]
        if command == 2:
            return (0, memory[address : address + count]) if space in (0, 4) else (1, nothing)
        if space == 4:
            memory[2:] = 0
        else:
            memory[address : address + count] = payload
        return 0, nothing
