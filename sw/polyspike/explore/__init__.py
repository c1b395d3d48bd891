"""Which configuration is the fastest for a network on a board: prediction, search, and builds of the best."""

from .resources import Resources, available, predict, predict_fmax
from .search import Candidate, configurations, frontier, search

__all__ = [
    "Candidate",
    "Resources",
    "available",
    "configurations",
    "frontier",
    "predict",
    "predict_fmax",
    "search",
]
