"""The link's frames. Little-endian throughout; the CRC is CRC-32 as in Ethernet and zlib.

request    SYNC_REQUEST, session (2 bytes), sequence, command, space, mask (2 bytes), address (4 bytes),
           count (2 bytes), payload, CRC (4 bytes)
response   SYNC_RESPONSE, sequence, status, count (2 bytes), payload, CRC (4 bytes)

`address` and `count` are in 64-bit words. A WRITE or WRITE_AHEAD carries `count` words of payload, its other frames
none; the response to a READ carries `count` words and that to an OPEN one, other responses none. The CRC covers
everything between the sync byte and itself. A request with a wrong CRC changes nothing and gets no answer, and
neither does one that announces more payload than the device's largest frame; a response with a wrong CRC is dropped
by the host.

**Commands.** WRITE and READ move words. RUN starts the execution of `count` instructions from instruction `address`
on, or fewer if one is HALT (count 0: until HALT); it is answered when it has started. WRITE, READ and RUN wait for
the end of a run; WRITE_AHEAD, to SPIKES or INPUT, does not, so that the next image can be sent while this one is
computed: which words a run touches is the host's to know. A request is answered when it has been executed.

**Sessions.** OPEN starts the session whose number, not 0, is in its header; its answer's word is that number. An OPEN
of the present session is answered and changes nothing. Any other request of another session than the present one is
answered CLOSED and not executed; after reset there is no session. So a device that restarted, or was opened by
somebody else, never takes the rest of a dialogue for its own.

**Order.** Sequence numbers count requests, modulo 256, from that of the OPEN on; requests are executed in their
order. A request whose number is ahead of the expected one is dropped without an answer: one before it was lost. One
that is behind (by up to 127) is a repetition, and is answered: a READ reads again, a WRITE or RUN is not executed
again. A host that misses an answer sends `flush` and then all unanswered requests again, and it keeps from changing
words that an unanswered READ reads.

**Flow.** The host may send on before it has answers, as long as the bytes of unanswered requests fit in the device's
`rx_bytes` (`Configuration`), so no byte ever finds it full; and it asks for no more than it can receive.
"""

import enum
import struct
import zlib

SYNC_REQUEST = 0x5A
SYNC_RESPONSE = 0xA5

#: Request header after the sync byte: session, sequence, command, space, mask, address, count.
REQUEST_HEADER = struct.Struct("<HBBBHIH")
#: Response header after the sync byte: sequence, status, count.
RESPONSE_HEADER = struct.Struct("<BBH")
CRC = struct.Struct("<I")


class Command(enum.IntEnum):
    """What a request asks for."""

    WRITE = 1
    READ = 2
    RUN = 3
    OPEN = 4
    #: A WRITE that does not wait for the end of a run.
    WRITE_AHEAD = 5


class Status(enum.IntEnum):
    """How a request went."""

    OK = 0
    #: Unknown command, or a space, address or count that does not exist. Nothing was changed.
    REFUSED = 1
    #: The request is not of the device's session. Nothing was changed.
    CLOSED = 2


def crc(data: bytes) -> int:
    """Return the CRC-32 of `data`."""
    return zlib.crc32(data)


def request(
    session: int,
    sequence: int,
    command: Command,
    space: int = 0,
    mask: int = 0,
    address: int = 0,
    count: int = 0,
    payload: bytes = b"",
) -> bytes:
    """Return the bytes of a request frame."""
    body = REQUEST_HEADER.pack(session, sequence, command, space, mask, address, count) + payload
    return bytes([SYNC_REQUEST]) + body + CRC.pack(crc(body))


def response(sequence: int, status: Status, payload: bytes = b"") -> bytes:
    """Return the bytes of a response frame. `payload` is a whole number of words."""
    body = RESPONSE_HEADER.pack(sequence, status, len(payload) // 8) + payload
    return bytes([SYNC_RESPONSE]) + body + CRC.pack(crc(body))


def flush(frame_words: int) -> bytes:
    """Return bytes that end whatever frame a device with frames of up to `frame_words` words believes to be in."""
    return bytes(REQUEST_HEADER.size + 8 * frame_words + CRC.size)
