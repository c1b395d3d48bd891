"""The link's device end against frames made by the host's functions, under every stall pattern."""

import itertools
import random
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from amaranth.sim import Simulator

from gateware.simulate import run
from polyspike.cosim.streams import STALLS, get, monitor, put, send, wait
from polyspike.gateware.link import FrameDecoder, FrameEncoder, Link, RequestHeader, ResponseHeader
from polyspike.spec import LARGE, TINY
from polyspike.spec import link as frames
from polyspike.spec.link import Command, Status
from polyspike.spec.memory import READABLE, Space, depth

PATIENCE = 20_000
SESSION = 0xBEEF
UNPACKING = TINY.replace(unpacker=1)
WRITES = (Command.WRITE, Command.WRITE_AHEAD)


def stored(space: int, address: int) -> int:
    """What the memory model answers to a read."""
    return (0x9E3779B97F4A7C15 * (address + 1) ^ space << 60) & (1 << 64) - 1


def payload(words: list[int]) -> bytes:
    return b"".join(word.to_bytes(8, "little") for word in words)


def random_words(generator: random.Random, count: int) -> list[int]:
    return [generator.getrandbits(64) for _ in range(count)]


def write_fields(words: list[int], **fields: int) -> dict[str, Any]:
    return {"count": len(words), "payload": payload(words), **fields}


Answer = tuple[int, int, list[int]]


class Bench:
    """A Link with a memory model behind it and a host before it, which numbers its requests from 0 on."""

    def __init__(self, configuration: Any = TINY, stalls: str = "none", seed: int = 0, run_cycles: int = 50) -> None:
        self.dut = Link(configuration)
        self.run_cycles = run_cycles
        self.session = SESSION
        self.sequence = 0
        #: what came out of `request` and `run`, in order
        self.writes: list[tuple[int, int, int, int]] = []
        self.reads: list[tuple[int, int]] = []
        self.runs: list[tuple[int, int]] = []
        #: for every word written, whether it was said to be the first of a payload
        self.firsts: list[bool] = []
        self.received: deque[int] = deque()
        self.cycle = 0
        #: cycles at which something happened, and at which `busy` was high
        self.times: dict[str, list[int]] = {"rx": [], "tx": [], "request": [], "run": [], "busy": [], "fault": []}
        self._stalling = stalls != "none"
        self._stalls = [STALLS[stalls](seed + index) for index in range(5)]
        self._answers: deque[int] = deque()

    def run(self, host: Callable[["Bench"], Awaitable[None]]) -> None:
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)

        async def watch(ctx: Any) -> None:
            ports = {"rx": self.dut.rx, "tx": self.dut.tx, "request": self.dut.request, "run": self.dut.run}
            signals = [signal for port in ports.values() for signal in (port.valid, port.ready)]
            async for _, _, *values in ctx.tick().sample(*signals, self.dut.busy, self.dut.fault):
                for index, name in enumerate(ports):
                    if values[2 * index] and values[2 * index + 1]:
                        self.times[name].append(self.cycle)
                for name, value in zip(("busy", "fault"), values[-2:], strict=True):
                    if value:
                        self.times[name].append(self.cycle)
                self.cycle += 1

        async def requests(ctx: Any) -> None:
            while True:
                item = await get(ctx, self.dut.request, next(self._stalls[1]))
                if item.write:
                    self.writes.append((item.space, item.mask, item.address, item.data))
                    self.firsts.append(bool(item.first))
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
                ctx.set(self.dut.busy, 1)
                await wait(ctx, self.run_cycles)
                ctx.set(self.dut.busy, 0)

        async def transmitted(ctx: Any) -> None:
            while True:
                byte = await get(ctx, self.dut.tx, next(self._stalls[4]))
                self.received.append(byte)

        async def main(ctx: Any) -> None:
            self._ctx = ctx
            await host(self)

        if self._stalling:  # elsewhere there is little to see, and looking takes time
            for name in ("rx", "tx", "request", "response", "run"):
                simulator.add_process(monitor(getattr(self.dut, name), name))
        simulator.add_process(watch)
        for background in (requests, responses, runs, transmitted):
            simulator.add_testbench(background, background=True)
        simulator.add_testbench(main)
        simulator.run()

    async def send(self, data: bytes) -> None:
        await send(self._ctx, self.dut.rx, data, self._stalls[0])

    async def answer(self) -> Answer:
        """Wait for a response; check its form and CRC; return sequence, status and words."""
        await self._wait(5)
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

    async def idle(self) -> None:
        """Wait until no program runs."""
        await self._ctx.tick().until(~self.dut.busy)

    async def request(self, sequence: int, command: int, session: int | None = None, **fields: Any) -> Answer:
        """Send one request and return its answer."""
        await self.send(frames.request(session if session is not None else self.session, sequence, command, **fields))
        return await self.answer()

    async def open(self, sequence: int = 255) -> None:
        """Start the session; the next request is number `sequence` + 1."""
        assert await self.request(sequence, Command.OPEN) == (sequence, Status.OK, [self.session])
        self.sequence = sequence + 1 & 255

    def next(self, command: int, **fields: Any) -> bytes:
        """Return the next request of the session."""
        frame = frames.request(self.session, self.sequence, command, **fields)
        self.sequence = self.sequence + 1 & 255
        return frame

    async def do(self, command: int, **fields: Any) -> tuple[int, list[int]]:
        """Send the next request and return status and words of its answer."""
        sequence = self.sequence
        await self.send(self.next(command, **fields))
        number, status, words = await self.answer()
        assert number == sequence
        return status, words


