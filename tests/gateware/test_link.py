"""The link's device end against frames made by the host's functions, under every stall pattern."""

import itertools
import random
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from amaranth.sim import Simulator

from polyspike.cosim.streams import STALLS, get, monitor, put, send, wait
from polyspike.gateware.link import FrameDecoder, FrameEncoder, Link, RequestHeader, ResponseHeader
from polyspike.spec import LARGE, TINY
from polyspike.spec import link as frames
from polyspike.spec.link import Command, Status
from polyspike.spec.memory import Space, depth

PATIENCE = 20_000


def stored(space: int, address: int) -> int:
    """What the memory model answers to a read."""
    return (0x9E3779B97F4A7C15 * (address + 1) ^ space << 60) & (1 << 64) - 1


def payload(words: list[int]) -> bytes:
    return b"".join(word.to_bytes(8, "little") for word in words)


def random_words(generator: random.Random, count: int) -> list[int]:
    return [generator.getrandbits(64) for _ in range(count)]


class Bench:
    """A Link with a memory model behind it and a host before it."""

    def __init__(self, configuration: Any = TINY, stalls: str = "none", seed: int = 0, run_cycles: int = 50) -> None:
        self.dut = Link(configuration)
        self.run_cycles = run_cycles
        #: what came out of `request` and `run`, in order
        self.writes: list[tuple[int, int, int, int]] = []
        self.reads: list[tuple[int, int]] = []
        self.runs: list[tuple[int, int]] = []
        self.received: deque[int] = deque()
        self.cycle = 0
        #: cycles at which something happened
        self.times: dict[str, list[int]] = {"rx": [], "tx": [], "request": [], "run": [], "done": []}
        self._stalls = [STALLS[stalls](seed + index) for index in range(5)]
        self._answers: deque[int] = deque()

    def run(self, host: Callable[["Bench"], Awaitable[None]]) -> None:
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)

        async def clock(ctx: Any) -> None:
            async for _ in ctx.tick():
                self.cycle += 1

        async def watch(ctx: Any) -> None:
            ports = {"rx": self.dut.rx, "tx": self.dut.tx, "request": self.dut.request, "run": self.dut.run}
            cycle = 0
            signals = [signal for port in ports.values() for signal in (port.valid, port.ready)]
            async for _, _, *values in ctx.tick().sample(*signals, self.dut.done):
                for index, name in enumerate(ports):
                    if values[2 * index] and values[2 * index + 1]:
                        self.times[name].append(cycle)
                if values[-1]:
                    self.times["done"].append(cycle)
                cycle += 1

        async def requests(ctx: Any) -> None:
            while True:
                item = await get(ctx, self.dut.request, next(self._stalls[1]))
                if item.write:
                    self.writes.append((item.space, item.mask, item.address, item.data))
                else:
                    self.reads.append((item.space, item.address))
                    self._answers.append(stored(item.space, item.address))

        async def responses(ctx: Any) -> None:
            while True:
                if self._answers:
                    await put(ctx, self.dut.response, self._answers.popleft(), next(self._stalls[2]))
                else:
                    await ctx.tick()

        async def runs(ctx: Any) -> None:
            while True:
                item = await get(ctx, self.dut.run, next(self._stalls[3]))
                self.runs.append((item.first, item.count))
                await wait(ctx, self.run_cycles - 1)
                ctx.set(self.dut.done, 1)
                await ctx.tick()
                ctx.set(self.dut.done, 0)

        async def transmitted(ctx: Any) -> None:
            while True:
                byte = await get(ctx, self.dut.tx, next(self._stalls[4]))
                self.received.append(byte)

        async def main(ctx: Any) -> None:
            self._ctx = ctx
            await host(self)

        for name in ("rx", "tx", "request", "response", "run"):
            simulator.add_process(monitor(getattr(self.dut, name), name))
        simulator.add_process(clock)
        simulator.add_process(watch)
        for background in (requests, responses, runs, transmitted):
            simulator.add_testbench(background, background=True)
        simulator.add_testbench(main)
        simulator.run()

    async def send(self, data: bytes) -> None:
        await send(self._ctx, self.dut.rx, data, self._stalls[0])

    async def answer(self) -> tuple[int, int, list[int]]:
        """Wait for a response; check its form and CRC; return sequence, status and words."""
        await self._wait(8)
        count = int.from_bytes([self.received[3], self.received[4]], "little")
        size = 5 + 8 * count
        await self._wait(size + 4)
        frame = bytes(self.received.popleft() for _ in range(size + 4))
        assert frame[0] == frames.SYNC_RESPONSE
        words = list(struct.unpack(f"<{count}Q", frame[5:size]))
        assert frame == frames.response(frame[1], Status(frame[2]), payload(words))
        return frame[1], frame[2], words

    async def _wait(self, count: int) -> None:
        start = self.cycle
        while len(self.received) < count:
            await self._ctx.tick()
            assert self.cycle - start < PATIENCE, f"no answer: {len(self.received)} of {count} bytes"

    async def silent(self, cycles: int = 400) -> None:
        """Wait and make sure that nothing is sent."""
        await wait(self._ctx, cycles)
        assert not self.received

    async def request(self, sequence: int, command: Command, **fields: Any) -> tuple[int, int, list[int]]:
        await self.send(frames.request(sequence, command, **fields))
        return await self.answer()


