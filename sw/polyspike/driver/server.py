"""Offering a device to other machines: the server of `polyspike serve`. The client, and what both say, is in `tcp`."""

import collections
import contextlib
import hmac
import os
import secrets
import select
import socket
import sys
import threading
import time
from collections.abc import Callable

from polyspike.spec import DeviceError, LinkError
from polyspike.spec.link import CRC, REQUEST_HEADER, SYNC_REQUEST, Command, crc
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME

from .device import Closing
from .ports import RECEIVE_BYTES, Transport
from .tcp import GREETING, proof, receive_line

#: Seconds that a stranger has for the handshake.
HANDSHAKE_SECONDS = 5.0

#: Seconds that a client waits for the one before it to be gone.
HANDOVER_SECONDS = 2.0

#: Connections that may be in the handshake at a time.
MOST_STRANGERS = 16

#: Characters that a token must have: whoever listens to the handshake can try out short ones.
TOKEN_CHARACTERS = 16

#: Seconds after which a client that sends nothing is dropped.
IDLE_SECONDS = 600.0

#: Seconds after which the thread that passes answers on looks whether its client is still there.
_TICK = 0.1

#: Seconds after which a simulated device is asked again.
_FOREVER = 3600.0


class RequestFilter:
    """Passes sound request frames on, and nothing else.

    Frames whose CRC is wrong or that are larger than the device's are dropped, and so are those that would change the
    rate of the device's line, which is not the client's. What lies between frames is dropped, too; a host sends zeros
    there to end a frame that it was interrupted in.

    Parameters
    ----------
    frame_words
        Largest payload of a frame, in words.
    """

    def __init__(self, frame_words: int) -> None:
        self._frame_words = frame_words
        self._waiting = bytearray()
        #: Frames that were passed on.
        self.passed = 0
        #: Frames that were not, by what was wrong with them.
        self.dropped: collections.Counter[str] = collections.Counter()

    def feed(self, data: bytes) -> bytes:
        """Take bytes of a client and return whole frames for the device."""
        waiting = self._waiting
        waiting += data
        sound = bytearray()
        while True:
            start = waiting.find(SYNC_REQUEST)
            del waiting[: start if start >= 0 else len(waiting)]
            header = 1 + REQUEST_HEADER.size
            if len(waiting) < header:
                return bytes(sound)
            _, _, command, space, _, address, count = REQUEST_HEADER.unpack_from(waiting, 1)
            words = count if command in (Command.WRITE, Command.WRITE_AHEAD) else 0
            if words > self._frame_words:
                self._drop("oversized")
                continue
            size = header + 8 * words + CRC.size
            if len(waiting) < size:
                return bytes(sound)
            frame = bytes(waiting[:size])
            if CRC.unpack_from(frame, size - CRC.size)[0] != crc(frame[1 : size - CRC.size]):
                self._drop("damaged")
                continue
            del waiting[:size]
            if words and space == Space.REGISTERS and address <= BY_NAME["UART_DIVISOR"].address < address + words:
                self.dropped["would change the rate"] += 1
                continue
            self.passed += 1
            sound += frame

    def _drop(self, kind: str) -> None:
        self.dropped[kind] += 1
        # Only the first byte is certainly not the start of the next frame.
        del self._waiting[0]