# Commands


@pytest.mark.parametrize("stalls", STALLS)
def test_random_commands(stalls: str) -> None:
    generator = random.Random(stalls)
    bench = Bench(LARGE.replace(frame_words=16), stalls)

    async def host(bench: Bench) -> None:
        writes: list[tuple[int, int, int, int]] = []
        reads: list[tuple[int, int]] = []
        runs = []
        await bench.open(250)
        for _ in range(16):
            command = generator.choice([each for each in Command if each is not Command.OPEN])
            space = generator.choice(
                {
                    Command.READ: list(READABLE),
                    Command.WRITE_AHEAD: [Space.SPIKES, Space.INPUT],
                }.get(command, list(Space))
            )
            limit = LARGE.program_depth if command == Command.RUN else depth(LARGE, space)
            count = generator.choice((0, 1, 2, generator.randint(0, 11)))
            address = generator.randint(0, limit - max(count, 1))
            mask = generator.randint(0, limit - address) if space == Space.INPUT else generator.getrandbits(8)
            words = random_words(generator, count) if command in WRITES else []
            got = await bench.do(command, space=space, mask=mask, address=address, count=count, payload=payload(words))
            answer = [stored(space, address + k) for k in range(count)] if command == Command.READ else []
            assert got == (Status.OK, answer)
            writes += [(space, mask, address + k, word) for k, word in enumerate(words)]
            if command == Command.READ:
                reads += [(space, address + k) for k in range(count)]
            if command == Command.RUN:
                runs.append((address, count))
            assert (bench.writes, bench.reads, bench.runs) == (writes, reads, runs)
        assert writes and reads and runs and not bench.times["fault"]

    bench.run(host)


@pytest.mark.parametrize("stalls", STALLS)
def test_largest_frame(stalls: str) -> None:
    words = random_words(random.Random(1), TINY.frame_words)

    async def host(bench: Bench) -> None:
        await bench.open()
        assert await bench.do(Command.WRITE, **write_fields(words, address=5)) == (Status.OK, [])
        assert bench.writes == [(Space.SPIKES, 0, 5 + k, word) for k, word in enumerate(words)]
        _, got = await bench.do(Command.READ, address=7, count=TINY.frame_words)
        assert got == [stored(Space.SPIKES, 7 + k) for k in range(TINY.frame_words)]

    Bench(TINY, stalls).run(host)


def test_mask_reaches_every_column() -> None:
    async def host(bench: Bench) -> None:
        await bench.open()
        for column in range(LARGE.columns):
            await bench.do(Command.WRITE, **write_fields([column], space=Space.WEIGHTS, mask=1 << column))
        assert bench.writes == [(Space.WEIGHTS, 1 << column, 0, column) for column in range(LARGE.columns)]

    Bench(LARGE).run(host)


def test_writes_to_input() -> None:
    """All 16 bits of the mask reach the engine, and the start of a payload does."""

    async def host(bench: Bench) -> None:
        await bench.open()
        for mask, words in ((0x3FF, [1, 2, 3]), (1, [4]), (2, [5, 6])):
            fields = write_fields(words, space=Space.INPUT, mask=mask, address=1)
            assert await bench.do(Command.WRITE, **fields) == (Status.OK, [])
        masks = [mask for _, mask, _, _ in bench.writes]
        assert masks == [0x3FF, 0x3FF, 0x3FF, 1, 2, 2]
        assert bench.firsts == [True, False, False, True, True, False]

    Bench(UNPACKING).run(host)


