import numpy as np
import pytest

from driver.fake import FakeCore, FakeTransport, plain_crc
from golden.networks import random_network
from polyspike.driver import Link
from polyspike.spec import TINY, LinkError
from polyspike.spec.link import Command, crc, request
from polyspike.spec.memory import Space


def make(**faults) -> tuple[Link, FakeTransport]:
    transport = FakeTransport(FakeCore(random_network(1, 1), TINY), **faults)
    return Link(transport, frame_words=TINY.frame_words), transport


def words(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 1 << 64, count, dtype=np.uint64)


def test_crc_is_the_one_of_ethernet() -> None:
    assert crc(b"123456789") == plain_crc(b"123456789") == 0xCBF43926


def test_a_request_frame_byte_by_byte() -> None:
    frame = request(7, Command.WRITE, Space.WEIGHTS, 0x0102, 0x03040506, 1, bytes(range(8)))
    assert frame[:12] == bytes([0x5A, 7, 1, 1, 2, 1, 6, 5, 4, 3, 1, 0])
    assert frame[12:20] == bytes(range(8))
    assert int.from_bytes(frame[20:], "little") == plain_crc(frame[1:20])


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 200])
def test_words_go_out_and_come_back_in_frames(count: int) -> None:
    link, transport = make()
    data = words(count)
    link.write(Space.SPIKES, 0, 10, data)
    np.testing.assert_array_equal(transport.core.memories[Space.SPIKES][10 : 10 + count], data)
    np.testing.assert_array_equal(link.read(Space.SPIKES, 10, count), data)
    assert transport.requests == 2 * -(-count // TINY.frame_words)
    assert max((command[4] for command in transport.commands), default=0) <= TINY.frame_words


def flip(byte: int):
    def damage(data: bytes) -> bytes:
        damaged = bytearray(data)
        damaged[byte] ^= 0x10
        return bytes(damaged)

    return damage


DAMAGE = {
    "dropped": lambda data: b"",
    "first byte flipped": flip(0),
    "header flipped": flip(2),
    "payload flipped": flip(-9),
    "CRC flipped": flip(-1),
    "byte lost": lambda data: data[:3] + data[4:],
    "cut off": lambda data: data[:-6],
    "noise before": lambda data: b"\x00\xa5\x5a\xff" + data,
    "repeated": lambda data: data + data,
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("side", ["on_request", "on_response"])
def test_every_second_frame_damaged(side: str, kind: str) -> None:
    link, transport = make(**{side: lambda number, data: DAMAGE[kind](data) if number % 2 else data})
    data = words(150)
    link.write(Space.SPIKES, 0, 0, data)
    np.testing.assert_array_equal(transport.core.memories[Space.SPIKES][:150], data)
    np.testing.assert_array_equal(link.read(Space.SPIKES, 0, 150), data)
    expected = {"repeated": 1, "noise before": 0}.get(kind, 4)
    assert sum(link.faults.values()) >= expected


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("side", ["on_request", "on_response"])
@pytest.mark.parametrize("at", range(6))
def test_a_run_is_executed_exactly_once(side: str, kind: str, at: int) -> None:
    link, transport = make(**{side: lambda number, data: DAMAGE[kind](data) if number == at else data})
    transport.core.memories[Space.PROGRAM][:3] = np.array([1, 2, 3], np.uint64) << np.uint64(8)
    link.run(0, 1)
    link.run(1, 2)
    assert transport.core.runs == [1, 2, 3]


def test_a_dead_line_is_given_up_with_what_happened() -> None:
    link, transport = make(on_response=lambda number, data: b"")
    with pytest.raises(LinkError, match=r"READ of 2 words from SPIKES at 5: no sound answer after 4.*silence: 4"):
        link.read(Space.SPIKES, 5, 2)
    link, transport = make(on_response=lambda number, data: data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(LinkError, match=r"WRITE of 2 words to WEIGHTS at 5, column mask 0x1.*damaged answer: 4"):
        link.write(Space.WEIGHTS, 1, 5, words(2))
    assert transport.requests == 4


def test_a_refused_request_is_reported_at_once() -> None:
    link, transport = make()
    with pytest.raises(LinkError, match="refused READ of 1 words from WEIGHTS at 0"):
        link.read(Space.WEIGHTS, 0, 1)
    with pytest.raises(LinkError, match="refused WRITE of 2 words to SPIKES at 1023"):
        link.write(Space.SPIKES, 0, 1023, words(2))
    assert transport.requests == 2


def test_sequence_numbers_wrap() -> None:
    link, transport = make()
    for _ in range(600):
        link.read(Space.REGISTERS, 0, 1)
    assert transport.requests == 600
    assert not link.faults
