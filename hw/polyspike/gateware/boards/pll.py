"""Divider settings of the phase-locked loops: pure functions of frequencies in Hz.

Each function returns the settings whose first output is as near to the frequency asked for as the dividers allow
without exceeding it, so that a design whose timing closes at that frequency never gets a faster clock.
"""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import ClassVar, TypeVar

from polyspike.spec import ConfigurationError


def _mhz(hz: Fraction | float) -> str:
    return f"{float(hz) / 1e6:g} MHz"


@dataclasses.dataclass(frozen=True)
class Range:
    """Frequencies in Hz that a part allows, both ends included."""

    low: int
    high: int

    def __contains__(self, hz: object) -> bool:
        return isinstance(hz, int | float | Fraction) and self.low <= hz <= self.high


@dataclasses.dataclass(frozen=True)
class Pll(abc.ABC):
    """Settings of a PLL with one output, and what the part allows."""

    input_hz: int

    INPUT: ClassVar[Range]
    PHASE_DETECTOR: ClassVar[Range]
    VCO: ClassVar[Range]
    OUTPUT: ClassVar[Range]

    @property
    @abc.abstractmethod
    def phase_detector_hz(self) -> Fraction:
        """Frequency at which the loop compares phases."""

    @property
    @abc.abstractmethod
    def vco_hz(self) -> Fraction:
        """Frequency of the oscillator."""

    @property
    @abc.abstractmethod
    def output_hz(self) -> Fraction:
        """Frequency of the output."""

    @property
    def legal(self) -> bool:
        """Whether all frequencies are within the part's limits."""
        return (
            self.input_hz in self.INPUT
            and self.phase_detector_hz in self.PHASE_DETECTOR
            and self.vco_hz in self.VCO
            and self.output_hz in self.OUTPUT
        )


_Pll = TypeVar("_Pll", bound=Pll)


def _best(
    kind: str, input_hz: int, output_hz: int, found: Iterable[_Pll], rank: Callable[[_Pll], tuple[Fraction, int, int]]
) -> _Pll:
    """Return the highest ranking legal settings. ConfigurationError if there are none."""
    legal = [each for each in found if each.legal]
    if not legal:
        raise ConfigurationError(f"{kind} PLL cannot make {_mhz(output_hz)} from {_mhz(input_hz)}")
    return max(legal, key=rank)


@dataclasses.dataclass(frozen=True)
class Ecp5Pll:
    """Settings of an EHXPLLL whose primary output CLKOP closes the feedback loop, and whose others are the clocks."""

    input_hz: int
    reference_divider: int
    feedback_divider: int
    #: Divider of CLKOP, which only feeds back.
    loop_divider: int
    #: Dividers of CLKOS, CLKOS2 and CLKOS3, as many as there are outputs.
    dividers: tuple[int, ...]

    #: ECP5 and ECP5-5G Family Data Sheet (FPGA-DS-02012), sysCLOCK PLL timing.
    INPUT = Range(8_000_000, 400_000_000)
    PHASE_DETECTOR = Range(10_000_000, 400_000_000)
    VCO = Range(400_000_000, 800_000_000)
    OUTPUT = Range(3_125_000, 400_000_000)

    @property
    def phase_detector_hz(self) -> Fraction:
        """Frequency at which the loop compares phases."""
        return Fraction(self.input_hz, self.reference_divider)

    @property
    def vco_hz(self) -> Fraction:
        """Frequency of the oscillator."""
        return self.phase_detector_hz * self.feedback_divider * self.loop_divider

    @property
    def outputs_hz(self) -> tuple[Fraction, ...]:
        """Frequencies of the outputs."""
        return tuple(self.vco_hz / divider for divider in self.dividers)


