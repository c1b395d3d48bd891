"""A line on which things go wrong, as often as one likes and always in the same way."""

import collections
import random
from collections.abc import Callable
from typing import Protocol

from driver.fake import FakeCore, FakeDevice, FakeTransport
from polyspike.cosim.device import SimulatedTransport
from polyspike.driver import Transport
from polyspike.network import Network
from polyspike.spec import Configuration, LinkError

#: Faults of single bytes, in either direction, and of whole frames.
BYTES = ("flipped", "lost", "repeated", "inserted", "delayed")
FRAMES = ("frame lost", "frame repeated")
#: What a repetition cures.
RECOVERABLE = (*BYTES, *FRAMES)
#: What it does not: after these the device has to be opened again.
FATAL = ("restarted", "pulled", "cut")

#: The longest delay of a byte, in seconds.
LONGEST_DELAY = 2.5

#: Bytes of frames without words, and where a request has its command.
REQUEST, ANSWER, COMMAND = 18, 9, 4


class Peer(Protocol):
    """A device that can be switched off and on again."""

    transport: Transport
    #: The beginning of an answer whose end has not come yet.
    partial: bytearray

    def restart(self) -> None: ...


class FakePeer:
    """The device in plain Python."""

    def __init__(self, network: Network, configuration: Configuration) -> None:
        self.device = FakeDevice(FakeCore(network, configuration), run_seconds=0.2)
        self._line = FakeTransport(self.device)
        self._line.piece = 4096
        self.transport: Transport = self._line
        self.partial = bytearray()

    def restart(self) -> None:
        self.device.restart()
        self._line.to_host.clear()


class SimulatedPeer:
    """Simulated gateware. `make` starts a device."""

    def __init__(self, make: Callable[[], SimulatedTransport]) -> None:
        self._make = make
        self.transport: Transport = make()
        self.partial = bytearray()

    def restart(self) -> None:
        self.transport.close()
        self.transport = self._make()


class FaultyTransport:
    """A line to `peer` with a fault after every `mean` bytes or so, whose kind is one of `kinds`.

    Its time is that of the peer, and what is waited for in vain; so no test waits.
    """

    def __init__(self, peer: Peer, rng: random.Random, mean: int, kinds: tuple[str, ...]) -> None:
        self.bytes_per_second = None
        self.faults: collections.Counter[str] = collections.Counter()
        #: Requests, repetitions included.
        self.requests = 0
        self._peer = peer
        self._rng = rng
        self._mean = mean
        self._kinds = kinds
        self._left = self._gap()
        self._extra = 0.0
        #: What is under way: when it arrives, and the bytes.
        self._to_peer: collections.deque[tuple[float, bytes]] = collections.deque()
        self._to_host: collections.deque[tuple[float, bytes]] = collections.deque()
        self._dead: str | None = None
        #: A fault of `FATAL` that waits for its opportunity.
        self._fatal: str | None = None
        self._restarts = False

    def now(self) -> float:
        return self._peer.transport.now() + self._extra

    def fall_back(self) -> None:
        self._peer.transport.fall_back()

    def close(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self._check()
        request = data[:1] == b"\x5a"
        self.requests += request
        kind = self._fatal or self._pick(len(data))
        self._fatal = kind if kind in FATAL else None
        if kind in ("pulled", "cut"):
            self.faults[kind] += 1
            self._dead, self._fatal = kind, None
            self._check()
            return
        if kind == "restarted" and request and data[COMMAND] == 3:
            # It happens with the next answer: this run has begun by then, or the one before still goes on.
            self._restarts, self._fatal = True, None
        damaged, delay = self._damage(kind, data) if kind in RECOVERABLE else (data, 0.0)
        self._to_peer.append((self._due(self._to_peer, delay), damaged))
        self._deliver()

    def read(self, most: int, timeout: float) -> bytes:
        self._check()
        deadline = self.now() + timeout
        while True:
            self._deliver()
            if self._to_host and self._to_host[0][0] <= self.now():
                at, data = self._to_host.popleft()
                if data[most:]:
                    self._to_host.appendleft((at, data[most:]))
                if data:
                    return data[:most]
                continue
            due = min([line[0][0] for line in (self._to_peer, self._to_host) if line], default=deadline)
            until = min(due, deadline)
            if until > self.now() and self._dead is None:
                data = self._peer.transport.read(most, until - self.now())
                if data:
                    self._take(data)
                    continue
            self._extra += max(0.0, until - self.now())
            if until >= deadline:
                return b""

    def _take(self, data: bytes) -> None:
        """Cut what the peer sends into frames, and let faults happen to them."""
        answer = self._peer.partial
        answer += data
        if self._restarts:
            self.faults["restarted"] += 1
            before = self.now()
            self._peer.restart()
            answer.clear()
            # The peer's clock may have started again, too.
            self._extra += before - self.now()
            self._restarts = False
        while len(answer) >= ANSWER:
            size = ANSWER + 8 * int.from_bytes(answer[3:5], "little")
            if len(answer) < size:
                return
            frame = bytes(answer[:size])
            del answer[:size]
            kind = self._pick(size)
            if kind in FATAL:
                # These happen on the way to the device.
                self._fatal = kind
            damaged, delay = self._damage(kind, frame) if kind in RECOVERABLE else (frame, 0.0)
            self._to_host.append((self._due(self._to_host, delay), damaged))

    def _damage(self, kind: str, data: bytes) -> tuple[bytes, float]:
        rng, at = self._rng, self._rng.randrange(len(data))
        self.faults[kind] += 1
        if kind == "flipped":
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :], 0.0
        if kind == "lost":
            return data[:at] + data[at + rng.randint(1, 4) :], 0.0
        if kind == "repeated":
            return data[: at + 1] + data[at:], 0.0
        if kind == "inserted":
            noise = bytes(rng.choice((0x00, 0x5A, 0xA5, 0xFF, rng.randrange(256))) for _ in range(rng.randint(1, 8)))
            return data[:at] + noise + data[at:], 0.0
        if kind == "delayed":
            return data, rng.uniform(0.0, LONGEST_DELAY)
        return (b"" if kind == "frame lost" else data + data), 0.0

    def _pick(self, size: int) -> str | None:
        """Return what happens to the next `size` bytes."""
        self._left -= size
        if not self._kinds or self._left > 0 or self._dead is not None:
            return None
        self._left = self._gap()
        return self._rng.choice(self._kinds)

    def _gap(self) -> int:
        return 1 + int(self._rng.expovariate(1 / self._mean))

    def _due(self, line: collections.deque[tuple[float, bytes]], delay: float) -> float:
        return max(self.now() + delay, line[-1][0] if line else 0.0)

    def _deliver(self) -> None:
        while self._to_peer and self._to_peer[0][0] <= self.now():
            data = self._to_peer.popleft()[1]
            if data and self._dead is None:
                self._peer.transport.write(data)

    def _check(self) -> None:
        """A cable that is pulled takes the port away; one that is cut is just silent."""
        if self._dead == "pulled":
            raise LinkError("the port is gone: was the cable pulled?")
