"""The open flow of each FPGA family: synthesis with Yosys, place and route with nextpnr, and the packer."""

from typing import ClassVar

from polyspike.bitstreams import Utilization
from polyspike.spec import BuildError, Configuration

from .board import Board, Command
from .clocks import Clock, Ecp5Clock, GowinClock, Ice40Clock, IntelClock, XilinxClock
from .floorplan import floorplan

#: Picoseconds, of look-up tables and what ABC9 takes for wires, up to which logic with pairs is made small, not fast.
_SMALL_UNTIL = 4000

_SYNTHESIS = Command("synthesis", "yosys", ("top.ys",), "synthesis.log")


def _count(counts: dict[str, int], *prefixes: str) -> int:
    return sum(count for kind, count in counts.items() if kind.startswith(prefixes))


def before_synthesis(configuration: Configuration) -> str:
    """Return Yosys commands that come before `synth_ecp5`: with pairs, those that spare look-up tables."""
    return f"scratchpad -set abc9.D {_SMALL_UNTIL}" if configuration.pairs else ""


class Ecp5Board(Board):
    """A board with a Lattice ECP5."""

    bitstream_suffix = ".bit"

    @property
    def device(self) -> str:
        """The FPGA's part number."""
        pins = self.pins
        return f"{pins.device}-{pins.speed}{pins.package}"

    def overrides(self) -> dict[str, str]:
        """Give memories and multipliers their places where the part is nearly full; spare logic with pairs."""
        floor = floorplan(self.configuration) if self.pins.device.endswith("-85F") else ""
        scripts = {"script_after_read": before_synthesis(self.configuration), "script_after_synth": floor}
        return {name: commands for name, commands in scripts.items() if commands}

    def make_clock(self, input_hz: int, clock_hz: int, target_hz: int) -> Clock:
        """Return the generator of domain `sync`."""
        return Ecp5Clock(input_hz, clock_hz, target_hz)

    def synthesis(self) -> tuple[Command, ...]:
        """Return the commands that make the netlist."""
        return (_SYNTHESIS,)

    def place_and_route(self, seed: int) -> tuple[Command, ...]:
        """Return the commands of one seed."""
        folder, pins = f"seed{seed}", self.pins
        place = (
            pins._nextpnr_device_options[pins.device],
            "--package",
            pins._nextpnr_package_options[pins.package].upper(),
            "--speed",
            pins.speed,
            *("--json", "top.json", "--lpf", "top.lpf", "--textcfg", f"{folder}/top.config"),
            *("--seed", str(seed), "--report", f"{folder}/report.json", "--timing-allow-fail"),
            *self.place_options,
        )
        pack = ("--compress", "--input", f"{folder}/top.config", "--bit", f"{folder}/top.bit")
        return (
            Command("place and route", "nextpnr-ecp5", place, f"{folder}/place.log"),
            Command("bitstream", "ecppack", pack, f"{folder}/pack.log"),
        )

    def utilization(self, used: dict[str, int], cells: dict[str, int]) -> Utilization:
        """Summarize what is used."""
        return Utilization(used["TRELLIS_COMB"], used["TRELLIS_FF"], used["MULT18X18D"], used["DP16KD"])


class Ice40Board(Board):
    """A board with a Lattice iCE40."""

    bitstream_suffix = ".bin"
    #: Whether the board's clock comes in at the pin that belongs to the PLL.
    pll_pad = True

    @property
    def device(self) -> str:
        """The FPGA's part number."""
        return f"{self.pins.device}-{self.pins.package}"

    def overrides(self) -> dict[str, str]:
        """Spare logic: no memory is read where it is written in the same cycle (docs/gateware.md)."""
        return {"script_after_read": "setparam -set COLLISION_X_MASK 1 t:$memrd_v2"}

    def make_clock(self, input_hz: int, clock_hz: int, target_hz: int) -> Clock:
        """Return the generator of domain `sync`."""
        return Ice40Clock(input_hz, clock_hz, target_hz, self.pll_pad)

    def synthesis(self) -> tuple[Command, ...]:
        """Return the commands that make the netlist."""
        # No -dsp: every SB_MAC16 is instantiated, and the pass that infers more of them spoils these.
        return (_SYNTHESIS,)

    def place_and_route(self, seed: int) -> tuple[Command, ...]:
        """Return the commands of one seed."""
        folder, pins = f"seed{seed}", self.pins
        place = (
            pins._nextpnr_device_options[pins.device],
            "--package",
            pins.package.lower() + pins._nextpnr_package_options.get(pins.device, ""),
            *("--json", "top.json", "--pcf", "top.pcf", "--asc", f"{folder}/top.asc"),
            *("--seed", str(seed), "--report", f"{folder}/report.json", "--timing-allow-fail"),
            *self.place_options,
        )
        return (
            Command("place and route", "nextpnr-ice40", place, f"{folder}/place.log"),
            Command("bitstream", "icepack", (f"{folder}/top.asc", f"{folder}/top.bin"), f"{folder}/pack.log"),
        )

    def utilization(self, used: dict[str, int], cells: dict[str, int]) -> Utilization:
        """Summarize what is used."""
        return Utilization(
            used["ICESTORM_LC"], _count(cells, "SB_DFF"), used.get("ICESTORM_DSP", 0), used["ICESTORM_RAM"]
        )


