"""ECL, error compensation learning: ternary dual-threshold neurons that start with half a threshold.

Its three parts: the threshold is what a learned clipping function clips at (here: the learned range of a layer); a
negative threshold lets a neuron take back a spike that came too early; and the initial potential is half the threshold.
How large the negative threshold is, and how the clipping value is found before it is learned, its abstract does not
say. Both were decided by measurement, without fine-tuning (`python benchmarks/methods.py --negative-threshold ...`): a
quarter of the threshold, and the least squared error.
"""

from polyspike.network import CountRange

from ..options import Method
from .method import ONE_RANGE, ConversionMethod

#: In thresholds.
NEGATIVE_THRESHOLD = 0.25

_TERNARY = CountRange(1, 1, 4)

METHOD = ConversionMethod(
    "ecl",
    "arXiv 2506.01968",
    {
        **ONE_RANGE,
        "counts": _TERNARY,
        "signed_counts": _TERNARY,
        "initial_potential": 0.5,
        "negative_threshold": NEGATIVE_THRESHOLD,
        "method": Method.MSE,
    },
)
