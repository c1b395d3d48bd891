"""TPP, two-phase probabilistic neurons: add up what all timesteps bring, and fire at random then.

A neuron fires with the probability that what is left in its membrane has over the timesteps left, so that spikes that
belong together in time no longer come together, as after a random permutation of them. Networks trained with a ReLU
or for QCFS are converted. How ranges are found and what membranes start with, its abstract does not say: measured
without fine-tuning (`python benchmarks/methods.py --methods tpp`), they are the least squared error and nothing, with
which the spikes are right on average. Layers without a ReLU, which are not in the paper, keep the neurons of PMSM.
"""

from polyspike.network import CountRange

from ..options import Method
from .method import ConversionMethod

METHOD = ConversionMethod(
    "tpp",
    "arXiv 2502.14487",
    {
        "counts": CountRange(0, 1, 4),
        "probabilistic": True,
        "initial_potential": 0.0,
        "method": Method.MSE,
    },
)
