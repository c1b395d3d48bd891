"""The UART against a line that is driven and watched in continuous time, at another clock."""

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateware.simulate import run
from polyspike.cosim.streams import STALLS, get, send, wait
from polyspike.gateware.uart import UART, UARTReceiver, UARTTransmitter
from polyspike.spec import ConfigurationError
from polyspike.spec.uart import TOLERANCE, divisor, rate_error

DIVISORS = [4, 5, 7, 16, 65]


def levels(data: bytes, gaps: Iterator[float]) -> list[tuple[float, int]]:
    """Return (bits, level) of a line that sends bytes: how long it stays at which level, with gaps before each byte."""
    parts = []
    for byte in data:
        bits = [0, *((byte >> index) & 1 for index in range(8)), 1]
        parts += [(next(gaps), 1), *((1.0, bit) for bit in bits)]
    return parts


def drive(line: Any, parts: list[tuple[float, int]], bit: float, phase: float) -> Callable[[Any], Any]:
    """Return a testbench that drives a line. `bit` is in clock cycles and need not be whole."""

    async def testbench(ctx: Any) -> None:
        now = 0  # the cycle
        until = phase
        for length, level in parts:
            until += length * bit
            while now < until:
                # What the flip-flop of the synchronizer sees at this clock edge.
                ctx.set(line, level)
                await ctx.tick()
                now += 1
        ctx.set(line, 1)
        await wait(ctx, round(12 * bit) + 10)

    return testbench


def listen(line: Any, bit: float, received: list[int]) -> Callable[[Any], Any]:
    """Return a testbench that receives what is sent on a line, sampling each bit in its middle, for ever."""

    async def testbench(ctx: Any) -> None:
        now = 0

        async def until(time: float) -> int:
            nonlocal now
            value = 1
            while now <= time:
                _, _, value = await ctx.tick().sample(line)
                now += 1
            return int(value)

        while True:
            while await until(now):
                pass
            edge = now - 1
            bits = [await until(edge + (index + 0.5) * bit) for index in range(10)]
            assert (bits[0], bits[9]) == (0, 1), f"byte {len(received)} has a wrong start or stop bit: {bits}"
            received.append(sum(value << index for index, value in enumerate(bits[1:9])))

    return testbench


def steady(gap: float) -> Iterator[float]:
    while True:
        yield gap


def irregular(seed: int) -> Iterator[float]:
    generator = random.Random(seed)
    while True:
        yield generator.choice((0, 0, generator.random() * 3))


async def receive(ctx: Any, uart: Any, number: int, stalls: Iterator[int]) -> list[int]:
    return [await get(ctx, uart.rx, next(stalls)) for _ in range(number)]


def count(signal: Any, total: list[int]) -> Callable[[Any], Any]:
    """Count the cycles in which a signal is high, in total[0]."""

    async def testbench(ctx: Any) -> None:
        async for _, _, value in ctx.tick().sample(signal):
            total[0] += value

    return testbench


def received_of(parts: list[tuple[float, int]], cycles: int, bit: float, phase: float = 0.3) -> tuple[list[int], int]:
    """Return (bytes, errors) of a receiver at `cycles` a bit when a line moves like that."""
    receiver = UARTReceiver()
    got: list[int] = []
    errors = [0]

    async def setup(ctx: Any) -> None:
        ctx.set(receiver.divisor, cycles)

    async def take(ctx: Any) -> None:
        while True:
            got.append(await get(ctx, receiver.rx))

    drivers = (setup, drive(receiver.line, parts, bit, phase))
    run(receiver, *drivers, background=(take, count(receiver.error, errors)))
    return got, errors[0]


