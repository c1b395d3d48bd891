"""Loading bitstreams, with made-up loaders on PATH."""

import sys
from pathlib import Path

import pytest

from bitstreams.test_archive import example
from polyspike import bitstreams
from polyspike.cli.main import main
from polyspike.gateware.boards import BOARDS
from polyspike.gateware.boards.families import VendorBoard

#: Writes down how it was called and what was in the file that is its last argument.
LOADER = """#!{python}
import pathlib, sys
log = pathlib.Path({log!r})
log.write_text("\\n".join(sys.argv[1:]))
log.with_suffix(".data").write_bytes(pathlib.Path(sys.argv[-1]).read_bytes())
sys.exit({status})
"""


@pytest.fixture
def loaders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all there is on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(loaders: Path, tool: str, status: int = 0) -> Path:
    """Install a loader and return where it writes how it was called."""
    log = loaders / f"{tool}.log"
    (loaders / tool).write_text(LOADER.format(python=sys.executable, log=str(log), status=status))
    (loaders / tool).chmod(0o755)
    return log


def archive(folder: Path, board: str) -> str:
    bitstreams.save(example(board), folder)
    return str(folder / f"{board}.psbit")


@pytest.mark.parametrize("flash", [False, True], ids=["load", "flash"])
@pytest.mark.parametrize("name", [name for name, board in BOARDS.items() if not issubclass(board, VendorBoard)])
def test_loader_gets_the_bitstream(
    name: str, flash: bool, tmp_path: Path, loaders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = BOARDS[name]
    command = board.flash_command if flash else board.load_command
    arguments = ["program", "--board", name, "--bitstream", archive(tmp_path, name), *(["--flash"] if flash else [])]
    if not command:
        assert main(arguments) == 1
        assert f"{name}: only its flash can be written: add --flash" in capsys.readouterr().err
        return
    assert main(arguments) == 1
    assert f"{command[0]} is not installed: " in capsys.readouterr().err
    log = install(loaders, command[0])
    assert main([*arguments, "--", "--cable", "ft4232"]) == 0
    called = log.read_text().splitlines()
    assert called[:2] == ["--cable", "ft4232"]
    assert called[2:-1] == list(command[1:-1])
    assert Path(called[-1]).name == f"{name}.bit"
    assert log.with_suffix(".data").read_bytes() == example(name).data


def test_wrong_and_damaged_bitstreams_reach_no_loader(
    tmp_path: Path, loaders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = install(loaders, "openFPGALoader")
    file = Path(archive(tmp_path, "ulx3s-25f"))
    assert main(["program", "--board", "ulx3s-85f", "--bitstream", str(file)]) == 1
    assert "the bitstream is of board 'ulx3s-25f', not 'ulx3s-85f'" in capsys.readouterr().err
    data = file.read_bytes()
    middle = data.index(b"ulx3s-25f.bit") + 40
    file.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    assert main(["program", "--board", "ulx3s-25f", "--bitstream", str(file)]) == 1
    assert "not a bitstream archive, or a damaged one" in capsys.readouterr().err
    assert main(["program", "--board", "ulx3s-25f", "--bitstream", str(tmp_path / "none.psbit")]) == 1
    assert "none.psbit: No such file" in capsys.readouterr().err
    assert not log.exists()


def test_failing_loader_is_an_error(tmp_path: Path, loaders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(loaders, "openFPGALoader", status=3)
    assert main(["program", "--board", "ulx3s-25f", "--bitstream", archive(tmp_path, "ulx3s-25f")]) == 1
    assert "openFPGALoader ended with status 3: is ulx3s-25f plugged in" in capsys.readouterr().err


def test_boards_of_vendors_have_no_loader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["program", "--board", "arty-a7", "--bitstream", archive(tmp_path, "arty-a7")]) == 1
    assert "arty-a7: no open tool for that is known here" in capsys.readouterr().err
