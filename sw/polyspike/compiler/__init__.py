"""From an integer network to a program: tiling, memory allocation, range proof, encoding. Needs no torch."""

from .pipeline import compile
from .program import Block, Box, Download, LayerReport, Program, Run, Segment, Step, Upload, Write

__all__ = [
    "Block",
    "Box",
    "Download",
    "LayerReport",
    "Program",
    "Run",
    "Segment",
    "Step",
    "Upload",
    "Write",
    "compile",
]
