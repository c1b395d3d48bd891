"""The link's frames. Little-endian throughout; the CRC is CRC-32 as in Ethernet and zlib.

A request is answered by exactly one response with the same sequence number; the host sends the next request after that.

request    SYNC_REQUEST, sequence, command, space, mask (2 bytes), address (4 bytes), count (2 bytes), payload,
           CRC (4 bytes)
response   SYNC_RESPONSE, sequence, status, count (2 bytes), payload, CRC (4 bytes)

`address` and `count` are in 64-bit words. A WRITE carries `count` words of payload, its other frames none; the response
to a READ carries `count` words, other responses none. RUN executes `count` instructions from instruction `address`
on, or fewer if one is HALT (count 0: until HALT), and is answered when they are done. The CRC covers everything between
the sync byte and itself. A request with a wrong CRC changes nothing and gets no answer, and neither does a WRITE that
announces more words than the device's largest frame; a response with a wrong CRC is dropped by the host.

A host that waits in vain sends `flush` and then the same frame again, sequence number included. A RUN that follows a
RUN of the same sequence number is taken for its repetition: answered, and not run again. A host that opens a device
first sends something that is not a RUN.
"""

import enum
import struct
import zlib

SYNC_REQUEST = 0x5A
SYNC_RESPONSE = 0xA5

#: Request header after the sync byte: sequence, command, space, mask, address, count.
REQUEST_HEADER = struct.Struct("<BBBHIH")
#: Response header after the sync byte: sequence, status, count.
RESPONSE_HEADER = struct.Struct("<BBH")
CRC = struct.Struct("<I")


class Command(enum.IntEnum):
    """What a request asks for."""

    WRITE = 1
    READ = 2
    RUN = 3


class Status(enum.IntEnum):
    """How a request went."""

    OK = 0
    #: Unknown command, or a space, address or count that does not exist. Nothing was changed.
    REFUSED = 1


def crc(data: bytes) -> int:
    """Return the CRC-32 of `data`."""
    return zlib.crc32(data)


def request(
    sequence: int,
    command: Command,
    space: int = 0,
    mask: int = 0,
    address: int = 0,
    count: int = 0,
    payload: bytes = b"",
) -> bytes:
    """Return the bytes of a request frame."""
    body = REQUEST_HEADER.pack(sequence, command, space, mask, address, count) + payload
    return bytes([SYNC_REQUEST]) + body + CRC.pack(crc(body))


def response(sequence: int, status: Status, payload: bytes = b"") -> bytes:
    """Return the bytes of a response frame. `payload` is a whole number of words."""
    body = RESPONSE_HEADER.pack(sequence, status, len(payload) // 8) + payload
    return bytes([SYNC_RESPONSE]) + body + CRC.pack(crc(body))


def flush(frame_words: int) -> bytes:
    """Return bytes that end whatever frame a device with frames of up to `frame_words` words believes to be in."""
    return bytes(REQUEST_HEADER.size + 8 * frame_words + CRC.size)
