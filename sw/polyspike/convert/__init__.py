"""From a float PyTorch network to the integer network: tracing, calibration, fine-tuning, quantization."""

from .calibrate import calibrate
from .convert import convert, to_network
from .options import Method, Options
from .quantized import QuantizedModel
from .trace import CONVERTIBLE, trace

__all__ = ["CONVERTIBLE", "Method", "Options", "QuantizedModel", "calibrate", "convert", "to_network", "trace"]