def write_fields(words: list[int], **fields: int) -> dict[str, Any]:
    return {"count": len(words), "payload": payload(words), **fields}


@pytest.mark.parametrize("stalls", STALLS)
def test_random_commands(stalls: str) -> None:
    generator = random.Random(stalls)
    bench = Bench(LARGE.replace(frame_words=16), stalls)

    async def host(bench: Bench) -> None:
        writes: list[tuple[int, int, int, int]] = []
        reads: list[tuple[int, int]] = []
        runs = []
        for sequence in range(250, 275):
            command = generator.choice(list(Command))
            space = generator.choice([Space.SPIKES, Space.REGISTERS] if command == Command.READ else list(Space))
            limit = LARGE.program_depth if command == Command.RUN else depth(LARGE, space)
            count = generator.choice((0, 1, 2, generator.randint(0, 11)))
            address = generator.randint(0, limit - max(count, 1))
            mask = generator.getrandbits(8)
            words = random_words(generator, count) if command == Command.WRITE else []
            got = await bench.request(
                sequence % 256, command, space=space, mask=mask, address=address, count=count, payload=payload(words)
            )
            answer = [stored(space, address + k) for k in range(count)] if command == Command.READ else []
            assert got == (sequence % 256, Status.OK, answer)
            writes += [(space, mask, address + k, word) for k, word in enumerate(words)]
            if command == Command.READ:
                reads += [(space, address + k) for k in range(count)]
            if command == Command.RUN:
                runs.append((address, count))
            assert (bench.writes, bench.reads, bench.runs) == (writes, reads, runs)
        assert writes and reads and runs

    bench.run(host)


@pytest.mark.parametrize("stalls", STALLS)
def test_largest_frame(stalls: str) -> None:
    words = random_words(random.Random(1), TINY.frame_words)

    async def host(bench: Bench) -> None:
        assert await bench.request(1, Command.WRITE, **write_fields(words, address=5)) == (1, Status.OK, [])
        assert bench.writes == [(Space.SPIKES, 0, 5 + k, word) for k, word in enumerate(words)]
        _, _, got = await bench.request(2, Command.READ, address=7, count=TINY.frame_words)
        assert got == [stored(Space.SPIKES, 7 + k) for k in range(TINY.frame_words)]

    Bench(TINY, stalls).run(host)


def test_damage_anywhere_changes_nothing() -> None:
    """One wrong bit in any byte: no effect, no answer, and the next good frame is served."""
    generator = random.Random(2)
    configuration = TINY.replace(frame_words=8)
    frame = frames.request(7, Command.WRITE, Space.SPIKES, 0, 3, 2, payload(random_words(generator, 2)))
    recovery = frames.flush(configuration.frame_words)

    async def host(bench: Bench) -> None:
        for at in range(len(frame)):
            damaged = bytearray(frame)
            damaged[at] ^= 1 << generator.randrange(8)
            await bench.send(bytes(damaged) + recovery)
            await bench.silent(20)
            assert bench.writes == []
            assert await bench.request(8, Command.READ, space=Space.REGISTERS, address=1, count=1) == (
                8,
                Status.OK,
                [stored(Space.REGISTERS, 1)],
            )

    Bench(configuration).run(host)


