"""The demo network's committed checkpoints. `train_demo` makes them."""

import json
from pathlib import Path
from typing import Any

from .loading import load_state
from .models import DemoVGG
from .options import Method, Options
from .quantized import QuantizedModel
from .tracing import trace

CHECKPOINTS = Path(__file__).parent / "checkpoints"
FLOAT_CHECKPOINT = "demo_float.safetensors"
PMSM_CHECKPOINT = "demo_pmsm.safetensors"
MANIFEST = "demo.json"

#: What the fine-tuned checkpoint was calibrated with, before it was trained on: one range a layer.
CALIBRATION = Options(method=Method.ENTROPY, per_channel=False, reconstruct=False)

#: (channels, height, width) of Fashion-MNIST
SHAPE = (1, 28, 28)


def load_float(folder: Path = CHECKPOINTS) -> DemoVGG:
    """Return the trained float network, in evaluation mode. Raises FileFormatError when the checkpoint is not sound."""
    model = DemoVGG()
    load_state(model, folder / FLOAT_CHECKPOINT)
    model.eval()
    return model


def load_finetuned(options: Options | None = None, folder: Path = CHECKPOINTS) -> QuantizedModel:
    """Return the network fine-tuned at T = 1, under the given options (such as more timesteps).

    `per_channel` among them is ignored: the checkpoint has one range a layer.
    """
    chosen = CALIBRATION if options is None else options.replace(per_channel=CALIBRATION.per_channel)
    model = QuantizedModel(trace(load_float(folder), SHAPE), chosen)
    load_state(model, folder / PMSM_CHECKPOINT)
    return model.eval()


def manifest(folder: Path = CHECKPOINTS) -> dict[str, Any]:
    """Return how the checkpoints were made and what they reached."""
    result: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return result
