"""Serial ports: what goes wrong with them, and what is said about it. A board that works is in test_devices.py."""

import errno
import os
import tty
from collections.abc import Iterator

import pytest
import serial
import serial.tools.list_ports

from polyspike.driver import open_device
from polyspike.driver.rates import PATIENCE, RatedTransport, candidates
from polyspike.driver.serial import SerialTransport, parse
from polyspike.spec import TINY, DeviceError, LinkError
from polyspike.spec.uart import BASE_BAUD


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """A serial port with nothing but a file descriptor at its other end."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    yield ours, os.ttyname(theirs)
    for each in (ours, theirs):
        try:
            os.close(each)
        except OSError as error:
            assert error.errno == errno.EBADF


def test_bytes_go_both_ways(terminal: tuple[int, str]) -> None:
    ours, path = terminal
    transport = SerialTransport(path)
    assert transport.bytes_per_second == 11_520
    transport.write(b"\x00\xff\x11\x13\n\r")
    assert os.read(ours, 100) == b"\x00\xff\x11\x13\n\r"
    os.write(ours, b"\x03\x04\x1a")
    assert transport.read(2, 5) == b"\x03\x04"
    assert transport.read(2, 5) == b"\x1a"
    start = transport.now()
    assert transport.read(2, 0.1) == b""
    assert 0.1 <= transport.now() - start < 5
    transport.close()
    transport.close()
    for use in (lambda: transport.read(1, 0), lambda: transport.write(b"x"), lambda: transport.change_rate(9600)):
        with pytest.raises(LinkError, match=rf"serial port {path} is closed"):
            use()


def test_a_scaled_second_lasts_longer(terminal: tuple[int, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        transport = SerialTransport(terminal[1], time_scale=50)
        patch.setattr("time.monotonic", lambda: 100.0)
        assert transport.now() == 2.0
        transport.close()


def test_a_port_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial.tools.list_ports, "comports", list)
    with pytest.raises(DeviceError, match=r"no serial port /dev/nowhere; there is none; see .* in docs/boards.md"):
        open_device("serial:/dev/nowhere", TINY)
    port = serial.tools.list_ports_common.ListPortInfo("/dev/ttyUSB7")
    port.description = "ULX3S"
    monkeypatch.setattr(serial.tools.list_ports, "comports", lambda: [port])
    with pytest.raises(DeviceError, match=r"no serial port /dev/nowhere; there are /dev/ttyUSB7 \(ULX3S\)"):
        open_device("serial:/dev/nowhere", TINY)


def test_a_port_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise serial.SerialException(errno.EACCES, "could not open port")

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(DeviceError, match=r"permission denied for serial port /dev/ttyUSB0; .*usermod -aG dialout"):
        open_device("serial:/dev/ttyUSB0")


def test_a_port_that_somebody_uses(terminal: tuple[int, str]) -> None:
    with serial.Serial(terminal[1], exclusive=True), pytest.raises(DeviceError, match=r"in use by another program"):
        open_device(f"serial:{terminal[1]}")


def test_something_that_is_no_port(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "file")
    with open(path, "w"):
        pass
    with pytest.raises(DeviceError, match=r"cannot be opened at 115200 baud"):
        open_device(f"serial:{path}")


def test_nothing_answers(terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYSPIKE_TIME_SCALE", "0.05")
    with pytest.raises(
        LinkError,
        match=rf"{terminal[1]}, 115200 baud: OPEN .* no answer at all: is the board powered, .*docs/boards.md",
    ):
        open_device(f"serial:{terminal[1]}", TINY)
    # The port was let go.
    SerialTransport(terminal[1]).close()


@pytest.mark.parametrize("text", ["fast", "0", "-1", "nan", "inf"])
def test_a_time_scale_must_be_a_number(terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("POLYSPIKE_TIME_SCALE", text)
    with pytest.raises(DeviceError, match=rf"POLYSPIKE_TIME_SCALE is '{text}', but it must be a number above 0"):
        open_device(f"serial:{terminal[1]}", TINY)


def test_a_cable_that_is_pulled(terminal: tuple[int, str]) -> None:
    ours, path = terminal
    transport = SerialTransport(path)
    os.close(ours)
    with pytest.raises(LinkError, match=r"is gone .*: was the cable pulled or the board switched off\? Plug it in"):
        transport.read(1, 5)
    with pytest.raises(LinkError, match=r"is gone"):
        transport.write(bytes(100_000))
    transport.close()


def test_a_port_that_takes_no_bytes(terminal: tuple[int, str]) -> None:
    transport = SerialTransport(terminal[1], time_scale=0.01)
    with pytest.raises(LinkError, match=r"took no bytes for 10 s"):
        for _ in range(1000):
            transport.write(bytes(10_000))
    transport.close()


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("/dev/ttyUSB0", ("/dev/ttyUSB0", BASE_BAUD, None)),
        ("COM3", ("COM3", BASE_BAUD, None)),
        ("/dev/ttyUSB0@921600", ("/dev/ttyUSB0", 921_600, 921_600)),
        ("/dev/ttyUSB0@..3000000", ("/dev/ttyUSB0", BASE_BAUD, 3_000_000)),
    ],
)
def test_targets(target: str, parts: tuple[str, int, int | None]) -> None:
    assert parse(target) == parts


@pytest.mark.parametrize(
    "target", ["@9600", "/dev/x@", "/dev/x@fast", "/dev/x@0", "/dev/x@..9600", "/dev/x@1..", "x@-5"]
)
def test_malformed_targets(target: str) -> None:
    with pytest.raises(DeviceError, match=r"malformed serial port .*; it is PORT, PORT@BAUD, or PORT@..FASTEST"):
        parse(target)


def test_candidates_are_rates_that_the_clock_can_do() -> None:
    assert list(candidates(48_000_000, BASE_BAUD))[:4] == [
        (12_000_000, 4),
        (8_000_000, 6),
        (6_000_000, 8),
        (4_000_000, 12),
    ]
    # 12 MHz: 3 Mbaud is the fastest; 1.5 Mbaud takes 8 cycles, 921600 13.02.
    assert list(candidates(12_000_000, BASE_BAUD)) == [
        (3_000_000, 4),
        (2_000_000, 6),
        (1_500_000, 8),
        (1_000_000, 12),
        (921_600, 13),
        (460_800, 26),
        (230_400, 52),
    ]
    # 25 MHz / 3 M is 8.33 cycles, 4 % from 8.
    assert 3_000_000 not in dict(candidates(25_000_000, BASE_BAUD))
    assert next(candidates(48_000_000, BASE_BAUD, 3_000_000)) == (3_000_000, 16)
    assert next(candidates(48_000_000, BASE_BAUD, 3_200_000)) == (3_200_000, 15)
    assert list(candidates(48_000_000, 1_000_000, 1_500_000)) == [(1_500_000, 32)]


class Rated(RatedTransport):
    """Nothing but a rate; this end cannot do more than 2 Mbaud."""

    def _set_baud(self, baud: int) -> None:
        if baud > 2_000_000:
            raise ValueError

    def write(self, data: bytes) -> None:
        raise AssertionError

    read = close = write  # type: ignore[assignment]


def test_a_rate_is_given_up_when_nothing_is_heard() -> None:
    rated = Rated()
    assert rated.supports(2_000_000)
    assert not rated.supports(3_000_000)
    assert rated.baud == BASE_BAUD
    rated.change_rate(2_000_000)
    rated.fall_back()
    assert rated.baud == BASE_BAUD
    rated.change_rate(2_000_000, trusted=True)
    for _ in range(3):
        for _ in range(PATIENCE - 1):
            rated.fall_back()
        rated.heard()
    assert rated.baud == 2_000_000
    for _ in range(PATIENCE):
        rated.fall_back()
    assert rated.baud == BASE_BAUD
