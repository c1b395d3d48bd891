"""From a float PyTorch network to the integer network: tracing, calibration, fine-tuning, quantization."""

from .calibration import calibrate
from .conversion import convert, to_network
from .finetuning import finetune
from .loading import load_model, load_state
from .options import LayerOptions, Method, Options
from .quantized import QuantizedModel
from .tracing import CONVERTIBLE, trace
from .training import Schedule
from .widths import choose_widths, sensitivities

__all__ = [
    "CONVERTIBLE",
    "LayerOptions",
    "Method",
    "Options",
    "QuantizedModel",
    "Schedule",
    "calibrate",
    "choose_widths",
    "convert",
    "finetune",
    "load_model",
    "load_state",
    "sensitivities",
    "to_network",
    "trace",
]
