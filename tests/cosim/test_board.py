"""A simulated board: rates at both ends of its wires, and what happens when they differ; lights; pseudo-terminals."""

import os
import threading
import tty

import numpy as np
import pytest
import serial

from driver.test_devices import small_network
from polyspike import compiler
from polyspike.cosim.board import (
    CLOCK_HZ,
    SimulatedSerialBoard,
    SimulatedSerialTransport,
    Usage,
    Wires,
    bring_up,
    terminal_baud,
)
from polyspike.cosim.build import serial_core
from polyspike.driver import Connection, Link, WordDevice, open_device, open_link
from polyspike.driver.rates import negotiate, release
from polyspike.spec import TINY, LinkError
from polyspike.spec.link import Command, request, response
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME, MAGIC
from polyspike.spec.uart import BASE_BAUD

WORDS = np.arange(40, dtype=np.uint64) << np.uint64(33)


def simulated() -> Wires:
    return Wires(serial_core(TINY, CLOCK_HZ, BASE_BAUD), CLOCK_HZ)


def works(link: Link) -> bool:
    link.write(Space.SPIKES, 0, 3, WORDS)
    return bool((link.read(Space.SPIKES, 3, len(WORDS)) == WORDS).all())


def register(link: Link, name: str) -> int:
    return int(link.read(Space.REGISTERS, BY_NAME[name].address, 1)[0])


def test_bytes_on_the_wires_are_frames() -> None:
    wires = simulated()
    data = request(7, 0, Command.OPEN)
    sent, answer = wires.exchange(data, 100, 100, BASE_BAUD, 200_000)
    assert sent == len(data)
    assert answer == response(0, 0, (7).to_bytes(8, "little"))
    # Back to back, 8 cycles a bit.
    assert wires.usage() == Usage(len(data) * 80, len(answer) * 80, len(data) * 80)
    wires.close()


def test_the_rate_is_negotiated_upwards() -> None:
    transport, link = bring_up(TINY)
    assert transport.baud == 230_400
    assert register(link, "UART_DIVISOR") == 4
    assert register(link, "CLOCK_HZ") == CLOCK_HZ
    start = transport.wires.cycles
    assert works(link)
    # Requests with 16, 16 and 8 words, and answers with as many, at 40 cycles a byte.
    least = 40 * 2 * 8 * len(WORDS)
    assert least < transport.wires.cycles - start < 1.5 * least
    assert link.faults.total() == 0
    release(link, transport)
    transport.read(1, 0.01)
    transport.close()


def test_a_limit_is_kept() -> None:
    transport = SimulatedSerialTransport(simulated())
    link, _ = open_link(transport, TINY)
    assert negotiate(link, transport, 153_600) == transport.baud == 153_600
    assert works(link)
    transport.close()


class LyingBridge(SimulatedSerialTransport):
    """It takes every rate, but sends and receives no faster than 180 kbaud."""

    def read(self, most: int, timeout: float) -> bytes:
        wished, self._baud = self._baud, min(self._baud, 180_000)
        try:
            return super().read(most, timeout)
        finally:
            self._baud = wished


def test_a_rate_that_does_not_work_is_not_kept() -> None:
    transport = LyingBridge(simulated())
    link, _ = open_link(transport, TINY, timeout=0.6)
    assert negotiate(link, transport) == BASE_BAUD
    assert works(link)
    assert negotiate(link, transport, 153_600) == 153_600
    transport.close()


def test_a_device_that_was_left_at_a_fast_rate_is_opened_again() -> None:
    transport, _ = bring_up(TINY)
    # The program ended without a word.
    again = SimulatedSerialTransport(transport.wires)
    link, _ = open_link(again, TINY, timeout=0.6)
    assert again.baud == BASE_BAUD
    assert link.faults["silence"] == 1
    assert works(link)
    assert negotiate(link, again) == 230_400
    again.close()


def test_a_device_that_was_let_go_answers_at_once() -> None:
    transport, link = bring_up(TINY)
    release(link, transport)
    transport.read(1, 0.01)
    again = SimulatedSerialTransport(transport.wires)
    link, _ = open_link(again, TINY)
    assert link.faults.total() == 0
    again.close()