REFUSED: dict[str, dict[str, Any]] = {
    "command 0": {"command": 0},
    "command 6": {"command": 6, "count": 5},
    "command 255": {"command": 255},
    "command that only looks like one in its low bits": {"command": 8 + Command.READ},
    "space": {"command": Command.WRITE, "space": 6, "count": 1},
    "input without an unpacker": {"command": Command.WRITE, "space": Space.INPUT, "mask": 1, "count": 1},
    "space that only looks like one in its low bits": {"command": Command.WRITE, "space": 8, "count": 1},
    "address": {"command": Command.WRITE, "address": TINY.spike_depth, "count": 1},
    "address of nothing": {"command": Command.WRITE, "address": TINY.spike_depth, "count": 0},
    "high address": {"command": Command.WRITE, "address": 1 << 16, "count": 2},
    "highest address": {"command": Command.WRITE, "address": 1 << 31, "count": 2},
    "address that wraps": {"command": Command.WRITE, "address": 0xFFFFFFFF, "count": 2},
    "address that wraps at 16 bits": {"command": Command.WRITE, "address": 0xFFFF, "count": 2},
    "end": {"command": Command.WRITE, "address": TINY.spike_depth - 1, "count": 2},
    "weights end": {"command": Command.WRITE, "space": Space.WEIGHTS, "address": TINY.weight_depth, "count": 1},
    "params end": {"command": Command.WRITE, "space": Space.PARAMS, "address": 2 * TINY.param_depth, "count": 1},
    "registers end": {
        "command": Command.READ,
        "space": Space.REGISTERS,
        "address": depth(TINY, Space.REGISTERS) - 1,
        "count": 2,
    },
    "read end": {"command": Command.READ, "address": TINY.spike_depth - 1, "count": 2},
    "read count": {"command": Command.READ, "count": TINY.frame_words + 1},
    "read weights": {"command": Command.READ, "space": Space.WEIGHTS, "count": 1},
    "read params": {"command": Command.READ, "space": Space.PARAMS, "count": 1},
    "read program": {"command": Command.READ, "space": Space.PROGRAM, "count": 1},
    "run address": {"command": Command.RUN, "address": TINY.program_depth},
    "run end": {"command": Command.RUN, "address": TINY.program_depth - 2, "count": 3},
    "weights ahead": {"command": Command.WRITE_AHEAD, "space": Space.WEIGHTS, "count": 1},
    "program ahead": {"command": Command.WRITE_AHEAD, "space": Space.PROGRAM, "count": 1},
    "registers ahead": {"command": Command.WRITE_AHEAD, "space": Space.REGISTERS, "count": 1},
}

#: Refused by a device with an unpacker.
REFUSED_INPUT: dict[str, dict[str, Any]] = {
    "read": {"command": Command.READ, "count": 1},
    "address": {"command": Command.WRITE, "address": TINY.spike_depth, "mask": 1, "count": 1},
    "more words than there are": {
        "command": Command.WRITE,
        "address": TINY.spike_depth - 5,
        "mask": 6,
        "count": 1,
    },
}


def refuse(configuration: Any, cases: dict[str, dict[str, Any]], space: Space) -> None:
    async def host(bench: Bench) -> None:
        await bench.open()
        for case, fields in cases.items():
            words = b""
            if fields["command"] in WRITES:
                words = payload(random_words(random.Random(5), fields["count"]))
            sequence = bench.sequence
            frame = bench.next(**{"space": space, **fields}, payload=words)
            # A repetition of it is refused as well.
            for number in (1, 2):
                await bench.send(frame)
                assert await bench.answer() == (sequence, Status.REFUSED, []), case
                assert len(bench.times["fault"]) == number, case
                assert (bench.writes, bench.reads, bench.runs) == ([], [], []), case
            bench.times["fault"].clear()
        last = TINY.spike_depth - 1
        assert await bench.do(Command.READ, address=last, count=1) == (Status.OK, [stored(0, last)])

    Bench(configuration).run(host)


def test_refused() -> None:
    refuse(TINY, REFUSED, Space.SPIKES)


def test_refused_input() -> None:
    refuse(UNPACKING, REFUSED_INPUT, Space.INPUT)


