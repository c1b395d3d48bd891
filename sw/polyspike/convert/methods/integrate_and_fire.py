"""The baseline without training: integrate-and-fire neurons, thresholds balanced by the largest activations.

What SpikingJelly's ann2snn does: a layer's threshold is the 99.9th percentile of its activations (or, with `method`
MAX, the largest one), its membranes start at zero, and rates come close after tens to hundreds of timesteps.
"""

from typing import Any

from polyspike.network import CountRange

from ..options import Method, Options

NAME = "if"
PAPER = "Rueckauer et al., 2017"


def options(**chosen: Any) -> Options:
    """Return the method's options: a spike a timestep, no potential to start with, no correction of biases."""
    own: dict[str, Any] = {
        "counts": CountRange(0, 1, 4),
        "signed_counts": CountRange(1, 1, 4),
        "initial_potential": 0.0,
        "method": Method.PERCENTILE,
        "correct_bias": False,
    }
    return Options(**own | chosen)
