"""The network for events: its data, and its committed checkpoint. `train_events` makes it.

The events are simulated from the real images of Fashion-MNIST, see `saccades`.
"""

import json
from pathlib import Path
from typing import Any

from polyspike.network import CountRange

from .datasets import Dataset, fashion_mnist
from .demo import CHECKPOINTS
from .loading import load_state
from .models import EventNet
from .options import Options
from .quantized import QuantizedModel
from .saccades import Saccades
from .tracing import trace

CHECKPOINT = "events_pmsm.safetensors"
MANIFEST = "events.json"

#: How events are simulated, and into how many bins they are counted: two of each saccade.
SACCADES = Saccades()
BINS = 6

#: Without negative counts: what a bin takes from a membrane stays there for the next bin. One range a layer, as the
#: checkpoint was trained with.
OPTIONS = Options(timesteps=BINS, counts=CountRange(0, 15, 4), per_channel=False, reconstruct=False)

#: (channels, height, width) of a bin.
SHAPE = (2, 34, 34)

#: Test images are numbered behind those of training, so that their noise is another.
_FIRST = {"train": 0, "test": 60_000}


def simulated_events(split: str, number: int | None = None, *, progress: bool = False) -> Dataset:
    """Return simulated events of the first images of Fashion-MNIST in bins, uint8 [number, BINS, *SHAPE]; see there."""
    data = fashion_mnist(split)
    if number is not None:
        data = data.first(number)
    counts = SACCADES.counts(data.images, BINS, first=_FIRST[split], progress=progress)
    return Dataset(counts, data.labels, data.classes, f"simulated events from the real images of {data.name}")


def load_finetuned(folder: Path = CHECKPOINTS) -> QuantizedModel:
    """Return the fine-tuned network. Raises FileFormatError when the checkpoint is not sound."""
    model = QuantizedModel(trace(EventNet(), SHAPE).on_events(), OPTIONS)
    load_state(model, folder / CHECKPOINT)
    return model.eval()


def manifest(folder: Path = CHECKPOINTS) -> dict[str, Any]:
    """Return how the checkpoint was made and what it reached."""
    result: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return result