def test_ends_of_spaces() -> None:
    """The last word of each space exists."""

    async def host(bench: Bench) -> None:
        await bench.open()
        for space in Space:
            last = depth(UNPACKING, space) - 1
            mask = 1 if space == Space.INPUT else 0
            assert await bench.do(Command.WRITE, **write_fields([9], space=space, address=last, mask=mask)) == (0, [])
            assert bench.writes[-1] == (space, mask, last, 9)
        # The payload of an input may be longer than what is written, and shorter.
        last = TINY.spike_depth - 1
        fields = write_fields([1, 2], space=Space.INPUT, address=last, mask=1)
        assert await bench.do(Command.WRITE, **fields) == (Status.OK, [])
        assert await bench.do(Command.RUN, address=TINY.program_depth - 3, count=3) == (Status.OK, [])
        assert bench.runs == [(TINY.program_depth - 3, 3)]

    Bench(UNPACKING).run(host)


# Sessions


def test_no_session_after_reset() -> None:
    """Not even that of number 0 is open."""

    async def host(bench: Bench) -> None:
        for session in (0, SESSION):
            for command in (*Command, 77):
                if command == Command.OPEN:
                    continue
                fields = write_fields([1, 2]) if command in WRITES else {"count": 1}
                got = await bench.request(5, command, session=session, **fields)
                assert got == (5, Status.CLOSED, [])
        assert await bench.request(5, Command.OPEN, session=0) == (5, Status.REFUSED, [])
        assert await bench.request(6, Command.READ, session=0, count=1) == (6, Status.CLOSED, [])
        assert (bench.writes, bench.reads, bench.runs) == ([], [], [])

    Bench().run(host)


@pytest.mark.parametrize("stalls", ["none", "bursty"])
def test_sessions(stalls: str) -> None:
    async def host(bench: Bench) -> None:
        await bench.open(7)
        assert await bench.do(Command.WRITE, **write_fields([1])) == (Status.OK, [])
        # Another host opens the device: the first one's requests have no effect, whatever their numbers.
        other = SESSION ^ 0x0100
        assert await bench.request(77, Command.OPEN, session=other) == (77, Status.OK, [other])
        for sequence in (8, 9, 78, 79):
            assert await bench.request(sequence, Command.WRITE, **write_fields([2])) == (sequence, Status.CLOSED, [])
            assert await bench.request(sequence, Command.READ, count=1) == (sequence, Status.CLOSED, [])
            assert await bench.request(sequence, Command.RUN) == (sequence, Status.CLOSED, [])
        assert await bench.request(78, Command.WRITE, session=other, **write_fields([3])) == (78, Status.OK, [])
        # The first one opens it again.
        await bench.open(200)
        assert await bench.request(79, Command.WRITE, session=other, **write_fields([4])) == (79, Status.CLOSED, [])
        assert await bench.do(Command.WRITE, **write_fields([5])) == (Status.OK, [])
        assert [word for _, _, _, word in bench.writes] == [1, 3, 5]
        assert (bench.reads, bench.runs) == ([], [])
        assert not bench.times["fault"]

    Bench(stalls=stalls).run(host)


def test_open_of_the_present_session_changes_nothing() -> None:
    async def host(bench: Bench) -> None:
        await bench.open(10)
        await bench.do(Command.WRITE, **write_fields([1]))
        for sequence in (10, 12, 99):
            assert await bench.request(sequence, Command.OPEN) == (sequence, Status.OK, [SESSION])
        # Number 11 has been executed, 12 is expected.
        assert await bench.request(11, Command.WRITE, **write_fields([1])) == (11, Status.OK, [])
        assert await bench.request(12, Command.WRITE, **write_fields([2])) == (12, Status.OK, [])
        assert [word for _, _, _, word in bench.writes] == [1, 2]

    Bench().run(host)


def test_open_does_not_wait_for_a_run() -> None:
    async def host(bench: Bench) -> None:
        await bench.open()
        await bench.do(Command.RUN)
        assert await bench.request(3, Command.OPEN, session=9) == (3, Status.OK, [9])
        assert await bench.request(4, Command.READ, count=1) == (4, Status.CLOSED, [])
        assert bench.cycle < bench.times["busy"][0] + 500
        await bench.send(frames.request(9, 4, Command.READ, count=1))
        await bench.silent(100)
        assert await bench.answer() == (4, Status.OK, [stored(0, 0)])
        assert bench.times["request"][-1] > bench.times["busy"][-1]

    Bench(run_cycles=1000).run(host)