def test_wrong_crc_then_good_frame_at_once() -> None:
    """A frame that is damaged in payload or CRC keeps its length, so the next one needs no flush."""
    words = random_words(random.Random(3), 3)
    frame = frames.request(1, Command.WRITE, Space.PARAMS, 1, 4, 3, payload(words))

    async def host(bench: Bench) -> None:
        for at in (12, 20, 35, len(frame) - 4, len(frame) - 1):
            damaged = bytearray(frame)
            damaged[at] ^= 0xFF
            await bench.send(bytes(damaged))
            assert bench.writes == []
        await bench.send(frame)
        assert await bench.answer() == (1, Status.OK, [])
        assert bench.writes == [(Space.PARAMS, 1, 4 + k, word) for k, word in enumerate(words)]
        await bench.silent()

    Bench().run(host)


@pytest.mark.parametrize("stalls", STALLS)
def test_noise_and_truncation(stalls: str) -> None:
    generator = random.Random(4)
    recovery = frames.flush(TINY.replace(frame_words=8).frame_words)

    async def host(bench: Bench) -> None:
        written = []
        for sequence in range(4):
            words = random_words(generator, 8)
            frame = frames.request(sequence, Command.WRITE, **write_fields(words))
            noise = bytes(generator.getrandbits(8) for _ in range(generator.randint(0, 40)))
            await bench.send(noise + recovery + frame[: generator.randrange(len(frame))] + recovery)
            assert bench.writes == written
            await bench.send(frame)
            assert await bench.answer() == (sequence, Status.OK, [])
            written += [(0, 0, k, word) for k, word in enumerate(words)]
            assert bench.writes == written

    Bench(TINY.replace(frame_words=8), stalls).run(host)


def test_noise_without_sync_needs_no_flush() -> None:
    noise = bytes(byte for byte in range(256) if byte != frames.SYNC_REQUEST)

    async def host(bench: Bench) -> None:
        await bench.send(noise)
        assert await bench.request(1, Command.READ, count=1) == (1, Status.OK, [stored(0, 0)])

    Bench().run(host)


def test_too_long_write_is_dropped_at_its_header() -> None:
    """The very next byte is hunted through, so that a damaged length costs one header."""
    frame = frames.request(1, Command.WRITE, count=TINY.frame_words + 1)

    async def host(bench: Bench) -> None:
        await bench.send(frame[: 1 + frames.REQUEST_HEADER.size])
        assert await bench.request(2, Command.READ, address=9, count=1) == (2, Status.OK, [stored(0, 9)])
        assert bench.writes == []

    Bench().run(host)


REFUSED: dict[str, dict[str, Any]] = {
    "command 0": {"command": 0},
    "command 4": {"command": 4, "count": 5},
    "command 255": {"command": 255},
    "space": {"command": Command.WRITE, "space": 5, "count": 1},
    "space that only looks like one in its low bits": {"command": Command.WRITE, "space": 8, "count": 1},
    "address": {"command": Command.WRITE, "address": TINY.spike_depth, "count": 1},
    "address of nothing": {"command": Command.WRITE, "address": TINY.spike_depth, "count": 0},
    "high address": {"command": Command.WRITE, "address": 1 << 16, "count": 2},
    "address that wraps": {"command": Command.WRITE, "address": 0xFFFFFFFF, "count": 2},
    "end": {"command": Command.WRITE, "address": TINY.spike_depth - 1, "count": 2},
    "weights end": {"command": Command.WRITE, "space": Space.WEIGHTS, "address": TINY.weight_depth, "count": 1},
    "params end": {"command": Command.WRITE, "space": Space.PARAMS, "address": 2 * TINY.param_depth, "count": 1},
    "registers end": {"command": Command.READ, "space": Space.REGISTERS, "address": 10, "count": 2},
    "read end": {"command": Command.READ, "address": TINY.spike_depth - 1, "count": 2},
    "read count": {"command": Command.READ, "count": TINY.frame_words + 1},
    "read weights": {"command": Command.READ, "space": Space.WEIGHTS, "count": 1},
    "read params": {"command": Command.READ, "space": Space.PARAMS, "count": 1},
    "read program": {"command": Command.READ, "space": Space.PROGRAM, "count": 1},
    "run address": {"command": Command.RUN, "address": TINY.program_depth},
    "run end": {"command": Command.RUN, "address": TINY.program_depth - 2, "count": 3},
}


