"""The baseline without training: integrate-and-fire neurons, thresholds balanced by the largest activations.

What SpikingJelly's ann2snn does: a layer's threshold is the 99.9th percentile of its activations (or, with `method`
MAX, the largest one), its membranes start at zero, and rates come close after tens to hundreds of timesteps.
"""

from ..options import Method
from .method import ONE_RANGE, SINGLE_SPIKES, ConversionMethod

METHOD = ConversionMethod(
    "if",
    "Rueckauer et al., 2017",
    {
        **SINGLE_SPIKES,
        **ONE_RANGE,
        "initial_potential": 0.0,
        "method": Method.PERCENTILE,
        "correct_bias": False,
    },
)