# Order


def test_repetitions() -> None:
    """They are answered like the request itself; only a READ happens again."""

    async def host(bench: Bench) -> None:
        await bench.open(254)
        for command, fields in (
            (Command.WRITE, write_fields([11, 22], space=Space.PARAMS, mask=1)),
            (Command.RUN, {"address": 3, "count": 2}),
            (Command.WRITE_AHEAD, write_fields([33, 44])),
            (Command.READ, {"address": 3, "count": 2}),
        ):
            frame = bench.next(command, **fields)
            answers = []
            for _ in range(3):
                await bench.send(frame)
                answers.append(await bench.answer())
                assert answers[-1][1] == Status.OK
            assert answers[0] == answers[1] == answers[2]
        assert bench.writes == [(Space.PARAMS, 1, 0, 11), (Space.PARAMS, 1, 1, 22), (0, 0, 0, 33), (0, 0, 1, 44)]
        assert bench.runs == [(3, 2)]
        assert bench.reads == 3 * [(0, 3), (0, 4)]

    Bench().run(host)


def test_how_far_behind_and_ahead() -> None:
    async def host(bench: Bench) -> None:
        await bench.open(99)  # 100 is expected
        for distance in (-127, -64, -2, -1):
            sequence = 100 + distance & 255
            assert await bench.request(sequence, Command.WRITE, **write_fields([1])) == (sequence, Status.OK, [])
        for distance in (1, 2, 64, 127, 128):
            sequence = 100 + distance & 255
            for command, fields in ((Command.WRITE, write_fields([1])), (Command.READ, {"count": 1}), (9, {})):
                await bench.send(frames.request(SESSION, sequence, command, **fields))
        await bench.silent()
        assert not bench.times["fault"]
        assert (bench.writes, bench.reads) == ([], [])
        assert await bench.do(Command.WRITE, **write_fields([2])) == (Status.OK, [])
        assert bench.writes == [(0, 0, 0, 2)]

    Bench().run(host)


@pytest.mark.parametrize("stalls", ["none", "bursty"])
def test_a_lost_request(stalls: str) -> None:
    """What follows it is dropped until it comes again; then everything is executed, in order and once."""

    async def host(bench: Bench) -> None:
        await bench.open(253)
        requests = [bench.next(Command.WRITE, **write_fields([value], address=value)) for value in range(6)]
        requests.append(bench.next(Command.RUN, count=3))
        for index, frame in enumerate(requests):
            if index != 2:
                await bench.send(frame)
        for sequence in (254, 255):
            assert await bench.answer() == (sequence, Status.OK, [])
        await bench.silent()
        assert len(bench.writes) == 2
        await bench.send(frames.flush(TINY.frame_words))
        for frame in requests[1:]:
            await bench.send(frame)
        for sequence in (255, 0, 1, 2, 3, 4):
            assert await bench.answer() == (sequence, Status.OK, [])
        assert bench.writes == [(0, 0, value, value) for value in range(6)]
        assert bench.runs == [(0, 3)]

    Bench(stalls=stalls).run(host)


# Runs


def test_run_is_answered_when_it_has_started() -> None:
    async def host(bench: Bench) -> None:
        await bench.open()
        bench.times["tx"].clear()
        assert await bench.do(Command.RUN, address=2, count=9) == (Status.OK, [])
        assert bench.runs == [(2, 9)]
        assert bench.times["tx"][0] == bench.times["run"][0] + 2
        assert bench.cycle < bench.times["run"][0] + 100

    Bench(run_cycles=700).run(host)


@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("run_cycles", [1, 100])
def test_what_waits_for_a_run(run_cycles: int, stalls: str) -> None:
    """WRITE, READ (a repeated one too) and RUN do; WRITE_AHEAD does not."""

    async def host(bench: Bench) -> None:
        await bench.open()
        for command, fields in (
            (Command.WRITE, write_fields([1, 2])),
            (Command.WRITE, write_fields([1, 2], space=Space.INPUT, mask=2)),
            (Command.READ, {"count": 2}),
            (Command.RUN, {}),
        ):
            for again in range(2 if command == Command.READ else 1):
                for times in bench.times.values():
                    times.clear()
                run, frame = bench.next(Command.RUN), bench.next(command, **fields)
                await bench.send(run + frame)
                await bench.answer()
                await bench.answer()
                if again:
                    await bench.send(bench.next(Command.RUN) + frame)
                    await bench.answer()
                    await bench.answer()
                await bench.idle()
                done = bench.times["run"] if command == Command.RUN else bench.times["request"]
                assert done, command.name
                assert not set(bench.times["request"]) & set(bench.times["busy"])
                assert len(bench.times["run"]) == 2 if again or command == Command.RUN else 1

        for times in bench.times.values():
            times.clear()
        bench.run_cycles = 600
        await bench.send(bench.next(Command.RUN) + bench.next(Command.WRITE_AHEAD, **write_fields([3, 4])))
        await bench.send(bench.next(Command.WRITE_AHEAD, **write_fields([5, 6], space=Space.INPUT, mask=2)))
        for _ in range(3):
            await bench.answer()
        assert len(set(bench.times["request"]) & set(bench.times["busy"])) == 4

    Bench(UNPACKING, stalls, run_cycles=run_cycles).run(host)


