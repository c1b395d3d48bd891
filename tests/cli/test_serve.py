"""`polyspike serve` and `polyspike simulate-board`, as programs of their own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyspike.cli.main import main
from polyspike.driver import Device, open_device
from polyspike.spec import TINY

TOKEN = "a token that is long enough"


@contextlib.contextmanager
def program(*arguments: str, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a `polyspike` command, and end it as Ctrl-C does."""
    environment = {key: value for key, value in os.environ.items() if key != "POLYSPIKE_TOKEN"}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), **variables}
    command = [sys.executable, "-m", "polyspike.cli.main", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        try:
            yield running
            running.send_signal(signal.SIGINT)
            assert running.wait(120) == 0
        finally:
            running.kill()


def line(running: "subprocess.Popen[str]", pattern: str) -> str:
    """Return what a pattern finds in the next line."""
    assert running.stdout is not None
    text = running.stdout.readline()
    found = re.search(pattern, text)
    assert found, text
    return found[1]


def identify(device: Device) -> None:
    with device:
        assert device.identity.configuration == TINY


def test_a_served_device_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    with program("serve", "--device", "sim", "--config", "tiny", "--port", "0") as running:
        url = line(running, r"offered at (tcp:127\.0\.0\.1:\d+) ")
        monkeypatch.setenv("POLYSPIKE_TOKEN", line(running, r"export POLYSPIKE_TOKEN=(\S+)\)"))
        # Twice, and without saying what it is.
        identify(open_device(url))
        line(running, r"(connected)")
        line(running, r"(left, after \d+ s; \d+ requests passed on, 0 dropped)")
        identify(open_device(url))


def test_a_served_board_and_a_token_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    monkeypatch.setenv("POLYSPIKE_TOKEN", TOKEN)
    arguments = ("serve", "--device", "board", "--config", "tiny", "--port", "0")
    with program(*arguments, "--token-file", str(tmp_path / "token")) as running:
        url = line(running, r"offered at (tcp:127\.0\.0\.1:\d+) ")
        line(running, r"token: from (.*token)")
        identify(open_device(url))


def test_a_simulated_board_is_a_serial_port(monkeypatch: pytest.MonkeyPatch) -> None:
    # However slow this machine is.
    monkeypatch.setenv("POLYSPIKE_TIME_SCALE", "20")
    with program("simulate-board", "--config", "tiny") as running:
        url = line(running, r"(serial:/dev/\S+) ")
        identify(open_device(url))
        # A server may sit between them.
        with program("serve", "--device", url, "--port", "0", POLYSPIKE_TOKEN=TOKEN) as server:
            served = line(server, r"configuration 'tiny': offered at (tcp:\S+) ")
            line(server, r"token: from (\$POLYSPIKE_TOKEN)")
            monkeypatch.setenv("POLYSPIKE_TOKEN", TOKEN)
            identify(open_device(served))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "golden"], "has no byte stream to offer; serial:PORT, sim and board have one"),
        (["--device", "sim"], "say what with --config, e.g. --config tiny"),
        (["--device", "serial:/dev/nowhere"], "no serial port /dev/nowhere"),
        (["--device", "sim", "--config", "huge"], "unknown configuration 'huge'"),
    ],
)
def test_what_cannot_be_served_is_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *arguments]) == 1
    assert said in capsys.readouterr().err


def test_a_short_token_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text("secret\n")
    arguments = ["serve", "--device", "sim", "--config", "tiny", "--token-file", str(tmp_path / "token")]
    assert main(arguments) == 1
    assert "token has 6 characters, but it must have at least 16" in capsys.readouterr().err
