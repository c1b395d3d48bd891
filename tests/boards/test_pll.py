"""Divider settings, computed again from what the parts do with them, within the limits of their data sheets."""

import itertools
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from polyspike.gateware.boards.pll import ecp5_pll, gowin_pll, ice40_pll
from polyspike.spec import ConfigurationError

MHZ = 1_000_000


@pytest.mark.parametrize("input_mhz", [12, 25, 27, 48, 50, 100])
@pytest.mark.parametrize("output_mhz", [10, 33.25, 62.5, 87, 90, 93.75, 100, 112, 133])
def test_ecp5_is_within_limits_and_near(input_mhz: int, output_mhz: float) -> None:
    """FPGA-DS-02012: phase detector 10 to 400 MHz, oscillator 400 to 800 MHz, outputs 3.125 to 400 MHz."""
    pll = ecp5_pll(input_mhz * MHZ, round(output_mhz * MHZ))
    detector = Fraction(input_mhz, pll.reference_divider)
    loop = detector * pll.feedback_divider
    oscillator = loop * pll.loop_divider
    output = oscillator / pll.dividers[0]
    assert 10 <= detector <= 400
    assert 3.125 <= loop <= 400
    assert 400 <= oscillator <= 800
    assert output == pll.outputs_hz[0] / MHZ
    assert 0.98 * output_mhz <= output <= output_mhz
    assert 1 <= pll.reference_divider <= 128 and 1 <= pll.feedback_divider <= 80
    assert all(1 <= divider <= 128 for divider in (pll.loop_divider, *pll.dividers))


def test_ecp5_makes_several_clocks_exactly() -> None:
    pll = ecp5_pll(48 * MHZ, 90 * MHZ, (48 * MHZ, 12 * MHZ))
    assert pll.outputs_hz == (90 * MHZ, 48 * MHZ, 12 * MHZ)


def test_ecp5_takes_the_nearest_frequency_below() -> None:
    """From 25 MHz with its phase detector at 25 or 12.5 MHz, by trying all oscillator frequencies and dividers."""
    steps = {Fraction(25, reference) * multiple for reference in (1, 2) for multiple in range(1, 100)}
    possible = {vco / divider for vco in steps if 400 <= vco <= 800 for divider in range(1, 129)}
    for wanted in (51, 66, 77, 87, 89, 97, 101, 119):
        assert ecp5_pll(25 * MHZ, wanted * MHZ).outputs_hz[0] / MHZ == max(each for each in possible if each <= wanted)


@pytest.mark.parametrize("output_mhz", [17, 20, 24, 25.5, 27, 30, 36, 48, 60])
def test_ice40_is_within_limits_and_near(output_mhz: float) -> None:
    """FPGA-DS-02008: phase detector 10 to 133 MHz, oscillator 533 to 1066 MHz, output 16 to 275 MHz."""
    pll = ice40_pll(12 * MHZ, round(output_mhz * MHZ))
    detector = Fraction(12, pll.divr + 1)
    oscillator = detector * (pll.divf + 1)
    output = oscillator / 2**pll.divq
    assert 10 <= detector <= 133
    assert 533 <= oscillator <= 1066
    assert output == pll.output_hz / MHZ
    assert 0.98 * output_mhz <= output <= output_mhz
    assert 0 <= pll.divr < 16 and 0 <= pll.divf < 128 and 1 <= pll.divq <= 6


@pytest.mark.parametrize(("input_mhz", "output_mhz"), [(12, 24), (12, 30), (16, 48), (48, 24), (100, 60)])
def test_ice40_agrees_with_icepll(input_mhz: int, output_mhz: int) -> None:
    """The calculator that comes with IceStorm finds the same output and filter setting."""
    command = [Path(sys.executable).parent / "yowasp-icepll", "-i", str(input_mhz), "-o", str(output_mhz)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    values = {key: float(value) for key, value in re.findall(r"(\w+):\s+([\d.]+)", printed)}
    pll = ice40_pll(input_mhz * MHZ, output_mhz * MHZ)
    assert float(pll.output_hz) / MHZ == pytest.approx(output_mhz) == pytest.approx(values["F_PLLOUT"])
    if (pll.divr, pll.divf, pll.divq) == (values["DIVR"], values["DIVF"], values["DIVQ"]):
        assert pll.filter_range == values["FILTER_RANGE"]
    else:
        assert pll.phase_detector_hz > values["F_PFD"] * MHZ, "differs only for a faster phase detector"


@pytest.mark.parametrize("output_mhz", [27, 30, 33, 36, 40.5, 45, 54, 62.5])
def test_gowin_is_within_limits_and_near(output_mhz: float) -> None:
    """DS117, C6/I5: phase detector 3 to 400 MHz, oscillator 400 to 1200 MHz, output 3.125 to 600 MHz."""
    pll = gowin_pll(27 * MHZ, round(output_mhz * MHZ))
    detector = Fraction(27, pll.idiv + 1)
    output = detector * (pll.fbdiv + 1)
    assert 3 <= detector <= 400
    assert output == pll.output_hz / MHZ
    assert 400 <= output * pll.odiv <= 1200
    assert 0.98 * output_mhz <= output <= output_mhz
    assert 0 <= pll.idiv < 64 and 0 <= pll.fbdiv < 64
    assert pll.odiv in {2, 4, 8, *itertools.accumulate([16] * 8)}


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot make 10 MHz from 12 MHz"):
        ice40_pll(12 * MHZ, 10 * MHZ)
    with pytest.raises(ConfigurationError, match="cannot make 90 MHz from 5 MHz"):
        ecp5_pll(5 * MHZ, 90 * MHZ)
    with pytest.raises(ConfigurationError, match=r"3\.125 to 400 MHz, not 401 MHz"):
        ecp5_pll(25 * MHZ, 401 * MHZ)
    with pytest.raises(ConfigurationError, match=r"cannot make 90 MHz, 47\.123 MHz from 25 MHz"):
        ecp5_pll(25 * MHZ, 90 * MHZ, (47_123_000,))
    with pytest.raises(ConfigurationError, match="cannot make 1 MHz from 27 MHz"):
        gowin_pll(27 * MHZ, 1 * MHZ)
