"""ECL, error compensation learning: ternary dual-threshold neurons that start with half a threshold.

Its three parts: the threshold is what a learned clipping function clips at (here: the learned range of a layer); a
negative threshold lets a neuron take back a spike that came too early; and the initial potential is half the threshold.
How large the negative threshold is, and how the clipping value is found before it is learned, its abstract does not
say. Both were decided by measurement, without fine-tuning (`python benchmarks/methods.py --negative-threshold ...`): a
quarter of the threshold, and the least squared error.
"""

from typing import Any

from polyspike.network import CountRange

from ..options import Method, Options

NAME = "ecl"
PAPER = "arXiv 2506.01968"

#: In thresholds.
NEGATIVE_THRESHOLD = 0.25


def options(**chosen: Any) -> Options:
    """Return the method's options: a spike of either sign a timestep, and a negative threshold of its own."""
    own: dict[str, Any] = {
        "counts": CountRange(1, 1, 4),
        "signed_counts": CountRange(1, 1, 4),
        "initial_potential": 0.5,
        "negative_threshold": NEGATIVE_THRESHOLD,
        "method": Method.MSE,
    }
    return Options(**own | chosen)
