"""The tops of all boards, around a core that is done quickly: pins, clocks, lights."""

import re

import pytest

from polyspike.gateware.boards import BOARDS, find
from polyspike.gateware.boards.families import VendorBoard
from polyspike.spec import NAMED, TINY, BuildError
from polyspike.spec.uart import BASE_BAUD, divisor

#: Pins of clock, UART (from and to the host) or USB (D+, D-, pull-up), and lights (idle, running, error), from the
#: boards' schematics and the constraint files that their makers publish.
PINS = {
    "ulx3s-85f": ("G2", "M1 L4", "B2 C2 C1", "L2"),
    "ulx3s-25f": ("G2", "M1 L4", "B2 C2 C1", "L2"),
    "ulx3s-12f": ("G2", "M1 L4", "B2 C2 C1", "L2"),
    "ecpix5-85f": ("K23", "R26 R24", "R21 T22 T23"),
    "colorlight-5a-75b": ("P6", "M13 P11"),
    "icesugar-pro": ("P6", "A9 B9", "A12 B11 A11"),
    "orangecrab-85f": ("A9", "N1 M2 N2", "M3 J3 K4"),
    "orangecrab-25f": ("A9", "N1 M2 N2", "M3 J3 K4"),
    "icebreaker": ("35", "6 9", "37 11"),
    "tangnano9k": ("52", "18 17", "10 11 13"),
    "arty-a7": ("E3", "A9 D10", "H5 J5 T9"),
    "de10-nano": ("V11", "AG13 AF13", "W15 AA24 V16"),
}

#: How a location stands in each kind of constraint file: port, pin.
LOCATIONS = {
    ".lpf": r'^LOCATE COMP "(\S+)" SITE "(\S+)";$',
    ".pcf": r"^set_io (\S+) (\S+)$",
    ".cst": r'^IO_LOC "(\S+)" (\S+);$',
    ".xdc": r'^set_property LOC (?P<pin>\S+) \[get_ports "(?P<port>\S+)"\]$',
    ".qsf": r'^set_location_assignment -to "(\S+)" PIN_(\S+)$',
}


def locations(files: dict[str, str]) -> dict[str, str]:
    """Return the pin of each port."""
    ((kind, pattern),) = [(kind, pattern) for kind, pattern in LOCATIONS.items() if f"top{kind}" in files]
    found = re.finditer(pattern, files[f"top{kind}"], re.MULTILINE)
    return {match["port"]: match["pin"] for match in found} if "?P" in pattern else dict(m.groups() for m in found)


def ports(files: dict[str, str]) -> set[str]:
    """Return the ports of the design itself."""
    if "top.v" in files:
        top = files["top.v"].split("\nmodule top(")[1]
        return {name.strip() for name in top.split(")")[0].split(",")}
    top = files["top.il"].split("\nmodule \\top\n")[1].split("\nend\n")[0]
    return set(re.findall(r"^\s+wire width \d+ (?:input|output|inout) \d+\s+\\(\S+)$", top, re.MULTILINE))


def test_every_board_is_tested() -> None:
    assert set(PINS) == set(BOARDS)


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize("name", BOARDS)
def test_pins_and_clock(name: str) -> None:
    """Every port has the right pin; place and route is asked for the target, in the unit of each kind of file."""
    board = BOARDS[name](TINY, 64_000_000, 72_000_000)
    files = board.files()
    located = locations(files)
    assert set(located) == ports(files)
    assert sorted(located.values()) == sorted(" ".join(PINS[name]).split())
    clock, link, *_ = PINS[name]
    assert next(iter(located.values())) == clock
    assert [pin for port, pin in located.items() if port.startswith(("uart", "usb"))] == link.split()

    if isinstance(board, VendorBoard):
        # The vendors' tools know what a PLL makes of the oscillator.
        text = files.get("top.xdc", "") + files.get("top.sdc", "")
        assert len(re.findall("create_clock", text)) == 1
        assert ("derive_pll_clocks" in text) == (name == "de10-nano")
        return
    kinds = {
        "top.lpf": 'FREQUENCY NET "clock.pll_sync" 72000000.0 HZ;',
        "top.pcf": "set_frequency clock.pll_sync 72.0",
    }
    asked = "\n".join(files.get(kind, "") for kind in kinds) + " ".join(board.place_and_route(1)[0].arguments)
    assert any(text in asked for text in (*kinds.values(), "--freq 72 "))


@pytest.mark.usefixtures("stub")
def test_vendor_projects_name_their_files_and_part() -> None:
    vivado = BOARDS["arty-a7"](TINY).files()
    assert "create_project -force -name top -part xc7a35ticsg324-1L" in vivado["top.tcl"]
    assert re.findall(r"^(?:add_files|read_xdc) (\S+)$", vivado["top.tcl"], re.MULTILINE) == ["top.v", "top.xdc"]
    assert "-source top.tcl" in vivado["build_top.sh"]
    quartus = BOARDS["de10-nano"](TINY).files()
    assert quartus["top.qpf"] == 'PROJECT_REVISION = "top"\n'
    settings = dict(re.findall(r"^set_global_assignment -name (\S+) (\S+)$", quartus["top.qsf"], re.MULTILINE))
    assert settings["VERILOG_FILE"] == "top.v" and "top.v" in quartus
    assert settings["TOP_LEVEL_ENTITY"] == "top" and "\nmodule top(" in quartus["top.v"]
    assert settings["DEVICE"] == BOARDS["de10-nano"](TINY).device == "5CSEBA6U23I7"
    assert "quartus_fit" in quartus["build_top.sh"] and "top.sdc" in quartus


@pytest.mark.parametrize("name", BOARDS)
def test_clock_is_reached_and_the_uart_starts(name: str) -> None:
    board = BOARDS[name](TINY)
    assert 0.95 * board.default_clock_hz <= board.clock_hz <= board.default_clock_hz
    assert board.configuration_name in NAMED
    assert divisor(board.clock_hz, BASE_BAUD) > 0


@pytest.mark.usefixtures("stub")
def test_generated_files_hold_no_paths() -> None:
    """Or else the same sources would make another bitstream in another folder."""
    for name, text in BOARDS["icebreaker"](TINY).files().items():
        assert "/" not in re.sub(r"^(//|/\*|#).*$", "", text, flags=re.MULTILINE), name


@pytest.mark.usefixtures("stub")
def test_generation_is_repeatable() -> None:
    board = BOARDS["ulx3s-25f"]
    assert board(TINY).files() == board(TINY).files()


def test_unknown_boards_are_refused() -> None:
    with pytest.raises(
        BuildError, match=r"unknown board 'ulx4s'; there are ulx3s-85f, .* `file\.py:Class` for your own"
    ):
        find("ulx4s")
    with pytest.raises(BuildError, match=r"no file nowhere\.py"):
        find("nowhere.py:Board")
    with pytest.raises(BuildError, match="has no class Leds that is a complete Board"):
        find(f"{__file__}:Leds")
