"""From a float PyTorch network to the integer network: tracing, calibration, fine-tuning, quantization."""

from .calibration import calibrate
from .conversion import convert, to_network
from .options import Method, Options
from .quantized import QuantizedModel
from .tracing import CONVERTIBLE, trace

__all__ = ["CONVERTIBLE", "Method", "Options", "QuantizedModel", "calibrate", "convert", "to_network", "trace"]
