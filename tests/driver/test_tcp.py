"""The server and its client: who is let in, what is passed on, and what is said when it ends."""

import socket
import threading
import zlib
from collections.abc import Callable, Iterator

import pytest

from polyspike.driver import open_device, tcp
from polyspike.driver.server import RequestFilter, Server, SharedTransport
from polyspike.driver.tcp import TcpTransport, parse, proof
from polyspike.spec import TINY, DeviceError, LinkError
from polyspike.spec.link import Command, request
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME

TOKEN = "correct horse battery"

#: Longer than anything here takes.
SECONDS = 20.0


class Wire:
    """A transport that remembers what was written, and says `answer` for each frame."""

    bytes_per_second = None

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.written = b""
        self.closed = 0
        self.error: LinkError | None = None
        self._changed = threading.Condition()
        self._answers = b""

    def write(self, data: bytes) -> None:
        with self._changed:
            self.written += data
            self._answers += self.answer
            self._changed.notify_all()

    def read(self, most: int, timeout: float) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._answers or self.error, timeout)
            if self.error:
                raise self.error
            data, self._answers = self._answers[:most], self._answers[most:]
            return data

    def fail(self, error: LinkError) -> None:
        with self._changed:
            self.error = error
            self._changed.notify_all()

    def wait_for(self, size: int) -> bytes:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.written) >= size, SECONDS), self.written
            return self.written

    def now(self) -> float:
        return 0.0

    def fall_back(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


class Log:
    """What the server said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def wait_for(self, text: str) -> str:
        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None, SECONDS)
            line = found()
            assert line is not None, self.lines
            return line


@pytest.fixture
def wire() -> Wire:
    return Wire(b"answer")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def server(wire: Wire, log: Log) -> Iterator[Server]:
    with Server(lambda: wire, TINY.frame_words, TOKEN, log=log) as server:
        server.start()
        yield server


def stranger(server: Server) -> socket.socket:
    return socket.create_connection(server.address, SECONDS)


def everything(connection: socket.socket) -> bytes:
    data = b""
    try:
        while more := connection.recv(4096):
            data += more
    except ConnectionResetError:
        pass
    return data


FRAME = request(5, 0, Command.READ, Space.REGISTERS, count=2)


def test_bytes_go_both_ways(server: Server, wire: Wire, log: Log) -> None:
    client = TcpTransport(*server.address, TOKEN)
    assert client.read(10, 0.01) == b""
    client.write(FRAME[:7])
    client.write(FRAME[7:] + FRAME)
    assert wire.wait_for(2 * len(FRAME)) == 2 * FRAME
    assert client.read(3, SECONDS) == b"ans"
    assert client.read(3, SECONDS) == b"wer"
    client.close()
    client.close()
    assert "2 requests passed on, 0 dropped" in log.wait_for("left")
    assert wire.closed == 1
    with pytest.raises(LinkError, match=r"connection to 127.0.0.1:\d+ is closed"):
        client.read(1, 0)
    with pytest.raises(LinkError, match=r"is closed"):
        client.write(b"x")


def test_the_token_never_crosses_the_network(server: Server) -> None:
    with stranger(server) as connection:
        first = connection.recv(200)
    with stranger(server) as connection:
        second = connection.recv(200)
    assert first.startswith(b"polyspike 1 ")
    assert first != second
    # HMAC-SHA256 of the server's line, from its definition (RFC 2104).
    import hashlib

    line = first.decode().strip()
    key = TOKEN.encode().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + line.encode()).digest()
    assert proof(TOKEN, line) == hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).hexdigest()


def test_a_wrong_token_is_refused(server: Server, wire: Wire, log: Log) -> None:
    with pytest.raises(DeviceError, match=r"refused: wrong token; set POLYSPIKE_TOKEN to the one that the server uses"):
        TcpTransport(*server.address, TOKEN + "!")
    log.wait_for("refused: wrong token")
    assert wire.closed == 0
    # An answer to another challenge is no answer to this one.
    with stranger(server) as old, stranger(server) as new:
        line = old.recv(200).decode().strip()
        new.recv(200)
        new.sendall(f"token {proof(TOKEN, line)}\n".encode())
        assert everything(new).startswith(b"refused wrong token")


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(1000), FRAME * 20, b"\xff\xfe\n", b"token\n"])
def test_garbage_before_the_handshake_ends_it(server: Server, wire: Wire, log: Log, garbage: bytes) -> None:
    with stranger(server) as connection:
        connection.sendall(garbage)
        answer = everything(connection)
    assert b"ok\n" not in answer
    log.wait_for("refused: ")
    assert wire.written == b""


def test_who_says_nothing_is_sent_away(server: Server, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyspike.driver.server.HANDSHAKE_SECONDS", 0.05)
    with stranger(server) as connection:
        assert b"refused no answer to the challenge" in everything(connection)


def test_a_second_client_is_told_of_the_first(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyspike.driver.server.HANDOVER_SECONDS", 0.05)
    first = TcpTransport(*server.address, TOKEN)
    with pytest.raises(DeviceError, match=r"refused: the device is in use by 127.0.0.1:\d+"):
        TcpTransport(*server.address, TOKEN)
    # Strangers are not told.
    with pytest.raises(DeviceError, match=r"wrong token"):
        TcpTransport(*server.address, "something else entirely")
    monkeypatch.setattr("polyspike.driver.server.HANDOVER_SECONDS", SECONDS)
    first.close()
    TcpTransport(*server.address, TOKEN).close()


def test_a_silent_client_is_dropped(wire: Wire, log: Log) -> None:
    with Server(lambda: wire, TINY.frame_words, TOKEN, log=log, idle_seconds=0.1) as server:
        server.start()
        client = TcpTransport(*server.address, TOKEN)
        with pytest.raises(LinkError, match=r"connection to .* was lost \(closed by the server.*open the device again"):
            client.read(1, SECONDS)
        client.close()
        log.wait_for("dropped: it sent nothing for")


def test_a_lost_device_ends_the_connection(server: Server, wire: Wire, log: Log) -> None:
    client = TcpTransport(*server.address, TOKEN)
    wire.fail(LinkError("serial port /dev/ttyUSB0 is gone"))
    with pytest.raises(LinkError, match=r"was lost"):
        client.read(1, SECONDS)
    client.close()
    log.wait_for("the device was lost: serial port /dev/ttyUSB0 is gone")


def test_a_device_that_does_not_come_up_is_told(log: Log) -> None:
    def broken() -> Wire:
        raise DeviceError("no serial port /dev/ttyUSB0")

    with Server(broken, TINY.frame_words, TOKEN, log=log) as server:
        server.start()
        with pytest.raises(DeviceError, match=r"refused: no serial port /dev/ttyUSB0"):
            TcpTransport(*server.address, TOKEN)


def test_a_server_that_ends_drops_its_client(wire: Wire, log: Log) -> None:
    server = Server(lambda: wire, TINY.frame_words, TOKEN, log=log)
    server.start()
    client = TcpTransport(*server.address, TOKEN)
    server.close()
    server.close()
    with pytest.raises(LinkError, match=r"was lost"):
        client.read(1, SECONDS)
    client.close()
    assert wire.closed == 1
    with pytest.raises(DeviceError, match=r"nobody listens at .*; run `polyspike serve` there"):
        TcpTransport(*server.address, TOKEN)


def test_a_server_refuses_short_tokens_and_taken_ports(wire: Wire, server: Server) -> None:
    with pytest.raises(DeviceError, match=r"token has 5 characters, but it must have at least 16"):
        Server(lambda: wire, 16, "short")
    with pytest.raises(DeviceError, match=r"cannot listen at 127.0.0.1, port \d+ .*choose another host or port"):
        Server(lambda: wire, 16, TOKEN, port=server.address[1])


def test_a_server_of_another_kind_is_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "HANDSHAKE_SECONDS", 0.2)
    for greeting, said in (
        (b"SSH-2.0-OpenSSH_9.2\n", r"speaks another protocol: it says 'SSH-2.0-OpenSSH_9.2'"),
        (b"", r"does not behave like `polyspike serve`: "),
        (b"x" * 1000, r"does not behave like `polyspike serve`: the line is too long"),
    ):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peers = []

            def accept(listener: socket.socket = listener, greeting: bytes = greeting, peers: list = peers) -> None:
                peers.append(listener.accept()[0])
                peers[0].sendall(greeting)

            thread = threading.Thread(target=accept)
            thread.start()
            with pytest.raises(DeviceError, match=said):
                TcpTransport(*listener.getsockname(), TOKEN)
            thread.join()
            peers[0].close()


def test_a_client_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLYSPIKE_TOKEN", raising=False)
    with pytest.raises(DeviceError, match=r"localhost:7533 wants a token: set POLYSPIKE_TOKEN"):
        open_device("tcp:localhost:7533", TINY)


def test_addresses() -> None:
    assert parse("board.local:99") == ("board.local", 99)
    assert parse("board.local") == ("board.local", 7533)
    assert parse("[::1]:99") == ("::1", 99)
    assert parse("[::1]") == ("::1", 7533)
    for target in ("", ":99", "board:", "board:x", "board:0", "board:65536", "::1"):
        with pytest.raises(DeviceError, match=r"malformed address .*; it is HOST:PORT"):
            parse(target)


# What is passed on


def frames() -> list[bytes]:
    return [
        request(5, 0, Command.OPEN),
        request(5, 1, Command.WRITE, Space.SPIKES, 0, 3, 16, bytes(range(128))),
        request(5, 2, Command.WRITE_AHEAD, Space.SPIKES, 0, 3, 1, b"\x5a" * 8),
        request(5, 3, Command.RUN, count=3),
        request(5, 4, Command.READ, Space.SPIKES, 0, 9, 16),
        request(5, 5, Command.WRITE, Space.REGISTERS, 0, BY_NAME["COUNTERS_CLEAR"].address, 1, bytes(8)),
    ]


@pytest.mark.parametrize("step", [1, 5, 1000])
@pytest.mark.parametrize("between", [b"", bytes(146), b"\x5a", b"garbage"])
def test_sound_frames_are_passed_on_and_nothing_else(step: int, between: bytes) -> None:
    requests = RequestFilter(TINY.frame_words)
    # Zeros end whatever a stray sync byte has begun.
    ending = bytes(18 + 8 * TINY.frame_words) if b"\x5a" in between else b""
    stream = b"".join(between + ending + frame for frame in frames())
    passed = b"".join(requests.feed(stream[at : at + step]) for at in range(0, len(stream), step))
    assert passed == b"".join(frames())
    assert requests.passed == len(frames())


@pytest.mark.parametrize("place", range(1, 18))
def test_damaged_frames_are_dropped(place: int) -> None:
    requests = RequestFilter(TINY.frame_words)
    damaged = bytearray(request(5, 4, Command.READ, Space.SPIKES, 0, 9, 16))
    damaged[place] ^= 0x10
    good = request(5, 5, Command.READ)
    assert requests.feed(bytes(damaged) + bytes(146) + good) == good
    assert requests.dropped.total() >= 1


def oversized(words: int) -> bytes:
    return request(5, 1, Command.WRITE, Space.SPIKES, 0, 0, words, bytes(8 * words))


def rate_changing(command: Command) -> bytes:
    return request(5, 1, command, Space.REGISTERS, 0, BY_NAME["UART_DIVISOR"].address - 1, 2, bytes(16))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: oversized(17), "oversized"),
        (lambda: rate_changing(Command.WRITE), "would change the rate"),
        (lambda: rate_changing(Command.WRITE_AHEAD), "would change the rate"),
    ],
)
def test_frames_that_are_not_for_a_client_are_dropped(make: Callable[[], bytes], kind: str) -> None:
    requests = RequestFilter(TINY.frame_words)
    good = request(5, 5, Command.READ)
    assert requests.feed(make() + good) == good
    assert requests.dropped == {kind: 1}


def test_a_frame_announces_its_size_truthfully() -> None:
    # The filter believes a count only where the frame has a payload, as the device does.
    requests = RequestFilter(TINY.frame_words)
    header = b"\x05\x00\x01\x02\x00\x00\x00\x00\x00\x00\x00\xff\xff"
    frame = b"\x5a" + header + zlib.crc32(header).to_bytes(4, "little")
    assert requests.feed(frame) == frame


def test_a_shared_device_works_only_while_there_is_something_to_do() -> None:
    reads: list[int] = []

    class Core(Wire):
        def read(self, most: int, timeout: float) -> bytes:
            reads.append(most)
            return super().read(most, 0)

    shared = SharedTransport(Core(b"12345"))
    assert shared.read(3, 0.01) == b""
    assert reads == []
    shared.write(b"x")
    assert shared.read(3, 0.01) == b"123"
    assert shared.read(3, 0.01) == b"45"
    assert shared.read(3, 0.01) == b""
    assert len(reads) == 3
    assert shared.read(3, 0.01) == b""
    assert len(reads) == 3
