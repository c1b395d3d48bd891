"""The instruction-set simulator: what every instruction means, as executable numpy code. Needs no torch or amaranth."""

from .machine import ColumnCounters, Machine

__all__ = ["ColumnCounters", "Machine"]