@pytest.mark.parametrize("mismatch", [-TOLERANCE, 0.0, TOLERANCE])
@pytest.mark.parametrize("cycles", DIVISORS)
def test_bytes_are_received_from_another_clock(cycles: int, mismatch: float) -> None:
    generator = random.Random(cycles)
    for phase in (0.01, 0.26, 0.5, 0.77, 0.99) if cycles < 8 else (0.4,):
        data = bytes([0, 255, 0x55, *generator.randbytes(3)])
        gaps = steady(0) if phase < 0.5 else irregular(cycles)
        assert received_of(levels(data, gaps), cycles, cycles * (1 + mismatch), phase) == ([*data], 0)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("cycles", [4, 9])
def test_a_byte_waits_for_its_reader(cycles: int, stall: str) -> None:
    receiver = UARTReceiver()
    data = random.Random(5).randbytes(20)
    # As long as the reader takes each byte before the next one has arrived, it may be as slow as it likes.
    waits = (min(each, 9 * cycles) for each in STALLS[stall](3))
    got: list[int] = []
    errors = [0]

    async def take(ctx: Any) -> None:
        ctx.set(receiver.divisor, cycles)
        got.extend(await receive(ctx, receiver, len(data), waits))

    line = drive(receiver.line, levels(data, steady(0)), cycles, 0.5)
    run(receiver, take, line, background=(count(receiver.error, errors),))
    assert bytes(got) == data
    assert errors == [0]


def test_a_byte_that_finds_the_last_one_waiting_is_dropped() -> None:
    receiver = UARTReceiver()
    errors = [0]
    got: list[int] = []

    async def late(ctx: Any) -> None:
        ctx.set(receiver.divisor, 6)
        await wait(ctx, 6 * 33)
        got.extend(await receive(ctx, receiver, 2, STALLS["none"](0)))

    line = drive(receiver.line, levels(b"\x01\x02\x03\x04", steady(0.5)), 6, 0.5)
    run(receiver, late, line, background=(count(receiver.error, errors),))
    assert got == [1, 4]
    assert errors == [2]


