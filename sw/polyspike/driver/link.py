"""The host's end of the link: requests sent ahead of their answers, and sent again when something was lost.

`polyspike.spec.link` describes the frames and what both sides owe each other.
"""

import collections
import dataclasses
import enum
import secrets
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from polyspike.spec import NAMED, Configuration, DeviceError, LinkError
from polyspike.spec.link import CRC, RESPONSE_HEADER, SYNC_RESPONSE, Command, Status, crc, flush, request, response
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME, MAGIC

from .device import describe
from .ports import RECEIVE_BYTES, Traffic, Transport, Words

#: Bytes of an answer without words.
_ANSWER_BYTES = len(response(0, Status.OK))

#: Requests that may be unanswered: a repetition must be told from a new request by its number modulo 256.
_MOST_UNANSWERED = 127

#: Seconds of silence after which nothing is left of an earlier dialogue.
_DRAIN_SECONDS = 0.02


@dataclasses.dataclass(eq=False)
class _Request:
    """A request on its way. `answer` is None until it is there."""

    sequence: int
    command: Command
    what: str
    frame: bytes
    #: Words of its answer.
    expected: int
    #: What a READ reads: space, first word, end.
    reads: tuple[Space, int, int] | None
    answer: bytes | None = None

    @property
    def answer_bytes(self) -> int:
        return _ANSWER_BYTES + 8 * self.expected

    @property
    def waits_for_run(self) -> bool:
        """Whether the device executes it only when no run goes on."""
        return self.command not in (Command.OPEN, Command.WRITE_AHEAD)


class _Outcome(enum.Enum):
    """How waiting for an answer ended."""

    ANSWERED = enum.auto()
    #: A later request was answered, or an answer was damaged: repeating at once is sooner than waiting.
    MISSED = enum.auto()
    SILENCE = enum.auto()