# Flow


def stream_during_a_run(sizes: list[int]) -> None:
    """Send writes that have to wait, all while a run is busy; all their bytes are taken, and all are executed."""
    assert TINY.rx_bytes - 18 < sum(18 + 8 * size for size in sizes) <= TINY.rx_bytes
    generator = random.Random(6)

    async def host(bench: Bench) -> None:
        await bench.open()
        await bench.do(Command.RUN)
        expected = []
        bench.times["rx"].clear()
        for index, size in enumerate(sizes):
            words = random_words(generator, size)
            expected += [(0, 0, index + k, word) for k, word in enumerate(words)]
            await bench.send(bench.next(Command.WRITE, **write_fields(words, address=index)))
        assert bench.times["rx"][-1] < bench.times["busy"][0] + bench.run_cycles
        # Not a single byte had to wait, but for the pause behind a frame.
        steps = [after - before for before, after in itertools.pairwise(bench.times["rx"])]
        assert set(steps) <= {1, 2} and steps.count(2) == len(sizes) - 1
        assert bench.writes == []
        for _ in sizes:
            assert (await bench.answer())[1] == Status.OK
        assert bench.writes == expected

    Bench(run_cycles=800).run(host)


def test_full_of_small_frames() -> None:
    stream_during_a_run([0, 1, 2] * 6 + [2])


def test_full_of_large_frames() -> None:
    stream_during_a_run([16, 16, 16, 4, 0])


def test_full_of_empty_frames() -> None:
    stream_during_a_run([0] * 28)


def test_too_many_bytes_wait() -> None:
    """A host that sends more than that is stopped, and loses nothing."""

    async def host(bench: Bench) -> None:
        await bench.open()
        await bench.do(Command.RUN)
        words = random_words(random.Random(7), 16)
        for value in range(5):
            await bench.send(bench.next(Command.WRITE, **write_fields(words, address=value)))
        assert max(bench.times["rx"]) > bench.times["busy"][0] + 1000
        for _ in range(5):
            assert (await bench.answer())[1] == Status.OK
        assert bench.writes == [(0, 0, value + k, word) for value in range(5) for k, word in enumerate(words)]

    Bench(run_cycles=1000).run(host)


def test_line_rate_while_executing() -> None:
    """A byte every 8 cycles never waits, whatever the requests are."""

    async def host(bench: Bench) -> None:
        await bench.open()
        bench._stalls[0] = itertools.repeat(7)
        bench.times["rx"].clear()
        for _ in range(2):
            await bench.send(bench.next(Command.RUN))
            await bench.send(bench.next(Command.WRITE, **write_fields(random_words(random.Random(8), 16))))
            await bench.send(bench.next(Command.READ, count=1))
        steps = {after - before for before, after in itertools.pairwise(bench.times["rx"])}
        assert steps == {8}
        for _ in range(6):
            assert (await bench.answer())[1] == Status.OK
        assert len(bench.writes) == 32

    Bench(run_cycles=300).run(host)


# Damage


def test_damage_anywhere_changes_nothing() -> None:
    """One wrong bit in any byte: no effect, no answer, and the next good frame is served."""
    generator = random.Random(2)
    configuration = TINY.replace(frame_words=8)
    recovery = frames.flush(configuration.frame_words)

    async def host(bench: Bench) -> None:
        await bench.open()
        frame = frames.request(SESSION, 0, Command.WRITE, Space.SPIKES, 0, 3, 1, payload(random_words(generator, 1)))
        for at in range(len(frame)):
            damaged = bytearray(frame)
            damaged[at] ^= 1 << generator.randrange(8)
            bench.times["fault"].clear()
            await bench.send(bytes(damaged) + recovery)
            await bench.silent(20)
            assert bench.writes == []
            # Without the sync byte there was no frame.
            assert len(bench.times["fault"]) == (at > 0)
            got = await bench.do(Command.READ, space=Space.REGISTERS, address=1, count=1)
            assert got == (Status.OK, [stored(Space.REGISTERS, 1)])

    Bench(configuration).run(host)


