"""PMSM, polarity multi-spike mapping: a signed number of spikes a timestep, good from the first one on."""

from typing import Any

from ..options import Options

NAME = "pmsm"
PAPER = "arXiv 2508.14520"


def options(**chosen: Any) -> Options:
    """Return the method's options: those of `Options` itself."""
    return Options(**chosen)
