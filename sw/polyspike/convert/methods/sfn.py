"""SFN, scale-and-fire: a multi-threshold neuron for a single timestep, its thresholds scaled for the whole network.

An integrate-and-fire neuron over T timesteps emits as many spikes as one that fires once, clip(floor(h / theta), 0, N)
times, with N = T, theta = theta_base / T and a T-th of its initial potential. SFN multiplies all base thresholds by one
factor, found by Bayesian optimization.

What the base thresholds are and what is optimized, its abstract does not say. Our choices (decision 0018): the base
range, N theta_base, is the 99.9th percentile of a layer's activations, and the best factor
is the one whose outputs diverge least from the float network's over the calibration images.

`METHOD` is the unsigned form, 0..N in a layer with a ReLU; a layer without one has both polarities. `DUAL` is the
signed form, -N..N in every layer. At T = 1 a layer with a ReLU emits no negative count, so there half the codes are
idle: the dual form is for networks of signed activations.
"""

from polyspike.network import CountRange

from ..options import Method
from .method import ONE_RANGE, ConversionMethod

#: How many factors are tried. The divergence is flat around the least.
TRIALS = 24

_OWN = {**ONE_RANGE, "initial_potential": 0.5, "method": Method.PERCENTILE, "trials": TRIALS}
_SYMMETRIC = CountRange(7, 7, 4)

METHOD = ConversionMethod("sfn", "arXiv 2510.23383", _OWN)
DUAL = ConversionMethod("sfn-dual", "arXiv 2510.23383", {**_OWN, "counts": _SYMMETRIC, "signed_counts": _SYMMETRIC})