def test_refused() -> None:
    async def host(bench: Bench) -> None:
        for case, fields in REFUSED.items():
            words = b""
            if fields["command"] == Command.WRITE:
                words = payload(random_words(random.Random(5), fields["count"]))
            assert await bench.request(9, **fields, payload=words) == (9, Status.REFUSED, []), case
            assert (bench.writes, bench.reads, bench.runs) == ([], [], []), case
        last = TINY.spike_depth - 1
        assert await bench.request(10, Command.READ, address=last, count=1) == (10, Status.OK, [stored(0, last)])

    Bench().run(host)


def test_mask_reaches_every_column() -> None:
    async def host(bench: Bench) -> None:
        for column in range(LARGE.columns):
            await bench.request(column, Command.WRITE, **write_fields([column], space=Space.WEIGHTS, mask=1 << column))
        assert bench.writes == [(Space.WEIGHTS, 1 << column, 0, column) for column in range(LARGE.columns)]

    Bench(LARGE).run(host)


def test_repeated_requests() -> None:
    async def host(bench: Bench) -> None:
        # A first frame with sequence number 0 is nobody's repetition.
        assert await bench.request(0, Command.RUN, address=3, count=2) == (0, Status.OK, [])
        assert bench.runs == [(3, 2)]
        for _ in range(3):
            assert await bench.request(0, Command.RUN, address=3, count=2) == (0, Status.OK, [])
        assert bench.runs == [(3, 2)]
        assert await bench.request(1, Command.RUN, address=3, count=2) == (1, Status.OK, [])
        assert bench.runs == [(3, 2), (3, 2)]
        # The same number after something else is a new run; a refused run was not one.
        assert await bench.request(1, Command.READ, count=1) == (1, Status.OK, [stored(0, 0)])
        assert await bench.request(1, Command.READ, count=1) == (1, Status.OK, [stored(0, 0)])
        assert await bench.request(1, Command.RUN, address=7) == (1, Status.OK, [])
        assert bench.runs == [(3, 2), (3, 2), (7, 0)]
        assert await bench.request(2, Command.RUN, address=TINY.program_depth) == (2, Status.REFUSED, [])
        assert await bench.request(2, Command.RUN, address=8) == (2, Status.OK, [])
        assert bench.runs == [(3, 2), (3, 2), (7, 0), (8, 0)]
        for _ in range(2):
            assert await bench.request(3, Command.WRITE, **write_fields([11, 22])) == (3, Status.OK, [])
        assert bench.writes == 2 * [(0, 0, 0, 11), (0, 0, 1, 22)]

    Bench().run(host)


def test_run_is_answered_when_done() -> None:
    async def host(bench: Bench) -> None:
        await bench.send(frames.request(1, Command.RUN, address=2, count=9))
        await bench.silent(650)
        assert bench.runs == [(2, 9)]
        assert await bench.answer() == (1, Status.OK, [])
        assert bench.times["tx"][0] == bench.times["done"][0] + 2

    Bench(run_cycles=700).run(host)


@pytest.mark.parametrize("count", [0, 1, 2, 17, 32])
def test_latency_and_rate(count: int) -> None:
    """The cycles that the docstrings state."""
    words = random_words(random.Random(6), count)

    async def host(bench: Bench) -> None:
        times = bench.times

        def clear() -> None:
            for port in times.values():
                port.clear()

        def steps(port: str) -> list[int]:
            return [after - before for before, after in itertools.pairwise(times[port])]

        for address, status in ((0, Status.OK), (TINY.spike_depth, Status.REFUSED)):
            clear()
            got = await bench.request(1, Command.WRITE, **write_fields(words, address=address))
            assert got == (1, status, [])
            assert steps("rx") == [1] * (15 + 8 * count)
            assert times["tx"][0] - times["rx"][-1] == (8 * count + 4 if count else 5)
            assert steps("tx") == [1] * 4 + [2] + [1] * 3
            assert steps("request") == ([8] * (count - 1) if status == Status.OK else [])

        clear()
        await bench.request(2, Command.READ, count=count)
        assert times["tx"][0] - times["rx"][-1] == 5
        assert steps("tx") == [1] * (4 + 8 * count) + [2] + [1] * 3
        assert steps("request") == [1] * (count - 1)

        clear()
        await bench.request(3, Command.RUN)
        assert times["run"][0] - times["rx"][-1] == 3
        assert times["tx"][0] - times["done"][0] == 2

    Bench().run(host)