def test_wrong_crc_then_good_frame_at_once() -> None:
    """A frame that is damaged in payload or CRC keeps its length, so the next one needs no flush."""
    words = random_words(random.Random(3), 3)

    async def host(bench: Bench) -> None:
        await bench.open(0)
        frame = frames.request(SESSION, 1, Command.WRITE, Space.PARAMS, 1, 4, 3, payload(words))
        for at in (14, 20, 35, len(frame) - 4, len(frame) - 1):
            damaged = bytearray(frame)
            damaged[at] ^= 0xFF
            await bench.send(bytes(damaged))
            assert bench.writes == []
        await bench.send(frame)
        assert await bench.answer() == (1, Status.OK, [])
        assert bench.writes == [(Space.PARAMS, 1, 4 + k, word) for k, word in enumerate(words)]
        await bench.silent()
        assert len(bench.times["fault"]) == 5

    Bench().run(host)


@pytest.mark.parametrize("stalls", ["none", "bursty"])
def test_noise_and_truncation(stalls: str) -> None:
    generator = random.Random(4)
    configuration = TINY.replace(frame_words=8, rx_bytes=128)
    recovery = frames.flush(configuration.frame_words)

    async def host(bench: Bench) -> None:
        written = []
        await bench.open()
        for sequence in range(4):
            words = random_words(generator, 8)
            frame = bench.next(Command.WRITE, **write_fields(words))
            noise = bytes(generator.getrandbits(8) for _ in range(generator.randint(0, 40)))
            await bench.send(noise + recovery + frame[: generator.randrange(len(frame))] + recovery)
            assert bench.writes == written
            await bench.send(frame)
            assert await bench.answer() == (sequence, Status.OK, [])
            written += [(0, 0, k, word) for k, word in enumerate(words)]
            assert bench.writes == written

    Bench(configuration, stalls).run(host)


def test_damage_while_the_ring_is_full() -> None:
    """Given up bytes make room again; what waits behind a run is not touched by them."""

    async def host(bench: Bench) -> None:
        await bench.open()
        await bench.do(Command.RUN)
        words = random_words(random.Random(9), 16)
        for value in range(2):
            await bench.send(bench.next(Command.WRITE, **write_fields(words, address=value)))
        good = bench.next(Command.WRITE, **write_fields(words, address=2))
        for _ in range(4):
            await bench.send(good[:-1] + bytes([good[-1] ^ 4]))
        await bench.send(good)
        assert bench.writes == [] and len(bench.times["fault"]) == 4
        for _ in range(3):
            assert (await bench.answer())[1] == Status.OK
        assert bench.writes == [(0, 0, value + k, word) for value in range(3) for k, word in enumerate(words)]

    Bench(run_cycles=1500).run(host)


def test_noise_without_sync_needs_no_flush() -> None:
    noise = bytes(byte for byte in range(256) if byte != frames.SYNC_REQUEST)

    async def host(bench: Bench) -> None:
        await bench.send(noise)
        await bench.open()
        assert await bench.do(Command.READ, count=1) == (Status.OK, [stored(0, 0)])

    Bench().run(host)


@pytest.mark.parametrize("command", WRITES)
@pytest.mark.parametrize("count", [TINY.frame_words + 1, 1 << 12, 1 << 15])
def test_too_long_write_is_dropped_at_its_header(command: Command, count: int) -> None:
    """The very next byte is hunted through, so that a damaged length costs one header."""

    async def host(bench: Bench) -> None:
        await bench.open()
        frame = frames.request(SESSION, 0, command, count=count)
        await bench.send(frame[: 1 + frames.REQUEST_HEADER.size])
        assert await bench.do(Command.READ, address=9, count=1) == (Status.OK, [stored(0, 9)])
        assert bench.writes == [] and len(bench.times["fault"]) == 1

    Bench().run(host)


# Latency and rate


