"""The golden model: the integer network executed with PyTorch, exact to the last integer."""

from .activity import Activity, activity, densities
from .model import GoldenResult, run

__all__ = ["Activity", "GoldenResult", "activity", "densities", "run"]
