"""A device in plain Python behind the link's bytes, and programs for it.

It has real memories, registers and frames, but no datapath: its only instruction says "execute layer i", and it does
that by reading the layer's sources from its spike memory and computing each neuron with plain loops.
"""

import collections
from collections.abc import Callable

import numpy as np

from golden import naive
from polyspike.compiler.program import Block, Box, Download, Program, Run, Segment, Upload, Write
from polyspike.compiler.words import pack_counts, unpack_counts, words_per_pixel
from polyspike.driver.ports import RECEIVE_BYTES
from polyspike.network import Input, Layer, MaxPool, Network, Node
from polyspike.spec import Configuration
from polyspike.spec.instructions import HALT, make
from polyspike.spec.memory import Space, depth
from polyspike.spec.registers import COUNTERS, MAGIC

#: Cycles that the fake takes for a layer.
CYCLES = 100

#: Takes (number of the frame since the start, its bytes), returns what arrives.
Fault = Callable[[int, bytes], bytes]


def unharmed(number: int, data: bytes) -> bytes:
    return data


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


def sources_of(node: Node) -> list[str]:
    if isinstance(node, MaxPool):
        return [node.source]
    assert isinstance(node, Layer)
    return [each.source for each in node.synapses]


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
            uploads = [Upload(box(network, source)) for source in dict.fromkeys(sources_of(node))]
            download = Download(box(network, node.name))
            weights = Write(Space.WEIGHTS, 1, 5 + index, np.array([1000 + index], np.uint64))
            erased = Write(Space.WEIGHTS, 1, 5 + (index + 1) % len(layers), np.zeros(1, np.uint64))
            writes = (code, erased, weights)
            segments.append(Segment(writes, (*uploads, Run((blocks[index],)), download), (halt,)))
    input_blocks = 0
    if not streamed:
        reading = [index for index, node in enumerate(layers) if network.input.name in sources_of(node)]
        input_blocks = reading[-1] + 1 if reading[-1] + 1 < len(layers) else 0
    return Program(configuration, network, tuple(segments), maps, (), None, input_blocks)


