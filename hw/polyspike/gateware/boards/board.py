"""What a board is to this project, and its top: clock, core, link and lights."""

import abc
import dataclasses
from typing import Any, ClassVar

from amaranth.build import Platform
from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import io

from polyspike.bitstreams import Utilization
from polyspike.spec import Configuration, named

from ..serial_core import SerialCore
from .clocks import Clock


@dataclasses.dataclass(frozen=True)
class Leds:
    """Which lights are lit in which state.

    A light is named as its resource is requested: "led 0", or "rgb_led 0 g" for a part of a resource. A light may
    belong to several states.
    """

    #: Nothing is being executed.
    idle: tuple[str, ...] = ()
    #: A program is being executed.
    running: tuple[str, ...] = ()
    #: Damaged bytes came over the link lately. Goes before the other two.
    error: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Command:
    """One call of a tool, in the build's folder; paths are relative to it."""

    stage: str
    tool: str
    arguments: tuple[str, ...]
    #: Where the tool's output goes.
    log: str


class Board(abc.ABC):
    """A board, with a configuration and a clock: one bitstream. Boards derive from their family's class.

    Parameters
    ----------
    configuration
        Other hardware than the board's own choice.
    clock_hz
        Another clock than the board's own choice.
    target_hz
        What place and route is asked for; the clock itself unless the board's class says more.
    """

    #: How the board is called on the command line.
    name: ClassVar[str]
    #: The amaranth_boards platform, which knows the pins.
    platform: ClassVar[type[Platform]]
    #: The name of the configuration that is built for it.
    configuration_name: ClassVar[str]
    #: The clock, in Hz, that timing closes at.
    default_clock_hz: ClassVar[int]
    #: What place and route is asked for, in Hz; 0 for the clock.
    default_target_hz: ClassVar[int] = 0
    #: What the host sees: the bridge and its fastest rate.
    link: ClassVar[str]
    #: The fastest rate of the board's bridge, in bits a second.
    fastest_baud: ClassVar[int]
    leds: ClassVar[Leds]
    #: Command that loads {file} into the FPGA's configuration memory, gone when the power goes.
    load_command: ClassVar[tuple[str, ...]] = ()
    #: Command that writes {file} to the board's flash.
    flash_command: ClassVar[tuple[str, ...]] = ()
    #: More options for synthesis and for place and route.
    synthesis_options: ClassVar[tuple[str, ...]] = ()
    place_options: ClassVar[tuple[str, ...]] = ()

    #: Set by the family's class.
    bitstream_suffix: ClassVar[str]
    #: The netlist's file.
    netlist: ClassVar[str] = "top.json"

    def __init__(
        self, configuration: Configuration | None = None, clock_hz: int | None = None, target_hz: int | None = None
    ) -> None:
        self.configuration = named(self.configuration_name) if configuration is None else configuration
        wanted = self.default_clock_hz if clock_hz is None else clock_hz
        self.pins = self.platform()
        target = target_hz or (self.default_target_hz if clock_hz is None else 0) or wanted
        self.clock = self.make_clock(int(self.pins.default_clk_frequency), wanted, target)

    @property
    def clock_hz(self) -> int:
        """The clock that the PLL makes, in Hz."""
        return self.clock.clock_hz

    @property
    @abc.abstractmethod
    def device(self) -> str:
        """The FPGA's part number."""

    @abc.abstractmethod
    def make_clock(self, input_hz: int, clock_hz: int, target_hz: int) -> Clock:
        """Return the generator of domain `sync`."""

    @abc.abstractmethod
    def synthesis(self) -> tuple[Command, ...]:
        """Return the commands that make the netlist."""

    @abc.abstractmethod
    def place_and_route(self, seed: int) -> tuple[Command, ...]:
        """Return the commands that make `seed<N>/top<suffix>` and `seed<N>/report.json` from the netlist."""

    @abc.abstractmethod
    def utilization(self, used: dict[str, int], cells: dict[str, int]) -> Utilization:
        """Summarize what is used.

        Parameters
        ----------
        used
            Cells by kind, as place and route reports them.
        cells
            Cells by type in the netlist.
        """

    def top(self) -> Elaboratable:
        """Return the design."""
        return SerialTop(self)

    def wire(self, m: Module, platform: Any) -> None:  # noqa: B027 - most boards have nothing to add
        """Drive pins that would do harm when left alone."""

    def overrides(self) -> dict[str, str]:
        """Return what Amaranth's platform is to add to the files it writes, by the names it has for them."""
        return {}

    def files(self, verilog: bool = False) -> dict[str, str]:
        """Return the build's input files by name: netlist of the top, scripts and constraints. Can be called once.

        Parameters
        ----------
        verilog
            With top.v, for people and for other tools.
        """
        plan = self.pins.prepare(
            self.top(),
            "top",
            emit_src=False,
            synth_opts=list(self.synthesis_options),
            debug_verilog=verilog,
            **self.overrides(),
        )
        contents = {name: text if isinstance(text, str) else text.decode() for name, text in plan.files.items()}
        debug = contents.pop("top.debug.v", "")
        if verilog and "top.v" not in contents:
            contents["top.v"] = debug
        if self.synthesis():
            # Amaranth's own scripts know one seed only.
            contents = {name: text for name, text in contents.items() if not name.startswith("build_top.")}
        return contents


def light(m: Module, platform: Any, leds: Leds, *, idle: Signal, running: Signal, error: Signal) -> None:
    """Add the board's lights, each lit in its states."""
    states = {"idle": idle & ~running & ~error, "running": running & ~error, "error": error}
    names = dict.fromkeys(name for state in states for name in getattr(leds, state))
    resources: dict[tuple[str, str], Any] = {}
    for each in names:
        name, number, *path = each.split()
        if (name, number) not in resources:
            resources[name, number] = platform.request(name, int(number), dir="-")
        port = resources[name, number]
        for part in path:
            port = getattr(port, part)
        buffer = io.Buffer("o", port)
        m.submodules["light_" + each.replace(" ", "_")] = buffer
        m.d.comb += buffer.o.eq(Cat(value for state, value in states.items() if each in getattr(leds, state)).any())


class SerialTop(Elaboratable):
    """Top of a board with a UART."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def elaborate(self, platform: Any) -> Module:
        """Build the top."""
        m = Module()
        board = self.board
        m.domains += board.clock.domains()
        m.submodules.clock = board.clock.module(platform)
        m.submodules.core = core = SerialCore(board.configuration, board.clock_hz)
        uart = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [core.rx.eq(rx.i), tx.o.eq(core.tx)]
        light(m, platform, board.leds, idle=core.idle, running=core.running, error=core.error)
        board.wire(m, platform)
        return m
