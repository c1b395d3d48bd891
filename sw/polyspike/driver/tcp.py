"""A device on another machine: the client of `polyspike serve`.

The token that both sides know never crosses the network: the server sends a random challenge, and the client answers
with its HMAC under the token. What follows are the link's bytes, neither encrypted nor signed; across a network that is
not trusted, go through ssh (`ssh -L 7533:localhost:7533 host`).

lines of text   server  ``polyspike 1 <challenge, hexadecimal>``
                client  ``token <HMAC-SHA256 of the server's line, hexadecimal>``
                server  ``ok``, or ``refused <why>`` and the end of the connection
"""

import hashlib
import hmac
import os
import select
import socket
import time

from polyspike.spec import Configuration, DeviceError, LinkError

from .link import open_link
from .ports import Connection

#: Where servers listen unless told otherwise.
PORT = 7533

#: What a server says first; the number changes with what is said after.
GREETING = "polyspike 1"

#: Bytes that a line of the handshake has at most.
LINE_BYTES = 256

#: Environment variable that holds the token.
TOKEN_VARIABLE = "POLYSPIKE_TOKEN"

#: Seconds for a connection and for each line of the handshake. A server may negotiate a rate with its board meanwhile.
HANDSHAKE_SECONDS = 20.0

#: Seconds after which a server that takes no bytes is given up.
_WRITE_SECONDS = 10.0


def proof(token: str, greeting: str) -> str:
    """Return what a client who knows the token answers to a server's greeting."""
    return hmac.new(token.encode(), greeting.encode(), hashlib.sha256).hexdigest()


def receive_line(connection: socket.socket, seconds: float) -> str:
    """Receive a line of text, and not a byte more.

    Raises
    ------
    ValueError
        It is too long or no text.
    OSError
        It does not come in time (TimeoutError), or the connection ends (ConnectionError).
    """
    deadline = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n"):
        if len(line) == LINE_BYTES:
            raise ValueError("the line is too long")
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        byte = connection.recv(1)
        if not byte:
            raise ConnectionError("the connection was closed")
        line += byte
    return line[:-1].decode("ascii")


class TcpTransport:
    """A `Transport` to a device that a server offers.

    Raises
    ------
    DeviceError
        There is no server, or it refuses; the message says why.
    """

    def __init__(self, host: str, port: int, token: str) -> None:
        self._name = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), HANDSHAKE_SECONDS)
        except ConnectionRefusedError as error:
            raise DeviceError(
                f"nobody listens at {self._name}; run `polyspike serve` there (with --host, if it is another machine)"
            ) from error
        except OSError as error:
            raise DeviceError(f"{self._name} cannot be reached: {error}") from error
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._shake_hands(token)
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(_WRITE_SECONDS)

    @property
    def bytes_per_second(self) -> None:
        """Unknown: it depends on the network and on the device behind the server."""
        return None

    def now(self) -> float:
        """Return seconds from some moment on."""
        return time.monotonic()

    def fall_back(self) -> None:
        """Do nothing: the rate is the server's affair."""

    def write(self, data: bytes) -> None:
        """Send bytes."""
        try:
            self._open().sendall(data)
        except OSError as error:
            raise self._lost(error) from error

    def read(self, most: int, timeout: float) -> bytes:
        """Return what there is, or wait for something."""
        connection = self._open()
        try:
            if not select.select([connection], [], [], timeout)[0]:
                return b""
            data = connection.recv(most)
        except OSError as error:
            raise self._lost(error) from error
        if not data:
            raise self._lost("closed by the server, which says why in its log")
        return data

    def close(self) -> None:
        """Let go of the device. Closing twice is harmless."""
        self._socket.close()

    def _shake_hands(self, token: str) -> None:
        try:
            greeting = receive_line(self._socket, HANDSHAKE_SECONDS)
            if greeting.rpartition(" ")[0] != GREETING:
                raise DeviceError(
                    f"{self._name} speaks another protocol: it says {greeting!r}, not {GREETING!r} and a challenge, as "
                    f"`polyspike serve` of this version does"
                )
            self._socket.sendall(f"token {proof(token, greeting)}\n".encode())
            verdict, _, why = receive_line(self._socket, HANDSHAKE_SECONDS).partition(" ")
        except (OSError, ValueError) as error:
            raise DeviceError(f"{self._name} does not behave like `polyspike serve`: {error}") from error
        if verdict != "ok":
            raise DeviceError(f"{self._name} refused: {why}")

    def _open(self) -> socket.socket:
        if self._socket.fileno() < 0:
            raise LinkError(f"the connection to {self._name} is closed")
        return self._socket

    def _lost(self, why: OSError | str) -> LinkError:
        return LinkError(f"the connection to {self._name} was lost ({why}); open the device again")


def connect(target: str, configuration: Configuration | None = None) -> Connection:
    """Open a device that a server offers, "host:port" or "host" (port 7533). See `Connection`.

    The token is taken from $POLYSPIKE_TOKEN.
    """
    host, port = parse(target)
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise DeviceError(f"{target} wants a token: set {TOKEN_VARIABLE} to the one that `polyspike serve` uses")
    transport = TcpTransport(host, port, token)
    try:
        link, found = open_link(transport, configuration)
    except BaseException:
        transport.close()
        raise
    return Connection(link, found, f"a device served by {host}:{port}", transport.close)


def parse(target: str) -> tuple[str, int]:
    """Return host and port of "host", "host:port" or "[IPv6 address]:port".

    Raises
    ------
    DeviceError
        It is none of these.
    """
    host, colon, port = target.rpartition(":")
    if not colon or target.endswith("]"):
        host, port = target, str(PORT)
    number = int(port) if port.isdecimal() else 0
    if not host or not 0 < number < 1 << 16 or (":" in host and not host.startswith("[")):
        raise DeviceError(
            f"malformed address {target!r}; it is HOST:PORT, e.g. 192.168.0.7:{PORT}, or [ADDRESS]:PORT for IPv6"
        )
    return host.strip("[]"), number
