"""QCFS, the baseline that is trained: integrate-and-fire neurons that start with half a threshold.

The network is trained (here: fine-tuned) with a quantizer that clips, floors and is shifted by a half; a spiking neuron
with one spike a timestep then comes close after several timesteps. A layer without a ReLU, which the paper has not,
emits a spike of either sign.
"""

from typing import Any

from polyspike.network import CountRange

from ..options import Method, Options

NAME = "qcfs"
PAPER = "Bu et al., ICLR 2022"


def options(**chosen: Any) -> Options:
    """Return the method's options: a spike a timestep, half a threshold to start with."""
    own: dict[str, Any] = {
        "counts": CountRange(0, 1, 4),
        "signed_counts": CountRange(1, 1, 4),
        "initial_potential": 0.5,
        "method": Method.MSE,
    }
    return Options(**own | chosen)
