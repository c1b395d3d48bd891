"""An accelerator behind AXI, driven as a processor and a DMA engine would.

Environment: POLYSPIKE_PROGRAM, an .npz file that `test_axi_icarus.save` wrote: what to load, inputs, and the golden
model's membranes. The expected register contents come from `polyspike.spec` and from what the bench did.
"""

import itertools
import os
import random
from collections.abc import Iterator
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge, Timer, with_timeout
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiResp
from numpy.typing import NDArray

from polyspike.cosim.cocotb_axi import AxiHost
from polyspike.cosim.cocotb_streams import PERIOD_NS
from polyspike.spec import TINY, axi
from polyspike.spec.configuration import ARCHITECTURE_VERSION
from polyspike.spec.memory import Space, depth
from polyspike.spec.registers import InputLayout

CONFIGURATION = TINY.replace(name="two", columns=2, compact=0, unpacker=1)
#: Several times what a test needs.
BOUND = {"timeout_time": 100_000 * PERIOD_NS, "timeout_unit": "ns"}

IN, RUN, OUT, CLEAR, RESET, AHEAD = 1, 2, 4, 8, 16, 1 << 8
DONE_IN, DONE_RUN, DONE_OUT, REFUSED, SHORT = 1, 2, 4, 8, 16

#: What an output holds until it is taken: valid, ready and payload.
OUTPUTS = (
    ("s_axil_bvalid", "s_axil_bready", ("s_axil_bresp",)),
    ("s_axil_rvalid", "s_axil_rready", ("s_axil_rdata", "s_axil_rresp")),
    ("m_axis_tvalid", "m_axis_tready", ("m_axis_tdata", "m_axis_tlast")),
)


class Host(AxiHost):
    """The two ends of the buses, and a monitor of their rules."""

    def __init__(self, dut: Any) -> None:
        super().__init__(dut)
        self.images = 0

    async def start(self) -> None:
        await super().start()
        for valid, ready, payload in OUTPUTS:
            assert not self.dut[valid].value
            cocotb.start_soon(self.watch(valid, ready, payload))

    async def watch(self, valid: str, ready: str, payload: tuple[str, ...]) -> None:
        """What is offered stays until it is taken, and nothing is unknown."""
        held = None
        while True:
            await RisingEdge(self.dut.aclk)
            offered = [int(getattr(self.dut, name).value) for name in payload] if self.dut[valid].value else None
            assert held is None or offered == held, f"{valid}: {held} became {offered} before it was taken"
            held = None if offered is None or self.dut[ready].value else offered

    def stall(self, seed: int) -> None:
        """Pause every channel by chance."""
        channels = (
            self.lite.write_if.aw_channel,
            self.lite.write_if.w_channel,
            self.lite.write_if.b_channel,
            self.lite.read_if.ar_channel,
            self.lite.read_if.r_channel,
            self.source,
            self.sink,
        )
        for index, channel in enumerate(channels):
            channel.set_pause_generator(pauses(seed + index))

    async def load(self, data: Any) -> None:
        for index, (space, mask, address) in enumerate(data["writes"]):
            words = data[f"words{index}"]
            sending = cocotb.start_soon(self.send(words))
            await self.command(IN, in_target=int(space) | int(mask) << 16, in_address=int(address), in_count=len(words))
            await self.interrupt(DONE_IN)
            await sending


def pauses(seed: int) -> Iterator[bool]:
    generator = random.Random(seed)
    while True:
        yield from itertools.repeat(generator.random() < 0.5, generator.choice((1, 1, 2, 3, 9)))


def words(seed: int, count: int) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 1 << 64, count, np.uint64)


async def started(dut: Any) -> Host:
    dut.aresetn.value = 0
    host = Host(dut)
    await Timer(1, "ns")  # the inputs have their values before the first clock edge
    await host.start()
    return host