def ecp5_pll(input_hz: int, first_hz: int, others_hz: Sequence[int] = ()) -> Ecp5Pll:
    """Choose an EHXPLLL's dividers.

    The first output is the nearest possible one not above `first_hz`; the others, up to two, are met exactly.

    Raises
    ------
    ConfigurationError
        No setting within the part's limits gives such outputs.
    """
    for hz in (first_hz, *others_hz):
        if hz not in Ecp5Pll.OUTPUT:
            raise ConfigurationError(f"an ECP5 PLL makes 3.125 to 400 MHz, not {_mhz(hz)}")
    best: tuple[tuple[Fraction, int, Fraction], Ecp5Pll] | None = None
    if input_hz in Ecp5Pll.INPUT:
        for reference in range(1, input_hz // Ecp5Pll.PHASE_DETECTOR.low + 1):
            detector = Fraction(input_hz, reference)
            for multiplier in range(int(Ecp5Pll.VCO.low / detector), int(Ecp5Pll.VCO.high / detector) + 1):
                vco = detector * multiplier
                exact = [vco / hz for hz in others_hz]
                divider = -(-vco // first_hz)
                loop = _loop_divider(vco, multiplier)
                if vco not in Ecp5Pll.VCO or loop is None or divider > 128 or vco / divider not in Ecp5Pll.OUTPUT:
                    continue
                if any(each.denominator != 1 or each > 128 for each in exact):
                    continue
                dividers = (int(divider), *(int(each) for each in exact))
                found = Ecp5Pll(input_hz, reference, multiplier // loop, loop, dividers)
                # A fast phase detector and an oscillator in the middle of its range give the least jitter.
                rank = (first_hz - found.outputs_hz[0], reference, abs(vco - 600_000_000))
                if best is None or rank < best[0]:
                    best = rank, found
    if best is None:
        wanted = ", ".join(_mhz(hz) for hz in (first_hz, *others_hz))
        raise ConfigurationError(f"an ECP5 PLL cannot make {wanted} from {_mhz(input_hz)}")
    return best[1]


def _loop_divider(vco: Fraction, multiplier: int) -> int | None:
    """Return a divider of CLKOP that brings it into its range and divides `multiplier`; None if there is none."""
    return next(
        (
            divider
            for divider in range(1, 129)
            if multiplier % divider == 0 and multiplier // divider <= 80 and vco / divider in Ecp5Pll.OUTPUT
        ),
        None,
    )


@dataclasses.dataclass(frozen=True)
class Ice40Pll(Pll):
    """Settings of an SB_PLL40 in SIMPLE feedback mode, as its parameters hold them."""

    #: DIVR, DIVF: the dividers less one; DIVQ: the exponent of the output divider.
    divr: int
    divf: int
    divq: int

    #: iCE40 UltraPlus Family Data Sheet (FPGA-DS-02008), sysCLOCK PLL timing.
    INPUT = Range(10_000_000, 133_000_000)
    PHASE_DETECTOR = Range(10_000_000, 133_000_000)
    VCO = Range(533_000_000, 1_066_000_000)
    OUTPUT = Range(16_000_000, 275_000_000)

    @property
    def phase_detector_hz(self) -> Fraction:
        """Frequency at which the loop compares phases."""
        return Fraction(self.input_hz, self.divr + 1)

    @property
    def vco_hz(self) -> Fraction:
        """Frequency of the oscillator."""
        return self.phase_detector_hz * (self.divf + 1)

    @property
    def output_hz(self) -> Fraction:
        """Frequency of the output."""
        return self.vco_hz / (1 << self.divq)

    @property
    def filter_range(self) -> int:
        """FILTER_RANGE, the loop filter's setting for the phase detector's frequency."""
        limits = (17_000_000, 26_000_000, 44_000_000, 66_000_000, 101_000_000)
        return 1 + sum(self.phase_detector_hz >= limit for limit in limits)


def ice40_pll(input_hz: int, output_hz: int) -> Ice40Pll:
    """Choose an SB_PLL40's dividers for the nearest possible output not above `output_hz`.

    Raises
    ------
    ConfigurationError
        No setting within the part's limits gives such an output.
    """
    found = [
        Ice40Pll(input_hz, divr, divf, divq)
        for divr in range(16)
        for divf in range(128)
        for divq in range(1, 7)
        if Fraction(input_hz * (divf + 1), (divr + 1) << divq) <= output_hz
    ]
    return _best("an iCE40", input_hz, output_hz, found, lambda each: (each.output_hz, -each.divr, -each.divq))


@dataclasses.dataclass(frozen=True)
class GowinPll(Pll):
    """Settings of a GW1N rPLL, as its parameters hold them."""

    #: IDIV_SEL, FBDIV_SEL: the dividers less one; ODIV_SEL: the oscillator's divider.
    idiv: int
    fbdiv: int
    odiv: int

    #: GW1NR Series Data Sheet (DS117), PLL of the GW1NR-9 at speed grade C6/I5.
    INPUT = Range(3_000_000, 400_000_000)
    PHASE_DETECTOR = Range(3_000_000, 400_000_000)
    VCO = Range(400_000_000, 1_200_000_000)
    OUTPUT = Range(3_125_000, 600_000_000)

    @property
    def phase_detector_hz(self) -> Fraction:
        """Frequency at which the loop compares phases."""
        return Fraction(self.input_hz, self.idiv + 1)

    @property
    def output_hz(self) -> Fraction:
        """Frequency of the output."""
        return self.phase_detector_hz * (self.fbdiv + 1)

    @property
    def vco_hz(self) -> Fraction:
        """Frequency of the oscillator."""
        return self.output_hz * self.odiv


def gowin_pll(input_hz: int, output_hz: int) -> GowinPll:
    """Choose an rPLL's dividers for the nearest possible output not above `output_hz`.

    Raises
    ------
    ConfigurationError
        No setting within the part's limits gives such an output.
    """
    found = [
        GowinPll(input_hz, idiv, fbdiv, odiv)
        for idiv in range(64)
        for fbdiv in range(64)
        for odiv in (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)
        if Fraction(input_hz * (fbdiv + 1), idiv + 1) <= output_hz
    ]
    return _best("a Gowin", input_hz, output_hz, found, lambda each: (each.output_hz, -each.idiv, -each.odiv))


@dataclasses.dataclass(frozen=True)
class XilinxPll(Pll):
    """Settings of a PLLE2_BASE."""

    reference_divider: int
    multiplier: int
    divider: int

    #: Artix-7 FPGAs Data Sheet (DS181), PLL of speed grade -1.
    INPUT = Range(19_000_000, 800_000_000)
    PHASE_DETECTOR = Range(19_000_000, 450_000_000)
    VCO = Range(800_000_000, 1_600_000_000)
    OUTPUT = Range(6_250_000, 800_000_000)

    @property
    def phase_detector_hz(self) -> Fraction:
        """Frequency at which the loop compares phases."""
        return Fraction(self.input_hz, self.reference_divider)

    @property
    def vco_hz(self) -> Fraction:
        """Frequency of the oscillator."""
        return self.phase_detector_hz * self.multiplier

    @property
    def output_hz(self) -> Fraction:
        """Frequency of the output."""
        return self.vco_hz / self.divider


def xilinx_pll(input_hz: int, output_hz: int) -> XilinxPll:
    """Choose a PLLE2_BASE's dividers for the nearest possible output not above `output_hz`.

    Raises
    ------
    ConfigurationError
        No setting within the part's limits gives such an output.
    """
    found = []
    for reference in range(1, 57):
        for multiplier in range(2, 65):
            divider = -(-Fraction(input_hz * multiplier, reference) // output_hz)
            if divider <= 128:
                found.append(XilinxPll(input_hz, reference, multiplier, int(divider)))
    return _best(
        "a Xilinx",
        input_hz,
        output_hz,
        found,
        lambda each: (each.output_hz, -each.reference_divider, -each.multiplier),
    )
