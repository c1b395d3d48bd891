"""The host's end of the link: frames over a byte transport, repeated when they are lost or damaged."""

import collections

import numpy as np
from numpy.typing import NDArray

from polyspike.spec import LinkError
from polyspike.spec.link import CRC, RESPONSE_HEADER, SYNC_RESPONSE, Command, Status, crc, flush, request, response
from polyspike.spec.memory import Space

from .ports import Transport


class Link:
    """A memory port over a byte transport.

    A request that gets no sound answer is repeated with the same sequence number, at most `attempts` times in all.
    READ and WRITE may well happen twice; a RUN, whose program may overwrite its own input, does not, because the device
    knows its number.

    Parameters
    ----------
    transport
        Where the bytes go.
    frame_words
        Largest payload of a frame, in words.
    timeout
        Seconds of silence after which a READ or WRITE counts as lost.
    run_timeout
        The same for RUN, which is answered only when it is done.
    attempts
        How often a request is sent before `LinkError` is raised.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        frame_words: int,
        timeout: float = 1.0,
        run_timeout: float = 60.0,
        attempts: int = 4,
    ) -> None:
        self._transport = transport
        self._frame_words = frame_words
        self._timeout = timeout
        self._run_timeout = run_timeout
        self._attempts = attempts
        self._sequence = 0
        self._received = bytearray()
        #: What went wrong so far, by kind; for reports on the quality of a link.
        self.faults: collections.Counter[str] = collections.Counter()

    def write(self, space: Space, mask: int, address: int, words: NDArray[np.uint64]) -> None:
        """Write words, in as many frames as it takes."""
        for start in range(0, len(words), self._frame_words):
            part = words[start : start + self._frame_words]
            what = f"WRITE of {len(part)} words to {space.name} at {address + start}"
            if mask:
                what += f", column mask {mask:#x}"
            payload = np.ascontiguousarray(part, dtype="<u8").tobytes()
            self._transact(what, Command.WRITE, space, mask, address + start, len(part), payload)

    def read(self, space: Space, address: int, count: int) -> NDArray[np.uint64]:
        """Read words, in as many frames as it takes."""
        result = np.zeros(count, np.uint64)
        for start in range(0, count, self._frame_words):
            size = min(self._frame_words, count - start)
            what = f"READ of {size} words from {space.name} at {address + start}"
            payload = self._transact(what, Command.READ, space, 0, address + start, size, expected=size)
            result[start : start + size] = np.frombuffer(payload, "<u8")
        return result

    def run(self, first: int, count: int) -> None:
        """Execute instructions, once."""
        self._transact(f"RUN of {count} instructions at {first}", Command.RUN, address=first, count=count)

    def _transact(
        self,
        what: str,
        command: Command,
        space: int = 0,
        mask: int = 0,
        address: int = 0,
        count: int = 0,
        payload: bytes = b"",
        expected: int = 0,
    ) -> bytes:
        """Send a request until it is answered. Return the answer's payload of `expected` words."""
        self._sequence = (self._sequence + 1) % 256
        frame = request(self._sequence, command, space, mask, address, count, payload)
        timeout = self._run_timeout if command is Command.RUN else self._timeout
        for attempt in range(self._attempts):
            if attempt:
                # The device may be in the middle of a frame that lost bytes.
                self._transport.write(flush(self._frame_words))
            self._transport.write(frame)
            received = self._receive(self._sequence, expected, timeout)
            if received is None:
                continue
            status, answer = received
            if status == Status.REFUSED:
                raise LinkError(f"the device refused {what}: no such command, address or size")
            if status != Status.OK or len(answer) != expected * 8:
                raise LinkError(
                    f"{what}: answered with status {status} and {len(answer) // 8} words, not with {expected} words"
                )
            return answer
        seen = ", ".join(f"{kind}: {number}" for kind, number in sorted(self.faults.items()))
        raise LinkError(f"{what}: no sound answer after {self._attempts} attempts (faults on this link so far: {seen})")

    def _receive(self, sequence: int, expected: int, timeout: float) -> tuple[int, bytes] | None:
        """Return (status, payload) of the response with that number; None when it is damaged or does not come."""
        whole = len(response(0, Status.OK, bytes(expected * 8)))
        while True:
            frame = self._next_frame()
            if frame is None:
                data = self._transport.read(max(1, whole - len(self._received)), timeout)
                if not data:
                    self.faults["silence"] += 1
                    self._received.clear()
                    return None
                self._received += data
                continue
            number, status, payload, sound = frame
            if not sound:
                self.faults["damaged answer"] += 1
                return None
            if number == sequence:
                return status, payload
            self.faults["answer to another request"] += 1

    def _next_frame(self) -> tuple[int, int, bytes, bool] | None:
        """Take (sequence, status, payload, whether the CRC fits) from the received bytes; None when more are needed."""
        received = self._received
        header = 1 + RESPONSE_HEADER.size
        while True:
            start = received.find(SYNC_RESPONSE)
            if start < 0:
                received.clear()
                return None
            del received[:start]
            if len(received) < header:
                return None
            number, status, count = RESPONSE_HEADER.unpack_from(received, 1)
            if count <= self._frame_words:
                break
            # No frame is that long: this was no start of one.
            del received[0]
        size = header + count * 8 + CRC.size
        if len(received) < size:
            return None
        sound = CRC.unpack_from(received, size - CRC.size)[0] == crc(bytes(received[1 : size - CRC.size]))
        payload = bytes(received[header : size - CRC.size])
        # After a damaged frame only its first byte is certainly not the start of the next one.
        del received[: size if sound else 1]
        return number, status, payload, sound