def test_latency_of_the_receiver() -> None:
    receiver = UARTReceiver()
    cycles = 10
    seen: list[int] = []

    async def watch(ctx: Any) -> None:
        ctx.set(receiver.divisor, cycles)
        now = 0
        async for _, _, valid in ctx.tick().sample(receiver.rx.valid):
            if valid:
                seen.append(now)
                return
            now += 1

    run(receiver, watch, drive(receiver.line, levels(b"\x35", steady(0)), cycles, 0.0))
    # The edge is at cycle 0.
    assert seen == [9 * cycles + cycles // 2 + 3]


def test_a_missing_stop_bit_drops_the_byte_and_only_that() -> None:
    good = levels(b"\xc3", steady(1))
    broken = [*levels(b"\x3c", steady(1))[:-1], (1.0, 0), (1.0, 1)]
    assert received_of([*good, *broken, *good], 8, 8) == ([0xC3, 0xC3], 1)


def test_a_break_costs_one_error() -> None:
    parts = [(1.0, 1), (200.0, 0), (0.6, 1), *levels(b"\x81\x18", steady(0))]
    assert received_of(parts, 4, 4) == ([0x81, 0x18], 1)


@pytest.mark.parametrize("cycles", [8, 21])
def test_short_glitches_start_no_byte(cycles: int) -> None:
    generator = random.Random(cycles)
    parts: list[tuple[float, int]] = []
    for byte in b"\x00\xff\x5a":
        for _ in range(8):
            parts += [(0.7 + generator.random(), 1), (0.4 * generator.random(), 0)]
        parts += [(0.6, 1), *levels(bytes([byte]), steady(0))]
    assert received_of(parts, cycles, cycles) == ([0x00, 0xFF, 0x5A], 0)


@pytest.mark.parametrize("seed", range(4))
def test_after_noise_and_a_quiet_byte_all_is_well(seed: int) -> None:
    generator = random.Random(seed)
    cycles = generator.choice((4, 6, 13))
    noise = [(generator.expovariate(1.5), index & 1) for index in range(150)]
    data = generator.randbytes(8)
    got, _ = received_of([*noise, (11.0, 1), *levels(data, irregular(seed))], cycles, cycles * 1.01)
    assert bytes(got[-len(data) :]) == data


@pytest.mark.parametrize("mismatch", [-TOLERANCE, 0.0, TOLERANCE])
@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("cycles", [4, 11])
def test_bytes_are_sent(cycles: int, stall: str, mismatch: float) -> None:
    transmitter = UARTTransmitter()
    data = bytes([0, 255, *random.Random(cycles).randbytes(15)])
    received: list[int] = []

    async def offer(ctx: Any) -> None:
        ctx.set(transmitter.divisor, cycles)
        await send(ctx, transmitter.tx, data, STALLS[stall](cycles))
        while not ctx.get(transmitter.idle):
            await ctx.tick()

    run(transmitter, offer, background=(listen(transmitter.line, cycles * (1 + mismatch), received),))
    assert bytes(received) == data


@pytest.mark.parametrize("cycles", [4, 10])
def test_latency_and_rate_of_the_transmitter(cycles: int) -> None:
    transmitter = UARTTransmitter()
    trace: list[tuple[int, int, int]] = []

    async def offer(ctx: Any) -> None:
        ctx.set(transmitter.divisor, cycles)
        await send(ctx, transmitter.tx, b"\x00\xff\x55", STALLS["none"](0))
        await wait(ctx, 11 * cycles)

    async def watch(ctx: Any) -> None:
        ready = transmitter.tx.valid & transmitter.tx.ready
        async for _, _, taken, line, idle in ctx.tick().sample(ready, transmitter.line, transmitter.idle):
            trace.append((taken, line, idle))

    run(transmitter, offer, background=(watch,))
    transfers = [now for now, (taken, _, _) in enumerate(trace) if taken]
    assert [b - a for a, b in itertools.pairwise(transfers)] == [10 * cycles] * 2
    first = next(now for now, (_, line, _) in enumerate(trace) if not line)
    assert first == transfers[0] + 1
    bits = [0, *[0] * 8, 1, 0, *[1] * 8, 1, 0, *[1, 0] * 4, 1]
    assert [line for _, line, _ in trace[first:][: 30 * cycles]] == [bit for bit in bits for _ in range(cycles)]
    assert [idle for _, _, idle in trace[first:][: 31 * cycles]] == [0] * (30 * cycles) + [1] * cycles


def test_the_rate_may_change_between_bytes() -> None:
    uart = UART()
    received: list[bytes] = []

    async def echo(ctx: Any) -> None:
        for cycles in (5, 40, 4):
            ctx.set(uart.divisor, cycles)
            data = bytes([cycles, 0xF0 ^ cycles])
            await send(ctx, uart.tx, data, STALLS["none"](0))
            received.append(bytes(await receive(ctx, uart, len(data), STALLS["none"](0))))
            while not ctx.get(uart.idle):
                await ctx.tick()

    async def wire(ctx: Any) -> None:
        async for _, _, line in ctx.tick().sample(uart.tx_line):
            ctx.set(uart.rx_line, line)

    run(uart, echo, background=(wire,))
    assert received == [bytes([cycles, 0xF0 ^ cycles]) for cycles in (5, 40, 4)]


def test_divisors_are_rounded() -> None:
    assert divisor(48_000_000, 12_000_000) == 4
    assert divisor(25_000_000, 115_200) == 217
    assert rate_error(25_000_000, 115_200) == pytest.approx(0.0000640, rel=0.01)
    assert divisor(12_000_000, 921_600) == 13
    assert rate_error(12_000_000, 1_000_000) == 0


def test_rates_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"12000000 baud from a clock of 25000000 Hz takes 2.1 cycles a bit"):
        divisor(25_000_000, 12_000_000)
    with pytest.raises(ConfigurationError, match=r"from 4 to 65535"):
        divisor(48_000_000, 300)
    with pytest.raises(ConfigurationError, match=r"would be 9\.1% off \(5 cycles a bit\), .* nearer to 9600000"):
        divisor(48_000_000, 8_800_000)