def test_headers_match_the_host() -> None:
    """The structures lie as the host's `struct` formats do."""
    header = frames.REQUEST_HEADER.pack(0x12, 0x34, 0x56, 0x789A, 0xBCDEF012, 0x3456)
    view = RequestHeader.from_bits(int.from_bytes(header, "little"))
    assert (view.sequence, view.command, view.space) == (0x12, 0x34, 0x56)
    assert (view.mask, view.address, view.count) == (0x789A, 0xBCDEF012, 0x3456)
    response = ResponseHeader.from_bits(int.from_bytes(frames.RESPONSE_HEADER.pack(1, 2, 0x3456), "little"))
    assert (response.sequence, response.status, response.count) == (1, 2, 0x3456)


def test_decoder_latency() -> None:
    dut = FrameDecoder(TINY)
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)

    async def main(ctx: Any) -> None:
        await send(ctx, dut.rx, frames.request(1, Command.WRITE, **write_fields([1, 2])), STALLS["none"](0))
        for expected in (False, True):
            assert bool(ctx.get(dut.frame.valid)) is expected
            await ctx.tick()
        assert not ctx.get(dut.rx.ready)
        await wait(ctx, 6)
        assert not ctx.get(dut.words.valid)
        await ctx.tick()
        assert ctx.get(dut.words.valid)
        assert await get(ctx, dut.words) == 1
        assert await get(ctx, dut.words) == 2
        assert not ctx.get(dut.words.valid)
        assert (await get(ctx, dut.frame)).count == 2
        assert ctx.get(dut.rx.ready)

    simulator.add_testbench(main)
    simulator.run()


@pytest.mark.parametrize("stalls", STALLS)
def test_encoder_alone(stalls: str) -> None:
    dut = FrameEncoder()
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    generator = random.Random(7)
    items = [(n, generator.randrange(2), random_words(generator, generator.randint(0, 9))) for n in range(8)]
    expected = b"".join(frames.response(n, Status(status), payload(words)) for n, status, words in items)

    async def headers(ctx: Any) -> None:
        for sequence, status, words in items:
            await put(ctx, dut.header, {"sequence": sequence, "status": status, "count": len(words)})

    async def words(ctx: Any) -> None:
        await send(ctx, dut.words, [word for _, _, words in items for word in words], STALLS[stalls](1))

    async def main(ctx: Any) -> None:
        got = bytearray()
        pauses = STALLS[stalls](2)
        while len(got) < len(expected):
            got.append(await get(ctx, dut.tx, next(pauses)))
        assert bytes(got) == expected

    simulator.add_testbench(headers, background=True)
    simulator.add_testbench(words, background=True)
    simulator.add_testbench(main)
    simulator.add_process(monitor(dut.tx, "tx"))
    simulator.run()


@pytest.mark.parametrize(
    ("message", "payloads", "valids"), [("payload changed", (1, 2), (1, 1)), ("valid fell", (1, 1), (1, 0))]
)
def test_monitor_notices_broken_streams(message: str, payloads: tuple[int, ...], valids: tuple[int, ...]) -> None:
    """The rules that every stream test relies on can fail."""
    dut = FrameEncoder()
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)

    async def main(ctx: Any) -> None:
        for value, valid in zip(payloads, valids, strict=True):
            ctx.set(dut.words.payload, value)
            ctx.set(dut.words.valid, valid)
            await ctx.tick()
        await ctx.tick()

    simulator.add_testbench(main)
    simulator.add_process(monitor(dut.words, "words"))
    with pytest.raises(AssertionError, match=message):
        simulator.run()