class Server(Closing):
    """Offers the byte stream of a device, to one client at a time. A context manager.

    Parameters
    ----------
    bring_up
        Makes the transport to the device, for each client anew.
    frame_words
        Largest payload of a frame of the device, in words.
    token
        What clients have to know.
    host, port
        Where to listen; port 0 for any that is free.
    idle_seconds
        A client that sends nothing for so long is dropped.
    let_go
        Closes the transport when its client has left.
    log
        Takes what happens, a line each.

    Raises
    ------
    DeviceError
        The address cannot be listened at, or the token is too short.
    """

    def __init__(
        self,
        bring_up: Callable[[], Transport],
        frame_words: int,
        token: str,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        idle_seconds: float = IDLE_SECONDS,
        let_go: Callable[[Transport], None] = lambda transport: transport.close(),
        log: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        if len(token) < TOKEN_CHARACTERS:
            raise DeviceError(f"the token has {len(token)} characters, but it must have at least {TOKEN_CHARACTERS}")
        self._bring_up = bring_up
        self._frame_words = frame_words
        self._token = token
        self._idle_seconds = idle_seconds
        self._let_go = let_go
        self._log = log
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family)
        except OSError as error:
            raise DeviceError(f"cannot listen at {host}, port {port} ({error}); choose another host or port") from error
        #: Where clients connect: host and port.
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._strangers = threading.BoundedSemaphore(MOST_STRANGERS)
        self._device = threading.Lock()
        self._client = ""
        self._connections: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._guard = threading.Lock()
        self._wake, self._stop = os.pipe()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Serve in a thread, until `close`."""
        self._thread = threading.Thread(target=self.run, name="polyspike serve")
        self._thread.start()

    def run(self) -> None:
        """Serve until `close` is called, or an exception comes in, e.g. from the keyboard."""
        while True:
            waiting = [self._listener.fileno(), self._wake]
            if self._wake in select.select(waiting, [], [])[0]:
                return
            connection, peer = self._listener.accept()
            with self._guard:
                self._connections.add(connection)
                thread = threading.Thread(target=self._welcome, args=(connection, f"{peer[0]}:{peer[1]}"))
                self._threads.add(thread)
            thread.start()

    def close(self) -> None:
        """Drop the client and stop. Closing twice is harmless."""
        if self._stop < 0:
            return
        os.close(self._stop)
        self._stop = -1
        if self._thread is not None:
            self._thread.join()
        self._listener.close()
        with self._guard:
            threads = list(self._threads)
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        os.close(self._wake)

    def _welcome(self, connection: socket.socket, peer: str) -> None:
        """Deal with a connection from its beginning to its end."""
        try:
            with connection:
                why = self._refusal(connection)
                if why is not None:
                    self._refuse(connection, peer, why)
                elif not self._device.acquire(timeout=HANDOVER_SECONDS):
                    self._refuse(connection, peer, f"the device is in use by {self._client}")
                else:
                    with contextlib.ExitStack() as stack:
                        stack.callback(self._device.release)
                        self._client = peer
                        self._serve(connection, peer)
        finally:
            with self._guard:
                self._connections.discard(connection)
                self._threads.discard(threading.current_thread())

    def _refusal(self, connection: socket.socket) -> str | None:
        """Do the handshake, and return why the other end is refused, or None."""
        if not self._strangers.acquire(blocking=False):
            return "too many connections at once"
        try:
            greeting = f"{GREETING} {secrets.token_hex(32)}"
            connection.settimeout(HANDSHAKE_SECONDS)
            connection.sendall(greeting.encode() + b"\n")
            answer = receive_line(connection, HANDSHAKE_SECONDS)
        except TimeoutError:
            return f"no answer to the challenge within {HANDSHAKE_SECONDS:.0f} s"
        except OSError as error:
            return f"gone before the handshake ({error})"
        except ValueError:
            return "what came is no answer to the challenge"
        finally:
            self._strangers.release()
        word, _, value = answer.partition(" ")
        if word != "token":
            return "what came is no answer to the challenge"
        if not hmac.compare_digest(value, proof(self._token, greeting)):
            return "wrong token; set POLYSPIKE_TOKEN to the one that the server uses"
        return None

    def _refuse(self, connection: socket.socket, peer: str, why: str) -> None:
        self._log(f"{peer}: refused: {why}")
        with contextlib.suppress(OSError):
            connection.sendall(f"refused {why}\n".encode("ascii", "replace"))
            # Bytes that nobody has read would turn the end of the connection into an error, and hide what was said.
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(_TICK)
            connection.recv(1 << 16)

    def _serve(self, connection: socket.socket, peer: str) -> None:
        """Pass frames and answers on until somebody leaves."""
        try:
            transport = self._bring_up()
        except DeviceError as error:
            self._refuse(connection, peer, str(error))
            return
        requests = RequestFilter(self._frame_words)
        start = time.monotonic()
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.settimeout(self._idle_seconds)
            connection.sendall(b"ok\n")
            self._log(f"{peer}: connected")
            why = self._pump(connection, transport, requests)
        except OSError as error:
            why = f"gone ({error})"
        finally:
            self._let_go(transport)
        dropped = "".join(f", {number} {kind}" for kind, number in sorted(requests.dropped.items()))
        self._log(
            f"{peer}: {why}, after {time.monotonic() - start:.0f} s; {requests.passed} requests passed on, "
            f"{requests.dropped.total()} dropped{dropped}"
        )

    def _pump(self, connection: socket.socket, transport: Transport, requests: RequestFilter) -> str:
        """Move bytes in both directions, and return why that ended."""
        over = threading.Event()
        reasons: list[str] = []

        def answers() -> None:
            try:
                while not over.is_set():
                    data = transport.read(RECEIVE_BYTES, _TICK)
                    if data:
                        connection.sendall(data)
            except LinkError as error:
                reasons.append(f"the device was lost: {error}")
            except OSError as error:
                reasons.append(f"gone ({error})")
            # Wakes the other thread up.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=answers)
        thread.start()
        try:
            while data := connection.recv(1 << 16):
                frames = requests.feed(data)
                if frames:
                    transport.write(frames)
            reasons.append("left")
        except TimeoutError:
            reasons.append(f"dropped: it sent nothing for {self._idle_seconds:.0f} s")
        except LinkError as error:
            reasons.append(f"the device was lost: {error}")
        except OSError as error:
            reasons.append(f"gone ({error})")
        finally:
            over.set()
            thread.join()
        return reasons[0]


class SharedTransport:
    """A simulated transport for two threads, one that writes and one that reads. It outlives its clients.

    Only the reading thread simulates, and only while there is something to simulate.

    Parameters
    ----------
    transport
        Its `read` must return nothing as soon as nothing will come any more until something is written.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._inbox = b""
        self._awake = False
        self._changed = threading.Condition()

    @property
    def bytes_per_second(self) -> float | None:
        """What the line carries in each direction."""
        return self._transport.bytes_per_second

    def now(self) -> float:
        """Return seconds from some moment on."""
        return time.monotonic()

    def fall_back(self) -> None:
        """Do nothing: nothing is lost here."""

    def write(self, data: bytes) -> None:
        """Send bytes; they go out while `read` waits."""
        with self._changed:
            self._inbox += data
            self._changed.notify()

    def read(self, most: int, timeout: float) -> bytes:
        """Return what there is, or wait for something to simulate."""
        with self._changed:
            self._changed.wait_for(lambda: self._inbox or self._awake, timeout)
            data, self._inbox = self._inbox, b""
            if not data and not self._awake:
                return b""
        if data:
            self._transport.write(data)
        answer = self._transport.read(most, _FOREVER)
        self._awake = bool(answer)
        return answer

    def close(self) -> None:
        """Do nothing: the device is for the next client, too."""