async def infer(host: Host) -> None:
    """Load the program, run every image, and compare with the golden model."""
    data = np.load(os.environ["POLYSPIKE_PROGRAM"])
    await host.access("IRQ_ENABLE", DONE_IN)
    await host.load(data)
    await host.access("IRQ_ENABLE", DONE_OUT)
    address, first, count, out_address, out_count = map(int, data["boxes"])
    settings = {
        "in_target": Space.SPIKES,
        "in_address": address,
        "in_count": data["inputs"].shape[1],
        "run_first": first,
        "run_count": count,
        "out_address": out_address,
        "out_count": out_count,
    }
    for image, expected in zip(data["inputs"], data["membranes"], strict=True):
        await host.send(image)
        # Settings stay.
        await (host.command(IN | RUN | OUT) if host.images else host.command(CLEAR | IN | RUN | OUT, **settings))
        host.images += 1
        result = (await host.receive()).view("<i4")
        np.testing.assert_array_equal(result[: len(expected)], expected)
        await host.interrupt(DONE_OUT)
        assert await host.read("STATUS") == 0
    assert await host.read("IRQ_STATUS") == DONE_IN | DONE_RUN
    events = await host.read("EVENTS_LO")
    cycles = await host.read("CYCLES_LO")
    assert events > 0 and await host.read("CYCLES_HI") == 0
    stalls = 0
    for name in ("STALL_FETCH", "STALL_PORT", "STALL_DRAIN", "STALL_IDLE"):
        stalls += await host.read(f"{name}_LO")
    assert events + stalls == CONFIGURATION.columns * cycles
    host.dut._log.info("%d images in %d cycles", len(data["inputs"]), cycles)
    await host.command(CLEAR)
    assert await host.read("EVENTS_LO") == 0


@cocotb.test(**BOUND)
async def inference(dut: Any) -> None:
    await infer(await started(dut))


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=[1, 2])
async def inference_with_every_channel_stalled(dut: Any, seed: int) -> None:
    host = await started(dut)
    host.stall(10 * seed)
    await infer(host)


@cocotb.test(**BOUND)
async def every_register_reads_as_it_should(dut: Any) -> None:
    host = await started(dut)
    digest = int(CONFIGURATION.digest, 16)
    expected = {
        "ID": int.from_bytes(b"pspk", "big"),
        "VERSION": ARCHITECTURE_VERSION,
        "DIGEST_LO": digest & 0xFFFF_FFFF,
        "DIGEST_HI": digest >> 32,
        "CLOCK_HZ": 100_000_000,
    }
    offsets = {}
    for register in axi.REGISTERS:
        assert await host.read(register.name) == expected.get(register.name, 0), register.name
        offsets[register.offset] = register
    # Everything else is refused, and so are writes to what can only be read.
    for offset in [*range(0, 0x110, 4), 0x7FC, 0xFFC]:
        register = offsets.get(offset)
        if register is None:
            answer = await host.lite.read(offset, 4)
            assert (answer.resp, answer.data) == (AxiResp.SLVERR, bytes(4)), hex(offset)
        if register is None or register.access is axi.Access.READ:
            answer = await host.lite.write(offset, b"\xff" * 4)
            assert answer.resp == AxiResp.SLVERR, hex(offset)
    for register in axi.REGISTERS:
        assert await host.read(register.name) == expected.get(register.name, 0), register.name


@cocotb.test(**BOUND)
async def byte_strobes_are_honoured(dut: Any) -> None:
    host = await started(dut)
    host.stall(5)
    generator = random.Random(0)
    masks = {
        register.name: sum(each.mask for each in register.fields) or 0xFFFF_FFFF
        for register in axi.REGISTERS
        if register.access is axi.Access.READ_WRITE
    }
    values = dict.fromkeys(masks, 0)
    for _ in range(60):
        name = generator.choice(list(masks))
        first = generator.randrange(4)
        data = generator.randbytes(generator.randint(1, 4 - first))
        value = bytearray(values[name].to_bytes(4, "little"))
        value[first : first + len(data)] = data
        values[name] = int.from_bytes(value, "little") & masks[name]
        answer = await host.lite.write(axi.BY_NAME[name].offset + first, data)
        assert answer.resp == AxiResp.OKAY
        assert await host.read(name) == values[name], name
    # A command whose byte has no strobe is none.
    answer = await host.lite.write(axi.BY_NAME["COMMAND"].offset + 1, b"\xff\xff\xff")
    assert answer.resp == AxiResp.OKAY and await host.read("STATUS") == 0


@cocotb.test(**BOUND)
@cocotb.parametrize(late=["aw", "w"])
async def address_and_data_come_in_any_order(dut: Any, late: str) -> None:
    host = await started(dut)
    channel = {"aw": host.lite.write_if.aw_channel, "w": host.lite.write_if.w_channel}[late]
    channel.pause = True
    writing = cocotb.start_soon(host.access("IN_COUNT", 0x1234_5678))
    await ClockCycles(dut.aclk, 20)
    assert not dut.s_axil_bvalid.value and not writing.done()
    assert (bool(dut.s_axil_awready.value), bool(dut.s_axil_wready.value)) == (late == "aw", late == "w")
    channel.pause = False
    await writing
    assert await host.read("IN_COUNT") == 0x1234_5678