class GowinBoard(Board):
    """A board with a Gowin GW1N, through Project Apicula and nextpnr-himbaechel."""

    bitstream_suffix = ".fs"
    netlist = "top.syn.json"
    #: More options for the packer.
    pack_options: ClassVar[tuple[str, ...]] = ()

    @property
    def device(self) -> str:
        """The FPGA's part number."""
        part: str = self.pins.part
        return part

    def make_clock(self, input_hz: int, clock_hz: int, target_hz: int) -> Clock:
        """Return the generator of domain `sync`."""
        return GowinClock(input_hz, clock_hz, target_hz)

    def synthesis(self) -> tuple[Command, ...]:
        """Return the commands that make the netlist."""
        return (_SYNTHESIS,)

    def place_and_route(self, seed: int) -> tuple[Command, ...]:
        """Return the commands of one seed.

        Amaranth 0.5 calls nextpnr-gowin, which is no more; nextpnr-himbaechel takes other options. It reads no
        frequencies from the constraints, so the target is an option, too.
        """
        folder, pins = f"seed{seed}", self.pins
        place = (
            *("--device", pins.part, "--vopt", f"family={pins._chipdb_device}", "--vopt", "cst=top.cst"),
            *("--freq", f"{self.clock.target_hz / 1e6:g}"),
            *("--json", "top.syn.json", "--write", f"{folder}/top.pnr.json"),
            *("--seed", str(seed), "--report", f"{folder}/report.json", "--timing-allow-fail"),
            *self.place_options,
        )
        pack = ("-d", pins._chipdb_device, *self.pack_options, "-o", f"{folder}/top.fs", f"{folder}/top.pnr.json")
        return (
            Command("place and route", "nextpnr-himbaechel-gowin", place, f"{folder}/place.log"),
            Command("bitstream", "gowin_pack", pack, f"{folder}/pack.log"),
        )

    def utilization(self, used: dict[str, int], cells: dict[str, int]) -> Utilization:
        """Summarize what is used."""
        # An ALU takes the place of a look-up table.
        return Utilization(used["LUT4"] + used["ALU"], used["DFF"], _count(used, "MULT"), used["BSRAM"])


class VendorBoard(Board):
    """A board whose bitstream the vendor's tool makes, from files written here."""

    bitstream_suffix = ".bit"

    def synthesis(self) -> tuple[Command, ...]:
        """Return nothing: the vendor's tool does it."""
        return ()

    def place_and_route(self, seed: int) -> tuple[Command, ...]:
        """Return nothing: the vendor's tool does it."""
        return ()

    def utilization(self, used: dict[str, int], cells: dict[str, int]) -> Utilization:
        """Is never known here."""
        raise BuildError(f"{self.name}: the vendor's tool knows what is used")


class XilinxBoard(VendorBoard):
    """A board with a Xilinx 7 series FPGA, for Vivado."""

    @property
    def device(self) -> str:
        """The FPGA's part number."""
        return f"{self.pins.device}{self.pins.package}-{self.pins.speed}"

    def make_clock(self, input_hz: int, clock_hz: int, target_hz: int) -> Clock:
        """Return the generator of domain `sync`."""
        return XilinxClock(input_hz, clock_hz, target_hz)


class IntelBoard(VendorBoard):
    """A board with an Intel Cyclone V, for Quartus."""

    bitstream_suffix = ".sof"

    @property
    def device(self) -> str:
        """The FPGA's part number."""
        return f"{self.pins.device}{self.pins.package}{self.pins.speed}"

    def overrides(self) -> dict[str, str]:
        """Tell the timing analyzer of the PLL."""
        return {"add_constraints": "derive_pll_clocks\nderive_clock_uncertainty"}

    def make_clock(self, input_hz: int, clock_hz: int, target_hz: int) -> Clock:
        """Return the generator of domain `sync`."""
        return IntelClock(input_hz, clock_hz, target_hz)

    def files(self, verilog: bool = False) -> dict[str, str]:
        """Return the build's input files by name, with the project file that Quartus opens. Can be called once."""
        return {**super().files(verilog), "top.qpf": 'PROJECT_REVISION = "top"\n'}