class FakeCore:
    """Memories, registers, and the one instruction. `runs` is every layer that was executed."""

    def __init__(self, network: Network, configuration: Configuration) -> None:
        self.network = network
        self.configuration = configuration
        self.runs: list[int] = []
        self.places = addresses(network)
        #: Where each layer's sources are, and what it computed from them before.
        self.regions = [
            [slice(self.places[name], self.places[name] + box(network, name).size) for name in sources_of(node)]
            for node in network.nodes[1:]
        ]
        self.known: dict[tuple[int, bytes], np.ndarray] = {}
        self.clear()

    def clear(self) -> None:
        self.memories = {space: np.zeros(depth(self.configuration, space), np.uint64) for space in Space}
        registers = self.memories[Space.REGISTERS]
        registers[0] = MAGIC
        registers[1] = int(self.configuration.digest, 16)

    def write_registers(self, address: int, data: np.ndarray) -> None:
        registers = self.memories[Space.REGISTERS]
        for at, word in enumerate(data, address):
            if at == 10:
                registers[2:10] = 0
            elif at in (12, 13):
                registers[at] = word

    def unpack(self, address: int, words: int, payload: bytes) -> None:
        """Turn a stream of items into words, one nibble after the other."""
        layout = int(self.memories[Space.REGISTERS][13])
        nibbles, row, taps, stride = layout & 31, layout >> 10 & 1023, layout >> 20 & 15, layout >> 24 & 15
        stream = [byte >> shift & 15 for byte in payload for shift in (0, 4)]
        at = place = 0
        items: list[list[int]] = []
        while words:
            items.append(stream[at : at + nibbles])
            at += nibbles
            place += 1
            if place >= taps and (place - taps) % stride == 0:
                word = [nibble for item in items[-taps:] for nibble in item]
                self.memories[Space.SPIKES][address] = sum(nibble << 4 * k for k, nibble in enumerate(word))
                address += 1
                words -= 1
            if place == row:
                place = 0
                items = []

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
        at = self.places[name]
        words = self.memories[Space.SPIKES][at : at + int(np.prod(shape))].reshape(shape)
        counts = self.network.counts(name)
        values = unpack_counts(words, node.shape[0], counts.bits, counts.n_pos)
        return np.repeat(values, self.network.timesteps, axis=0) if isinstance(node, Input) else values

    def _layer(self, index: int) -> None:
        node = self.network.nodes[index]
        # Weights that were not written give wrong answers, as on a real device.
        known = int(self.memories[Space.WEIGHTS][5 + index - 1]) == 1000 + index - 1
        spikes = self.memories[Space.SPIKES]
        key = (2 * index + known, b"".join(spikes[region].tobytes() for region in self.regions[index - 1]))
        if key not in self.known:
            maps = {name: self._load(name) for name in sources_of(node)}
            self.known[key] = self._words(node, self._compute(node, maps) + (not known)).reshape(-1)
        words = self.known[key]
        at = self.places[node.name]
        self.memories[Space.SPIKES][at : at + len(words)] = words
        registers = self.memories[Space.REGISTERS]
        registers[COUNTERS[0].address] += np.uint64(CYCLES)
        registers[COUNTERS[1].address] += np.uint64(index)

    def _compute(self, node: Node, maps: dict[str, np.ndarray]) -> np.ndarray:
        network, timesteps = self.network, self.network.timesteps
        result = np.zeros((timesteps, *node.shape), np.int64)
        if isinstance(node, MaxPool):
            result[:] = [naive.max_pool(node, frame) for frame in maps[node.source]]
            return result
        assert isinstance(node, Layer)
        for place in np.ndindex(node.shape):
            counts, membrane = naive.neuron(network, node, place, maps, timesteps)
            if node.neuron is None:
                result[(0, *place)] = membrane
            else:
                result[(slice(None), *place)] = counts
        return result

    def _words(self, node: Node, values: np.ndarray) -> np.ndarray:
        if node is not self.network.output:
            return pack_counts(values, self.network.counts(node.name).bits)
        last_axis = np.moveaxis(values[:1], 1, -1)
        padded = np.zeros((*last_axis.shape[:-1], -(-node.shape[0] // 2) * 2), np.int64)
        padded[..., : node.shape[0]] = last_axis
        halves = padded & 0xFFFFFFFF
        return (halves[..., ::2] | halves[..., 1::2] << 32).astype(np.uint64)


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = _crc_table()


def plain_crc(data: bytes) -> int:
    """CRC-32, a byte at a time."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ CRC_TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


#: Bytes of a request without payload, and of its header with the sync byte.
EMPTY, HEADER = 18, 14

WRITE, READ, RUN, OPEN, WRITE_AHEAD = range(1, 6)
OK, REFUSED, CLOSED = range(3)


class FakeDevice:
    """The device's end of the link, and a core behind it. Time is what the caller says it is.

    A run takes `run_seconds`. `on_response` may damage answers as they leave.
    """

    def __init__(self, core: FakeCore, run_seconds: float = 0.0, on_response: Fault = unharmed) -> None:
        self.core = core
        self.run_seconds = run_seconds
        self.on_response = on_response
        self.waiting = bytearray()
        self.answers = bytearray()
        self.responses = 0
        #: Bytes that found the device full. A host that keeps to the rules never causes one.
        self.overruns = 0
        self.session = 0
        self.expected = 0
        self.busy_until = 0.0
        #: What was executed: command, space, mask, address, count.
        self.commands: list[tuple[int, int, int, int, int]] = []

    def restart(self) -> None:
        """Lose everything but what a bitstream holds."""
        self.core.clear()
        self.waiting.clear()
        self.answers.clear()
        self.session = 0
        self.busy_until = 0.0

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes from the line."""
        room = self.core.configuration.rx_bytes - len(self.waiting)
        if len(data) <= room:
            self.waiting += data
            self.work(now)
            return
        # It works while bytes come in.
        for byte in data:
            if len(self.waiting) < self.core.configuration.rx_bytes:
                self.waiting.append(byte)
            else:
                self.overruns += 1
            if len(self.waiting) >= EMPTY or byte != 0x5A:
                self.work(now)

    def work(self, now: float) -> None:
        """Do what can be done by `now`."""
        while self._step(now):
            pass

    def _step(self, now: float) -> bool:
        """Take one frame, or one byte that starts none."""
        waiting = self.waiting
        if not waiting:
            return False
        if waiting[0] != 0x5A:
            start = waiting.find(0x5A)
            del waiting[: start if start >= 0 else len(waiting)]
            return True
        if len(waiting) < HEADER:
            return False
        session = int.from_bytes(waiting[1:3], "little")
        sequence, command, space = waiting[3:6]
        mask = int.from_bytes(waiting[6:8], "little")
        address = int.from_bytes(waiting[8:12], "little")
        count = int.from_bytes(waiting[12:14], "little")
        writes = command in (WRITE, WRITE_AHEAD)
        if writes and count > self.core.configuration.frame_words:
            # Damaged: no frame is that long.
            del waiting[:HEADER]
            return True
        size = EMPTY + (count * 8 if writes else 0)
        if len(waiting) < size:
            return False
        frame = bytes(waiting[:size])
        if int.from_bytes(frame[-4:], "little") != plain_crc(frame[1:-4]):
            del waiting[:size]
            return True
        if command == OPEN and session:
            if session != self.session:
                self.session, self.expected = session, (sequence + 1) % 256
            self._answer(sequence, OK, session.to_bytes(8, "little"))
        elif session != self.session or not session:
            self._answer(sequence, CLOSED)
        else:
            ahead = (sequence - self.expected) % 256
            if ahead == 0 or (command == READ and ahead > 128):
                if command in (WRITE, READ, RUN) and now < self.busy_until:
                    return False
                if ahead == 0:
                    self.expected = (self.expected + 1) % 256
                self.commands.append((command, space, mask, address, count))
                status, answer = self._execute(command, space, mask, address, count, frame[HEADER:-4], now)
                self._answer(sequence, status, answer)
            elif ahead > 128:
                self._answer(sequence, OK)
        del waiting[:size]
        return True

    def _answer(self, sequence: int, status: int, payload: bytes = b"") -> None:
        words = len(payload) // 8
        body = bytes([sequence, status, words & 0xFF, words >> 8]) + payload
        response = b"\xa5" + body + plain_crc(body).to_bytes(4, "little")
        self.responses += 1
        self.answers += self.on_response(self.responses - 1, response)

    def _execute(
        self, command: int, space: int, mask: int, address: int, count: int, payload: bytes, now: float
    ) -> tuple[int, bytes]:
        core = self.core
        if command == RUN:
            core.run(address, count)
            self.busy_until = now + self.run_seconds
            return OK, b""
        if command not in (WRITE, READ, WRITE_AHEAD) or space >= len(Space):
            return REFUSED, b""
        words = mask if space == Space.INPUT else count
        if count > core.configuration.frame_words or address + words > len(core.memories[Space(space)]):
            return REFUSED, b""
        if command == WRITE_AHEAD and space not in (Space.SPIKES, Space.INPUT):
            return REFUSED, b""
        memory = core.memories[Space(space)]
        if command == READ:
            if space not in (Space.SPIKES, Space.REGISTERS):
                return REFUSED, b""
            return OK, memory[address : address + count].astype("<u8").tobytes()
        data = np.frombuffer(payload, "<u8")
        if space == Space.REGISTERS:
            core.write_registers(address, data)
        elif space == Space.INPUT:
            core.unpack(address, words, payload)
        else:
            memory[address : address + count] = data
        return OK, b""


class FakeTransport:
    """A line to a fake device, with a clock of its own. `on_request` may damage frames; answers come in small pieces.

    Bytes take no time, or what `bytes_per_second` makes of them; the host then has a buffer of `RECEIVE_BYTES` before
    the line.
    """

    def __init__(self, device: FakeDevice, on_request: Fault = unharmed, bytes_per_second: float | None = None) -> None:
        self.device = device
        self.on_request = on_request
        self.bytes_per_second = bytes_per_second
        #: Bytes that one `read` returns at most.
        self.piece = 7
        self.requests = 0
        self.closed = False
        self.falls = 0
        self.time = 0.0
        #: What is on its way: when it arrives, and the bytes; and since when each line is free.
        self.to_device: collections.deque[tuple[float, bytes]] = collections.deque()
        self.to_host: collections.deque[tuple[float, bytes]] = collections.deque()
        self.sent_until = self.answered_until = 0.0

    @property
    def core(self) -> FakeCore:
        return self.device.core

    def now(self) -> float:
        return self.time

    def fall_back(self) -> None:
        self.falls += 1

    def write(self, data: bytes) -> None:
        if data[0] == 0x5A:
            self.requests += 1
            data = self.on_request(self.requests - 1, data)
        if self.bytes_per_second is None:
            self.device.feed(data, self.time)
            self._collect()
            return
        for start in range(0, len(data), 16):
            part = data[start : start + 16]
            self.sent_until = max(self.time, self.sent_until) + len(part) / self.bytes_per_second
            self.to_device.append((self.sent_until, part))
        self._pass_time(max(self.time, self.sent_until - RECEIVE_BYTES / self.bytes_per_second))

    def read(self, most: int, timeout: float) -> bytes:
        end = self.time + timeout
        while not (self.to_host and self.to_host[0][0] <= self.time):
            events = [line[0][0] for line in (self.to_device, self.to_host) if line]
            if self.device.waiting and self.device.busy_until > self.time:
                events.append(self.device.busy_until)
            if min(events, default=end) >= end:
                self._pass_time(end)
                break
            self._pass_time(min(events))
        data = b""
        while self.to_host and self.to_host[0][0] <= self.time and len(data) < min(most, self.piece):
            at, part = self.to_host.popleft()
            size = min(most, self.piece) - len(data)
            data += part[:size]
            if part[size:]:
                self.to_host.appendleft((at, part[size:]))
        return data

    def close(self) -> None:
        self.closed = True

    def _pass_time(self, end: float) -> None:
        while self.to_device and self.to_device[0][0] <= end:
            at, data = self.to_device.popleft()
            if self.time < self.device.busy_until <= at:
                self.time = self.device.busy_until
                self.device.work(self.time)
                self._collect()
            self.time = max(self.time, at)
            self.device.feed(data, self.time)
            self._collect()
        self.time = max(self.time, end)
        self.device.work(self.time)
        self._collect()

    def _collect(self) -> None:
        """Put answers on the line."""
        if self.device.answers:
            data = bytes(self.device.answers)
            self.device.answers.clear()
            if self.bytes_per_second is None:
                self.to_host.append((self.time, data))
                return
            for start in range(0, len(data), 16):
                part = data[start : start + 16]
                self.answered_until = max(self.time, self.answered_until) + len(part) / self.bytes_per_second
                self.to_host.append((self.answered_until, part))