@cocotb.test(**BOUND)
async def valid_does_not_wait_for_ready(dut: Any) -> None:
    host = await started(dut)
    host.lite.write_if.b_channel.pause = host.lite.read_if.r_channel.pause = host.sink.pause = True
    await host.send(words(0, 2))
    writing = cocotb.start_soon(host.access("OUT_COUNT", 1))
    reading = cocotb.start_soon(host.read("ID"))
    await ClockCycles(dut.aclk, 20)
    assert dut.s_axil_bvalid.value and dut.s_axil_rvalid.value
    assert not writing.done() and not reading.done()
    host.lite.write_if.b_channel.pause = host.lite.read_if.r_channel.pause = False
    await writing
    assert await reading == axi.ID
    await host.command(OUT)
    await ClockCycles(dut.aclk, 20)
    assert dut.m_axis_tvalid.value and dut.m_axis_tlast.value
    # The bus goes on while the stream stands still, and so do the engine's counters behind it.
    assert await host.read("STATUS") == 4
    assert await host.read("CYCLES_LO") == 0
    host.sink.pause = False
    await host.receive()
    await ClockCycles(dut.aclk, 4)
    assert await host.read("STATUS") == 0


@cocotb.test(**BOUND)
@cocotb.parametrize(stalled=[False, True])
async def streams_write_and_read_the_spike_memory(dut: Any, stalled: bool) -> None:
    host = await started(dut)
    if stalled:
        host.stall(3)
    await host.access("IRQ_ENABLE", DONE_IN | DONE_OUT)
    # One packet for two transfers; the second one is at the memory's end.
    sent = words(1, 90)
    size = depth(CONFIGURATION, Space.SPIKES)
    await host.send(sent)
    await host.command(IN, in_target=Space.SPIKES, in_address=100, in_count=50)
    await host.interrupt(DONE_IN)
    await host.command(IN, in_address=size - 40, in_count=40)
    await host.interrupt(DONE_IN)
    await host.command(OUT, out_address=100, out_count=50)
    np.testing.assert_array_equal(await host.receive(), sent[:50])
    await host.interrupt(DONE_OUT)
    await host.command(OUT, out_address=size - 40, out_count=40)
    np.testing.assert_array_equal(await host.receive(), sent[50:])
    await host.interrupt(DONE_OUT)
    assert await host.read("IRQ_STATUS") == 0 and not dut.irq.value
    # In and out in one command, in this order.
    again = words(2, 8)
    await host.send(again)
    await host.command(IN | OUT, in_address=0, in_count=8, out_address=0, out_count=8)
    np.testing.assert_array_equal(await host.receive(), again)
    await host.interrupt(DONE_IN | DONE_OUT)


@cocotb.test(**BOUND)
async def streams_are_as_fast_as_said(dut: Any) -> None:
    """A word a cycle in, and one every seven cycles out."""
    host = await started(dut)
    host.source.pause = True
    await host.send(words(3, 200))
    await host.command(IN, in_target=Space.SPIKES, in_address=0, in_count=200)
    host.source.pause = False
    times = await transfers(dut, "s_axis", 200)
    # The memory lets the first words wait for a cycle.
    assert 199 * PERIOD_NS <= times[-1] - times[0] <= 200 * PERIOD_NS
    await ClockCycles(dut.aclk, 6)
    assert await host.read("IRQ_STATUS") == DONE_IN
    receiving = cocotb.start_soon(host.receive())
    await host.command(OUT, out_address=0, out_count=50)
    times = await transfers(dut, "m_axis", 50)
    assert set(np.diff(times)) == {8 * PERIOD_NS}
    await receiving


async def transfers(dut: Any, stream: str, count: int) -> list[float]:
    """Return when a stream's next words are transferred, in nanoseconds."""
    valid, ready = (getattr(dut, f"{stream}_t{name}") for name in ("valid", "ready"))
    times: list[float] = []
    while len(times) < count:
        await RisingEdge(dut.aclk)
        if valid.value and ready.value:
            times.append(get_sim_time("ns"))
    return times


@cocotb.test(**BOUND)
async def tlast_ends_a_transfer_early(dut: Any) -> None:
    host = await started(dut)
    await host.access("IRQ_ENABLE", DONE_IN | SHORT)
    old, short, after = words(4, 10), words(5, 6), words(6, 1)
    await host.send(old)
    await host.command(IN, in_target=Space.SPIKES, in_address=0, in_count=10)
    await host.interrupt(DONE_IN)
    assert await host.read("IRQ_STATUS") == 0
    await host.send(short)
    await host.command(IN)
    await host.interrupt(DONE_IN | SHORT)
    # The next packet is the next transfer's.
    await host.send(after)
    await host.command(IN | OUT, in_address=9, in_count=1, out_address=0, out_count=10)
    np.testing.assert_array_equal(await host.receive(), [*short, *old[6:9], *after])
    assert await host.read("IRQ_STATUS") == DONE_IN | DONE_OUT


