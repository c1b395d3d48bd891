"""The conversion methods, a module each: which neurons a converted network has, and how their ranges are found.

All of them are polarity multi-spike neurons with some range of counts, initial potential and negative threshold, or
fire at random. So all of them go the same way from here: calibration, fine-tuning, integers, hardware.
"""

from polyspike.spec import ConversionError

from . import ecl, integrate_and_fire, pmsm, qcfs, sfn, tpp
from .method import ConversionMethod

__all__ = ["METHODS", "ConversionMethod", "method_named"]

#: The methods by name.
METHODS: dict[str, ConversionMethod] = {
    method.name: method
    for method in (
        pmsm.METHOD,
        ecl.METHOD,
        sfn.METHOD,
        sfn.DUAL,
        qcfs.METHOD,
        integrate_and_fire.METHOD,
        tpp.METHOD,
    )
}


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
