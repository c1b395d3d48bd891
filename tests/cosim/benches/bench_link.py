"""The driver's link against the gateware's, with a memory behind it (LinkMemory of `tiny`)."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
from cocotb.task import bridge

from polyspike.cosim.cocotb_streams import PERIOD_NS
from polyspike.cosim.cocotb_transport import CocotbTransport, start_link
from polyspike.driver import Link, Transport
from polyspike.spec import TINY, LinkError
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME

#: No test takes half as long.
BOUND_NS = 200_000 * PERIOD_NS


class FaultyTransport:
    """Loses, damages and adds bytes, in both directions, each with a probability of `rate` a byte."""

    def __init__(self, transport: CocotbTransport, rate: float, seed: int) -> None:
        self._transport = transport
        self._rate = rate
        self._random = random.Random(seed)
        self.faults = 0

    def _spoil(self, data: bytes) -> bytes:
        spoiled = bytearray()
        for byte in data:
            spoiled.append(byte)
            if self._random.random() < self._rate:
                self.faults += 1
                spoiled[-1:] = self._random.choice(
                    (b"", bytes([byte ^ 1 << self._random.randrange(8)]), bytes([byte, self._random.randrange(256)]))
                )
        return bytes(spoiled)

    @property
    def bytes_per_second(self) -> None:
        return None

    def now(self) -> float:
        return self._transport.now()

    def fall_back(self) -> None:
        self._transport.fall_back()

    def write(self, data: bytes) -> None:
        self._transport.write(self._spoil(data))

    def read(self, most: int, timeout: float) -> bytes:
        # A read that lost all its bytes is not silence yet.
        while data := self._transport.read(most, timeout):
            if spoiled := self._spoil(data):
                return spoiled
        return b""

    def close(self) -> None:
        self._transport.close()


def a_link(transport: Transport, **options: Any) -> Link:
    return Link(transport, frame_words=TINY.frame_words, rx_bytes=TINY.rx_bytes, **options)


def exercise(transport: Transport, accesses: int, seed: int, **options: Any) -> Link:
    """Write, read and run at random, against a model of what the memory must hold. Return the link."""
    link = a_link(transport, session=seed, **options)
    generator = np.random.default_rng(seed)
    model = np.zeros(TINY.spike_depth, np.uint64)
    link.write(Space.SPIKES, 0, 0, model[:200])
    runs = 0
    for _ in range(accesses):
        address, count = int(generator.integers(150)), int(generator.integers(1, 50))
        if generator.random() < 0.2:
            link.run(address, count)
            runs += 1
        elif generator.random() < 0.5:
            words = generator.integers(0, 1 << 64, count, np.uint64)
            model[address : address + count] = words
            link.write(Space.SPIKES, 0, address, words)
        else:
            assert np.array_equal(link.read(Space.SPIKES, address, count), model[address : address + count])
    assert runs and link.read(Space.REGISTERS, BY_NAME["EVENTS"].address, 1) == [runs]
    assert np.array_equal(link.read(Space.SPIKES, 0, 200), model[:200])
    return link


@cocotb.test(timeout_time=BOUND_NS, timeout_unit="ns")
async def sound_link(dut: Any) -> None:
    transport = await start_link(dut)
    link = await bridge(exercise)(transport, 20, 1)
    assert not link.faults


@cocotb.test(timeout_time=BOUND_NS, timeout_unit="ns")
async def faulty_link(dut: Any) -> None:
    """Nothing that happens to bytes changes a word, or how often something is run."""
    transport = FaultyTransport(await start_link(dut), 0.001, 2)
    link = await bridge(exercise)(transport, 25, 3, timeout=0.05, run_timeout=0.05, attempts=8)
    assert transport.faults > 5 and link.faults
    dut._log.info("%d bytes spoiled, %s", transport.faults, dict(link.faults))


@cocotb.test(timeout_time=BOUND_NS, timeout_unit="ns")
async def refusal(dut: Any) -> None:
    transport = await start_link(dut)

    def host() -> None:
        link = a_link(transport)
        with pytest.raises(LinkError, match="refused READ of 1 words from SPIKES at 1024"):
            link.read(Space.SPIKES, TINY.spike_depth, 1)

    await bridge(host)()