@cocotb.test(**BOUND)
async def what_cannot_be_done_is_refused(dut: Any) -> None:
    host = await started(dut)
    await host.access("IRQ_ENABLE", REFUSED)

    async def refused(value: int, **settings: int) -> None:
        await host.command(value, AxiResp.SLVERR, **settings)
        await host.interrupt(REFUSED)
        assert await host.read("STATUS") == 0 and await host.read("IRQ_STATUS") == 0

    good = {"in_count": 1, "in_address": 0, "out_count": 1, "out_address": 0, "run_first": 0, "run_count": 1}
    for name, value in good.items():
        await host.access(name.upper(), value)
    for space in (Space.SPIKES, Space.WEIGHTS, Space.PARAMS, Space.PROGRAM):
        size = depth(CONFIGURATION, space)
        for address, count in ((0, 0), (0, size + 1), (size, 1), (1, size), (0xFFFF_FFFF, 1), (1, 0xFFFF_FFFF)):
            await refused(IN, in_target=space, in_address=address, in_count=count)
        if space != Space.SPIKES:
            await refused(IN, in_target=space | AHEAD, in_address=0, in_count=1)
    for space in (Space.REGISTERS, 7):
        await refused(IN, in_target=space, in_address=0, in_count=1)
    size = depth(CONFIGURATION, Space.SPIKES)
    for address, count in ((0, 0), (size, 1), (size - 1, 2), (0x1_0000, 1)):
        await refused(OUT, out_address=address, out_count=count)
    # What counts in INPUT are the words that are written, which are in the mask.
    size = depth(CONFIGURATION, Space.SPIKES)
    for address, count in ((0, size + 1), (size, 1), (size - 1, 2)):
        await refused(IN, in_target=Space.INPUT | count << 16, in_address=address, in_count=1)
    await refused(IN, in_target=Space.INPUT | 1 << 16, in_address=0, in_count=0)
    size = depth(CONFIGURATION, Space.PROGRAM)
    for first, count in ((size, 0), (size, 1), (size - 1, 2), (0, size + 1), (0x1_0000, 1), (0, 0x1_0000)):
        await refused(RUN, run_first=first, run_count=count)
    # Of several commands in one write all are refused if one is.
    await refused(IN | OUT | CLEAR, in_target=Space.SPIKES, out_address=0, out_count=0)
    # One that is in progress cannot be given again.
    await host.command(IN, in_target=Space.SPIKES, in_address=0, in_count=2)
    await host.access("COMMAND", IN, AxiResp.SLVERR)
    await host.command(OUT, out_address=0, out_count=2)
    await host.access("COMMAND", OUT, AxiResp.SLVERR)
    assert await host.read("STATUS") == IN | OUT and await host.read("IRQ_STATUS") == REFUSED
    sent = words(7, 2)
    await host.send(sent)
    np.testing.assert_array_equal(await host.receive(), sent)


