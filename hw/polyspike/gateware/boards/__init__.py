"""Board tops: from the pins of a board to the accelerator's core."""

from .board import Board, Leds
from .catalogue import BOARDS, find
from .families import Ecp5Board, GowinBoard, Ice40Board, IntelBoard, XilinxBoard

__all__ = ["BOARDS", "Board", "Ecp5Board", "GowinBoard", "Ice40Board", "IntelBoard", "Leds", "XilinxBoard", "find"]
