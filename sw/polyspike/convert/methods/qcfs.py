"""QCFS, the baseline that is trained: integrate-and-fire neurons that start with half a threshold.

The network is trained (here: fine-tuned) with a quantizer that clips, floors and is shifted by a half; a spiking neuron
with one spike a timestep then comes close after several timesteps. Layers without a ReLU are not in the paper.
"""

from ..options import Method
from .method import ONE_RANGE, SINGLE_SPIKES, ConversionMethod

METHOD = ConversionMethod(
    "qcfs", "Bu et al., ICLR 2022", {**SINGLE_SPIKES, **ONE_RANGE, "initial_potential": 0.5, "method": Method.MSE}
)
