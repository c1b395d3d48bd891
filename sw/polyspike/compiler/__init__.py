"""From an integer network to a program: tiling, memory allocation, range proof, encoding. Needs no torch."""

from .density import Share
from .disassembly import listing
from .file import load_program, save_program
from .packing import DenseInput, InputPacking, dense_input, pack_input
from .pipeline import compile
from .program import Block, Box, Download, LayerReport, Program, Run, Segment, Step, Upload, Write

__all__ = [
    "Block",
    "Box",
    "DenseInput",
    "Download",
    "InputPacking",
    "LayerReport",
    "Program",
    "Run",
    "Segment",
    "Share",
    "Step",
    "Upload",
    "Write",
    "compile",
    "dense_input",
    "listing",
    "load_program",
    "pack_input",
    "save_program",
]
