"""Link frames, byte by byte."""

import struct
import zlib

import pytest

from polyspike.spec.link import Command, Status, flush, request, response
from polyspike.spec.memory import Space


def test_a_run_request_by_hand() -> None:
    header = bytes.fromhex("efbe 2a 03 00 0000 78563412 0201")
    expected = b"\x5a" + header + struct.pack("<I", zlib.crc32(header))
    assert request(0xBEEF, 0x2A, Command.RUN, address=0x12345678, count=0x0102) == expected
    assert len(expected) == 18


def test_a_write_request_by_hand() -> None:
    """Its sum is computed bit by bit, apart from zlib."""
    payload = bytes.fromhex("8877665544332211")
    frame = request(5, 1, Command.WRITE, Space.WEIGHTS, mask=3, address=16, count=1, payload=payload)
    body = "0500 01 01 01 0300 10000000 0100 8877665544332211"
    assert frame[:-4] == b"\x5a" + bytes.fromhex(body)
    assert frame[-4:] == bitwise_crc(bytes.fromhex(body)).to_bytes(4, "little")


@pytest.mark.parametrize("words", [0, 1, 5])
def test_responses_by_hand(words: int) -> None:
    payload = bytes(range(8 * words))
    body = bytes([0xFE, 0, words, 0]) + payload
    assert response(0xFE, Status.OK, payload) == b"\xa5" + body + struct.pack("<I", zlib.crc32(body))
    refused = b"\x07\x01\x00\x00"
    assert response(7, Status.REFUSED) == b"\xa5" + refused + struct.pack("<I", zlib.crc32(refused))


def test_flushing_ends_the_longest_frame_and_starts_none() -> None:
    longest = request(1, 0, Command.WRITE, Space.SPIKES, count=32, payload=bytes(8 * 32))
    assert len(flush(32)) == len(longest) - 1
    assert set(flush(32)) == {0}


def bitwise_crc(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register ^ 0xFFFFFFFF
