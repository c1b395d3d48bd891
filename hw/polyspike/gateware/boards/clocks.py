"""Clock and reset of each FPGA family: from the board's oscillator through a PLL to domain `sync`."""

import abc
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, ClassVar

from amaranth.hdl import ClockDomain, ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import io, wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out

from .pll import ecp5_pll, gowin_pll, ice40_pll, xilinx_pll


def _oscillator(m: Module, platform: Any) -> Signal:
    """Return the board's clock, behind its input buffer."""
    m.submodules.clock_pin = pin = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
    return pin.i


class Clock(abc.ABC):
    """Where domain `sync` gets its clock, and its reset until the PLL has locked.

    Parameters
    ----------
    input_hz
        The board's oscillator.
    clock_hz
        The frequency wanted; `clock_hz` afterwards is the one that there is, never above it.
    target_hz
        What place and route is asked for; it works harder for more than the clock needs.
    """

    #: Whether the tools know the PLL's output from its input.
    derived: ClassVar[bool] = False

    def __init__(self, input_hz: int, clock_hz: int, target_hz: int) -> None:
        self.output_hz = self.choose(input_hz, clock_hz)
        self.target_hz = target_hz
        # Kept under this name, so that constraints and reports find it.
        self.output = Signal(name="pll_sync", attrs={"keep": "true"})

    @property
    def clock_hz(self) -> int:
        """The frequency of domain `sync`, in whole Hz."""
        return int(self.output_hz)

    @abc.abstractmethod
    def choose(self, input_hz: int, clock_hz: int) -> Fraction:
        """Choose the PLL's settings and return the frequency they give."""

    @abc.abstractmethod
    def module(self, platform: Any) -> Module:
        """Return the hardware, in a design whose top has declared `domains`."""

    def domains(self) -> list[ClockDomain]:
        """Return the domains that this drives, for the top to declare."""
        return [ClockDomain("sync")]

    def drive(self, m: Module, platform: Any) -> None:
        """Make the PLL's output the clock of domain `sync`, and tell place and route what is wanted of it."""
        m.d.comb += ClockSignal("sync").eq(self.output)
        if not self.derived:
            platform.add_clock_constraint(self.output, self.target_hz)


