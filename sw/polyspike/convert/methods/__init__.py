"""The conversion methods, a module each: which neurons a converted network has, and how their ranges are found.

All of them are polarity multi-spike neurons with some range of counts, initial potential and negative threshold, so all
of them go the same way from here: calibration, fine-tuning, integers, hardware.
"""

from typing import Any, Protocol

from polyspike.spec import ConversionError

from ..options import Options
from . import ecl, integrate_and_fire, pmsm, qcfs

__all__ = ["METHODS", "ConversionMethod", "method_named"]


class ConversionMethod(Protocol):
    """What a module of a method has."""

    #: What users call it.
    NAME: str
    #: Where it is published.
    PAPER: str

    def options(self, **chosen: Any) -> Options:
        """Return the method's options. What is `chosen`, fields of `Options`, goes before what is its own."""


#: The methods by name.
METHODS: dict[str, ConversionMethod] = {each.NAME: each for each in (pmsm, ecl, qcfs, integrate_and_fire)}


def method_named(name: str) -> ConversionMethod:
    """Return the method called `name`.

    Raises
    ------
    ConversionError
        There is none; the message lists those there are.
    """
    if name not in METHODS:
        raise ConversionError(f"unknown conversion method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]