@pytest.mark.parametrize("count", [0, 1, 2, 16])
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

        await bench.open()
        for address, status in ((0, Status.OK), (TINY.spike_depth, Status.REFUSED)):
            clear()
            assert await bench.do(Command.WRITE, **write_fields(words, address=address)) == (status, [])
            assert steps("rx") == [1] * (17 + 8 * count)
            assert times["tx"][0] - times["rx"][-1] == 22 + 9 * count
            assert steps("tx") == [1] * 4 + [3] + [1] * 3
            assert steps("request") == ([9] * (count - 1) if status == Status.OK else [])

        clear()
        await bench.do(Command.READ, count=count)
        assert times["tx"][0] - times["rx"][-1] == 22
        # The memory of this bench answers a cycle too late for the first word to follow at once.
        assert steps("tx") == [1] * 4 + ([2] + [1] * (8 * count - 1) if count else []) + [3] + [1] * 3
        assert steps("request") == [1] * (count - 1)

        clear()
        await bench.do(Command.RUN)
        assert times["run"][0] - times["rx"][-1] == 21
        assert times["tx"][0] - times["rx"][-1] == 23

    Bench().run(host)


def test_headers_match_the_host() -> None:
    """The structures lie as the host's `struct` formats do."""
    header = frames.REQUEST_HEADER.pack(0xCAFE, 0x12, 0x34, 0x56, 0x789A, 0xBCDEF012, 0x3456)
    view = RequestHeader.from_bits(int.from_bytes(header, "little"))
    assert (view.session, view.sequence, view.command, view.space) == (0xCAFE, 0x12, 0x34, 0x56)
    assert (view.mask, view.address, view.count) == (0x789A, 0xBCDEF012, 0x3456)
    response = ResponseHeader.from_bits(int.from_bytes(frames.RESPONSE_HEADER.pack(1, 2, 0x3456), "little"))
    assert (response.sequence, response.status, response.count) == (1, 2, 0x3456)


def test_decoder_alone() -> None:
    dut = FrameDecoder(TINY)
    frame = frames.request(SESSION, 1, Command.WRITE, **write_fields([1, 2]))

    async def main(ctx: Any) -> None:
        await send(ctx, dut.rx, frame, STALLS["none"](0))
        assert not ctx.get(dut.rx.ready)
        for expected in (False, False, False, True):
            assert bool(ctx.get(dut.content.valid)) is expected
            await ctx.tick()
        assert ctx.get(dut.rx.ready)
        content = [await get(ctx, dut.content) for _ in frame[1:-4]]
        assert bytes(content) == frame[1:-4]
        assert not ctx.get(dut.content.valid)

    run(dut, main)


@pytest.mark.parametrize("stalls", STALLS)
def test_encoder_alone(stalls: str) -> None:
    dut = FrameEncoder(TINY)
    generator = random.Random(7)
    items = [(n, generator.randrange(2), random_words(generator, generator.randint(0, 9))) for n in range(8)]
    items[5] = (5, 0, [generator.getrandbits(16)])
    expected = b"".join(frames.response(n, Status(status), payload(words)) for n, status, words in items)

    async def answers(ctx: Any) -> None:
        for sequence, status, words in items:
            header = {"sequence": sequence, "status": status, "count": len(words)}
            session = words[0] if sequence == 5 else generator.getrandbits(16)
            await put(ctx, dut.answer, {"header": header, "session": session, "opens": sequence == 5})

    async def words(ctx: Any) -> None:
        sent = [word for sequence, _, words in items for word in words if sequence != 5]
        await send(ctx, dut.words, sent, STALLS[stalls](1))

    async def main(ctx: Any) -> None:
        got = bytearray()
        pauses = STALLS[stalls](2)
        while len(got) < len(expected):
            got.append(await get(ctx, dut.tx, next(pauses)))
        assert bytes(got) == expected

    run(dut, main, background=(answers, words))


@pytest.mark.parametrize(
    ("message", "payloads", "valids"), [("payload changed", (1, 2), (1, 1)), ("valid fell", (1, 1), (1, 0))]
)
def test_monitor_notices_broken_streams(message: str, payloads: tuple[int, ...], valids: tuple[int, ...]) -> None:
    """The rules that every stream test relies on can fail."""
    dut = FrameEncoder(TINY)

    async def main(ctx: Any) -> None:
        for value, valid in zip(payloads, valids, strict=True):
            ctx.set(dut.words.payload, value)
            ctx.set(dut.words.valid, valid)
            await ctx.tick()
        await ctx.tick()

    with pytest.raises(AssertionError, match=message):
        run(dut, main)