class Ecp5Clock(Clock):
    """ECP5: an EHXPLLL; the reset is the global set and reset net, which costs no logic.

    Every flip-flop of the part is held in its initial state while that net is low, those of `others` as well.

    Parameters
    ----------
    others
        More domains and their frequencies in Hz, with a synchronized reset each: at most two.
    """

    def __init__(self, input_hz: int, clock_hz: int, target_hz: int, others: Sequence[tuple[str, int]] = ()) -> None:
        self.others = others
        super().__init__(input_hz, clock_hz, target_hz)

    def choose(self, input_hz: int, clock_hz: int) -> Fraction:
        """Choose the PLL's settings and return the frequency they give."""
        self.pll = ecp5_pll(input_hz, clock_hz, [hz for _, hz in self.others])
        return self.pll.outputs_hz[0]

    def domains(self) -> list[ClockDomain]:
        """Return the domains that this drives, for the top to declare."""
        return [ClockDomain("sync", reset_less=True), *(ClockDomain(name) for name, _ in self.others)]

    def module(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        pll = self.pll
        locked, feedback = Signal(), Signal()
        clock = self.output
        outputs = _ecp5_output("CLKOS", pll.dividers[0], clock) | _ecp5_output("CLKOP", pll.loop_divider, feedback)
        self.drive(m, platform)
        for (domain, hz), port, divider in zip(self.others, ("CLKOS2", "CLKOS3"), pll.dividers[1:], strict=False):
            other = Signal(name=f"pll_{domain}", attrs={"keep": "true"})
            outputs |= _ecp5_output(port, divider, other)
            m.d.comb += ClockSignal(domain).eq(other)
            m.submodules[f"{domain}_reset"] = ResetSynchronizer(~locked, domain=domain)
            platform.add_clock_constraint(other, hz)
        m.submodules.pll = Instance(
            "EHXPLLL",
            # The loop filter's settings that Lattice's tools use for every frequency in range.
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_FEEDBK_PATH="CLKOP",
            p_CLKI_DIV=pll.reference_divider,
            p_CLKFB_DIV=pll.feedback_divider,
            i_CLKI=_oscillator(m, platform),
            i_CLKFB=feedback,
            i_STDBY=0,
            i_RST=0,
            i_ENCLKOP=0,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=0,
            i_PHASESTEP=0,
            i_PHASELOADREG=0,
            o_LOCK=locked,
            **outputs,
        )
        first, second = Signal(), Signal()
        m.submodules += [
            Instance("FD1S3AX", p_GSR="DISABLED", i_CK=clock, i_D=locked, o_Q=first),
            Instance("FD1S3AX", p_GSR="DISABLED", i_CK=clock, i_D=first, o_Q=second),
            Instance("SGSR", i_CLK=clock, i_GSR=second),
        ]
        return m


def _ecp5_output(port: str, divider: int, clock: Signal) -> dict[str, Any]:
    """Return the parameters and the connection of an output in phase with the others."""
    return {
        f"p_{port}_ENABLE": "ENABLED",
        f"p_{port}_DIV": divider,
        f"p_{port}_CPHASE": divider - 1,
        f"p_{port}_FPHASE": 0,
        f"o_{port}": clock,
    }


class Startup(wiring.Component):
    """Reset for a number of cycles after a PLL has locked.

    Members
    -------
    locked : ``In(1)``, of the PLL, unsynchronized
    reset : ``Out(1)``, high without the lock and `cycles` + 1 to `cycles` + 4 cycles of `sync` longer

    Parameters
    ----------
    cycles
        see `reset`
    """

    locked: In(1)
    reset: Out(1, init=1)

    def __init__(self, cycles: int) -> None:
        self.cycles = cycles
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        """Build the timer."""
        m = Module()
        # The clock of `sync` with a reset of its own.
        m.domains.start = ClockDomain(local=True)
        m.d.comb += ClockSignal("start").eq(ClockSignal("sync"))
        m.submodules.lost = ResetSynchronizer(~self.locked, domain="start")
        timer = Signal(range(self.cycles + 1), init=self.cycles)
        with m.If(timer != 0):
            m.d.start += timer.eq(timer - 1)
        m.d.start += self.reset.eq(timer != 0)
        return m


class Ice40Clock(Clock):
    """iCE40: an SB_PLL40_PAD at the clock's pin, or an SB_PLL40_CORE where that pin has none.

    The reset lasts until block RAM works, which an iCE40's does not in its first microseconds (IceStorm issue 76).

    Parameters
    ----------
    pad
        Whether the board's clock comes in at the pin that belongs to the PLL.
    """

    #: Seconds after lock until the reset ends; block RAM needs about 3 microseconds.
    RESET_SECONDS = 15e-6

    def __init__(self, input_hz: int, clock_hz: int, target_hz: int, pad: bool = True) -> None:
        self.pad = pad
        super().__init__(input_hz, clock_hz, target_hz)

    def choose(self, input_hz: int, clock_hz: int) -> Fraction:
        """Choose the PLL's settings and return the frequency they give."""
        self.pll = ice40_pll(input_hz, clock_hz)
        return self.pll.output_hz

    def module(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        pll = self.pll
        locked, clock = Signal(), self.output
        if self.pad:
            # The pin's buffer is within the PLL.
            pin = platform.request(platform.default_clk, dir="-").io
            cell, source = "SB_PLL40_PAD", {"i_PACKAGEPIN": pin}
        else:
            cell, source = "SB_PLL40_CORE", {"i_REFERENCECLK": _oscillator(m, platform)}
        m.submodules.pll = Instance(
            cell,
            p_FEEDBACK_PATH="SIMPLE",
            p_DIVR=pll.divr,
            p_DIVF=pll.divf,
            p_DIVQ=pll.divq,
            p_FILTER_RANGE=pll.filter_range,
            i_RESETB=1,
            i_BYPASS=0,
            o_LOCK=locked,
            o_PLLOUTGLOBAL=clock,
            **source,
        )
        self.drive(m, platform)
        m.submodules.startup = startup = Startup(int(self.RESET_SECONDS * self.clock_hz))
        m.d.comb += [startup.locked.eq(locked), ResetSignal("sync").eq(startup.reset)]
        return m


class GowinClock(Clock):
    """Gowin GW1N: an rPLL."""

    def choose(self, input_hz: int, clock_hz: int) -> Fraction:
        """Choose the PLL's settings and return the frequency they give."""
        self.pll = gowin_pll(input_hz, clock_hz)
        return self.pll.output_hz

    def module(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        pll = self.pll
        locked, clock = Signal(), self.output
        m.submodules.pll = Instance(
            "rPLL",
            p_DEVICE=platform.family,
            p_FCLKIN=f"{pll.input_hz / 1e6:g}",
            p_IDIV_SEL=pll.idiv,
            p_FBDIV_SEL=pll.fbdiv,
            p_ODIV_SEL=pll.odiv,
            p_CLKFB_SEL="internal",
            p_DYN_IDIV_SEL="false",
            p_DYN_FBDIV_SEL="false",
            p_DYN_ODIV_SEL="false",
            p_DYN_DA_EN="false",
            p_CLKOUT_BYPASS="false",
            i_CLKIN=_oscillator(m, platform),
            i_CLKFB=0,
            i_RESET=0,
            i_RESET_P=0,
            i_FBDSEL=0,
            i_IDSEL=0,
            i_ODSEL=0,
            i_PSDA=0,
            i_DUTYDA=0,
            i_FDLY=0,
            o_CLKOUT=clock,
            o_LOCK=locked,
        )
        self.drive(m, platform)
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")
        return m


class XilinxClock(Clock):
    """Xilinx 7 series: a PLLE2_BASE."""

    derived = True

    def choose(self, input_hz: int, clock_hz: int) -> Fraction:
        """Choose the PLL's settings and return the frequency they give."""
        self.pll = xilinx_pll(input_hz, clock_hz)
        return self.pll.output_hz

    def module(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        pll = self.pll
        locked, feedback, clock = Signal(), Signal(), Signal()
        m.submodules.pll = Instance(
            "PLLE2_BASE",
            p_CLKIN1_PERIOD=1e9 / pll.input_hz,
            p_DIVCLK_DIVIDE=pll.reference_divider,
            p_CLKFBOUT_MULT=pll.multiplier,
            p_CLKOUT0_DIVIDE=pll.divider,
            i_CLKIN1=_oscillator(m, platform),
            i_CLKFBIN=feedback,
            i_PWRDWN=0,
            i_RST=0,
            o_CLKFBOUT=feedback,
            o_CLKOUT0=clock,
            o_LOCKED=locked,
        )
        m.submodules.global_buffer = Instance("BUFG", i_I=clock, o_O=self.output)
        self.drive(m, platform)
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")
        return m


class IntelClock(Clock):
    """Intel Cyclone V: an altera_pll, whose dividers Quartus chooses."""

    derived = True

    def choose(self, input_hz: int, clock_hz: int) -> Fraction:
        """Return the frequency that Quartus is asked for."""
        self.input_hz = input_hz
        return Fraction(clock_hz)

    def module(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        locked = Signal()
        m.submodules.pll = Instance(
            "altera_pll",
            p_operation_mode="direct",
            p_fractional_vco_multiplier="false",
            p_number_of_clocks=1,
            p_reference_clock_frequency=f"{self.input_hz / 1e6:.6f} MHz",
            p_output_clock_frequency0=f"{self.clock_hz / 1e6:.6f} MHz",
            p_phase_shift0="0 ps",
            p_duty_cycle0=50,
            i_refclk=_oscillator(m, platform),
            i_rst=0,
            o_outclk=self.output,
            o_locked=locked,
        )
        self.drive(m, platform)
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")
        return m