class Link:
    """A memory port over a byte transport: one session, from construction on.

    Requests are sent on as long as the device has room for them, so calls that need no answer return early. Answers are
    taken in the order of the requests. What is not answered is sent again, together with everything after it; the
    device executes each request once.

    **Time.** A request is sent at most `attempts` times without progress, `timeout` seconds apart (plus what the bytes
    under way need at the transport's rate); so an answer that does not come is reported after ``attempts * timeout``
    seconds. Where it has to wait for a run, waiting goes on for `run_timeout` seconds, with repetitions after 1, 2,
    4... times `timeout`. Each answer starts the count again, so a call ends after that time for each request that it
    sends or that is unanswered when it starts (at most 127). Opening takes no more than `timeout` longer.

    After a LinkError the link is broken: every later call raises a LinkError that names the first cause.

    Parameters
    ----------
    transport
        Where the bytes go.
    frame_words
        Largest payload of a frame, in words.
    rx_bytes
        Bytes of unanswered requests for which the device has room.
    timeout, run_timeout, attempts
        See above.
    session
        The number of the session, from 1 to 65535; a random one if None.

    Raises
    ------
    LinkError
        No answer, as above; a refused request; or a device that restarted or was opened by somebody else.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        frame_words: int,
        rx_bytes: int,
        timeout: float = 1.0,
        run_timeout: float = 60.0,
        attempts: int = 4,
        session: int | None = None,
    ) -> None:
        self._transport = transport
        self._frame_words = frame_words
        self._rx_bytes = rx_bytes
        self._timeout = timeout
        self._run_timeout = run_timeout
        self._attempts = attempts
        self._session = session or 1 + secrets.randbelow(0xFFFF)
        self._sequence = 0
        self._unanswered: collections.deque[_Request] = collections.deque()
        self._received = bytearray()
        self._bytes_sent = self._bytes_received = 0
        self._broken: str | None = None
        #: What went wrong so far, by kind; for reports on the quality of a link.
        self.faults: collections.Counter[str] = collections.Counter()
        self._open()
        #: Whether a run may be going on; after opening, one of somebody else.
        self._running = True

    def write(self, space: Space, mask: int, address: int, words: Words, ahead: bool = False) -> None:
        """Write words, in as many frames as it takes. See `MemoryPort.write`."""
        command = Command.WRITE_AHEAD if ahead else Command.WRITE
        for start in range(0, len(words), self._frame_words):
            part = words[start : start + self._frame_words]
            first = address + start
            what = f"{command.name} of {len(part)} words to {space.name} at {first}"
            if space is Space.INPUT:
                what += f" ({mask} words unpacked)"
                self._hold_back(Space.SPIKES, first, first + mask)
            else:
                if mask:
                    what += f", column mask {mask:#x}"
                self._hold_back(space, first, first + len(part))
            payload = np.ascontiguousarray(part, dtype="<u8").tobytes()
            self._ask(what, command, space, mask, first, len(part), payload)

    def read(self, space: Space, address: int, count: int) -> Words:
        """Read words, in as many frames as it takes."""
        return self.read_later(space, address, count)()

    def read_later(self, space: Space, address: int, count: int) -> Callable[[], Words]:
        """Ask for words, and return a function that waits for them."""
        most = min(self._frame_words, (RECEIVE_BYTES - _ANSWER_BYTES) // 8)
        parts = []
        for first in range(address, address + count, most):
            size = min(most, address + count - first)
            what = f"READ of {size} words from {space.name} at {first}"
            parts.append(self._ask(what, Command.READ, space, address=first, count=size, expected=size))

        def wait() -> Words:
            payload = b"".join(self._answer(part) for part in parts)
            return np.frombuffer(payload, "<u8").astype(np.uint64)

        return wait

    def run(self, first: int, count: int) -> None:
        """Execute instructions, once. See `MemoryPort.run`."""
        self._hold_back(None)
        self._ask(f"RUN of {count} instructions at {first}", Command.RUN, address=first, count=count)

    def finish(self) -> None:
        """Wait until everything that was asked for is done."""
        self._check()
        while self._unanswered:
            self._settle()
        if self._running:
            # A READ is answered when the run is over.
            self.read(Space.REGISTERS, BY_NAME["MAGIC"].address, 1)

    def traffic(self) -> Traffic:
        """Return the bytes that went over the transport so far."""
        transport = self._transport
        return Traffic(self._bytes_sent, self._bytes_received, transport.now(), transport.bytes_per_second)

    def fit(self, configuration: Configuration) -> None:
        """Use the frames and the buffer that a configuration has, from the next request on."""
        self._frame_words, self._rx_bytes = configuration.frame_words, configuration.rx_bytes

    def _open(self) -> None:
        """Start the session."""
        self._running = False
        # What comes until then answers somebody else's requests. A line that never falls silent is not waited for.
        end = self._transport.now() + self._timeout
        while self._receive(RECEIVE_BYTES, _DRAIN_SECONDS) and self._transport.now() < end:
            pass
        self._received.clear()
        self._bytes_received = 0
        # Whoever talked to the device before may have left in the middle of a frame.
        self._send(flush(self._frame_words))
        opening = self._ask(f"OPEN of session {self._session:#06x}", Command.OPEN, expected=1)
        self._answer(opening)

    # Sending

    def _ask(
        self,
        what: str,
        command: Command,
        space: int = 0,
        mask: int = 0,
        address: int = 0,
        count: int = 0,
        payload: bytes = b"",
        expected: int = 0,
    ) -> _Request:
        """Send a request as soon as there is room for it and for its answer."""
        self._check()
        frame = request(self._session, self._sequence, command, space, mask, address, count, payload)
        reads = (Space(space), address, address + count) if command is Command.READ else None
        asked = _Request(self._sequence, command, what, frame, expected, reads)
        while self._unanswered and not self._room_for(asked):
            self._settle()
        # If an exception comes in between, e.g. from the keyboard, the request counts as sent and lost.
        self._sequence = (self._sequence + 1) % 256
        self._unanswered.append(asked)
        self._send(frame)
        return asked

    def _room_for(self, asked: _Request) -> bool:
        requests = sum(len(each.frame) for each in self._unanswered)
        answers = sum(each.answer_bytes for each in self._unanswered)
        return (
            requests + len(asked.frame) <= self._rx_bytes
            and answers + asked.answer_bytes <= RECEIVE_BYTES
            and len(self._unanswered) < _MOST_UNANSWERED
        )

    def _hold_back(self, space: Space | None, first: int = 0, end: int = 0) -> None:
        """Wait for the READs whose words a new request may change: in that range, or anywhere.

        A READ that has to be repeated reads again, so until it is answered its words must stay what they are.
        """
        self._check()

        def changes(reads: tuple[Space, int, int] | None) -> bool:
            if reads is None or space is None:
                return reads is not None
            # A register may change others.
            return reads[0] is space and (space is Space.REGISTERS or (reads[1] < end and first < reads[2]))

        while any(changes(each.reads) for each in self._unanswered):
            self._settle()

    def _send(self, data: bytes) -> None:
        try:
            self._transport.write(data)
        except LinkError as error:
            self._fail(str(error))
        self._bytes_sent += len(data)

    # Waiting

    def _answer(self, asked: _Request) -> bytes:
        """Wait for the answer to a request and return its payload."""
        while asked.answer is None:
            self._check()
            self._settle()
        return asked.answer

    def _settle(self) -> None:
        """Wait until the oldest unanswered request is answered, repeating it and those after it where needed."""
        oldest = self._unanswered[0]
        patience = self._run_timeout if self._running and oldest.waits_for_run else 0.0
        wait = self._timeout
        waited = 0.0
        attempts = 1
        heard = self._bytes_received
        while True:
            # After one repetition, answers to what was sent before it keep coming: only silence tells then.
            outcome = self._wait_for(oldest, wait, quick=attempts == 1)
            if outcome is _Outcome.ANSWERED:
                return
            if outcome is _Outcome.SILENCE:
                self.faults["silence"] += 1
                waited += wait
                if attempts >= self._attempts and waited >= patience:
                    self._give_up(oldest, attempts, self._bytes_received > heard)
                if patience:
                    wait = max(self._timeout, min(2 * wait, patience - waited))
                self._fall_back()
            attempts += 1
            # The device may be in the middle of a frame that lost bytes.
            self._send(flush(self._frame_words))
            for each in list(self._unanswered):
                self._send(each.frame)

    def _wait_for(self, oldest: _Request, seconds: float, quick: bool) -> _Outcome:
        """Take answers until the oldest request has its own, time is over, or `quick` and one is seen to be missing."""
        transport = self._transport
        if transport.bytes_per_second is not None:
            under_way = sum(len(each.frame) for each in self._unanswered) + oldest.answer_bytes
            seconds += under_way / transport.bytes_per_second
        deadline = transport.now() + seconds
        while True:
            frame = self._next_frame()
            if frame is None:
                left = deadline - transport.now()
                missing = max(1, oldest.answer_bytes - len(self._received))
                if left > 0 and self._receive(missing, left):
                    continue
                # What looks like the start of a frame may hide a whole one.
                if self._received:
                    del self._received[0]
                    continue
                return _Outcome.SILENCE
            sequence, status, payload, sound = frame
            if not sound:
                self.faults["damaged answer"] += 1
            elif self._take(sequence, status, payload):
                return _Outcome.ANSWERED
            elif (sequence - oldest.sequence) % 256 < len(self._unanswered) and oldest.command is not Command.OPEN:
                self.faults["missing answer"] += 1
            else:
                self.faults["repeated answer"] += 1
                continue
            if quick:
                return _Outcome.MISSED

    def _take(self, sequence: int, status: int, payload: bytes) -> bool:
        """Take a sound answer; return whether it was that of the oldest unanswered request."""
        oldest = self._unanswered[0]
        ahead = (sequence - oldest.sequence) % 256
        if ahead >= len(self._unanswered):
            return False
        if oldest.command is Command.OPEN:
            # Any other answer is one to an earlier session.
            if status != Status.OK or payload != self._session.to_bytes(8, "little"):
                return False
        elif status == Status.CLOSED:
            self._fail("the device restarted or was opened by someone else; open it and load the program again")
        elif ahead:
            return False
        elif status == Status.REFUSED:
            self._fail(f"the device refused {oldest.what}: no such command, address or size")
        elif status != Status.OK or len(payload) != 8 * oldest.expected:
            self._fail(
                f"{oldest.what}: answered with status {status} and {len(payload) // 8} words, "
                f"not with {oldest.expected} words"
            )
        self._unanswered.popleft()
        oldest.answer = payload
        if oldest.waits_for_run:
            self._running = oldest.command is Command.RUN
        return True

    def _receive(self, most: int, seconds: float) -> bool:
        """Receive bytes; return whether some came."""
        try:
            data = self._transport.read(most, seconds)
        except LinkError as error:
            self._fail(str(error))
        self._received += data
        self._bytes_received += len(data)
        return bool(data)

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
            sequence, status, count = RESPONSE_HEADER.unpack_from(received, 1)
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
        return sequence, status, payload, sound

    # Failing

    def _fall_back(self) -> None:
        try:
            self._transport.fall_back()
        except LinkError as error:
            self._fail(str(error))

    def _check(self) -> None:
        if self._broken is not None:
            raise LinkError(f"the link is broken, open the device again; it failed before: {self._broken}")

    def _fail(self, message: str) -> NoReturn:
        self._broken = message
        raise LinkError(message)

    def _give_up(self, oldest: _Request, attempts: int, heard: bool) -> NoReturn:
        if not self._bytes_received:
            why = "no answer at all: is the board powered, its bitstream loaded, and this its port?"
        elif heard:
            why = "what came was no answer to it: check the cable, or try a lower rate"
        else:
            why = "the device fell silent: check its cable and its power"
        seen = ", ".join(f"{kind}: {number}" for kind, number in sorted(self.faults.items()))
        self._fail(f"{oldest.what}: no sound answer after {attempts} attempts; {why} (faults so far: {seen})")


def open_link(
    transport: Transport,
    configuration: Configuration | None = None,
    *,
    timeout: float = 1.0,
    run_timeout: float = 60.0,
    attempts: int = 4,
    session: int | None = None,
) -> tuple[Link, Configuration]:
    """Open a session with the device behind a transport, and find out what it is.

    Parameters
    ----------
    transport
        Where the bytes go. It is not closed here, whatever happens.
    configuration
        What the device should be. With None, the configuration of `polyspike.spec.NAMED` that it says it has.
    timeout, run_timeout, attempts, session
        See `Link`.

    Raises
    ------
    LinkError
        The device does not answer.
    DeviceError
        It is no polyspike device, has another configuration than asked for, or one without a name.
    """
    expected = NAMED.values() if configuration is None else (configuration,)
    link = Link(
        transport,
        frame_words=max(each.frame_words for each in expected),
        rx_bytes=max(each.rx_bytes for each in expected),
        timeout=timeout,
        run_timeout=run_timeout,
        attempts=attempts,
        session=session,
    )
    magic, digest = (int(word) for word in link.read(Space.REGISTERS, BY_NAME["MAGIC"].address, 2))
    if magic != MAGIC:
        raise DeviceError(f"this is no polyspike device: register MAGIC reads {magic:#018x}, not {MAGIC:#018x}")
    found = next((each for each in expected if int(each.digest, 16) == digest), None)
    if found is None:
        known = [each for each in NAMED.values() if int(each.digest, 16) == digest]
        has = describe(known[0]) if known else f"an unknown configuration (digest {digest:016x})"
        if configuration is not None:
            raise DeviceError(f"the device has {has}, but {describe(configuration)} was asked for")
        raise DeviceError(f"the device has {has}; give the configuration that it was built from")
    link.fit(found)
    return link, found