def test_a_silent_host_keeps_its_rate() -> None:
    transport, link = bring_up(TINY)
    transport.wires.exchange(b"", 1, 1, transport.baud, CLOCK_HZ)
    assert works(link)
    assert transport.baud == 230_400
    assert link.faults.total() == 0
    transport.close()


def test_noise_costs_the_rate_at_most() -> None:
    wires = simulated()
    transport = SimulatedSerialTransport(wires)
    link, _ = open_link(transport, TINY, timeout=0.2)
    negotiate(link, transport)
    wires.exchange(b"\x5a\x00\x33", 1, 1, transport.baud, CLOCK_HZ * 3 // 5)
    assert transport.baud == 230_400
    assert works(link)
    assert transport.baud == BASE_BAUD
    assert set(link.faults) == {"silence"}
    transport.close()


def test_lights() -> None:
    transport, link = bring_up(TINY)
    wires = transport.wires
    idle, running, error = range(3)
    assert wires.lights == (True, False, False)
    link.write(Space.PROGRAM, 0, 0, np.zeros(1, np.uint64))
    link.run(0, 0)
    link.finish()
    # A program that only ends takes no time that anybody would see.
    assert (wires.lights[running], wires.lights[idle]) == (True, False)
    wires.exchange(b"", 1, 1, transport.baud, CLOCK_HZ // 5)
    assert wires.lights == (True, False, False)
    damaged = bytearray(request(1, 0, Command.READ))
    damaged[-1] ^= 1
    wires.exchange(bytes(damaged), 1, 1, transport.baud, 2_000)
    assert wires.lights[error]
    wires.exchange(b"", 1, 1, transport.baud, CLOCK_HZ * 3 // 5)
    assert wires.lights == (True, False, False)
    transport.close()
    with pytest.raises(LinkError, match=r"simulated board is closed"):
        transport.read(1, 0.1)


@pytest.mark.parametrize("baud", [9600, 115_200, 460_800, 3_000_000, 250_000, 12_000_000])
def test_the_rate_of_a_terminal_is_known(baud: int) -> None:
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    with serial.Serial(os.ttyname(theirs), baud):
        assert terminal_baud(theirs) == baud
    os.close(ours)
    os.close(theirs)


def test_a_host_at_another_rate_is_not_understood() -> None:
    opening = request(9, 0, Command.OPEN)
    with SimulatedSerialBoard(TINY) as board, serial.Serial(board.path, 57_600, timeout=0.3) as port:
        port.write(opening)
        assert port.read(100) == b""
        port.baudrate = BASE_BAUD
        port.timeout = 20
        port.write(bytes(200) + opening)
        assert port.read(17) == response(0, 0, (9).to_bytes(8, "little"))
        port.write(request(9, 1, Command.READ, Space.REGISTERS, count=1))
        assert port.read(17) == response(1, 0, MAGIC.to_bytes(8, "little"))


def test_a_batch_keeps_the_link_busy() -> None:
    network = small_network()
    images = np.random.default_rng(1).integers(0, 256, (16, 1, 4, 4)).astype(np.uint8)
    program = compiler.compile(network, TINY)
    transport, link = bring_up(TINY)
    connection = Connection(link, TINY, "a simulated board", transport.close)
    with WordDevice(lambda _: connection, "a simulated board", TINY) as device:
        device.load(program)
        link.finish()
        transport.wires.clear_usage()
        result = device.infer(images)
        usage = transport.wires.usage()
    with open_device("golden") as golden:
        golden.load(program)
        np.testing.assert_array_equal(result.membranes, golden.infer(images).membranes)
    # 16 pixels are as many words, which alone take 5120 cycles an image; the core takes about 1300.
    assert usage.sent > 16 * 16 * 8 * 40
    assert usage.sent / usage.span > 0.95


def test_a_cable_that_is_pulled_in_the_middle_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYSPIKE_TIME_SCALE", "20")
    with SimulatedSerialBoard(TINY) as board, open_device(f"serial:{board.path}") as device:
        device.load(compiler.compile(small_network(), TINY))
        scissors = threading.Timer(0.2, board.close)
        scissors.start()
        with pytest.raises(LinkError, match=rf"serial port {board.path} is gone"):
            device.infer(np.zeros((20_000, 1, 4, 4), np.uint8))
        scissors.join()
        with pytest.raises(LinkError, match=r"the link is broken, open the device again"):
            device.infer(np.zeros((1, 1, 4, 4), np.uint8))
