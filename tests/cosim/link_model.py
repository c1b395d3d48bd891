"""A decoder of request frames in plain Python, and byte streams with all kinds of damage in them."""

import dataclasses
import random

from polyspike.spec.link import CRC, REQUEST_HEADER, SYNC_REQUEST, Command, crc, flush, request

WRITES = (Command.WRITE, Command.WRITE_AHEAD)


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What a byte stream has in it: headers and payloads of sound frames, and how many frames were dropped."""

    contents: list[bytes]
    dropped: int


def decode(data: bytes, frame_words: int) -> Decoded:
    """Find the frames in a byte stream, as `polyspike.spec.link` says."""
    contents: list[bytes] = []
    dropped = 0
    at = data.find(SYNC_REQUEST)
    while at >= 0:
        start, body = at + 1, at + 1 + REQUEST_HEADER.size
        if len(data) < body:
            break
        _, _, command, _, _, _, count = REQUEST_HEADER.unpack(data[start:body])
        words = count if command in WRITES else 0
        if words > frame_words:
            dropped += 1
            at = data.find(SYNC_REQUEST, body)
            continue
        end = body + 8 * words
        if len(data) < end + CRC.size:
            break
        if CRC.unpack(data[end : end + CRC.size])[0] == crc(data[start:end]):
            contents.append(data[start:end])
        else:
            dropped += 1
        at = data.find(SYNC_REQUEST, end + CRC.size)
    return Decoded(contents, dropped)


def random_frame(generator: random.Random, frame_words: int) -> bytes:
    """Return a sound frame, often one of an extreme length or content."""
    command = generator.choice([*Command, Command.WRITE, Command(generator.choice(list(Command)))])
    count = generator.choice((0, 1, frame_words, generator.randint(0, frame_words)))
    size = 8 * count if command in WRITES else 0
    payload = generator.choice((bytes(size), b"\xff" * size, bytes([SYNC_REQUEST]) * size, generator.randbytes(size)))
    top = generator.choice((0, 1))
    return request(
        generator.choice((0, 0xFFFF, SYNC_REQUEST, generator.getrandbits(16))),
        generator.getrandbits(8),
        command,
        generator.getrandbits(8),
        generator.getrandbits(16),
        0xFFFF_FFFF * top or generator.getrandbits(32),
        count,
        payload,
    )


def damaged(generator: random.Random, frame_words: int) -> bytes:
    """Return a frame with some damage; most often bytes follow that end whatever came of it."""
    frame = bytearray(random_frame(generator, frame_words))
    recovery = flush(frame_words)
    kind = generator.randrange(5)
    if kind == 0:  # a wrong bit anywhere
        frame[generator.randrange(len(frame))] ^= 1 << generator.randrange(8)
        return bytes(frame) + recovery
    if kind == 1:  # a wrong CRC, and the next frame at once
        frame[-1 - generator.randrange(4)] ^= 1 << generator.randrange(8)
        return bytes(frame)
    if kind == 2:  # cut short
        return bytes(frame[: generator.randrange(len(frame))]) + recovery
    if kind == 3:  # more payload than there can be, and the next frame at once
        long = request(1, 2, generator.choice(WRITES), count=generator.choice((frame_words + 1, 0x8000, 0xFFFF)))
        return long[: 1 + REQUEST_HEADER.size]
    return generator.randbytes(generator.randint(1, 30)) + recovery  # noise
