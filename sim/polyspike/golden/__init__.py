"""The golden model: the integer network executed with PyTorch, exact to the last integer."""

from .model import GoldenResult, run

__all__ = ["GoldenResult", "run"]
