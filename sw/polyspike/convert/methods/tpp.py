"""TPP, two-phase probabilistic neurons: add up what all timesteps bring, and fire at random then.

A neuron fires with the probability that what is left in its membrane has over the timesteps left, so that spikes that
come together no longer do, as after a random permutation of them in time. A fraction of a threshold that is left over
gives a spike more often than not, the more often the more timesteps there are; the correction of biases makes up for
the mean of that.

Networks trained with a ReLU or for QCFS are converted. How ranges are found, and whether membranes start with nothing
or with half a threshold, its abstract does not say. Measured without fine-tuning (`python benchmarks/methods.py
--methods tpp`), the least squared error and nothing are better. Layers without a ReLU, which are not in the paper, have
the neurons that they have with PMSM.
"""

from polyspike.network import CountRange

from ..options import Method
from .method import ONE_RANGE, ConversionMethod

METHOD = ConversionMethod(
    "tpp",
    "arXiv 2502.14487",
    {
        **ONE_RANGE,
        "counts": CountRange(0, 1, 4),
        "probabilistic": True,
        "initial_potential": 0.0,
        "method": Method.MSE,
    },
)
