"""`polyspike serve`: offer a device to other machines."""

import argparse
import dataclasses
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyspike.spec import Configuration, DeviceError, named

from .arguments import positive
from .interrupts import heed_interrupts

if TYPE_CHECKING:
    from polyspike.driver import Transport

NAME = "serve"
SUMMARY = "offer a board or a simulated device to other machines"
DESCRIPTION = """\
Offer the byte stream of a device over TCP, to one client at a time. A client must know the token; it opens the device
as tcp:HOST:PORT. Only sound request frames are passed on to the device.

The token is read from --token-file, otherwise from the environment variable POLYSPIKE_TOKEN; where there is neither,
one is made and printed. It never crosses the network. What follows is not encrypted: across a network that is not
trusted, listen at 127.0.0.1 and go through ssh.

devices:
  serial:PORT[@BAUD]   a board, e.g. serial:/dev/ttyUSB0
  sim                  the simulated gateware (--config says which)
  board                the simulated gateware behind a simulated UART (--config says which)
"""
EPILOG = """\
examples:
  polyspike serve --device serial:/dev/ttyUSB0 --host 0.0.0.0 --token-file ~/.polyspike-token
  polyspike serve --device sim --config tiny
  POLYSPIKE_TOKEN=... polyspike run net.pspk test.npz --device tcp:192.168.0.7:7533
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--device", required=True, help="what to offer: see above")
    parser.add_argument("--config", metavar="NAME", help="its configuration (default: what a board says)")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, default=7533, help="port to listen at; 0 for any (default: 7533)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file whose first line is the token")
    parser.add_argument(
        "--idle",
        type=positive,
        default=600,
        metavar="SECONDS",
        help="drop a client that is silent so long (default: 600)",
    )


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    from polyspike.driver.server import Server

    heed_interrupts()
    token, origin = _token(options.token_file)
    offer = _offer(options.device, named(options.config) if options.config else None)
    with Server(
        offer.bring_up,
        offer.configuration.frame_words,
        token,
        options.host,
        options.port,
        idle_seconds=options.idle,
        let_go=offer.let_go,
        log=lambda line: print(line, flush=True),
    ) as server:
        host, port = server.address
        print(
            f"{options.device}, configuration {offer.configuration.name!r}: offered at tcp:{host}:{port} (end: Ctrl-C)"
        )
        print(f"token: {origin}", flush=True)
        try:
            server.run()
        except KeyboardInterrupt:
            print("polyspike: interrupted; the client, if any, is dropped", flush=True)
    return 0


def _token(file: Path | None) -> tuple[str, str]:
    """Return the token and where it is from."""
    if file is not None:
        lines = file.read_text().splitlines()
        return (lines[0].strip() if lines else ""), f"from {file}"
    if given := os.environ.get("POLYSPIKE_TOKEN"):
        return given, "from $POLYSPIKE_TOKEN"
    made = secrets.token_urlsafe(24)
    return made, f"{made} (clients: export POLYSPIKE_TOKEN={made})"


@dataclasses.dataclass(frozen=True)
class Offer:
    """A device to offer: how to bring it up for a client, and how to let go of it."""

    configuration: Configuration
    bring_up: Callable[[], Any]
    let_go: Callable[[Any], None] = lambda transport: transport.close()


def _offer(url: str, configuration: Configuration | None) -> Offer:
    """Return the device of a url."""
    scheme, _, target = url.partition(":")
    if scheme == "serial" and target:
        from polyspike.driver import serial

        # Now, so that whoever starts the server learns what is wrong.
        connection = serial.connect(target, configuration)
        connection.close()
        found = connection.configuration
        return Offer(found, lambda: serial.bring_up(target, found)[0], lambda transport: serial.leave(transport, found))
    if scheme not in ("sim", "board"):
        raise DeviceError(f"device {url!r} has no byte stream to offer; serial:PORT, sim and board have one")
    if configuration is None:
        raise DeviceError(f"device {url!r} can be anything; say what with --config, e.g. --config tiny")
    from polyspike.cosim import board, device
    from polyspike.driver.server import SharedTransport

    made: Transport
    if scheme == "sim":
        made = device.simulated_core(configuration, target or None)
    else:
        made, _ = board.bring_up(configuration, target or None)
    shared = SharedTransport(made)
    return Offer(configuration, lambda: shared)