@cocotb.test(**BOUND)
async def commands_keep_their_order_unless_ahead(dut: Any) -> None:
    """A run is held up by an input that does not come, so that what waits for it and what does not can be told."""
    host = await started(dut)
    data = np.load(os.environ["POLYSPIKE_PROGRAM"])
    await host.access("IRQ_ENABLE", DONE_IN)
    await host.load(data)
    await host.access("IRQ_ENABLE", DONE_OUT | DONE_RUN)
    address, first, count, out_address, out_count = map(int, data["boxes"])
    image, expected = data["inputs"][0], data["membranes"][0]
    settings = {
        "in_target": Space.SPIKES,
        "in_address": address,
        "in_count": len(image),
        "run_first": first,
        "run_count": count,
        "out_address": out_address,
        "out_count": out_count,
    }
    await host.command(IN | RUN | OUT, **settings)
    await ClockCycles(dut.aclk, 200)
    assert await host.read("STATUS") == IN | RUN | OUT and not dut.irq.value
    await host.send(image)
    while await host.read("STATUS") == IN | RUN | OUT:
        pass
    # While it is running, words that come ahead are taken, and only those.
    far = depth(CONFIGURATION, Space.SPIKES) - 4
    await host.send(words(8, 4))
    await host.command(IN, in_target=Space.SPIKES | AHEAD, in_address=far, in_count=4)
    while await host.read("STATUS") & IN:
        pass
    await host.send(words(9, 4))
    await host.command(IN, in_target=Space.SPIKES)
    await host.access("COMMAND", CLEAR, AxiResp.SLVERR)
    assert await host.read("STATUS") == IN | RUN | OUT, "the run must be long enough for this test"
    np.testing.assert_array_equal((await host.receive()).view("<i4")[: len(expected)], expected)
    await host.interrupt(DONE_RUN | DONE_OUT)
    await host.command(OUT, out_address=far, out_count=4)
    np.testing.assert_array_equal(await host.receive(), words(9, 4))
    # The counters count all of a run that is commanded together with their clearing.
    counted = []
    for commands in ((CLEAR, RUN), (CLEAR | RUN,)):
        for command in commands:
            await host.command(command)
        while await host.read("STATUS"):
            pass
        counted.append([await host.read(f"{name}_LO") for name in ("EVENTS", "WORDS", "ZERO_WORDS", "CYCLES")])
    (*apart, longer), (*together, shorter) = counted
    # Which column the memory serves first makes a difference of a few cycles.
    assert apart == together and apart[0] > 0 and abs(longer - shorter) < 10
    # A run that is cut short leaves nothing behind.
    await host.command(RUN)
    await ClockCycles(dut.aclk, 100)
    assert await host.read("STATUS") == RUN
    await host.command(RESET)
    assert await host.read("STATUS") == 0
    await host.access("IRQ_STATUS", DONE_RUN | DONE_OUT)
    await host.send(image)
    await host.command(
        IN | RUN | OUT, in_address=address, in_count=len(image), out_address=out_address, out_count=out_count
    )
    np.testing.assert_array_equal((await host.receive()).view("<i4")[: len(expected)], expected)


@cocotb.test(**BOUND)
@cocotb.parametrize(stalled=[False, True])
async def dense_inputs_are_unpacked(dut: Any, stalled: bool) -> None:
    host = await started(dut)
    if stalled:
        host.stall(30)
    await host.access("IRQ_ENABLE", DONE_OUT)
    for seed, layout in enumerate((InputLayout(nibbles=3, row=10, taps=4, stride=2), InputLayout(nibbles=16, row=3))):
        nibbles = np.random.default_rng(seed).integers(0, 16, 4 * layout.row * layout.nibbles).tolist()
        made = unpacked(nibbles, layout)
        payload = np.array([pack(nibbles[start : start + 16]) for start in range(0, len(nibbles), 16)], np.uint64)
        await host.send(payload)
        await host.command(
            IN | OUT,
            in_target=Space.INPUT | len(made) << 16,
            in_address=50,
            in_count=len(payload),
            in_layout=layout.encode(),
            out_address=50,
            out_count=len(made),
        )
        np.testing.assert_array_equal(await host.receive(), made)
        await host.interrupt(DONE_OUT)


def pack(nibbles: list[int]) -> int:
    return sum(value << 4 * place for place, value in enumerate(nibbles))


def unpacked(nibbles: list[int], layout: InputLayout) -> list[int]:
    """What `polyspike.spec.memory` says of space INPUT."""
    items = [nibbles[start : start + layout.nibbles] for start in range(0, len(nibbles), layout.nibbles)]
    made = []
    for row in range(0, len(items), layout.row):
        for last in range(layout.taps, layout.row + 1, layout.stride):
            made.append(pack([each for item in items[row + last - layout.taps : row + last] for each in item]))
    return made


@cocotb.test(**BOUND)
async def a_reset_command_ends_everything(dut: Any) -> None:
    host = await started(dut)
    sent = words(10, 20)
    await host.send(sent)
    await host.access("IRQ_ENABLE", DONE_IN)
    await host.command(IN, in_target=Space.SPIKES, in_address=0, in_count=20)
    await host.interrupt(DONE_IN)
    await host.access("IRQ_ENABLE", DONE_OUT)
    # An output that waits for an input that does not come.
    await host.command(IN, in_count=30)
    await host.command(OUT, out_address=0, out_count=20)
    assert await host.read("STATUS") == IN | OUT
    await host.command(RESET)
    assert await host.read("STATUS") == 0 and await host.read("IN_COUNT") == 30
    await host.command(OUT)
    np.testing.assert_array_equal(await host.receive(), sent)
    await with_timeout(host.interrupt(DONE_OUT), 50 * PERIOD_NS, "ns")
